//! Figure 3 (the paper, figure 4): how the loss of positives and of negatives is spread over them, for several γ.
//!
//! The focal loss of a sample depends on its logit alone and falls with it, so one order, by logit, serves
//! every γ: logits are counted in fine steps, which takes 128 kB for any number of pictures.

use crate::retinanet::loss::Loss;
use crate::tuning::forward::Forward;
use crate::tuning::{Head, TrainingSet};
use serde::Serialize;

/// The γ of the paper, figure 4.
pub const GAMMAS: [f64; 4] = [0.0, 0.5, 1.0, 2.0];
/// Logits beyond this size count as this.
const MOST: f64 = 32.0;
/// Steps for a logit of 1.
const STEPS: f64 = 256.0;
const BINS: usize = (2.0 * MOST * STEPS) as usize;
/// Points of a curve between its ends.
const POINTS: usize = 200;

/// Logits towards the true class, counted in steps of 1/256 between −32 and 32.
#[derive(Debug, Clone)]
pub struct Logits {
    counts: Vec<u64>,
}

impl Default for Logits {
    fn default() -> Self {
        Self { counts: vec![0; BINS] }
    }
}

impl Logits {
    /// Counts one.
    pub fn add(&mut self, x_t: f32) {
        let bin = ((f64::from(x_t) + MOST) * STEPS).clamp(0.0, (BINS - 1) as f64);
        self.counts[bin as usize] += 1;
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How focal loss with `gamma`, without α, is spread.
    #[must_use]
    pub fn spread(&self, gamma: f64) -> Spread {
        let loss = Loss::Focal { alpha: None, gamma };
        // From the easiest on: samples and loss of all up to here.
        let mut steps = vec![(0.0, 0.0)];
        let (mut samples, mut sum) = (0.0, 0.0);
        for (bin, count) in self.counts.iter().enumerate().rev().filter(|(_, count)| **count > 0) {
            let x_t = (bin as f64 + 0.5) / STEPS - MOST;
            samples += *count as f64;
            sum += *count as f64 * loss.evaluate(x_t, true).0;
            steps.push((samples, sum));
        }
        let (samples, sum) = (samples.max(1.0), if sum > 0.0 { sum } else { 1.0 });
        for step in &mut steps {
            *step = (step.0 / samples, step.1 / sum);
        }
        let hardest = |share: f64| 1.0 - between(&steps, 1.0 - share);
        let curve = (0..=POINTS).map(|i| i as f64 / POINTS as f64).map(|x| (x, between(&steps, x)));
        Spread {
            gamma,
            samples: self.count(),
            hardest_1: hardest(0.01),
            hardest_10: hardest(0.10),
            hardest_20: hardest(0.20),
            curve: curve.collect(),
        }
    }
}

/// The value at `x` of a line through points by rising x.
fn between(points: &[(f64, f64)], x: f64) -> f64 {
    let after = points.partition_point(|point| point.0 < x);
    let Some(&(x1, y1)) = points.get(after) else { return points.last().map_or(0.0, |point| point.1) };
    let Some(&(x0, y0)) = after.checked_sub(1).and_then(|before| points.get(before)) else { return y1 };
    y0 + (y1 - y0) * (x - x0) / (x1 - x0)
}

/// How one γ spreads the loss over samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    /// Focusing.
    pub gamma: f64,
    /// How many there are.
    pub samples: u64,
    /// Share of the loss that the hardest 1 % hold.
    pub hardest_1: f64,
    /// Share of the loss that the hardest 10 % hold.
    pub hardest_10: f64,
    /// Share of the loss that the hardest 20 % hold.
    pub hardest_20: f64,
    /// Share of the samples, from the easiest on, and the share of the loss that these hold.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

impl Spread {
    /// The largest distance between two curves.
    #[must_use]
    pub fn distance(&self, other: &Self) -> f64 {
        let pairs = self.curve.iter().zip(&other.curve);
        pairs.map(|(a, b)| (a.1 - b.1).abs()).fold(0.0, f64::max)
    }
}

/// Logits of all positives and of all negatives of pictures: every anchor and class that is not ignored.
#[derive(Debug, Clone, Default)]
pub struct Sides {
    /// Anchors that answer for an object, with its class.
    pub positives: Logits,
    /// All others.
    pub negatives: Logits,
}

impl Sides {
    /// By `head`, of the pictures of `set`. `class_of` gives the head's class for a class of the set; objects
    /// of classes that the head does not have are background to it.
    #[must_use]
    pub fn of(head: &Head, set: &TrainingSet, class_of: impl Fn(u16) -> Option<usize>) -> Self {
        let mut forward = Forward::new(head);
        let mut sides = Self::default();
        for picture in &set.pictures {
            for (at, (level, quantisation)) in picture.levels.iter().zip(&set.codes).enumerate() {
                let mut positives = level.positives.iter().peekable();
                let mut ignored = level.ignored.iter().peekable();
                let mut counted = vec![Some(false); head.anchors * head.classes];
                forward.each_cell(at, &level.codes, *quantisation, set.inputs, |cell, logits| {
                    counted.fill(Some(false));
                    while let Some((_, anchor)) = ignored.next_if(|(at, _)| *at as usize == cell) {
                        let first = usize::from(*anchor) * head.classes;
                        counted[first..first + head.classes].fill(None);
                    }
                    while let Some(positive) = positives.next_if(|positive| positive.cell as usize == cell) {
                        if let Some(class) = class_of(positive.class) {
                            counted[usize::from(positive.anchor) * head.classes + class] = Some(true);
                        }
                    }
                    for (logit, positive) in logits.iter().zip(&counted) {
                        match positive {
                            Some(true) => sides.positives.add(*logit),
                            Some(false) => sides.negatives.add(-logit),
                            None => {}
                        }
                    }
                });
            }
        }
        sides
    }
}

/// The spread of one side for each of `gammas`.
#[must_use]
pub fn spreads(logits: &Logits, gammas: &[f64]) -> Vec<Spread> {
    gammas.iter().map(|gamma| logits.spread(*gamma)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_of_sorted_losses() {
        let mut logits = Logits::default();
        // Bin centres, so that counting in steps loses nothing.
        let values: Vec<f32> =
            (0..1000).map(|i| ((i * 7919) % 2048) as f32 / 256.0 - 4.0 + 1.0 / 512.0).collect();
        values.iter().for_each(|x_t| logits.add(*x_t));
        for gamma in GAMMAS {
            let loss = Loss::Focal { alpha: None, gamma };
            let mut losses: Vec<f64> = values.iter().map(|x| loss.evaluate(f64::from(*x), true).0).collect();
            losses.sort_by(f64::total_cmp);
            let all: f64 = losses.iter().sum();
            let spread = logits.spread(gamma);
            assert_eq!(spread.samples, 1000);
            for (found, count) in [(spread.hardest_1, 10), (spread.hardest_10, 100), (spread.hardest_20, 200)]
            {
                let exact = losses[1000 - count..].iter().sum::<f64>() / all;
                assert!((found - exact).abs() < 1e-9, "γ {gamma}, {count}: {found} {exact}");
            }
        }
    }

    #[test]
    fn more_gamma_leaves_the_loss_to_fewer() {
        let mut logits = Logits::default();
        (0..500).for_each(|i| logits.add(i as f32 * 0.02 - 2.0));
        let spreads = spreads(&logits, &GAMMAS);
        assert!(spreads.windows(2).all(|pair| pair[0].hardest_10 < pair[1].hardest_10), "{spreads:?}");
        assert!(spreads[0].distance(&spreads[3]) > 0.05 && spreads[1].distance(&spreads[1]) == 0.0);
    }

    #[test]
    fn nothing_and_the_unbounded_are_no_trouble() {
        assert_eq!(Logits::default().spread(2.0).samples, 0);
        let mut logits = Logits::default();
        [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e30].iter().for_each(|x| logits.add(*x));
        let spread = logits.spread(2.0);
        assert!(spread.samples == 4 && spread.hardest_10.is_finite());
    }
}
