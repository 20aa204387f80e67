//! Table 3: heads trained from the prior on frozen features, with one schedule and different losses.
//!
//! The learning rate is tuned for each loss: from the middle of a grid to its best neighbour, until the best
//! one tried has a worse one on either side or the grid ends. It is chosen by AP on pictures of their own;
//! what is told comes from others.

use super::held_out::HeldOut;
use crate::evaluation::{Evaluation, Interval, Resamples};
use crate::retinanet::decode::DecodeError;
use crate::retinanet::loss::Loss;
use crate::splitmix::SplitMix64;
use crate::tuning::hooks::Quiet;
use crate::tuning::{Head, Next, Settings, Trainer, TrainingSet, TuningError};

/// Learning rates that are tried: half powers of ten.
pub const RATES: [f64; 9] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0];
/// The first to be tried, numbers in [`RATES`].
pub const FIRST_RATES: [usize; 3] = [3, 4, 5];

/// One training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// What is minimised.
    pub loss: Loss,
    /// Number in [`RATES`].
    pub rate: usize,
    /// Number of its training set, and seed of its orders.
    pub part: usize,
    /// Score of a background cell before training.
    pub prior: f64,
}

/// What one training gave: a head, or the update at which a number left the finite ones.
#[derive(Debug, Clone, PartialEq)]
pub enum Trained {
    /// The head.
    Head(Head),
    /// Diverged after so many updates.
    Diverged(u64),
}

/// Trains `untrained` by `trial` on `set`; `pass` is called after each pass.
///
/// # Errors
/// [`TuningError`], but not for one that diverges.
pub fn train(
    trial: &Trial,
    untrained: Head,
    set: &TrainingSet,
    schedule: &Settings,
    pass: &dyn Fn(),
) -> Result<Trained, TuningError> {
    let settings = Settings { learning_rate: RATES[trial.rate], seed: trial.part as u64, ..schedule.clone() };
    let mut trainer = Trainer::new(untrained, set, &trial.loss, settings)?;
    let mut told = 0;
    let run = trainer.run(&mut Quiet, &mut |trainer| {
        let passes = trainer.progress().pass;
        (told..passes).for_each(|_| pass());
        told = passes;
        Next::Continue
    });
    (told..schedule.passes).for_each(|_| pass());
    match run {
        Ok(()) => Ok(Trained::Head(trainer.head())),
        Err(TuningError::Diverged { update, .. }) => Ok(Trained::Diverged(update)),
        Err(error) => Err(error),
    }
}

/// Judges what a training gave; a head that diverged finds nothing.
///
/// # Errors
/// [`DecodeError`] if the head does not fit.
pub fn judge(
    trained: &Trained,
    pictures: &HeldOut,
    classes: usize,
) -> Result<Option<Evaluation>, DecodeError> {
    match trained {
        Trained::Head(head) => pictures.judge(head, classes, Some).map(Some),
        Trained::Diverged(_) => Ok(None),
    }
}

/// AP by rate that was tried, `None` for one that diverged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Search {
    /// By rising rate, as numbers in [`RATES`].
    pub tried: Vec<(usize, Option<f64>)>,
}

impl Search {
    /// Adds one.
    pub fn add(&mut self, rate: usize, ap: Option<f64>) {
        self.tried.push((rate, ap));
        self.tried.sort_by_key(|(rate, _)| *rate);
    }

    /// The best so far; the lowest rate of equals.
    #[must_use]
    pub fn best(&self) -> Option<usize> {
        let value = |ap: &Option<f64>| ap.unwrap_or(-1.0);
        self.tried.iter().rev().max_by(|a, b| value(&a.1).total_cmp(&value(&b.1))).map(|(rate, _)| *rate)
    }

    /// What is to be tried next; nothing once the best has a neighbour on either side, or none is left.
    #[must_use]
    pub fn next(&self) -> Vec<usize> {
        let Some(best) = self.best() else { return FIRST_RATES.to_vec() };
        let within = |rate: &usize| *rate < RATES.len() && self.tried.iter().all(|(tried, _)| tried != rate);
        [best.checked_sub(1), Some(best + 1)].into_iter().flatten().filter(within).collect()
    }
}

/// A number with the middle 95 % of its draws.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Measured {
    /// As measured, the mean of the trainings.
    pub value: f64,
    /// Of draws of pictures, and of trainings where there are several.
    pub interval: Option<Interval>,
}

/// Mean AP of trainings of one loss, each evaluated on the same pictures; with `other`, how much more it is
/// than that of the other. Pictures, and trainings of each, are drawn with repetition; the pictures are the
/// same for both.
#[must_use]
pub fn mean_ap(of: &[Evaluation], other: Option<&[Evaluation]>, draws: usize, seed: u64) -> Option<Measured> {
    let pictures = of.first()?.pictures();
    let mean = |evaluations: &[Evaluation], weights: &[u32], picks: &mut dyn FnMut(usize) -> usize| {
        let n = evaluations.len();
        let aps = (0..n).map(|i| evaluations[picks(i)].ap_of(weights).ap);
        aps.sum::<Option<f64>>().map(|sum| sum / n.max(1) as f64)
    };
    let value = |weights: &[u32], numbers: Option<&mut SplitMix64>| -> Option<f64> {
        let mut none = SplitMix64::new(0);
        let drawn = numbers.is_some();
        let numbers = numbers.unwrap_or(&mut none);
        let n = of.len();
        let ours = mean(of, weights, &mut |i| if drawn { numbers.below(n) } else { i })?;
        let Some(other) = other else { return Some(ours) };
        let n = other.len();
        Some(ours - mean(other, weights, &mut |i| if drawn { numbers.below(n) } else { i })?)
    };
    let mut numbers = SplitMix64::new(seed ^ 0x5eed);
    let drawn: Vec<f64> = Resamples::new(seed, pictures)
        .take(draws)
        .filter_map(|weights| value(&weights, Some(&mut numbers)))
        .collect();
    Some(Measured { value: value(&vec![1; pictures], None)?, interval: Interval::of(drawn) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{Found, Picture, Truth};

    #[test]
    fn the_search_goes_to_the_best_neighbour_and_ends_at_the_grid() {
        // The best rate is the last but one.
        let ap = |rate: usize| Some(if rate == 8 { 0.1 } else { rate as f64 });
        let mut search = Search::default();
        let mut rounds = 0;
        while !search.next().is_empty() {
            rounds += 1;
            search.next().into_iter().for_each(|rate| search.add(rate, ap(rate)));
        }
        assert_eq!((search.best(), rounds, search.tried.len()), (Some(7), 4, 6));
        // All diverge, so the lowest is as good as any.
        let mut search = Search::default();
        while !search.next().is_empty() {
            search.next().into_iter().for_each(|rate| search.add(rate, None));
        }
        assert_eq!(search.best(), Some(0));
    }

    /// Pictures with a truth each, of which `found` finds some.
    fn evaluation(found: impl Fn(usize) -> bool) -> Evaluation {
        let bbox = [10.0, 10.0, 50.0, 50.0];
        let truth = Truth { class: 0, bbox, area: 2500.0, crowd: false, ignored: false };
        let picture = |i| Picture {
            truths: vec![truth.clone()],
            found: found(i).then_some(Found { class: 0, bbox, score: 0.9 }).into_iter().collect(),
        };
        Evaluation::new(&(0..200).map(picture).collect::<Vec<_>>(), 1)
    }

    #[test]
    fn a_difference_on_the_same_pictures_is_surer_than_two_numbers() {
        let (half, more) = (evaluation(|i| i % 2 == 0), evaluation(|i| i % 2 == 0 || i % 9 == 0));
        let alone = mean_ap(std::slice::from_ref(&more), None, 300, 1).expect("truths");
        let apart = mean_ap(std::slice::from_ref(&more), Some(&[half]), 300, 1).expect("truths");
        let (alone, difference) = (alone.interval.expect("draws"), apart.interval.expect("draws"));
        assert!(difference.low > 0.0 && apart.value > 0.03, "{apart:?}");
        assert!(
            difference.high - difference.low < 0.8 * (alone.high - alone.low),
            "{difference:?} {alone:?}"
        );
        let same =
            mean_ap(std::slice::from_ref(&more), Some(std::slice::from_ref(&more)), 50, 1).expect("truths");
        assert_eq!((same.value, same.interval), (0.0, Some(Interval { low: 0.0, high: 0.0 })));
    }
}
