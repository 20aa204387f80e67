//! A swap of the model and a change of another camera lose no frame: 10,000 frames of one camera, and 50
//! swaps and 50 cameras that come and go meanwhile. The judges are stand-ins, since the order of frames is
//! what is tried; the real model is swapped in the second test and in `live_faults.rs`.

use retinad::detector::Generation;
use retinad::frame::{Encoding, RawFrame, Turn};
use retinad::pipeline::{Dispatcher, GenerationSlot, Judge, Offer, Sequencer, WorkerNews, start_workers};
use retinad::settings::DetectorSettings;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const FRAMES: u64 = 10_000;
const CHANGES: u64 = 50;
const WORKERS: usize = 2;

fn stand_in(number: u64) -> Offer {
    let build = || -> Result<Judge, _> { Ok(Box::new(|_: &_, _, _: &mut _| Ok((Some(Vec::new()), (1, 1))))) };
    let ready = (0..WORKERS).map(|_| build().expect("a judge")).collect();
    Offer { number, ready, build: Arc::new(build) }
}

/// Feeds `frames` frames of camera 0, each as soon as the one before was taken, and hands `change` the
/// frame's number. Returns the generation that judged each frame, in order.
fn run(
    frames: u64,
    slot: &Arc<GenerationSlot>,
    raw: &RawFrame,
    mut change: impl FnMut(u64, &Dispatcher) + Send,
) -> Vec<u64> {
    let dispatcher = Arc::<Dispatcher>::default();
    let mut sequencer = Sequencer::default();
    dispatcher.add(0, None);
    sequencer.add(0);
    let (ends, _) = crossbeam_channel::unbounded();
    let workers = start_workers(WORKERS, slot, &dispatcher, &ends).expect("threads");
    let mut judged = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..frames {
                change(number, &dispatcher);
                assert!(
                    dispatcher.offer(0, raw.clone(), Instant::now(), SystemTime::now()),
                    "the camera is wanted throughout"
                );
                dispatcher.wait_until_taken(0);
            }
            dispatcher.close();
        });
        while let Ok(news) = workers.news.recv_timeout(Duration::from_secs(20)) {
            let WorkerNews::Outcome { place, outcome } = news else { panic!("{news:?}") };
            sequencer.accept(place, *outcome, |outcome| {
                assert_eq!(
                    (outcome.seq, outcome.superseded_before),
                    (judged.len() as u64, 0),
                    "in order, and none superseded"
                );
                assert!(outcome.detections().is_some(), "{:?}", outcome.verdict);
                judged.push(outcome.generation);
            });
        }
    });
    judged
}

#[test]
fn swaps_and_changes_of_other_cameras_lose_no_frame() {
    let slot = Arc::new(GenerationSlot::new(stand_in(0)));
    let raw = RawFrame { width: 1, height: 1, encoding: Encoding::Grey, turn: Turn::NONE, data: vec![0] };
    let swapped = Arc::clone(&slot);
    let judged = run(FRAMES, &slot, &raw, move |number, dispatcher| {
        let change = number / (FRAMES / (2 * CHANGES));
        if number.is_multiple_of(FRAMES / (2 * CHANGES)) {
            if change.is_multiple_of(2) {
                swapped.put(stand_in(change / 2 + 1));
            } else {
                // Another camera goes and one comes; numbers are never used twice.
                dispatcher.remove(1000 + change as usize);
                dispatcher.add(1002 + change as usize, None);
            }
        }
    });
    assert_eq!(judged.len() as u64, FRAMES);
    assert_eq!(judged.iter().max(), Some(&CHANGES));
}

#[test]
fn a_real_model_is_swapped_between_two_frames() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let load = |number| {
        Generation::load(&root.join("models/retinad-m-320-int8.onnx"), number).expect("the shipped model")
    };
    let slot = Arc::new(GenerationSlot::new(
        Offer::of(&load(1), WORKERS, DetectorSettings::default().share(1)).expect("sessions"),
    ));
    let mut next =
        vec![Offer::of(&load(2), WORKERS, DetectorSettings::default().share(1)).expect("sessions")];
    let data = std::fs::read(root.join("examples/pictures/chelsea.jpg")).expect("a picture");
    let raw = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data };
    let swapped = Arc::clone(&slot);
    let judged = run(20, &slot, &raw, move |number, _| {
        if number == 10 {
            swapped.put(next.pop().expect("one swap"));
        }
    });
    assert_eq!(judged.len(), 20);
    assert!(
        judged[..8].iter().all(|&generation| generation == 1)
            && judged[12..].iter().all(|&generation| generation == 2),
        "{judged:?}"
    );
}
