//! `<cam>/events`: an object appears, changes, leaves.

use super::{Kind, ModelReference};
use serde::{Deserialize, Serialize};

/// Payload of `<cam>/events`. Messages may come twice (at least once); `id`, `event_type` and `seq` together tell
/// a repetition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ObjectEvent {
    /// Version of the meaning of these fields: 1.
    pub v: u32,
    /// What happened: `start`, any number of `update`s, and one `end`.
    pub event_type: EventType,
    /// The object's name for its life, a ULID; also `track` on `<cam>/detections`.
    pub id: String,
    /// The machine's name in topics.
    pub node: String,
    /// The camera's id.
    pub camera: String,
    /// What most detections of the object say it is, as the model names it.
    pub label: String,
    /// When this was said: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// When this was said: milliseconds since the machine started, comparable only within one `boot_id` of
    /// `bridge/info`.
    pub mono_ms: u64,
    /// Whether the machine's clock is set by the network, so that times can be trusted.
    pub clock_synced: bool,
    /// When the object was seen first.
    pub started_at: String,
    /// When it was seen last; null before it ends.
    pub ended_at: Option<String>,
    /// From the first time it was seen to the last, seconds, three places. Not by the wall clock.
    pub duration_s: f64,
    /// Why it ended; null before.
    pub end_reason: Option<EndReason>,
    /// What an `update` tells of; empty otherwise.
    pub changed: Vec<Changed>,
    /// How sure the model was last, 0 to 1, three places.
    pub score: f64,
    /// The best score so far.
    pub top_score: f64,
    /// Where it was seen last: `[x1, y1, x2, y2]`, 0 to 1 of the frame's width and height, four places.
    #[serde(rename = "box")]
    pub bbox: [f64; 4],
    /// The same in pixels of the frame.
    pub box_px: [i64; 4],
    /// Zones in which it stands, by name.
    pub zones: Vec<String>,
    /// Zones in which it ever stood.
    pub entered_zones: Vec<String>,
    /// Whether it has hardly moved for some seconds.
    pub stationary: bool,
    /// Frames that showed it.
    pub frames: u64,
    /// Topic of the picture that was sent just before this message and shows the object; null where none was.
    pub snapshot: Option<String>,
    /// The model that judged the last frame that showed it.
    pub model: ModelReference,
    /// Number of that frame, as on `<cam>/detections`.
    pub seq: u64,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// It appeared.
    Start,
    /// Something changed of it, as `changed` says; at most once a second.
    Update,
    /// It is there no more.
    End,
}

/// What changed of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// What it is taken for.
    Label,
    /// The zones in which it stands.
    Zones,
    /// Whether it is at rest.
    Stationary,
    /// Its best score, by 0.05 or more.
    TopScore,
}

/// Why an object ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// It was not seen for `max_age_s`.
    Gone,
    /// Its camera gives no frames that can be used, was removed, or opened anew.
    CameraOffline,
    /// Detection was switched off.
    Disabled,
    /// The daemon ended.
    Shutdown,
    /// The daemon ended without saying so, and was started again.
    Restart,
}

/// Which event a message is, for whoever keeps account of those that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// The object's ULID.
    pub object: u128,
    /// What happened to it.
    pub event_type: EventType,
}

impl ObjectEvent {
    /// As JSON within the topic's size limit: names of zones are left out where there are too many, those that
    /// the object has left first.
    #[must_use]
    pub fn encode_fitting(&self) -> Vec<u8> {
        let mut message = self.clone();
        loop {
            // Plain data with text keys cannot fail to become JSON.
            let bytes = serde_json::to_vec(&message).unwrap_or_default();
            if bytes.len() <= Kind::Events.spec().max_bytes {
                return bytes;
            }
            let longer = if message.entered_zones.len() > message.zones.len() {
                &mut message.entered_zones
            } else {
                &mut message.zones
            };
            if longer.pop().is_none() {
                return bytes;
            }
        }
    }
}

#[cfg(test)]
impl ObjectEvent {
    /// An event of no object in particular, for tests to fill in.
    pub(crate) fn of_nothing() -> Self {
        Self {
            v: 1,
            event_type: EventType::Start,
            id: "01JDC8Z7Q40000000000000000".into(),
            node: "n".into(),
            camera: "c".into(),
            label: "person".into(),
            time: "1970-01-01T00:00:00.000Z".into(),
            mono_ms: 0,
            clock_synced: true,
            started_at: "1970-01-01T00:00:00.000Z".into(),
            ended_at: None,
            duration_s: 0.0,
            end_reason: None,
            changed: Vec::new(),
            score: 0.5,
            top_score: 0.5,
            bbox: [0.0, 0.0, 1.0, 1.0],
            box_px: [0, 0, 1, 1],
            zones: Vec::new(),
            entered_zones: Vec::new(),
            stationary: false,
            frames: 1,
            model: ModelReference { sha256: "0123456789ab".into(), generation: 1 },
            snapshot: None,
            seq: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_zones_of_the_longest_name_fit() {
        let zones: Vec<String> = (0..1000).map(|i| format!("{i:032}")).collect();
        let event = ObjectEvent { zones: zones.clone(), entered_zones: zones, ..ObjectEvent::of_nothing() };
        let bytes = event.encode_fitting();
        assert!(bytes.len() <= Kind::Events.spec().max_bytes);
        let read: ObjectEvent = serde_json::from_slice(&bytes).expect("JSON");
        assert!(read.zones.len() > 30 && read.entered_zones.len() > 30);
    }
}
