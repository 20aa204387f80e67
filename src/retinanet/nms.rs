//! Non-maximum suppression, class by class.

use crate::detection::Detection;

/// Intersection over union of two boxes; 0 where both are empty. inter / (area + area − inter), f32, no +1.
#[must_use]
pub fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let inter = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0) * (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let area = |r: &[f32; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    let union = area(a) + area(b) - inter;
    if inter > 0.0 { inter / union } else { 0.0 }
}

/// Keeps, of `sorted` (best first), the first `limit` that overlap no kept box of their class by more than
/// `threshold` (strict).
pub fn nms(sorted: &[Detection], threshold: f32, limit: usize, kept: &mut Vec<Detection>) {
    kept.clear();
    for candidate in sorted {
        if kept.len() == limit {
            return;
        }
        if !kept.iter().any(|k| k.class == candidate.class && iou(&k.bbox, &candidate.bbox) > threshold) {
            kept.push(*candidate);
        }
    }
}
