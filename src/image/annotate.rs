//! Boxes drawn into a picture, for people: a frame, and over it a label. Both grow with the picture, so that
//! they can be read on a screen that shows the whole of it.

use crate::frame::Picture;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// What is drawn for one object.
pub struct Mark {
    /// `[x1, y1, x2, y2]`, pixels.
    pub bbox: [f32; 4],
    /// Of frame and label.
    pub colour: [u8; 3],
    /// What stands over the box: label and score.
    pub text: String,
}

/// A picture's longer side has so many lines of text ...
const LINES: f32 = 42.0;
/// ... of at least so many pixels, below which letters cannot be told apart.
const LOWEST_LINE: f32 = 13.0;
/// A line of text is so many frames thick.
const FRAMES_IN_A_LINE: f32 = 7.0;
/// Stands for a letter that the font lacks.
const UNKNOWN: char = '?';
const WEIGHT: FontWeight = FontWeight::Bold;
const HEIGHT: RasterHeight = RasterHeight::Size32;

/// An area of whole pixels, its ends excluded. It may lie outside of the picture.
#[derive(Clone, Copy)]
struct Area {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

/// What is drawn for one area or line.
pub struct Outline {
    /// Its corners as shares of the picture, 0 to 1.
    pub points: Vec<[f64; 2]>,
    /// Whether the last one is joined with the first.
    pub closed: bool,
    /// Of line and label.
    pub colour: [u8; 3],
    /// What stands at its first corner.
    pub text: String,
}

/// Draws `outlines` over each other in their order.
pub fn draw_outlines(picture: &mut Picture, outlines: &[Outline]) {
    let (line, thick) = sizes(picture);
    let place = |[x, y]: [f64; 2]| {
        let pixel = |share: f64, side: u32| (share * f64::from(side)) as f32;
        [pixel(x, picture.width), pixel(y, picture.height)]
    };
    let placed: Vec<Vec<[f32; 2]>> =
        outlines.iter().map(|outline| outline.points.iter().copied().map(place).collect()).collect();
    for (outline, points) in outlines.iter().zip(&placed) {
        let joined = points.windows(2).map(|pair| (pair[0], pair[1]));
        let last = points.last().zip(points.first()).filter(|_| outline.closed);
        for (from, to) in joined.chain(last.map(|(last, first)| (*last, *first))) {
            draw_side(picture, from, to, thick, outline.colour);
        }
    }
    for (outline, points) in outlines.iter().zip(&placed) {
        let Some(&[x, y]) = points.first() else { continue };
        let text = outline.text.clone();
        draw_label(picture, &Mark { bbox: [x, y, x, y], colour: outline.colour, text }, line);
    }
}

/// A straight line of squares, close enough that there are no gaps.
fn draw_side(picture: &mut Picture, from: [f32; 2], to: [f32; 2], thick: i32, colour: [u8; 3]) {
    let longer = (to[0] - from[0]).abs().max((to[1] - from[1]).abs());
    let steps = whole(longer.ceil()).max(1);
    for step in 0..=steps {
        let part = step as f32 / steps as f32;
        let at = |axis: usize| whole(from[axis] + part * (to[axis] - from[axis]));
        let (left, top) = (at(0) - thick / 2, at(1) - thick / 2);
        fill(picture, Area { left, top, right: left + thick, bottom: top + thick }, colour);
    }
}

/// Height of a line of text and thickness of a frame, pixels.
fn sizes(picture: &Picture) -> (i32, i32) {
    let longer = picture.width.max(picture.height) as f32;
    let line = (longer / LINES).max(LOWEST_LINE).round() as i32;
    (line, ((line as f32 / FRAMES_IN_A_LINE).round() as i32).max(2))
}

/// Draws `marks` over each other in their order, cut off at the picture's edges.
pub fn draw_boxes(picture: &mut Picture, marks: &[Mark]) {
    let (line, thick) = sizes(picture);
    for mark in marks {
        let [left, top, right, bottom] = mark.bbox.map(whole);
        let area = Area { left, top, right, bottom };
        for side in [
            Area { bottom: (top + thick).min(bottom), ..area },
            Area { top: (bottom - thick).max(top), ..area },
            Area { right: (left + thick).min(right), ..area },
            Area { left: (right - thick).max(left), ..area },
        ] {
            fill(picture, side, mark.colour);
        }
    }
    // Labels last, so that no frame crosses one.
    for mark in marks {
        draw_label(picture, mark, line);
    }
}

/// A coordinate in whole pixels, far from the ends of its type.
fn whole(side: f32) -> i32 {
    const FAR: f32 = 1e6;
    side.round().clamp(-FAR, FAR) as i32
}

fn draw_label(picture: &mut Picture, mark: &Mark, line: i32) {
    let advance = (get_raster_width(WEIGHT, HEIGHT) as i32 * line).div_euclid(HEIGHT.val() as i32).max(1);
    let margin = (line / 8).max(1);
    let width = advance * mark.text.chars().count() as i32 + 2 * margin;
    let [left, top, ..] = mark.bbox.map(whole);
    // Over the box; within it where there is no room; never beyond the right edge if it can be helped.
    let left = left.min(picture.width as i32 - width).max(0);
    let top = if top >= line { top - line } else { top.max(0) };
    fill(picture, Area { left, top, right: left + width, bottom: top + line }, mark.colour);
    let ink = ink_on(mark.colour);
    for (i, letter) in (0..).zip(mark.text.chars()) {
        draw_letter(picture, letter, (left + margin + i * advance, top), (advance, line), ink);
    }
}

/// Black or white, whichever stands out more.
fn ink_on([r, g, b]: [u8; 3]) -> [u8; 3] {
    // Luma of ITU-R BT.601, in thousandths.
    let luma = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
    if luma > 140_000 { [0; 3] } else { [255; 3] }
}

/// Scales the letter's picture to `width` by `height` pixels: each takes the mean of what it covers.
fn draw_letter(
    picture: &mut Picture,
    letter: char,
    (left, top): (i32, i32),
    (width, height): (i32, i32),
    ink: [u8; 3],
) {
    let Some(letter) = get_raster(letter, WEIGHT, HEIGHT).or_else(|| get_raster(UNKNOWN, WEIGHT, HEIGHT))
    else {
        return;
    };
    // What pixel `i` of `of` covers of `all` source pixels: one at least.
    let covered = |i: i32, of: i32, all: usize| {
        let at = |i: i32| (i as usize * all) / of as usize;
        at(i)..at(i + 1).max(at(i) + 1).min(all)
    };
    for y in 0..height {
        for x in 0..width {
            let (rows, columns) = (covered(y, height, letter.height()), covered(x, width, letter.width()));
            let count = (rows.len() * columns.len()) as u32;
            let sum: u32 = rows
                .flat_map(|y| columns.clone().map(move |x| u32::from(letter.pixel(x, y).unwrap_or(0))))
                .sum();
            let (x, y) = (left + x, top + y);
            if let Some(pixel) = pixel(picture, x, y) {
                let part = sum / count.max(1);
                for (code, ink) in pixel.iter_mut().zip(ink) {
                    *code = ((u32::from(*code) * (255 - part) + u32::from(ink) * part) / 255) as u8;
                }
            }
        }
    }
}

fn pixel(picture: &mut Picture, x: i32, y: i32) -> Option<&mut [u8]> {
    let (x, y) = (u32::try_from(x).ok()?, u32::try_from(y).ok()?);
    if x >= picture.width || y >= picture.height {
        return None;
    }
    let at = 3 * (y as usize * picture.width as usize + x as usize);
    picture.rgb.get_mut(at..at + 3)
}

fn fill(picture: &mut Picture, area: Area, colour: [u8; 3]) {
    let clip = |v: i32, side: u32| (v.max(0) as usize).min(side as usize);
    let (width, stride) = (picture.width, 3 * picture.width as usize);
    let (left, right) = (clip(area.left, width), clip(area.right, width));
    let (top, bottom) = (clip(area.top, picture.height), clip(area.bottom, picture.height));
    if left < right && top < bottom {
        for row in picture.rgb[top * stride..bottom * stride].chunks_exact_mut(stride) {
            row[3 * left..3 * right].as_chunks_mut::<3>().0.fill(colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOUR: [u8; 3] = [230, 60, 60];

    fn drawn(width: u32, height: u32, bbox: [f32; 4], text: &str) -> Picture {
        let rgb = vec![100; 3 * (width * height) as usize];
        let mut picture = Picture { width, height, rgb };
        draw_boxes(&mut picture, &[Mark { bbox, colour: COLOUR, text: text.into() }]);
        picture
    }

    /// Rows in which there is ink, and the pixels of ink, near white.
    fn ink(picture: &Picture) -> (usize, usize) {
        let counts: Vec<usize> = picture
            .rgb
            .chunks_exact(3 * picture.width as usize)
            .map(|row| row.as_chunks::<3>().0.iter().filter(|p| p.iter().all(|&v| v > 200)).count())
            .collect();
        (counts.iter().filter(|&&count| count > 0).count(), counts.iter().sum())
    }

    #[test]
    fn frame_and_letters_grow_with_the_picture() {
        for (side, rows, thick) in [(320_u32, 7..12, 2), (1280, 15..26, 4), (4000, 50..80, 14)] {
            let part = side as f32 / 4.0;
            let picture = drawn(side, side, [part, part, 3.0 * part, 3.0 * part], "Ej 0.90");
            let (found, pixels) = ink(&picture);
            assert!(rows.contains(&found) && pixels > 20, "{found} rows of letters at {side}");
            let middle = &picture.rgb[3 * (side * side / 2) as usize..][..3 * side as usize];
            let frame = middle.as_chunks::<3>().0.iter().filter(|p| **p == COLOUR).count();
            assert_eq!(frame, 2 * thick, "two sides of the frame at {side}");
        }
    }

    #[test]
    fn an_outline_goes_around_its_area_without_gaps_and_an_open_one_does_not_close() {
        let points = vec![[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]];
        let of = |closed| {
            let mut picture = Picture { width: 200, height: 100, rgb: vec![100; 3 * 200 * 100] };
            let points = points.clone();
            draw_outlines(&mut picture, &[Outline { points, closed, colour: COLOUR, text: String::new() }]);
            picture
        };
        let is_drawn =
            |picture: &Picture, x: usize, y: usize| picture.rgb[3 * (200 * y + x)..][..3] == COLOUR;
        for closed in [true, false] {
            let picture = of(closed);
            assert!((50..=150).all(|x| is_drawn(&picture, x, 25) && is_drawn(&picture, x, 75)));
            assert!((30..70).all(|y| is_drawn(&picture, 150, y)));
            assert!((30..70).all(|y| is_drawn(&picture, 50, y) == closed));
            assert!(!is_drawn(&picture, 100, 50));
        }
        let mut small = Picture { width: 4, height: 4, rgb: vec![100; 48] };
        let points = vec![[0.0, 0.0], [1.0, 1.0]];
        draw_outlines(
            &mut small,
            &[Outline { points, closed: false, colour: COLOUR, text: "a long name".into() }],
        );
        draw_outlines(
            &mut small,
            &[Outline { points: vec![], closed: true, colour: COLOUR, text: String::new() }],
        );
    }

    #[test]
    fn letters_differ_and_one_that_the_font_lacks_is_a_question_mark() {
        let of = |text| drawn(640, 640, [50.0, 50.0, 600.0, 600.0], text);
        assert_ne!(of("cat"), of("cut"));
        assert_eq!(of("\u{732b}"), of("?"));
        assert_ne!(of("é"), of("?"));
    }

    #[test]
    fn what_lies_outside_is_cut_off_and_labels_stay_within() {
        for bbox in [
            [-50.0, -50.0, 1000.0, 1000.0],
            [300.0, 2.0, 319.0, 30.0],
            [0.0, 199.0, 320.0, 200.0],
            [5.0, 5.0, 5.0, 5.0],
            [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 1e30],
        ] {
            let picture = drawn(320, 200, bbox, "person 0.51");
            assert!(ink(&picture).1 > 20, "{bbox:?}");
        }
        drawn(4, 4, [0.0, 0.0, 4.0, 4.0], "a label that is wider than the picture");
    }
}
