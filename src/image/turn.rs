//! Turning a picture.

use crate::frame::{Picture, Turn};

/// Pixels of a side of the squares that are turned one after the other, so that both their places stay in the
/// CPU's nearest memory.
const SQUARE: usize = 32;

/// Turns `picture` in its place; exchanging rows and columns takes as much memory again.
pub(super) fn turn(picture: &mut Picture, turn: Turn) {
    if turn.transposed {
        transpose(picture);
    }
    let (pixels, width) = (picture.rgb.as_chunks_mut::<3>().0, picture.width as usize);
    match (turn.mirrored_x, turn.mirrored_y) {
        (false, false) => {}
        (true, true) => pixels.reverse(),
        (true, false) => pixels.chunks_exact_mut(width).for_each(<[_]>::reverse),
        (false, true) => {
            let middle = pixels.len() / width / 2 * width;
            let (upper, lower) = pixels.split_at_mut(middle);
            let lower = lower.chunks_exact_mut(width).rev();
            upper.chunks_exact_mut(width).zip(lower).for_each(|(a, b)| a.swap_with_slice(b));
        }
    }
}

fn transpose(picture: &mut Picture) {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let from = picture.rgb.as_chunks::<3>().0;
    let mut turned = vec![0; picture.rgb.len()];
    let to = turned.as_chunks_mut::<3>().0;
    for top in (0..height).step_by(SQUARE) {
        for left in (0..width).step_by(SQUARE) {
            for x in left..width.min(left + SQUARE) {
                for y in top..height.min(top + SQUARE) {
                    to[x * height + y] = from[y * width + x];
                }
            }
        }
    }
    picture.rgb = turned;
    (picture.width, picture.height) = (picture.height, picture.width);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_puts_every_pixel_where_it_belongs() {
        let (width, height) = (45_u32, 70_u32);
        let pixel = |x: u32, y: u32| [x as u8, y as u8, 7];
        for bits in 0..8 {
            let by = Turn { transposed: bits & 1 > 0, mirrored_x: bits & 2 > 0, mirrored_y: bits & 4 > 0 };
            let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
            let mut picture = Picture { width, height, rgb };
            turn(&mut picture, by);
            let size = if by.transposed { (height, width) } else { (width, height) };
            assert_eq!((picture.width, picture.height), size);
            for (i, found) in (0..).zip(picture.rgb.as_chunks::<3>().0) {
                let (mut x, mut y) = (i % size.0, i / size.0);
                if by.mirrored_x {
                    x = size.0 - 1 - x;
                }
                if by.mirrored_y {
                    y = size.1 - 1 - y;
                }
                if by.transposed {
                    (x, y) = (y, x);
                }
                assert_eq!(*found, pixel(x, y), "{by:?} at {i}");
            }
        }
    }
}
