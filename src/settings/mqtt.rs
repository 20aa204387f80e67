//! `[mqtt]` and `[health]`: what is published, where, and how often.

use super::keys::{section, words};
use super::value::{TextRule, ValueType};
use crate::verb;
use std::path::PathBuf;

section! {
    /// The broker, and what is sent to it.
    pub struct MqttSettings {
        /// Broker's host. Empty: the embedded broker on loopback.
        host: String {
            value: ValueType::Text(TextRule::HostOrEmpty),
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
            value: ValueType::Text(TextRule::UserName),
            default: "\"\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// File that holds the password of `username`, mode 0600 or stricter. Empty: none.
        password_file: PathBuf {
            value: ValueType::Path,
            default: "\"\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Speak TLS to the broker, usually on port 8883; `host` must be the name or address that stands in
        /// its certificate, which is always checked. Without TLS, password and detections cross the network
        /// in clear.
        tls: bool {
            value: ValueType::Switch,
            default: "false",
            unit: "",
            takes_effect: AtOnceUnlessEmbedded,
        }
        /// Certificates of the authorities that may have signed the broker's, PEM. Empty: those that the
        /// system believes.
        ca_file: PathBuf {
            value: ValueType::Path,
            default: "\"\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Our own certificate, PEM, for brokers that ask for one; with `client_key_file`. A renewed file is
        /// taken by a reload.
        client_cert_file: PathBuf {
            value: ValueType::Path,
            default: "\"\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// The key of our certificate, PEM without a passphrase.
        client_key_file: PathBuf {
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
        /// What whoever may write to the broker may ask for, on `bridge/request/<verb>`. An empty list:
        /// nothing.
        allow: Vec<String> {
            value: ValueType::Words(&verb::NAMES),
            default: "[\"info\", \"health\", \"snapshot\", \"feedback\"]",
            unit: "",
            takes_effect: AtOnce,
        }
    }
    besides {
        /// What Home Assistant is told.
        homeassistant: HomeAssistantSettings,
    }
}

section! {
    /// Home Assistant on the same broker: its entities appear by themselves.
    pub struct HomeAssistantSettings {
        /// Announce this machine and its cameras to Home Assistant. When it is switched off their entities
        /// vanish there.
        enabled: bool {
            value: ValueType::Switch,
            default: "true",
            unit: "",
            takes_effect: AtOnce,
        }
        /// First levels of the topics on which Home Assistant looks for devices: its own setting, called the
        /// discovery prefix there. It is not below `mqtt.base`.
        prefix: String {
            value: ValueType::Text(TextRule::TopicLevels),
            default: "\"homeassistant\"",
            unit: "",
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
