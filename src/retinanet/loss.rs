//! Classification losses of one logit, value and derivative, in stable f64 (`retinanet.md`, section 5; Lin
//! et al., arXiv 1708.02002).
//!
//! `1 − p` and `pow(1 − p, γ)` are never formed: from x_t = 37 on they are exactly 0 and their derivative
//! is NaN.

use super::matching::Match;

/// Which loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Cross entropy.
    CrossEntropy,
    /// Cross entropy weighted by α for positives and 1 − α for negatives.
    Balanced {
        /// Weight of positives, 0 to 1.
        alpha: f64,
    },
    /// Focal loss.
    Focal {
        /// Weight of positives; `None`: no weighting.
        alpha: Option<f64>,
        /// Focusing parameter, ≥ 0.
        gamma: f64,
    },
    /// FL*: cross entropy of σ(γ·x_t + β), divided by γ.
    FocalStar {
        /// Weight of positives; `None`: no weighting.
        alpha: Option<f64>,
        /// Slope, > 0 (0 is undefined).
        gamma: f64,
        /// Shift.
        beta: f64,
    },
}

/// ln(1 + e^z), without overflow.
fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

impl Loss {
    /// `(loss, d loss / d logit)` for a target of 1 (`positive`) or 0.
    #[must_use]
    pub fn evaluate(self, logit: f64, positive: bool) -> (f64, f64) {
        let y = if positive { 1.0 } else { -1.0 };
        let x_t = y * logit;
        let weight = |alpha: Option<f64>| alpha.map_or(1.0, |a| if positive { a } else { 1.0 - a });
        // −ln p_t, and q = 1 − p_t.
        let (cost, q) = (softplus(-x_t), (-softplus(x_t)).exp());
        match self {
            Self::CrossEntropy => (cost, -y * q),
            Self::Balanced { alpha } => (weight(Some(alpha)) * cost, -y * weight(Some(alpha)) * q),
            Self::Focal { alpha, gamma } => {
                let (w, factor, p_t) = (weight(alpha), (-gamma * softplus(x_t)).exp(), (-cost).exp());
                (w * factor * cost, -y * w * factor * (gamma * p_t * cost + q))
            }
            Self::FocalStar { alpha, gamma, beta } => {
                let (w, z) = (weight(alpha), gamma * x_t + beta);
                (w * softplus(-z) / gamma, -y * w * (-softplus(z)).exp())
            }
        }
    }
}

/// Sum over anchors and classes, and its derivative by each logit, both undivided (divide by the positives,
/// or a moving average of them). `logits` holds `classes` values an anchor; an anchor's truth has the class
/// `labels[truth]`; ignored anchors add nothing.
#[must_use]
pub fn sum(loss: Loss, logits: &[f64], classes: usize, parts: &[Match], labels: &[usize]) -> (f64, Vec<f64>) {
    let mut total = 0.0;
    let mut gradient = vec![0.0; logits.len()];
    for (anchor, part) in parts.iter().enumerate() {
        let positive = match part {
            Match::Ignored => continue,
            Match::Background => None,
            Match::Truth(truth) => Some(labels[*truth]),
        };
        for class in 0..classes {
            let at = anchor * classes + class;
            let (value, slope) = loss.evaluate(logits[at], positive == Some(class));
            total += value;
            gradient[at] = slope;
        }
    }
    (total, gradient)
}

/// Moves a running count of positives towards this batch's: n ← 0.9·n + 0.1·max(positives, 1), from 100
/// (detectron2 `retinanet.py`).
#[must_use]
pub fn next_normaliser(running: f64, positives: usize) -> f64 {
    0.9 * running + 0.1 * positives.max(1) as f64
}

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
