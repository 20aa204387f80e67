//! Whether the daemon does its work: every camera makes progress, the link's loop turns, and the recorder
//! answers. Pure: time is an argument.

use crate::contract::Problem;
use std::time::{Duration, Instant};

/// Longest time without a turn of the link's loop that is not a hang.
const LINK_PATIENCE: Duration = Duration::from_secs(30);
/// Longest time without an answer of the recorder that is not a hang: a disk may take long to synchronise.
const RECORDER_PATIENCE: Duration = Duration::from_secs(120);

/// Signs of life, and when each was seen last.
pub(super) struct Watchdog {
    cameras_progress: bool,
    recorder_answered: bool,
    state_is_kept: bool,
    last_recorder: Instant,
    turns: u64,
    last_turn: Instant,
}

impl Watchdog {
    pub fn new(now: Instant) -> Self {
        Self {
            cameras_progress: false,
            recorder_answered: false,
            state_is_kept: true,
            last_recorder: now,
            turns: 0,
            last_turn: now,
        }
    }

    /// Every camera's share of the pipeline makes progress; holds until the next look.
    pub fn cameras_progress(&mut self) {
        self.cameras_progress = true;
    }

    /// The recorder has done a round; `well`: everything could be written.
    pub fn recorder_answered(&mut self, well: bool) {
        (self.recorder_answered, self.state_is_kept) = (true, well);
    }

    /// Whether all is well, so that the watchdog may be fed. `turns` counts the turns of the link's loop.
    pub fn is_well(&mut self, now: Instant, turns: u64) -> bool {
        if std::mem::take(&mut self.recorder_answered) {
            self.last_recorder = now;
        }
        if turns != std::mem::replace(&mut self.turns, turns) {
            self.last_turn = now;
        }
        let lives = |last: Instant, patience| now.saturating_duration_since(last) < patience;
        std::mem::take(&mut self.cameras_progress)
            && lives(self.last_turn, LINK_PATIENCE)
            && lives(self.last_recorder, RECORDER_PATIENCE)
    }

    /// What is wrong with the state folder.
    pub fn problem(&self) -> Option<Problem> {
        (!self.state_is_kept).then_some(Problem::StateNotKept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_of_life_is_needed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watchdog = Watchdog::new(start);
        assert!(!watchdog.is_well(at(1), 1), "no camera was looked at yet");
        watchdog.cameras_progress();
        assert!(watchdog.is_well(at(2), 2) && !watchdog.is_well(at(3), 3), "progress holds for one look");
        watchdog.cameras_progress();
        assert!(!watchdog.is_well(at(40), 3), "the link's loop stands still");
        watchdog.cameras_progress();
        assert!(watchdog.is_well(at(41), 4));
        watchdog.cameras_progress();
        assert!(!watchdog.is_well(at(121), 5), "the recorder is silent");
        watchdog.recorder_answered(false);
        watchdog.cameras_progress();
        assert!(watchdog.is_well(at(122), 6), "a disk that is full is no hang");
        assert_eq!(watchdog.problem(), Some(Problem::StateNotKept));
    }
}
