//! The model file: ONNX bytes, the manifest in `metadata_props`, and the quantisation of its outputs.
//!
//! Nothing is guessed from shapes: what the manifest says is checked against the graph by the engine. Of
//! tract this room names only the protobuf types.

mod class_layer;
mod draft;
mod error;
mod file;
mod manifest;
mod metadata;
mod outline;
mod sizes;
mod words;

pub(crate) use crate::one_line::one_line;
pub use class_layer::{ClassLayer, ClassLevel, NewClassLayer};
pub use draft::{Draft, DraftWishes};
pub use error::ModelError;
pub(crate) use file::output_quantisation;
pub use file::{MAX_BYTES, ModelFile, Quantisation};
pub use manifest::{
    Activation, Anchors, BoxCoder, BoxVoting, Class, Decode, Examined, Head, HeadPart, Input, LetterboxSpec,
    Level, Manifest, ManifestError, SelfTest, Tap,
};
pub use outline::{GraphInput, Outline};
pub use words::{
    ActivationKind, AnchorOrder, AnchorRounding, Background, BoxFormat, BoxOrder, CellOrder, Channels,
    ClassChannels, ClipOrder, Format, InputType, Layout, Placement, Resample, Rounding, SelfTestPicture,
};
