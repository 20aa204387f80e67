//! A picture to JPEG.

use super::{DecodeError, black_out, decode, turn_of_file};
use crate::frame::{Encoding, Picture, RawFrame, Turn};
use crate::geometry::Polygon;
use std::borrow::Cow;

/// JPEG quality, 1 to 100: what is lost below it a detector begins to notice.
const QUALITY: u8 = 90;

/// The picture as JPEG.
///
/// # Errors
/// [`DecodeError::Size`] for an empty picture; sides above [`super::MAX_SIDE`] do not come out of a decoder.
pub fn encode_jpeg(picture: &Picture) -> Result<Vec<u8>, DecodeError> {
    encode_jpeg_as(picture, QUALITY)
}

/// The picture as JPEG of this quality, 1 to 100.
pub(super) fn encode_jpeg_as(picture: &Picture, quality: u8) -> Result<Vec<u8>, DecodeError> {
    let Picture { width, height, rgb } = picture;
    let size = || DecodeError::Size { width: *width, height: *height };
    let side = |pixels: u32| u16::try_from(pixels).map_err(|_| size());
    let (width, height) = (side(*width)?, side(*height)?);
    let mut bytes = Vec::new();
    jpeg_encoder::Encoder::new(&mut bytes, quality)
        .encode(rgb, width, height, jpeg_encoder::ColorType::Rgb)
        .map_err(|_| size())?;
    Ok(bytes)
}

/// The frame as an upright JPEG: as it came where it is one that no reader would turn.
///
/// # Errors
/// [`DecodeError`].
pub fn upright_jpeg(raw: &RawFrame) -> Result<Cow<'_, [u8]>, DecodeError> {
    if raw.encoding == Encoding::Jpeg && raw.turn == Turn::NONE && turn_of_file(&raw.data) == Turn::NONE {
        return Ok(Cow::Borrowed(&raw.data));
    }
    let mut picture = Picture::default();
    decode(raw, &mut picture)?;
    encode_jpeg(&picture).map(Cow::Owned)
}

/// The frame as an upright JPEG in which these areas are black. Without any it is as [`upright_jpeg`] gives it;
/// with one it is encoded anew, so that nothing of what the camera gave is left in the file.
///
/// # Errors
/// [`DecodeError`].
pub fn masked_jpeg<'a>(raw: &'a RawFrame, areas: &[Polygon]) -> Result<Cow<'a, [u8]>, DecodeError> {
    if areas.is_empty() {
        return upright_jpeg(raw);
    }
    let mut picture = Picture::default();
    decode(raw, &mut picture)?;
    areas.iter().for_each(|area| black_out(&mut picture, area));
    encode_jpeg(&picture).map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_jpeg_is_black_there_and_holds_nothing_of_the_file_that_came() {
        let data = include_bytes!("../../examples/pictures/coffee.jpg").to_vec();
        // A camera may leave a preview or a name behind the picture's end.
        let data = [&data[..], b"left behind"].concat();
        let raw = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::quarters(1), data };
        let left = Polygon::new(&[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]).expect("an area");
        let masked = masked_jpeg(&raw, &[left]).expect("a JPEG");
        assert!(memchr::memmem::find(&masked, b"left behind").is_none());
        let frame = RawFrame { turn: Turn::NONE, data: masked.into_owned(), ..raw.clone() };
        let (mut picture, mut whole) = (Picture::default(), Picture::default());
        decode(&frame, &mut picture).expect("a JPEG");
        decode(&raw, &mut whole).expect("a JPEG");
        assert_eq!(
            (picture.width, picture.height),
            (whole.width, whole.height),
            "turned before it is masked"
        );
        let row = 3 * picture.width as usize;
        for (masked, plain) in picture.rgb.chunks_exact(row).zip(whole.rgb.chunks_exact(row)) {
            // JPEG rings for a block of pixels around an edge.
            let half = row / 2;
            assert!(masked[..half - 3 * 16].iter().all(|&code| code < 8), "black");
            let change = masked[half + 3 * 16..].iter().zip(&plain[half + 3 * 16..]);
            let change: u64 = change.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            assert!(change < 6 * half as u64, "the other half stays");
        }
        assert_eq!(masked_jpeg(&raw, &[]).expect("a JPEG"), upright_jpeg(&raw).expect("a JPEG"));
    }

    #[test]
    fn a_jpeg_is_kept_as_it_came_and_everything_else_upright() {
        let jpeg = include_bytes!("../../examples/pictures/coffee.jpg").to_vec();
        let raw = |encoding, turn, data| RawFrame { width: 0, height: 0, encoding, turn, data };
        let plain = raw(Encoding::Jpeg, Turn::NONE, jpeg.clone());
        assert_eq!(upright_jpeg(&plain).expect("a JPEG"), jpeg.as_slice());
        let size = |jpeg: &[u8]| {
            let mut picture = Picture::default();
            let frame = raw(Encoding::Jpeg, Turn::NONE, jpeg.to_vec());
            decode(&frame, &mut picture).expect("a JPEG");
            (picture.width, picture.height)
        };
        let (width, height) = size(&jpeg);
        let hung_sideways = raw(Encoding::Jpeg, Turn::quarters(1), jpeg);
        assert_eq!(size(&upright_jpeg(&hung_sideways).expect("a JPEG")), (height, width));
        let grey =
            RawFrame { width: 40, height: 30, ..raw(Encoding::Grey, Turn::quarters(1), vec![128; 40 * 30]) };
        assert_eq!(size(&upright_jpeg(&grey).expect("a JPEG")), (30, 40));
    }
}
