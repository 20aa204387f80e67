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

/// How a picture is turned after decoding: rows and columns exchanged, then mirrored. These eight are all the
/// ways in which a picture can lie, by a camera's mount or by EXIF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Its rows become columns.
    pub transposed: bool,
    /// Then left and right are exchanged.
    pub mirrored_x: bool,
    /// Then top and bottom are exchanged.
    pub mirrored_y: bool,
}

impl Turn {
    /// As it lies.
    pub const NONE: Self = Self { transposed: false, mirrored_x: false, mirrored_y: false };

    /// A quarter clockwise, so many times.
    #[must_use]
    pub fn quarters(count: u32) -> Self {
        let quarter = Self { transposed: true, mirrored_x: true, mirrored_y: false };
        (0..count % 4).fold(Self::NONE, |turn, _| turn.then(quarter))
    }

    /// This turn, and `next` after it.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let (mut x, mut y) = (self.mirrored_x, self.mirrored_y);
        if next.transposed {
            (x, y) = (y, x);
        }
        Self {
            transposed: self.transposed != next.transposed,
            mirrored_x: x != next.mirrored_x,
            mirrored_y: y != next.mirrored_y,
        }
    }
}

/// One frame as its camera gave it, compressed as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// Pixels across; 0 where only decoding tells (JPEG, PNG, WebP).
    pub width: u32,
    /// Pixels down; 0 where only decoding tells.
    pub height: u32,
    /// Layout of `data`.
    pub encoding: Encoding,
    /// What stands it upright, after decoding.
    pub turn: Turn,
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

#[cfg(test)]
mod tests {
    use super::Turn;

    /// The pixels of a picture of 2 x 3, turned.
    fn turned(turn: Turn, pixels: [[u8; 2]; 3]) -> Vec<Vec<u8>> {
        let mut rows: Vec<Vec<u8>> = pixels.iter().map(|row| row.to_vec()).collect();
        again(turn, &mut rows);
        rows
    }

    fn again(turn: Turn, rows: &mut Vec<Vec<u8>>) {
        if turn.transposed {
            *rows = (0..rows[0].len()).map(|x| rows.iter().map(|row| row[x]).collect()).collect();
        }
        if turn.mirrored_x {
            rows.iter_mut().for_each(|row| row.reverse());
        }
        if turn.mirrored_y {
            rows.reverse();
        }
    }

    #[test]
    fn two_turns_one_after_the_other_are_one_turn() {
        const PIXELS: [[u8; 2]; 3] = [[1, 2], [3, 4], [5, 6]];
        let all: Vec<Turn> = (0..8)
            .map(|bits| Turn { transposed: bits & 1 > 0, mirrored_x: bits & 2 > 0, mirrored_y: bits & 4 > 0 })
            .collect();
        for first in &all {
            for second in &all {
                let mut rows = turned(*first, PIXELS);
                again(*second, &mut rows);
                assert_eq!(rows, turned(first.then(*second), PIXELS), "{first:?}, then {second:?}");
            }
        }
        assert_eq!(turned(Turn::quarters(1), PIXELS), [[5, 3, 1], [6, 4, 2]], "clockwise");
        assert_eq!(Turn::quarters(4), Turn::NONE);
        assert_eq!(turned(Turn::quarters(3), PIXELS), [[2, 4, 6], [1, 3, 5]]);
    }
}
