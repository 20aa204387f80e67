//! Results of several workers put back in each camera's order. Pure: no threads, no clock.

use crate::detection::Outcome;
use std::collections::BTreeMap;

/// Holds back an outcome until all places before it have come. The window is as wide as the workers, because a worker holds one
/// frame at a time and every taken frame gives one outcome, failed or not.
pub struct Sequencer {
    cameras: Vec<(u64, BTreeMap<u64, Outcome>)>,
}

impl Sequencer {
    /// For `cameras` cameras.
    #[must_use]
    pub fn new(cameras: usize) -> Self {
        Self { cameras: (0..cameras).map(|_| (0, BTreeMap::new())).collect() }
    }

    /// Takes the outcome of the camera's `place`-th taken frame and gives what is now in order to `release`.
    pub fn accept(&mut self, place: u64, outcome: Outcome, mut release: impl FnMut(Outcome)) {
        let Some((next, held)) = self.cameras.get_mut(outcome.camera) else { return };
        held.insert(place, outcome);
        while let Some(outcome) = held.remove(next) {
            *next += 1;
            release(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::{Times, Verdict};
    use crate::frame::{Encoding, RawFrame};
    use std::sync::Arc;
    use std::time::{Instant, SystemTime};

    fn outcome(camera: usize, seq: u64) -> Outcome {
        Outcome {
            camera,
            seq,
            captured: Instant::now(),
            captured_wall: SystemTime::now(),
            raw: Arc::new(RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, data: Vec::new() }),
            generation: 0,
            width: 1,
            height: 1,
            superseded_before: 0,
            times: Times::default(),
            verdict: Verdict::Failed(String::new()),
        }
    }

    #[test]
    fn outcomes_leave_in_order_per_camera() {
        let mut sequencer = Sequencer::new(2);
        let mut seen = Vec::new();
        for (camera, place) in [(0, 1), (1, 0), (0, 2), (0, 0), (1, 1)] {
            sequencer.accept(place, outcome(camera, 10 + place), |o| seen.push((o.camera, o.seq)));
        }
        assert_eq!(seen, [(1, 10), (0, 10), (0, 11), (0, 12), (1, 11)]);
    }
}
