//! How often a time was within which bounds, since the start.

use std::time::Duration;

/// Upper bounds of the buckets, seconds: fine where a frame on a Raspberry Pi is (20 to 500 ms), coarse beyond.
pub const BOUNDS_S: [f64; 15] =
    [0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0];

/// Counts of durations. Its size does not depend on how many were taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Durations above the bound before and within this one; the last are above all bounds.
    buckets: [u64; BOUNDS_S.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Takes one duration.
    pub fn take(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS_S.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS_S.len());
        self.buckets[bucket] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// How many were taken.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// For each of [`BOUNDS_S`] how many were at most that.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let at_most = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        BOUNDS_S.into_iter().zip(at_most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_its_bucket_and_all_above() {
        assert!(BOUNDS_S.is_sorted_by(|one, next| one < next));
        let mut histogram = Histogram::default();
        for ms in [0, 5, 6, 100, 100, 4999, 5000, 5001, 86_400_000] {
            histogram.take(Duration::from_millis(ms));
        }
        let cumulative: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(cumulative, [2, 3, 3, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5, 7]);
        assert_eq!((histogram.count(), histogram.sum()), (9, Duration::from_millis(86_415_211)));
    }
}
