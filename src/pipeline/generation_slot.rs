//! The generation that workers judge by, and how they change to another between two frames.

use crate::detection::{Detection, Times};
use crate::detector::{DetectError, Detector, Generation};
use crate::frame::{Picture, RawFrame};
use crate::settings::WorkerShare;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Detections of a frame, none where it was not looked at, and the width and height of its picture.
pub type Found = (Option<Vec<Detection>>, (u32, u32));

/// Says of a decoded frame whether it is worth looking at.
pub type IsWorth<'a> = &'a mut dyn FnMut(&Picture) -> bool;

/// What judges frames on one worker: a session with its memory.
pub type Judge = Box<dyn FnMut(&RawFrame, IsWorth<'_>, &mut Times) -> Result<Found, DetectError> + Send>;

/// A generation as the workers take it over.
pub struct Offer {
    /// The generation's number.
    pub number: u64,
    /// Sessions that are built already, one a worker, so that no frame waits for one.
    pub ready: Vec<Judge>,
    /// Builds another one, for a worker whose session broke.
    pub build: Arc<dyn Fn() -> Result<Judge, DetectError> + Send + Sync>,
}

impl Offer {
    /// The generation with `workers` sessions of `threads` threads each. Scores are kept from the
    /// manifest's threshold up; thresholds of cameras apply later.
    ///
    /// # Errors
    /// [`DetectError`] if a session cannot be built.
    pub fn of(generation: &Arc<Generation>, workers: usize, share: WorkerShare) -> Result<Self, DetectError> {
        let shared = Arc::clone(generation);
        let build = Arc::new(move || judge_of(&shared, share));
        let ready = (0..workers).map(|_| build()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { number: generation.number, ready, build })
    }
}

fn judge_of(generation: &Arc<Generation>, share: WorkerShare) -> Result<Judge, DetectError> {
    let mut detector = Detector::new(generation, share.threads)?;
    detector.set_picture_bytes(share.picture_bytes);
    Ok(Box::new(move |raw, is_worth, times| {
        detector.decode(raw, times)?;
        let size = (detector.picture().width, detector.picture().height);
        let found =
            if is_worth(detector.picture()) { Some(detector.detect_decoded(0.0, times)?) } else { None };
        Ok((found, size))
    }))
}

/// Where the generation in use stands for the workers to look at.
pub struct GenerationSlot {
    offer: Mutex<Offer>,
    /// The offer's number, so that a worker need not lock to see that nothing changed.
    number: AtomicU64,
}

impl GenerationSlot {
    /// Starts with this generation.
    #[must_use]
    pub fn new(offer: Offer) -> Self {
        Self { number: AtomicU64::new(offer.number), offer: Mutex::new(offer) }
    }

    fn offer(&self) -> MutexGuard<'_, Offer> {
        self.offer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From each worker's next frame on this generation judges.
    pub fn put(&self, offer: Offer) {
        let number = offer.number;
        let old = std::mem::replace(&mut *self.offer(), offer);
        self.number.store(number, Ordering::Release);
        // Freed outside the lock, since workers wait for it.
        drop(old);
    }

    /// Number of the generation in use.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// A session of the generation in use, built already or now; with the generation's number. A panic is
    /// an error.
    pub fn claim(&self) -> (u64, Result<Judge, DetectError>) {
        let (number, ready, build) = {
            let mut offer = self.offer();
            (offer.number, offer.ready.pop(), Arc::clone(&offer.build))
        };
        let judge = ready.map_or_else(
            || {
                let built = catch_unwind(AssertUnwindSafe(|| build()));
                built.unwrap_or_else(|_| Err(DetectError::Failed("building a session panicked".into())))
            },
            Ok,
        );
        (number, judge)
    }
}
