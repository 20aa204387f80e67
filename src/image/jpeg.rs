//! JPEG pictures.
//!
//! The library is given a copy that our own walk made: no rubbish between segments, no metadata, the tables
//! that webcams leave out, and 64 one-bits behind entropy-coded data. No Huffman code is all ones, so a
//! decoder that wants more than there is finds an error there, where it would make up grey blocks.

use super::DecodeError;
use super::jpeg_headers::{HUFFMAN_TABLES, Headers};
use super::jpeg_segments::{Part, SCAN, START, Walk};
use super::jpeg_tables::standard_tables;
use super::memory::{Plan, make_room};
use crate::frame::{Picture, RawFrame};
use crate::one_line::one_line;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

/// 64 bits, more than the library reads ahead; a zero byte is stuffed after each 0xff.
const ONES: [u8; 16] = [0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0];
const END: [u8; 2] = [0xff, 0xd9];
/// The segment that says how four components are to be understood.
const ADOBE: u8 = 0xee;
/// Metadata of all kinds, and comments.
const APPLICATIONS: std::ops::RangeInclusive<u8> = 0xe0..=0xef;
const COMMENT: u8 = 0xfe;

fn bad(reason: impl Into<String>) -> DecodeError {
    DecodeError::Content { kind: "JPEG", reason: reason.into() }
}

/// Decodes `raw` into `picture`, within `limit` bytes.
pub(super) fn decode(raw: &RawFrame, picture: &mut Picture, limit: usize) -> Result<(), DecodeError> {
    let (clean, headers) = clean_copy(&raw.data)?;
    let kind = if headers.progressive { "progressive JPEG" } else { "JPEG" };
    let working = headers.working_bytes() + clean.len() as u64;
    let plan = Plan { kind, width: headers.width, height: headers.height, working, turn: raw.turn };
    make_room(picture, &plan, limit)?;
    let stride = 3 * headers.width as usize;
    for canary in CANARIES {
        mark(&mut picture.rgb, stride, canary);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&clean[..]), options());
        decoder.decode_into(&mut picture.rgb).map_err(|e| bad(one_line(&format!("{e:?}"))))?;
        let found = decoder.info().map(|info| (u32::from(info.width), u32::from(info.height)));
        if found != Some((headers.width, headers.height)) {
            return Err(bad(format!("{found:?} pixels where the header says another size")));
        }
        if !is_marked(&picture.rgb, stride, canary) {
            return Ok(());
        }
        // A pixel may have the canary's colour by chance, but not that of both.
    }
    Err(bad("the decoder left a part of it empty"))
}

fn options() -> DecoderOptions {
    // Strict: what it cannot read is an error, not a grey patch. Its own limit lies above ours, so that ours
    // speaks.
    DecoderOptions::default()
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(65_535)
        .set_max_height(65_535)
}

/// Colours that stand at both ends of each row before it is decoded.
const CANARIES: [[u8; 3]; 2] = [[1, 254, 3], [254, 1, 252]];

fn mark(rgb: &mut [u8], stride: usize, canary: [u8; 3]) {
    for row in rgb.chunks_exact_mut(stride) {
        row[..3].copy_from_slice(&canary);
        row[stride - 3..].copy_from_slice(&canary);
    }
}

/// Whether a row's end still has the canary's colour.
fn is_marked(rgb: &[u8], stride: usize, canary: [u8; 3]) -> bool {
    rgb.chunks_exact(stride).any(|row| row[..3] == canary || row[stride - 3..] == canary)
}

/// What the decoder needs of a JPEG, and what its headers say.
fn clean_copy(data: &[u8]) -> Result<(Vec<u8>, Headers), DecodeError> {
    if !data.starts_with(&START) {
        return Err(bad("no start-of-image marker"));
    }
    let (mut walk, mut headers, mut has_tables) = (Walk::default(), Headers::default(), false);
    let mut clean = Vec::with_capacity(data.len() + 1024);
    clean.extend_from_slice(&START);
    loop {
        let part = walk.next(data).map_err(|fault| bad(fault.to_string()))?;
        match part.ok_or(DecodeError::Truncated { bytes: data.len() })? {
            Part::Segment { marker, from, to } => {
                headers.read(marker, &data[from + 4..to]).map_err(bad)?;
                has_tables |= marker == HUFFMAN_TABLES;
                if marker == SCAN && !has_tables {
                    clean.extend(standard_tables());
                    has_tables = true;
                }
                if marker == ADOBE || marker != COMMENT && !APPLICATIONS.contains(&marker) {
                    clean.extend_from_slice(&data[from..to]);
                }
            }
            Part::Data { from, to, restart } => {
                clean.extend_from_slice(&data[from..to]);
                if let Some(number) = restart {
                    headers.restart(number).map_err(bad)?;
                    clean.extend_from_slice(&ONES);
                    clean.extend_from_slice(&[0xff, 0xd0 + number]);
                } else {
                    headers.end_scan().map_err(bad)?;
                }
            }
            Part::End { .. } => break,
        }
    }
    headers.end().map_err(bad)?;
    // The library takes a marker for the end of many scans, and reads on from ones.
    clean.extend_from_slice(if headers.is_single_scan() { &ONES } else { &END });
    Ok((clean, headers))
}
