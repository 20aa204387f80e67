//! Bytes of a frame to a [`Picture`]: the door to every decoder, and the guard at it.

use super::memory::{PICTURE_BYTES, Plan, check_size, make_room};
use super::{MAX_SIDE, MIN_SIDE, files, jpeg, turn};
use crate::caught::caught;
use crate::frame::{Encoding, Picture, RawFrame};
use yuv::{YuvBiPlanarImage, YuvConversionMode, YuvPackedImage, YuvPlanarImage, YuvRange, YuvStandardMatrix};

/// Why a frame is damaged. One line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The decoder's own word.
    #[error("not a usable {kind}: {reason}")]
    Content {
        /// `JPEG`, `PNG or WebP`, ...
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// No end-of-image marker: the rest of the picture would be grey.
    #[error("truncated JPEG: no end-of-image marker in {bytes} bytes")]
    Truncated {
        /// Length of the frame.
        bytes: usize,
    },
    /// More memory than one picture may take.
    #[error(
        "{width}x{height} pixels as {kind} take {needed_mb} MB to decode; {allowed_mb} MB are allowed \
         (detector.picture_memory)"
    )]
    Memory {
        /// `JPEG`, `PNG`, ...
        kind: &'static str,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// What it would take, the picture included, megabytes.
        needed_mb: u64,
        /// What is allowed, megabytes.
        allowed_mb: u64,
    },
    /// Too large or empty.
    #[error("{width}x{height} pixels: each side must be {MIN_SIDE} to {MAX_SIDE}")]
    Size {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// A raw frame's length does not fit its size.
    #[error("{found} bytes, but {encoding:?} at {width}x{height} needs {needed}")]
    Length {
        /// Layout.
        encoding: Encoding,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        needed: usize,
    },
}

/// Decodes `raw` into `picture`, whose memory is reused, within [`PICTURE_BYTES`].
///
/// # Errors
/// As [`decode_within`].
pub fn decode(raw: &RawFrame, picture: &mut Picture) -> Result<(), DecodeError> {
    decode_within(raw, picture, PICTURE_BYTES)
}

/// Decodes `raw` into `picture`, whose memory is reused, and stands it upright. All that this allocates, and
/// what `picture` keeps, is at most `limit` bytes.
///
/// # Errors
/// [`DecodeError`], also where a library panics. `picture` is then empty: nobody takes a part of this frame, or
/// what was left of an older one, for a picture.
pub fn decode_within(raw: &RawFrame, picture: &mut Picture, limit: usize) -> Result<(), DecodeError> {
    guarded(picture, |picture| {
        match raw.encoding {
            Encoding::Jpeg => jpeg::decode(raw, picture, limit)?,
            Encoding::PngOrWebp => files::decode(raw, picture, limit)?,
            _ => decode_raw(raw, picture, limit)?,
        }
        turn::turn(picture, raw.turn);
        Ok(())
    })
}

/// Lets `work` fill `picture`; empties it where that fails or panics.
fn guarded(
    picture: &mut Picture,
    work: impl FnOnce(&mut Picture) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let decoded = caught(|| work(picture)).unwrap_or_else(|reason| {
        Err(DecodeError::Content { kind: "picture", reason: format!("the decoder panicked: {reason}") })
    });
    if decoded.is_err() {
        (picture.width, picture.height) = (0, 0);
        picture.rgb.clear();
    }
    decoded
}

fn decode_raw(raw: &RawFrame, picture: &mut Picture, limit: usize) -> Result<(), DecodeError> {
    let (width, height) = (raw.width, raw.height);
    check_size(width, height)?;
    let (w, h) = (width as usize, height as usize);
    let (half_w, half_h) = (w.div_ceil(2), h.div_ceil(2));
    let needed = match raw.encoding {
        Encoding::Rgb => 3 * w * h,
        Encoding::Grey => w * h,
        Encoding::Yuyv => 4 * half_w * h,
        _ => w * h + 2 * half_w * half_h,
    };
    if raw.data.len() < needed {
        return Err(DecodeError::Length {
            encoding: raw.encoding,
            width,
            height,
            found: raw.data.len(),
            needed,
        });
    }
    let data = &raw.data[..needed];
    let stride = 3 * width;
    let plan = Plan { kind: "raw frame", width, height, working: raw.data.len() as u64, turn: raw.turn };
    make_room(picture, &plan, limit)?;
    let out = &mut picture.rgb[..];
    // Webcams and `rpicam-vid` give limited range, BT.601.
    let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt601);
    let (chroma_w, luma) = (half_w as u32, &data[..(w * h).min(data.len())]);
    let done = match raw.encoding {
        Encoding::Rgb => {
            out.copy_from_slice(data);
            Ok(())
        }
        Encoding::Grey => {
            for (pixel, &grey) in out.chunks_exact_mut(3).zip(data) {
                pixel.fill(grey);
            }
            Ok(())
        }
        Encoding::Yuyv => {
            let packed = YuvPackedImage { yuy: data, yuy_stride: 4 * chroma_w, width, height };
            yuv::yuyv422_to_rgb(&packed, out, stride, range, matrix)
        }
        Encoding::Nv12 => {
            let planes = YuvBiPlanarImage {
                y_plane: luma,
                y_stride: width,
                uv_plane: &data[w * h..],
                uv_stride: 2 * chroma_w,
                width,
                height,
            };
            yuv::yuv_nv12_to_rgb(&planes, out, stride, range, matrix, YuvConversionMode::Balanced)
        }
        _ => {
            let (u, v) = data[w * h..].split_at(half_w * half_h);
            let planes = YuvPlanarImage {
                y_plane: luma,
                y_stride: width,
                u_plane: u,
                u_stride: chroma_w,
                v_plane: v,
                v_stride: chroma_w,
                width,
                height,
            };
            yuv::yuv420_to_rgb(&planes, out, stride, range, matrix)
        }
    };
    done.map_err(|e| DecodeError::Content { kind: "raw frame", reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Turn;

    fn jpeg(width: u16, height: u16) -> Vec<u8> {
        let rgb: Vec<u8> =
            (0..usize::from(width) * usize::from(height)).flat_map(|i| [(i % 251) as u8, 90, 30]).collect();
        let mut bytes = Vec::new();
        jpeg_encoder::Encoder::new(&mut bytes, 90)
            .encode(&rgb, width, height, jpeg_encoder::ColorType::Rgb)
            .expect("encodes");
        bytes
    }

    fn raw(encoding: Encoding, width: u32, height: u32, data: Vec<u8>) -> RawFrame {
        RawFrame { width, height, encoding, turn: Turn::NONE, data }
    }

    #[test]
    fn jpeg_without_huffman_tables_decodes_to_the_same_picture() {
        let whole = jpeg(64, 48);
        let mut bare = whole[..2].to_vec();
        let mut at = 2;
        while whole[at + 1] != 0xda {
            let length = 2 + usize::from(u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
            if whole[at + 1] != 0xc4 {
                bare.extend_from_slice(&whole[at..at + length]);
            }
            at += length;
        }
        bare.extend_from_slice(&whole[at..]);
        assert!(!bare.windows(2).any(|pair| pair == [0xff, 0xc4]));
        let (mut a, mut b) = (Picture::default(), Picture::default());
        decode(&raw(Encoding::Jpeg, 0, 0, whole), &mut a).expect("whole");
        decode(&raw(Encoding::Jpeg, 0, 0, bare), &mut b).expect("bare");
        assert_eq!(a, b);
    }

    #[test]
    fn truncated_jpeg_is_damaged_and_trailing_bytes_are_not() {
        let mut bytes = jpeg(64, 48);
        bytes.extend_from_slice(&[0; 100]);
        decode(&raw(Encoding::Jpeg, 0, 0, bytes.clone()), &mut Picture::default())
            .expect("trailing bytes are harmless");
        bytes.truncate(bytes.len() * 6 / 10 - 100);
        let error = decode(&raw(Encoding::Jpeg, 0, 0, bytes), &mut Picture::default()).expect_err("cut");
        assert!(matches!(error, DecodeError::Truncated { .. }), "{error}");
    }

    #[test]
    fn text_is_no_jpeg_and_huge_png_is_refused_before_decoding() {
        assert!(decode(&raw(Encoding::Jpeg, 0, 0, b"hello".to_vec()), &mut Picture::default()).is_err());
        let error = decode(&raw(Encoding::Rgb, 20_000, 20_000, Vec::new()), &mut Picture::default())
            .expect_err("size");
        assert!(error.to_string().contains("20000x20000"), "{error}");
    }

    #[test]
    fn a_decoder_that_panics_found_damage_and_leaves_no_picture() {
        let mut picture = Picture { width: 1, height: 1, rgb: vec![7; 3] };
        let error = guarded(&mut picture, |picture| {
            picture.rgb[0] = 8;
            panic!("index out of\nbounds")
        });
        let words = "not a usable picture: the decoder panicked: index out of bounds";
        assert_eq!(error.expect_err("damaged").to_string(), words);
        assert_eq!(picture, Picture::default());
    }

    #[test]
    fn yuv_grey_is_grey_in_every_layout() {
        for (encoding, data) in [
            (Encoding::Yuyv, vec![128; 4 * 4 * 2]),
            (Encoding::Nv12, vec![128; 24]),
            (Encoding::I420, vec![128; 24]),
            (Encoding::Grey, vec![128; 16]),
        ] {
            let mut picture = Picture::default();
            decode(&raw(encoding, 4, 4, data), &mut picture).expect("decodes");
            assert_eq!(picture.rgb.len(), 48);
            assert!(
                picture.rgb.iter().all(|&v| (126..=132).contains(&v)),
                "{encoding:?} {:?}",
                &picture.rgb[..3]
            );
        }
        let error =
            decode(&raw(Encoding::I420, 4, 4, vec![0; 23]), &mut Picture::default()).expect_err("short");
        assert!(matches!(error, DecodeError::Length { needed: 24, .. }));
    }
}
