//! `[samples]`: frames that are kept on this machine to learn from.

use super::keys::section;
use super::value::ValueType;

section! {
    /// Frames that are kept to learn from, in the folder `samples` of the state folder. They never leave this
    /// machine.
    pub struct SamplesSettings {
        /// Keep frames. They show what the cameras see.
        enabled: bool {
            value: ValueType::Switch,
            default: "false",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Lowest score that is looked at: something between this and the camera's threshold makes a frame
        /// worth keeping, a frame in which nothing reaches it is kept as empty.
        threshold: f32 {
            value: ValueType::Number { min: 0.05, max: 0.95 },
            default: "0.25",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Most frames kept of one camera in 24 hours.
        per_day: u32 {
            value: ValueType::Whole { min: 1, max: 10000 },
            default: "50",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Shortest time between two frames kept of one camera.
        interval_s: u32 {
            value: ValueType::Whole { min: 1, max: 86400 },
            default: "60",
            unit: "seconds",
            takes_effect: AtOnce,
        }
        /// Space on the disk for all of them. The oldest that nobody has labelled go first; labelled ones stay,
        /// and where they alone fill the space, nothing more is kept.
        max_mb: u32 {
            value: ValueType::Whole { min: 1, max: 1000000 },
            default: "200",
            unit: "megabytes",
            takes_effect: AtOnce,
        }
    }
}
