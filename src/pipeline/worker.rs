//! Worker threads: take, detect, hand over. A panic costs one frame.

use super::{Dispatcher, Taken};
use crate::detection::{Detection, Outcome, Times, Verdict};
use crate::detector::{DetectError, Detector, Generation};
use crate::frame::RawFrame;
use crossbeam_channel::{Receiver, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Running workers.
pub struct Workers {
    /// `(place, outcome)`, unordered; closed once the last worker ended.
    pub outcomes: Receiver<(u64, Outcome)>,
    /// The threads; each ends when the dispatcher is closed and empty.
    pub threads: Vec<JoinHandle<()>>,
    /// How they are.
    pub state: Arc<WorkerState>,
}

/// What workers count, and what they are held to.
#[derive(Debug)]
pub struct WorkerState {
    /// Workers that may take frames; the others rest. At least 1.
    pub allowed: AtomicUsize,
    /// Share of the time that a worker may work, percent, 1 to 100; after each frame it rests for the remainder.
    pub share: AtomicU32,
    /// Workers at a frame now.
    pub busy: AtomicUsize,
    /// Times a worker panicked and built its detector anew.
    pub restarts: AtomicU64,
}

/// How often a resting worker looks whether it may go on.
const LOOK: Duration = Duration::from_millis(100);
/// Longest rest after one frame.
const LONGEST_REST: Duration = Duration::from_secs(5);

impl WorkerState {
    fn new(count: usize) -> Self {
        Self { allowed: AtomicUsize::new(count), share: AtomicU32::new(100), busy: AtomicUsize::new(0), restarts: AtomicU64::new(0) }
    }

    /// How long a worker rests after it worked for `worked`.
    fn rest(&self, worked: Duration) -> Duration {
        let share = self.share.load(Ordering::Relaxed).clamp(1, 100);
        (worked * (100 - share) / share).min(LONGEST_REST)
    }
}

/// Waits for `duration`, or until the dispatcher closes.
fn pause(duration: Duration, dispatcher: &Dispatcher) {
    let until = Instant::now() + duration;
    while !dispatcher.is_closed() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// Detections of a frame, and the width and height of its picture.
type Found = (Vec<Detection>, (u32, u32));

/// Starts `count` workers on `model`, each with `threads` threads for one frame. Scores are kept from the manifest's threshold up;
/// per-camera thresholds apply later.
///
/// # Errors
/// If a thread cannot be started.
pub fn start_workers(count: usize, threads: usize, model: &Arc<Generation>, dispatcher: &Arc<Dispatcher>) -> std::io::Result<Workers> {
    let model = Arc::clone(model);
    start_with(count, model.number, dispatcher, move || {
        // Without threads each frame fails with the reason, and the next panic or frame does not change that.
        let mut detector = Detector::new(&model, threads);
        move |raw: &RawFrame, times: &mut Times| {
            let detector = detector.as_mut().map_err(|e| DetectError::Failed(e.to_string()))?;
            let found = detector.detect(raw, 0.0, times)?;
            Ok((found, (detector.picture().width, detector.picture().height)))
        }
    })
}

/// `make` builds what detects for `generation`: once a worker, and again after a panic.
fn start_with<F>(
    count: usize,
    generation: u64,
    dispatcher: &Arc<Dispatcher>,
    make: impl Fn() -> F + Send + Sync + 'static,
) -> std::io::Result<Workers>
where
    F: FnMut(&RawFrame, &mut Times) -> Result<Found, DetectError>,
{
    let (sender, outcomes) = bounded(2 * count);
    let make = Arc::new(make);
    let state = Arc::new(WorkerState::new(count));
    let mut threads = Vec::new();
    for number in 0..count {
        let (make, state, dispatcher, sender) = (Arc::clone(&make), Arc::clone(&state), Arc::clone(dispatcher), sender.clone());
        let body = move || {
            let mut detect = make();
            loop {
                while number >= state.allowed.load(Ordering::Relaxed).max(1) && !dispatcher.is_closed() {
                    pause(LOOK, &dispatcher);
                }
                let Some(taken) = dispatcher.take() else { return };
                let (place, from) = (taken.place, Instant::now());
                state.busy.fetch_add(1, Ordering::Relaxed);
                let (outcome, panicked) = work(&mut detect, taken, generation);
                state.busy.fetch_sub(1, Ordering::Relaxed);
                if panicked {
                    // The session may be half-written.
                    state.restarts.fetch_add(1, Ordering::Relaxed);
                    detect = make();
                }
                let rest = state.rest(from.elapsed());
                if sender.send((place, outcome)).is_err() {
                    return;
                }
                if !rest.is_zero() {
                    pause(rest, &dispatcher);
                }
            }
        };
        threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(body)?);
    }
    Ok(Workers { outcomes, threads, state })
}

/// The outcome, and whether the worker panicked over it.
fn work(detect: &mut impl FnMut(&RawFrame, &mut Times) -> Result<Found, DetectError>, taken: Taken, generation: u64) -> (Outcome, bool) {
    let frame = taken.frame;
    let mut times = Times { queue: frame.captured.elapsed(), ..Times::default() };
    let from = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| detect(&frame.raw, &mut times)));
    let panicked = result.is_err();
    let (verdict, size) = match result {
        Ok(Ok((found, size))) => (Verdict::Detected(found), size),
        Ok(Err(DetectError::Damaged(error))) => (Verdict::Damaged(error.to_string()), (0, 0)),
        Ok(Err(error)) => (Verdict::Failed(error.to_string()), (0, 0)),
        Err(_) => (Verdict::Failed(format!("worker panicked after {} ms", from.elapsed().as_millis())), (0, 0)),
    };
    let outcome = Outcome {
        camera: frame.camera,
        seq: frame.seq,
        captured: frame.captured,
        captured_wall: frame.captured_wall,
        raw: frame.raw,
        generation,
        width: size.0,
        height: size.1,
        superseded_before: frame.superseded_before,
        times,
        verdict,
    };
    (outcome, panicked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Encoding;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_panic_costs_one_frame_and_each_outcome_owns_its_frame_and_names_its_generation() {
        let dispatcher = Arc::new(Dispatcher::new(1));
        let workers = start_with(1, 7, &dispatcher, || {
            |raw: &RawFrame, _: &mut Times| {
                assert!(raw.data != [1], "a frame that no worker can bear");
                Ok((Vec::new(), (1, 1)))
            }
        })
        .expect("a thread");
        let mut verdicts = Vec::new();
        for byte in 0..3 {
            let raw = RawFrame { width: 1, height: 1, encoding: Encoding::Grey, data: vec![byte] };
            let bytes = raw.data.as_ptr();
            dispatcher.offer(0, raw, Instant::now(), SystemTime::now());
            let outcome = workers.outcomes.recv_timeout(Duration::from_secs(5)).expect("an outcome").1;
            assert!(std::ptr::eq(outcome.raw.data.as_ptr(), bytes), "the frame's bytes are shared, not copied");
            assert_eq!(outcome.generation, 7, "also of a frame that cost a panic");
            verdicts.push(outcome.verdict);
        }
        assert!(matches!(verdicts[0], Verdict::Detected(_)) && matches!(verdicts[2], Verdict::Detected(_)));
        assert!(matches!(&verdicts[1], Verdict::Failed(reason) if reason.contains("panicked")), "{verdicts:?}");
        assert_eq!(workers.state.restarts.load(Ordering::Relaxed), 1);
        dispatcher.close();
        for thread in workers.threads {
            thread.join().expect("ends");
        }
    }
    #[test]
    fn workers_rest_for_their_share_and_those_not_allowed_take_nothing() {
        let state = WorkerState::new(2);
        assert_eq!(state.rest(Duration::from_secs(1)), Duration::ZERO);
        state.share.store(25, Ordering::Relaxed);
        assert_eq!(state.rest(Duration::from_millis(100)), Duration::from_millis(300));
        assert_eq!(state.rest(Duration::from_secs(100)), LONGEST_REST);
        let dispatcher = Arc::new(Dispatcher::new(1));
        let workers = start_with(2, 0, &dispatcher, || {
            |_: &RawFrame, _: &mut Times| {
                let name = std::thread::current().name().unwrap_or_default().to_owned();
                std::thread::sleep(Duration::from_millis(5));
                Err(DetectError::Failed(name))
            }
        })
        .expect("threads");
        workers.state.allowed.store(1, Ordering::Relaxed);
        let mut by = Vec::new();
        for _ in 0..60 {
            let raw = RawFrame { width: 1, height: 1, encoding: Encoding::Grey, data: vec![0] };
            dispatcher.offer(0, raw, Instant::now(), SystemTime::now());
            let outcome = workers.outcomes.recv_timeout(Duration::from_secs(5)).expect("an outcome").1;
            let Verdict::Failed(name) = outcome.verdict else { panic!("{outcome:?}") };
            by.push(name);
        }
        // Each may have been waiting for a frame when the limit came.
        assert!(by[1..].iter().filter(|name| *name == "worker-1").count() <= 1, "{by:?}");
        let from = Instant::now();
        dispatcher.close();
        for thread in workers.threads {
            thread.join().expect("ends");
        }
        assert!(from.elapsed() < Duration::from_secs(1));
    }
}
