//! `bridge/…`: what the node says of itself. No paths, addresses, user names or secrets stand in any of
//! these.

use super::{Availability, Kind, SCHEMA_VERSION};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Payload of `bridge/info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Info {
    /// Version of the meaning of these fields: 1.
    pub v: u32,
    /// The machine's name in topics.
    pub node: String,
    /// Version of retinad.
    pub version: String,
    /// Version of this contract: 1.
    pub schema: u32,
    /// Random text, another one at each start of the daemon.
    pub instance_id: String,
    /// 8 hex digits, others at each start of the machine. Values of `mono_ms` can be compared while this is
    /// the same.
    pub boot_id: String,
    /// When the daemon was started: RFC 3339, UTC.
    pub started_at: String,
    /// The machine.
    pub host: Host,
    /// The model in use.
    pub model: ModelInfo,
    /// The cameras by id.
    pub cameras: BTreeMap<String, CameraInfo>,
    /// Cameras that found no room in this message; 0 but for hundreds of cameras.
    pub cameras_left_out: usize,
    /// Largest payloads, bytes.
    pub limits: Limits,
    /// Verbs that may be asked for on `bridge/request/<verb>`: `mqtt.allow` of the settings.
    pub allow: Vec<String>,
    /// For each camera that has any, what was set over MQTT and is in force instead of the settings.
    pub overrides: BTreeMap<String, Overridden>,
    /// Names of the settings that were changed and take effect only at the next start; empty if there are
    /// none.
    pub restart_required: Vec<String>,
}

/// The machine that the node runs on; null where unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Host {
    /// The board's name, such as `Raspberry Pi 5 Model B Rev 1.0`; null if unknown.
    pub board: Option<String>,
    /// The system's name, such as `Debian GNU/Linux 13 (trixie)`; null if unknown.
    pub os: Option<String>,
    /// Processor architecture, such as `aarch64`.
    pub arch: String,
    /// Processor cores.
    pub cpus: usize,
    /// Memory of the machine, MiB; null if unknown.
    pub mem_mb: Option<u64>,
}

/// The model in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// First 12 hex digits of the file's SHA-256.
    pub sha256: String,
    /// Counts the models that this daemon has run, from 1.
    pub generation: u64,
    /// Width and height of its own input, pixels; pictures of another shape may be seen at another of its sizes.
    pub input: [u32; 2],
    /// Its classes, in order; an empty text stands for a class that is never published.
    pub labels: Vec<String>,
}

/// A camera as the settings describe it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CameraInfo {
    /// `v4l2`, `stream` or `replay`.
    pub source: String,
    /// Format in which its frames come, such as `mjpeg`; null for a replay.
    pub format: Option<String>,
    /// Width that is asked for, of the picture once it is turned, pixels; null where the source decides.
    pub width: Option<u32>,
    /// Height that is asked for, of the picture once it is turned, pixels; null where the source decides.
    pub height: Option<u32>,
    /// Frames a second that are asked for; null where the source decides.
    pub fps: Option<f32>,
    /// For each label that is told the last level of its count's topic; left out in all cameras if the message would be
    /// too large.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Names of its zones, in which objects are counted; left out if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// Names of its lines, whose crossings are counted; left out if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

/// Largest payloads, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Limits {
    /// Largest payload of `<cam>/detections`, bytes.
    pub detections: usize,
    /// Largest payload of `bridge/request/<verb>`, bytes.
    pub request: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { detections: Kind::Detections.spec().max_bytes, request: Kind::Request.spec().max_bytes }
    }
}

/// What was set over MQTT for one camera and is in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Overridden {
    /// False: detection was switched off. Left out: it is on, as always without a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect: Option<bool>,
    /// What scores above this is told, 0.05 to 0.99, two places. Left out: `detector.min_score` holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// False: pictures were switched off. Left out: `snapshots.enabled` holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<bool>,
}

/// Room for the cameras in `bridge/info`, bytes; the rest of the message is far below the difference to its
/// limit.
pub const MAX_INFO_CAMERAS_BYTES: usize = 16 << 10;

impl Info {
    /// The message as JSON within the topic's limit: first the cameras' labels go, then cameras, which are
    /// counted.
    #[must_use]
    pub fn encode_fitting(self) -> Vec<u8> {
        serde_json::to_vec(&self.fitting()).unwrap_or_default()
    }

    /// The message within the topic's limit.
    #[must_use]
    pub fn fitting(mut self) -> Self {
        let size = |cameras: &BTreeMap<String, CameraInfo>| {
            serde_json::to_vec(cameras).map_or(0, |bytes| bytes.len())
        };
        if size(&self.cameras) > MAX_INFO_CAMERAS_BYTES {
            self.cameras.values_mut().for_each(|camera| camera.labels.clear());
        }
        while size(&self.cameras) > MAX_INFO_CAMERAS_BYTES {
            let keep = self.cameras.len() * 3 / 4;
            self.cameras_left_out += self.cameras.len() - keep;
            self.cameras = std::mem::take(&mut self.cameras).into_iter().take(keep).collect();
        }
        let shown = &self.cameras;
        self.overrides.retain(|camera, _| shown.contains_key(camera));
        self
    }
}

/// Payload of `bridge/model`, in the words of Home Assistant's `update` entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ModelState {
    /// Version of the meaning of these fields: 1.
    pub v: u32,
    /// Generation in use, as text.
    pub installed_version: String,
    /// Generation that could be used, as text; the one in use where there is no other.
    pub latest_version: String,
    /// The model's name.
    pub title: String,
    /// What the latest one is better at; empty if there is nothing to say.
    pub release_summary: String,
    /// Earlier generations that can be used again, newest first.
    pub can_rollback_to: Vec<u64>,
}

/// Payload of `bridge/health`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Health {
    /// Version of the meaning of these fields: 1.
    pub v: u32,
    /// When this was written: RFC 3339, UTC.
    pub time: String,
    /// Whether the machine's clock is set by the network.
    pub clock_synced: bool,
    /// Seconds since the daemon was started.
    pub uptime_s: u64,
    /// How the node is on the whole.
    pub state: HealthState,
    /// Codes of what is wrong now, such as `camera_offline:front`.
    pub problems: Vec<String>,
    /// The machine.
    #[serde(flatten)]
    pub machine: Machine,
    /// The workers.
    pub workers: WorkerHealth,
    /// The link to the broker.
    pub mqtt: MqttHealth,
    /// The cameras by id.
    pub cameras: BTreeMap<String, CameraHealth>,
}

/// How the node is on the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Nothing is wrong.
    Ok,
    /// Something is wrong, and something still works.
    Degraded,
    /// Every camera is offline.
    Failed,
}

/// What the machine says of itself; null where unknown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Machine {
    /// Temperature of the hottest sensor, degrees Celsius; null if there is no sensor.
    pub cpu_temp_c: Option<f64>,
    /// Whether the firmware holds the CPU below its speed now; null if the machine has no Raspberry Pi
    /// firmware.
    pub throttled: Option<bool>,
    /// Resident memory of the daemon, MiB; null if unknown.
    pub rss_mb: Option<f64>,
    /// Load average of the last minute: processes that ran or waited to run; null if unknown.
    pub load1: Option<f64>,
    /// Free space where the daemon runs, MiB; null if unknown.
    pub disk_free_mb: Option<u64>,
}

/// The workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkerHealth {
    /// How many there are.
    pub total: usize,
    /// How many may take frames now.
    pub allowed: usize,
    /// How many work on a frame at this moment.
    pub busy: usize,
    /// How often a worker failed so that its session was built anew.
    pub restarts: u64,
}

/// The link to the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MqttHealth {
    /// Connections made since the start.
    pub connects: u64,
    /// Messages that wait for the broker or for its acknowledgement.
    pub outbox: usize,
    /// Messages handed to the broker since the start.
    pub published: u64,
    /// Messages received since the start.
    pub received: u64,
    /// Received messages that were refused since the start.
    pub refused: u64,
    /// Messages that were too large to send, since the start.
    pub oversize: u64,
    /// Messages that were never sent, by class, since the start.
    pub dropped: Dropped,
    /// Whether another client uses our client id, `retinad-<node>`: the broker said so, or another daemon
    /// writes under this node's name.
    pub suspect_duplicate: bool,
}

/// Messages that were not sent, by class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Dropped {
    /// Per-frame detections.
    pub detections: u64,
    /// Pictures.
    pub snapshots: u64,
    /// Events.
    pub events: u64,
    /// Answers to requests.
    pub responses: u64,
}

/// One camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CameraHealth {
    /// As on `<cam>/status`.
    pub status: Availability,
    /// Frames a second that the camera gave since the last health message.
    pub fps_in: f64,
    /// Frames a second that were looked at since the last health message.
    pub fps_detect: f64,
    /// Share of the frames since the last health message that were not looked at because nothing moved in them,
    /// two places; null without `motion = true`, and where no frame came.
    pub unchanged_share: Option<f64>,
    /// Frames since the start that were superseded by newer ones before a worker was free.
    pub dropped_stale: u64,
    /// Frames left out to keep to `max_fps` since the start.
    pub dropped_paced: u64,
    /// Frames that could not be decoded since the start.
    pub decode_errors: u64,
    /// Frames that a worker failed on since the start.
    pub failed: u64,
    /// Times the camera came back after it was away.
    pub reopens: u64,
    /// Best score of what was not told for its score, or its size, in the frames looked at since the last health
    /// message, three places; null where there was none. What the model gives no box for has no score.
    pub best_below: Option<f64>,
    /// Median time from capture to result of the last 256 frames, milliseconds; null before the first.
    pub age_ms_p50: Option<f64>,
    /// 95 of 100 of the last 256 frames took at most this from capture to result, milliseconds; null before
    /// the first.
    pub age_ms_p95: Option<f64>,
    /// Median inference time of the last 256 frames, milliseconds; null before the first.
    pub infer_ms_p50: Option<f64>,
    /// 95 of 100 of the last 256 inferences took at most this, milliseconds; null before the first.
    pub infer_ms_p95: Option<f64>,
    /// When the last frame that was looked at was taken: RFC 3339, UTC; null before the first.
    pub last_frame: Option<String>,
}

/// Room for problems of the node, which stand before those of cameras.
const NODE_PROBLEMS: usize = 8;

impl Health {
    /// The message as JSON within the topic's limit: with hundreds of cameras the last ones are left out,
    /// since their topics show their status anyway.
    #[must_use]
    pub fn encode_fitting(self) -> Vec<u8> {
        serde_json::to_vec(&self.fitting()).unwrap_or_default()
    }

    /// The message within the topic's limit.
    #[must_use]
    pub fn fitting(mut self) -> Self {
        loop {
            let bytes = serde_json::to_vec(&self).unwrap_or_default();
            if bytes.len() <= Kind::Health.spec().max_bytes || self.cameras.is_empty() {
                return self;
            }
            let keep = self.cameras.len() * 3 / 4;
            self.cameras = std::mem::take(&mut self.cameras).into_iter().take(keep).collect();
            self.problems.truncate(keep + NODE_PROBLEMS);
        }
    }
}

impl ModelState {
    /// A model in use that has no successor and may go back to `earlier` generations.
    #[must_use]
    pub fn in_use(generation: u64, title: &str, earlier: Vec<u64>) -> Self {
        Self {
            v: SCHEMA_VERSION,
            installed_version: generation.to_string(),
            latest_version: generation.to_string(),
            title: title.to_owned(),
            release_summary: String::new(),
            can_rollback_to: earlier,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(cameras: usize, labels: usize) -> Info {
        let labels: BTreeMap<String, String> =
            (0..labels).map(|i| (format!("label {i}"), format!("label_{i}"))).collect();
        let camera = CameraInfo {
            source: "v4l2".into(),
            format: Some("mjpeg".into()),
            width: Some(640),
            height: Some(480),
            fps: Some(15.0),
            labels,
            zones: vec!["drive".into()],
            lines: Vec::new(),
        };
        Info {
            v: 1,
            node: "n".into(),
            version: "0".into(),
            schema: 1,
            instance_id: String::new(),
            boot_id: String::new(),
            started_at: String::new(),
            host: Host::default(),
            model: ModelInfo::default(),
            cameras: (0..cameras)
                .map(|i| (format!("a-camera-with-a-long-name-{i:04}"), camera.clone()))
                .collect(),
            cameras_left_out: 0,
            limits: Limits::default(),
            allow: Vec::new(),
            overrides: (0..cameras)
                .map(|i| (format!("a-camera-with-a-long-name-{i:04}"), Overridden::default()))
                .collect(),
            restart_required: Vec::new(),
        }
    }

    fn fitted(cameras: usize, labels: usize) -> Info {
        let bytes = info(cameras, labels).encode_fitting();
        assert!(bytes.len() <= Kind::Info.spec().max_bytes, "{} bytes", bytes.len());
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn info_of_any_number_of_cameras_stays_within_its_limit() {
        assert_eq!(fitted(3, 20).cameras.values().next().map(|camera| camera.labels.len()), Some(20));
        let twenty = fitted(20, 80);
        assert_eq!((twenty.cameras.len(), twenty.cameras_left_out), (20, 0));
        let many = fitted(2000, 20);
        assert_eq!(many.cameras.len() + many.cameras_left_out, 2000);
    }
}
