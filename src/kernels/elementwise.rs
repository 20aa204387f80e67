//! Operations that walk over pixels and leave the channels of each to a kernel: copies, concatenations and
//! sums; and products and averages, which are the same plain loop for every instruction set.

use super::plane::{View, ViewMut};
use super::{Isa, Mean, Product, Sum};

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
