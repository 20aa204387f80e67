//! What differs between two settings, and when each difference takes effect.

use super::keys::{CAMERA_KIND, CAMERAS, Key, TakesEffect};
use super::{
    CameraSettings, DetectorSettings, HealthSettings, MqttSettings, SamplesSettings, Settings, Source,
    TuneSettings,
};

/// What a change of the settings changes. Names are dotted, in the order of the table; cameras are in the
/// order of their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsDiff {
    /// Ids of cameras that only the new settings have.
    pub cameras_added: Vec<String>,
    /// Ids of cameras that only the old settings have.
    pub cameras_removed: Vec<String>,
    /// Ids of cameras that both have, with other keys.
    pub cameras_changed: Vec<String>,
    /// Changed keys that take effect while the daemon runs on.
    pub at_once: Vec<String>,
    /// Changed keys of the cameras in `cameras_changed`, each of which is stopped and started.
    pub restarts_camera: Vec<String>,
    /// Changed keys that take effect only when the daemon is started again.
    pub restart_needed: Vec<String>,
}

impl SettingsDiff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Settings {
    /// What `new` changes.
    #[must_use]
    pub fn diff(&self, new: &Self) -> SettingsDiff {
        // The fields are named without `..`, so that a section added later cannot be forgotten here.
        let Self { node: _, state_dir: _, detector, mqtt, health, samples, tune, cameras } = self;
        let mut diff = SettingsDiff::default();
        let embedded = mqtt.host.is_empty() || new.mqtt.host.is_empty();
        diff.add("", self.changed_keys(new), embedded);
        diff.add("detector.", DetectorSettings::changed_keys(detector, &new.detector), embedded);
        diff.add("mqtt.", MqttSettings::changed_keys(mqtt, &new.mqtt), embedded);
        diff.add("health.", HealthSettings::changed_keys(health, &new.health), embedded);
        diff.add("samples.", SamplesSettings::changed_keys(samples, &new.samples), embedded);
        diff.add("tune.", TuneSettings::changed_keys(tune, &new.tune), embedded);
        for (id, old) in cameras {
            match new.cameras.get(id) {
                None => diff.cameras_removed.push(id.clone()),
                Some(new) if new != old => {
                    diff.cameras_changed.push(id.clone());
                    diff.add(&format!("{CAMERAS}.{id}."), changed_camera_keys(old, new), embedded);
                }
                Some(_) => {}
            }
        }
        diff.cameras_added = new.cameras.keys().filter(|id| !cameras.contains_key(*id)).cloned().collect();
        diff
    }
}

impl SettingsDiff {
    /// Sorts changed keys by when they take effect; `embedded`: the old or the new broker is the embedded
    /// one.
    fn add(&mut self, section: &str, changed: impl IntoIterator<Item = &'static Key>, embedded: bool) {
        for key in changed {
            let names = match key.takes_effect {
                TakesEffect::AtOnce => &mut self.at_once,
                TakesEffect::RestartsCamera => &mut self.restarts_camera,
                TakesEffect::RestartNeeded => &mut self.restart_needed,
                TakesEffect::AtOnceUnlessEmbedded if embedded => &mut self.restart_needed,
                TakesEffect::AtOnceUnlessEmbedded => &mut self.at_once,
            };
            names.push(format!("{section}{}", key.name));
        }
    }
}

/// The changed keys of a camera; of another kind only `kind`, since the kinds' other keys cannot be compared.
fn changed_camera_keys(old: &CameraSettings, new: &CameraSettings) -> Vec<&'static Key> {
    let common = old.changed_keys(new);
    match (&old.source, &new.source) {
        (Source::V4l2(old), Source::V4l2(new)) => old.changed_keys(new).chain(common).collect(),
        (Source::Stream(old), Source::Stream(new)) => old.changed_keys(new).chain(common).collect(),
        (Source::Replay(old), Source::Replay(new)) => old.changed_keys(new).chain(common).collect(),
        (Source::V4l2(_) | Source::Stream(_) | Source::Replay(_), _) => {
            std::iter::once(&CAMERA_KIND).chain(common).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::CameraKind;
    use crate::settings::keys::{SECTIONS, camera_keys, common_camera_keys};
    use crate::settings::value::{TextRule, ValueType};

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Another allowed value than the default, as TOML.
    fn other_value(key: &Key) -> String {
        match &key.value {
            ValueType::Text(TextRule::AddressOrEmpty) => "\"http://other/\"".into(),
            ValueType::Text(_) | ValueType::Path | ValueType::GivenPath => "\"other\"".into(),
            ValueType::Word(words) => {
                let other =
                    words.iter().map(|word| format!("\"{}\"", word.text)).find(|word| word != key.default);
                other.expect("a second word")
            }
            ValueType::Whole { min, max } | ValueType::WholeOr { min, max, .. } => {
                if key.default == max.to_string() { min.to_string() } else { max.to_string() }
            }
            ValueType::Choice(numbers) => {
                let other = numbers.iter().map(u32::to_string).find(|number| number != key.default);
                other.expect("a second number")
            }
            ValueType::Number { max, .. } => format!("{max:?}"),
            ValueType::Switch => (key.default != "true").to_string(),
            ValueType::Texts => "[\"other\"]".into(),
            ValueType::Words(_) => "[]".into(),
        }
    }

    #[test]
    fn a_change_of_any_key_shows_in_the_diff_with_its_effect() {
        let mut tried = 0;
        for section in &SECTIONS {
            for key in section.keys {
                let header =
                    if section.name.is_empty() { String::new() } else { format!("[{}]\n", section.name) };
                let new = settings(&format!("{header}{} = {}\n", key.name, other_value(key)));
                let name = [section.name, key.name].join(".").trim_start_matches('.').to_owned();
                let mut expected = SettingsDiff::default();
                match key.takes_effect {
                    TakesEffect::AtOnce => expected.at_once.push(name),
                    // The default broker is the embedded one.
                    TakesEffect::RestartNeeded | TakesEffect::AtOnceUnlessEmbedded => {
                        expected.restart_needed.push(name)
                    }
                    TakesEffect::RestartsCamera => panic!("{name} is of no camera"),
                }
                assert_eq!(Settings::default().diff(&new), expected);
                tried += 1;
            }
        }
        for kind in CameraKind::ALL {
            let camera = format!("[cameras.a]\nkind = \"{}\"\n", kind.as_str());
            for key in camera_keys(*kind).iter().chain(common_camera_keys()) {
                let new = settings(&format!("{camera}{} = {}\n", key.name, other_value(key)));
                let expected = SettingsDiff {
                    cameras_changed: vec!["a".into()],
                    restarts_camera: vec![format!("cameras.a.{}", key.name)],
                    ..SettingsDiff::default()
                };
                assert_eq!(settings(&camera).diff(&new), expected);
                tried += 1;
            }
        }
        assert!(tried >= 35, "only {tried} keys tried");
    }

    #[test]
    fn cameras_that_come_go_and_change_their_kind_are_told_apart() {
        let webcam = |id: &str| format!("[cameras.{id}]\nkind = \"v4l2\"\n");
        let replay = "[cameras.b]\nkind = \"replay\"\npath = \"p\"\n";
        let old = settings(&[webcam("a"), webcam("b"), webcam("c")].concat());
        let new = settings(&[webcam("a"), replay.to_owned(), webcam("d")].concat());
        let expected = SettingsDiff {
            cameras_added: vec!["d".into()],
            cameras_removed: vec!["c".into()],
            cameras_changed: vec!["b".into()],
            restarts_camera: vec!["cameras.b.kind".into()],
            ..SettingsDiff::default()
        };
        assert_eq!(old.diff(&new), expected);
        assert!(old.diff(&old).is_empty());
    }

    #[test]
    fn host_and_port_take_effect_at_once_between_brokers_elsewhere() {
        let broker = |host: &str, port: u16| settings(&format!("[mqtt]\nhost = \"{host}\"\nport = {port}\n"));
        let both = vec!["mqtt.host".to_owned(), "mqtt.port".to_owned()];
        assert_eq!(broker("a", 1883).diff(&broker("b", 1884)).at_once, both);
        for (old, new) in [(broker("", 1883), broker("b", 1884)), (broker("a", 1883), broker("", 1884))] {
            assert_eq!(old.diff(&new).restart_needed, both);
            assert!(old.diff(&new).at_once.is_empty());
        }
        assert_eq!(broker("", 1883).diff(&broker("", 1884)).restart_needed, ["mqtt.port"]);
    }
}
