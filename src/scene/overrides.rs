//! What was set over MQTT and outlives a restart. A setting that changed since wins over what was set
//! against it.

use super::{Effect, StateFile};
use crate::contract::{Overridden, rounded};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A threshold that was set, with the setting that it stood against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Threshold {
    /// As set, 0.05 to 0.99.
    pub value: f32,
    /// `detector.min_score` then.
    pub setting: f32,
}

/// What is kept for one camera. Fields of a newer version are preserved, not understood.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Detection switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect: Option<bool>,
    /// The threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// Pictures switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<bool>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

impl Kept {
    /// A value of ours stands in place of one that was not understood.
    fn forget_what_was_not_understood(&mut self) {
        if self.detect.is_some() {
            self.unknown.remove("detect");
        }
        if self.threshold.is_some() {
            self.unknown.remove("threshold");
        }
        if self.snapshots.is_some() {
            self.unknown.remove("snapshots");
        }
    }
}

/// What holds for one camera after settings and commands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct InForce {
    pub detect: bool,
    pub threshold: f32,
    /// Within what the settings allow.
    pub snapshots: bool,
}

/// Everything that was set, by camera.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    cameras: BTreeMap<String, Kept>,
    /// Fields beside the cameras that a newer version wrote.
    unknown: Map<String, Value>,
}

impl Overrides {
    /// Reads the state file. What a newer version wrote is preserved; a field of another form counts as not
    /// understood.
    ///
    /// # Errors
    /// The parser's words, if it is not a JSON object.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let mut all: Map<String, Value> = serde_json::from_str(text)?;
        let cameras = match all.remove("cameras") {
            Some(Value::Object(cameras)) => cameras,
            // Version 0.1.0 wrote the cameras without a level above them.
            _ => std::mem::take(&mut all),
        };
        let cameras = cameras.into_iter().filter_map(|(id, value)| Some((id, kept_from(value)?))).collect();
        Ok(Self { cameras, unknown: all })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut all = self.unknown.clone();
        all.entry("v").or_insert_with(|| 1.into());
        all.insert("cameras".into(), serde_json::to_value(&self.cameras).unwrap_or_default());
        serde_json::to_vec_pretty(&all).unwrap_or_default()
    }

    /// What holds for `camera`.
    pub(super) fn of(&self, camera: &str, min_score: f32) -> InForce {
        let kept = self.cameras.get(camera);
        let threshold = kept.and_then(|kept| valid(kept.threshold, min_score));
        InForce {
            detect: kept.and_then(|kept| kept.detect).unwrap_or(true),
            threshold: threshold.unwrap_or(min_score),
            snapshots: kept.and_then(|kept| kept.snapshots).unwrap_or(true),
        }
    }

    /// Changes what is kept for a camera; persisted if that is something else than before.
    pub(super) fn change(&mut self, camera: &str, change: impl FnOnce(&mut Kept), effects: &mut Vec<Effect>) {
        let before = self.cameras.get(camera).cloned().unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        after.forget_what_was_not_understood();
        if after == before {
            return;
        }
        if after == Kept::default() {
            self.cameras.remove(camera);
        } else {
            self.cameras.insert(camera.to_owned(), after);
        }
        effects.push(Effect::Persist(StateFile::Overrides, self.encode()));
    }

    /// Forgets cameras that the settings no longer have.
    pub(super) fn keep_only(&mut self, known: impl Fn(&str) -> bool, effects: &mut Vec<Effect>) {
        let before = self.cameras.len();
        self.cameras.retain(|id, _| known(id));
        if self.cameras.len() != before {
            effects.push(Effect::Persist(StateFile::Overrides, self.encode()));
        }
    }

    /// What is in force instead of the settings, for `bridge/info`.
    pub(super) fn in_force(&self, min_score: f32) -> BTreeMap<String, Overridden> {
        let shown = self.cameras.iter().map(|(id, kept)| {
            let threshold = valid(kept.threshold, min_score).map(|value| rounded(f64::from(value), 2));
            (id.clone(), Overridden { detect: kept.detect, threshold, snapshots: kept.snapshots })
        });
        shown.filter(|(_, shown)| *shown != Overridden::default()).collect()
    }
}

/// The threshold, if the setting is still the one that it was set against.
fn valid(threshold: Option<Threshold>, min_score: f32) -> Option<f32> {
    let threshold = threshold.filter(|t| t.setting == min_score)?;
    crate::contract::THRESHOLD.contains(&threshold.value).then_some(threshold.value)
}

/// One camera's entry, field by field, so that one field of another form does not cost the others.
fn kept_from(value: Value) -> Option<Kept> {
    let Value::Object(mut fields) = value else { return None };
    let detect = fields.get("detect").and_then(Value::as_bool);
    let threshold = fields.get("threshold").and_then(|value| serde_json::from_value(value.clone()).ok());
    if detect.is_some() {
        fields.remove("detect");
    }
    if threshold.is_some() {
        fields.remove("threshold");
    }
    let snapshots = fields.get("snapshots").and_then(Value::as_bool);
    if snapshots.is_some() {
        fields.remove("snapshots");
    }
    Some(Kept { detect, threshold, snapshots, unknown: fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn persisted(effects: &[Effect]) -> Option<String> {
        effects.iter().rev().find_map(|effect| match effect {
            Effect::Persist(StateFile::Overrides, bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        })
    }

    #[test]
    fn what_was_set_outlives_a_restart_until_the_setting_changes() {
        let (mut overrides, mut effects) = (Overrides::default(), Vec::new());
        overrides.change(
            "front",
            |kept| kept.threshold = Some(Threshold { value: 0.7, setting: 0.5 }),
            &mut effects,
        );
        overrides.change("front", |kept| kept.detect = Some(false), &mut effects);
        let again = Overrides::parse(&persisted(&effects).expect("kept")).expect("reads its own file");
        assert_eq!(again.cameras, overrides.cameras);
        assert_eq!(again.of("front", 0.5), InForce { detect: false, threshold: 0.7, snapshots: true });
        assert_eq!(again.of("front", 0.6), InForce { detect: false, threshold: 0.6, snapshots: true });
        assert_eq!(again.of("back", 0.5), InForce { detect: true, threshold: 0.5, snapshots: true });
        let shown = again.in_force(0.6);
        assert_eq!(
            shown["front"],
            Overridden { detect: Some(false), threshold: None, snapshots: None },
            "only what is in force is shown"
        );
    }

    #[test]
    fn an_equal_value_is_not_written_again() {
        let (mut overrides, mut effects) = (Overrides::default(), Vec::new());
        let set = |kept: &mut Kept| kept.threshold = Some(Threshold { value: 0.7, setting: 0.5 });
        overrides.change("front", set, &mut effects);
        overrides.change("front", set, &mut effects);
        assert_eq!(effects.len(), 1);
    }

    #[test]
    fn a_file_of_a_newer_version_keeps_what_is_understood_and_preserves_the_rest() {
        let newer = r#"{"v":7,"zones":{"drive":[1]},"cameras":{"front":{"detect":false,"threshold":"high","rotate":90}}}"#;
        let mut overrides = Overrides::parse(newer).expect("reads");
        assert_eq!(overrides.of("front", 0.5), InForce { detect: false, threshold: 0.5, snapshots: true });
        let mut effects = Vec::new();
        overrides.change("front", |kept| kept.detect = None, &mut effects);
        let written: Value = serde_json::from_str(&persisted(&effects).expect("kept")).expect("JSON");
        assert_eq!((&written["v"], &written["zones"]["drive"][0]), (&7.into(), &1.into()));
        assert_eq!(written["cameras"]["front"], serde_json::json!({"threshold": "high", "rotate": 90}));
    }

    #[test]
    fn the_file_of_version_0_1_0_is_read() {
        let old = r#"{"front":{"detect":false,"threshold":{"value":0.6,"setting":0.5}}}"#;
        assert_eq!(
            Overrides::parse(old).expect("reads").of("front", 0.5),
            InForce { detect: false, threshold: 0.6, snapshots: true }
        );
    }

    #[test]
    fn cameras_that_are_gone_are_forgotten_and_a_broken_file_is_an_error() {
        let mut overrides = Overrides::parse(r#"{"cameras":{"gone":{"detect":false}}}"#).expect("reads");
        let mut effects = Vec::new();
        overrides.keep_only(|_| false, &mut effects);
        assert!(!persisted(&effects).expect("kept").contains("gone"));
        assert!(Overrides::parse("{\"front\":").is_err() && Overrides::parse("[]").is_err());
    }
}
