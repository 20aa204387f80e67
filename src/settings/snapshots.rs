//! `[snapshots]`: pictures that leave this machine.

use super::keys::section;
use super::value::ValueType;

section! {
    /// Pictures that are published: an object cut out when it appears and when it is seen better, and the whole
    /// frame on request. Areas that a mask hides (`hides = "picture"`) are black in each.
    pub struct SnapshotsSettings {
        /// Whether pictures may leave this machine at all. They can be switched off over MQTT, and on again only
        /// within this.
        enabled: bool {
            value: ValueType::Switch,
            default: "false",
            unit: "",
            takes_effect: AtOnce,
        }
        /// JPEG quality; lower where a picture would be too large for its topic.
        quality: u32 {
            value: ValueType::Whole { min: 1, max: 100 },
            default: "80",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Longest side of a published picture; larger ones are made smaller.
        max_side: u32 {
            value: ValueType::Whole { min: 64, max: 4096 },
            default: "1280",
            unit: "pixels",
            takes_effect: AtOnce,
        }
    }
}
