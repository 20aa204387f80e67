//! Settings: built-in defaults, then the file, then `RETINAD__SECTION__KEY` in the environment, then flags;
//! later wins.
//!
//! Each key stands once, in the file of its section (`detector`, `mqtt`, `camera`, and the top of this
//! one): name, type, default, unit, range, meaning, and when a change takes effect. From there come the
//! fields that the program reads, the checks ([`load()`]), the difference between two settings
//! ([`Settings::diff`]), and what people and editors read: the documented `config/retinad.toml`, the manual
//! page retinad.toml(5) and the JSON Schema ([`documents`]).
//!
//! Reading takes three steps, and each error names the file and line, variable or flag it comes from. The
//! file is parsed by `toml`, which knows the position of each key. Each value is checked against the table
//! ([`value`]); a variable is text, and only its key says whether that text is a number. What passed is
//! merged by the `config` crate, layer over layer, and given its types by serde. The first two steps are our
//! own because `config` keeps no line numbers and converts between types as it likes (`"5"` to 5).
//!
//! The types here are plain data; [`load()`] is the only function that reads. This is the only room that
//! names the `config` crate.

mod camera;
mod detector;
mod diff;
pub mod documents;
mod entries;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod keys;
mod load;
mod metrics;
mod mqtt;
mod samples;
mod shapes;
mod snapshots;
mod text;
mod tune;
pub mod value;

pub use camera::{
    CameraKind, CameraSettings, ReplaySource, Source, StreamFormat, StreamSource, V4l2Format, V4l2Source,
};
pub use detector::{DetectorSettings, InputSize, Threads, WorkerShare, shared};
pub use diff::SettingsDiff;
pub use entries::environment;
pub use error::{Place, SettingsError};
pub use load::{DEFAULT_FILE, ENVIRONMENT_PREFIX, load};
pub use metrics::MetricsSettings;
pub use mqtt::{DetectionsMode, HealthSettings, HomeAssistantSettings, MqttSettings};
pub use samples::SamplesSettings;
pub use shapes::{Hidden, LineSettings, MaskSettings, RuleSettings, ZoneSettings};
pub use snapshots::SnapshotsSettings;
pub use text::masked_toml;
pub use tune::{TuneClasses, TuneLoss, TuneSettings};

use keys::section;
use std::collections::BTreeMap;
use std::path::PathBuf;
use value::{TextRule, ValueType};

section! {
    /// Everything a person can set. `config/retinad.toml` documents each key.
    pub struct Settings {
        /// Name of this machine in topics. Empty: from the host name.
        node: String {
            value: ValueType::Text(TextRule::IdOrEmpty),
            default: "\"\"",
            unit: "",
            takes_effect: RestartNeeded,
        }
        /// Folder for what outlives a restart: thresholds and switches set over MQTT, and kept frames.
        /// Empty: $STATE_DIRECTORY, which systemd sets, else nothing is kept.
        state_dir: PathBuf {
            value: ValueType::Path,
            default: "\"\"",
            unit: "",
            takes_effect: RestartNeeded,
        }
    }
    besides {
        /// The detector.
        detector: DetectorSettings,
        /// The broker.
        mqtt: MqttSettings,
        /// Health messages.
        health: HealthSettings,
        /// Metrics for Prometheus.
        metrics: MetricsSettings,
        /// Frames that are kept to learn from.
        samples: SamplesSettings,
        /// Pictures that are published.
        snapshots: SnapshotsSettings,
        /// How the model learns from them.
        tune: TuneSettings,
        /// Cameras by id (`[a-z0-9][a-z0-9_-]{0,31}`).
        cameras: BTreeMap<String, CameraSettings>,
    }
}

/// Whether `id` may name a node or a camera in a topic.
#[must_use]
pub fn is_id(id: &str) -> bool {
    let mut bytes = id.bytes();
    id.len() <= 32
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}
