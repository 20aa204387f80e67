//! Boxes of anchor-free heads: distances from a point to the four sides, as numbers or as distributions.
//!
//! Sources: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019, equation 1; Li et al.,
//! "Generalized Focal Loss", 2020, section 3.2 (a distance is the expectation over bins).

/// The box whose sides lie `distances` (left, top, right, bottom) from the centre of `anchor`, in widths and
/// heights of the anchor. A cell's anchor is a square of one stride, so these are distances in strides.
#[must_use]
pub fn box_around(anchor: &[f32; 4], distances: [f32; 4]) -> [f32; 4] {
    let (w, h) = (anchor[2] - anchor[0], anchor[3] - anchor[1]);
    let (x, y) = (anchor[0] + 0.5 * w, anchor[1] + 0.5 * h);
    let [left, top, right, bottom] = distances;
    [x - left * w, y - top * h, x + right * w, y + bottom * h]
}

/// The expectation of the distribution over `0, 1, ... bins - 1` whose logits `logit` reads; NaN where one is.
#[must_use]
pub fn expectation(bins: usize, logit: impl Fn(usize) -> f32) -> f32 {
    let most = (0..bins).map(&logit).fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut total) = (0.0, 0.0);
    for bin in 0..bins {
        let share = (logit(bin) - most).exp();
        sum += share * bin as f32;
        total += share;
    }
    sum / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_in_sides_of_the_anchor() {
        let found = box_around(&[10.0, 20.0, 18.0, 36.0], [1.0, 0.5, 2.0, 0.0]);
        assert_eq!(found, [6.0, 20.0, 30.0, 28.0]);
    }

    #[test]
    fn a_distribution_gives_its_mean_however_large_its_logits() {
        assert_eq!(expectation(8, |_| 3.0), 3.5);
        assert_eq!(expectation(8, |bin| if bin == 5 { 500.0 } else { -500.0 }), 5.0);
        let two = expectation(8, |bin| if bin == 2 || bin == 3 { 0.0 } else { f32::NEG_INFINITY });
        assert_eq!(two, 2.5);
        assert!(expectation(4, |bin| if bin == 1 { f32::NAN } else { 0.0 }).is_nan());
    }
}
