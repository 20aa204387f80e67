//! A picture to JPEG.

use super::{DecodeError, decode, turn_of_file};
use crate::frame::{Encoding, Picture, RawFrame, Turn};
use std::borrow::Cow;

/// JPEG quality, 1 to 100: what is lost below it a detector begins to notice.
const QUALITY: u8 = 90;

/// The picture as JPEG.
///
/// # Errors
/// [`DecodeError::Size`] for an empty picture; sides above [`super::MAX_SIDE`] do not come out of a decoder.
pub fn encode_jpeg(picture: &Picture) -> Result<Vec<u8>, DecodeError> {
    let Picture { width, height, rgb } = picture;
    let size = || DecodeError::Size { width: *width, height: *height };
    let side = |pixels: u32| u16::try_from(pixels).map_err(|_| size());
    let (width, height) = (side(*width)?, side(*height)?);
    let mut bytes = Vec::new();
    jpeg_encoder::Encoder::new(&mut bytes, QUALITY)
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

#[cfg(test)]
mod tests {
    use super::*;

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
