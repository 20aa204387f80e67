//! Samples: frames that a detector can learn from, kept on the device and nowhere else.
//!
//! [`Selection`] says which frames are worth keeping, [`Store`] keeps them: a JPEG and beside it a COCO file
//! that says where the picture is from, what was found in it, and what people said about it. Nothing here
//! reads a clock or uses the network.

mod exchange;
mod id;
mod record;
mod selection;
mod store;
mod verdict;

pub use exchange::{ImportedPicture, exported, imported};
pub use id::SampleId;
pub use record::{BACKGROUND, Found, Label, Model, Origin, RecordError, Sample, Verdicts, checked_label};
pub use selection::{Limits, Reason, Seen, Selection};
pub use store::{Entry, Kept, Store, StoreError};
pub use verdict::{Opinion, Rest};
