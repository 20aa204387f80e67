//! The MQTT contract, schema v1: topics, their payloads, and what arrives on them. `docs/mqtt.md` says the
//! same for users.
//!
//! This room knows names, types and limits. It knows no broker, no thread and no clock: whoever sends or
//! receives looks up here how a topic is spelled, which payload it carries, and how that is delivered.

mod bridge;
mod command;
mod detections;
pub mod discovery;
#[cfg(test)]
mod documents;
mod event;
mod problem;
mod request;
mod response;
mod slug;
mod text;
mod topic;
mod tune;

pub use bridge::{
    CameraHealth, CameraInfo, Dropped, Health, HealthState, Host, Info, Limits, MAX_INFO_CAMERAS_BYTES,
    Machine, ModelInfo, ModelState, MqttHealth, Overridden, WorkerHealth,
};
pub(crate) use command::THRESHOLD;
pub use command::{Change, Command, CommandError};
pub use detections::{DetectedObject, Detections, Latency, ModelReference, encode_fitting};
pub use event::{Changed, EndReason, EventKey, EventType, ObjectEvent};
pub use problem::Problem;
pub use request::{
    Feedback, FeedbackOf, FeedbackVerdict, Incoming, Request, SamplesDelete, SamplesList, Transaction,
    TuneStart,
};
pub use response::{
    Activated, Code, Data, Deleted, Job, Labelled, Refusal, Reloaded, Response, ResponseStatus, Restarting,
    SampleInfo, SamplesPage, SnapshotSent,
};
pub use slug::{RESERVED_CAMERAS, RESERVED_LABELS, label_slugs, slug};
pub use text::{
    Availability, milliseconds, on_off, parse_ulid, rfc3339, rounded, threshold_text, ulid, ulid_text,
};
pub use topic::{Class, Form, Kind, Names, Spec, TOPICS, Topic, Way, parse_of_any_node};
pub use tune::{Tune, TuneSamples, TuneState};

/// Version of the payloads' meaning: the `v` of each JSON payload.
pub const SCHEMA_VERSION: u32 = 1;
