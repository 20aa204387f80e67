//! The account of events: what was told as started and has not been told as ended, over the end of the daemon,
//! whatever ends it.
//!
//! Each start and each end is written down before it is published, and struck off once the broker has
//! acknowledged it. A daemon that starts finds those that the one before left: it repeats what may not have
//! arrived (the same message, which its key tells), and ends what was open, for the reason `restart`.

use super::{Effect, Now};
use crate::contract::{
    EndReason, EventKey, EventType, Kind, ObjectEvent, SCHEMA_VERSION, Topic, parse_ulid, rfc3339,
};
use crate::settings::is_id;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Most objects that are written down. Where there are more, a broker has been away for long: of those whose
/// start did not leave either, nobody knows.
const MOST_WRITTEN: usize = 256;
/// Bytes by which the end of an object may be longer than what was written of it.
const ROOM_FOR_AN_END: usize = 256;
/// Most messages that wait for the disk; what is above goes out unwritten.
const MOST_WAITING: usize = 1000;

/// One object's account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// The last message but for updates, or as much newer as there was reason to write.
    event: ObjectEvent,
    /// Number of the frame with which it started.
    start_seq: u64,
    /// The broker has its start.
    start_arrived: bool,
}

/// As it stands in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Written {
    v: u32,
    objects: Vec<Entry>,
}

/// A message that waits until it is written down.
#[derive(Debug)]
struct Waiting {
    /// The account that must be written before; none until it was given to be written.
    revision: Option<u64>,
    event: ObjectEvent,
    key: EventKey,
    picture: Picture,
}

/// The picture that is sent before an event.
#[derive(Debug)]
enum Picture {
    None,
    /// It is being made under this number.
    Awaited(u64, Topic),
    Here(Topic, Vec<u8>),
}

/// The account of all cameras.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<u128, Entry>,
    waiting: VecDeque<Waiting>,
    /// Counts what was given to be written, and what of it was written.
    given: u64,
    written: u64,
    changed: bool,
}

impl Ledger {
    /// What the daemon before has left.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let written: Written = serde_json::from_str(text)?;
        // Names become topics, and a message must fit its own: this program writes no others.
        let is_ours = |entry: &Entry| {
            // Zones are left out where there is no room for them.
            let least = ObjectEvent { zones: Vec::new(), entered_zones: Vec::new(), ..entry.event.clone() };
            let fits = least.encode_fitting().len() <= Kind::Events.spec().max_bytes - ROOM_FOR_AN_END;
            is_id(&entry.event.camera) && fits
        };
        let known = written.objects.into_iter().filter(is_ours);
        let entries = known.filter_map(|entry| Some((parse_ulid(&entry.event.id)?, entry)));
        Ok(Self { entries: entries.take(MOST_WRITTEN).collect(), ..Self::default() })
    }

    /// Repeats what may not have arrived of the daemon before, and ends what was open.
    pub(super) fn close_what_was_left(&mut self, now: Now) {
        for (object, mut entry) in std::mem::take(&mut self.entries) {
            if !entry.start_arrived {
                let started = ObjectEvent {
                    event_type: EventType::Start,
                    ended_at: None,
                    end_reason: None,
                    seq: entry.start_seq,
                    ..entry.event.clone()
                };
                self.wait(object, started, Picture::None);
            }
            if entry.event.event_type != EventType::End {
                entry.event = ended_by_restart(now, entry.event);
            }
            self.wait(object, entry.event.clone(), Picture::None);
            self.entries.insert(object, entry);
        }
        self.changed |= !self.entries.is_empty();
    }

    /// Takes an event that is to be published, after the picture that is being made under a number for a topic.
    pub(super) fn add(&mut self, event: ObjectEvent, picture: Option<(u64, Topic)>) {
        let Some(object) = parse_ulid(&event.id) else { return };
        let picture = picture.map_or(Picture::None, |(number, topic)| Picture::Awaited(number, topic));
        self.wait(object, event.clone(), picture);
        // A repetition comes without it.
        let event = ObjectEvent { snapshot: None, ..event };
        match event.event_type {
            EventType::Start => {
                let entry = Entry { start_seq: event.seq, event, start_arrived: false };
                self.entries.insert(object, entry);
                self.changed = true;
            }
            EventType::Update => {
                // Written with the next start or end; until then the object is where it was.
                if let Some(entry) = self.entries.get_mut(&object) {
                    entry.event = event;
                }
            }
            EventType::End => {
                if let Some(entry) = self.entries.get_mut(&object) {
                    entry.event = event;
                    self.changed = true;
                }
            }
        }
    }

    fn wait(&mut self, object: u128, event: ObjectEvent, picture: Picture) {
        let key = EventKey { object, event_type: event.event_type };
        self.waiting.push_back(Waiting { revision: None, event, key, picture });
    }

    /// A picture is made; or not, then its event goes without.
    pub(super) fn take_picture(&mut self, number: u64, jpeg: Option<Vec<u8>>) {
        let is_meant =
            |waiting: &&mut Waiting| matches!(waiting.picture, Picture::Awaited(n, _) if n == number);
        let Some(waiting) = self.waiting.iter_mut().find(is_meant) else { return };
        let before = std::mem::replace(&mut waiting.picture, Picture::None);
        match (before, jpeg) {
            (Picture::Awaited(_, topic), Some(jpeg)) => waiting.picture = Picture::Here(topic, jpeg),
            _ => waiting.event.snapshot = None,
        }
    }

    /// The broker has these, or nobody will ever know whether it has.
    pub(super) fn settle(&mut self, keys: &[EventKey]) {
        for EventKey { object, event_type } in keys {
            match event_type {
                EventType::Start => {
                    if let Some(entry) = self.entries.get_mut(object) {
                        entry.start_arrived = true;
                        self.changed = true;
                    }
                }
                EventType::End => self.changed |= self.entries.remove(object).is_some(),
                EventType::Update => {}
            }
        }
    }

    /// Has what changed written down, and publishes what needs nothing more.
    pub(super) fn write(&mut self, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.changed) {
            self.given += 1;
            effects.push(Effect::Record { revision: self.given, bytes: self.encode() });
        }
        for waiting in self.waiting.iter_mut().rev().take_while(|waiting| waiting.revision.is_none()) {
            waiting.revision = Some(self.given);
        }
        self.publish_written(effects);
    }

    /// The account with this number stands on the disk, or cannot: what waited for it is published. After the
    /// greatest number nothing waits any more, for a picture neither.
    pub(super) fn take_written(&mut self, revision: u64, effects: &mut Vec<Effect>) {
        self.written = self.written.max(revision);
        self.publish_written(effects);
    }

    fn publish_written(&mut self, effects: &mut Vec<Effect>) {
        let is_last_call = self.written == u64::MAX;
        let is_due = |waiting: &Waiting| {
            let is_written = waiting.revision.is_some_and(|revision| revision <= self.written);
            is_written && (is_last_call || !matches!(waiting.picture, Picture::Awaited(..)))
        };
        while self.waiting.len() > MOST_WAITING || self.waiting.front().is_some_and(is_due) {
            effects.extend(self.waiting.pop_front().map(Waiting::publish));
        }
    }

    /// Whether messages wait for the disk.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// As it stands in the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let may_be_out = |entry: &&Entry| entry.start_arrived || entry.event.event_type != EventType::End;
        let (first, then): (Vec<&Entry>, Vec<&Entry>) = self.entries.values().partition(may_be_out);
        let objects = first.into_iter().chain(then).take(MOST_WRITTEN).cloned().collect();
        serde_json::to_vec(&Written { v: SCHEMA_VERSION, objects }).unwrap_or_default()
    }
}

impl Waiting {
    fn publish(mut self) -> Effect {
        let picture = match self.picture {
            Picture::None => None,
            Picture::Awaited(..) => {
                self.event.snapshot = None;
                None
            }
            Picture::Here(topic, jpeg) => Some((topic, jpeg)),
        };
        let topic = Topic::of_camera(Kind::Events, &Arc::from(self.event.camera.as_str()));
        Effect::PublishEvent { topic, payload: self.event.encode_fitting(), key: self.key, picture }
    }
}

fn ended_by_restart(now: Now, event: ObjectEvent) -> ObjectEvent {
    ObjectEvent {
        event_type: EventType::End,
        // When it was told last; nobody saw when it left.
        ended_at: Some(event.time.clone()),
        end_reason: Some(EndReason::Restart),
        changed: Vec::new(),
        time: rfc3339(now.wall),
        mono_ms: u64::try_from(now.boot.as_millis()).unwrap_or(u64::MAX),
        clock_synced: now.synced,
        ..event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::ulid_text;
    use std::time::{Duration, Instant, SystemTime};

    /// Of a daemon that left nothing.
    const EMPTY: &[u8] = br#"{"v":1,"objects":[]}"#;

    fn now() -> Now {
        Now { mono: Instant::now(), wall: SystemTime::UNIX_EPOCH, boot: Duration::from_secs(9), synced: true }
    }

    fn event(object: u128, event_type: EventType, seq: u64) -> ObjectEvent {
        ObjectEvent {
            id: ulid_text(object),
            event_type,
            seq,
            camera: "front".into(),
            ..ObjectEvent::of_nothing()
        }
    }

    /// What a ledger gave to be written last, and what it published, in order.
    #[derive(Default)]
    struct World {
        disk: Vec<u8>,
        revision: u64,
        published: Vec<(EventKey, u64)>,
    }

    impl World {
        fn take(&mut self, effects: Vec<Effect>) {
            for effect in effects {
                match effect {
                    Effect::Record { revision, bytes } => (self.revision, self.disk) = (revision, bytes),
                    Effect::PublishEvent { payload, key, .. } => {
                        let event: ObjectEvent = serde_json::from_slice(&payload).expect("an event");
                        self.published.push((key, event.seq));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }

        fn write(&mut self, ledger: &mut Ledger) {
            let mut effects = Vec::new();
            ledger.write(&mut effects);
            self.take(effects);
        }

        fn written(&mut self, ledger: &mut Ledger) {
            let mut effects = Vec::new();
            ledger.take_written(self.revision, &mut effects);
            self.take(effects);
        }

        fn after_a_crash(&self) -> (Ledger, World) {
            let mut ledger = Ledger::parse(std::str::from_utf8(&self.disk).expect("text")).expect("ours");
            ledger.close_what_was_left(now());
            let mut world = World { disk: self.disk.clone(), ..World::default() };
            world.write(&mut ledger);
            world.written(&mut ledger);
            (ledger, world)
        }
    }

    fn key(object: u128, event_type: EventType) -> EventKey {
        EventKey { object, event_type }
    }

    #[test]
    fn nothing_is_published_before_it_is_written_and_order_is_kept() {
        let (mut ledger, mut world) = (Ledger::default(), World::default());
        ledger.add(event(1, EventType::Start, 10), None);
        ledger.add(event(1, EventType::Update, 11), None);
        world.write(&mut ledger);
        assert!(world.published.is_empty() && ledger.waits());
        world.written(&mut ledger);
        assert_eq!(world.published.len(), 2);
        ledger.add(event(1, EventType::Update, 12), None);
        world.write(&mut ledger);
        assert_eq!(world.published.last(), Some(&(key(1, EventType::Update), 12)), "needs no writing");
        ledger.add(event(1, EventType::End, 13), None);
        ledger.add(event(2, EventType::Start, 13), None);
        world.write(&mut ledger);
        assert_eq!(world.published.len(), 3);
        world.written(&mut ledger);
        let last: Vec<_> = world.published[3..].iter().map(|(key, _)| *key).collect();
        assert_eq!(last, [key(1, EventType::End), key(2, EventType::Start)]);
    }

    #[test]
    fn whatever_moment_the_daemon_is_killed_each_start_gets_one_end() {
        // The life of an object as steps; the daemon is killed after any number of them.
        type Step = fn(&mut Ledger, &mut World);
        let steps: [Step; 8] = [
            |ledger, _| ledger.add(event(7, EventType::Start, 1), None),
            |ledger, world| world.write(ledger),
            |ledger, world| world.written(ledger),
            |ledger, world| {
                ledger.settle(&[key(7, EventType::Start)]);
                world.write(ledger);
            },
            |ledger, world| {
                ledger.add(event(7, EventType::End, 5), None);
                world.write(ledger);
            },
            |ledger, world| world.written(ledger),
            |ledger, _| ledger.settle(&[key(7, EventType::End)]),
            |ledger, world| world.write(ledger),
        ];
        for killed_after in 0..=steps.len() {
            let (mut ledger, mut world) =
                (Ledger::default(), World { disk: EMPTY.to_vec(), ..World::default() });
            for step in &steps[..killed_after] {
                step(&mut ledger, &mut world);
            }
            let (mut again, next) = world.after_a_crash();
            let all: std::collections::BTreeSet<_> = world.published.iter().chain(&next.published).collect();
            let of = |wanted| all.iter().filter(|(key, _)| key.event_type == wanted).count();
            assert_eq!(
                of(EventType::Start),
                of(EventType::End),
                "killed after {killed_after} steps: {all:?}"
            );
            assert!(of(EventType::End) <= 1, "killed after {killed_after} steps: {all:?}");
            // Killed once more at once, then settled: nothing is left.
            let twice = next.after_a_crash().1;
            assert!(twice.published.iter().all(|event| next.published.contains(event)), "{killed_after}");
            again.settle(&[key(7, EventType::Start), key(7, EventType::End)]);
            assert!(again.entries.is_empty());
        }
    }

    #[test]
    fn a_disk_that_never_answers_holds_back_a_bounded_number() {
        let (mut ledger, mut world) = (Ledger::default(), World::default());
        for object in 0..800 {
            ledger.add(event(object, EventType::Start, 1), None);
            ledger.add(event(object, EventType::End, 2), None);
            world.write(&mut ledger);
        }
        assert_eq!(ledger.waiting.len(), MOST_WAITING);
        let kept = Ledger::parse(std::str::from_utf8(&world.disk).expect("text")).expect("ours");
        assert_eq!(kept.entries.len(), MOST_WRITTEN);
        assert!(world.disk.len() < 1 << 20);
    }

    #[test]
    fn a_damaged_file_is_refused_in_one_line_and_names_that_are_none_are_left_out() {
        for text in ["", "[]", r#"{"v":1}"#, r#"{"v":1,"objects":[{}]}"#] {
            let error = Ledger::parse(text).expect_err(text);
            assert_eq!(error.to_string().lines().count(), 1, "{text}");
        }
        let mut ledger = Ledger::default();
        ledger.add(event(1, EventType::Start, 1), None);
        let good = String::from_utf8(ledger.encode()).expect("text");
        assert_eq!(Ledger::parse(&good).expect("good").entries.len(), 1);
        for bad in [good.replace("front", "a/#"), good.replace(&ulid_text(1), "x")] {
            assert!(Ledger::parse(&bad).expect("readable").entries.is_empty(), "{bad}");
        }
    }
}
