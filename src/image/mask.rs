//! Parts of a picture that nobody is to see.

use crate::frame::Picture;
use crate::geometry::Polygon;

/// Makes the area black, each pixel of which any part lies in it.
pub fn black_out(picture: &mut Picture, area: &Polygon) {
    let (width, height) = (picture.width as usize, picture.height as usize);
    if width == 0 || picture.rgb.len() < 3 * width * height {
        return;
    }
    for (row, pixels) in picture.rgb.chunks_exact_mut(3 * width).take(height).enumerate() {
        let share = |y: f64| y / height as f64;
        // Pixels whose middle lies within, and those that a side of the area goes through.
        let within = area.spans(share(row as f64 + 0.5));
        let along = sides(area).filter_map(|side| part_of(side, share(row as f64), share(row as f64 + 1.0)));
        for [left, right] in within.into_iter().chain(along) {
            let first = (left * width as f64).floor().clamp(0.0, width as f64) as usize;
            let end = (right * width as f64).ceil().clamp(0.0, width as f64) as usize;
            if first < end {
                pixels[3 * first..3 * end].fill(0);
            }
        }
    }
}

type Side = ([f64; 2], [f64; 2]);

fn sides(area: &Polygon) -> impl Iterator<Item = Side> {
    let next = area.points().iter().cycle().skip(1);
    area.points().iter().copied().zip(next.copied())
}

/// How far from left to right the side reaches between two heights; none where it lies above or below them.
fn part_of((a, b): Side, top: f64, bottom: f64) -> Option<[f64; 2]> {
    let (upper, lower) = if a[1] <= b[1] { (a, b) } else { (b, a) };
    if lower[1] < top || upper[1] > bottom {
        return None;
    }
    let at = |y: f64| {
        let part = (y - upper[1]) / (lower[1] - upper[1]);
        upper[0] + part.clamp(0.0, 1.0) * (lower[0] - upper[0])
    };
    // A level side has no height to divide by.
    let ends = if upper[1] == lower[1] { [a[0], b[0]] } else { [at(top), at(bottom)] };
    Some([ends[0].min(ends[1]), ends[0].max(ends[1])])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn white(width: u32, height: u32) -> Picture {
        Picture { width, height, rgb: vec![255; 3 * (width * height) as usize] }
    }

    fn area(points: &[[f64; 2]]) -> Polygon {
        Polygon::new(points).expect("an area")
    }

    fn is_black(picture: &Picture, x: u32, y: u32) -> bool {
        let at = 3 * (y * picture.width + x) as usize;
        picture.rgb[at..at + 3] == [0; 3]
    }

    #[test]
    fn every_pixel_that_lies_in_the_area_is_black_and_those_beyond_stay() {
        let shapes = [
            area(&[[0.2, 0.2], [0.8, 0.2], [0.8, 0.6], [0.2, 0.6]]),
            area(&[[0.1, 0.9], [0.5, 0.05], [0.95, 0.7]]),
            area(&[
                [0.0, 0.0],
                [0.2, 0.0],
                [0.2, 0.8],
                [0.8, 0.8],
                [0.8, 0.0],
                [1.0, 0.0],
                [1.0, 1.0],
                [0.0, 1.0],
            ]),
            // Thinner than a pixel.
            area(&[[0.0, 0.501], [1.0, 0.502], [1.0, 0.503]]),
        ];
        for shape in &shapes {
            for (width, height) in [(64, 48), (7, 5), (1, 1), (101, 3)] {
                let mut picture = white(width, height);
                black_out(&mut picture, shape);
                for y in 0..height {
                    for x in 0..width {
                        let [x1, y1] = [f64::from(x) / f64::from(width), f64::from(y) / f64::from(height)];
                        let (w, h) = (1.0 / f64::from(width), 1.0 / f64::from(height));
                        let share = shape.share_of([x1, y1, x1 + w, y1 + h]);
                        if share > 1e-9 {
                            assert!(is_black(&picture, x, y), "{x},{y} of {width}x{height}, {share} within");
                        }
                        // A pixel more on each side at most.
                        let around = shape.share_of([x1 - w, y1 - h, x1 + 2.0 * w, y1 + 2.0 * h]);
                        assert!(around > 0.0 || !is_black(&picture, x, y), "{x},{y} of {width}x{height}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_whole_picture_can_be_black_and_an_empty_one_stays_empty() {
        let whole = area(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]);
        let mut picture = white(33, 17);
        black_out(&mut picture, &whole);
        assert!(picture.rgb.iter().all(|&code| code == 0));
        let mut empty = Picture::default();
        black_out(&mut empty, &whole);
        assert_eq!(empty, Picture::default());
    }
}
