//! Frames that were told not long ago, so that a verdict that comes some time after a message finds its frame.
//!
//! Of each camera at most [`MOST_FRAMES`] are remembered, and at most [`MOST_BYTES`] of pictures as the camera
//! gave them. Where there is no room, the oldest frame goes that showed no more and no other labels than the
//! frame told before it; those that showed something new are what people are told of, and answer, late.

use super::sampling::{self, LookedAt};
use super::view::Sighting;
use crate::frame::RawFrame;
use crate::samples::{Reason, Sample};
use crate::tracking::TrackId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Most frames of one camera.
pub(super) const MOST_FRAMES: usize = 64;
/// Most bytes of one camera's frames.
const MOST_BYTES: usize = 8 << 20;
/// So many of the newest frames stay whatever they show.
const NEWEST: usize = 16;

/// A frame that was told.
pub(super) struct Told {
    pub seq: u64,
    /// As it would be kept.
    pub sample: Sample,
    pub raw: Arc<RawFrame>,
    /// The objects that it shows, each with its box and score.
    objects: Vec<(TrackId, [f32; 4], f32)>,
    /// It showed other labels, or another number of them, than the frame told before.
    is_new: bool,
}

/// Of one camera, oldest first.
struct Frames {
    /// Number under which the pipeline knows the camera: with another one its frames are counted from 0 again.
    number: usize,
    frames: VecDeque<Told>,
    bytes: usize,
    /// Labels told last, sorted.
    last: Vec<String>,
}

/// The frames of all cameras; none while no samples are kept.
#[derive(Default)]
pub(super) struct Recent {
    cameras: BTreeMap<Arc<str>, Frames>,
}

impl Recent {
    /// Forgets the frames of all cameras but these, given by id and number.
    pub fn keep_only<'a>(&mut self, cameras: impl Iterator<Item = (&'a Arc<str>, usize)>) {
        let numbers: BTreeMap<&Arc<str>, usize> = cameras.collect();
        self.cameras.retain(|id, frames| numbers.get(id) == Some(&frames.number));
    }

    /// Remembers a frame that was told. What scores at least `lowest`, or was told, is remembered with it.
    pub fn remember(&mut self, frame: &LookedAt<'_>, lowest: f32) {
        let (outcome, camera) = (frame.outcome, frame.camera);
        let sample = sampling::sample(frame, [Reason::Feedback].into(), lowest);
        let mut labels: Vec<String> = sample.told().map(|object| object.label.clone()).collect();
        labels.sort_unstable();
        let new = || Frames { number: outcome.camera, frames: VecDeque::new(), bytes: 0, last: Vec::new() };
        let frames = self.cameras.entry(Arc::clone(camera)).or_insert_with(new);
        if frames.number != outcome.camera {
            *frames = new();
        }
        let is_new = frames.last != labels;
        frames.last = labels;
        let object =
            |sighting: &Sighting| Some((sighting.track?, sighting.detection.bbox, sighting.detection.score));
        let objects = frame.sightings.iter().filter_map(object).collect();
        frames.add(Told { seq: outcome.seq, sample, raw: Arc::clone(&outcome.raw), objects, is_new });
    }

    /// The camera's frame with this number, if it is remembered.
    pub fn find(&self, camera: &str, seq: u64) -> Option<&Told> {
        self.cameras.get(camera)?.frames.iter().rev().find(|told| told.seq == seq)
    }

    /// The frame that shows the object best, of those that are remembered.
    pub fn best_of(&self, object: TrackId) -> Option<&Told> {
        let frames = self.cameras.values().flat_map(|frames| &frames.frames);
        let shown = frames.filter_map(|told| Some((told.score_of(object)?, told)));
        shown.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, told)| told)
    }
}

impl Told {
    /// Where the object is, pixels.
    pub fn box_of(&self, object: TrackId) -> Option<[f32; 4]> {
        self.objects.iter().find(|(known, ..)| *known == object).map(|(_, bbox, _)| *bbox)
    }

    fn score_of(&self, object: TrackId) -> Option<f32> {
        self.objects.iter().find(|(known, ..)| *known == object).map(|(.., score)| *score)
    }
}

impl Frames {
    fn add(&mut self, told: Told) {
        self.bytes += told.raw.data.len();
        self.frames.push_back(told);
        // The newest stays however large it is.
        while self.frames.len() > 1 && (self.frames.len() > MOST_FRAMES || self.bytes > MOST_BYTES) {
            let old = self.frames.len().saturating_sub(NEWEST);
            let ordinary = self.frames.iter().take(old).position(|told| !told.is_new);
            if let Some(gone) = self.frames.remove(ordinary.unwrap_or(0)) {
                self.bytes -= gone.raw.data.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::{Detection, Outcome, Verdict};
    use crate::frame::{Encoding, Turn};
    use crate::scene::generations::GenerationFacts;
    use std::time::Instant;

    fn facts() -> GenerationFacts {
        GenerationFacts { labels: vec!["person".into(), "cat".into()], ..GenerationFacts::default() }
    }

    fn remember(recent: &mut Recent, number: usize, seq: u64, persons: usize, bytes: usize) {
        let object = Detection { class: 0, score: 0.9, bbox: [0.0, 0.0, 1.0, 1.0] };
        let raw = RawFrame {
            width: 0,
            height: 0,
            encoding: Encoding::Jpeg,
            turn: Turn::NONE,
            data: vec![0; bytes],
        };
        let outcome = Outcome {
            camera: number,
            seq,
            raw: Arc::new(raw),
            ..Outcome::of_nothing(Instant::now(), Verdict::Detected(vec![object; persons]))
        };
        let sighting = Sighting { detection: object, wanted: true, told: true, track: None };
        let frame = LookedAt {
            outcome: &outcome,
            sightings: &vec![sighting; persons],
            camera: &Arc::from("front"),
            threshold: 0.5,
            judge: &facts(),
        };
        recent.remember(&frame, 0.25);
    }

    #[test]
    fn what_showed_something_new_is_remembered_longest() {
        let mut recent = Recent::default();
        for seq in 0..1000 {
            // Every hundredth frame shows one more person.
            remember(&mut recent, 0, seq, 1 + seq as usize / 100, 10);
        }
        assert_eq!(recent.cameras["front"].frames.len(), MOST_FRAMES);
        for seq in (0..1000).step_by(100) {
            assert!(recent.find("front", seq).is_some(), "{seq} showed one more");
        }
        assert!((1000 - NEWEST as u64..1000).all(|seq| recent.find("front", seq).is_some()), "the newest");
        assert!(recent.find("front", 899).is_none() && recent.find("back", 0).is_none());
    }

    #[test]
    fn bytes_are_bounded_and_the_newest_frame_stays() {
        let mut recent = Recent::default();
        for seq in 0..100 {
            remember(&mut recent, 0, seq, seq as usize % 3, 1 << 20);
            let frames = &recent.cameras["front"];
            assert!(frames.bytes <= MOST_BYTES, "{}", frames.bytes);
            assert_eq!(frames.bytes, frames.frames.iter().map(|told| told.raw.data.len()).sum::<usize>());
            assert!(recent.find("front", seq).is_some());
        }
        remember(&mut recent, 0, 100, 1, 2 * MOST_BYTES);
        assert_eq!(recent.cameras["front"].frames.len(), 1);
    }

    #[test]
    fn a_camera_that_was_restarted_counts_from_0_again() {
        let mut recent = Recent::default();
        (0..3).for_each(|seq| remember(&mut recent, 0, seq, 1, 10));
        remember(&mut recent, 1, 0, 1, 10);
        assert!(recent.find("front", 0).is_some() && recent.find("front", 2).is_none());
        let front: Arc<str> = Arc::from("front");
        recent.keep_only([(&front, 1)].into_iter());
        assert!(recent.find("front", 0).is_some());
        recent.keep_only([(&front, 2)].into_iter());
        assert!(recent.find("front", 0).is_none());
    }
}
