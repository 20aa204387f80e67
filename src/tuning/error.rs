//! Why tuning does not go on.

use crate::detector::DetectError;
use crate::model::ModelError;
use crate::retinanet::loss::LossError;

/// Why tuning does not go on. Printed as one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuningError {
    /// The model cannot be tuned, or what was tuned cannot be written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The loss is not defined.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// A picture gives no features.
    #[error("{picture}: {source}")]
    Picture {
        /// Its name.
        picture: String,
        /// Why.
        source: DetectError,
    },
    /// A label cannot be learned from.
    #[error("{picture}: box {entry}: {reason}")]
    Label {
        /// Name of the picture.
        picture: String,
        /// Number of the box within it, from 0.
        entry: usize,
        /// What was found and what is allowed.
        reason: String,
    },
    /// A file of labels does not hold.
    #[error("{path}: {reason}")]
    Labels {
        /// The file.
        path: String,
        /// The entry, what was found and what is allowed.
        reason: String,
    },
    /// A COCO file does not hold.
    #[error(transparent)]
    Coco(#[from] crate::coco::CocoError),
    /// A setting is out of its range.
    #[error("{key}: {reason}")]
    Setting {
        /// Name of the field.
        key: &'static str,
        /// What was found and what is allowed.
        reason: String,
    },
    /// There is nothing to learn from.
    #[error("{0}")]
    Nothing(String),
    /// A number of the training left the finite ones.
    #[error("training diverged: {what} is not finite after update {update}; lower the learning rate")]
    Diverged {
        /// Which number.
        what: &'static str,
        /// Updates before.
        update: u64,
    },
    /// A reference set that cannot be used.
    #[error("{path}: not a usable reference set: {reason}")]
    Reference {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A checkpoint that cannot be gone on from.
    #[error("{path}: not a usable checkpoint: {reason}")]
    Checkpoint {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Whoever observes wanted an end.
    #[error("{0}")]
    Stopped(String),
}
