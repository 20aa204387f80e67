//! Box voting: a kept box becomes the mean of the candidates that it stands for.
//!
//! Source: Gidaris and Komodakis, "Object Detection via a Multi-Region and Semantic Segmentation-Aware CNN
//! Model", 2015, section 4.3; the weight is a power of the score here.

use super::nms::iou;
use crate::detection::Detection;
use crate::model::BoxVoting;

/// Replaces each box of `kept`, which NMS chose from `candidates`, by the weighted mean of those that vote
/// for it. The box itself is among them. Boxes are of any unit, as long as all are of the same; scores and
/// order stay.
pub fn vote(candidates: &[Detection], voting: BoxVoting, kept: &mut [Detection]) {
    for detection in kept {
        let (mut sum, mut total) = ([0.0; 4], 0.0);
        for candidate in candidates {
            if candidate.class != detection.class || iou(&candidate.bbox, &detection.bbox) <= voting.iou {
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
