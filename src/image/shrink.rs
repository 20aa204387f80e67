//! Smaller pictures for people: every target pixel is the mean of the source pixels that it covers.

use crate::frame::Picture;

/// The picture with no side above `longest` pixels, in its own proportions; unchanged where it is no larger.
#[must_use]
pub fn shrunk(picture: Picture, longest: u32) -> Picture {
    let side = picture.width.max(picture.height);
    if side <= longest || picture.rgb.len() != 3 * picture.width as usize * picture.height as usize {
        return picture;
    }
    let scaled = |own: u32| (u64::from(own) * u64::from(longest) / u64::from(side)).max(1) as usize;
    let (from, to) =
        ((picture.width as usize, picture.height as usize), (scaled(picture.width), scaled(picture.height)));
    let mut rgb = Vec::with_capacity(3 * to.0 * to.1);
    for y in 0..to.1 {
        let rows = y * from.1 / to.1..(y + 1) * from.1 / to.1;
        for x in 0..to.0 {
            let columns = x * from.0 / to.0..(x + 1) * from.0 / to.0;
            let mut sums = [0u64; 3];
            for row in rows.clone() {
                let start = 3 * (row * from.0 + columns.start);
                for pixel in picture.rgb[start..start + 3 * columns.len()].as_chunks::<3>().0 {
                    sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u64::from(value));
                }
            }
            let count = (rows.len() * columns.len()) as u64;
            rgb.extend(sums.map(|sum| ((sum + count / 2) / count) as u8));
        }
    }
    Picture { width: to.0 as u32, height: to.1 as u32, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_is_the_mean_of_those_it_covers() {
        let grey = [10, 20, 30, 40, 50, 60, 70, 80];
        let rgb: Vec<u8> = grey.iter().flat_map(|&value| [value, value, 0]).collect();
        let picture = Picture { width: 4, height: 2, rgb };
        let small = shrunk(picture.clone(), 2);
        assert_eq!((small.width, small.height, &small.rgb[..]), (2, 1, &[35, 35, 0, 55, 55, 0][..]));
        assert_eq!(shrunk(picture.clone(), 4).rgb, picture.rgb);
    }

    #[test]
    fn no_side_is_longer_and_none_is_empty() {
        for (width, height) in [(641, 480), (480, 641), (2000, 1), (1, 2000), (1279, 961)] {
            let picture = Picture { width, height, rgb: vec![9; 3 * (width * height) as usize] };
            let small = shrunk(picture, 640);
            assert!(small.width.max(small.height) == 640 && small.width.min(small.height) >= 1);
            assert_eq!(small.rgb, vec![9; 3 * (small.width * small.height) as usize]);
        }
    }
}
