//! Box voting: a kept box becomes the mean of the candidates that it stands for.
//!
//! Source: Gidaris and Komodakis, "Object Detection via a Multi-Region and Semantic Segmentation-Aware CNN
//! Model", 2015, section 4.3; the weight is a power of the score here.

use super::nms::iou;
use crate::detection::Detection;
use crate::model::BoxVoting;

/// The share of what the limit asks for that a side's overlap must reach at least. A little less than all, so
/// that rounding never leaves out a box that the exact comparison takes.
const SLACK: f32 = 0.99;

/// The sides of an overlap with `bbox` without which no box comes beyond `limit` (IoU): a union is no smaller
/// than the box, and an overlap no wider and no higher.
fn least_overlap(bbox: &[f32; 4], limit: f32) -> [f32; 2] {
    [bbox[2] - bbox[0], bbox[3] - bbox[1]].map(|side| side * limit * SLACK)
}

/// Whether two boxes overlap by at least `least` in both directions. Cheaper than their IoU, and nearly all
/// candidates of a frame lie elsewhere.
fn is_near(a: &[f32; 4], b: &[f32; 4], least: [f32; 2]) -> bool {
    a[2].min(b[2]) - a[0].max(b[0]) >= least[0] && a[3].min(b[3]) - a[1].max(b[1]) >= least[1]
}

/// Replaces each box of `kept`, which NMS chose from `candidates`, by the weighted mean of those that vote
/// for it. The box itself is among them. Boxes are of any unit, as long as all are of the same; scores and
/// order stay.
pub fn vote(candidates: &[Detection], voting: BoxVoting, kept: &mut [Detection]) {
    for detection in kept {
        let (mut sum, mut total) = ([0.0; 4], 0.0);
        let least = least_overlap(&detection.bbox, voting.iou);
        for candidate in candidates {
            if candidate.class != detection.class
                || !is_near(&candidate.bbox, &detection.bbox, least)
                || iou(&candidate.bbox, &detection.bbox) <= voting.iou
            {
                continue;
            }
            // By multiplication: `powf` may differ in the last bit from one CPU's library to another's.
            let weight = (0..voting.score_power).fold(1.0, |weight, _| weight * candidate.score);
            total += weight;
            for (sum, side) in sum.iter_mut().zip(candidate.bbox) {
                *sum += weight * side;
            }
        }
        // A box without area overlaps nothing, not even itself: it stays as it is.
        if total > 0.0 {
            detection.bbox = sum.map(|side| side / total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splitmix::SplitMix64;

    #[test]
    fn no_box_that_would_vote_is_left_out_by_its_sides() {
        let mut random = SplitMix64::new(5);
        let mut side = || random.unit() as f32;
        let (mut near, mut votes) = (0, 0);
        for round in 0..200_000 {
            // Boxes moved and stretched by up to a third, which are beside the limit as often as not.
            let (w, h) = (1.0 + 300.0 * side(), 1.0 + 300.0 * side());
            let a = [0.0, 0.0, w, h].map(|edge| edge + 200.0 * side() * f32::from(round % 2 == 0));
            let b = [a[0] + w * side() / 3.0, a[1] + h * side() / 3.0, a[2] - w * side() / 3.0, a[3]];
            for limit in [0.05, 0.5, 0.7, 0.9] {
                let is_over = iou(&a, &b) > limit;
                let is_near = is_near(&b, &a, least_overlap(&a, limit));
                assert!(is_near || !is_over, "{a:?} {b:?} {limit}");
                near += usize::from(is_near);
                votes += usize::from(is_over);
            }
        }
        assert!(votes > 100_000 && near > votes, "{votes} of {near}");
    }
}
