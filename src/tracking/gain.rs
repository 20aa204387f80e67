//! What it is worth to take a sighting for a track's object.

use super::geometry::{Place, iou};
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
    let innovation = track.innovation(seen);
    let ratios = innovation.map(|(squared, variance)| squared / variance);
    let distance = ratios[0] + ratios[1] + ratios[2].min(SIZE_CAP) + ratios[3].min(SIZE_CAP);
    let overlap = iou(&track.place(), &seen.place);
    if distance > GATE && overlap <= LEAST_OVERLAP {
        return -1.0;
    }
    let by_overlap = TOGETHER * (overlap - LEAST_OVERLAP);
    let mut gain = by_overlap;
    if distance <= GATE {
        let square = track.last.size[0] * track.last.size[1];
        let spread: f64 = innovation.iter().map(|(_, variance)| variance / square).product();
        gain = by_overlap.max(NOVELTY - (distance + spread.ln()) / 2.0);
    }
    if track.id.is_none() {
        gain -= TENTATIVE;
    }
    if !seen.strong {
        gain -= WEAK;
    }
    if seen.class != track.votes.class() {
        if overlap < OTHER_CLASS_IOU {
            return -1.0;
        }
        gain -= if track.votes.knows(seen.class) { KNOWN_CLASS } else { OTHER_CLASS };
    }
    gain
}

/// Sides of the box a second; nobody is faster, as far as pass three is concerned.
const FASTEST: f64 = 2.0;
/// Sides of the box that a detection may be off in no time.
const SLACK: f64 = 1.0;
/// An object that is found again has this factor between its sizes at most.
const SAME_SIZE: f64 = 1.5;
/// A box that touches the picture's edge may be of somebody who comes in, by this share of the picture's
/// side.
const ENTRANCE: f64 = 0.02;

/// What it is worth, 0 to 1, to take a sighting that nobody expected for an object that is missed. Inside of
/// a picture people neither vanish nor appear; who turned around while he was missed is where no filter
/// expects him.
pub(super) fn found_again(track: &Followed, seen: &Seen, now: u64, sides: [f64; 2]) -> f64 {
    let Place { centre, size } = seen.place;
    let comes_in = (0..2).any(|i| {
        let margin = ENTRANCE * sides[i];
        centre[i] - size[i] / 2.0 <= margin || centre[i] + size[i] / 2.0 >= sides[i] - margin
    });
    let alike =
        (0..2).all(|i| size[i].max(track.last.size[i]) <= SAME_SIZE * size[i].min(track.last.size[i]));
    if comes_in || !alike || track.leaving || seen.class != track.votes.class() {
        return -1.0;
    }
    let unseen = now.saturating_sub(track.last_seen) as f64 / 1000.0;
    let reach = (FASTEST * unseen + SLACK) * track.last.side();
    let distance = (centre[0] - track.last.centre[0]).hypot(centre[1] - track.last.centre[1]);
    1.0 - distance / reach
}
