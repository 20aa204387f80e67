//! What it is worth to take a sighting for a track's object.

use super::geometry::iou;
use super::track::{Followed, Seen};

/// Logarithm of how much denser a sure track's sightings lie at their place than new objects and false alarms
/// do, where a distance is measured in sides of the box.
const NOVELTY: f64 = 4.0;
/// Beyond this sum of squared distances in standard deviations a pair is none: four coordinates, 99.9 % lie
/// under 18.5; boxes of real detectors have heavier tails.
const GATE: f64 = 16.0;
/// A coordinate of size adds at most this: somebody who steps behind a car halves its height at once.
const SIZE_CAP: f64 = 9.0;
/// What full overlap is worth, however improbable the filter finds it: who steps behind something has a part
/// of its box left, of which the centre jumps. Half of that overlap is worth nothing more than something new.
const TOGETHER: f64 = 6.0;
const LEAST_OVERLAP: f64 = 0.1;
/// A tentative track may be a false alarm.
const TENTATIVE: f64 = 2.0;
/// A weak sighting may be one.
const WEAK: f64 = 1.0;
/// Another class costs this, and must be at the same place.
const OTHER_CLASS: f64 = 2.0;
const OTHER_CLASS_IOU: f64 = 0.5;
/// Another class that this track was taken for before.
const KNOWN_CLASS: f64 = 0.7;

/// The logarithm of the odds that `seen` shows the object of `track` and nothing new; a pair below 0 is none.
pub(super) fn gain(track: &Followed, seen: &Seen) -> f64 {
    let side = track.last.side();
    let (mut distance, mut spread) = (0.0, 0.0);
    for (i, (squared, variance)) in track.innovation(seen).into_iter().enumerate() {
        let ratio = squared / variance;
        distance += if i < 2 { ratio } else { ratio.min(SIZE_CAP) };
        spread += (variance / (side * side)).ln();
    }
    let by_filter = if distance > GATE { -1.0 } else { NOVELTY - (distance + spread) / 2.0 };
    let by_overlap = TOGETHER * (iou(&track.place(), &seen.place) - LEAST_OVERLAP);
    let mut gain = by_filter.max(by_overlap);
    if track.id.is_none() {
        gain -= TENTATIVE;
    }
    if !seen.strong {
        gain -= WEAK;
    }
    if seen.class != track.votes.class() {
        if iou(&track.place(), &seen.place) < OTHER_CLASS_IOU {
            return -1.0;
        }
        gain -= if track.votes.knows(seen.class) { KNOWN_CLASS } else { OTHER_CLASS };
    }
    gain
}
