//! Worker threads: take, detect, hand over. A panic costs one frame.

use super::{Dispatcher, Taken};
use crate::detection::{Detection, Outcome, Times, Verdict};
use crate::detector::{DetectError, Detector, DetectorModel};
use crate::frame::RawFrame;
use crossbeam_channel::{Receiver, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// Running workers.
pub struct Workers {
    /// `(place, outcome)`, unordered; closed once the last worker ended.
    pub outcomes: Receiver<(u64, Outcome)>,
    /// The threads; each ends when the dispatcher is closed and empty.
    pub threads: Vec<JoinHandle<()>>,
    /// How they are.
    pub state: Arc<WorkerState>,
}

/// What workers count.
#[derive(Debug, Default)]
pub struct WorkerState {
    /// Workers at a frame now.
    pub busy: AtomicUsize,
    /// Times a worker panicked and built its detector anew.
    pub restarts: AtomicU64,
}

/// Detections of a frame, and the width and height of its picture.
type Found = (Vec<Detection>, (u32, u32));

/// Starts `count` workers on `model`, each with `threads` threads for one frame. Scores are kept from the manifest's threshold up; per-camera thresholds apply later.
///
/// # Errors
/// If a thread cannot be started.
pub fn start_workers(count: usize, threads: usize, model: &Arc<DetectorModel>, dispatcher: &Arc<Dispatcher>) -> std::io::Result<Workers> {
    let model = Arc::clone(model);
    start_with(count, dispatcher, move || {
        // Without threads each frame fails with the reason, and the next panic or frame does not change that.
        let mut detector = Detector::new(&model, threads);
        move |raw: &RawFrame, times: &mut Times| {
            let detector = detector.as_mut().map_err(|e| DetectError::Failed(e.to_string()))?;
            let found = detector.detect(raw, 0.0, times)?;
            Ok((found, (detector.picture().width, detector.picture().height)))
        }
    })
}

/// `make` builds what detects: once a worker, and again after a panic.
fn start_with<F>(count: usize, dispatcher: &Arc<Dispatcher>, make: impl Fn() -> F + Send + Sync + 'static) -> std::io::Result<Workers>
where
    F: FnMut(&RawFrame, &mut Times) -> Result<Found, DetectError>,
{
    let (sender, outcomes) = bounded(2 * count);
    let make = Arc::new(make);
    let state = Arc::new(WorkerState::default());
    let mut threads = Vec::new();
    for number in 0..count {
        let (make, state, dispatcher, sender) = (Arc::clone(&make), Arc::clone(&state), Arc::clone(dispatcher), sender.clone());
        let body = move || {
            let mut detect = make();
            while let Some(taken) = dispatcher.take() {
                let place = taken.place;
                state.busy.fetch_add(1, Ordering::Relaxed);
                let (outcome, panicked) = work(&mut detect, taken);
                state.busy.fetch_sub(1, Ordering::Relaxed);
                if panicked {
                    // The session may be half-written.
                    state.restarts.fetch_add(1, Ordering::Relaxed);
                    detect = make();
                }
                if sender.send((place, outcome)).is_err() {
                    return;
                }
            }
        };
        threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(body)?);
    }
    Ok(Workers { outcomes, threads, state })
}

/// The outcome, and whether the worker panicked over it.
fn work(detect: &mut impl FnMut(&RawFrame, &mut Times) -> Result<Found, DetectError>, taken: Taken) -> (Outcome, bool) {
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
    fn a_panic_costs_one_frame() {
        let dispatcher = Arc::new(Dispatcher::new(1));
        let workers = start_with(1, &dispatcher, || {
            |raw: &RawFrame, _: &mut Times| {
                assert!(raw.data != [1], "a frame that no worker can bear");
                Ok((Vec::new(), (1, 1)))
            }
        })
        .expect("a thread");
        let mut verdicts = Vec::new();
        for byte in 0..3 {
            let raw = RawFrame { width: 1, height: 1, encoding: Encoding::Grey, data: vec![byte] };
            dispatcher.offer(0, raw, Instant::now(), SystemTime::now());
            verdicts.push(workers.outcomes.recv_timeout(Duration::from_secs(5)).expect("an outcome").1.verdict);
        }
        assert!(matches!(verdicts[0], Verdict::Detected(_)) && matches!(verdicts[2], Verdict::Detected(_)));
        assert!(matches!(&verdicts[1], Verdict::Failed(reason) if reason.contains("panicked")), "{verdicts:?}");
        assert_eq!(workers.state.restarts.load(Ordering::Relaxed), 1);
        dispatcher.close();
        for thread in workers.threads {
            thread.join().expect("ends");
        }
    }
}
