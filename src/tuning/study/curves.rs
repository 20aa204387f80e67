//! Figure 2, losses over the probability of the true class; and table 2, the modulating factor.

use crate::retinanet::loss::Loss;

/// The γ of the paper's figure 1 and the seed's figure 2.
pub const GAMMAS: [f64; 5] = [0.0, 0.5, 1.0, 2.0, 5.0];

/// One point of a curve.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Point {
    /// The logit towards the true class.
    pub x_t: f64,
    /// The probability of the true class.
    pub p_t: f64,
    /// The loss.
    pub loss: f64,
    /// Its derivative by `x_t`.
    pub slope: f64,
}

/// A loss, unweighted, over `count` logits that are evenly spaced from −`most` to `most`.
#[must_use]
pub fn curve(loss: Loss, most: f64, count: usize) -> Vec<Point> {
    let at = |i: usize| most * (2.0 * i as f64 / (count.max(2) - 1) as f64 - 1.0);
    let point = |i: usize| {
        let x_t = at(i);
        let (value, slope) = loss.evaluate(x_t, true);
        Point { x_t, p_t: (-Loss::CrossEntropy.evaluate(x_t, true).0).exp(), loss: value, slope }
    };
    (0..count).map(point).collect()
}

/// The modulating factor (1 − p_t)^γ of focal loss for a probability of class 1 and a truth.
#[must_use]
pub fn factor(gamma: f64, p: f64, positive: bool) -> f64 {
    let p_t = if positive { p } else { 1.0 - p };
    (1.0 - p_t).powf(gamma)
}

/// Table 2: the factor where the probability is high and low, for either truth.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Row {
    /// +1 or −1.
    pub truth: i8,
    /// Probability of class 1.
    pub p: f64,
    /// (1 − p_t)^γ.
    pub factor: f64,
}

/// Rows for y = ±1 at probabilities `low` and `high`.
#[must_use]
pub fn table_2(gamma: f64, low: f64, high: f64) -> Vec<Row> {
    [(1, high), (1, low), (-1, high), (-1, low)]
        .map(|(truth, p)| Row { truth, p, factor: factor(gamma, p, truth > 0) })
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn focal(gamma: f64) -> Loss {
        Loss::Focal { alpha: None, gamma }
    }

    #[test]
    fn figure_2_gamma_0_is_cross_entropy_and_more_gamma_is_less_loss_where_it_is_easy() {
        let (ce, fl) = (curve(Loss::CrossEntropy, 8.0, 161), curve(focal(0.0), 8.0, 161));
        assert_eq!(ce, fl);
        for pair in GAMMAS.windows(2) {
            let (less, more) = (curve(focal(pair[0]), 8.0, 161), curve(focal(pair[1]), 8.0, 161));
            assert!(less.iter().zip(&more).all(|(less, more)| more.loss < less.loss), "{pair:?}");
        }
    }

    #[test]
    fn figure_2_at_gamma_2_the_easy_lose_a_hundredth_and_the_hard_at_most_four_times_less() {
        assert!((factor(2.0, 0.9, true) - 1.0 / 100.0).abs() < 1e-12);
        assert!((factor(2.0, 0.968, true) - 1.0 / 1000.0).abs() < 1e-4);
        for point in curve(focal(2.0), 8.0, 161).iter().filter(|point| point.p_t <= 0.5) {
            let plain = Loss::CrossEntropy.evaluate(point.x_t, true).0;
            assert!(plain / point.loss <= 4.0 + 1e-9, "{point:?}");
        }
    }

    #[test]
    fn figure_2_slopes_of_fl_star_follow_those_of_fl() {
        // Appendix B of the paper: γ 2, β 1 and γ 4, β 0 look like FL with γ 2; both die out for x_t > 0.
        for (gamma, beta) in [(2.0, 1.0), (4.0, 0.0)] {
            let star = curve(Loss::FocalStar { alpha: None, gamma, beta }, 6.0, 121);
            assert!(star.iter().filter(|point| point.x_t >= 2.0).all(|point| point.slope.abs() < 0.01));
            let hard = star.iter().find(|point| point.x_t <= -3.0).expect("a hard example");
            assert!(hard.slope.abs() > 0.99);
        }
    }

    #[test]
    fn table_2_the_factor_falls_only_where_probability_and_truth_agree() {
        let rows = table_2(2.0, 0.05, 0.95);
        for Row { truth, p, factor } in rows {
            let agree = (truth > 0) == (p > 0.5);
            assert!(if agree { factor < 0.01 } else { factor > 0.9 }, "{truth} {p} {factor}");
        }
    }
}
