//! Codes of what is wrong, for `bridge/health`. Users write automations on them, so a code never changes
//! its meaning.

use std::fmt;
use std::sync::Arc;

/// One thing that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The camera gives no frames.
    CameraOffline(Arc<str>),
    /// The camera gives only frames that cannot be decoded.
    CameraDamaged(Arc<str>),
    /// No network time yet; use `mono_ms` for durations.
    ClockUnsynced,
    /// The power supply or its cable is too weak.
    Undervoltage,
    /// The firmware holds the CPU below its speed.
    ThermalThrottle,
    /// Less than 100 MiB are left where the daemon runs.
    DiskLow,
    /// State cannot be written, so it will not outlive a restart.
    StateNotKept,
    /// The broker refused a subscription: commands on it will not arrive.
    SubscribeRefused(Arc<str>),
    /// A model failed three times in a row and the one before it is in use again.
    ModelFallback,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CameraOffline(camera) => write!(f, "camera_offline:{camera}"),
            Self::CameraDamaged(camera) => write!(f, "camera_damaged:{camera}"),
            Self::ClockUnsynced => f.write_str("clock_unsynced"),
            Self::Undervoltage => f.write_str("undervoltage"),
            Self::ThermalThrottle => f.write_str("thermal_throttle"),
            Self::DiskLow => f.write_str("disk_low"),
            Self::StateNotKept => f.write_str("state_not_kept"),
            Self::SubscribeRefused(filter) => write!(f, "subscribe_refused:{filter}"),
            Self::ModelFallback => f.write_str("model_fallback"),
        }
    }
}
