//! Log lines on stderr: with time and level for people, as the journal wants them under systemd.

mod queue;

use queue::Queue;
use std::io::IsTerminal;
use std::sync::Arc;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// The log of this run. What still waits is written when it is dropped.
pub struct Log {
    queue: Arc<Queue>,
    /// What stands before a line that is not an event.
    prefix: &'static str,
}

impl Log {
    /// Writes a line to stderr after all that was logged before; where nobody reads that, there is nobody
    /// to tell.
    pub fn complain(&self, message: &str) {
        self.queue.push(format!("{}{}\n", self.prefix, super::print::shown(message)).as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.flush();
    }
}

/// Starts logging, and takes over what is said of panics. Nothing that is logged ever waits for stderr or
/// fails by it.
#[must_use]
pub fn start() -> Log {
    let queue = Queue::start(std::io::stderr(), |lines| {
        tracing::warn!(lines, "log lines lost: stderr did not take them in time");
    });
    // The journal keeps time and level itself, so neither stands in the lines.
    let journal = is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    let prefix = if journal { "<3>" } else { "retinad: " };
    let panics = Arc::clone(&queue);
    std::panic::set_hook(Box::new(move |panic| panics.push_panic(prefix, panic)));

    let wanted = std::env::var("RETINAD_LOG").ok();
    let asked_for = wanted.as_deref().and_then(|wanted| wanted.parse::<Targets>().ok());
    let understood = wanted.is_none() || asked_for.is_some();
    let usual = || Targets::new().with_default(Level::WARN).with_target("retinad", Level::INFO);
    let registry = tracing_subscriber::registry().with(asked_for.unwrap_or_else(usual));
    // The formatter would report its own errors with a write that panics where stderr fails.
    let lines = tracing_subscriber::fmt::layer().with_writer(Arc::clone(&queue)).log_internal_errors(false);
    if journal {
        let format = Format::default().without_time().with_level(false).with_target(false).with_ansi(false);
        registry.with(lines.with_ansi(false).event_format(Journal(format))).init();
    } else {
        registry.with(lines.with_target(false).with_ansi(std::io::stderr().is_terminal())).init();
    }
    if !understood {
        tracing::warn!(value = wanted, example = "warn,retinad=debug", "RETINAD_LOG is not understood");
    }
    Log { queue, prefix }
}

/// Whether stderr is the stream that `$JOURNAL_STREAM` names (`device:inode`); the variable is inherited by
/// shells that redirect.
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
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
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
