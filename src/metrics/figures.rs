//! What the metrics are taken from: the node at one moment. Plain data, made by the scene.

use super::Histogram;
use crate::contract::{Availability, HealthState, Machine, MqttHealth, Problem, WorkerHealth};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The node at one moment.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The machine's name in topics.
    pub node: String,
    /// Name of the model in use.
    pub model: String,
    /// First 12 hex digits of its file's SHA-256.
    pub model_sha256: String,
    /// Counts the models that this daemon has run, from 1.
    pub generation: u64,
    /// Time since the daemon was started.
    pub uptime: Duration,
    /// Whether the machine's clock is set by the network.
    pub clock_synced: bool,
    /// How the node is on the whole.
    pub state: HealthState,
    /// What is wrong now.
    pub problems: Vec<Problem>,
    /// What the machine says of itself.
    pub machine: Machine,
    /// The workers.
    pub workers: WorkerHealth,
    /// Whether a connection to the broker stands.
    pub connected: bool,
    /// What the link to the broker counted.
    pub mqtt: MqttHealth,
    /// The cameras, by id.
    pub cameras: Vec<CameraFigures>,
}

/// One camera at one moment.
#[derive(Debug, Clone)]
pub struct CameraFigures {
    /// Its id.
    pub id: Arc<str>,
    /// As on `<cam>/status`.
    pub status: Availability,
    /// Whether something moves; `None` without a gate, and before the first frame.
    pub moving: Option<bool>,
    /// What was counted.
    pub counters: Counters,
    /// How long its frames took.
    pub times: FrameTimes,
    /// When the last frame that was looked at was taken; `None` before the first.
    pub last_frame: Option<SystemTime>,
    /// Its labels.
    pub labels: Vec<LabelFigures>,
}

/// What was counted of one camera since the daemon was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that the camera gave.
    pub frames: u64,
    /// Frames that were looked at.
    pub looked_at: u64,
    /// Frames that were not, because nothing moved in them.
    pub unchanged: u64,
    /// Frames superseded by newer ones before a worker was free.
    pub stale: u64,
    /// Frames left out to keep to `max_fps`.
    pub paced: u64,
    /// Frames that could not be decoded.
    pub damaged: u64,
    /// Frames that a worker failed on.
    pub failed: u64,
    /// Times the camera came back after it was away.
    pub reopens: u64,
    /// Messages about objects: starts, updates and ends.
    pub events: [u64; 3],
}

/// How long the frames of one camera took that were looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrameTimes {
    /// From capture until what the frame showed was told.
    pub age: Histogram,
    /// The model's run.
    pub inference: Histogram,
    /// From capture until a worker began.
    pub queue: Histogram,
}

/// One label of one camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFigures {
    /// As the model names it.
    pub label: String,
    /// Objects that are there now; `None` where that is not known yet, or not told.
    pub objects: Option<usize>,
    /// Objects that started since the daemon was started.
    pub started: u64,
}
