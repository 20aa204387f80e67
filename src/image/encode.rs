//! A picture to JPEG.

use super::DecodeError;
use crate::frame::Picture;

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
