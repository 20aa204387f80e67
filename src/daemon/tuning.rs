//! `retinad tune` as a child process: started and ended at request, heard line by line.
//!
//! The thread that starts the child lives as long as it, because the kernel kills the child when that thread
//! ends, however it ends.

use crate::capture::last_line_of;
use crate::contract::Tune;
use crate::one_line::one_line;
use crate::scene::{TuneNews, TuneOrder};
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest line that is read, bytes.
const LONGEST_LINE: u64 = 4 << 10;
/// Longest name of a job that is passed on, characters.
const LONGEST_JOB: usize = 64;
/// Lines that wait for the shell; the child waits with the next one.
const NEWS: usize = 16;
/// How often it is looked whether a child that has closed its output has ended.
const LOOK: Duration = Duration::from_millis(20);
/// How to speak to systemd in our name, which the child must not.
const OURS: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// The child that runs; none once it is reaped, since its number may be another process's then.
type Running = Arc<Mutex<Option<Pid>>>;

/// Starts tunings and hears them.
pub(super) struct Tuning {
    /// What names the settings and the model on the command line, as this process was started.
    arguments: Vec<OsString>,
    running: Running,
    to: Sender<TuneNews>,
    news: Receiver<TuneNews>,
}

impl Tuning {
    /// With what names settings and model on the command line: `--config FILE`, `--model FILE`.
    pub fn new(arguments: Vec<OsString>) -> Self {
        let (to, news) = bounded(NEWS);
        Self { arguments, running: Running::default(), to, news }
    }

    /// What is heard.
    pub fn news(&self) -> &Receiver<TuneNews> {
        &self.news
    }

    /// Does what is ordered; what comes of it is heard on [`Tuning::news`].
    pub fn obey(&self, order: TuneOrder) {
        match order {
            TuneOrder::Start { max_minutes, dry_run } => self.start(max_minutes, dry_run),
            TuneOrder::Cancel => self.cancel(),
        }
    }

    fn start(&self, max_minutes: Option<u32>, dry_run: bool) {
        let command = self.command(max_minutes, dry_run);
        let (to, running) = (self.to.clone(), Arc::clone(&self.running));
        let started = std::thread::Builder::new().name("tune".into()).spawn(move || {
            let reason = hear(command, &to, &running);
            // Nobody listens any more once the daemon ends.
            let _ = to.send(TuneNews::Ended { reason });
        });
        if let Err(error) = started {
            let _ = self.to.try_send(TuneNews::Ended { reason: format!("thread: {error}") });
        }
    }

    fn command(&self, max_minutes: Option<u32>, dry_run: bool) -> Command {
        // This very program, also while a package upgrade replaces its file.
        const SELF: &str = "/proc/self/exe";
        let mut command = Command::new(SELF);
        command.args(["exec-with-parent", "--", SELF, "tune", "--json"]).args(&self.arguments);
        if let Some(minutes) = max_minutes {
            command.args(["--max-minutes", &minutes.to_string()]);
        }
        if dry_run {
            command.arg("--dry-run");
        }
        for name in OURS {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Asks the child to end. It keeps a checkpoint, from which the next tuning goes on.
    pub fn cancel(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *running {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// Runs the child and passes on what it says; why it ended.
fn hear(mut command: Command, to: &Sender<TuneNews>, running: &Running) -> String {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return format!("cannot be started: {error}"),
    };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    *running.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    let stderr = child.stderr.take();
    let last_line = std::thread::Builder::new()
        .name("tune-stderr".into())
        .spawn(move || stderr.map(last_line_of).unwrap_or_default());
    if let Some(stdout) = child.stdout.take() {
        pass_on(BufReader::new(stdout), to);
    }
    let status = end(&mut child, running);
    let last_line = last_line.ok().and_then(|thread| thread.join().ok()).unwrap_or_default();
    if last_line.is_empty() { status } else { shown(last_line.trim_start_matches("retinad: ")) }
}

/// Waits until the child has ended; how, in words.
fn end(child: &mut Child, running: &Running) -> String {
    loop {
        let mut pid = running.lock().unwrap_or_else(PoisonError::into_inner);
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => {
                *pid = None;
                return format!("ended with {status}");
            }
            Err(error) => {
                *pid = None;
                return error.to_string();
            }
        }
        drop(pid);
        std::thread::sleep(LOOK);
    }
}

/// Passes on each line that says how tuning goes, until there are no more or nobody listens.
fn pass_on(mut lines: impl BufRead, to: &Sender<TuneNews>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let is_whole = line.ends_with(b"\n");
        if let Ok(tune) = serde_json::from_slice::<Tune>(&line)
            && to.send(TuneNews::Line(Box::new(told(tune)))).is_err()
        {
            return;
        }
        if !is_whole && lines.skip_until(b'\n').is_err() {
            return;
        }
    }
}

/// As it may be told: short, and without the folders of this machine.
fn told(mut tune: Tune) -> Tune {
    tune.job = tune.job.map(|job| job.chars().filter(|c| !c.is_control()).take(LONGEST_JOB).collect());
    tune.started_at = tune.started_at.map(|time| one_line(&time).chars().take(LONGEST_JOB).collect());
    tune.error = tune.error.map(|error| shown(&error));
    tune
}

/// A text on one line, of whose paths only the last part is left.
fn shown(text: &str) -> String {
    let short = |word: &str| -> String {
        let path = word.find('/').filter(|_| !word.contains("://"));
        match path.and(word.rfind('/')) {
            Some(last) if word.starts_with('/') => word[last + 1..].to_owned(),
            _ => word.to_owned(),
        }
    };
    one_line(&text.split_whitespace().map(short).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::TuneState;
    use crossbeam_channel::unbounded;

    fn heard(text: &[u8]) -> Vec<TuneNews> {
        let (to, news) = unbounded();
        pass_on(text, &to);
        news.try_iter().collect()
    }

    #[test]
    fn lines_that_are_no_tuning_or_too_long_are_left_out_and_the_next_is_heard() {
        let tune = Tune::begun("j".into(), "2026-11-23T17:00:00.000Z".into());
        let line = serde_json::to_string(&tune).expect("JSON");
        let long = "x".repeat(3 * LONGEST_LINE as usize);
        let text = format!("hello\n{{}}\n\n{long}\n{line}\n{long}");
        assert_eq!(heard(text.as_bytes()), [TuneNews::Line(Box::new(tune))]);
        assert_eq!(heard(b"\xff\xfe\n"), []);
    }

    #[test]
    fn what_is_told_is_short_and_names_no_folder() {
        let error = "/var/lib/retinad/tune.lock: another tuning runs; 3/4 of https://a/b\n".to_owned();
        let tune = Tune {
            state: TuneState::Failed,
            error: Some(error + &"y".repeat(5000)),
            ..Tune::begun("j".repeat(500), "t".repeat(500))
        };
        let told = told(tune);
        let words = told.error.as_deref().expect("why");
        assert!(words.starts_with("tune.lock: another tuning runs; 3/4 of https://a/b y"), "{words}");
        let bytes = serde_json::to_vec(&told).expect("JSON").len();
        assert!(bytes <= crate::contract::Kind::Tune.spec().max_bytes, "{bytes}");
    }

    #[test]
    fn a_child_is_heard_to_its_end_and_its_last_word_is_the_reason() {
        let (to, news) = unbounded();
        let run = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
            let running = Running::default();
            let reason = hear(command, &to, &running);
            assert_eq!(*running.lock().expect("not poisoned"), None, "reaped");
            reason
        };
        let line = serde_json::to_string(&Tune::idle()).expect("JSON");
        let reason = run(&format!("echo '{line}'; echo 'retinad: /a/b: too little is labelled' >&2; exit 1"));
        assert_eq!(reason, "b: too little is labelled");
        assert_eq!(news.try_iter().count(), 1);
        assert_eq!(run("exit 3"), "ended with exit status: 3");
        let absent = hear(Command::new("/no/such/program"), &to, &Running::default());
        assert!(absent.starts_with("cannot be started: "), "{absent}");
    }
}
