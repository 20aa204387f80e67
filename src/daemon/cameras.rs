//! One supervisor a camera: open, hand frames to the dispatcher, reopen with back-off. A camera that fails
//! takes no other down, and one that is added, removed or changed leaves the others alone.

use crate::backoff::Backoff;
use crate::capture::{CaptureError, Waited, Watched};
use crate::pipeline::Dispatcher;
use crate::scene::CameraNews;
use crate::settings::CameraSettings;
use crate::thread::{self, EndNotice};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Waits between attempts to open a camera. The longest is what a replugged camera is at most away.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// News of all cameras that may wait for the shell.
const NEWS: usize = 64;

/// The supervisors that run.
pub(super) struct Cameras {
    running: BTreeMap<String, Running>,
    /// The number of the next camera; none is used twice.
    next_number: usize,
    dispatcher: Arc<Dispatcher>,
    to: Sender<(usize, CameraNews)>,
    news: Receiver<(usize, CameraNews)>,
    ends: Sender<EndNotice>,
}

struct Running {
    number: usize,
    settings: CameraSettings,
    /// Dropping it ends the supervisor.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Cameras {
    /// None yet. The end of each supervisor is told to `ends`.
    pub fn new(dispatcher: Arc<Dispatcher>, ends: Sender<EndNotice>) -> Self {
        let (to, news) = bounded(NEWS);
        Self { running: BTreeMap::new(), next_number: 0, dispatcher, to, news, ends }
    }

    /// What the supervisors report, by number.
    pub fn news(&self) -> &Receiver<(usize, CameraNews)> {
        &self.news
    }

    /// By id the numbers under which the pipeline knows the cameras.
    pub fn numbers(&self) -> BTreeMap<String, usize> {
        self.running.iter().map(|(id, camera)| (id.clone(), camera.number)).collect()
    }

    /// Stops cameras that the settings no longer have, or have with a change for which a camera is started anew,
    /// and gives each that is to be started a number. Returns the numbers that are not used any more, and what is to
    /// be started.
    ///
    /// The new supervisors are started by [`Cameras::start_pending`] once everybody else knows the numbers.
    pub fn change(&mut self, wanted: &BTreeMap<String, CameraSettings>) -> (Vec<usize>, Vec<Pending>) {
        let mut removed = Vec::new();
        let mut leaving = BTreeMap::new();
        let old = std::mem::take(&mut self.running);
        for (id, camera) in old {
            let same = wanted.get(&id).filter(|wanted| camera.settings.runs_on_under(wanted));
            if let Some(wanted) = same {
                self.running.insert(id, Running { settings: wanted.clone(), ..camera });
            } else {
                removed.push(camera.number);
                drop(camera.stop);
                leaving.insert(id, camera.thread);
            }
        }
        let mut pending = Vec::new();
        for (id, settings) in wanted.iter().filter(|(id, _)| !self.running.contains_key(*id)) {
            let number = self.next_number;
            self.next_number += 1;
            // Two handles on one device would shut each other out, so the new supervisor waits for the old
            // one.
            pending.push(Pending {
                number,
                id: id.clone(),
                settings: settings.clone(),
                after: leaving.remove(id),
            });
        }
        (removed, pending)
    }

    /// Numbers of [`Cameras::numbers`] with those of cameras that are about to start.
    pub fn numbers_with(&self, pending: &[Pending]) -> BTreeMap<String, usize> {
        let starting = pending.iter().map(|camera| (camera.id.clone(), camera.number));
        self.numbers().into_iter().chain(starting).collect()
    }

    /// Starts a supervisor.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start_pending(&mut self, camera: Pending) -> std::io::Result<()> {
        let (stop, stopped) = bounded::<()>(0);
        let Pending { number, id, settings, after } = camera;
        let supervisor = Supervisor {
            number,
            id: id.clone(),
            settings: settings.clone(),
            dispatcher: Arc::clone(&self.dispatcher),
            news: self.to.clone(),
            stop: stopped,
        };
        let thread = thread::spawn(&format!("sup-{id}"), &self.ends, move || {
            if let Some(before) = after {
                // How the one before ended was told by itself.
                let _ = before.join();
            }
            supervisor.run();
        })?;
        self.running.insert(id, Running { number, settings, stop, thread });
        Ok(())
    }

    /// Ends all supervisors, which end their child processes; a thread that hangs in a driver is not theirs
    /// to wait for.
    pub fn end(self) {
        // News that nobody reads must not hold them up.
        drop(self.news);
        let (stops, threads): (Vec<_>, Vec<_>) =
            self.running.into_values().map(|camera| (camera.stop, camera.thread)).unzip();
        drop(stops);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// A camera that has a number and no supervisor yet.
pub(super) struct Pending {
    pub number: usize,
    id: String,
    pub settings: CameraSettings,
    after: Option<JoinHandle<()>>,
}

/// Lets through at most so many frames a second, without falling below that for a camera whose rate is a
/// multiple of it.
struct Pace {
    interval: Duration,
    due: Option<Instant>,
}

impl Pace {
    /// 0 lets everything through.
    fn new(max_fps: f32) -> Self {
        Self {
            interval: if max_fps > 0.0 { Duration::from_secs_f32(1.0 / max_fps) } else { Duration::ZERO },
            due: None,
        }
    }

    fn pass(&mut self, now: Instant) -> bool {
        let due = self.due.unwrap_or(now);
        // A frame that is a little early counts as in time: cameras jitter.
        if now + self.interval / 10 < due {
            return false;
        }
        self.due = Some((due + self.interval).max(now));
        true
    }
}

/// A camera's share of the daemon.
struct Supervisor {
    number: usize,
    id: String,
    settings: CameraSettings,
    dispatcher: Arc<Dispatcher>,
    news: Sender<(usize, CameraNews)>,
    /// Closed when the camera is not wanted any more.
    stop: Receiver<()>,
}

/// Why a supervisor ends, or tries again.
enum End {
    Stopped,
    Failed(CaptureError),
}

impl Supervisor {
    fn report(&self, news: CameraNews) {
        // Nobody listens any more once the daemon ends.
        let _ = self.news.send((self.number, news));
    }

    fn report_offline(&self, reason: String, retry_in: Duration) {
        self.report(CameraNews::Offline { reason, retry_in });
    }

    /// Until the camera is not wanted any more, or a replay is over.
    fn run(self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let (wait, left) = match Watched::start(&self.id, &self.settings) {
                Err(error) => {
                    let wait = backoff.next_wait();
                    self.report_offline(error.to_string(), wait);
                    (wait, None)
                }
                Ok(camera) => {
                    let end = self.feed(&camera, &mut backoff);
                    let left = camera.abandon();
                    match end {
                        End::Stopped => return,
                        End::Failed(CaptureError::Ended { .. }) => return self.report(CameraNews::Ended),
                        End::Failed(error) => {
                            let wait = backoff.next_wait();
                            self.report_offline(error.to_string(), wait);
                            (wait, left)
                        }
                    }
                }
            };
            if !self.wait_until_free(wait, &mut backoff, left) {
                return;
            }
        }
    }

    /// Waits before the next attempt, and until the thread that was left behind in the driver has come
    /// back: a second handle on a device whose driver hangs would be as dead as the first, and one thread
    /// more each time. `false`: not wanted.
    fn wait_until_free(
        &self,
        mut wait: Duration,
        backoff: &mut Backoff,
        left: Option<JoinHandle<()>>,
    ) -> bool {
        loop {
            match self.stop.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => return false,
            }
            if left.as_ref().is_none_or(JoinHandle::is_finished) {
                return true;
            }
            wait = backoff.next_wait();
            self.report_offline(
                format!("{}: its driver does not answer; unplug it or restart", self.settings.name()),
                wait,
            );
        }
    }

    /// From open to failure.
    fn feed(&self, camera: &Watched, backoff: &mut Backoff) -> End {
        let paced_by_workers = self.settings.replay_fps() == Some(0.0);
        let mut online = false;
        let mut pace = Pace::new(self.settings.max_fps);
        loop {
            match camera.next_frame(Some(&self.stop)) {
                Ok(Waited::Stopped) => return End::Stopped,
                Ok(Waited::Frame(grabbed)) => {
                    if !std::mem::replace(&mut online, true) {
                        backoff.reset();
                        self.report(CameraNews::Online);
                    }
                    let wanted = if pace.pass(grabbed.captured) {
                        self.dispatcher.offer(
                            self.number,
                            grabbed.raw,
                            grabbed.captured,
                            grabbed.captured_wall,
                        )
                    } else {
                        self.dispatcher.leave_out(self.number)
                    };
                    if !wanted {
                        return End::Stopped;
                    }
                    if paced_by_workers {
                        self.dispatcher.wait_until_taken(self.number);
                    }
                }
                Err(CaptureError::Damaged { reason, .. }) => self.report(CameraNews::Damaged { reason }),
                Err(error) => return End::Failed(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames let through in ten seconds of a camera at `fps` whose frames come up to `jitter` late.
    fn passed(fps: u32, max_fps: f32, jitter: Duration) -> usize {
        let (start, mut pace) = (Instant::now(), Pace::new(max_fps));
        (0..10 * fps)
            .filter(|i| pace.pass(start + Duration::from_secs(1) * *i / fps + jitter * (i * 7 % 5) / 5))
            .count()
    }

    #[test]
    fn a_pace_is_kept_and_not_fallen_below() {
        assert_eq!(passed(30, 0.0, Duration::ZERO), 300);
        for (fps, max_fps, wanted) in
            [(15, 5.0, 50), (30, 10.0, 100), (30, 0.5, 5), (10, 15.0, 100), (25, 10.0, 100)]
        {
            let found = passed(fps, max_fps, Duration::from_millis(8));
            assert!(
                found.abs_diff(wanted) <= 2,
                "{found} of {wanted} a 10 s, {fps} frames a second held to {max_fps}"
            );
        }
    }
}
