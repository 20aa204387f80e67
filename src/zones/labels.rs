//! Labels as the settings name them, and as the model does: the settings are read before the model is loaded, so
//! what they ask of labels is checked here once both are known.

use crate::contract::{label_slugs, slug};
use crate::settings::Settings;

/// Why settings do not fit a model. One line that names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The model has no such label.
    #[error(
        "{key}: the model has no label \"{name}\"; the nearest is \"{nearest}\" (`retinad check` lists all)"
    )]
    Unknown {
        /// Dotted key.
        key: String,
        /// What was given.
        name: String,
        /// The model's label that is most like it.
        nearest: String,
    },
    /// The model tells nothing.
    #[error("{key}: the model has no label \"{name}\", nor any other")]
    NoLabels {
        /// Dotted key.
        key: String,
        /// What was given.
        name: String,
    },
    /// Two names for one label.
    #[error("{key} and {other} both mean the label \"{label}\"; only one of them is allowed")]
    Twice {
        /// Dotted key.
        key: String,
        /// The one before.
        other: String,
        /// The model's label.
        label: String,
    },
    /// Something is named like a label.
    #[error("{key}: \"{name}\" is a label of the model; give it another name, such as \"{name}_area\"")]
    Taken {
        /// Dotted key.
        key: String,
        /// The name.
        name: String,
    },
}

/// Whether `name` in the settings means this label, whose last level in topics is `topic`: as the model
/// spells it, as it stands in topics, or with other letters for blanks and in another case.
#[must_use]
pub fn means(name: &str, label: &str, topic: &str) -> bool {
    !label.is_empty() && (name == label || name == topic || slug(name) == topic)
}

/// Whether a list of names means this label; an empty one means all.
#[must_use]
pub fn is_wanted(names: &[String], label: &str, topic: &str) -> bool {
    names.is_empty() || names.iter().any(|name| means(name, label, topic))
}

/// Refuses settings that name a label that the model lacks, or a zone like one that it has. `labels` are the
/// model's, by class; an empty one is never told.
///
/// # Errors
/// [`LabelError`] for the first key, in the order of the cameras' ids.
pub fn check_labels(settings: &Settings, labels: &[String]) -> Result<(), LabelError> {
    let known = Known { labels, topics: label_slugs(labels) };
    for (id, camera) in &settings.cameras {
        let key = |rest: &str| format!("cameras.{id}.{rest}");
        known.check_all(&key("labels"), &camera.labels)?;
        let mut ruled: Vec<(&str, &String)> = Vec::new();
        for name in camera.rules.keys() {
            let label = known.find(&key(&format!("rules.{name}")), name)?;
            if let Some((_, other)) = ruled.iter().find(|(earlier, _)| *earlier == label) {
                return Err(LabelError::Twice {
                    key: key(&format!("rules.{name}")),
                    other: key(&format!("rules.{other}")),
                    label: label.to_owned(),
                });
            }
            ruled.push((label, name));
        }
        let zones = camera.zones.iter().map(|(name, zone)| ("zones", name, &zone.labels));
        let lines = camera.lines.iter().map(|(name, line)| ("lines", name, &line.labels));
        let masks = camera.masks.iter().map(|(name, mask)| ("masks", name, &mask.labels));
        for (group, name, names) in zones.chain(lines).chain(masks) {
            if known.meant(name).is_some() {
                return Err(LabelError::Taken { key: key(&format!("{group}.{name}")), name: name.clone() });
            }
            known.check_all(&key(&format!("{group}.{name}.labels")), names)?;
        }
    }
    Ok(())
}

/// The model's labels.
struct Known<'a> {
    labels: &'a [String],
    topics: Vec<String>,
}

impl<'a> Known<'a> {
    fn check_all(&self, key: &str, names: &[String]) -> Result<(), LabelError> {
        names.iter().try_for_each(|name| self.find(key, name).map(drop))
    }

    fn meant(&self, name: &str) -> Option<&'a str> {
        let mut all = self.labels.iter().zip(&self.topics);
        all.find(|(label, topic)| means(name, label, topic)).map(|(label, _)| label.as_str())
    }

    /// The label that is meant.
    fn find(&self, key: &str, name: &str) -> Result<&'a str, LabelError> {
        if let Some(label) = self.meant(name) {
            return Ok(label);
        }
        let (key, name) = (key.to_owned(), name.to_owned());
        let alike = |label: &&String| strsim::normalized_damerau_levenshtein(&slug(&name), &slug(label));
        let told = self.labels.iter().filter(|label| !label.is_empty());
        match told.max_by(|a, b| alike(a).total_cmp(&alike(b))) {
            Some(nearest) => Err(LabelError::Unknown { key, name, nearest: nearest.clone() }),
            None => Err(LabelError::NoLabels { key, name }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(camera: &str) -> Result<(), String> {
        let text = format!("[cameras.front]\nkind = \"v4l2\"\n{camera}");
        let settings: Settings = toml::from_str(&text).expect("settings");
        let labels = ["person", "", "traffic light", "car", "cat"].map(str::to_owned);
        check_labels(&settings, &labels).map_err(|error| error.to_string())
    }

    #[test]
    fn a_label_is_meant_as_the_model_spells_it_and_as_topics_do() {
        for names in ["person", "traffic light", "traffic_light", "Traffic Light", "CAT"] {
            assert_eq!(checked(&format!("labels = [\"{names}\"]\n")), Ok(()), "{names}");
        }
        assert!(is_wanted(&[], "car", "car") && !is_wanted(&["cat".into()], "car", "car"));
        assert!(!means("", "", "class_1"), "a class that is never told");
    }

    #[test]
    fn an_unknown_label_is_named_with_its_key_and_the_nearest_one() {
        let points = "points = [[0, 0], [1, 0], [1, 1]]";
        for (text, key, nearest) in [
            ("labels = [\"person\", \"persn\"]\n", "labels: the model has no label \"persn\"", "person"),
            ("[cameras.front.rules.trafic_light]\n", "rules.trafic_light: the model has no", "traffic light"),
            (
                &format!("[cameras.front.zones.drive]\n{points}\nlabels = [\"cars\"]\n"),
                "zones.drive.labels: the model has no label \"cars\"",
                "car",
            ),
            (
                &format!("[cameras.front.masks.sky]\n{points}\nlabels = [\"Katze\"]\n"),
                "masks.sky.labels: the model has no label \"Katze\"",
                "cat",
            ),
            (
                "[cameras.front.lines.gate]\npoints = [[0, 0], [1, 1]]\nlabels = [\"\u{732b}\"]\n",
                "lines.gate.labels: the model has no label",
                "",
            ),
            ("labels = [\"class_1\"]\n", "labels: the model has no label \"class_1\"", ""),
        ] {
            let error = checked(text).expect_err(text);
            assert!(error.starts_with(&format!("cameras.front.{key}")), "{error}");
            assert!(error.contains(&format!("the nearest is \"{nearest}")), "{error}");
        }
    }

    #[test]
    fn two_rules_for_one_label_and_a_zone_named_like_a_label_are_refused() {
        let rules = "[cameras.front.rules.\"traffic light\"]\n[cameras.front.rules.traffic_light]\n";
        let error = checked(rules).expect_err("twice");
        assert_eq!(
            error,
            "cameras.front.rules.traffic_light and cameras.front.rules.traffic light both mean the label \
             \"traffic light\"; only one of them is allowed"
        );
        for name in ["car", "traffic_light"] {
            let zone = format!("[cameras.front.zones.{name}]\npoints = [[0, 0], [1, 0], [1, 1]]\n");
            let error = checked(&zone).expect_err("taken");
            assert!(
                error.starts_with(&format!("cameras.front.zones.{name}: \"{name}\" is a label")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_model_without_labels_is_said_to_have_none() {
        let settings: Settings =
            toml::from_str("[cameras.a]\nkind = \"v4l2\"\nlabels = [\"cat\"]\n").expect("settings");
        let error = check_labels(&settings, &[String::new()]).expect_err("none").to_string();
        assert_eq!(error, "cameras.a.labels: the model has no label \"cat\", nor any other");
    }
}
