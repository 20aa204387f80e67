//! Tuning: the last class layer of a model in use learns from pictures of its own site.
//!
//! Body, pyramid and towers stay as they are, in INT8; a copy of the model in memory is tapped where the last
//! class layer reads ([`features`]), and that layer is trained in f32 ([`Trainer`]), old classes being held by
//! a reference set of single cells ([`mod@reference`]). The result is quantised into a copy of the model
//! ([`export`]). What a program may put in place of the product's own is in [`hooks`]; how to use all this, in
//! `docs/learning.md`.

mod assignment;
mod chance;
mod checkpoint;
mod correction;
mod dense;
mod error;
mod export;
pub mod features;
mod forward;
mod head;
pub mod hooks;
mod job;
mod judging;
mod kept;
mod labels;
pub mod reference;
pub mod report;
mod set;
mod settings;
mod shuffle;
mod standard;
pub mod study;
mod temperature;
mod trainer;

pub use error::TuningError;
pub use export::{Origin, export, real_logits, with_measures};
pub use features::FeatureExtractor;
pub use forward::Forward;
pub use head::{Head, PRIOR};
pub use job::{Job, LEAST_HELD_OUT, MOST_PICTURES, Stage, Tuned, Which};
pub use judging::{ClassChange, Compared, Judged, Pair, compare};
pub use kept::{KeptSamples, KeptSource, Spoken};
pub use labels::CocoFolder;
pub use set::TrainingSet;
pub use settings::Settings;
pub use trainer::{Next, Trainer};
