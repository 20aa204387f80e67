//! How a picture file lies, by its EXIF block. Cameras write it instead of turning their pixels.

use super::files::{PNG_START, RiffChunks};
use super::jpeg_segments::{Part, SCAN, START, Walk};
use crate::frame::Turn;
use image::metadata::Orientation;

/// The JPEG segment that holds EXIF, among others.
const APPLICATION_1: u8 = 0xe1;
/// What stands before EXIF in that segment, and by mistake in some WebP files.
const EXIF: &[u8] = b"Exif\0\0";

/// What stands the picture in `file` (JPEG, PNG or WebP) upright. [`Turn::NONE`] where it does not say, or says
/// what nobody understands.
#[must_use]
pub fn turn_of_file(file: &[u8]) -> Turn {
    let exif = if file.starts_with(&START) {
        in_jpeg(file)
    } else if file.starts_with(PNG_START) {
        in_png(file)
    } else {
        RiffChunks::of(file).find(|(name, _)| *name == b"EXIF").map(|(_, content)| content)
    };
    let exif = exif.map(|exif| exif.strip_prefix(EXIF).unwrap_or(exif));
    exif.and_then(Orientation::from_exif_chunk).map_or(Turn::NONE, turn)
}

fn turn(orientation: Orientation) -> Turn {
    let turn = |transposed, mirrored_x, mirrored_y| Turn { transposed, mirrored_x, mirrored_y };
    match orientation {
        Orientation::NoTransforms => Turn::NONE,
        Orientation::FlipHorizontal => turn(false, true, false),
        Orientation::Rotate180 => turn(false, true, true),
        Orientation::FlipVertical => turn(false, false, true),
        Orientation::Rotate90FlipH => turn(true, false, false),
        Orientation::Rotate90 => turn(true, true, false),
        Orientation::Rotate270FlipH => turn(true, true, true),
        Orientation::Rotate270 => turn(true, false, true),
    }
}

fn in_jpeg(file: &[u8]) -> Option<&[u8]> {
    let mut walk = Walk::default();
    loop {
        match walk.next(file).ok()?? {
            Part::Segment { marker: APPLICATION_1, from, to } if file[from + 4..to].starts_with(EXIF) => {
                return Some(&file[from + 4..to]);
            }
            Part::Segment { marker: SCAN, .. } | Part::End { .. } => return None,
            Part::Segment { .. } | Part::Data { .. } => {}
        }
    }
}

fn in_png(file: &[u8]) -> Option<&[u8]> {
    let mut rest = file.get(PNG_START.len()..)?;
    loop {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (name, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let content = after.get(..length)?;
        if name == b"eXIf" {
            return Some(content);
        }
        // A checksum follows.
        rest = after.get(length + 4..)?;
    }
}
