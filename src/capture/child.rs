//! A child process that writes frames to its stdout. It does not outlive us, and its own children do not
//! hold us up.

use super::Interrupt;
use super::stream::Source;
use crate::secret::redacted;
use crossbeam_channel::{Receiver, bounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Most bytes that are read at once.
const PIECE: usize = 64 << 10;
/// Bytes of a line on stderr that are looked at.
const LONGEST_LINE: usize = 4096;
/// Characters of it that are shown, at most.
const SHOWN: usize = 200;
/// Characters at the end of a line that was cut which are not shown: the rest of a secret may be missing.
const LONGEST_SECRET: usize = 1024;
/// How long a child may take to end, or its stderr to close, once its stdout is closed.
const GRACE: Duration = Duration::from_millis(300);
/// What we are told and no child needs to know: where our credentials lie, and how to speak to systemd in
/// our name.
const OURS: [&str; 8] = [
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "STATE_DIRECTORY",
];
/// What the names of our settings and secrets begin with, in the environment.
const OUR_PREFIX: &str = "RETINAD_";

/// Whether children are started by [`exec_with_parent`], which needs this program to have that command: a
/// test or another program that uses this library has not.
static GUARDED: AtomicBool = AtomicBool::new(false);

/// From now on each child is started through `retinad exec-with-parent`, and ends with this process,
/// however that ends.
pub fn guard_children() {
    GUARDED.store(true, Ordering::Relaxed);
}

/// Becomes the command, which the kernel kills when the thread that started this process ends. Returns only
/// if that fails.
///
/// # Errors
/// Why the command cannot be started.
pub fn exec_with_parent(words: &[String]) -> std::io::Error {
    let Some((program, arguments)) = words.split_first() else {
        return std::io::Error::other("no command is given");
    };
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    Command::new(program).args(arguments).exec()
}

/// A child in a process group of its own, so that a shell's children end with it.
pub(super) struct ChildProcess {
    child: Child,
    stdout: ChildStdout,
    /// Readable once the reader is to give up.
    wake: Arc<OwnedFd>,
    /// Its last word on stderr, for the error; sent once stderr is closed.
    last_line: Receiver<String>,
    /// Once it is reaped, its process group's number may be somebody else's.
    reaped: Arc<AtomicBool>,
}

impl ChildProcess {
    /// Starts the program.
    ///
    /// # Errors
    /// In words.
    pub fn start(program: &str, arguments: &[String]) -> Result<Self, String> {
        let mut command = if GUARDED.load(Ordering::Relaxed) {
            // This very program, also while a package upgrade replaces its file.
            let mut command = Command::new("/proc/self/exe");
            command.args(["exec-with-parent", "--", program]);
            command
        } else {
            Command::new(program)
        };
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if OURS.contains(&text.as_ref()) || text.starts_with(OUR_PREFIX) {
                command.env_remove(&name);
            }
        }
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| e.to_string())?;
        let mut child = command.spawn().map_err(|e| format!("cannot be started: {e}"))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("its stdout cannot be read".into());
        };
        let (to, last_line) = bounded(1);
        let drain = move || {
            let _ = to.send(last_line_of(stderr));
        };
        let started =
            Self { child, stdout, wake: Arc::new(wake), last_line, reaped: Arc::new(AtomicBool::new(false)) };
        std::thread::Builder::new().name("cam-stderr".into()).spawn(drain).map_err(|e| e.to_string())?;
        Ok(started)
    }

    fn kill_group(&self) {
        kill_group_of(self.child.id(), &self.reaped);
    }
}

/// Kills the group of a child that is not reaped yet.
fn kill_group_of(child: u32, reaped: &AtomicBool) {
    if reaped.load(Ordering::Acquire) {
        return;
    }
    if let Some(group) = i32::try_from(child).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Reads to the end, or the child would stop at a full pipe; in bounded lines, whatever it writes. A progress
/// display ends its lines by going back to their begin.
pub(crate) fn last_line_of(stderr: impl Read) -> String {
    let (mut line, mut last) = (Line::default(), String::new());
    for byte in BufReader::new(stderr).bytes() {
        match byte {
            Ok(b'\n' | b'\r') => line = line.end_into(&mut last),
            Ok(byte) => line.push(byte),
            Err(_) => break,
        }
    }
    line.end_into(&mut last);
    last
}

/// The begin of a line of stderr.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Line {
    fn push(&mut self, byte: u8) {
        self.is_cut |= self.bytes.len() == LONGEST_LINE;
        if !self.is_cut {
            self.bytes.push(byte);
        }
    }

    /// Makes this the last line if it says anything, and begins another.
    ///
    /// Secrets are taken out before the text is cut: of one that the cut goes through nobody would see that
    /// it is one.
    fn end_into(mut self, last: &mut String) -> Self {
        let text: String =
            String::from_utf8_lossy(&self.bytes).trim().chars().filter(|c| !c.is_control()).collect();
        if !text.is_empty() {
            let hidden = if self.is_cut { LONGEST_SECRET } else { 0 };
            let text = redacted(&text);
            let shown = text.chars().count().saturating_sub(hidden).min(SHOWN);
            *last = text.chars().take(shown).collect();
        }
        self.bytes.clear();
        Self { bytes: self.bytes, is_cut: false }
    }
}

impl Source for ChildProcess {
    fn read(&mut self, piece: &mut Vec<u8>) -> Result<(), String> {
        loop {
            // A grandchild may hold the pipe open and silent after the child is gone, so the read itself
            // must not block.
            let mut ready =
                [PollFd::new(&self.stdout, PollFlags::IN), PollFd::new(&*self.wake, PollFlags::IN)];
            match poll(&mut ready, None) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.to_string()),
                Ok(_) => {}
            }
            if !ready[1].revents().is_empty() {
                return Err("was closed".into());
            }
            piece.resize(PIECE, 0);
            let read = self.stdout.read(piece).map_err(|e| e.to_string())?;
            piece.truncate(read);
            return Ok(());
        }
    }

    fn ended(&mut self) -> String {
        // A child that lives on without a stdout is of no use.
        let until = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill_group();
        let status = self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        self.reaped.store(true, Ordering::Release);
        let line = self.last_line.recv_timeout(GRACE).unwrap_or_default();
        if line.is_empty() { format!("ended with {status}") } else { format!("ended with {status}: {line}") }
    }

    fn interrupt(&self) -> Interrupt {
        let (child, reaped, wake) = (self.child.id(), Arc::clone(&self.reaped), Arc::clone(&self.wake));
        Arc::new(move || {
            // The reader is told first: were the child killed first, the reader could see its end before it
            // sees that it was closed, and blame the camera. The counter goes up to 2^64 - 2, so that a
            // write of 1 cannot fail in any lifetime.
            let _ = rustix::io::write(&*wake, &1u64.to_ne_bytes());
            kill_group_of(child, &reaped);
        })
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if !self.reaped.load(Ordering::Acquire) {
            self.kill_group();
            let _ = self.child.wait();
            self.reaped.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_what_a_person_saw_last() {
        for (written, line) in [
            ("one\ntwo\n\n", "two"),
            ("frame=1\rframe=2\rno such host", "no such host"),
            ("\x1b[31mred\x1b[0m\n \t\n", "[31mred[0m"),
            ("", ""),
        ] {
            assert_eq!(last_line_of(written.as_bytes()), line, "{written:?}");
        }
        assert_eq!(last_line_of(&[b'x'; 5000][..]), "x".repeat(SHOWN));
        assert_eq!(last_line_of(&[&[b'x'; 5000][..], b"\ny"].concat()[..]), "y");
    }

    #[test]
    fn no_part_of_a_secret_is_left_where_a_line_is_cut() {
        const PASSWORD: &str = "cut-in-two-9d41";
        crate::secret::remember(PASSWORD);
        let lengths = [SHOWN, LONGEST_LINE, 2 * LONGEST_LINE];
        for before in lengths.iter().flat_map(|end| end - PASSWORD.len()..=end + 1) {
            // Addresses shrink to a few characters, so that the end of what was read comes into sight.
            for filling in ["x", "http://u:0123456789012345678901234567890123456789@h "] {
                let text: String = filling.chars().cycle().take(before).chain(PASSWORD.chars()).collect();
                let line = last_line_of(format!("{text} and on").as_bytes());
                let shows = ["cut-", "two-9", "9d41"].iter().any(|part| line.contains(part));
                assert!(!shows, "{before}: {line}");
            }
        }
    }
}
