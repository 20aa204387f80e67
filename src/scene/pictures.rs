//! Pictures that leave the machine: of which objects one is made, and what became of it.
//!
//! Making one takes longer than the scene may: it orders a picture under a number, and goes on when that comes
//! back. An event waits for its picture in the ledger, so that the picture is sent before it.

use super::camera::Camera;
use super::requests::Ticket;
use super::{Effect, Now, Scene};
use crate::contract::{Changed, Code, Data, EventType, Kind, ObjectEvent, Refusal, SnapshotSent, Topic};
use crate::frame::RawFrame;
use crate::geometry::Polygon;
use crate::one_line::one_line;
use crate::settings::SnapshotsSettings;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Least time between two pictures on one topic of a label.
const GAP: Duration = Duration::from_secs(2);

/// What a picture is to show, in pixels of the upright frame.
#[derive(Debug, Clone, PartialEq)]
pub enum PictureOf {
    /// What is in this box.
    Object([f32; 4]),
    /// The frame, with these boxes and what is to stand over each.
    Frame(Vec<([f32; 4], String)>),
}

/// A picture that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureOrder {
    /// Under which it comes back.
    pub number: u64,
    /// As the camera gave it.
    pub raw: Arc<RawFrame>,
    /// Areas that are black in it.
    pub hidden: Arc<[Polygon]>,
    /// What it shows.
    pub of: PictureOf,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// Longest side, pixels.
    pub longest_side: u32,
    /// Most bytes.
    pub most_bytes: usize,
}

/// The last frame of a camera whose pictures may leave the machine.
#[derive(Debug, Clone)]
pub(super) struct LastFrame {
    pub seq: u64,
    pub raw: Arc<RawFrame>,
    /// What was told of it, and where.
    pub told: Vec<([f32; 4], String)>,
}

/// Who waits for a picture.
#[derive(Debug)]
enum Waits {
    Event,
    Request { ticket: Ticket, topic: Topic, seq: u64 },
}

/// The pictures that are being made.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    next: u64,
    /// When a picture on the topic of a label was ordered last.
    last: BTreeMap<Topic, Instant>,
    waiting: BTreeMap<u64, Waits>,
}

/// What a picture is ordered from.
pub(super) struct Source<'a> {
    pub frame: &'a LastFrame,
    pub hidden: &'a Arc<[Polygon]>,
    pub settings: &'a SnapshotsSettings,
}

impl Pictures {
    fn order(
        &mut self,
        source: &Source<'_>,
        of: PictureOf,
        kind: Kind,
        waits: Waits,
        effects: &mut Vec<Effect>,
    ) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, waits);
        effects.push(Effect::Picture(Box::new(PictureOrder {
            number: self.next,
            raw: Arc::clone(&source.frame.raw),
            hidden: Arc::clone(source.hidden),
            of,
            quality: u8::try_from(source.settings.quality).unwrap_or(100),
            longest_side: source.settings.max_side,
            most_bytes: kind.spec().max_bytes,
        })));
        self.next
    }

    /// Orders the picture of an event's object, if it is to have one: the number under which it comes back.
    pub fn order_for(
        &mut self,
        now: Now,
        event: &ObjectEvent,
        topic: &Topic,
        source: &Source<'_>,
        effects: &mut Vec<Effect>,
    ) -> Option<u64> {
        let is_new_view = event.event_type == EventType::Start || event.changed.contains(&Changed::TopScore);
        let is_early =
            self.last.get(topic).is_some_and(|last| now.mono.saturating_duration_since(*last) < GAP);
        if !is_new_view || is_early || event.seq != source.frame.seq {
            return None;
        }
        self.last.insert(topic.clone(), now.mono);
        #[expect(clippy::cast_precision_loss, reason = "pixels of a picture")]
        let bbox = event.box_px.map(|side| side as f32);
        Some(self.order(source, PictureOf::Object(bbox), Kind::LabelSnapshot, Waits::Event, effects))
    }

    /// Forgets topics that are no more.
    pub fn keep_only(&mut self, is_there: impl Fn(&Topic) -> bool) {
        self.last.retain(|topic, _| is_there(topic));
    }
}

impl Scene {
    /// Takes the events of a camera: those that are to have a picture wait for it.
    pub(super) fn take_events(&mut self, now: Now, number: usize, effects: &mut Vec<Effect>) {
        let events = self.cameras.get_mut(&number).map(Camera::take_events).unwrap_or_default();
        if events.is_empty() {
            return;
        }
        let names = self.names();
        let Some(camera) = self.cameras.get(&number) else { return };
        for mut event in events {
            let source = camera.picture_source(&self.settings.snapshots);
            let slug = camera.told().iter().find(|name| name.label == event.label).map(|name| &name.slug);
            let topic = slug.map(|slug| Topic::label_snapshot(&camera.id, slug));
            let ordered = topic.zip(source).and_then(|(topic, source)| {
                let number = self.pictures.order_for(now, &event, &topic, &source, effects)?;
                event.snapshot = Some(names.full(&topic));
                Some((number, topic))
            });
            self.ledger.add(event, ordered);
        }
    }

    /// A picture came back, or could not be made.
    pub(super) fn take_picture(
        &mut self,
        now: Now,
        number: u64,
        picture: Result<Vec<u8>, String>,
        effects: &mut Vec<Effect>,
    ) {
        match self.pictures.waiting.remove(&number) {
            None => {}
            Some(Waits::Event) => self.ledger.take_picture(number, picture.ok()),
            Some(Waits::Request { ticket, topic, seq }) => {
                let answer = match picture {
                    Ok(bytes) => {
                        let sent = SnapshotSent { topic: self.names().full(&topic), bytes: bytes.len(), seq };
                        effects.push(Effect::Publish(topic, bytes));
                        Ok(Data::Snapshot(sent))
                    }
                    Err(reason) => Err(Refusal::new(Code::Internal, one_line(&reason))),
                };
                self.requests.finish(now, ticket, answer, effects);
            }
        }
    }

    /// Whether a picture of this camera can be had now.
    pub(super) fn may_picture(&self, camera: &str) -> Result<(), Refusal> {
        let known = self.cameras.values().find(|known| &*known.id == camera);
        let Some(known) = known else {
            let all: Vec<&str> = self.settings.cameras.keys().map(String::as_str).collect();
            let words = format!("no camera `{camera}`: there are {}", all.join(", "));
            return Err(Refusal::new(Code::UnknownCamera, one_line(&words)));
        };
        if !self.settings.snapshots.enabled {
            let words = "snapshots.enabled is false in the settings, so no picture leaves this machine";
            return Err(Refusal::new(Code::SnapshotsOff, words.into()));
        }
        if !known.tells_pictures() {
            let words = format!("pictures of `{camera}` were switched off over MQTT");
            return Err(Refusal::new(Code::SnapshotsOff, words));
        }
        if known.picture_source(&self.settings.snapshots).is_none() {
            let words = format!("`{camera}` has given no frame that could be used since it was opened");
            return Err(Refusal::new(Code::NotFound, words));
        }
        Ok(())
    }

    /// Orders the picture that a request asked for.
    pub(super) fn order_picture(&mut self, ticket: Ticket, camera: &str, effects: &mut Vec<Effect>) {
        let known = self.cameras.values().find(|known| &*known.id == camera);
        let Some((known, source)) =
            known.and_then(|known| Some((known, known.picture_source(&self.settings.snapshots)?)))
        else {
            return;
        };
        let (topic, seq) = (Topic::of_camera(Kind::Snapshot, &known.id), source.frame.seq);
        let of = PictureOf::Frame(source.frame.told.clone());
        let waits = Waits::Request { ticket, topic, seq };
        self.pictures.order(&source, of, Kind::Snapshot, waits, effects);
    }
}
