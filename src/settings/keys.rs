//! What a settings key is: the vocabulary of the table.
//!
//! The table itself is spread over the sections' files (`detector.rs`, `mqtt.rs` and so on).
//! There the macro `section!` takes a key's name, type, default, unit, range, meaning and the moment at which
//! a change takes effect, and makes of them the field that the program reads and the [`Key`] from which the
//! checks, the documents and the diff are made.

use super::camera::CameraKind;
use super::value::{AREA_EXAMPLE, LINE_EXAMPLE, TextRule, ValueType, without_quotes};

/// One key of the settings file.
#[derive(Debug)]
pub struct Key {
    /// Its name within its section.
    pub name: &'static str,
    /// Which values are allowed.
    pub value: ValueType,
    /// Its default as it would stand in the file: `0.5`, `"mjpeg"`, `[]`.
    pub default: &'static str,
    /// The unit of a number, in words for a sentence (`seconds`); empty where there is none.
    pub unit: &'static str,
    /// What it means and what it trades, in whole sentences, as lines of a comment.
    pub meaning: &'static str,
    /// When a change takes effect.
    pub takes_effect: TakesEffect,
}

impl Key {
    /// What is allowed, with the unit: `10 to 3600 seconds`.
    #[must_use]
    pub fn allowed(&self) -> String {
        let allowed = self.value.allowed();
        if self.unit.is_empty() { allowed } else { format!("{allowed} {}", self.unit) }
    }

    /// The meaning as one paragraph.
    #[must_use]
    pub fn paragraph(&self) -> String {
        paragraph(self.meaning)
    }

    /// What stands for the key in a documented file: its default, or an example where the key must be given and
    /// a person could not guess the form.
    #[must_use]
    pub fn shown(&self) -> &'static str {
        match self.value {
            ValueType::Area => AREA_EXAMPLE,
            ValueType::Line => LINE_EXAMPLE,
            _ => self.default,
        }
    }

    /// Whether the settings must name the key because its default is not a value that the program could use.
    #[must_use]
    pub fn must_be_given(&self) -> bool {
        let value = self.value.read_text(without_quotes(self.default));
        value.is_none_or(|value| !self.value.allows(&value))
    }
}

/// The lines of a doc comment as one paragraph.
pub(super) fn paragraph(lines: &str) -> String {
    lines.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// When a change of a key takes effect on a daemon that reads its settings again (SIGHUP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TakesEffect {
    /// While the daemon runs on.
    AtOnce,
    /// The camera that the key belongs to is stopped and started; the others lose no frame.
    RestartsCamera,
    /// Only when the daemon is started again.
    RestartNeeded,
    /// At once between two brokers elsewhere. The embedded broker cannot be moved, started or stopped while
    /// the daemon runs, so a change that concerns it needs a restart of the daemon.
    AtOnceUnlessEmbedded,
}

impl TakesEffect {
    /// The sentence that the documents use.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::AtOnce => "A change takes effect at once.",
            Self::RestartsCamera => "A change restarts that camera.",
            Self::RestartNeeded => "A change needs a restart of the daemon.",
            Self::AtOnceUnlessEmbedded => {
                "A change takes effect at once; \
                 to, from or of the embedded broker it needs a restart of the daemon."
            }
        }
    }
}

/// A group of keys.
#[derive(Debug)]
pub struct Section {
    /// Its name in the file, which may be one below another; empty for the keys above all sections.
    pub name: &'static str,
    /// What it is about, as lines of a comment.
    pub about: &'static str,
    /// Its keys, in the order of the documents.
    pub keys: &'static [Key],
}

/// The sections that are not cameras, in the order of the documents.
pub const SECTIONS: [Section; 9] = [
    Section { name: "", about: super::Settings::ABOUT, keys: super::Settings::KEYS },
    Section { name: "detector", about: super::DetectorSettings::ABOUT, keys: super::DetectorSettings::KEYS },
    Section { name: "mqtt", about: super::MqttSettings::ABOUT, keys: super::MqttSettings::KEYS },
    Section {
        name: "mqtt.homeassistant",
        about: super::HomeAssistantSettings::ABOUT,
        keys: super::HomeAssistantSettings::KEYS,
    },
    Section { name: "health", about: super::HealthSettings::ABOUT, keys: super::HealthSettings::KEYS },
    Section { name: "metrics", about: super::MetricsSettings::ABOUT, keys: super::MetricsSettings::KEYS },
    Section { name: "samples", about: super::SamplesSettings::ABOUT, keys: super::SamplesSettings::KEYS },
    Section {
        name: "snapshots",
        about: super::SnapshotsSettings::ABOUT,
        keys: super::SnapshotsSettings::KEYS,
    },
    Section { name: "tune", about: super::TuneSettings::ABOUT, keys: super::TuneSettings::KEYS },
];

/// The section below `section` that is called `name`, if there is one.
#[must_use]
pub fn subsection(section: &str, name: &str) -> Option<&'static Section> {
    let is_it = |known: &&Section| known.name.split_once('.') == Some((section, name));
    SECTIONS.iter().find(is_it)
}

/// The name of the section that holds the cameras, `[cameras.<id>]`.
pub const CAMERAS: &str = "cameras";

/// The key that says what kind a camera is. It is the tag of [`super::Source`] and thus no field.
pub const CAMERA_KIND: Key = Key {
    name: "kind",
    value: ValueType::Word(CameraKind::WORDS),
    default: "\"v4l2\"",
    unit: "",
    meaning: "What kind of camera it is; the kind decides which other keys there are.",
    takes_effect: TakesEffect::RestartsCamera,
};

/// The keys that a camera of any kind has, besides [`CAMERA_KIND`].
#[must_use]
pub const fn common_camera_keys() -> &'static [Key] {
    super::CameraSettings::KEYS
}

/// The keys that only a camera of this kind has.
#[must_use]
pub const fn camera_keys(kind: CameraKind) -> &'static [Key] {
    match kind {
        CameraKind::V4l2 => super::V4l2Source::KEYS,
        CameraKind::Stream => super::StreamSource::KEYS,
        CameraKind::Replay => super::ReplaySource::KEYS,
    }
}

/// A group of keys below a camera, of which a camera may have several, each under a name.
#[derive(Debug)]
pub struct Named {
    /// As it stands in the file: `zones` of `[cameras.front.zones.drive]`.
    pub name: &'static str,
    /// What the name is, for documents: `zone`.
    pub of: &'static str,
    /// A name, for the documents.
    pub example: &'static str,
    /// What is allowed as a name.
    pub names: NameRule,
    /// What it is about, as lines of a comment.
    pub about: &'static str,
    /// Its keys, in the order of the documents.
    pub keys: &'static [Key],
}

/// What is allowed as a name below a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// A label of the model.
    Label,
    /// A word that may stand in a topic and is not taken there.
    Free,
}

impl NameRule {
    /// Whether `name` is allowed. Which labels the model has is not known here.
    #[must_use]
    pub fn holds(self, name: &str) -> bool {
        match self {
            Self::Label => super::value::is_label(name),
            Self::Free => TextRule::Id.holds(name) && !TAKEN_NAMES.contains(&name),
        }
    }

    /// What is allowed, in words.
    #[must_use]
    pub fn allowed(self) -> String {
        match self {
            Self::Label => "a label of the model, 1 to 64 characters".to_owned(),
            Self::Free => format!(
                "lower-case letters, digits, `_` and `-`, at most 32, not starting with `_` or `-`, and no label; \
                 taken are {}",
                TAKEN_NAMES.join(", ")
            ),
        }
    }
}

/// The groups that a camera may have, in the order of the documents.
pub const NAMED: [Named; 4] = [
    Named {
        name: "rules",
        of: "label",
        example: "person",
        names: NameRule::Label,
        about: super::RuleSettings::ABOUT,
        keys: super::RuleSettings::KEYS,
    },
    Named {
        name: "zones",
        of: "zone",
        example: "drive",
        names: NameRule::Free,
        about: super::ZoneSettings::ABOUT,
        keys: super::ZoneSettings::KEYS,
    },
    Named {
        name: "lines",
        of: "line",
        example: "gate",
        names: NameRule::Free,
        about: super::LineSettings::ABOUT,
        keys: super::LineSettings::KEYS,
    },
    Named {
        name: "masks",
        of: "mask",
        example: "street",
        names: NameRule::Free,
        about: super::MaskSettings::ABOUT,
        keys: super::MaskSettings::KEYS,
    },
];

/// The group with this name.
pub(super) fn named(name: &str) -> Option<&'static Named> {
    NAMED.iter().find(|named| named.name == name)
}

/// Most cameras of a daemon: each is a thread or two and the newest frame in memory.
pub(super) const MOST_CAMERAS: usize = 64;

/// Most zones, most lines and most masks of a camera: each object is compared with each of them in each frame, and
/// each zone has a retained topic for every label.
pub(super) const MOST_NAMED: usize = 64;

/// Words of the contract of MQTT that no zone, line or mask may have as its name, and no label as its topic: they
/// mean something else below a camera.
pub const TAKEN_NAMES: [&str; 13] = [
    "all",
    "any",
    "status",
    "detections",
    "events",
    "detect",
    "threshold",
    "snapshot",
    "snapshots",
    "motion",
    "zone",
    "line",
    "bridge",
];

/// Names of topics beside the cameras', which a camera must therefore not have as its id.
pub(super) const TAKEN_IDS: [&str; 2] = ["bridge", "status"];

/// What is allowed as a camera's id.
pub const CAMERA_ID: &str = "lower-case letters, digits, `_` and `-`, at most 32, not starting with `_` or `-`; \
     `bridge` and `status` are taken";

/// Whether `id` may name a camera.
#[must_use]
pub fn is_camera_id(id: &str) -> bool {
    TextRule::Id.holds(id) && !TAKEN_IDS.contains(&id)
}

/// The default of the key `name`, as the type of its field.
///
/// # Panics
/// If the table gives a default that is not of the field's type; every field of every section is tried by
/// `every_default_is_of_its_type`.
pub(super) fn default_of<T: serde::de::DeserializeOwned>(keys: &[Key], name: &str) -> T {
    let key = keys.iter().find(|key| key.name == name).expect("`section!` makes a key of each field");
    let value = key.value.read_text(without_quotes(key.default)).expect("a default is of its key's type");
    config::Value::new(None, value).try_deserialize().expect("a default is of its field's type")
}

/// A word that a key allows, with what it means.
#[derive(Debug)]
pub struct Word {
    /// As it stands in the file.
    pub text: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// Defines an enum of words: the variants, how they stand in the file, and the list of them for the table.
macro_rules! words {
    (
        $(#[doc = $about:literal])+
        pub enum $name:ident {
            $($(#[doc = $meaning:literal])+ $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[doc = $meaning])+ #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every variant.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Every word with its meaning, in the same order.
            pub const WORDS: &'static [crate::settings::keys::Word] = &[
                $(crate::settings::keys::Word { text: $text, meaning: concat!($($meaning),+) }),+
            ];

            /// The word as it stands in the file.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

/// Defines a section: the struct that the program reads, its default, and its keys for the table. The comment
/// of a field is the meaning of its key. Fields after `besides` are no keys of this section; they are passed
/// on as they are.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $(
                $(#[doc = $meaning:literal])+
                $field:ident: $type:ty {
                    value: $value:expr,
                    default: $default:literal,
                    unit: $unit:literal,
                    takes_effect: $effect:ident,
                }
            )+
        }
        $(besides {
            $($(#[$attribute:meta])* $other:ident: $other_type:ty,)+
        })?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[doc = $meaning])+ pub $field: $type,)+
            $($($(#[$attribute])* pub $other: $other_type,)+)?
        }

        impl $name {
            /// What the section is about.
            pub const ABOUT: &'static str = concat!($($about, "\n"),+);
            /// Its keys.
            pub const KEYS: &'static [crate::settings::keys::Key] = &[$(
                crate::settings::keys::Key {
                    name: stringify!($field),
                    value: $value,
                    default: $default,
                    unit: $unit,
                    meaning: concat!($($meaning, "\n"),+),
                    takes_effect: crate::settings::keys::TakesEffect::$effect,
                },
            )+];

            /// The keys of this section whose values differ in `new`.
            pub(super) fn changed_keys(
                &self,
                new: &Self,
            ) -> impl Iterator<Item = &'static crate::settings::keys::Key> + use<> {
                let same = [$(self.$field == new.$field),+];
                Self::KEYS.iter().zip(same).filter(|(_, same)| !same).map(|(key, _)| key)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: crate::settings::keys::default_of(Self::KEYS, stringify!($field)),)+
                    $($($other: Default::default(),)+)?
                }
            }
        }
    };
}

pub(super) use {section, words};
