//! Pictures for people: an object cut out, or the whole frame with what was found in it, within a number of
//! bytes.

use super::encode::encode_jpeg_as;
use super::{DecodeError, Mark, black_out, decode, draw_boxes, shrunk};
use crate::frame::{Picture, RawFrame};
use crate::geometry::Polygon;

/// What a snapshot shows.
pub enum SnapshotOf {
    /// What is in this box, `[x1, y1, x2, y2]` in pixels of the upright frame, and a little around it.
    Object([f32; 4]),
    /// The frame, with these boxes drawn.
    Frame(Vec<Mark>),
}

/// How good a snapshot is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotLimits {
    /// JPEG quality, 1 to 100; lower where the bytes do not suffice.
    pub quality: u8,
    /// Longest side, pixels; shorter where the bytes do not suffice.
    pub longest_side: u32,
    /// Most bytes.
    pub most_bytes: usize,
}

/// What is shown around an object, as a share of its sides.
const AROUND: f32 = 0.15;
/// Quality below which a smaller picture shows more.
const LEAST_QUALITY: u8 = 40;
/// A picture smaller than this shows nothing.
const LEAST_SIDE: u32 = 32;

/// The snapshot as JPEG; `hidden` areas are black in it. None: it does not fit, however small.
///
/// # Errors
/// [`DecodeError`], if the frame cannot be decoded.
pub fn snapshot_jpeg(
    raw: &RawFrame,
    hidden: &[Polygon],
    of: &SnapshotOf,
    limits: SnapshotLimits,
) -> Result<Option<Vec<u8>>, DecodeError> {
    let mut picture = Picture::default();
    decode(raw, &mut picture)?;
    if let SnapshotOf::Frame(marks) = of {
        draw_boxes(&mut picture, marks);
    }
    // After the boxes, which would tell who stands there.
    hidden.iter().for_each(|area| black_out(&mut picture, area));
    let shown = match of {
        SnapshotOf::Object(bbox) => cut_out(&picture, *bbox),
        SnapshotOf::Frame(_) => picture,
    };
    let mut picture = shrunk(shown, limits.longest_side);
    let mut quality = limits.quality.clamp(1, 100);
    loop {
        let jpeg = encode_jpeg_as(&picture, quality)?;
        if jpeg.len() <= limits.most_bytes {
            return Ok(Some(jpeg));
        }
        let side = picture.width.max(picture.height);
        if quality > LEAST_QUALITY {
            quality = (quality - quality / 4).max(LEAST_QUALITY);
        } else if side > LEAST_SIDE {
            picture = shrunk(picture, side * 3 / 4);
        } else {
            return Ok(None);
        }
    }
}

/// The box and a little around it, within the picture; of a tiny box a few pixels more.
fn cut_out(picture: &Picture, [x1, y1, x2, y2]: [f32; 4]) -> Picture {
    let (wide, high) = ((x2 - x1) * AROUND, (y2 - y1) * AROUND);
    let (left, right) = span(x1 - wide, x2 + wide, picture.width);
    let (top, bottom) = span(y1 - high, y2 + high, picture.height);
    let rows = picture.rgb.chunks_exact(3 * picture.width.max(1) as usize).take(bottom).skip(top);
    let rgb: Vec<u8> = rows.flat_map(|row| &row[3 * left..3 * right]).copied().collect();
    Picture { width: (right - left) as u32, height: (bottom - top) as u32, rgb }
}

/// Whole pixels from one place to another on a side of this length, at least [`LEAST_SIDE`] or the whole side.
fn span(from: f32, to: f32, side: u32) -> (usize, usize) {
    let least = LEAST_SIDE.min(side) as f32;
    let start = from.floor().max(0.0).min(side as f32 - least);
    let end = to.ceil().min(side as f32).max(start + least);
    (start as usize, end as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Encoding, Turn};

    const LIMITS: SnapshotLimits = SnapshotLimits { quality: 80, longest_side: 640, most_bytes: 100_000 };

    fn coffee() -> RawFrame {
        let data = include_bytes!("../../examples/pictures/coffee.jpg").to_vec();
        RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data }
    }

    fn shown(raw: &RawFrame, hidden: &[Polygon], of: &SnapshotOf, limits: SnapshotLimits) -> Picture {
        let data = snapshot_jpeg(raw, hidden, of, limits).expect("decoded").expect("fits");
        assert!(data.len() <= limits.most_bytes);
        let mut picture = Picture::default();
        decode(&RawFrame { data, ..raw.clone() }, &mut picture).expect("a JPEG");
        picture
    }

    #[test]
    fn an_object_is_cut_out_with_a_little_around_it_and_within_the_picture() {
        let crop = shown(&coffee(), &[], &SnapshotOf::Object([100.0, 100.0, 200.0, 140.0]), LIMITS);
        assert_eq!((crop.width, crop.height), (130, 52));
        for odd in [
            [-50.0, -50.0, 20.0, 20.0],
            [590.0, 390.0, 9000.0, 9000.0],
            [50.0, 50.0, 50.0, 50.0],
            [900.0, 900.0, 950.0, 950.0],
            [f32::NAN; 4],
        ] {
            let crop = shown(&coffee(), &[], &SnapshotOf::Object(odd), LIMITS);
            assert!(crop.width >= 32 && crop.height >= 32 && crop.width <= 600, "{odd:?}");
        }
    }

    #[test]
    fn what_is_hidden_is_black_in_both_forms() {
        let all = Polygon::new(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).expect("an area");
        let mark = Mark { bbox: [50.0, 50.0, 90.0, 90.0], colour: [255; 3], text: "cat 0.62".into() };
        for of in [SnapshotOf::Object([100.0, 100.0, 200.0, 200.0]), SnapshotOf::Frame(vec![mark])] {
            let picture = shown(&coffee(), std::slice::from_ref(&all), &of, LIMITS);
            assert!(picture.rgb.iter().all(|&code| code < 8));
        }
    }

    #[test]
    fn too_many_bytes_cost_quality_first_and_size_then_and_none_fit_in_a_hundred() {
        let whole = SnapshotOf::Frame(Vec::new());
        let plain = shown(&coffee(), &[], &whole, LIMITS);
        let worse = shown(&coffee(), &[], &whole, SnapshotLimits { most_bytes: 32_000, ..LIMITS });
        assert_eq!(plain.width, worse.width);
        let smaller = shown(&coffee(), &[], &whole, SnapshotLimits { most_bytes: 5_000, ..LIMITS });
        assert!(smaller.width < plain.width);
        let none = SnapshotLimits { most_bytes: 100, ..LIMITS };
        assert_eq!(snapshot_jpeg(&coffee(), &[], &whole, none).expect("decoded"), None);
        let side = shown(&coffee(), &[], &whole, SnapshotLimits { longest_side: 100, ..LIMITS });
        assert_eq!(side.width.max(side.height), 100);
    }
}
