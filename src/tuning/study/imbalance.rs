//! Figure 1 (Anand et al. 1993): a net of two layers on two classes, one of them rare.
//!
//! Two clouds of points in the plane, two deviations apart, are told from each other by a net with eight hidden
//! units, trained by gradient descent on all samples at once. Of each epoch are kept the mean cross entropy of
//! either class, whatever loss is trained, and the share of the gradient that comes from the common class.

use crate::retinanet::loss::Loss;
use crate::tuning::shuffle::Random;

/// Common samples for each rare one, as the figure has them.
pub const RATIOS: [usize; 4] = [1, 10, 100, 1000];
/// Learning rate of the figure's trainings.
const RATE: f64 = 0.5;

const HIDDEN: usize = 8;
/// Weights of a hidden unit (two and a bias), then of the output with its bias.
const WEIGHTS: usize = HIDDEN * 3 + HIDDEN + 1;

/// How the net is trained.
#[derive(Debug, Clone, Copy)]
pub struct Training {
    /// Samples of the common class.
    pub common: usize,
    /// Common samples for each rare one, at least 1.
    pub ratio: usize,
    /// What is minimised; its sum is divided by the number of samples.
    pub loss: Loss,
    /// Steps of gradient descent.
    pub epochs: usize,
    /// Learning rate.
    pub rate: f64,
    /// Seed of samples and weights.
    pub seed: u64,
}

/// One epoch, before its step.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Epoch {
    /// Mean cross entropy of the rare class.
    pub rare: f64,
    /// Mean cross entropy of the common class.
    pub common: f64,
    /// |gradient of the common class| / (|of the common| + |of the rare|).
    pub common_share: f64,
}

/// Trains the net; one entry an epoch.
#[must_use]
pub fn train(training: &Training) -> Vec<Epoch> {
    let Training { common, ratio, loss, epochs, rate, seed } = *training;
    let rare = (common / ratio.max(1)).max(1);
    let mut random = Random::new(seed, 0);
    let mut cloud = |count: usize, centre: f64| -> Vec<[f64; 2]> {
        (0..count).map(|_| [centre + random.normal(), centre + random.normal()]).collect()
    };
    let classes = [(cloud(common, -0.7), false), (cloud(rare, 0.7), true)];
    let mut random = Random::new(seed, 1);
    let mut weights: [f64; WEIGHTS] = std::array::from_fn(|_| 0.3 * random.normal());
    let samples = (common + rare) as f64;
    let mut all = Vec::with_capacity(epochs);
    for _ in 0..epochs {
        let parts = classes.each_ref().map(|(points, positive)| gradient(&weights, points, *positive, loss));
        let norm = |slopes: &[f64; WEIGHTS]| slopes.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
        let [(common_error, of_common), (rare_error, of_rare)] = parts;
        let (a, b) = (norm(&of_common), norm(&of_rare));
        all.push(Epoch { rare: rare_error, common: common_error, common_share: a / (a + b).max(1e-300) });
        for ((weight, a), b) in weights.iter_mut().zip(of_common).zip(of_rare) {
            *weight -= rate * (a + b) / samples;
        }
    }
    all
}

/// How the classes fare with one ratio and loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// Common samples for each rare one.
    pub ratio: usize,
    /// The loss, for people.
    pub loss: &'static str,
    /// Mean of the seeds, by epoch.
    pub epochs: Vec<Epoch>,
}

/// What the three losses of the figure are called.
pub const LOSSES: [&str; 3] = ["CE", "balanced CE", "FL γ 2"];

/// The figure: each of [`RATIOS`] with cross entropy, with cross entropy balanced by the ratio, and with focal
/// loss (γ 2, no α).
#[must_use]
pub fn courses(common: usize, epochs: usize, seeds: u64) -> Vec<Course> {
    let mut courses = Vec::new();
    for ratio in RATIOS {
        let alpha = ratio as f64 / (ratio + 1) as f64;
        let losses = [Loss::CrossEntropy, Loss::Balanced { alpha }, Loss::Focal { alpha: None, gamma: 2.0 }];
        for (name, loss) in LOSSES.into_iter().zip(losses) {
            let run = |seed| train(&Training { common, ratio, loss, epochs, rate: RATE, seed });
            let runs: Vec<Vec<Epoch>> = (0..seeds.max(1)).map(run).collect();
            courses.push(Course { ratio, loss: name, epochs: mean(&runs) });
        }
    }
    courses
}

fn mean(runs: &[Vec<Epoch>]) -> Vec<Epoch> {
    let of = |epoch: usize, value: fn(&Epoch) -> f64| {
        runs.iter().map(|run| value(&run[epoch])).sum::<f64>() / runs.len() as f64
    };
    let at = |epoch| Epoch {
        rare: of(epoch, |e| e.rare),
        common: of(epoch, |e| e.common),
        common_share: of(epoch, |e| e.common_share),
    };
    (0..runs.first().map_or(0, Vec::len)).map(at).collect()
}

/// Mean cross entropy of points of one class, and the sum of the loss's gradients.
fn gradient(
    weights: &[f64; WEIGHTS],
    points: &[[f64; 2]],
    positive: bool,
    loss: Loss,
) -> (f64, [f64; WEIGHTS]) {
    let (layer, output) = weights.split_at(HIDDEN * 3);
    let (mut error, mut slopes) = (0.0, [0.0; WEIGHTS]);
    for [x, y] in points {
        let hidden: [f64; HIDDEN] =
            std::array::from_fn(|h| (layer[3 * h] * x + layer[3 * h + 1] * y + layer[3 * h + 2]).tanh());
        let logit = hidden.iter().zip(output).map(|(h, w)| h * w).sum::<f64>() + output[HIDDEN];
        error += Loss::CrossEntropy.evaluate(logit, positive).0;
        let (_, slope) = loss.evaluate(logit, positive);
        for (h, value) in hidden.iter().enumerate() {
            slopes[3 * HIDDEN + h] += slope * value;
            let back = slope * output[h] * (1.0 - value * value);
            slopes[3 * h] += back * x;
            slopes[3 * h + 1] += back * y;
            slopes[3 * h + 2] += back;
        }
        slopes[WEIGHTS - 1] += slope;
    }
    (error / points.len().max(1) as f64, slopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ratio: usize, loss: Loss) -> Vec<Epoch> {
        train(&Training { common: 2000, ratio, loss, epochs: 200, rate: 0.5, seed: 3 })
    }

    #[test]
    fn figure_1_the_rare_class_gets_worse_early_while_the_common_one_gets_better() {
        let even = run(1, Loss::CrossEntropy);
        assert!(even[20].rare < even[0].rare && even[20].common < even[0].common);
        for ratio in [10, 100, 1000] {
            let epochs = run(ratio, Loss::CrossEntropy);
            let worst = epochs[..50].iter().map(|epoch| epoch.rare).fold(0.0, f64::max);
            assert!(worst > 1.3 * epochs[0].rare, "1:{ratio}: {} then {worst}", epochs[0].rare);
            assert!(epochs[20].common < epochs[0].common, "1:{ratio}");
        }
    }

    #[test]
    fn figure_1_the_common_class_holds_the_gradient_and_less_of_it_with_weights_or_focus() {
        let first = |ratio, loss| run(ratio, loss)[0].common_share;
        assert!((first(1, Loss::CrossEntropy) - 0.5).abs() < 0.15);
        assert!(first(100, Loss::CrossEntropy) > 0.95 && first(1000, Loss::CrossEntropy) > 0.99);
        let balanced = Loss::Balanced { alpha: 100.0 / 101.0 };
        assert!((first(100, balanced) - 0.5).abs() < 0.15);
        // Focus acts once the common class has become easy.
        let mean = |loss| run(100, loss)[5..50].iter().map(|epoch| epoch.common_share).sum::<f64>() / 45.0;
        let (plain, focal) = (mean(Loss::CrossEntropy), mean(Loss::Focal { alpha: None, gamma: 2.0 }));
        assert!(focal < plain, "{focal} {plain}");
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        assert_eq!(run(10, Loss::CrossEntropy), run(10, Loss::CrossEntropy));
    }
}
