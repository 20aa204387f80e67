//! Objects in view now, by label: a count rises at once and falls only after a delay, also when no frame
//! comes any more.
//!
//! A count that is not known yet is not told: at the start, and for a label that a new model brings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One label's count.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// What was told last; `None`: not known yet.
    shown: Option<usize>,
    /// Since when fewer were seen than shown, and the most that was seen since.
    below: Option<(Instant, usize)>,
}

/// Counts of one camera.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// A count falls only after fewer objects were seen for this long.
    pub off_delay: Duration,
    labels: BTreeMap<Arc<str>, Count>,
    /// Since when nothing can be seen: the camera gives no frames, or they are not looked at.
    blind_since: Option<Instant>,
}

impl Counts {
    /// A camera from which nothing was seen so far.
    pub fn new(labels: &[Arc<str>], off_delay: Duration, now: Instant) -> Self {
        let labels = labels.iter().map(|label| (Arc::clone(label), Count::default())).collect();
        Self { off_delay, labels, blind_since: Some(now) }
    }

    /// Other labels; those that stay keep their counts.
    pub fn set_labels(&mut self, labels: &[Arc<str>]) {
        self.labels = labels
            .iter()
            .map(|label| (Arc::clone(label), self.labels.get(label).copied().unwrap_or_default()))
            .collect();
    }

    /// The labels that are counted.
    pub fn labels(&self) -> impl Iterator<Item = &Arc<str>> {
        self.labels.keys()
    }

    /// Takes what a frame showed, objects by label, and gives the labels whose count changed.
    pub fn see(&mut self, seen: &BTreeMap<Arc<str>, usize>, now: Instant) -> Vec<Arc<str>> {
        self.blind_since = None;
        let mut changed = Vec::new();
        for (label, count) in &mut self.labels {
            if count.see(seen.get(label).copied().unwrap_or(0), now, self.off_delay) {
                changed.push(Arc::clone(label));
            }
        }
        changed
    }

    /// From `now` on nothing can be seen; every count falls to 0 after the delay.
    pub fn go_blind(&mut self, now: Instant) {
        self.blind_since.get_or_insert(now);
    }

    /// Frames come again; what they show is not known before the first was looked at.
    pub fn regain_sight(&mut self) {
        self.blind_since = None;
    }

    /// Lets counts fall whose time has come, and gives the labels that changed.
    pub fn pass_time(&mut self, now: Instant) -> Vec<Arc<str>> {
        let blind =
            self.blind_since.is_some_and(|since| now.saturating_duration_since(since) >= self.off_delay);
        let mut changed = Vec::new();
        for (label, count) in &mut self.labels {
            let fell = if blind { count.set(0) } else { count.fall(now, self.off_delay) };
            if fell {
                changed.push(Arc::clone(label));
            }
        }
        changed
    }

    /// Everything at 0 at once, where it is known: the end of the daemon. Gives the labels that changed.
    pub fn clear(&mut self) -> Vec<Arc<str>> {
        let known = self.labels.iter_mut().filter(|(_, count)| count.shown.is_some());
        known.filter_map(|(label, count)| count.set(0).then(|| Arc::clone(label))).collect()
    }

    /// Whether a count is about to fall: fewer were seen than it shows.
    pub fn is_falling(&self) -> bool {
        self.labels.values().any(|count| count.below.is_some())
    }

    /// When the next count falls if nothing else happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let falls =
            self.labels.values().filter_map(|count| count.below.map(|(since, _)| since + self.off_delay));
        let blind = self.blind_since.filter(|_| self.labels.values().any(|count| count.shown != Some(0)));
        falls.chain(blind.map(|since| since + self.off_delay)).min()
    }

    /// The count of a label; `None` before it is known.
    pub fn shown(&self, label: &str) -> Option<usize> {
        self.labels.get(label).and_then(|count| count.shown)
    }

    /// The sum over all labels; `None` before any is known.
    pub fn all(&self) -> Option<usize> {
        let known: Vec<usize> = self.labels.values().filter_map(|count| count.shown).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    }
}

impl Count {
    /// Takes what one frame showed; returns whether the count shown changed.
    fn see(&mut self, seen: usize, now: Instant, off_delay: Duration) -> bool {
        let Some(shown) = self.shown else { return self.set(seen) };
        if seen >= shown {
            return self.set(seen);
        }
        let (since, most) = self.below.map_or((now, seen), |(since, most)| (since, most.max(seen)));
        self.below = Some((since, most));
        let fell = self.fall(now, off_delay);
        if fell && seen < most {
            self.below = Some((now, seen));
        }
        fell
    }

    /// Falls to the most that was seen since fewer were seen, once that is long enough ago.
    fn fall(&mut self, now: Instant, off_delay: Duration) -> bool {
        match self.below {
            Some((since, most)) if now.saturating_duration_since(since) >= off_delay => self.set(most),
            _ => false,
        }
    }

    fn set(&mut self, count: usize) -> bool {
        self.below = None;
        self.shown.replace(count) != Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Clocked {
        counts: Counts,
        start: Instant,
    }

    impl Clocked {
        fn new() -> Self {
            let start = Instant::now();
            Self { counts: Counts::new(&[Arc::from("person")], Duration::from_secs(2), start), start }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn see(&mut self, ms: u64, persons: usize) -> Option<usize> {
            let now = self.at(ms);
            let changed = self.counts.see(&BTreeMap::from([(Arc::from("person"), persons)]), now);
            self.changed(&changed)
        }

        fn pass(&mut self, ms: u64) -> Option<usize> {
            let changed = self.counts.pass_time(self.at(ms));
            self.changed(&changed)
        }

        fn changed(&self, changed: &[Arc<str>]) -> Option<usize> {
            if changed.is_empty() { None } else { self.counts.shown("person") }
        }

        fn deadline_ms(&self) -> Option<u128> {
            self.counts.next_deadline().map(|at| at.saturating_duration_since(self.start).as_millis())
        }
    }

    #[test]
    fn a_count_rises_at_once_and_falls_after_the_delay() {
        let mut scene = Clocked::new();
        let frames = [(0, 1), (100, 2), (200, 0), (1000, 1), (2100, 0), (2200, 0), (4300, 0)];
        let told: Vec<_> =
            frames.iter().filter_map(|&(ms, seen)| scene.see(ms, seen).map(|count| (ms, count))).collect();
        // Below 2 from 200 on, and 1 was the most since: falls to 1 at 2200, then to 0.
        assert_eq!(told, [(0, 1), (100, 2), (2200, 1), (4300, 0)]);
    }

    #[test]
    fn a_count_falls_without_another_frame() {
        let mut scene = Clocked::new();
        scene.see(0, 1);
        scene.see(500, 0);
        assert_eq!(scene.deadline_ms(), Some(2500));
        assert_eq!((scene.pass(2499), scene.pass(2500), scene.pass(9000)), (None, Some(0), None));
        assert_eq!(scene.deadline_ms(), None);
    }

    #[test]
    fn a_count_is_unknown_until_a_frame_or_the_delay_without_one() {
        let mut scene = Clocked::new();
        assert_eq!((scene.counts.shown("person"), scene.counts.all()), (None, None));
        assert_eq!((scene.pass(1999), scene.pass(2000)), (None, Some(0)));
        let mut scene = Clocked::new();
        scene.counts.regain_sight();
        assert_eq!((scene.pass(60_000), scene.see(60_001, 0)), (None, Some(0)));
    }

    #[test]
    fn a_blind_camera_falls_to_zero_in_one_delay_whatever_flickered_before() {
        let mut scene = Clocked::new();
        scene.see(0, 2);
        scene.see(100, 1);
        scene.counts.go_blind(scene.at(1000));
        scene.counts.go_blind(scene.at(1500));
        assert_eq!(scene.pass(2100), Some(1), "the fall that had begun goes on");
        assert_eq!((scene.pass(2999), scene.pass(3000)), (None, Some(0)));
    }

    #[test]
    fn labels_of_another_model_begin_unknown_and_common_ones_stay() {
        let mut scene = Clocked::new();
        scene.see(0, 3);
        scene.counts.set_labels(&[Arc::from("dog"), Arc::from("person")]);
        assert_eq!((scene.counts.shown("person"), scene.counts.shown("dog")), (Some(3), None));
        scene.counts.set_labels(&[Arc::from("dog")]);
        assert_eq!((scene.counts.shown("person"), scene.counts.all()), (None, None));
    }
}
