//! One slot a camera, newest wins; workers take from the camera served longest ago.

use crate::frame::{Frame, RawFrame};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

struct Slot {
    waiting: Option<Frame>,
    next_seq: u64,
    superseded: u64,
    /// Ticket of the last time this camera was served; the smallest goes first.
    served: u64,
}

struct Slots {
    cameras: Vec<Slot>,
    ticket: u64,
    closed: bool,
    /// Order in which frames were taken, over all cameras: the sequencer's key.
    taken: Vec<u64>,
}

/// A frame a worker took, with its place in its camera's order of taken frames.
pub struct Taken {
    /// The frame.
    pub frame: Frame,
    /// Counts the camera's taken frames from 0.
    pub place: u64,
}

/// Slots with permits to sleep on.
pub struct Dispatcher {
    slots: Mutex<Slots>,
    /// Told whenever a slot was emptied or the dispatcher closed.
    freed: Condvar,
    permits: Mutex<Option<Sender<()>>>,
    ready: Receiver<()>,
}

impl Dispatcher {
    /// For `cameras` cameras.
    #[must_use]
    pub fn new(cameras: usize) -> Self {
        // A permit stands for "some slot may hold a frame"; one per camera is enough, a full channel loses nothing.
        let (permits, ready) = bounded(cameras.max(1));
        let slot = || Slot { waiting: None, next_seq: 0, superseded: 0, served: 0 };
        let slots = Slots { cameras: (0..cameras).map(|_| slot()).collect(), ticket: 0, closed: false, taken: vec![0; cameras] };
        Self { slots: Mutex::new(slots), freed: Condvar::new(), permits: Mutex::new(Some(permits)), ready }
    }

    /// Puts a frame into its camera's slot. Returns whether the slots are still open. Never waits for a worker.
    pub fn offer(&self, camera: usize, raw: RawFrame, captured: Instant, captured_wall: SystemTime) -> bool {
        {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(slot) = slots.cameras.get_mut(camera) else { return false };
            let seq = slot.next_seq;
            slot.next_seq += 1;
            let superseded = slot.waiting.take().is_some();
            slot.superseded += u64::from(superseded);
            slot.waiting = Some(Frame { camera, seq, captured, captured_wall, superseded_before: 0, raw: Arc::new(raw) });
        }
        match &*self.permits.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(permits) => matches!(permits.try_send(()), Ok(()) | Err(TrySendError::Full(()))),
            None => false,
        }
    }

    /// Waits for a frame; `None` once closed and empty.
    pub fn take(&self) -> Option<Taken> {
        loop {
            let open = self.ready.recv().is_ok();
            let taken = self.take_oldest_served();
            if taken.is_some() || !open {
                return taken;
            }
        }
    }

    fn take_oldest_served(&self) -> Option<Taken> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let camera = (0..slots.cameras.len()).filter(|&i| slots.cameras[i].waiting.is_some()).min_by_key(|&i| slots.cameras[i].served)?;
        slots.ticket += 1;
        let ticket = slots.ticket;
        let slot = &mut slots.cameras[camera];
        let mut frame = slot.waiting.take()?;
        slot.served = ticket;
        frame.superseded_before = std::mem::take(&mut slot.superseded);
        let place = slots.taken[camera];
        slots.taken[camera] += 1;
        self.freed.notify_all();
        Some(Taken { frame, place })
    }

    /// Lets workers finish what waits and then end.
    pub fn close(&self) {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Taken under the slots' lock, so that nobody goes to sleep between its look at `closed` and this call.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.freed.notify_all();
    }

    /// Whether [`Dispatcher::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Waits until the camera's slot is empty: for a replay that goes as fast as its frames are taken.
    pub fn wait_until_taken(&self, camera: usize) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |slots: &mut Slots| !slots.closed && slots.cameras.get(camera).is_some_and(|slot| slot.waiting.is_some());
        drop(self.freed.wait_while(slots, waiting).unwrap_or_else(PoisonError::into_inner));
    }

    /// Frames that wait in slots now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).cameras.iter().filter(|slot| slot.waiting.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Encoding;

    fn offer(dispatcher: &Dispatcher, camera: usize) -> bool {
        let raw = RawFrame { width: 1, height: 1, encoding: Encoding::Grey, data: vec![0] };
        dispatcher.offer(camera, raw, Instant::now(), SystemTime::now())
    }

    #[test]
    fn newest_frame_wins_and_the_superseded_are_counted() {
        let dispatcher = Dispatcher::new(1);
        assert!(offer(&dispatcher, 0) && offer(&dispatcher, 0) && offer(&dispatcher, 0));
        let taken = dispatcher.take().expect("one waits");
        assert_eq!((taken.frame.seq, taken.frame.superseded_before, taken.place), (2, 2, 0));
    }

    #[test]
    fn a_fast_camera_does_not_starve_a_slow_one() {
        let dispatcher = Dispatcher::new(2);
        let mut served = Vec::new();
        offer(&dispatcher, 1);
        for _ in 0..4 {
            offer(&dispatcher, 0);
            served.push(dispatcher.take().expect("waits").frame.camera);
        }
        assert!(served[..2].contains(&1), "{served:?}");
    }

    #[test]
    fn close_drains_what_waits_then_ends() {
        let dispatcher = Dispatcher::new(2);
        offer(&dispatcher, 0);
        offer(&dispatcher, 1);
        dispatcher.close();
        assert!(dispatcher.take().is_some() && dispatcher.take().is_some() && dispatcher.take().is_none());
        assert!(!offer(&dispatcher, 0), "a camera thread learns from this that it may end");
    }
}
