//! A camera that was pushed: all boxes move at once, by the same distance.

use super::geometry::{Place, iou};
use super::track::{Followed, Seen};

/// Fewer objects that agree could be people who walk together.
const LEAST_OBJECTS: usize = 2;
/// Tracks that are asked, those of the best scores; bounds the work of a frame.
const ASKED: usize = 12;
/// Detections that are looked at, the best.
const LOOKED_AT: usize = 24;
/// Overlap at which a box is where it was expected.
const FITS: f64 = 0.5;
/// Share of the objects that must agree on a distance.
const AGREEMENT: f64 = 0.6;
/// Sizes of one object differ by this factor at most.
const SIZE_RATIO: f64 = 1.5;

/// The distance by which everything moved since it was expected, if most objects say the same and not many
/// are where they were expected. `seen` is sorted, best first.
pub(super) fn shake(tracks: &[Followed], seen: &[Seen]) -> Option<[f64; 2]> {
    let mut asked: Vec<&Followed> = tracks.iter().filter(|t| t.id.is_some() && t.misses <= 1).collect();
    asked.sort_by(|a, b| b.top_score.total_cmp(&a.top_score));
    asked.truncate(ASKED);
    let seen = &seen[..seen.len().min(LOOKED_AT)];
    if asked.len() < LEAST_OBJECTS || seen.len() < LEAST_OBJECTS {
        return None;
    }
    let expected: Vec<(usize, Place)> = asked.iter().map(|t| (t.votes.class(), t.place())).collect();
    let at_rest = fitting(&expected, seen, [0.0, 0.0]);
    // A detection is missed now and then, so not all can agree.
    let enough = LEAST_OBJECTS.max((AGREEMENT * expected.len().min(seen.len()) as f64).ceil() as usize);
    if 2 * at_rest >= enough {
        return None;
    }
    let candidates = expected.iter().flat_map(|(class, place)| {
        let alike = seen.iter().filter(|s| s.class == *class && similar(place, &s.place));
        alike.map(|s| [s.place.centre[0] - place.centre[0], s.place.centre[1] - place.centre[1]])
    });
    let (support, by) = candidates
        .map(|by| (fitting(&expected, seen, by), by))
        .max_by(|(a, by), (b, other)| a.cmp(b).then(length(other).total_cmp(&length(by))))?;
    (support >= enough && support > at_rest + 1).then_some(by)
}

/// Tracks that have a detection where they would be, had they moved by this.
fn fitting(expected: &[(usize, Place)], seen: &[Seen], by: [f64; 2]) -> usize {
    let fits = |class: usize, place: &Place| {
        let place = place.moved(by);
        seen.iter().any(|s| s.class == class && iou(&place, &s.place) >= FITS)
    };
    expected.iter().filter(|(class, place)| fits(*class, place)).count()
}

fn similar(a: &Place, b: &Place) -> bool {
    (0..2).all(|i| a.size[i].max(b.size[i]) <= SIZE_RATIO * a.size[i].min(b.size[i]))
}

fn length(by: &[f64; 2]) -> f64 {
    by[0].hypot(by[1])
}
