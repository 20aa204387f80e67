//! How far chance alone moves AP: the bootstrap over pictures.
//!
//! As many pictures as there are, drawn with repetition, many times; the interval holds the middle 95 % of
//! the APs. Whole pictures are drawn, because what stands in one picture goes together.

use super::{Ap, Evaluation};
use crate::splitmix::SplitMix64;
use serde::Serialize;

/// Share of the draws that an interval holds.
const SHARE: f64 = 0.95;

/// Where 95 % of the draws lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// 2.5 % lie below.
    pub low: f64,
    /// 2.5 % lie above.
    pub high: f64,
}

impl Interval {
    /// Of draws in any order, between neighbours by their distance; none without draws.
    #[must_use]
    pub fn of(mut draws: Vec<f64>) -> Option<Self> {
        draws.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * draws.len().checked_sub(1)? as f64;
            let (below, above) = (draws[place.floor() as usize], draws[place.ceil() as usize]);
            Some(below + (above - below) * place.fract())
        };
        let tail = (1.0 - SHARE) / 2.0;
        Some(Self { low: at(tail)?, high: at(1.0 - tail)? })
    }
}

/// Intervals of AP; none where no draw has a truth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Intervals {
    /// Of AP over IoU 0.50 to 0.95.
    pub ap: Option<Interval>,
    /// Of AP at IoU 0.50.
    pub ap50: Option<Interval>,
}

impl Evaluation {
    /// AP of `draws` draws of the pictures; the same seed gives the same numbers on every machine.
    ///
    /// Two models that are judged on the same pictures are compared draw by draw:
    /// [`Evaluation::ap_of`] of both for each of the same [`Resamples`].
    #[must_use]
    pub fn bootstrap(&self, seed: u64, draws: usize) -> Intervals {
        let drawn: Vec<Ap> =
            Resamples::new(seed, self.pictures).take(draws).map(|weights| self.ap_of(&weights)).collect();
        Intervals {
            ap: Interval::of(drawn.iter().filter_map(|ap| ap.ap).collect()),
            ap50: Interval::of(drawn.iter().filter_map(|ap| ap.ap50).collect()),
        }
    }
}

/// Draws without end: how many times each picture is taken.
#[derive(Debug, Clone)]
pub struct Resamples {
    numbers: SplitMix64,
    pictures: usize,
}

impl Resamples {
    /// Draws of `pictures` pictures.
    #[must_use]
    pub fn new(seed: u64, pictures: usize) -> Self {
        Self { numbers: SplitMix64::new(seed), pictures }
    }
}

impl Iterator for Resamples {
    type Item = Vec<u32>;

    fn next(&mut self) -> Option<Vec<u32>> {
        let mut weights = vec![0; self.pictures];
        for _ in 0..self.pictures {
            let picture = self.numbers.below(self.pictures);
            weights[picture] += 1;
        }
        Some(weights)
    }
}
