//! Worker threads: take, detect, hand over. A panic costs one frame.

use super::{Dispatcher, Taken};
use crate::detection::{Outcome, Times, Verdict};
use crate::detector::{DetectError, Detector, DetectorModel};
use crossbeam_channel::{Receiver, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// Running workers.
pub struct Workers {
    /// `(place, outcome)`, unordered; closed once the last worker ended.
    pub outcomes: Receiver<(u64, Outcome)>,
    /// The threads; each ends when the dispatcher is closed and empty.
    pub threads: Vec<JoinHandle<()>>,
}

/// Starts `count` workers on `model`. Scores are kept from the manifest's threshold up; per-camera thresholds apply later.
///
/// # Errors
/// If a thread cannot be started.
pub fn start_workers(count: usize, model: &Arc<DetectorModel>, dispatcher: &Arc<Dispatcher>) -> std::io::Result<Workers> {
    let (sender, outcomes) = bounded(2 * count);
    let mut threads = Vec::new();
    for number in 0..count {
        let (model, dispatcher, sender) = (Arc::clone(model), Arc::clone(dispatcher), sender.clone());
        let body = move || {
            let mut detector = Detector::new(&model);
            while let Some(taken) = dispatcher.take() {
                let place = taken.place;
                let outcome = work(&mut detector, &model, taken);
                if sender.send((place, outcome)).is_err() {
                    return;
                }
            }
        };
        threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(body)?);
    }
    Ok(Workers { outcomes, threads })
}

fn work(detector: &mut Detector, model: &Arc<DetectorModel>, taken: Taken) -> Outcome {
    let frame = taken.frame;
    let mut times = Times { queue: frame.captured.elapsed(), ..Times::default() };
    let from = Instant::now();
    let (verdict, size) = match catch_unwind(AssertUnwindSafe(|| detector.detect(&frame.raw, 0.0, &mut times))) {
        Ok(Ok(found)) => (Verdict::Detected(found), (detector.picture().width, detector.picture().height)),
        Ok(Err(DetectError::Damaged(error))) => (Verdict::Damaged(error.to_string()), (0, 0)),
        Ok(Err(error)) => (Verdict::Failed(error.to_string()), (0, 0)),
        Err(_) => {
            // The session may be half-written: build it anew.
            *detector = Detector::new(model);
            (Verdict::Failed(format!("worker panicked after {} ms", from.elapsed().as_millis())), (0, 0))
        }
    };
    Outcome {
        camera: frame.camera,
        seq: frame.seq,
        captured: frame.captured,
        captured_wall: frame.captured_wall,
        width: size.0,
        height: size.1,
        superseded_before: frame.superseded_before,
        times,
        verdict,
    }
}
