//! Classification losses of one logit, value and derivative, in stable f64 (`retinanet.md`, section 5; Lin
//! et al., arXiv 1708.02002; Li et al., arXiv 2006.04388). [`batch`] has them for many logits in f32, [`boxes`]
//! the losses of boxes.
//!
//! `1 − p` and `pow(1 − p, γ)` are never formed: from x_t = 37 on they are exactly 0 and their derivative
//! is NaN.

pub mod batch;
pub mod boxes;
mod lane;

pub use boxes::smooth_l1;

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
    /// Quality focal loss: focal loss without α towards a target between 0 and 1, the IoU of a positive's
    /// predicted box with its truth.
    QualityFocal {
        /// Focusing parameter, ≥ 0.
        gamma: f64,
    },
}

/// A parameter that a loss is not defined for.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("loss {kind}: {parameter} is {found}, must be {allowed}")]
pub struct LossError {
    /// The loss, as [`Loss::kind`] names it.
    pub kind: &'static str,
    /// `alpha`, `beta` or `gamma`.
    pub parameter: &'static str,
    /// Given.
    pub found: f64,
    /// What is allowed, in words.
    pub allowed: &'static str,
}

/// Largest γ; the paper's sweeps end at 5.
pub const MAX_GAMMA: f64 = 16.0;

/// Largest size of β.
pub const MAX_BETA: f64 = 16.0;

/// ln(1 + e^z), without overflow.
pub(super) fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

impl Loss {
    /// The loss's name in a manifest.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::CrossEntropy => "ce",
            Self::Balanced { .. } => "balanced_ce",
            Self::Focal { .. } => "focal",
            Self::FocalStar { .. } => "focal_star",
            Self::QualityFocal { .. } => "quality_focal",
        }
    }

    /// α, γ and β, where the loss has them.
    #[must_use]
    pub fn parameters(self) -> [Option<f64>; 3] {
        match self {
            Self::CrossEntropy => [None; 3],
            Self::Balanced { alpha } => [Some(alpha), None, None],
            Self::Focal { alpha, gamma } => [alpha, Some(gamma), None],
            Self::FocalStar { alpha, gamma, beta } => [alpha, Some(gamma), Some(beta)],
            Self::QualityFocal { gamma } => [None, Some(gamma), None],
        }
    }

    /// Checks that the loss is defined: α from 0 to 1, γ from 0 to [`MAX_GAMMA`] and above 0 for FL*, β
    /// finite and at most [`MAX_BETA`] in size.
    ///
    /// # Errors
    /// [`LossError`] for the first parameter that does not hold.
    pub fn check(self) -> Result<(), LossError> {
        let [alpha, gamma, beta] = self.parameters();
        let require = |parameter, value: Option<f64>, holds: fn(f64) -> bool, allowed| match value {
            Some(found) if !holds(found) => Err(LossError { kind: self.kind(), parameter, found, allowed }),
            _ => Ok(()),
        };
        require("alpha", alpha, |a| (0.0..=1.0).contains(&a), "0 to 1")?;
        if let Self::FocalStar { .. } = self {
            require("gamma", gamma, |g| g > 0.0 && g <= MAX_GAMMA, "above 0 and at most 16")?;
        }
        require("gamma", gamma, |g| (0.0..=MAX_GAMMA).contains(&g), "0 to 16")?;
        require("beta", beta, |b| b.abs() <= MAX_BETA, "-16 to 16")
    }

    /// `(loss, d loss / d logit)` for a target from 0 to 1. The target is a constant: no gradient flows
    /// through it. Only quality focal loss knows targets in between; to the others a target above 0 is a
    /// positive.
    #[must_use]
    pub fn evaluate_soft(self, logit: f64, target: f64) -> (f64, f64) {
        let Self::QualityFocal { gamma } = self else { return self.evaluate(logit, target > 0.0) };
        // S(x) − t·x and σ − t, in forms that neither cancel for a target of 0 nor for one of 1.
        let (up, down) = (softplus(logit), softplus(-logit));
        let cost = (1.0 - target) * up + target * down;
        let distance = (1.0 - target) * (-down).exp() - target * (-up).exp();
        let size = distance.abs();
        let factor = if gamma == 0.0 { 1.0 } else { size.powf(gamma) };
        // d|u|^γ/dx = γ·|u|^(γ−1)·sgn(u)·σ·(1 − σ); at u = 0 it is 0 for γ > 1, and taken as 0 below, where it
        // has no limit.
        let slope = if gamma == 0.0 || size == 0.0 {
            0.0
        } else {
            gamma * (factor / size) * distance.signum() * (-up - down).exp() * cost
        };
        (factor * cost, factor * distance + slope)
    }

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
            Self::QualityFocal { .. } => self.evaluate_soft(logit, if positive { 1.0 } else { 0.0 }),
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
