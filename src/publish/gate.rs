//! How fast commands are let in: a burst, then a rate for each topic. Of what comes faster the newest waits
//! for its turn, so that whoever drags a slider ends where the finger stopped. Pure: time is an argument.

use crate::contract::{Command, Topic};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Commands a second and topic that are let in, and how many at once.
const PER_SECOND: f64 = 10.0;
const AT_ONCE: f64 = 20.0;

/// One topic's share. There are as many as commands and verbs.
struct Bucket {
    tokens: f64,
    since: Instant,
    /// The newest command that came while there was no token.
    waiting: Option<Command>,
}

/// What a connection remembers of each topic on which commands arrive.
#[derive(Default)]
pub(super) struct Gate {
    buckets: BTreeMap<Topic, Bucket>,
}

impl Gate {
    /// Whether a message on this topic may be looked at now.
    pub fn admits(&mut self, topic: &Topic, now: Instant) -> bool {
        let new = || Bucket { tokens: AT_ONCE, since: now, waiting: None };
        let bucket = self.buckets.entry(topic.clone()).or_insert_with(new);
        bucket.fill(now);
        // Whoever waits already goes first, and only the newest of them is wanted.
        let admitted = bucket.tokens >= 1.0 && bucket.waiting.is_none();
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }

    /// Lets a command wait for its turn, in place of the one that waited before.
    pub fn wait(&mut self, topic: &Topic, command: Command) {
        if let Some(bucket) = self.buckets.get_mut(topic) {
            bucket.waiting = Some(command);
        }
    }

    /// A waiting command whose turn has come.
    pub fn next_due(&mut self, now: Instant) -> Option<Command> {
        self.buckets.values_mut().find_map(|bucket| {
            bucket.waiting.as_ref()?;
            bucket.fill(now);
            if bucket.tokens < 1.0 {
                return None;
            }
            bucket.tokens -= 1.0;
            bucket.waiting.take()
        })
    }

    /// When [`Gate::next_due`] has something to give.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.buckets.values().filter(|bucket| bucket.waiting.is_some());
        waiting
            .map(|bucket| bucket.since + Duration::from_secs_f64((1.0 - bucket.tokens).max(0.0) / PER_SECOND))
            .min()
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.tokens = (self.tokens + seconds * PER_SECOND).min(AT_ONCE);
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Change, Kind};
    use std::sync::Arc;

    fn topic(camera: &str) -> Topic {
        Topic::of_camera(Kind::ThresholdSet, &Arc::from(camera))
    }

    fn command(value: f32) -> Command {
        Command { camera: Arc::from("a"), change: Change::Threshold(value) }
    }

    #[test]
    fn a_flood_on_one_topic_is_cut_and_others_pass() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        assert_eq!((0..100).filter(|_| gate.admits(&topic("a"), start)).count(), 20);
        assert!(gate.admits(&topic("b"), start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| gate.admits(&topic("a"), later)).count(), 10);
    }

    #[test]
    fn of_what_comes_too_fast_the_newest_gets_its_turn() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        for i in 0..100u8 {
            if !gate.admits(&topic("a"), start) {
                gate.wait(&topic("a"), command(f32::from(i) / 100.0));
            }
        }
        assert_eq!(gate.next_due(start), None);
        let due = gate.next_deadline().expect("one waits");
        assert!(due > start && due <= start + Duration::from_millis(101));
        assert_eq!(gate.next_due(due + Duration::from_millis(1)), Some(command(0.99)));
        assert_eq!((gate.next_due(due + Duration::from_secs(9)), gate.next_deadline()), (None, None));
    }
}
