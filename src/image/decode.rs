//! Bytes of a frame to a [`Picture`].

use super::{MAX_SIDE, MIN_SIDE};
use crate::frame::{Encoding, Picture, RawFrame};
use yuv::{YuvBiPlanarImage, YuvConversionMode, YuvPackedImage, YuvPlanarImage, YuvRange, YuvStandardMatrix};
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

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

/// Decodes `raw` into `picture`, whose memory is reused.
///
/// # Errors
/// [`DecodeError`]; `picture` is then unspecified but valid.
pub fn decode(raw: &RawFrame, picture: &mut Picture) -> Result<(), DecodeError> {
    match raw.encoding {
        Encoding::Jpeg => decode_jpeg(&raw.data, picture),
        Encoding::PngOrWebp => decode_file(&raw.data, picture),
        _ => decode_raw(raw, picture),
    }
}

fn size(width: usize, height: usize) -> Result<(u32, u32), DecodeError> {
    let (w, h) = (u32::try_from(width).unwrap_or(u32::MAX), u32::try_from(height).unwrap_or(u32::MAX));
    if w.min(h) < MIN_SIDE || w.max(h) > MAX_SIDE {
        return Err(DecodeError::Size { width: w, height: h });
    }
    Ok((w, h))
}

fn decode_jpeg(data: &[u8], picture: &mut Picture) -> Result<(), DecodeError> {
    let bad = |reason: String| DecodeError::Content { kind: "JPEG", reason };
    if !data.starts_with(&[0xff, 0xd8]) {
        return Err(bad("no start-of-image marker".into()));
    }
    // The decoder fills what a cut frame lacks with grey and says nothing, so the end is looked for here.
    if !data.windows(2).rev().any(|pair| pair == [0xff, 0xd9]) {
        return Err(DecodeError::Truncated { bytes: data.len() });
    }
    // The decoder's own limit lies above ours, so that ours speaks.
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(65_535)
        .set_max_height(65_535);
    let with_tables;
    let data = if lacks_huffman_tables(data) {
        with_tables = insert_huffman_tables(data);
        &with_tables[..]
    } else {
        data
    };
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(data), options);
    decoder.decode_headers().map_err(|e| bad(format!("{e:?}")))?;
    let info = decoder.info().ok_or_else(|| bad("no header".into()))?;
    let (width, height) = size(usize::from(info.width), usize::from(info.height))?;
    picture.rgb.resize(3 * width as usize * height as usize, 0);
    (picture.width, picture.height) = (width, height);
    decoder.decode_into(&mut picture.rgb).map_err(|e| bad(format!("{e:?}")))
}

/// Whether no DHT marker stands before the first scan: usual for MJPEG webcams, which leave the standard
/// tables out.
fn lacks_huffman_tables(data: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = data.get(at..at + 4) {
        match marker {
            0xc4 => return false,
            0xda => return true,
            0xff => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    false
}

/// The standard tables of ITU-T T.81 annex K.3, as one DHT segment put after the start-of-image marker.
fn insert_huffman_tables(data: &[u8]) -> Vec<u8> {
    let mut segment = vec![0xff, 0xc4, 0, 0];
    for (class_and_id, lengths, symbols) in STANDARD_TABLES {
        segment.push(class_and_id);
        segment.extend_from_slice(&lengths);
        segment.extend_from_slice(symbols);
    }
    let length = u16::try_from(segment.len() - 2).unwrap_or(u16::MAX).to_be_bytes();
    segment[2..4].copy_from_slice(&length);
    [&data[..2], &segment, &data[2..]].concat()
}

const DC_SYMBOLS: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
/// ITU-T T.81 tables K.3 to K.6: class and id, codes per length 1 to 16, symbols.
const STANDARD_TABLES: [(u8, [u8; 16], &[u8]); 4] = [
    (0x00, [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &DC_SYMBOLS),
    (0x01, [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &DC_SYMBOLS),
    (0x10, [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d], &AC_LUMINANCE),
    (0x11, [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], &AC_CHROMINANCE),
];
#[rustfmt::skip]
const AC_LUMINANCE: [u8; 162] = [
    0x01,0x02,0x03,0x00,0x04,0x11,0x05,0x12,0x21,0x31,0x41,0x06,0x13,0x51,0x61,0x07,0x22,0x71,0x14,0x32,0x81,0x91,0xa1,0x08,0x23,0x42,0xb1,0xc1,0x15,0x52,0xd1,0xf0,
    0x24,0x33,0x62,0x72,0x82,0x09,0x0a,0x16,0x17,0x18,0x19,0x1a,0x25,0x26,0x27,0x28,0x29,0x2a,0x34,0x35,0x36,0x37,0x38,0x39,0x3a,0x43,0x44,0x45,0x46,0x47,0x48,0x49,
    0x4a,0x53,0x54,0x55,0x56,0x57,0x58,0x59,0x5a,0x63,0x64,0x65,0x66,0x67,0x68,0x69,0x6a,0x73,0x74,0x75,0x76,0x77,0x78,0x79,0x7a,0x83,0x84,0x85,0x86,0x87,0x88,0x89,
    0x8a,0x92,0x93,0x94,0x95,0x96,0x97,0x98,0x99,0x9a,0xa2,0xa3,0xa4,0xa5,0xa6,0xa7,0xa8,0xa9,0xaa,0xb2,0xb3,0xb4,0xb5,0xb6,0xb7,0xb8,0xb9,0xba,0xc2,0xc3,0xc4,0xc5,
    0xc6,0xc7,0xc8,0xc9,0xca,0xd2,0xd3,0xd4,0xd5,0xd6,0xd7,0xd8,0xd9,0xda,0xe1,0xe2,0xe3,0xe4,0xe5,0xe6,0xe7,0xe8,0xe9,0xea,0xf1,0xf2,0xf3,0xf4,0xf5,0xf6,0xf7,0xf8,
    0xf9,0xfa,
];
#[rustfmt::skip]
const AC_CHROMINANCE: [u8; 162] = [
    0x00,0x01,0x02,0x03,0x11,0x04,0x05,0x21,0x31,0x06,0x12,0x41,0x51,0x07,0x61,0x71,0x13,0x22,0x32,0x81,0x08,0x14,0x42,0x91,0xa1,0xb1,0xc1,0x09,0x23,0x33,0x52,0xf0,
    0x15,0x62,0x72,0xd1,0x0a,0x16,0x24,0x34,0xe1,0x25,0xf1,0x17,0x18,0x19,0x1a,0x26,0x27,0x28,0x29,0x2a,0x35,0x36,0x37,0x38,0x39,0x3a,0x43,0x44,0x45,0x46,0x47,0x48,
    0x49,0x4a,0x53,0x54,0x55,0x56,0x57,0x58,0x59,0x5a,0x63,0x64,0x65,0x66,0x67,0x68,0x69,0x6a,0x73,0x74,0x75,0x76,0x77,0x78,0x79,0x7a,0x82,0x83,0x84,0x85,0x86,0x87,
    0x88,0x89,0x8a,0x92,0x93,0x94,0x95,0x96,0x97,0x98,0x99,0x9a,0xa2,0xa3,0xa4,0xa5,0xa6,0xa7,0xa8,0xa9,0xaa,0xb2,0xb3,0xb4,0xb5,0xb6,0xb7,0xb8,0xb9,0xba,0xc2,0xc3,
    0xc4,0xc5,0xc6,0xc7,0xc8,0xc9,0xca,0xd2,0xd3,0xd4,0xd5,0xd6,0xd7,0xd8,0xd9,0xda,0xe2,0xe3,0xe4,0xe5,0xe6,0xe7,0xe8,0xe9,0xea,0xf2,0xf3,0xf4,0xf5,0xf6,0xf7,0xf8,
    0xf9,0xfa,
];

fn decode_file(data: &[u8], picture: &mut Picture) -> Result<(), DecodeError> {
    let bad = |e: image::ImageError| DecodeError::Content {
        kind: "PNG or WebP",
        reason: e.to_string().replace('\n', ", "),
    };
    let reader = || {
        image::ImageReader::new(std::io::Cursor::new(data)).with_guessed_format().map_err(|e| bad(e.into()))
    };
    let (width, height) = reader()?.into_dimensions().map_err(bad)?;
    size(width as usize, height as usize)?;
    let decoded = reader()?.decode().map_err(bad)?.into_rgb8();
    (picture.width, picture.height) = decoded.dimensions();
    picture.rgb = decoded.into_raw();
    Ok(())
}

fn decode_raw(raw: &RawFrame, picture: &mut Picture) -> Result<(), DecodeError> {
    let (width, height) = size(raw.width as usize, raw.height as usize)?;
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
    picture.rgb.resize(3 * w * h, 0);
    (picture.width, picture.height) = (width, height);
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
        RawFrame { width, height, encoding, data }
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
        assert!(lacks_huffman_tables(&bare) && !lacks_huffman_tables(&whole));
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
