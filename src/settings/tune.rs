//! `[tune]`: how `retinad tune` learns from kept frames.

use super::keys::{section, words};
use super::value::ValueType;

section! {
    /// How the model learns from kept frames, with `retinad tune`. These hold for the next tuning.
    pub struct TuneSettings {
        /// What is minimised.
        loss: TuneLoss {
            value: ValueType::Word(TuneLoss::WORDS),
            default: "\"focal\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Weight of objects against background in losses that have one, 1 - alpha that of background. Higher
        /// finds more objects and gives more false alarms.
        alpha: f64 {
            value: ValueType::Number { min: 0.01, max: 0.99 },
            default: "0.25",
            unit: "",
            takes_effect: AtOnce,
        }
        /// How much less easy cells count, in losses that focus. 0 is cross entropy.
        gamma: f64 {
            value: ValueType::Number { min: 0.0, max: 5.0 },
            default: "2.0",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Which outputs are trained. Others keep their bytes.
        classes: TuneClasses {
            value: ValueType::Word(TuneClasses::WORDS),
            default: "\"spoken\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Boxes from which a label that the model does not know becomes a class of its own.
        least_boxes: u32 {
            value: ValueType::Whole { min: 3, max: 100000 },
            default: "10",
            unit: "",
            takes_effect: AtOnce,
        }
        /// How often each picture is learned from. More take longer and hold to these pictures more closely.
        passes: u32 {
            value: ValueType::Whole { min: 1, max: 1000 },
            default: "20",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Greatest size of a step. Higher learns faster and forgets more.
        learning_rate: f64 {
            value: ValueType::Number { min: 0.00001, max: 1.0 },
            default: "0.002",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Use a model that is judged better at once. `false` keeps it as a candidate, to be used by
        /// `retinad models --use`.
        activate: bool {
            value: ValueType::Switch,
            default: "true",
            unit: "",
            takes_effect: AtOnce,
        }
    }
}

words! {
    /// What `retinad tune` minimises.
    pub enum TuneLoss {
        /// focal loss, with alpha and gamma
        Focal = "focal",
        /// cross entropy
        CrossEntropy = "cross_entropy",
        /// cross entropy weighted by alpha
        Balanced = "balanced",
        /// the paper's FL*, gamma as slope and 1 as shift
        FocalStar = "focal_star",
        /// focal loss towards the overlap of the predicted box, with gamma
        QualityFocal = "quality_focal",
    }
}

words! {
    /// Which outputs `retinad tune` trains.
    pub enum TuneClasses {
        /// new classes; known ones with three false alarms in the samples are corrected
        Spoken = "spoken",
        /// new classes
        New = "new",
        /// all
        All = "all",
        /// none is trained: the scores of known classes are moved to say how often they were right
        Scores = "scores",
    }
}
