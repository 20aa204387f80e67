//! Log lines on their way to stderr. Whoever logs neither waits nor fails, whatever stderr is.
//!
//! A thread writes them. Where it cannot (stderr is closed, its disk is full, its reader is gone) the line
//! is lost; where it must wait, because a pipe is full and nobody reads, lines queue up to a bound, and
//! those beyond are counted. A panic is a line like any other, for the standard hook would wait for stderr
//! in the thread that panicked.

use crate::cli::print::shown;
use crate::secret::redacted;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that wait, at most.
const LINES: usize = 1000;
/// And their bytes, at most.
const BYTES: usize = 256 << 10;
/// Time for what waits to be written when the program ends; a reader that is alive needs far less.
const FLUSH: Duration = Duration::from_millis(200);

enum Entry {
    Line(Vec<u8>),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

/// The logging side. Shared by whoever logs; the writing thread lives as long as the process.
pub(super) struct Queue {
    /// Nothing where the system refused the thread: lines are then written at once.
    entries: Option<SyncSender<Entry>>,
    /// Bytes that wait.
    bytes: AtomicUsize,
    /// Lines lost since the last one that was written.
    lost: AtomicU64,
}

impl Queue {
    /// Starts the thread that writes to `sink`. After lines were lost, it calls `report` with their number.
    pub(super) fn start(
        sink: impl Write + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> Arc<Self> {
        let (to, entries) = sync_channel(LINES);
        let queue = Arc::new(Self { entries: Some(to), bytes: AtomicUsize::new(0), lost: AtomicU64::new(0) });
        let theirs = Arc::clone(&queue);
        let body = move || theirs.write_all(&entries, sink, &report);
        match std::thread::Builder::new().name("log".into()).spawn(body) {
            Ok(_) => queue,
            Err(_) => Arc::new(Self { entries: None, bytes: AtomicUsize::new(0), lost: AtomicU64::new(0) }),
        }
    }

    fn write_all(&self, entries: &Receiver<Entry>, mut sink: impl Write, report: &impl Fn(u64)) {
        for entry in entries {
            match entry {
                Entry::Line(line) => {
                    self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                    // Where stderr does not take a line there is no other place to say so.
                    let _ = sink.write_all(&line);
                    let lost = self.lost.swap(0, Ordering::Relaxed);
                    if lost > 0 {
                        report(lost);
                    }
                }
                Entry::Flush(done) => drop(done),
            }
        }
    }

    /// Queues a line, which brings its own end; drops and counts it where there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let Some(entries) = &self.entries else {
            let _ = std::io::stderr().write_all(line);
            return;
        };
        let before = self.bytes.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before + line.len() <= BYTES;
        if !fits || entries.try_send(Entry::Line(line.to_vec())).is_err() {
            self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was queued is written, but not for a reader that does not read.
    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(0);
        if self.entries.as_ref().is_some_and(|entries| entries.try_send(Entry::Flush(done)).is_ok()) {
            let _ = written.recv_timeout(FLUSH);
        }
    }

    /// Queues what there is to say of a panic in one line, and a backtrace where `RUST_BACKTRACE` asks for
    /// one.
    pub(super) fn push_panic(&self, prefix: &str, panic: &PanicHookInfo<'_>) {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message").replace('\n', " ");
        let mut line = format!("{prefix}panic in thread {thread} at {place}: {message}\n");
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            line.push_str(&backtrace.to_string());
        }
        self.push(shown(&line).as_bytes());
    }
}

/// For the log's formatter, which writes a line in one piece, and escapes control characters itself. Words
/// of others stand in it, such as the last line of a child process, so that it may hold a secret.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.push(redacted(&String::from_utf8_lossy(line)).as_bytes());
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Instant;

    /// Takes a line whenever the test sends a permit, and keeps it.
    struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().expect("not poisoned").extend(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    type Kept = Arc<Mutex<Vec<u8>>>;

    fn slow() -> (Arc<Queue>, Sender<()>, Kept, Receiver<u64>) {
        let (permit, permits) = channel();
        let (report, reports) = channel();
        let kept = Kept::default();
        let queue = Queue::start(Slow(permits, Arc::clone(&kept)), move |lost| {
            let _ = report.send(lost);
        });
        (queue, permit, kept, reports)
    }

    #[test]
    fn lines_that_nobody_reads_are_bounded_counted_and_reported() {
        let (queue, permit, kept, reports) = slow();
        let begun = Instant::now();
        for i in 0..3 * LINES {
            queue.push(format!("{i}\n").as_bytes());
        }
        queue.flush();
        assert!(begun.elapsed() < 5 * FLUSH, "{:?}", begun.elapsed());
        // Dropping the permits lets every write pass.
        drop(permit);
        let lost = reports.recv_timeout(Duration::from_secs(5)).expect("reported");
        while queue.bytes.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        queue.flush();
        let lines = kept.lock().expect("not poisoned").iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lost as usize + lines, 3 * LINES);
        assert!(
            (LINES..=LINES + 1).contains(&lines),
            "{lines}: the queue, and the one that was being written"
        );
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (queue, permit, kept, _) = slow();
        for _ in 0..100 {
            queue.push(&[b'x'; 10 << 10]);
        }
        drop(permit);
        while queue.bytes.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        queue.flush();
        assert!(kept.lock().expect("not poisoned").len() <= BYTES + (10 << 10));
    }

    #[test]
    fn what_was_queued_is_written_when_the_program_ends() {
        let (queue, permit, kept, _) = slow();
        drop(permit);
        for _ in 0..100 {
            queue.push(b"line\n");
        }
        queue.flush();
        assert_eq!(kept.lock().expect("not poisoned").len(), 500);
    }

    #[test]
    fn a_sink_that_fails_stops_nothing() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let queue = Queue::start(Full, |_| {});
        for _ in 0..10 * LINES {
            queue.push(b"line\n");
        }
        queue.flush();
        assert_eq!(Arc::strong_count(&queue), 2, "its thread lives");
    }
}
