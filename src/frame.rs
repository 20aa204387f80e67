//! What a camera gave, before and after decoding.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// How the bytes of a frame are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// A JPEG file, possibly without Huffman tables and with bytes after its end.
    Jpeg,
    /// Packed `R G B`, three bytes a pixel.
    Rgb,
    /// One byte a pixel.
    Grey,
    /// Packed 4:2:2, `Y0 U Y1 V`.
    Yuyv,
    /// Planar Y, then interleaved `U V` at half size.
    Nv12,
    /// Planar Y, U, V with the last two at half size.
    I420,
    /// A PNG or WebP file (replay only).
    PngOrWebp,
}

/// One frame as its camera gave it, compressed as it came.
#[derive(Debug, Clone)]
pub struct RawFrame {
    /// Pixels across; 0 where only decoding tells (JPEG, PNG, WebP).
    pub width: u32,
    /// Pixels down; 0 where only decoding tells.
    pub height: u32,
    /// Layout of `data`.
    pub encoding: Encoding,
    /// The bytes.
    pub data: Vec<u8>,
}

/// A frame with its place in the stream.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Index of the camera in the settings' order.
    pub camera: usize,
    /// Counts the camera's frames from 0, superseded ones included.
    pub seq: u64,
    /// Monotonic time of capture.
    pub captured: Instant,
    /// Wall time of capture.
    pub captured_wall: SystemTime,
    /// Frames of this camera superseded since the last one that was taken.
    pub superseded_before: u64,
    /// What the camera gave; shared with the outcome, so that a snapshot or a sample need not copy it.
    pub raw: Arc<RawFrame>,
}

/// Frames that a camera gave, counted from its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Frames.
    pub given: u64,
    /// Of these, left out to keep to `max_fps`.
    pub paced: u64,
}

/// A decoded picture: packed RGB, `3 * width * height` bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// `R G B` rows from the top, without padding.
    pub rgb: Vec<u8>,
}
