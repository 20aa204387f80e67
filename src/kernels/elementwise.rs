//! Operations that walk over pixels and leave the channels of each to a kernel: copies, concatenations and
//! sums.

use super::plane::{View, ViewMut};
use super::{Isa, Sum};

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
