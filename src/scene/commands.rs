//! What an accepted command does to a camera.

use super::overrides::Threshold;
use super::{Effect, Log, Now, Scene};
use crate::contract::{Change, Command, Kind, Topic};
use std::sync::Arc;

impl Scene {
    /// Carries out a command, keeps it over a restart, and answers on the topic's `/state` even where
    /// nothing changed, so that the sender's screen is right.
    pub(super) fn take_command(&mut self, now: Now, command: &Command, effects: &mut Vec<Effect>) {
        let setting = self.settings.detector.min_score;
        let Some(camera) = self.cameras.values_mut().find(|camera| camera.id == command.camera) else {
            effects.push(Effect::Tell(Log::UnknownCamera { camera: Arc::clone(&command.camera) }));
            return;
        };
        let id = Arc::clone(&camera.id);
        let answer = match command.change {
            Change::Detect(on) => {
                camera.switch(now, on, effects);
                // On is what the settings say, so only off must be kept.
                self.overrides.change(&id, |kept| kept.detect = (!on).then_some(false), effects);
                effects.push(Effect::Tell(Log::DetectionSwitched { camera: Arc::clone(&id), on }));
                Kind::DetectState
            }
            Change::Threshold(value) => {
                camera.set_threshold(value);
                camera.look_again(effects);
                self.overrides.change(
                    &id,
                    |kept| kept.threshold = Some(Threshold { value, setting }),
                    effects,
                );
                effects.push(Effect::Tell(Log::ThresholdSet { camera: Arc::clone(&id), value }));
                Kind::ThresholdState
            }
            Change::Snapshots(on) => {
                let may = camera.switch_pictures(on);
                self.overrides.change(&id, |kept| kept.snapshots = (!on).then_some(false), effects);
                effects.push(Effect::Tell(if may {
                    Log::SnapshotsSwitched { camera: Arc::clone(&id), on }
                } else {
                    Log::SnapshotsForbidden { camera: Arc::clone(&id) }
                }));
                Kind::SnapshotsState
            }
        };
        camera.publish_settings(effects);
        effects.push(Effect::Repeat(Topic::of_camera(answer, &id)));
        self.report.state_changed();
        self.publish_info(effects);
    }
}
