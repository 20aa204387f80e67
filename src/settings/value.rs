//! Types of values, and reading one: from a TOML file, where it has a type, or from a variable or flag, where
//! it is text.

use super::detector::InputSize;
use super::keys::Word;
use crate::address::HttpAddress;
use crate::geometry::{Line, MOST_POINTS, Point, Polygon, ShapeError};
use crate::secret;
use config::ValueKind;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use toml::de::DeValue;

/// The values that a key allows.
#[derive(Debug, Clone, Copy)]
pub enum ValueType {
    /// Text that obeys a rule.
    Text(TextRule),
    /// Path of a file or folder; empty: not set.
    Path,
    /// Path of a file or folder that must be given.
    GivenPath,
    /// One of these words.
    Word(&'static [Word]),
    /// A whole number within these limits, both included.
    Whole {
        /// Least.
        min: u32,
        /// Greatest.
        max: u32,
    },
    /// One of these whole numbers.
    Choice(&'static [u32]),
    /// A whole number within these limits, or this word.
    WholeOr {
        /// Least.
        min: u32,
        /// Greatest.
        max: u32,
        /// What stands in place of a number.
        word: &'static str,
    },
    /// A number within these limits, both included.
    Number {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// `true` or `false`.
    Switch,
    /// A list of texts: a program and its arguments.
    Texts,
    /// A list of some of these words.
    Words(&'static [&'static str]),
    /// A list of labels of the model; which ones there are is known only where it is loaded.
    Labels,
    /// Corners of an area, as shares of the picture.
    Area,
    /// The two ends of a line, as shares of the picture.
    Line,
}

/// What a text must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextRule {
    /// Any text.
    Any,
    /// Any text but the empty one, described by these words.
    NotEmpty(&'static str),
    /// The name of a machine or camera in a topic.
    Id,
    /// As `Id`, or empty.
    IdOrEmpty,
    /// The first levels of a topic.
    TopicLevels,
    /// A host name or an IP address, or empty. What does not belong there may hold a password, so no error
    /// shows that.
    HostOrEmpty,
    /// A user name, or empty.
    UserName,
    /// An address that HTTP can be spoken to, or empty. It may hold a password, so no error shows it.
    AddressOrEmpty,
    /// An address and port that only this machine can reach.
    Loopback,
    /// `auto`, or a width and a height in pixels.
    InputSize,
}

impl TextRule {
    /// Whether `text` is allowed.
    #[must_use]
    pub fn holds(self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::NotEmpty(_) => !text.is_empty() && is_path(text),
            Self::Id => super::is_id(text),
            Self::IdOrEmpty => text.is_empty() || super::is_id(text),
            Self::TopicLevels => {
                let is_level = |level: &str| !level.is_empty() && level.chars().all(in_topic);
                text.len() <= MAX_BASE && text.split('/').count() <= 3 && text.split('/').all(is_level)
            }
            Self::HostOrEmpty => text.is_empty() || is_host(text),
            Self::UserName => text.len() <= MAX_USER_NAME && !text.chars().any(char::is_control),
            Self::AddressOrEmpty => {
                let filled = || secret::masked_placeholders(text);
                text.is_empty()
                    || secret::check_placeholders(text).is_ok() && HttpAddress::parse(&filled()).is_ok()
            }
            Self::InputSize => InputSize::try_from(text.to_owned()).is_ok(),
            Self::Loopback => {
                let is_ours = |address: SocketAddr| address.ip().is_loopback() && address.port() != 0;
                text.parse().is_ok_and(is_ours)
            }
        }
    }

    /// What is allowed, in words.
    #[must_use]
    pub fn allowed(self) -> &'static str {
        match self {
            Self::Any => "a text",
            Self::NotEmpty(words) => words,
            Self::Id | Self::IdOrEmpty => {
                "lower-case letters, digits, `_` and `-`, at most 32, not starting with `_` or `-`"
            }
            Self::TopicLevels => {
                "1 to 3 levels of letters, digits and signs without `+`, `#`, `$` or spaces, \
                 at most 128 bytes"
            }
            Self::HostOrEmpty => {
                "a host name or an IP address alone, without mqtt://, without a port (that is mqtt.port), \
                 quotes, brackets or spaces; for TLS set mqtt.tls = true"
            }
            Self::UserName => "a text without control characters, at most 1024 bytes",
            Self::AddressOrEmpty => {
                "an http:// or https:// address, in whose password `/` is written %2F, `#` %23, `?` %3F, `@` %40, \
                 or {secret:NAME}; for RTSP use `command` with ffmpeg"
            }
            Self::InputSize => "\"auto\", or a width and a height in pixels such as \"320x320\"",
            Self::Loopback => {
                "an IP address of this machine alone, 127.0.0.1 or [::1], and a port from 1 to 65535, such as \
                 127.0.0.1:9464; what leaves the machine goes through a proxy with a password (docs/metrics.md)"
            }
        }
    }

    /// The same as a regular expression of JSON Schema (ECMA-262); none where any text is allowed.
    #[must_use]
    pub fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::NotEmpty(_) => Some("."),
            Self::Id => Some("^[a-z0-9][a-z0-9_-]{0,31}$"),
            Self::IdOrEmpty => Some("^([a-z0-9][a-z0-9_-]{0,31})?$"),
            Self::TopicLevels => Some(
                "^(?=.{1,128}$)[^/+#$\\s\\u0000-\\u0020\\u007f-\\u00a0]+\
                 (/[^/+#$\\s\\u0000-\\u0020\\u007f-\\u00a0]+){0,2}$",
            ),
            Self::HostOrEmpty => Some("^([A-Za-z0-9_.-]{1,253}|[0-9A-Fa-f:.]+(%[A-Za-z0-9]{1,15})?)?$"),
            Self::UserName => Some("^[^\\u0000-\\u001f\\u007f-\\u009f]{0,1024}$"),
            Self::AddressOrEmpty => Some("^([Hh][Tt][Tt][Pp][Ss]?://.+)?$"),
            Self::InputSize => Some("^(auto|[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$"),
            Self::Loopback => Some("^(127\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}|\\[[0:]+1\\]):[0-9]{1,5}$"),
        }
    }
}

impl ValueType {
    /// What is allowed, in words: `1 to 64, or "auto"`.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self {
            Self::Text(rule) => rule.allowed().to_owned(),
            Self::Path => "a path without control characters, at most 4096 bytes".to_owned(),
            Self::GivenPath => {
                "a path that is not empty, without control characters, at most 4096 bytes".to_owned()
            }
            Self::Word(words) => {
                words.iter().map(|word| format!("\"{}\"", word.text)).collect::<Vec<_>>().join(", ")
            }
            Self::Whole { min, max } => format!("{min} to {max}"),
            Self::Choice(numbers) => numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
            Self::WholeOr { min, max, word } => format!("{min} to {max}, or \"{word}\""),
            Self::Number { min, max } => format!("{min} to {max}"),
            Self::Switch => "true or false".to_owned(),
            Self::Texts => {
                "a list of texts without NUL such as [\"ffmpeg\", \"-i\", \"rtsp://me:{secret:NAME}@camera/\"]"
                    .to_owned()
            }
            Self::Words(words) => {
                let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("a list of any of {}", quoted.join(", "))
            }
            Self::Labels => format!(
                "a list of labels such as [\"person\", \"car\"], at most {MOST_LABELS}, each of 1 to {MAX_LABEL} \
                 characters, none twice"
            ),
            Self::Area => format!(
                "a list of 3 to {MOST_POINTS} points [x, y], each a share of the picture from 0 to 1, such as \
                 {AREA_EXAMPLE}"
            ),
            Self::Line => format!(
                "a list of 2 points [x, y], each a share of the picture from 0 to 1, such as {LINE_EXAMPLE}"
            ),
        }
    }

    /// Whether an error may show a value of this type: addresses and arguments may hold a password, and a
    /// password may have been written where a path or another text belongs.
    #[must_use]
    pub fn may_be_shown(&self) -> bool {
        !matches!(
            self,
            Self::Text(TextRule::AddressOrEmpty | TextRule::Any | TextRule::UserName)
                | Self::Path
                | Self::Texts
        )
    }

    /// Whether it stands in quotes in the file.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Path | Self::GivenPath | Self::Word(_))
    }

    /// The value in a TOML file as this type; none if it is of another. A whole number is also a number, and
    /// nothing else changes its type: `"5"` is a text.
    #[must_use]
    pub fn read_toml(&self, value: &DeValue<'_>) -> Option<ValueKind> {
        match (self, value) {
            (_, DeValue::String(text)) if self.is_text() || matches!(self, Self::WholeOr { .. }) => {
                Some(ValueKind::String(text.to_string()))
            }
            (Self::Whole { .. } | Self::Choice(_) | Self::WholeOr { .. }, DeValue::Integer(number)) => {
                i64::from_str_radix(number.as_str(), number.radix()).ok().map(ValueKind::I64)
            }
            (Self::Number { .. }, DeValue::Integer(number)) => {
                // A number that does not fit i64 is far outside every range.
                let whole = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
                #[expect(clippy::cast_precision_loss, reason = "ranges end long before 2^53")]
                Some(ValueKind::Float(whole as f64))
            }
            (Self::Number { .. }, DeValue::Float(number)) => {
                number.as_str().parse().ok().map(ValueKind::Float)
            }
            (Self::Switch, DeValue::Boolean(value)) => Some(ValueKind::Boolean(*value)),
            (Self::Texts | Self::Words(_) | Self::Labels, DeValue::Array(items)) => {
                let text = |item: &toml::Spanned<DeValue<'_>>| match item.get_ref() {
                    DeValue::String(text) => Some(config::Value::new(None, text.to_string())),
                    _ => None,
                };
                items.iter().map(text).collect::<Option<Vec<_>>>().map(ValueKind::Array)
            }
            (Self::Area | Self::Line, DeValue::Array(points)) => {
                let points = points.iter().map(|point| read_point(point.get_ref()));
                points.collect::<Option<Vec<_>>>().map(ValueKind::Array)
            }
            _ => None,
        }
    }

    /// The text of a variable or flag as this type; none if it cannot be read as one. A key for text keeps
    /// the text as it is, whatever it looks like; numbers, switches and lists are written as in the file.
    #[must_use]
    pub fn read_text(&self, text: &str) -> Option<ValueKind> {
        let as_it_is = || Some(ValueKind::String(text.to_owned()));
        match self {
            _ if self.is_text() => as_it_is(),
            Self::WholeOr { word, .. } if *word == text => as_it_is(),
            _ => match DeValue::parse(text.trim()).ok()?.get_ref() {
                DeValue::String(_) => None,
                value => self.read_toml(value),
            },
        }
    }

    /// Whether a value that was read as this type is within its limits.
    #[must_use]
    pub fn allows(&self, value: &ValueKind) -> bool {
        match (self, value) {
            (Self::Text(rule), ValueKind::String(text)) => rule.holds(text),
            (Self::Path, ValueKind::String(path)) => is_path(path),
            (Self::GivenPath, ValueKind::String(path)) => !path.is_empty() && is_path(path),
            (Self::Word(words), ValueKind::String(text)) => words.iter().any(|word| word.text == text),
            (Self::WholeOr { word, .. }, ValueKind::String(text)) => word == text,
            (Self::Whole { min, max } | Self::WholeOr { min, max, .. }, ValueKind::I64(number)) => {
                (i64::from(*min)..=i64::from(*max)).contains(number)
            }
            (Self::Choice(numbers), ValueKind::I64(number)) => {
                numbers.iter().any(|allowed| i64::from(*allowed) == *number)
            }
            (Self::Number { min, max }, ValueKind::Float(number)) => (*min..=*max).contains(number),
            (Self::Switch, ValueKind::Boolean(_)) => true,
            // A NUL ends an argument, so that the program would see another one than was written.
            (Self::Texts, ValueKind::Array(texts)) => texts.iter().all(|text| match &text.kind {
                ValueKind::String(text) => !text.contains('\0') && secret::check_placeholders(text).is_ok(),
                _ => false,
            }),
            (Self::Words(words), ValueKind::Array(texts)) => texts.iter().all(|text| match &text.kind {
                ValueKind::String(text) => words.contains(&text.as_str()),
                _ => false,
            }),
            (Self::Labels, ValueKind::Array(texts)) => {
                let mut labels = BTreeSet::new();
                texts.len() <= MOST_LABELS
                    && texts.iter().all(|text| match &text.kind {
                        ValueKind::String(label) => is_label(label) && labels.insert(label),
                        _ => false,
                    })
            }
            (Self::Area | Self::Line, ValueKind::Array(_)) => self.shape_error(value).is_none(),
            _ => false,
        }
    }
}

impl ValueType {
    /// What is wrong with a value that was read as points.
    pub(super) fn shape_error(&self, value: &ValueKind) -> Option<ShapeError> {
        let points: Vec<Point> =
            config::Value::new(None, value.clone()).try_deserialize().unwrap_or_default();
        match self {
            Self::Area => Polygon::new(&points).err(),
            Self::Line => Line::new(&points).err(),
            _ => None,
        }
    }
}

/// A list of two numbers.
fn read_point(point: &DeValue<'_>) -> Option<config::Value> {
    let DeValue::Array(sides) = point else { return None };
    let number = ValueType::Number { min: 0.0, max: 1.0 };
    let read = |side: &toml::Spanned<DeValue<'_>>| number.read_toml(side.get_ref());
    let sides = sides.iter().map(|side| Some(config::Value::new(None, read(side)?)));
    let sides: Vec<_> = sides.collect::<Option<_>>()?;
    (sides.len() == 2).then(|| config::Value::new(None, ValueKind::Array(sides)))
}

/// How points stand in the file.
pub(super) const AREA_EXAMPLE: &str = "[[0.1, 0.5], [0.9, 0.5], [0.9, 1.0], [0.1, 1.0]]";
pub(super) const LINE_EXAMPLE: &str = "[[0.5, 0.2], [0.5, 0.9]]";

/// Most labels of a list: more than a model of a camera's own size has.
const MOST_LABELS: usize = 1000;
/// Most characters of a label.
const MAX_LABEL: usize = 64;

/// Whether a text may be a model's label.
pub(super) fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// Most bytes of `mqtt.base`, so that a topic stays within the 256 bytes that some brokers take.
const MAX_BASE: usize = 128;
/// Most bytes of a user name; hosted brokers put whole queries into it.
const MAX_USER_NAME: usize = 1024;
/// Most bytes of a path on Linux (PATH_MAX).
const MAX_PATH: usize = 4096;

/// Letters, digits and signs, but for those with a meaning in topics.
fn in_topic(letter: char) -> bool {
    (letter.is_alphanumeric() || letter.is_ascii_graphic()) && !matches!(letter, '+' | '#' | '$')
}

fn is_path(text: &str) -> bool {
    text.len() <= MAX_PATH && !text.chars().any(char::is_control)
}

/// A host name (RFC 1123, with `_`, which home networks have) or an IP address.
fn is_host(text: &str) -> bool {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    // A link-local address has a zone, the name of an interface.
    if let Some((address, zone)) = text.split_once('%') {
        let is_zone = (1..=15).contains(&zone.len()) && zone.bytes().all(|byte| byte.is_ascii_alphanumeric());
        return is_zone && address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Numbers alone are read as an address by the resolver, and as another one than was meant.
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(is_label) && !name.rsplit('.').next().is_some_and(is_number)
}

/// A default of the table, `"mjpeg"`, as the text of a variable, `mjpeg`.
pub(super) fn without_quotes(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
