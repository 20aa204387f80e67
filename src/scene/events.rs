//! `<cam>/events`: what is said of each object from its start to its end.

use super::Now;
use super::areas::Name;
use super::generations::GenerationFacts;
use crate::contract::{
    Changed, EndReason, EventType, ModelReference, ObjectEvent, SCHEMA_VERSION, rfc3339, rounded, ulid,
    ulid_text,
};
use crate::detection::Outcome;
use crate::splitmix::SplitMix64;
use crate::tracking::{self, Track, TrackId};
use crate::zones::shares;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Least time between two messages about an object, but for its end.
const UPDATE_GAP: Duration = Duration::from_secs(1);
/// A best score is told again once it rose by this.
const TOP_SCORE_STEP: f64 = 0.05;

/// What the events of a camera are told of: where they come from, and the last frame.
#[derive(Clone, Copy)]
pub(super) struct Scenery<'a> {
    pub now: Now,
    pub node: &'a str,
    pub camera: &'a str,
    pub outcome: &'a Outcome,
    pub judge: &'a GenerationFacts,
}

/// An object that was told as started.
#[derive(Debug)]
struct Told {
    /// As it is now; its type and time are set when it is sent.
    event: ObjectEvent,
    /// As it was told last.
    last: ObjectEvent,
    sent: Instant,
    first_seen: Instant,
    last_seen: Instant,
}

/// The objects of one camera.
#[derive(Debug, Default)]
pub(super) struct Events {
    told: BTreeMap<TrackId, Told>,
    outgoing: Vec<ObjectEvent>,
}

impl Events {
    /// An object is there for the first time; it was seen first and last at these moments.
    pub fn start(&mut self, of: &Scenery<'_>, track: &Track, name: &Name, [first, last]: [Instant; 2]) {
        let mut event = ObjectEvent {
            v: SCHEMA_VERSION,
            event_type: EventType::Start,
            id: ulid_text(track.id.0),
            node: of.node.to_owned(),
            camera: of.camera.to_owned(),
            label: String::new(),
            time: String::new(),
            mono_ms: 0,
            clock_synced: false,
            started_at: rfc3339(wall(of.now, first)),
            ended_at: None,
            duration_s: 0.0,
            end_reason: None,
            changed: Vec::new(),
            score: 0.0,
            top_score: 0.0,
            bbox: [0.0; 4],
            box_px: [0; 4],
            zones: Vec::new(),
            entered_zones: Vec::new(),
            stationary: false,
            frames: 0,
            snapshot: None,
            model: ModelReference { sha256: String::new(), generation: 0 },
            seq: 0,
        };
        take(&mut event, of, track, name);
        let told = Told { last: event.clone(), event, sent: of.now.mono, first_seen: first, last_seen: last };
        self.told.insert(track.id, told);
    }

    /// An object that was told was seen, or changed.
    pub fn see(&mut self, of: &Scenery<'_>, track: &Track, name: &Name, last: Instant) {
        if let Some(told) = self.told.get_mut(&track.id) {
            take(&mut told.event, of, track, name);
            told.last_seen = last;
        }
    }

    /// The objects that stand in zones; those that were not looked for stay where they were.
    pub fn place(&mut self, present: &[TrackId], zones: &BTreeMap<u128, Vec<Arc<str>>>) {
        for id in present {
            let Some(Told { event, .. }) = self.told.get_mut(id) else { continue };
            let stands: Vec<String> =
                zones.get(&id.0).into_iter().flatten().map(ToString::to_string).collect();
            for zone in &stands {
                if !event.entered_zones.contains(zone) {
                    event.entered_zones.push(zone.clone());
                }
            }
            event.zones = stands;
        }
    }

    /// Says which objects started with this frame, once it is known where they stand.
    pub fn tell_starts(&mut self, now: Now, started: &[Track]) {
        for track in started {
            if let Some(told) = self.told.get_mut(&track.id) {
                self.outgoing.push(told.tell(now, EventType::Start, Vec::new()));
            }
        }
    }

    /// Says what changed of those that were told long enough ago.
    pub fn tell_updates(&mut self, now: Now) {
        for told in self.told.values_mut() {
            let changed = told.changed();
            if !changed.is_empty() && now.mono.saturating_duration_since(told.sent) >= UPDATE_GAP {
                self.outgoing.push(told.tell(now, EventType::Update, changed));
            }
        }
    }

    /// Says which objects ended.
    pub fn end(&mut self, now: Now, ended: &[(Track, tracking::EndReason)]) {
        for (track, reason) in ended {
            let Some(mut told) = self.told.remove(&track.id) else { continue };
            told.event.ended_at = Some(rfc3339(wall(now, told.last_seen)));
            told.event.end_reason = Some(match reason {
                tracking::EndReason::Gone => EndReason::Gone,
                tracking::EndReason::CameraOffline => EndReason::CameraOffline,
                tracking::EndReason::Disabled => EndReason::Disabled,
                tracking::EndReason::Shutdown => EndReason::Shutdown,
            });
            self.outgoing.push(told.tell(now, EventType::End, Vec::new()));
        }
    }

    /// Whether something is to be sent.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// What is to be sent, in order.
    pub fn take_outgoing(&mut self) -> Vec<ObjectEvent> {
        std::mem::take(&mut self.outgoing)
    }

    /// When a change is told that had to wait.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.told.values().filter(|told| !told.changed().is_empty());
        waiting.map(|told| told.sent + UPDATE_GAP).min()
    }
}

impl Told {
    /// What changed since it was told last.
    fn changed(&self) -> Vec<Changed> {
        let (event, last) = (&self.event, &self.last);
        let changes = [
            (event.label != last.label, Changed::Label),
            (event.zones != last.zones, Changed::Zones),
            (event.stationary != last.stationary, Changed::Stationary),
            (event.top_score >= last.top_score + TOP_SCORE_STEP, Changed::TopScore),
        ];
        changes.into_iter().filter_map(|(is, change)| is.then_some(change)).collect()
    }

    fn tell(&mut self, now: Now, event_type: EventType, changed: Vec<Changed>) -> ObjectEvent {
        let event = &mut self.event;
        event.event_type = event_type;
        event.changed = changed;
        event.time = rfc3339(now.wall);
        event.mono_ms = u64::try_from(now.boot.as_millis()).unwrap_or(u64::MAX);
        event.clock_synced = now.synced;
        let lived = self.last_seen.saturating_duration_since(self.first_seen);
        event.duration_s = rounded(lived.as_secs_f64(), 3);
        self.sent = now.mono;
        self.last = event.clone();
        self.last.clone()
    }
}

/// Takes what a frame shows of an object.
fn take(event: &mut ObjectEvent, of: &Scenery<'_>, track: &Track, name: &Name) {
    let size = [of.outcome.width, of.outcome.height];
    event.label.clone_from(&name.label);
    event.score = rounded(f64::from(track.score), 3);
    event.top_score = rounded(f64::from(track.top_score), 3);
    event.bbox = shares(track.last_bbox, size).map(|share| rounded(share, 4));
    event.box_px = track.last_bbox.map(|side| f64::from(side).round() as i64);
    event.stationary = track.stationary;
    event.frames = track.hits;
    event.model = ModelReference { sha256: of.judge.short_sha256(), generation: of.judge.number };
    event.seq = of.outcome.seq;
}

/// The wall clock's time of a moment that has passed.
fn wall(now: Now, moment: Instant) -> SystemTime {
    let ago = now.mono.saturating_duration_since(moment);
    now.wall.checked_sub(ago).unwrap_or(now.wall)
}

/// Names of objects: they sort by time, and no other daemon gives the same.
#[derive(Debug)]
pub(super) struct Ulids(SplitMix64);

impl Ulids {
    /// `instance` differs from start to start.
    pub fn new(instance: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        instance.hash(&mut hasher);
        Self(SplitMix64::new(hasher.finish()))
    }

    /// The next one.
    pub fn next(&mut self, wall: SystemTime) -> TrackId {
        let random = (u128::from(self.0.next_number()) << 64) | u128::from(self.0.next_number());
        TrackId(ulid(wall, random))
    }
}
