//! Settings: built-in defaults, then the file, then `RETINAD__SECTION__KEY`, then flags.
//!
//! Types here are plain data; [`load`] is the only place that reads. This is the only room that names the `config` crate.

mod load;
mod text;

pub use load::{DEFAULT_FILE, SettingsError, is_id, load};
pub use text::masked_toml;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything a person can set. `config/retinad.toml` documents each key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Name of this machine in topics; empty: from the host name.
    pub node: String,
    /// Folder for what outlives a restart (accepted sets); empty: `$STATE_DIRECTORY`, which systemd sets, else nothing is kept.
    pub state_dir: PathBuf,
    /// The detector.
    pub detector: DetectorSettings,
    /// The broker.
    pub mqtt: MqttSettings,
    /// Health messages.
    pub health: HealthSettings,
    /// Cameras by id (`[a-z0-9][a-z0-9_-]{0,31}`).
    pub cameras: BTreeMap<String, CameraSettings>,
}

/// `[detector]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetectorSettings {
    /// The ONNX file with its manifest.
    pub model: PathBuf,
    /// Frames worked on at once, 1 to 64.
    pub workers: usize,
    /// Threads for one frame; models that run in float use one whatever this says.
    pub threads: Threads,
    /// Detections below this score are not published, 0.05 to 0.99.
    pub min_score: f32,
    /// Share of the time that each worker may work, percent, 5 to 100.
    pub cpu_quota: u32,
}

/// Where a package installs models: a relative `detector.model` that is not found is looked for there.
const SHARED_FOLDER: &str = "/usr/share/retinad";

impl Default for DetectorSettings {
    fn default() -> Self {
        Self { model: "models/retinad-m-320-int8.onnx".into(), workers: 1, threads: Threads::Count(1), min_score: 0.5, cpu_quota: 100 }
    }
}

/// `detector.threads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ThreadsText", into = "ThreadsText")]
pub enum Threads {
    /// The cores, shared evenly among the workers: the lowest latency that does not make workers wait for each other.
    Auto,
    /// This many, 1 to 64.
    Count(usize),
}

/// How [`Threads`] stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "1 to 64, or \"auto\"")]
enum ThreadsText {
    Count(usize),
    Word(String),
}

impl TryFrom<ThreadsText> for Threads {
    type Error = String;

    fn try_from(text: ThreadsText) -> Result<Self, String> {
        match text {
            ThreadsText::Count(count) => Ok(Self::Count(count)),
            ThreadsText::Word(word) if word == "auto" => Ok(Self::Auto),
            ThreadsText::Word(word) => Err(format!("threads = \"{word}\" is not allowed: 1 to 64, or \"auto\"")),
        }
    }
}

impl From<Threads> for ThreadsText {
    fn from(threads: Threads) -> Self {
        match threads {
            Threads::Auto => Self::Word("auto".into()),
            Threads::Count(count) => Self::Count(count),
        }
    }
}

impl DetectorSettings {
    /// The model's file: as set, or for a relative path that is not there, the package's.
    #[must_use]
    pub fn model_file(&self) -> PathBuf {
        let shared = std::path::Path::new(SHARED_FOLDER).join(&self.model);
        if self.model.is_relative() && !self.model.exists() && shared.exists() { shared } else { self.model.clone() }
    }

    /// Threads for one frame on this machine, with `workers` frames at once.
    #[must_use]
    pub fn threads(&self, workers: usize) -> usize {
        match self.threads {
            Threads::Auto => shared(std::thread::available_parallelism().map_or(1, usize::from), workers),
            Threads::Count(count) => count,
        }
    }
}

/// Threads a worker when `cores` are shared evenly: all of them for one worker, never fewer than one.
#[must_use]
pub fn shared(cores: usize, workers: usize) -> usize {
    (cores / workers.max(1)).clamp(1, 64)
}

/// `[mqtt]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MqttSettings {
    /// Broker's host; empty: the embedded broker on loopback.
    pub host: String,
    /// Broker's port, also the embedded broker's; 1 to 65535.
    pub port: u16,
    /// User name; empty: none.
    pub username: String,
    /// File that holds the password (mode 0600 or stricter); empty: none.
    pub password_file: PathBuf,
    /// First levels of each topic.
    pub base: String,
    /// Per-frame detections.
    pub detections: DetectionsMode,
    /// Per-frame detections a second and camera, at most; 0.1 to 60.
    pub max_rate: f32,
    /// A count falls only after its objects were gone this long, seconds, 0 to 60.
    pub off_delay_s: f32,
}

impl Default for MqttSettings {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 1883,
            username: String::new(),
            password_file: PathBuf::new(),
            base: "retinad".into(),
            detections: DetectionsMode::NonEmpty,
            max_rate: 5.0,
            off_delay_s: 2.0,
        }
    }
}

/// When `<cam>/detections` is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectionsMode {
    /// For each frame.
    Always,
    /// For frames with at least one detection.
    NonEmpty,
    /// Never.
    Off,
}

/// `[health]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSettings {
    /// Seconds between health messages, 10 to 3600.
    pub interval_s: u32,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self { interval_s: 60 }
    }
}

/// What kind of camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CameraKind {
    /// Video4Linux: USB webcams.
    V4l2,
    /// Multipart MJPEG over HTTP, or a child process that writes frames to its stdout.
    Stream,
    /// Pictures in a folder, a `.y4m` or an `.mjpeg` file.
    Replay,
}

/// `[cameras.<id>]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CameraSettings {
    /// v4l2, stream or replay.
    pub kind: CameraKind,
    /// v4l2: number (`0`) or path (`/dev/video0`, `/dev/v4l/by-id/...`).
    pub device: String,
    /// v4l2, stream with format `i420`: pixels across.
    pub width: u32,
    /// v4l2, stream with format `i420`: pixels down.
    pub height: u32,
    /// v4l2: frames a second asked for; replay: frames a second given, 0 = as fast as taken.
    pub fps: f32,
    /// Frames a second that are detected on, at most, 0 to 240; 0: as many as come and the workers manage.
    pub max_fps: f32,
    /// v4l2: `mjpeg`, `yuyv`, `nv12`, `rgb`, `grey`; stream: `mjpeg`, `y4m`, `i420`.
    pub format: String,
    /// stream: `http://...` address of a multipart MJPEG stream; empty: use `command`.
    pub url: String,
    /// stream: child process and its arguments.
    pub command: Vec<String>,
    /// replay: folder or file.
    pub path: PathBuf,
    /// replay: start again at the end.
    pub repeat: bool,
    /// Silence after which a camera is taken for hung and reopened, seconds, 1 to 600.
    pub timeout_s: f32,
}

impl CameraSettings {
    /// What errors call the camera: its device, program, address without credentials, or path.
    #[must_use]
    pub fn name(&self) -> String {
        match self.kind {
            CameraKind::Replay => self.path.display().to_string(),
            CameraKind::V4l2 if self.device.parse::<u32>().is_ok() => format!("/dev/video{}", self.device),
            CameraKind::V4l2 => self.device.clone(),
            CameraKind::Stream => self.command.first().cloned().unwrap_or_else(|| without_credentials(&self.url)),
        }
    }
}

/// `http://user:secret@host/path?token=1` to `http://host/path`: a query may hold a secret too.
#[must_use]
pub fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}://{}{path}", authority.rsplit('@').next().unwrap_or_default())
}

impl Default for CameraSettings {
    fn default() -> Self {
        Self {
            kind: CameraKind::V4l2,
            device: "0".into(),
            width: 640,
            height: 480,
            fps: 15.0,
            max_fps: 0.0,
            format: "mjpeg".into(),
            url: String::new(),
            command: Vec::new(),
            path: PathBuf::new(),
            repeat: true,
            timeout_s: 10.0,
        }
    }
}
