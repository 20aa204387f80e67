//! Losses of boxes, value and gradient, in f64: smooth L1 of a delta, GIoU of a box (Rezatofighi et al., arXiv
//! 1902.09630), distribution focal loss of an edge (Li et al., arXiv 2006.04388).

/// Smooth L1 and its derivative by the prediction: ½d²/β below β, |d| − ½β above; |d| for a β below 1e-5,
/// where ½d²/β would be 0/0.
#[must_use]
pub fn smooth_l1(difference: f64, beta: f64) -> (f64, f64) {
    let size = difference.abs();
    if beta < 1e-5 {
        (size, if difference == 0.0 { 0.0 } else { difference.signum() })
    } else if size < beta {
        (0.5 * size * size / beta, difference / beta)
    } else {
        (size - 0.5 * beta, difference.signum())
    }
}

/// 1 − GIoU of two boxes `[x1, y1, x2, y2]`, and its gradient by the predicted box's edges.
///
/// GIoU = inter / union − (hull − union) / hull, where the hull is the smallest box around both. It is between
/// −1 and 1. A predicted box whose sides are not in order counts as empty where they cross. Where an edge
/// touches one of the truth's the loss has a kink; the slope is then that of the predicted box lying inside.
#[must_use]
pub fn giou(predicted: [f64; 4], truth: [f64; 4]) -> (f64, [f64; 4]) {
    let [px1, py1, px2, py2] = predicted;
    let [tx1, ty1, tx2, ty2] = truth;
    let (w, h) = ((px2 - px1).max(0.0), (py2 - py1).max(0.0));
    let truth_area = (tx2 - tx1).max(0.0) * (ty2 - ty1).max(0.0);
    let (iw, ih) = ((px2.min(tx2) - px1.max(tx1)).max(0.0), (py2.min(ty2) - py1.max(ty1)).max(0.0));
    let (hw, hh) = (px2.max(tx2) - px1.min(tx1), py2.max(ty2) - py1.min(ty1));
    let (inter, hull) = (iw * ih, hw * hh);
    let union = w * h + truth_area - inter;
    if union <= 0.0 || hull <= 0.0 {
        // Two empty boxes: nothing to learn from.
        return (1.0, [0.0; 4]);
    }
    let value = 2.0 - inter / union - union / hull;
    // Of −inter/union − union/hull by the three areas.
    let by_inter = -1.0 / union;
    let by_union = inter / (union * union) - 1.0 / hull;
    let by_hull = union / (hull * hull);
    let edge = |sign: f64, inside: bool, outside: bool, own: f64, common: f64, around: f64| {
        // The edge moves its own area always, the common one where it bounds it, the hull where it bounds that.
        let own = sign * own;
        let common = if inside { sign * common } else { 0.0 };
        let around = if outside { sign * around } else { 0.0 };
        by_inter * common + by_union * (own - common) + by_hull * around
    };
    let (meets, wide, tall) = (iw > 0.0 && ih > 0.0, px2 > px1, py2 > py1);
    let (own_x, own_y) = (if wide { h } else { 0.0 }, if tall { w } else { 0.0 });
    let gradient = [
        edge(-1.0, meets && px1 >= tx1, px1 < tx1, own_x, ih, hh),
        edge(-1.0, meets && py1 >= ty1, py1 < ty1, own_y, iw, hw),
        edge(1.0, meets && px2 <= tx2, px2 > tx2, own_x, ih, hh),
        edge(1.0, meets && py2 <= ty2, py2 > ty2, own_y, iw, hw),
    ];
    (value, gradient)
}

/// Why a distribution focal loss cannot be computed.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("distribution focal loss: target {target} of {bins} bins, must be 0 to the last bin's number")]
pub struct BinError {
    /// Given.
    pub target: f64,
    /// Number of logits.
    pub bins: usize,
}

/// Distribution focal loss: cross entropy of a softmax over bins 0, 1, 2, … with the two bins around `target`,
/// each weighted by its nearness. The derivative by each logit is written into `gradient`.
///
/// # Errors
/// [`BinError`] unless the target lies between the first and the last bin and both slices are of one length.
pub fn distribution_focal(logits: &[f64], target: f64, gradient: &mut [f64]) -> Result<f64, BinError> {
    let bins = logits.len();
    let last = bins.saturating_sub(1) as f64;
    if bins == 0 || gradient.len() != bins || !(0.0..=last).contains(&target) {
        return Err(BinError { target, bins });
    }
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();
    let log_sum = most + sum.ln();
    let mut value = 0.0;
    for (bin, (logit, slope)) in logits.iter().zip(gradient).enumerate() {
        let weight = (1.0 - (bin as f64 - target).abs()).max(0.0);
        value += weight * (log_sum - logit);
        *slope = (logit - log_sum).exp() - weight;
    }
    Ok(value)
}
