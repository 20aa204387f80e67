//! Whether scores mean what they say: of the detections with score 0.7, seven in ten should be hits.

use super::Evaluation;
use serde::Serialize;

/// Bins of equal width over the scores 0 to 1.
const BINS: usize = 10;

/// A range of scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Least score, included.
    pub from: f64,
    /// Largest score, not included but for 1.
    pub to: f64,
    /// Detections with such a score.
    pub detections: u64,
    /// Their mean score; none without detections.
    pub score: Option<f64>,
    /// Share of them that are hits at IoU 0.50.
    pub precision: Option<f64>,
}

/// Calibration of all detections that are not ignored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error: mean distance between score and precision of the 10 bins, weighted by
    /// their detections; none without detections.
    pub expected_error: Option<f64>,
    /// The bins.
    pub bins: Vec<Bin>,
}

/// Of the detections of each bin.
struct Sums {
    counts: [u64; BINS],
    scores: [f64; BINS],
    hits: [u64; BINS],
}

impl Sums {
    fn expected_error(&self) -> Option<f64> {
        let all: u64 = self.counts.iter().sum();
        let distance: f64 =
            self.scores.iter().zip(&self.hits).map(|(s, hits)| (s - *hits as f64).abs()).sum();
        (all > 0).then(|| distance / all as f64)
    }
}

impl Evaluation {
    /// Calibration at IoU 0.50. It depends on the least score that the detections were asked for with.
    #[must_use]
    pub fn calibration(&self) -> Calibration {
        let sums = self.bin_sums(|_| 1);
        let Sums { counts, scores, hits } = &sums;
        let bin = |bin: usize| {
            let share = |sum: f64| (counts[bin] > 0).then(|| sum / counts[bin] as f64);
            Bin {
                from: bin as f64 / BINS as f64,
                to: (bin + 1) as f64 / BINS as f64,
                detections: counts[bin],
                score: share(scores[bin]),
                precision: share(hits[bin] as f64),
            }
        };
        Calibration { expected_error: sums.expected_error(), bins: (0..BINS).map(bin).collect() }
    }

    /// The expected error of the calibration over pictures of which each is taken `weights[number]` times;
    /// none without a detection.
    ///
    /// # Panics
    /// If there is not one weight for each picture.
    #[must_use]
    pub fn calibration_error_of(&self, weights: &[u32]) -> Option<f64> {
        assert_eq!(weights.len(), self.pictures, "one weight a picture");
        self.bin_sums(|picture| weights[picture as usize]).expected_error()
    }

    fn bin_sums(&self, weight: impl Fn(u32) -> u32) -> Sums {
        let mut sums = Sums { counts: [0; BINS], scores: [0.0; BINS], hits: [0; BINS] };
        let rows = self.classes.iter().flat_map(|class| &class.rows);
        for row in rows.filter(|row| row.ignored[0] & 1 == 0) {
            let (bin, weight) = (((row.score * BINS as f64) as usize).min(BINS - 1), weight(row.picture));
            sums.counts[bin] += u64::from(weight);
            sums.scores[bin] += f64::from(weight) * row.score;
            sums.hits[bin] += u64::from(weight) * u64::from(row.matched[0] & 1);
        }
        sums
    }
}
