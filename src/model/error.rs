//! Why a model file is refused.

use super::MAX_BYTES;

/// Why a model file cannot be used. Printed as one line; exit code 78.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A folder, a FIFO, a device: nothing whose bytes have an end.
    #[error("{path}: {found}, must be a regular file")]
    NotRegular {
        /// The file.
        path: String,
        /// What it is instead.
        found: &'static str,
    },
    /// Larger than [`MAX_BYTES`].
    #[error("{path}: {bytes} bytes, at most {MAX_BYTES} are read")]
    TooLarge {
        /// The file.
        path: String,
        /// Its length.
        bytes: u64,
    },
    /// Not an ONNX file, or cut short.
    #[error("{path}: not an ONNX file, or cut short: {reason}")]
    NotOnnx {
        /// The file.
        path: String,
        /// The parser's reason.
        reason: String,
    },
    /// No manifest, or one that does not hold.
    #[error("{path}: {field}: {reason}")]
    Manifest {
        /// The file.
        path: String,
        /// The manifest's field.
        field: String,
        /// What was found and what is allowed.
        reason: String,
    },
    /// The settings ask for a size of the input that the model does not have.
    #[error("detector.input: \"{asked}\", must be \"auto\" or a size of {path}: {allowed}")]
    Size {
        /// The file.
        path: String,
        /// What is asked for.
        asked: String,
        /// What the model has, each in quotes.
        allowed: String,
    },
    /// The graph cannot be run.
    #[error("{path}: cannot be run: {reason}")]
    Graph {
        /// The file.
        path: String,
        /// The engine's reason, which names the node.
        reason: String,
    },
}
