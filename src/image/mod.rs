//! Pictures: bytes of a frame to RGB, RGB to the network's input, boxes drawn for people.
//!
//! Knows nothing of models but the letterbox geometry it is given. Sizes are bounded by [`MAX_SIDE`] before
//! any allocation.

mod annotate;
mod bilinear;
mod decode;
mod letterbox;

pub use annotate::draw_boxes;
pub use decode::{DecodeError, decode};
pub use letterbox::{Letterbox, Placed};

/// Longest side of a picture that is decoded, pixels: a camera's 4K and 8K fit, a decompression bomb does
/// not.
pub const MAX_SIDE: u32 = 8192;

/// Shortest side of a picture that is decoded, pixels: below it there is nothing to find.
pub const MIN_SIDE: u32 = 4;
