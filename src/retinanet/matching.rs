//! Which anchor answers for which truth (`retinanet.md`, section 4; torchvision `Matcher`, detectron2
//! `matcher.py`).

use super::nms::iou;

/// An anchor's part in a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Answers for the truth of this index.
    Truth(usize),
    /// A negative for every class.
    Background,
    /// In no loss.
    Ignored,
}

/// IoU limits, closed below: from `positive` a truth, from `background` to it ignored, below it background.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// 0.5 in the paper.
    pub positive: f32,
    /// 0.4 in the paper.
    pub background: f32,
}

/// Each anchor's part, and how many truths no anchor overlaps.
///
/// Low-quality matches are on: every anchor that ties for a truth's highest IoU becomes positive, for the
/// truth *it* overlaps best. A truth without any overlap is skipped and counted; the libraries make every
/// anchor at IoU 0 positive for it.
#[must_use]
pub fn match_anchors(anchors: &[[f32; 4]], truths: &[[f32; 4]], limits: Limits) -> (Vec<Match>, usize) {
    let overlaps: Vec<Vec<f32>> =
        truths.iter().map(|truth| anchors.iter().map(|anchor| iou(truth, anchor)).collect()).collect();
    let highest: Vec<f32> = overlaps.iter().map(|row| row.iter().copied().fold(0.0, f32::max)).collect();
    let part = |anchor: usize| {
        let mut best = (0.0, 0);
        for (truth, row) in overlaps.iter().enumerate() {
            if row[anchor] > best.0 {
                best = (row[anchor], truth);
            }
        }
        let low_quality = overlaps.iter().zip(&highest).any(|(row, &high)| high > 0.0 && row[anchor] == high);
        if best.0 >= limits.positive || low_quality {
            Match::Truth(best.1)
        } else if best.0 >= limits.background {
            Match::Ignored
        } else {
            Match::Background
        }
    };
    ((0..anchors.len()).map(part).collect(), highest.iter().filter(|&&high| high == 0.0).count())
}

/// Deltas `dx dy dw dh` that decode to `truth` on `anchor`, weights 1 (torchvision and detectron2, the same
/// bits).
#[must_use]
pub fn encode_box(truth: &[f32; 4], anchor: &[f32; 4]) -> [f32; 4] {
    let side = |b: &[f32; 4]| (b[2] - b[0], b[3] - b[1]);
    let ((w, h), (tw, th)) = (side(anchor), side(truth));
    let centre = |b: &[f32; 4], (w, h): (f32, f32)| (b[0] + 0.5 * w, b[1] + 0.5 * h);
    let ((cx, cy), (tx, ty)) = (centre(anchor, (w, h)), centre(truth, (tw, th)));
    [(tx - cx) / w, (ty - cy) / h, (tw / w).ln(), (th / h).ln()]
}
