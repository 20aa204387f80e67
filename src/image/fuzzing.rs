//! Pictures, as the fuzzer gives them.

use super::{DecodeError, decode_within};
use crate::frame::{Encoding, Picture, RawFrame, Turn};

/// Most bytes that decoding may allocate here.
pub const PICTURE_LIMIT: usize = 24 << 20;

/// A frame: encoding, turn, width, height (for raw ones), then its bytes.
pub fn picture(bytes: &[u8]) {
    let Some((&[encoding, turn, width_high, width, height_high, height], data)) = bytes.split_first_chunk()
    else {
        return;
    };
    let encodings = [
        Encoding::Jpeg,
        Encoding::PngOrWebp,
        Encoding::Rgb,
        Encoding::Grey,
        Encoding::Yuyv,
        Encoding::Nv12,
        Encoding::I420,
    ];
    let raw = RawFrame {
        width: u16::from_be_bytes([width_high, width]).into(),
        height: u16::from_be_bytes([height_high, height]).into(),
        encoding: encodings[usize::from(encoding) % encodings.len()],
        turn: Turn::quarters(u32::from(turn % 4)),
        data: data.to_vec(),
    };
    let fresh = decoded(&raw, Picture::default());
    // What an older frame left behind must not show through.
    let older = Picture { width: 100, height: 50, rgb: vec![0xaa; 100 * 50 * 3] };
    assert_eq!(decoded(&raw, older), fresh);
}

/// Size and checksum of the picture, or why there is none.
fn decoded(raw: &RawFrame, mut picture: Picture) -> Result<(u32, u32, u64), String> {
    let result = decode_within(raw, &mut picture, PICTURE_LIMIT);
    let Picture { width, height, rgb } = &picture;
    assert!(rgb.capacity() <= PICTURE_LIMIT, "{} bytes kept", rgb.capacity());
    match result {
        Ok(()) => {
            assert_eq!(rgb.len(), 3 * *width as usize * *height as usize);
            let checksum = rgb.iter().fold(7u64, |sum, &byte| sum.rotate_left(5) ^ u64::from(byte));
            Ok((*width, *height, checksum))
        }
        Err(error) => {
            assert_eq!(picture, Picture::default());
            let words = error.to_string();
            assert!(words.lines().count() == 1 && words.len() < 1000, "{words:?}");
            if let DecodeError::Memory { needed_mb, allowed_mb, .. } = error {
                assert!(needed_mb > allowed_mb, "{words}");
            }
            Err(words)
        }
    }
}
