//! The classification losses of many logits at once, in f32.
//!
//! For |logit| ≤ 100 value and derivative are within 1.4e-6 of the f64 form, relatively; numbers below 1e-36
//! count as 0. Quality focal loss cancels where σ is near a target between 0 and 1: there 1.4e-6 is of the
//! larger of the two. Targets below 0 are ignored.

use super::lane::{self, Factor, Shape};
use super::{Loss, LossError};
use crate::kernels::{Wide, widest};

/// Logits that are summed in f32 before they are added to an f64.
const BLOCK: usize = 256;
/// Logits a step; several vector registers, whatever their width is.
const LANES: usize = 16;

/// The sum of a loss over `logits`, and its derivative by each of them, written into `gradient`; both
/// undivided.
///
/// `targets` says of each logit: 0 a negative, below 0 ignored (adds nothing, derivative 0), above 0 and at
/// most 1 a positive; of quality focal loss the target itself.
///
/// # Errors
/// [`LossError`] as [`Loss::check`].
///
/// # Panics
/// If the slices differ in length.
pub fn evaluate(loss: Loss, logits: &[f32], targets: &[f32], gradient: &mut [f32]) -> Result<f64, LossError> {
    assert!(logits.len() == targets.len() && logits.len() == gradient.len(), "slices of different lengths");
    loss.check()?;
    let [alpha, gamma, beta] = loss.parameters();
    let weights = alpha.map_or([1.0; 2], |a| [(1.0 - a) as f32, a as f32]);
    let shape = Shape { weights, gamma: Factor::new(gamma.unwrap_or(0.0)), beta: beta.unwrap_or(0.0) as f32 };
    let sides = (logits, targets, gradient);
    Ok(match loss {
        Loss::CrossEntropy | Loss::Balanced { .. } => over(sides, shape, lane::cross_entropy),
        Loss::Focal { gamma: 2.0, .. } => over(sides, shape, lane::focal_2),
        Loss::Focal { .. } => over(sides, shape, lane::focal),
        Loss::FocalStar { .. } => over(sides, shape, lane::focal_star),
        Loss::QualityFocal { gamma: 2.0 } => over(sides, shape, lane::quality_focal_2),
        Loss::QualityFocal { .. } => one_by_one(loss, sides),
    })
}

type Sides<'a> = (&'a [f32], &'a [f32], &'a mut [f32]);

fn over(sides: Sides<'_>, shape: Shape, lane: impl Fn(f32, f32, Shape) -> (f32, f32) + Copy) -> f64 {
    widest(Over { sides, shape, lane })
}

/// A loss over logits.
struct Over<'a, L> {
    sides: Sides<'a>,
    shape: Shape,
    lane: L,
}

impl<L: Fn(f32, f32, Shape) -> (f32, f32)> Wide for Over<'_, L> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let (shape, lane, (logits, targets, gradient)) = (self.shape, self.lane, self.sides);
        let mut total = 0.0;
        for ((logits, targets), gradient) in
            logits.chunks(BLOCK).zip(targets.chunks(BLOCK)).zip(gradient.chunks_mut(BLOCK))
        {
            let (logits, last_logits) = logits.as_chunks::<LANES>();
            let (targets, last_targets) = targets.as_chunks::<LANES>();
            let (gradient, last_gradient) = gradient.as_chunks_mut::<LANES>();
            let mut sums = [0.0_f32; LANES];
            for ((logits, targets), gradient) in logits.iter().zip(targets).zip(gradient) {
                for i in 0..LANES {
                    let (value, slope) = lane(logits[i], targets[i], shape);
                    sums[i] += value;
                    gradient[i] = slope;
                }
            }
            for ((logit, target), gradient) in last_logits.iter().zip(last_targets).zip(last_gradient) {
                let (value, slope) = lane(*logit, *target, shape);
                sums[0] += value;
                *gradient = slope;
            }
            total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        }
        total
    }
}

/// Powers of any γ, in f64 and so a tenth as fast.
fn one_by_one(loss: Loss, (logits, targets, gradient): Sides<'_>) -> f64 {
    let mut total = 0.0;
    for ((logit, target), gradient) in logits.iter().zip(targets).zip(gradient) {
        let (value, slope) = if *target < 0.0 {
            (0.0, 0.0)
        } else {
            loss.evaluate_soft(f64::from(*logit), f64::from(*target))
        };
        total += value;
        *gradient = slope as f32;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: [Loss; 13] = [
        Loss::CrossEntropy,
        Loss::Balanced { alpha: 0.25 },
        Loss::Focal { alpha: Some(0.25), gamma: 2.0 },
        Loss::Focal { alpha: None, gamma: 0.5 },
        Loss::Focal { alpha: Some(0.75), gamma: 0.1 },
        Loss::Focal { alpha: Some(0.5), gamma: 5.0 },
        Loss::Focal { alpha: None, gamma: 1.3 },
        Loss::FocalStar { alpha: Some(0.25), gamma: 2.0, beta: 1.0 },
        Loss::FocalStar { alpha: None, gamma: 4.0, beta: 0.0 },
        Loss::FocalStar { alpha: None, gamma: 1.7, beta: -0.3 },
        Loss::QualityFocal { gamma: 2.0 },
        Loss::QualityFocal { gamma: 1.5 },
        Loss::QualityFocal { gamma: 0.0 },
    ];

    fn single(loss: Loss, logit: f32, target: f32) -> (f64, f32) {
        let mut gradient = [0.0];
        let value = evaluate(loss, &[logit], &[target], &mut gradient).expect("defined");
        (value, gradient[0])
    }

    #[test]
    fn f32_is_within_its_bound_of_f64() {
        let mut worst = (0.0_f64, String::new());
        for loss in LOSSES {
            for step in -40_000..=40_000 {
                let logit = step as f32 * 0.0025 + 1e-5;
                for target in [0.0_f32, 1.0] {
                    let (value, slope) = single(loss, logit, target);
                    let exact = loss.evaluate_soft(f64::from(logit), f64::from(target));
                    for (found, exact) in [(value, exact.0), (f64::from(slope), exact.1)] {
                        let apart = ((found - exact).abs() - 1e-36).max(0.0) / exact.abs().max(1e-300);
                        if apart > worst.0 {
                            worst = (apart, format!("{loss:?} {logit} {target}: {found} {exact}"));
                        }
                    }
                }
            }
        }
        println!("{worst:?}");
        assert!(worst.0 <= 1.4e-6, "{worst:?}");
    }

    #[test]
    fn soft_targets_are_within_the_bound_of_sigmoid_and_target() {
        for gamma in [0.0, 1.5, 2.0] {
            let loss = Loss::QualityFocal { gamma };
            for step in -4_000..=4_000 {
                let logit = step as f32 * 0.025;
                for target in [0.05_f32, 0.3, 0.5, 0.9] {
                    let (value, slope) = single(loss, logit, target);
                    let exact = loss.evaluate_soft(f64::from(logit), f64::from(target));
                    let room = 1.4e-6 * (1.0 + f64::from(logit.abs()));
                    assert!((value - exact.0).abs() <= room, "{loss:?} {logit} {target}");
                    assert!((f64::from(slope) - exact.1).abs() <= room, "{loss:?} {logit} {target}");
                }
            }
        }
    }

    #[test]
    fn gamma_0_is_cross_entropy_to_the_last_bit() {
        let pairs = [
            (Loss::Focal { alpha: None, gamma: 0.0 }, Loss::CrossEntropy),
            (Loss::Focal { alpha: Some(0.25), gamma: 0.0 }, Loss::Balanced { alpha: 0.25 }),
        ];
        for (focal, plain) in pairs {
            for step in -10_000..=10_000 {
                let logit = step as f32 * 0.01;
                for positive in [false, true] {
                    let target = f32::from(u8::from(positive));
                    let (a, b) = (single(focal, logit, target), single(plain, logit, target));
                    assert_eq!((a.0.to_bits(), a.1.to_bits()), (b.0.to_bits(), b.1.to_bits()), "{logit}");
                    let (a, b) = (
                        focal.evaluate(f64::from(logit), positive),
                        plain.evaluate(f64::from(logit), positive),
                    );
                    assert_eq!((a.0.to_bits(), a.1.to_bits()), (b.0.to_bits(), b.1.to_bits()), "{logit}");
                }
            }
        }
    }

    #[test]
    fn ignored_logits_add_nothing_and_every_length_sums_the_same() {
        for loss in LOSSES {
            for length in [0, 1, 15, 16, 17, 255, 256, 257, 1000] {
                let logits: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin() * 8.0).collect();
                let targets: Vec<f32> = (0..length).map(|i| [0.0, -1.0, 1.0, 0.0, 0.0][i % 5]).collect();
                let mut gradient = vec![9.0; length];
                let total = evaluate(loss, &logits, &targets, &mut gradient).expect("defined");
                let expected: f64 = logits
                    .iter()
                    .zip(&targets)
                    .filter(|(_, target)| **target >= 0.0)
                    .map(|(logit, target)| loss.evaluate_soft(f64::from(*logit), f64::from(*target)).0)
                    .sum();
                assert!((total - expected).abs() <= 2e-6 * expected, "{loss:?} {length}: {total} {expected}");
                assert!(gradient.iter().zip(&targets).all(|(g, t)| (*t < 0.0) == (*g == 0.0)), "{loss:?}");
            }
        }
    }

    #[test]
    fn infinite_and_huge_logits_give_finite_slopes() {
        for loss in LOSSES {
            for logit in [-3e4_f32, 3e4] {
                for target in [0.0, 1.0, -1.0] {
                    let (value, slope) = single(loss, logit, target);
                    assert!(value.is_finite() && slope.is_finite(), "{loss:?} {logit} {target}");
                }
            }
        }
    }
}
