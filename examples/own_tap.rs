//! A tap of your own: `cargo run --release --example own_tap`.
//!
//! A tap sees every frame with what was found in it, in each camera's order. This one keeps the frames whose
//! best score is neither sure nor absent, which teach most; the demo pictures stand for a camera's.

use retinad::capture::read_picture;
use retinad::detection::{Outcome, Times, Verdict};
use retinad::detector::{Detector, Generation};
use retinad::frame::RawFrame;
use retinad::tuning::hooks::FrameTap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Keeps what the model is unsure of.
#[derive(Default)]
struct Unsure {
    kept: Vec<(u64, f32, Arc<RawFrame>)>,
}

impl FrameTap for Unsure {
    fn see(&mut self, outcome: &Outcome) {
        let Some(found) = outcome.detections() else { return };
        let unsure = found.iter().map(|detection| detection.score).find(|score| (0.3..0.7).contains(score));
        if let Some(score) = unsure {
            // The frame is shared: keeping it copies nothing.
            self.kept.push((outcome.seq, score, Arc::clone(&outcome.raw)));
        }
    }
}

/// Public, so that a test can run it.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generation = Generation::load(&root.join("models/retinad-m-320-int8.onnx"), 0)?;
    let mut detector = Detector::new(&generation, 1)?;
    let mut tap = Unsure::default();
    for (seq, name) in ["astronaut.jpg", "chelsea.jpg", "coffee.jpg", "grace_hopper.jpg"].iter().enumerate() {
        let raw = read_picture(&root.join("examples/pictures").join(name))?;
        let mut times = Times::default();
        let found = detector.detect(&raw, 0.3, &mut times)?;
        tap.see(&Outcome {
            camera: 0,
            seq: seq as u64,
            captured: Instant::now(),
            captured_wall: SystemTime::now(),
            raw: Arc::new(raw),
            generation: generation.number,
            width: detector.picture().width,
            height: detector.picture().height,
            superseded_before: 0,
            times,
            verdict: Verdict::Detected(found),
            moving: None,
        });
    }
    for (seq, score, raw) in &tap.kept {
        println!("frame {seq} is worth a look: a score of {score:.2}, {} bytes", raw.data.len());
    }
    Ok(())
}
