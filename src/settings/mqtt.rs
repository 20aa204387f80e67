//! `[mqtt]` and `[health]`: what is published, where, and how often.

use super::keys::{section, words};
use super::value::{TextRule, ValueType};
use std::path::PathBuf;

section! {
    /// The broker, and what is sent to it.
    pub struct MqttSettings {
        /// Broker's host. Empty: the embedded broker on loopback.
        host: String {
            value: ValueType::Text(TextRule::Any),
            default: "\"\"",
            unit: "",
            takes_effect: AtOnceUnlessEmbedded,
        }
        /// Broker's port, also the embedded broker's.
        port: u16 {
            value: ValueType::Whole { min: 1, max: 65535 },
            default: "1883",
            unit: "",
            takes_effect: AtOnceUnlessEmbedded,
        }
        /// User name. Empty: none.
        username: String {
            value: ValueType::Text(TextRule::Any),
            default: "\"\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// File that holds the password, mode 0600 or stricter. Empty: none.
        password_file: PathBuf {
            value: ValueType::Path,
            default: "\"\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// First levels of each topic. Two machines may share it, `node` tells them apart.
        base: String {
            value: ValueType::Text(TextRule::TopicLevels),
            default: "\"retinad\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// When the detections of a frame are sent. Fewer messages mean less traffic.
        detections: DetectionsMode {
            value: ValueType::Word(DetectionsMode::WORDS),
            default: "\"non_empty\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// The detections of at most this many frames of each camera are sent. Lower spares the broker and
        /// loses frames' details.
        max_rate: f32 {
            value: ValueType::Number { min: 0.1, max: 60.0 },
            default: "5.0",
            unit: "frames a second",
            takes_effect: AtOnce,
        }
        /// A count falls only after its objects were gone this long. Longer means less flicker and later
        /// news.
        off_delay_s: f32 {
            value: ValueType::Number { min: 0.0, max: 60.0 },
            default: "2.0",
            unit: "seconds",
            takes_effect: AtOnce,
        }
    }
}

words! {
    /// When `<cam>/detections` is sent.
    pub enum DetectionsMode {
        /// for each frame
        Always = "always",
        /// for frames with at least one detection
        NonEmpty = "non_empty",
        /// never
        Off = "off",
    }
}

section! {
    /// Health messages.
    pub struct HealthSettings {
        /// Time between two health messages.
        interval_s: u32 {
            value: ValueType::Whole { min: 10, max: 3600 },
            default: "60",
            unit: "seconds",
            takes_effect: AtOnce,
        }
    }
}
