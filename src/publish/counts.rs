//! Objects seen now, per label: rises at once, falls only after a delay. Pure: time is an argument.

use std::time::{Duration, Instant};

/// Counts of one camera.
#[derive(Debug, Clone)]
pub struct Counts {
    off_delay: Duration,
    /// Per label: (shown, since when fewer were seen and the most seen since).
    labels: Vec<(usize, Option<(Instant, usize)>)>,
}

impl Counts {
    /// For `labels` labels; a count falls once fewer were seen for `off_delay`.
    #[must_use]
    pub fn new(labels: usize, off_delay: Duration) -> Self {
        Self { off_delay, labels: vec![(0, None); labels] }
    }

    /// Changes the delay; counts stay.
    pub fn set_off_delay(&mut self, off_delay: Duration) {
        self.off_delay = off_delay;
    }

    /// Takes what a frame showed (objects per label) and calls `changed(label, count)` for each count that changed.
    pub fn see(&mut self, seen: &[usize], now: Instant, mut changed: impl FnMut(usize, usize)) {
        for (label, ((shown, below), &count)) in self.labels.iter_mut().zip(seen).enumerate() {
            if count >= *shown {
                *below = None;
                if count > *shown {
                    *shown = count;
                    changed(label, count);
                }
                continue;
            }
            let (since, most) = below.map_or((now, count), |(since, most)| (since, most.max(count)));
            if now.saturating_duration_since(since) >= self.off_delay {
                *shown = most;
                *below = if count < most { Some((now, count)) } else { None };
                changed(label, most);
            } else {
                *below = Some((since, most));
            }
        }
    }

    /// The count shown for a label.
    #[must_use]
    pub fn shown(&self, label: usize) -> usize {
        self.labels.get(label).map_or(0, |(shown, _)| *shown)
    }

    /// The sum over all labels.
    #[must_use]
    pub fn all(&self) -> usize {
        self.labels.iter().map(|(shown, _)| shown).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_rises_at_once_and_falls_after_the_delay() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut counts = Counts::new(1, Duration::from_secs(2));
        let mut log = Vec::new();
        for (ms, seen) in [(0, 1), (100, 2), (200, 0), (1000, 1), (2100, 0), (2200, 0), (4300, 0)] {
            counts.see(&[seen], at(ms), |_, count| log.push((ms, count)));
        }
        // Below 2 from 200 on, and 1 was the most since: falls to 1 at 2200, then to 0.
        assert_eq!(log, [(0, 1), (100, 2), (2200, 1), (4300, 0)]);
    }
}
