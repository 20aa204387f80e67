//! PNG and WebP pictures, which only files hold.

use super::DecodeError;
use super::memory::{Plan, check_size, make_room};
use crate::frame::{Picture, RawFrame};
use crate::one_line::one_line;
use std::io::Cursor;

const PNG: &str = "PNG";
const WEBP: &str = "WebP";

/// Memory for a PNG's chunks and its decoder's window, bytes.
const PNG_CHUNKS: usize = 4 << 20;

/// A lossy WebP says in 24 bits how long a part of it is, and the library makes room for that before it reads
/// it; bytes.
const WEBP_PARTITION: u64 = 1 << 24;

/// The first bytes of a PNG.
pub(super) const PNG_START: &[u8] = b"\x89PNG\r\n\x1a\n";

fn bad(kind: &'static str, reason: &dyn std::fmt::Display) -> DecodeError {
    DecodeError::Content { kind, reason: one_line(&reason.to_string()) }
}

/// Decodes `raw` into `picture`, within `limit` bytes.
pub(super) fn decode(raw: &RawFrame, picture: &mut Picture, limit: usize) -> Result<(), DecodeError> {
    if raw.data.starts_with(PNG_START) {
        decode_png(raw, picture, limit)
    } else {
        decode_webp(raw, picture, limit)
    }
}

/// Row by row; only where its rows are interlaced the whole picture is held twice.
fn decode_png(raw: &RawFrame, picture: &mut Picture, limit: usize) -> Result<(), DecodeError> {
    let failed = |e: png::DecodingError| bad(PNG, &e);
    let limits = png::Limits { bytes: PNG_CHUNKS };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(&raw.data), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let (width, height) = decoder.read_header_info().map_err(failed)?.size();
    check_size(width, height)?;
    let mut reader = decoder.read_info().map_err(failed)?;
    let channels = reader.output_color_type().0.samples();
    let bytes = channels * width as usize * height as usize;
    let interlaced = reader.info().interlaced;
    // The decoder holds a few rows of 16 bits a channel.
    let rows = 64 * u64::from(width) + PNG_CHUNKS as u64;
    let working = if interlaced { rows + bytes as u64 } else { rows };
    let kind = if interlaced { "interlaced PNG" } else { PNG };
    make_room(picture, &Plan { kind, width, height, working, turn: raw.turn }, limit)?;
    if interlaced {
        let mut whole = vec![0; bytes];
        reader.next_frame(&mut whole).map_err(failed)?;
        to_rgb(&whole, channels, &mut picture.rgb);
        return Ok(());
    }
    for out in picture.rgb.chunks_exact_mut(3 * width as usize) {
        let row = reader.next_row().map_err(failed)?.ok_or_else(|| bad(PNG, &"its last rows are missing"))?;
        to_rgb(row.data(), channels, out);
    }
    Ok(())
}

/// Writes grey or colour, with or without alpha, as `R G B`; alpha is left out.
fn to_rgb(from: &[u8], channels: usize, to: &mut [u8]) {
    for (pixel, out) in from.chunks_exact(channels).zip(to.as_chunks_mut::<3>().0) {
        match *pixel {
            [grey] | [grey, _] => *out = [grey; 3],
            [r, g, b, ..] => *out = [r, g, b],
            [] => {}
        }
    }
}

fn decode_webp(raw: &RawFrame, picture: &mut Picture, limit: usize) -> Result<(), DecodeError> {
    let failed = |e: image_webp::DecodingError| bad(WEBP, &e);
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(&raw.data)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    check_canvas(&raw.data, width, height)?;
    let alpha = decoder.has_alpha();
    // Bytes a pixel that the library allocates, by reading it: planes, RGBA and alpha planes, a canvas.
    let (kind, each) = match (decoder.is_animated(), decoder.is_lossy(), alpha) {
        (true, ..) => ("animated WebP", 20),
        (_, false, _) => ("lossless WebP", 7),
        (_, true, true) => ("WebP with alpha", 12),
        (_, true, false) => (WEBP, 2),
    };
    let partition = if decoder.is_lossy() || decoder.is_animated() { WEBP_PARTITION } else { 0 };
    let working = each * u64::from(width.next_multiple_of(16)) * u64::from(height.next_multiple_of(16))
        + 2 * raw.data.len() as u64
        + partition;
    make_room(picture, &Plan { kind, width, height, working, turn: raw.turn }, limit)?;
    if !alpha {
        return decoder.read_image(&mut picture.rgb).map_err(failed);
    }
    let mut whole = vec![0; 4 * width as usize * height as usize];
    decoder.read_image(&mut whole).map_err(failed)?;
    to_rgb(&whole, 4, &mut picture.rgb);
    Ok(())
}

/// Refuses bit streams that are larger than the picture: the library compares the two only after it made
/// room for them.
fn check_canvas(data: &[u8], width: u32, height: u32) -> Result<(), DecodeError> {
    for (name, content) in RiffChunks::of(data) {
        // An animation's frame has a header of its own before its chunks.
        let inner =
            if name == b"ANMF" { RiffChunks(content.get(16..).unwrap_or_default()) } else { RiffChunks(&[]) };
        for (name, content) in std::iter::once((name, content)).chain(inner) {
            if name == b"VP8 "
                && let Some(&[w0, w1, h0, h1]) = content.get(6..10)
            {
                let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
                let (w, h) = (side(w0, w1), side(h0, h1));
                if w > width || h > height {
                    return Err(bad(WEBP, &format!("{w}x{h} pixels in a picture of {width}x{height}")));
                }
            }
        }
    }
    Ok(())
}

/// The chunks of a RIFF file: name and content.
pub(super) struct RiffChunks<'a>(&'a [u8]);

impl<'a> RiffChunks<'a> {
    pub(super) fn of(data: &'a [u8]) -> Self {
        Self(data.get(12..).unwrap_or_default())
    }
}

impl<'a> Iterator for RiffChunks<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = self.0.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let content = rest.get(..length)?;
        self.0 = rest.get(length + length % 2..).unwrap_or_default();
        Some((name, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Encoding, Turn};

    #[test]
    fn a_webp_counts_the_partition_that_it_may_claim() {
        // Found by fuzzing: 16 MiB were allocated for a file of 203 bytes.
        let found = include_bytes!("../../tests/fuzz/seeds/picture/webp_claims_a_partition");
        let data = found[6..].to_vec();
        let raw = RawFrame { width: 0, height: 0, encoding: Encoding::PngOrWebp, turn: Turn::NONE, data };
        let decoded = |limit| super::decode(&raw, &mut Picture::default(), limit);
        let small = decoded(8 << 20).expect_err("beyond 8 MB");
        assert!(matches!(small, DecodeError::Memory { needed_mb: 17, .. }), "{small}");
        let large = decoded(32 << 20).expect_err("damaged");
        assert!(matches!(large, DecodeError::Content { .. }), "{large}");
    }
}
