//! How fast a tuning goes: it rests while the daemon's threads wait for a core, and while the Pi throttles.

use crate::daemon;
use crate::health;
use crate::tuning::Next;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time that the daemon's threads may wait for a core during one step.
const MAY_WAIT: Duration = Duration::from_millis(1);
/// Shortest and longest rest. The longest still lets a tuning end on a machine that others keep busy.
const RESTS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];
/// The firmware's word on heat is asked for once in so many steps.
const LOOK_EVERY: u32 = 50;
/// How long a tuning rests before it looks again whether the Pi throttles.
const COOLING: Duration = Duration::from_secs(1);

/// Asked after each step.
pub struct Pace {
    /// The daemon's threads.
    daemon: Option<PathBuf>,
    /// How long they have waited for a core in all, nanoseconds.
    waited: u64,
    rest: Duration,
    steps: u32,
    until: Option<Instant>,
    stop: Arc<AtomicBool>,
}

impl Pace {
    /// Beside the daemon that keeps its state in this folder, if one runs.
    pub fn new(state: Option<&Path>, max_minutes: Option<u32>, stop: Arc<AtomicBool>) -> Self {
        let daemon = state.and_then(daemon::pid_of).map(|pid| PathBuf::from(format!("/proc/{pid}/task")));
        let until = max_minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * u64::from(minutes)));
        let waited = daemon.as_deref().map_or(0, waited);
        Self { daemon, waited, rest: RESTS[0], steps: 0, until, stop }
    }

    /// Waits as long as others need the machine, and says whether to go on.
    pub fn next(&mut self) -> Next {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(LOOK_EVERY) {
            while health::throttled() == Some(true) && !self.over() {
                std::thread::sleep(COOLING);
            }
        }
        if let Some(daemon) = &self.daemon {
            let waited_before = std::mem::replace(&mut self.waited, waited(daemon));
            if Duration::from_nanos(self.waited.saturating_sub(waited_before)) > MAY_WAIT {
                std::thread::sleep(self.rest);
                self.rest = (self.rest * 2).min(RESTS[1]);
                // What waited meanwhile did not wait for us.
                self.waited = waited(daemon);
            } else {
                self.rest = (self.rest / 2).max(RESTS[0]);
            }
        }
        if self.over() { Next::Stop } else { Next::Continue }
    }

    fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// How long the threads of a process have waited for a core in all, nanoseconds (proc(5): schedstat).
fn waited(tasks: &Path) -> u64 {
    let one = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    std::fs::read_dir(tasks).into_iter().flatten().flatten().filter_map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_and_a_deadline_end_it() {
        let stop = Arc::<AtomicBool>::default();
        let mut pace = Pace::new(None, None, Arc::clone(&stop));
        assert_eq!(pace.next(), Next::Continue);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(pace.next(), Next::Stop);
        let mut pace = Pace::new(None, Some(1), Arc::default());
        pace.until = Some(Instant::now());
        assert_eq!(pace.next(), Next::Stop);
    }

    #[test]
    fn rests_grow_while_the_daemon_waits_and_shrink_after() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("7")).expect("a task");
        let wait = |nanoseconds: u64| {
            std::fs::write(folder.path().join("7/schedstat"), format!("5 {nanoseconds} 3\n"))
                .expect("written");
        };
        wait(0);
        let mut pace = Pace::new(None, None, Arc::default());
        pace.daemon = Some(folder.path().to_owned());
        for step in 1..=3 {
            wait(step * 5_000_000);
            pace.next();
        }
        assert_eq!(pace.rest, RESTS[0] * 8);
        pace.next();
        assert_eq!(pace.rest, RESTS[0] * 4, "nothing waited");
        wait(15_900_000);
        pace.next();
        assert_eq!(pace.rest, RESTS[0] * 2, "less than a millisecond is nothing");
    }
}
