//! Why settings cannot be used, and where that is said.

use super::CameraKind;
use super::keys::NameRule;
use crate::geometry::ShapeError;
use std::fmt;
use std::path::PathBuf;

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of the settings file.
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// An environment variable, by name.
    Variable(String),
    /// The flag for this key.
    Flag(String),
    /// The built-in defaults.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(key) => write!(f, "flag for {key}"),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// Why settings cannot be used. Printed as one line; exit code 78.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The path names something that is read without end, or not at all.
    #[error("{}: is {found}; the settings must be a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it names.
        found: &'static str,
    },
    /// The file is larger than any settings are.
    #[error("{}: is larger than {limit} bytes, which is the most that settings may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes.
        limit: u64,
    },
    /// The file is not text.
    #[error("{}:{line}: is not UTF-8 text", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line of the first byte that is none, from 1.
        line: usize,
    },
    /// The file is not TOML.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// An environment variable that is meant for the settings is not text.
    #[error("{name}: is not UTF-8 text")]
    VariableNotUtf8 {
        /// The variable's name.
        name: String,
    },
    /// No such key.
    #[error("{place}: unknown key {key}; {known}")]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// Dotted key.
        key: String,
        /// Which keys there are.
        known: String,
    },
    /// A single value where a section belongs.
    #[error("{place}: {key} is a section; write [{key}] and its keys below")]
    NotASection {
        /// Where it stands.
        place: Place,
        /// Dotted name of the section.
        key: String,
    },
    /// More of a kind than a daemon can serve.
    #[error("{place}: {group} are more than {most}, which is the most that are allowed")]
    TooMany {
        /// Where the first one too many stands.
        place: Place,
        /// Dotted name of the group, as `cameras` or `cameras.front.zones`.
        group: String,
        /// Most of them.
        most: usize,
    },
    /// The key is of another kind of camera.
    #[error(
        "{place}: {key} belongs to cameras of kind {}, but this one has kind = \"{}\" ({kind_place})",
        belongs_to.iter().map(|kind| format!("\"{}\"", kind.as_str())).collect::<Vec<_>>().join(" and "),
        kind.as_str()
    )]
    OtherKind {
        /// Where the key stands.
        place: Place,
        /// Dotted key.
        key: String,
        /// The kinds that have such a key.
        belongs_to: Vec<CameraKind>,
        /// The kind that the camera has.
        kind: CameraKind,
        /// Where that is said.
        kind_place: Place,
    },
    /// A camera's id cannot stand in a topic.
    #[error("{place}: camera id \"{id}\" is not allowed: {}", super::keys::CAMERA_ID)]
    CameraId {
        /// Where it stands.
        place: Place,
        /// The id.
        id: String,
    },
    /// A zone, line, mask or label cannot have this name.
    #[error("{place}: {of} \"{name}\" of camera {camera} is not allowed: {}", rule.allowed())]
    Name {
        /// Where it stands.
        place: Place,
        /// The camera's id.
        camera: String,
        /// What it would be: `zone`.
        of: &'static str,
        /// The name.
        name: String,
        /// What is allowed.
        rule: NameRule,
    },
    /// Points that are no area or line.
    #[error("{place}: {key}: {source}")]
    Shape {
        /// Where it stands.
        place: Place,
        /// Dotted key.
        key: String,
        /// What is wrong, and what is allowed.
        source: ShapeError,
    },
    /// A value is of the wrong type or out of its range.
    #[error("{place}: {key} = {value} is not allowed: {allowed}")]
    Value {
        /// Where it stands.
        place: Place,
        /// Dotted key.
        key: String,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A key that has no useful default is missing.
    #[error("{place}: {key} is missing: {meaning}")]
    Missing {
        /// Where its section stands.
        place: Place,
        /// Dotted key.
        key: String,
        /// What is wanted.
        meaning: String,
    },
    /// A key that is of no use without another one.
    #[error("{place}: {key} needs {other}: {meaning}")]
    Needs {
        /// Where the key stands.
        place: Place,
        /// Dotted key.
        key: String,
        /// The one that is missing.
        other: String,
        /// What is wanted there.
        meaning: &'static str,
    },
    /// Two keys that exclude each other.
    #[error("{place}: {key} stands beside {other}, and only one of them is allowed")]
    Both {
        /// Where the key stands.
        place: Place,
        /// Dotted key.
        key: String,
        /// The other one.
        other: String,
    },
    /// Checked settings do not fit their types: a fault of the program.
    #[error("the settings cannot be merged: {0}")]
    Merge(String),
}
