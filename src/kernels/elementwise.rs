//! Operations that walk over pixels and leave the channels of each to a kernel: copies, concatenations and
//! sums; and products and averages, which are the same plain loop for every instruction set.

use super::plane::{View, ViewMut};
use super::{Bilinear, Isa, Mean, Product, Sum, Wide, widest};

/// Writes the codes of each pixel of `input`, translated where there is a table, to the same pixel of
/// `output`, or, with `twice`, to the square of four pixels that nearest upsampling makes of it.
pub fn copy(isa: Isa, table: Option<&[u8; 256]>, twice: bool, input: &View<'_>, output: &mut ViewMut<'_>) {
    let write = |from: &[u8], to: &mut [u8]| match table {
        Some(table) => isa.translate(table, from, to),
        None => to.copy_from_slice(from),
    };
    let factor = if twice { 2 } else { 1 };
    let width = output.geometry.width;
    for y in output.rows.clone() {
        for x in (0..width).step_by(factor) {
            let from = input.pixel(y / factor, x / factor);
            write(from, output.pixel(y, x));
            if twice && x + 1 < width {
                write(from, output.pixel(y, x + 1));
            }
        }
    }
}

/// Writes the channels of `a` and `b` in turn, translated first where there is a table.
pub fn zip(isa: Isa, tables: [Option<&[u8; 256]>; 2], a: &View<'_>, b: &View<'_>, output: &mut ViewMut<'_>) {
    // Channels at a time, so that translated codes need no more memory than this.
    const PIECE: usize = 128;
    let mut translated = [[0; PIECE]; 2];
    for y in output.rows.clone() {
        for x in 0..output.geometry.width {
            let pieces = a.pixel(y, x).chunks(PIECE).zip(b.pixel(y, x).chunks(PIECE));
            for ((a, b), pairs) in pieces.zip(output.pixel(y, x).chunks_mut(2 * PIECE)) {
                let mut pieces = [a, b];
                for ((piece, translated), table) in pieces.iter_mut().zip(&mut translated).zip(tables) {
                    if let Some(table) = table {
                        let translated = &mut translated[..piece.len()];
                        isa.translate(table, piece, translated);
                        *piece = translated;
                    }
                }
                isa.interleave(pieces[0], pieces[1], pairs);
            }
        }
    }
}

/// Writes the sum of each pixel of `a` and `b`.
pub fn add(isa: Isa, sum: &Sum, a: &View<'_>, b: &View<'_>, output: &mut ViewMut<'_>) {
    for y in output.rows.clone() {
        for x in 0..output.geometry.width {
            isa.add(sum, a.pixel(y, x), b.pixel(y, x), output.pixel(y, x));
        }
    }
}

/// Rounds to even, for sizes below 2^22: the sum has no bits below one. (A call of the C library where the
/// instruction is not part of the architecture would cost more than all the rest.)
#[inline(always)]
fn round_small(x: f32) -> f32 {
    const WHOLE: f32 = 12_582_912.0;
    (x + WHOLE) - WHOLE
}

/// Writes the product of each pixel of `a` and `b`, or of the one pixel of `b`.
pub fn mul(isa: Isa, product: &Product, a: &View<'_>, b: &View<'_>, output: &mut ViewMut<'_>) {
    let flip = isa.flip();
    let one = b.geometry.width == 1 && b.geometry.height == 1;
    let [low, high] = product.range.map(|code| (code - product.zero) as f32);
    for y in output.rows.clone() {
        for x in 0..output.geometry.width {
            let second = if one { b.pixel(0, 0) } else { b.pixel(y, x) };
            let pixels = output.pixel(y, x).iter_mut().zip(a.pixel(y, x)).zip(second);
            for ((to, &a), &b) in pixels {
                let first = i32::from(a ^ flip) - product.zeros[0];
                let second = i32::from(b ^ flip) - product.zeros[1];
                let real = (first * second) as f32 * product.multiplier;
                *to = (round_small(real.max(low).min(high)) as i32 + product.zero) as u8 ^ flip;
            }
        }
    }
}

/// Writes the average of the pixels under the window of each pixel.
pub fn average(isa: Isa, mean: &Mean, input: &View<'_>, output: &mut ViewMut<'_>) {
    // Channels at a time, so that sums need no more memory than this.
    const PIECE: usize = 128;
    let flip = isa.flip();
    let [low, high] = [0, 255].map(|code| (code - mean.zeros[1]) as f32);
    let sizes = [input.geometry.height, input.geometry.width];
    let under = |axis: usize, at: usize| {
        let start = at * mean.stride[axis];
        let first = start.saturating_sub(mean.pad[axis]);
        first..(start + mean.kernel[axis]).saturating_sub(mean.pad[axis]).min(sizes[axis]).max(first)
    };
    for y in output.rows.clone() {
        for x in 0..output.geometry.width {
            let (rows, columns) = (under(0, y), under(1, x));
            let pixels = rows.len() * columns.len();
            let count = if mean.all { mean.kernel[0] * mean.kernel[1] } else { pixels }.max(1);
            let multiplier = mean.multiplier / count as f32;
            for (piece, to) in output.pixel(y, x).chunks_mut(PIECE).enumerate() {
                let mut sums = [0; PIECE];
                let channels = piece * PIECE..piece * PIECE + to.len();
                for (y, x) in rows.clone().flat_map(|y| columns.clone().map(move |x| (y, x))) {
                    for (sum, &code) in sums.iter_mut().zip(&input.pixel(y, x)[channels.clone()]) {
                        *sum += i32::from(code ^ flip);
                    }
                }
                for (to, sum) in to.iter_mut().zip(sums) {
                    let real = (sum - pixels as i32 * mean.zeros[0]) as f32 * multiplier;
                    *to = (round_small(real.max(low).min(high)) as i32 + mean.zeros[1]) as u8 ^ flip;
                }
            }
        }
    }
}

/// Writes each pixel of a plane of twice the size, a weighted mean of the four pixels of `input` around it.
pub fn bilinear(isa: Isa, bilinear: &Bilinear, input: &View<'_>, output: &mut ViewMut<'_>) {
    let [height, width] = [input.geometry.height, input.geometry.width];
    for y in output.rows.clone() {
        let rows = around(y, height);
        for x in 0..output.geometry.width {
            let columns = around(x, width);
            let pixel = |row: usize, column: usize| input.pixel(rows[row], columns[column]);
            widest(Blend {
                pixels: [pixel(0, 0), pixel(0, 1), pixel(1, 0), pixel(1, 1)],
                to: output.pixel(y, x),
                flip: isa.flip(),
                bilinear,
            });
        }
    }
}

/// The nearest place of the smaller plane, which counts three quarters, and the next on the other side, which
/// counts the rest; beyond the border the last place goes on.
fn around(at: usize, size: usize) -> [usize; 2] {
    let near = at / 2;
    let far = if at.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(size - 1) };
    [near, far]
}

/// The channels of one pixel of [`bilinear`].
struct Blend<'a> {
    pixels: [&'a [u8]; 4],
    to: &'a mut [u8],
    flip: u8,
    bilinear: &'a Bilinear,
}

impl Wide for Blend<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { pixels: [a, b, c, d], to, flip, bilinear } = self;
        let [low, high] = [0, 255].map(|code| (code - bilinear.zeros[1]) as f32);
        let shift = 16 * bilinear.zeros[0];
        let pixels = a.iter().zip(b).zip(c.iter().zip(d));
        for (to, ((&a, &b), (&c, &d))) in to.iter_mut().zip(pixels) {
            let [a, b, c, d] = [a, b, c, d].map(|code| i32::from(code ^ flip));
            let sixteenths = 9 * a + 3 * (b + c) + d - shift;
            // A sixteenth of a sum this small is exact, so that equal scales round once.
            let real = sixteenths as f32 * 0.0625 * bilinear.multiplier;
            *to = (round_small(real.max(low).min(high)) as i32 + bilinear.zeros[1]) as u8 ^ flip;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Geometry;

    /// Codes of a plane as `isa` holds them, and as they are.
    fn plane(isa: Isa, geometry: Geometry, mut state: u32) -> (Vec<u8>, Vec<u8>) {
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let codes: Vec<u8> = (0..geometry.bytes()).map(|_| random()).collect();
        (codes.iter().map(|code| code ^ isa.flip()).collect(), codes)
    }

    fn geometry(height: usize, width: usize, channels: usize) -> Geometry {
        Geometry { height, width, channels, halo: 1 }
    }

    fn view(data: &[u8], geometry: Geometry) -> View<'_> {
        View { data, geometry, first: 0, channels: geometry.channels }
    }

    /// Checks `found` against `expected`, a real number of steps, wherever that is no tie.
    fn check(found: u8, expected: f64, [low, high]: [f64; 2], what: &str) {
        let tie = (expected - expected.floor() - 0.5).abs() < 1e-3;
        let code = expected.round_ties_even().clamp(low, high);
        assert!(tie || f64::from(found) == code, "{what}: {found}, expected {expected}");
    }

    #[test]
    fn products_are_those_of_the_definition_also_with_one_pixel() {
        let product = Product { zeros: [3, 130], multiplier: 0.0123, zero: 77, range: [10, 240] };
        let (a, to) = (geometry(3, 5, 131), geometry(3, 5, 131));
        for isa in Isa::available() {
            for b in [a, geometry(1, 1, 131)] {
                let ((a_data, a_codes), (b_data, b_codes)) = (plane(isa, a, 1), plane(isa, b, 2));
                let mut output = vec![0; to.bytes()];
                mul(
                    isa,
                    &product,
                    &view(&a_data, a),
                    &view(&b_data, b),
                    &mut ViewMut::new(&mut output, to, 0, 131),
                );
                for (y, x, c) in
                    (0..3).flat_map(|y| (0..5).flat_map(move |x| (0..131).map(move |c| (y, x, c))))
                {
                    let [by, bx] = if b.width == 1 { [0, 0] } else { [y, x] };
                    let first = i32::from(view(&a_codes, a).pixel(y, x)[c]) - 3;
                    let second = i32::from(view(&b_codes, b).pixel(by, bx)[c]) - 130;
                    let real = f64::from(first * second) * f64::from(product.multiplier) + 77.0;
                    let found = view(&output, to).pixel(y, x)[c] ^ isa.flip();
                    check(found, real, [10.0, 240.0], &format!("{} at {y}, {x}, {c}", isa.name()));
                }
            }
        }
    }

    #[test]
    fn averages_are_those_of_the_definition_with_and_without_padding() {
        let (from, to) = (geometry(7, 6, 130), geometry(4, 5, 130));
        for (isa, all) in Isa::available().into_iter().flat_map(|isa| [(isa, false), (isa, true)]) {
            let mean =
                Mean { kernel: [3, 2], stride: [2, 1], pad: [1, 0], all, zeros: [9, 100], multiplier: 0.9 };
            let (data, codes) = plane(isa, from, 3);
            let mut output = vec![0; to.bytes()];
            average(isa, &mean, &view(&data, from), &mut ViewMut::new(&mut output, to, 0, 130));
            for (y, x, c) in
                (0..4usize).flat_map(|y| (0..5).flat_map(move |x| (0..130).map(move |c| (y, x, c))))
            {
                let rows = (2 * y).saturating_sub(1)..(2 * y + 2).min(7);
                let count = if all { 6 } else { 2 * rows.len() };
                let code = |(y, x): (usize, usize)| i32::from(view(&codes, from).pixel(y, x)[c]) - 9;
                let sum: i32 = rows.flat_map(|y| (x..x + 2).map(move |x| (y, x))).map(code).sum();
                let real = f64::from(sum) * 0.9 / count as f64 + 100.0;
                let found = view(&output, to).pixel(y, x)[c] ^ isa.flip();
                check(found, real, [0.0, 255.0], &format!("{} at {y}, {x}, {c}, {all}", isa.name()));
            }
        }
    }

    #[test]
    fn pixels_between_pixels_are_means_of_the_four_around() {
        for (isa, [height, width, channels]) in Isa::available()
            .into_iter()
            .flat_map(|isa| [[1, 1, 3], [1, 4, 40], [3, 2, 131]].map(|s| (isa, s)))
        {
            let (from, to) = (geometry(height, width, channels), geometry(2 * height, 2 * width, channels));
            let (data, codes) = plane(isa, from, 4);
            for (zeros, multiplier) in [([9, 9], 1.0), ([9, 100], 0.73), ([200, 3], 2.5)] {
                let mut output = vec![0; to.bytes()];
                let target = &mut ViewMut::new(&mut output, to, 0, channels);
                bilinear(isa, &Bilinear { zeros, multiplier }, &view(&data, from), target);
                for at in 0..4 * height * width * channels {
                    let (y, x, c) = (at / channels / to.width, at / channels % to.width, at % channels);
                    // The source coordinate of a pixel's centre, and what lies to both sides of it.
                    let sides = |at: usize, size: usize| {
                        let place = ((at as f64 + 0.5) / 2.0 - 0.5).clamp(0.0, size as f64 - 1.0);
                        let low = place.floor() as usize;
                        [(low, 1.0 - place.fract()), ((low + 1).min(size - 1), place.fract())]
                    };
                    let mean: f64 = sides(y, height)
                        .iter()
                        .flat_map(|row| sides(x, width).map(|column| (*row, column)))
                        .map(|((y, by), (x, bx))| f64::from(view(&codes, from).pixel(y, x)[c]) * by * bx)
                        .sum();
                    let real = (mean - f64::from(zeros[0])) * f64::from(multiplier);
                    let found = view(&output, to).pixel(y, x)[c] ^ isa.flip();
                    if multiplier == 1.0 {
                        // All is exact here, ties too: they go to the even step from 0.0.
                        let code = real.round_ties_even() + f64::from(zeros[1]);
                        assert_eq!(f64::from(found), code.clamp(0.0, 255.0), "{y}, {x}, {c}");
                    }
                    let what = format!("{} at {y}, {x}, {c} of {height} x {width}", isa.name());
                    check(found, real + f64::from(zeros[1]), [0.0, 255.0], &what);
                }
            }
        }
    }
}
