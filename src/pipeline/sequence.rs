//! Results of several workers put back in each camera's order. Pure: no threads, no clock.

use crate::detection::Outcome;
use std::collections::BTreeMap;

/// One camera's outcomes that wait for those before them.
#[derive(Default)]
struct Waiting {
    next: u64,
    early: BTreeMap<u64, Outcome>,
}

/// Holds back an outcome until all places before it have come. The window is as wide as the workers,
/// because a worker has one frame at a time and every taken frame gives one outcome, failed or not.
#[derive(Default)]
pub struct Sequencer {
    cameras: BTreeMap<usize, Waiting>,
}

impl Sequencer {
    /// Expects outcomes of the camera with this number.
    pub fn add(&mut self, camera: usize) {
        self.cameras.insert(camera, Waiting::default());
    }

    /// Forgets the camera; outcomes of it that still come are dropped.
    pub fn remove(&mut self, camera: usize) {
        self.cameras.remove(&camera);
    }

    /// Takes the outcome of the camera's `place`-th taken frame and gives what is now in order to `release`.
    pub fn accept(&mut self, place: u64, outcome: Outcome, mut release: impl FnMut(Outcome)) {
        let Some(camera) = self.cameras.get_mut(&outcome.camera) else { return };
        camera.early.insert(place, outcome);
        while let Some(outcome) = camera.early.remove(&camera.next) {
            camera.next += 1;
            release(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::Verdict;
    use std::time::Instant;

    fn outcome(camera: usize, seq: u64) -> Outcome {
        Outcome { camera, seq, ..Outcome::of_nothing(Instant::now(), Verdict::Failed(String::new())) }
    }

    #[test]
    fn outcomes_leave_in_order_per_camera() {
        let mut sequencer = Sequencer::default();
        (0..2).for_each(|camera| sequencer.add(camera));
        let mut seen = Vec::new();
        for (camera, place) in [(0, 1), (1, 0), (0, 2), (0, 0), (1, 1)] {
            sequencer.accept(place, outcome(camera, 10 + place), |o| seen.push((o.camera, o.seq)));
        }
        assert_eq!(seen, [(1, 10), (0, 10), (0, 11), (0, 12), (1, 11)]);
    }

    #[test]
    fn an_outcome_of_a_camera_that_is_gone_is_dropped() {
        let mut sequencer = Sequencer::default();
        sequencer.add(0);
        sequencer.remove(0);
        sequencer.accept(0, outcome(0, 0), |_| panic!("nobody knows this camera"));
    }
}
