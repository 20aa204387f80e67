//! Log lines on stderr: with time and level for people, as the journal wants them under systemd.

use std::io::IsTerminal;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts logging. Returns whether the journal reads stderr: it keeps time and level itself, so neither stands in the lines.
pub fn start() -> bool {
    let filter = tracing_subscriber::EnvFilter::try_from_env("RETINAD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,retinad=info,rumqttd=off"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let journal = is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    if journal {
        let format = Format::default().without_time().with_level(false).with_target(false).with_ansi(false);
        log.with_ansi(false).event_format(Journal(format)).init();
    } else {
        log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    }
    journal
}

/// Whether stderr is the stream that `$JOURNAL_STREAM` names (`device:inode`); the variable is inherited by shells that redirect.
fn is_journal(named: Option<&str>) -> bool {
    let Ok(stream) = rustix::fs::fstat(std::io::stderr()) else { return false };
    named.is_some_and(|named| named == format!("{}:{}", stream.st_dev, stream.st_ino))
}

/// Lines that begin with the priority by which `journalctl -p` sorts (sd-daemon(3)).
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}
