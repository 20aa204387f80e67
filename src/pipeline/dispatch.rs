//! One slot a camera, newest wins; workers take from the camera served longest ago.
//!
//! Cameras come and go while the daemon runs, each under a number that is never used again. One lock and
//! one condition serve everybody who waits: workers for a frame, workers that rest, and replays that go as
//! fast as they are taken.

use super::MotionGate;
use crate::frame::{Flow, Frame, RawFrame};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

struct Slot {
    waiting: Option<Frame>,
    next_seq: u64,
    superseded: u64,
    /// Ticket of the last time this camera was served; the smallest goes first.
    served: u64,
    /// Frames taken so far: the sequencer's key.
    taken: u64,
    /// Whether frames are kept for the workers.
    enabled: bool,
    flow: Flow,
    /// Says which of its frames are worth looking at; none: all.
    gate: Option<MotionGate>,
}

/// What the workers are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerLimits {
    /// Workers that may take frames, at least 1; the others rest.
    pub workers: usize,
    /// Share of the time that a worker may work, percent, 1 to 100; after each frame it rests for the
    /// remainder.
    pub share_percent: u32,
}

struct State {
    cameras: BTreeMap<usize, Slot>,
    ticket: u64,
    closed: bool,
    limits: WorkerLimits,
}

/// A frame a worker took, with its place in its camera's order of taken frames.
pub struct Taken {
    /// The frame.
    pub frame: Frame,
    /// Counts the camera's taken frames from 0.
    pub place: u64,
    /// Says whether it is worth looking at; none: it is.
    pub gate: Option<MotionGate>,
}

/// The slots of all cameras.
pub struct Dispatcher {
    state: Mutex<State>,
    /// Notified whenever a frame came or went, the limits changed, or the dispatcher closed.
    changed: Condvar,
}

/// Longest rest after one frame.
const LONGEST_REST: Duration = Duration::from_secs(5);

impl WorkerLimits {
    /// How long a worker rests after it worked for `worked`.
    #[must_use]
    pub fn rest_after(self, worked: Duration) -> Duration {
        let share = self.share_percent.clamp(1, 100);
        (worked * (100 - share) / share).min(LONGEST_REST)
    }
}

impl Default for Dispatcher {
    fn default() -> Self {
        let limits = WorkerLimits { workers: usize::MAX, share_percent: 100 };
        let state = State { cameras: BTreeMap::new(), ticket: 0, closed: false, limits };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl Dispatcher {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is whole before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes frames of the camera with this number from now on. `gate` says which of them are worth looking at; none:
    /// all.
    pub fn add(&self, camera: usize, gate: Option<MotionGate>) {
        let mut state = self.state();
        // A new camera waits its turn behind those that wait already.
        let served = state.ticket;
        let slot = Slot {
            waiting: None,
            next_seq: 0,
            superseded: 0,
            served,
            taken: 0,
            enabled: true,
            flow: Flow::default(),
            gate,
        };
        state.cameras.insert(camera, slot);
    }

    /// Forgets the camera and the frame that waits; [`Dispatcher::offer`] tells its supervisor to end.
    pub fn remove(&self, camera: usize) {
        self.state().cameras.remove(&camera);
        self.changed.notify_all();
    }

    /// Whether the camera's frames reach the workers; those that come otherwise are only counted.
    pub fn switch(&self, camera: usize, on: bool) {
        if let Some(slot) = self.state().cameras.get_mut(&camera) {
            slot.enabled = on;
            if !on {
                slot.waiting = None;
            }
            // What it showed before is not told any more.
            slot.gate.iter().for_each(MotionGate::forget_look);
        }
        self.changed.notify_all();
    }

    /// The camera's next frame is looked at, whether or not anything moved in it.
    pub fn look_again(&self, camera: usize) {
        if let Some(slot) = self.state().cameras.get(&camera) {
            slot.gate.iter().for_each(MotionGate::forget_look);
        }
    }

    /// Holds the workers to these limits.
    pub fn limit(&self, limits: WorkerLimits) {
        self.state().limits = limits;
        self.changed.notify_all();
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> WorkerLimits {
        self.state().limits
    }

    /// Puts a frame into its camera's slot. Returns whether the camera is still wanted. Never waits for a
    /// worker.
    pub fn offer(&self, camera: usize, raw: RawFrame, captured: Instant, captured_wall: SystemTime) -> bool {
        let mut state = self.state();
        let open = !state.closed;
        let Some(slot) = state.cameras.get_mut(&camera) else { return false };
        slot.flow.given += 1;
        let seq = slot.next_seq;
        slot.next_seq += 1;
        if open && slot.enabled {
            slot.superseded += u64::from(slot.waiting.is_some());
            slot.waiting = Some(Frame {
                camera,
                seq,
                captured,
                captured_wall,
                superseded_before: 0,
                raw: Arc::new(raw),
            });
            drop(state);
            self.changed.notify_all();
        }
        open
    }

    /// Counts a frame that is left out to keep to the camera's `max_fps`. Returns whether the camera is
    /// still wanted.
    pub fn leave_out(&self, camera: usize) -> bool {
        let mut state = self.state();
        let open = !state.closed;
        let Some(slot) = state.cameras.get_mut(&camera) else { return false };
        slot.flow.given += 1;
        slot.flow.paced += 1;
        open
    }

    /// Frames that each camera gave, by number.
    #[must_use]
    pub fn flows(&self) -> Vec<(usize, Flow)> {
        self.state().cameras.iter().map(|(number, slot)| (*number, slot.flow)).collect()
    }

    /// Waits until this worker may work and a frame waits; `None` once closed and empty.
    pub fn take(&self, worker: usize) -> Option<Taken> {
        let mut state = self.state();
        loop {
            if state.closed || worker < state.limits.workers.max(1) {
                if let Some(taken) = state.take_oldest_served() {
                    drop(state);
                    self.changed.notify_all();
                    return Some(taken);
                }
                if state.closed {
                    return None;
                }
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for `duration`, or until the dispatcher closes.
    pub fn rest(&self, duration: Duration) {
        if !duration.is_zero() {
            drop(self.changed.wait_timeout_while(self.state(), duration, |state| !state.closed));
        }
    }

    /// Lets workers finish what waits and then end.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Waits until the camera's slot is empty: for a replay that goes as fast as its frames are taken.
    pub fn wait_until_taken(&self, camera: usize) {
        let waits = |state: &mut State| {
            !state.closed && state.cameras.get(&camera).is_some_and(|slot| slot.waiting.is_some())
        };
        drop(self.changed.wait_while(self.state(), waits));
    }
}

impl State {
    fn take_oldest_served(&mut self) -> Option<Taken> {
        let waiting = self.cameras.values_mut().filter(|slot| slot.waiting.is_some());
        let slot = waiting.min_by_key(|slot| slot.served)?;
        let mut frame = slot.waiting.take()?;
        self.ticket += 1;
        slot.served = self.ticket;
        frame.superseded_before = std::mem::take(&mut slot.superseded);
        let place = slot.taken;
        slot.taken += 1;
        Some(Taken { frame, place, gate: slot.gate.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Encoding;

    fn dispatcher(cameras: usize) -> Dispatcher {
        let dispatcher = Dispatcher::default();
        (0..cameras).for_each(|camera| dispatcher.add(camera, None));
        dispatcher
    }

    fn offer(dispatcher: &Dispatcher, camera: usize) -> bool {
        let raw = RawFrame {
            width: 1,
            height: 1,
            encoding: Encoding::Grey,
            turn: crate::frame::Turn::NONE,
            data: vec![0],
        };
        dispatcher.offer(camera, raw, Instant::now(), SystemTime::now())
    }

    #[test]
    fn newest_frame_wins_and_the_superseded_are_counted() {
        let dispatcher = dispatcher(1);
        assert!(offer(&dispatcher, 0) && offer(&dispatcher, 0) && offer(&dispatcher, 0));
        let taken = dispatcher.take(0).expect("one waits");
        assert_eq!((taken.frame.seq, taken.frame.superseded_before, taken.place), (2, 2, 0));
        assert_eq!(dispatcher.flows(), [(0, Flow { given: 3, paced: 0 })]);
    }

    #[test]
    fn a_fast_camera_does_not_starve_a_slow_one() {
        let dispatcher = dispatcher(2);
        let mut served = Vec::new();
        offer(&dispatcher, 1);
        for _ in 0..4 {
            offer(&dispatcher, 0);
            served.push(dispatcher.take(0).expect("waits").frame.camera);
        }
        assert!(served[..2].contains(&1), "{served:?}");
    }

    #[test]
    fn close_drains_what_waits_then_ends() {
        let dispatcher = dispatcher(2);
        offer(&dispatcher, 0);
        offer(&dispatcher, 1);
        dispatcher.close();
        assert!(dispatcher.take(0).is_some() && dispatcher.take(0).is_some() && dispatcher.take(0).is_none());
        assert!(!offer(&dispatcher, 0), "a camera thread learns from this that it may end");
    }

    #[test]
    fn a_camera_that_was_removed_is_told_so_and_the_others_go_on() {
        let dispatcher = dispatcher(2);
        offer(&dispatcher, 0);
        dispatcher.remove(0);
        assert!(!offer(&dispatcher, 0) && !dispatcher.leave_out(0) && offer(&dispatcher, 1));
        assert_eq!(dispatcher.take(0).map(|taken| taken.frame.camera), Some(1));
    }

    #[test]
    fn a_camera_that_is_switched_off_keeps_no_frame_and_counts_on() {
        let dispatcher = dispatcher(1);
        offer(&dispatcher, 0);
        dispatcher.switch(0, false);
        assert!(offer(&dispatcher, 0));
        dispatcher.switch(0, true);
        offer(&dispatcher, 0);
        let taken = dispatcher.take(0).expect("the frame after the switch");
        assert_eq!((taken.frame.seq, dispatcher.flows()[0].1.given), (2, 3));
    }

    #[test]
    fn a_worker_rests_for_its_share() {
        let limits = WorkerLimits { workers: 2, share_percent: 25 };
        assert_eq!(limits.rest_after(Duration::from_millis(100)), Duration::from_millis(300));
        assert_eq!(limits.rest_after(Duration::from_secs(100)), LONGEST_REST);
        assert_eq!(
            WorkerLimits { share_percent: 100, ..limits }.rest_after(Duration::from_secs(1)),
            Duration::ZERO
        );
    }
}
