//! What arrives on a `/set` topic: size first, then UTF-8, then value. Nothing received panics or allocates
//! beyond its limit.

use super::{Kind, Topic};
use std::sync::Arc;

/// What a command asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Detection on or off.
    Detect(bool),
    /// Only detections with a score above this are published, 0.05 to 0.99.
    Threshold(f32),
    /// Pictures on or off, within what the settings allow.
    Snapshots(bool),
}

/// An accepted message on a `/set` topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// The camera's id as it stands in the topic; whether there is such a camera is for the receiver to say.
    pub camera: Arc<str>,
    /// What is asked for.
    pub change: Change,
}

/// Why a command is refused: what was wrong and what is allowed. The payload itself is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It was kept by the broker, so it is no act of now.
    #[error("retained, so nobody asked for it now; clear it with: mosquitto_pub -r -n -t '{topic}'")]
    Retained {
        /// Its full topic.
        topic: String,
    },
    /// No command stands on this topic.
    #[error("no command stands on this topic")]
    NoCommand,
    /// It is longer than the topic's limit.
    #[error("{bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The topic's limit.
        limit: usize,
    },
    /// It is no text.
    #[error("not UTF-8")]
    NotUtf8,
    /// A switch is neither on nor off.
    #[error("neither ON nor OFF")]
    NotOnOff,
    /// A threshold is no plain decimal in its range.
    #[error("not a decimal from 0.05 to 0.99")]
    NotThreshold,
}

/// Range of a threshold.
pub(crate) const THRESHOLD: std::ops::RangeInclusive<f32> = 0.05..=0.99;

impl Command {
    /// Reads a message on `topic`, which stands at `full` on the broker.
    ///
    /// # Errors
    /// [`CommandError`], in the order: retained, topic, size, text, value.
    pub fn read(topic: &Topic, full: &str, payload: &[u8], retained: bool) -> Result<Self, CommandError> {
        if retained {
            return Err(CommandError::Retained { topic: full.to_owned() });
        }
        let camera = Arc::clone(topic.camera().ok_or(CommandError::NoCommand)?);
        let limit = topic.spec().max_bytes;
        if payload.len() > limit {
            return Err(CommandError::TooLarge { bytes: payload.len(), limit });
        }
        let text = std::str::from_utf8(payload).map_err(|_| CommandError::NotUtf8)?.trim();
        let change = match topic.kind() {
            Kind::DetectSet => Change::Detect(switch(text)?),
            Kind::SnapshotsSet => Change::Snapshots(switch(text)?),
            Kind::ThresholdSet => Change::Threshold(threshold(text)?),
            _ => return Err(CommandError::NoCommand),
        };
        Ok(Self { camera, change })
    }
}

fn switch(text: &str) -> Result<bool, CommandError> {
    match text {
        _ if text.eq_ignore_ascii_case("on") => Ok(true),
        _ if text.eq_ignore_ascii_case("off") => Ok(false),
        _ => Err(CommandError::NotOnOff),
    }
}

fn threshold(text: &str) -> Result<f32, CommandError> {
    // Only digits and a point: `parse` alone would take `inf`, `1e-1` and `+.5`.
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse::<f32>()
        .ok()
        .filter(|value| plain && THRESHOLD.contains(value))
        .ok_or(CommandError::NotThreshold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Names;

    fn read(full: &str, payload: &[u8]) -> Result<Change, CommandError> {
        let topic = Names::new("r", "n").parse(full).ok_or(CommandError::NoCommand)?;
        Command::read(&topic, full, payload, false).map(|command| command.change)
    }

    #[test]
    fn good_commands_are_read() {
        assert_eq!(read("r/n/front/detect/set", b"Off"), Ok(Change::Detect(false)));
        assert_eq!(read("r/n/front/threshold/set", b" 0.55\n"), Ok(Change::Threshold(0.55)));
    }

    #[test]
    fn bad_commands_are_refused_with_what_is_allowed() {
        for text in [&b"inf"[..], b"nan", b"5e-1", b"+0.5", b"1.5", b"0.04", b"", b"0x1", b"."] {
            assert_eq!(read("r/n/front/threshold/set", text), Err(CommandError::NotThreshold), "{text:?}");
        }
        assert_eq!(read("r/n/front/threshold/set", b"\xff\xfe"), Err(CommandError::NotUtf8));
        let long = CommandError::TooLarge { bytes: 33, limit: 32 };
        assert_eq!(read("r/n/front/threshold/set", &[b'0'; 33]), Err(long));
        assert_eq!(read("r/n/front/detect/set", b"1"), Err(CommandError::NotOnOff));
        for topic in ["r/n/front/status", "r/n/bridge/info", "r/m/front/detect/set", "r/n/front/zoom/set"] {
            assert_eq!(read(topic, b"ON"), Err(CommandError::NoCommand), "{topic}");
        }
    }

    #[test]
    fn a_retained_command_names_how_to_clear_it() {
        let topic = Names::new("r", "n").parse("r/n/front/detect/set").expect("a topic");
        let error = Command::read(&topic, "r/n/front/detect/set", b"ON", true).expect_err("retained");
        assert!(error.to_string().contains("mosquitto_pub -r -n -t 'r/n/front/detect/set'"), "{error}");
    }
}
