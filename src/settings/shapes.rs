//! What stands below a camera: `[cameras.<id>.rules.<label>]`, `zones`, `lines` and `masks` by name.

use super::keys::{section, words};
use super::value::ValueType;
use crate::geometry::{Line, Point, Polygon};

section! {
    /// What is asked of the objects of one label before they are told.
    pub struct RuleSettings {
        /// Score above which the label is told, in place of the camera's threshold. 0: the threshold.
        min_score: f32 {
            value: ValueType::Number { min: 0.0, max: 0.99 },
            default: "0.0",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Share of the picture that an object's box must have at least; 0.01 is a tenth of the width by a
        /// tenth of the height.
        min_size: f32 {
            value: ValueType::Number { min: 0.0, max: 1.0 },
            default: "0.0",
            unit: "",
            takes_effect: AtOnce,
        }
    }
}

section! {
    /// An area in which objects are counted. An object is in it with the middle of its box's lower edge:
    /// where it stands.
    pub struct ZoneSettings {
        /// Corners of the area in the order of a walk around it, each `[x, y]` as shares of the picture's
        /// width and height from its upper left corner: 3 to 64. They must be given.
        points: Vec<Point> {
            value: ValueType::Area,
            default: "[]",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Labels that are counted in it, of those that the camera tells. []: all.
        labels: Vec<String> {
            value: ValueType::Labels,
            default: "[]",
            unit: "",
            takes_effect: AtOnce,
        }
        /// How long something must have been in it before it counts: who passes by does not.
        loiter_s: f32 {
            value: ValueType::Number { min: 0.0, max: 3600.0 },
            default: "0.0",
            unit: "seconds",
            takes_effect: AtOnce,
        }
    }
}

section! {
    /// A line whose crossings are counted, in each direction.
    pub struct LineSettings {
        /// Its two ends, each `[x, y]` as shares of the picture's width and height from its upper left
        /// corner. They must be given. Right and left are those of somebody who looks from the first to the
        /// second.
        points: Vec<Point> {
            value: ValueType::Line,
            default: "[]",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Labels whose crossings are counted, of those that the camera tells. []: all.
        labels: Vec<String> {
            value: ValueType::Labels,
            default: "[]",
            unit: "",
            takes_effect: AtOnce,
        }
    }
}

section! {
    /// An area that is left out.
    pub struct MaskSettings {
        /// What is left out there.
        hides: Hidden {
            value: ValueType::Word(Hidden::WORDS),
            default: "\"objects\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Corners of the area in the order of a walk around it, each `[x, y]` as shares of the picture's
        /// width and height from its upper left corner: 3 to 64. They must be given.
        points: Vec<Point> {
            value: ValueType::Area,
            default: "[]",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Share of an object's box that must lie in the area for the object to be left out.
        min_overlap: f32 {
            value: ValueType::Number { min: 0.0, max: 1.0 },
            default: "0.5",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Labels that are left out. []: all.
        labels: Vec<String> {
            value: ValueType::Labels,
            default: "[]",
            unit: "",
            takes_effect: AtOnce,
        }
    }
}

words! {
    /// What a mask hides.
    pub enum Hidden {
        /// objects that lie in it are neither told nor counted, as if they were not there
        Objects = "objects",
        /// the same, and the area is black in every picture that is kept or leaves the machine
        Picture = "picture",
    }
}

impl ZoneSettings {
    /// The area; none where these settings were not loaded but made up.
    #[must_use]
    pub fn polygon(&self) -> Option<Polygon> {
        Polygon::new(&self.points).ok()
    }
}

impl LineSettings {
    /// The line; none where these settings were not loaded but made up.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        Line::new(&self.points).ok()
    }
}

impl MaskSettings {
    /// The area; none where these settings were not loaded but made up.
    #[must_use]
    pub fn polygon(&self) -> Option<Polygon> {
        Polygon::new(&self.points).ok()
    }
}
