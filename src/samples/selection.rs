//! Which frames are worth keeping: those that teach most, few enough, and not the same scene over and over.
//!
//! Pure: the time comes from outside. One [`Selection`] a camera.

use crate::detection::{Detection, overlap};
use crate::splitmix::SplitMix64;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Why a frame is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Something scores around the threshold.
    Uncertain,
    /// Something that was told in the two frames before falls below the threshold, or changes its label.
    Flicker,
    /// Nothing is there, not even with a low score: a negative.
    Empty,
    /// Drawn by lot, so that what the model is sure of is among the samples, too.
    Random,
    /// Somebody said over MQTT that the frame was right or wrong.
    Feedback,
    /// Brought by `retinad samples import`.
    Import,
}

impl Reason {
    /// As it stands in files and tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Uncertain => "uncertain",
            Self::Flicker => "flicker",
            Self::Empty => "empty",
            Self::Random => "random",
            Self::Feedback => "feedback",
            Self::Import => "import",
        }
    }
}

/// How much is kept of one camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Lowest score that is looked at; what scores less is taken for background. Below the threshold.
    pub threshold: f32,
    /// Most samples in any 24 hours.
    pub per_day: u32,
    /// Shortest time between two samples.
    pub interval: Duration,
}

/// What a frame showed.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Every detection of a label that the camera tells, outside of masks, best first.
    pub found: &'a [Detection],
    /// Above which score they are told.
    pub threshold: f32,
    /// There is something else, which is never told: the frame is no negative.
    pub others: bool,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Each reason's share of a day's samples. The rest of the day's budget of one reason is not another's: a
/// camera that is never sure would have no negatives.
const SHARES: [(Reason, f64); 4] =
    [(Reason::Uncertain, 0.4), (Reason::Flicker, 0.2), (Reason::Empty, 0.2), (Reason::Random, 0.2)];
/// What a reason has not used is saved for so long, so that the morning does not use up the day.
const SAVED: Duration = Duration::from_secs(4 * 3600);
/// A score so far above the threshold is still around it.
const AROUND: f32 = 0.15;
/// Boxes of one label that overlap this much are one object.
const SAME_OBJECT: f32 = 0.5;
/// For so long the object that a sample was kept for is no reason for another one: most of what is uncertain
/// is a chair that stands there all day.
const KNOWN: Duration = Duration::from_secs(6 * 3600);
/// Most objects that are remembered for that.
const MOST_KNOWN: usize = 64;

/// Decides frame by frame for one camera.
#[derive(Debug)]
pub struct Selection {
    limits: Limits,
    /// Samples that a reason may still have, as of a time.
    budgets: BTreeMap<Reason, (f64, Instant)>,
    /// When samples were kept, in the last 24 hours.
    kept: VecDeque<Instant>,
    /// The last frame but one, and the last: what was told.
    before: [Vec<Detection>; 2],
    known: VecDeque<(Detection, Instant)>,
    next_lot: Instant,
    lots: SplitMix64,
}

impl Selection {
    /// Begins at `now`. Cameras of one node have different `seed`s, so that they do not draw the same lots.
    #[must_use]
    pub fn new(limits: Limits, now: Instant, seed: u64) -> Self {
        let mut selection = Self {
            limits,
            budgets: SHARES.iter().map(|(reason, _)| (*reason, (1.0, now))).collect(),
            kept: VecDeque::new(),
            before: Default::default(),
            known: VecDeque::new(),
            next_lot: now,
            lots: SplitMix64::new(seed),
        };
        selection.draw(now);
        selection
    }

    /// Other limits from now on; what was kept already counts.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Why this frame is to be kept; empty: it is not.
    pub fn look(&mut self, now: Instant, seen: Seen<'_>) -> BTreeSet<Reason> {
        let told = seen.found.partition_point(|detection| detection.score > seen.threshold);
        let causes = self.causes(now, seen, told);
        let [_, last] = std::mem::take(&mut self.before);
        self.before = [last, seen.found[..told].to_vec()];
        if causes.is_empty() || !self.has_room(now) {
            return BTreeSet::new();
        }
        let reasons: BTreeSet<Reason> =
            causes.keys().copied().filter(|reason| self.pays(now, *reason)).collect();
        if reasons.is_empty() {
            return reasons;
        }
        self.kept.push_back(now);
        if reasons.contains(&Reason::Random) {
            self.draw(now);
        }
        for object in causes.into_values().flatten() {
            self.known.push_back((object, now));
        }
        let surplus = self.known.len().saturating_sub(MOST_KNOWN);
        self.known.drain(..surplus);
        reasons
    }

    /// Each reason that this frame gives, with the objects that give it.
    fn causes(&mut self, now: Instant, seen: Seen<'_>, told: usize) -> BTreeMap<Reason, Vec<Detection>> {
        self.known.retain(|(_, since)| now.saturating_duration_since(*since) < KNOWN);
        let looked_at = seen.found.partition_point(|detection| detection.score >= self.limits.threshold);
        let mut causes = BTreeMap::new();
        if looked_at == 0 && !seen.others {
            causes.insert(Reason::Empty, Vec::new());
        }
        if now >= self.next_lot {
            causes.insert(Reason::Random, Vec::new());
        }
        let is_known = |object: &Detection| self.known.iter().any(|(known, _)| is_same(known, object));
        let around = |d: &&Detection| d.score <= seen.threshold + AROUND && !is_known(d);
        let uncertain: Vec<_> = seen.found[..looked_at].iter().filter(around).copied().collect();
        if !uncertain.is_empty() {
            causes.insert(Reason::Uncertain, uncertain);
        }
        let flickers: Vec<_> = self.lost(seen, told).filter(|object| !is_known(object)).collect();
        if !flickers.is_empty() {
            causes.insert(Reason::Flicker, flickers);
        }
        causes
    }

    /// What was told in both frames before and is still there, but is not told any more, or not by that label.
    fn lost<'a>(&'a self, seen: Seen<'a>, told: usize) -> impl Iterator<Item = Detection> + 'a {
        let [earlier, last] = &self.before;
        let (above, below) = seen.found.split_at(told);
        let stood = last.iter().filter(move |object| earlier.iter().any(|old| is_same(old, object)));
        let gone = stood.filter(move |object| !above.iter().any(|new| is_same(new, object)));
        gone.filter(move |object| {
            let weaker = below.iter().any(|new| is_same(new, object));
            weaker || above.iter().any(|new| overlap(&new.bbox, &object.bbox) >= SAME_OBJECT)
        })
        .copied()
    }

    fn has_room(&mut self, now: Instant) -> bool {
        while self.kept.front().is_some_and(|first| now.saturating_duration_since(*first) >= DAY) {
            self.kept.pop_front();
        }
        let early =
            self.kept.back().is_some_and(|last| now.saturating_duration_since(*last) < self.limits.interval);
        !early && self.kept.len() < self.limits.per_day as usize
    }

    /// Takes one sample off the reason's budget, if there is one.
    fn pays(&mut self, now: Instant, reason: Reason) -> bool {
        let share = SHARES.iter().find(|(known, _)| *known == reason).map_or(0.0, |(_, share)| *share);
        let a_day = share * f64::from(self.limits.per_day);
        let part = |time: Duration| a_day * time.as_secs_f64() / DAY.as_secs_f64();
        let Some((budget, since)) = self.budgets.get_mut(&reason) else { return false };
        *budget = (*budget + part(now.saturating_duration_since(*since))).min(part(SAVED).max(1.0));
        *since = now;
        let pays = *budget >= 1.0;
        if pays {
            *budget -= 1.0;
        }
        pays
    }

    /// The next moment of a random sample: half to one and a half of the mean distance away.
    fn draw(&mut self, now: Instant) {
        let share =
            SHARES.iter().find(|(known, _)| *known == Reason::Random).map_or(0.0, |(_, share)| *share);
        let mean = DAY.div_f64((share * f64::from(self.limits.per_day)).max(1.0));
        self.next_lot = now + mean.mul_f64(0.5 + self.lots.unit());
    }
}

fn is_same(a: &Detection, b: &Detection) -> bool {
    a.class == b.class && overlap(&a.bbox, &b.bbox) >= SAME_OBJECT
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { threshold: 0.2, per_day: 100, interval: Duration::from_secs(60) };

    fn detection(class: usize, score: f32, left: f32) -> Detection {
        Detection { class, score, bbox: [left, 0.0, left + 10.0, 10.0] }
    }

    #[test]
    fn a_frame_with_something_that_is_never_told_is_no_negative() {
        for others in [false, true] {
            let now = Instant::now();
            let mut selection = Selection::new(LIMITS, now, 1);
            let seen = Seen { found: &[], threshold: 0.5, others };
            let reasons = selection.look(now + Duration::from_secs(1), seen);
            assert_eq!(reasons.contains(&Reason::Empty), !others);
        }
    }

    /// A selection and a clock, looked at once a second.
    struct Day {
        selection: Selection,
        now: Instant,
    }

    impl Day {
        fn new(limits: Limits) -> Self {
            let now = Instant::now();
            Self { selection: Selection::new(limits, now, 1), now }
        }

        fn look(&mut self, found: &[Detection]) -> Vec<Reason> {
            self.now += Duration::from_secs(1);
            self.selection.look(self.now, Seen { found, threshold: 0.5, others: false }).into_iter().collect()
        }

        /// The same frame, once a second for so long; what was kept, by reason.
        fn pass(&mut self, hours: u64, found: impl Fn(u64) -> Vec<Detection>) -> BTreeMap<Reason, usize> {
            let mut kept = BTreeMap::new();
            for second in 0..hours * 3600 {
                for reason in self.look(&found(second)) {
                    *kept.entry(reason).or_default() += 1;
                }
            }
            kept
        }
    }

    #[test]
    fn around_the_threshold_is_kept_and_what_is_certain_is_not() {
        for (score, kept) in [(0.19, false), (0.2, true), (0.5, true), (0.65, true), (0.66, false)] {
            let mut day = Day::new(LIMITS);
            let reasons = day.look(&[detection(0, score, 0.0)]);
            assert_eq!(reasons.contains(&Reason::Uncertain), kept, "{score}");
            assert_eq!(reasons.contains(&Reason::Empty), score < 0.2, "{score}");
        }
    }

    #[test]
    fn the_chair_that_stands_there_all_day_is_kept_once_in_six_hours() {
        let mut day = Day::new(LIMITS);
        let kept = day.pass(12, |_| vec![detection(3, 0.45, 0.0)]);
        assert_eq!(kept[&Reason::Uncertain], 2);
        // Another thing there is kept all the same.
        assert_eq!(day.look(&[detection(4, 0.45, 0.0)]), [Reason::Uncertain]);
    }

    #[test]
    fn what_falls_below_the_threshold_or_changes_its_label_flickers() {
        let sure = [detection(0, 0.9, 0.0)];
        for (third, flickers) in [
            (vec![detection(0, 0.3, 1.0)], true),
            (vec![detection(1, 0.9, 1.0)], true),
            (vec![detection(0, 0.9, 1.0)], false),
            // It has gone away: that is no flicker.
            (vec![], false),
            (vec![detection(0, 0.3, 50.0)], false),
        ] {
            let mut day = Day::new(LIMITS);
            assert_eq!([day.look(&sure), day.look(&sure)], [[], []]);
            assert_eq!(day.look(&third).contains(&Reason::Flicker), flickers, "{third:?}");
        }
        // Once seen is not enough: it may have been the error.
        let mut day = Day::new(LIMITS);
        day.look(&sure);
        assert!(!day.look(&[detection(0, 0.3, 1.0)]).contains(&Reason::Flicker));
    }

    #[test]
    fn a_day_has_its_limit_and_each_reason_its_share() {
        // Always something new and uncertain.
        let mut day = Day::new(LIMITS);
        let busy = |second: u64| vec![detection(second as usize, 0.4, 0.0)];
        let first = day.pass(1, busy);
        assert!(first[&Reason::Uncertain] <= 4, "the morning does not use up the day: {first:?}");
        let kept = day.pass(23, busy);
        assert!((35..=45).contains(&kept[&Reason::Uncertain]), "{kept:?}");
        assert!(!kept.contains_key(&Reason::Empty) && kept[&Reason::Random] >= 15, "{kept:?}");
        // An empty yard.
        let mut day = Day::new(LIMITS);
        let kept = day.pass(24, |_| Vec::new());
        assert!((15..=25).contains(&kept[&Reason::Empty]), "{kept:?}");
        // The limit holds whatever happens.
        let mut day = Day::new(Limits { per_day: 3, ..LIMITS });
        let kept: usize = day.pass(24, |s| if s % 2 == 0 { busy(s) } else { Vec::new() }).values().sum();
        assert!(kept <= 3 + 2, "{kept}");
        assert!(day.selection.kept.len() <= 3);
    }

    #[test]
    fn two_samples_are_an_interval_apart() {
        let mut day = Day::new(Limits { per_day: 10_000, ..LIMITS });
        let mut last = None;
        for second in 0..3600 {
            if !day.look(&[detection(second, 0.4, 0.0)]).is_empty() {
                assert!(last.is_none_or(|last| second - last >= 60), "{second} after {last:?}");
                last = Some(second);
            }
        }
        assert!(last.is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let mut day = Day::new(Limits { per_day: 10_000, interval: Duration::ZERO, ..LIMITS });
        day.pass(2, |second| (0..100).map(|i| detection(second as usize * 100 + i, 0.4, 0.0)).collect());
        assert!(day.selection.known.len() <= MOST_KNOWN && day.selection.kept.len() <= 10_000);
    }
}
