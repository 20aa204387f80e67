//! What was told goes on being told while it scores a little less, and keeps its number.
//!
//! An object is the same as one that was told not long ago if its label is the same and its box overlaps the
//! one that was told last. That is enough for what stands or moves slowly; what moves by more than its own size
//! from frame to frame gets a new number and must reach the higher score again.

use super::ObjectId;
use crate::detection::{Detection, overlap};
use std::time::{Duration, Instant};

/// Intersection over union from which two boxes are one object.
const SAME: f32 = 0.2;
/// Most objects that are remembered: more than any frame shows.
const MOST: usize = 256;

/// A detection with the scores above which it is told.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// What was found.
    pub detection: Detection,
    /// For one that was not there.
    pub on: f32,
    /// For one that was told a moment ago; not above `on`.
    pub off: f32,
}

/// An object that was told.
#[derive(Debug, Clone, Copy)]
struct Known {
    object: ObjectId,
    class: usize,
    bbox: [f32; 4],
    last: Instant,
}

/// The objects of one camera that were told not long ago.
#[derive(Debug, Clone, Default)]
pub struct Following {
    next: ObjectId,
    known: Vec<Known>,
}

impl Following {
    /// The number of each candidate that is told, in the same order; none for the others. `candidates` are those
    /// of one frame, best first; what was not told for `memory` is forgotten.
    pub fn tell(
        &mut self,
        now: Instant,
        candidates: &[Candidate],
        memory: Duration,
    ) -> Vec<Option<ObjectId>> {
        self.known.retain(|known| now.saturating_duration_since(known.last) <= memory);
        // Objects found in this frame are moved to the end, where none of its other candidates can take them.
        let mut free = self.known.len();
        let mut told = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let Detection { class, score, bbox } = candidate.detection;
            if score <= candidate.off.min(candidate.on) {
                told.push(None);
                continue;
            }
            let overlaps = self.known[..free]
                .iter()
                .enumerate()
                .filter(|(_, known)| known.class == class)
                .map(|(place, known)| (place, overlap(&known.bbox, &bbox)));
            let best = overlaps.filter(|(_, iou)| *iou >= SAME).max_by(|a, b| a.1.total_cmp(&b.1));
            let object = match best {
                Some((place, _)) => {
                    free -= 1;
                    let known = self.known.remove(place);
                    Some(known.object)
                }
                None if score > candidate.on => {
                    self.next += 1;
                    Some(self.next)
                }
                None => None,
            };
            if let Some(object) = object {
                self.known.push(Known { object, class, bbox, last: now });
            }
            told.push(object);
        }
        let surplus = self.known.len().saturating_sub(MOST);
        self.known.drain(..surplus);
        told
    }

    /// Nothing was told so far: classes or scores mean something else from now on. Numbers are not used twice.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Duration = Duration::from_secs(2);

    fn candidate(class: usize, score: f32, left: f32) -> Candidate {
        let bbox = [left, 0.0, left + 100.0, 200.0];
        Candidate { detection: Detection { class, score, bbox }, on: 0.5, off: 0.35 }
    }

    struct Camera {
        following: Following,
        start: Instant,
    }

    impl Camera {
        fn new() -> Self {
            Self { following: Following::default(), start: Instant::now() }
        }

        fn tell(&mut self, ms: u64, candidates: &[Candidate]) -> Vec<Option<ObjectId>> {
            self.following.tell(self.start + Duration::from_millis(ms), candidates, MEMORY)
        }
    }

    #[test]
    fn what_was_told_stays_at_a_lower_score_where_it_was() {
        let mut camera = Camera::new();
        assert_eq!(camera.tell(0, &[candidate(0, 0.4, 0.0)]), [None], "never above the higher score");
        assert_eq!(camera.tell(100, &[candidate(0, 0.6, 0.0)]), [Some(1)]);
        assert_eq!(camera.tell(200, &[candidate(0, 0.4, 20.0)]), [Some(1)], "a little aside");
        assert_eq!(camera.tell(300, &[candidate(0, 0.4, 140.0)]), [None], "elsewhere");
        assert_eq!(camera.tell(400, &[candidate(1, 0.4, 20.0)]), [None], "another label");
        assert_eq!(camera.tell(500, &[candidate(0, 0.35, 20.0)]), [None], "not above the lower score");
        assert_eq!(camera.tell(600, &[candidate(0, 0.36, 20.0)]), [Some(1)], "gone for three frames");
    }

    #[test]
    fn what_was_gone_for_long_must_reach_the_higher_score_again() {
        let mut camera = Camera::new();
        camera.tell(0, &[candidate(0, 0.6, 0.0)]);
        assert_eq!(camera.tell(2000, &[candidate(0, 0.4, 0.0)]), [Some(1)]);
        assert_eq!(camera.tell(4001, &[candidate(0, 0.4, 0.0)]), [None]);
        assert_eq!(camera.tell(4100, &[candidate(0, 0.6, 0.0)]), [Some(2)], "another number");
    }

    #[test]
    fn one_object_holds_one_detection_only() {
        let mut camera = Camera::new();
        camera.tell(0, &[candidate(0, 0.9, 0.0)]);
        // Two low ones at its place: only the better one is what was there.
        let both = [candidate(0, 0.45, 5.0), candidate(0, 0.4, 0.0)];
        assert_eq!(camera.tell(100, &both), [Some(1), None]);
        let both = [candidate(0, 0.9, 0.0), candidate(0, 0.8, 30.0)];
        assert_eq!(camera.tell(200, &both), [Some(1), Some(2)]);
        let both = [candidate(0, 0.45, 30.0), candidate(0, 0.4, 0.0)];
        assert_eq!(camera.tell(300, &both), [Some(2), Some(1)], "each by its own place");
    }

    #[test]
    fn a_stationary_object_that_flickers_is_told_more_often_and_without_new_numbers() {
        // Scores as a night camera gives them around the threshold, from a fixed seed.
        let mut random = crate::splitmix::SplitMix64::new(7);
        let (mut camera, mut plain, mut kept, mut last) = (Camera::new(), 0, 0, None);
        for frame in 0..1000 {
            let score = 0.36 + 0.3 * random.unit() as f32;
            plain += usize::from(score > 0.5);
            if let [Some(object)] = camera.tell(frame * 200, &[candidate(0, score, 0.0)])[..] {
                kept += 1;
                assert!(last.is_none_or(|last| last == object), "frame {frame}");
                last = Some(object);
            }
        }
        assert!(plain < 600 && kept > 990, "{plain} without, {kept} with");
    }

    #[test]
    fn an_off_score_above_the_on_score_changes_nothing() {
        let mut camera = Camera::new();
        let high = Candidate { off: 0.9, ..candidate(0, 0.6, 0.0) };
        assert_eq!(camera.tell(0, &[high]), [Some(1)]);
        assert_eq!(camera.tell(100, &[high]), [Some(1)]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut camera = Camera::new();
        for frame in 0..100 {
            let left = |i: u8| f32::from(i) * 1000.0 + frame as f32 * 1e6;
            let many: Vec<_> = (0..100).map(|i| candidate(0, 0.9, left(i))).collect();
            camera.tell(frame, &many);
            assert!(camera.following.known.len() <= MOST);
        }
    }
}
