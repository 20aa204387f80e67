//! The scene's log lines: which level, which words. `docs/` is indexed by these texts, so they stay.

use crate::scene::Log;

/// Writes one line.
pub(super) fn write(line: &Log) {
    match line {
        Log::CameraOnline { camera } => tracing::info!(camera = &**camera, "camera gives frames"),
        Log::CameraOffline { camera, reason } => {
            tracing::warn!(camera = &**camera, reason, "camera gives no frames; it will be opened again");
        }
        Log::CameraDamaged { camera, reason } => {
            tracing::warn!(
                camera = &**camera,
                reason,
                "camera gives only frames that cannot be decoded; it counts as offline"
            );
        }
        Log::ReplayOver { camera } => tracing::info!(camera = &**camera, "replay is over"),
        Log::FrameDamaged { camera, reason } => tracing::debug!(camera = &**camera, reason, "damaged frame"),
        Log::FrameFailed { camera, reason } => tracing::error!(camera = &**camera, reason, "frame failed"),
        Log::DetectionSwitched { camera, on } => tracing::info!(camera = &**camera, on, "detection switched"),
        Log::SnapshotsSwitched { camera, on } => tracing::info!(camera = &**camera, on, "pictures switched"),
        Log::SnapshotsForbidden { camera } => {
            tracing::info!(
                camera = &**camera,
                "pictures stay off: snapshots.enabled is false in the settings"
            );
        }
        Log::ThresholdSet { camera, value } => {
            tracing::info!(camera = &**camera, value = %value, "threshold set")
        }
        Log::UnknownCamera { camera } => {
            tracing::warn!(camera = &**camera, "command for a camera that is not in the settings")
        }
        Log::Throttled { workers, share_percent, temperature_c } => {
            tracing::warn!(
                workers,
                share_percent,
                temperature_c,
                "the firmware throttles the CPU; workers rest"
            );
        }
        Log::ThrottledNoMore { share_percent } => {
            tracing::info!(share_percent, "the CPU is throttled no more")
        }
        Log::RolledBack { generation, reason } => {
            tracing::error!(
                generation,
                reason,
                "the model failed three times in a row; going back to the one before"
            );
        }
        Log::LabelUnknown { reason } => {
            tracing::warn!(reason, "the settings name a label that the model in use lacks");
        }
        Log::EntitiesLeftOut { camera, left_out } => {
            tracing::warn!(
                camera = &**camera,
                left_out,
                "Home Assistant is not told of every label; the setting labels chooses some"
            );
        }
        Log::Stuck => {
            tracing::error!(
                "frames are taken and do not come out; under systemd the watchdog restarts the service"
            );
        }
    }
}
