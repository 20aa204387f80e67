//! Classification losses of one logit, value and derivative, in stable f64 (`retinanet.md`, section 5; Lin et al., arXiv 1708.02002).
//!
//! `1 − p` and `pow(1 − p, γ)` are never formed: from x_t = 37 on they are exactly 0 and their derivative is NaN.

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
