//! Pictures: bytes of a frame to RGB, RGB to the network's input, boxes drawn for people.
//!
//! Knows nothing of models but the letterbox geometry it is given. Sizes are bounded by [`MAX_SIDE`], and memory
//! by what each decoder is known to take, before any allocation. What a library panics on is damaged.

mod annotate;
mod bilinear;
mod decode;
mod encode;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod jpeg;
mod jpeg_headers;
pub mod jpeg_segments;
mod jpeg_tables;
mod letterbox;
mod mask;
mod memory;
mod orientation;
mod shrink;
mod snapshot;
mod turn;

pub use annotate::{Mark, Outline, draw_boxes, draw_outlines};
pub use decode::{DecodeError, decode, decode_within};
pub use encode::{encode_jpeg, masked_jpeg, upright_jpeg};
pub use letterbox::{Fit, Letterbox, Placed};
pub use mask::black_out;
pub use memory::PICTURE_BYTES;
pub use orientation::turn_of_file;
pub use shrink::shrunk;
pub use snapshot::{SnapshotLimits, SnapshotOf, snapshot_jpeg};

/// Longest side of a picture that is decoded, pixels: a camera's 4K and 8K fit, a decompression bomb does
/// not.
pub const MAX_SIDE: u32 = 8192;

/// Shortest side of a picture that is decoded, pixels: below it there is nothing to find.
pub const MIN_SIDE: u32 = 4;
