//! What differs between two settings, and when each difference takes effect.

use super::keys::{CAMERA_KIND, CAMERAS, Key, TakesEffect};
use super::{
    CameraSettings, DetectorSettings, HealthSettings, MetricsSettings, MqttSettings, SamplesSettings,
    Settings, SnapshotsSettings, Source, TuneSettings,
};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Changed keys whose camera is stopped and started.
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
        let Self {
            node: _,
            state_dir: _,
            detector,
            mqtt,
            health,
            metrics,
            samples,
            snapshots,
            tune,
            cameras,
        } = self;
        let mut diff = SettingsDiff::default();
        let embedded = mqtt.host.is_empty() || new.mqtt.host.is_empty();
        diff.add("", self.changed_keys(new), embedded);
        diff.add("detector.", DetectorSettings::changed_keys(detector, &new.detector), embedded);
        diff.add("mqtt.", MqttSettings::changed_keys(mqtt, &new.mqtt), embedded);
        let home_assistant = mqtt.homeassistant.changed_keys(&new.mqtt.homeassistant);
        diff.add("mqtt.homeassistant.", home_assistant, embedded);
        diff.add("health.", HealthSettings::changed_keys(health, &new.health), embedded);
        diff.add("metrics.", MetricsSettings::changed_keys(metrics, &new.metrics), embedded);
        diff.add("samples.", SamplesSettings::changed_keys(samples, &new.samples), embedded);
        diff.add("snapshots.", SnapshotsSettings::changed_keys(snapshots, &new.snapshots), embedded);
        diff.add("tune.", TuneSettings::changed_keys(tune, &new.tune), embedded);
        for (id, old) in cameras {
            match new.cameras.get(id) {
                None => diff.cameras_removed.push(id.clone()),
                Some(new) if new != old => {
                    diff.cameras_changed.push(id.clone());
                    let section = format!("{CAMERAS}.{id}.");
                    diff.add(&section, changed_camera_keys(old, new), embedded);
                    diff.at_once.extend(changed_names(old, new).map(|name| section.clone() + &name));
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

/// What stands below a camera by name and differs: `zones.drive.points`, or `zones.drive` where only one of the
/// two has it.
fn changed_names(old: &CameraSettings, new: &CameraSettings) -> impl Iterator<Item = String> {
    let groups = [
        differing("rules", &old.rules, &new.rules, |old, new| old.changed_keys(new).collect()),
        differing("zones", &old.zones, &new.zones, |old, new| old.changed_keys(new).collect()),
        differing("lines", &old.lines, &new.lines, |old, new| old.changed_keys(new).collect()),
        differing("masks", &old.masks, &new.masks, |old, new| old.changed_keys(new).collect()),
    ];
    groups.into_iter().flatten()
}

/// What of a group differs; `changed` gives the keys that do where both have the name.
fn differing<T>(
    group: &str,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    changed: impl Fn(&T, &T) -> Vec<&'static Key>,
) -> Vec<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let names_of = |name: &String| match (old.get(name), new.get(name)) {
        (Some(old), Some(new)) => {
            changed(old, new).iter().map(|key| format!("{group}.{name}.{}", key.name)).collect()
        }
        _ => vec![format!("{group}.{name}")],
    };
    names.into_iter().flat_map(names_of).collect()
}

impl CameraSettings {
    /// Whether a camera that runs under these settings may run on under `new`.
    #[must_use]
    pub fn runs_on_under(&self, new: &Self) -> bool {
        changed_camera_keys(self, new).iter().all(|key| key.takes_effect != TakesEffect::RestartsCamera)
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
            ValueType::Text(TextRule::InputSize) => "\"320x320\"".into(),
            ValueType::Text(TextRule::Loopback) => "\"[::1]:9465\"".into(),
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
            ValueType::Labels => "[\"other\"]".into(),
            ValueType::Area | ValueType::Line => panic!("{} is of no camera's own keys", key.name),
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
                let names = vec![format!("cameras.a.{}", key.name)];
                let restarts = key.takes_effect == TakesEffect::RestartsCamera;
                let (at_once, restarts_camera) = if restarts { (vec![], names) } else { (names, vec![]) };
                let expected = SettingsDiff {
                    cameras_changed: vec!["a".into()],
                    at_once,
                    restarts_camera,
                    ..SettingsDiff::default()
                };
                let old = settings(&camera);
                assert_eq!(old.diff(&new), expected);
                assert_eq!(old.cameras["a"].runs_on_under(&new.cameras["a"]), !restarts, "{}", key.name);
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
    fn what_stands_below_a_camera_changes_at_once_and_its_name_is_told() {
        let camera = "[cameras.a]\nkind = \"v4l2\"\n";
        let old = settings(&format!(
            "{camera}[cameras.a.rules.person]\nmin_size = 0.1\n\
             [cameras.a.zones.gone]\npoints = [[0, 0], [1, 0], [1, 1]]\n"
        ));
        let new = settings(&format!(
            "{camera}[cameras.a.rules.person]\nmin_size = 0.2\n\
             [cameras.a.lines.new]\npoints = [[0, 0], [1, 0]]\n"
        ));
        let diff = old.diff(&new);
        let names =
            ["rules.person.min_size", "zones.gone", "lines.new"].map(|name| format!("cameras.a.{name}"));
        assert_eq!((diff.at_once, diff.restarts_camera), (names.to_vec(), vec![]));
        assert!(old.cameras["a"].runs_on_under(&new.cameras["a"]));
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
