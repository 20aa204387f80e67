//! The oracle: portable, plain, and what every other instruction set must reproduce byte for byte.

use super::plane::{View, ViewMut, Window};
use super::weights::{PackedConv, PackedDepthwise, Requantise};
use super::{AddCodes, Interleave, Sum, Translate};

/// One sum to its code. Clamped before the conversion, because conversions out of range differ between CPUs.
pub fn code(sum: i32, multiplier: f32, requantise: &Requantise) -> u8 {
    let t = sum as f32 * multiplier;
    let t = t.max(requantise.slope * t);
    let [low, high] = requantise.range.map(|code| (code - requantise.zero) as f32);
    (t.clamp(low, high).round_ties_even() as i32 + requantise.zero) as u8
}

pub fn conv(weights: &PackedConv, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    for (from, to) in window.pixels() {
        for channel in 0..weights.outputs {
            let mut sum = weights.bias[channel];
            for (tap, offset) in window.taps.iter().enumerate() {
                for k in 0..weights.inputs {
                    sum += i32::from(input.data[from + offset + k]) * i32::from(weights.weight(channel, tap, k));
                }
            }
            output.data[to + channel] = code(sum, weights.requantise.multipliers[channel], &weights.requantise);
        }
    }
}

pub fn depthwise(weights: &PackedDepthwise, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    for (from, to) in window.pixels() {
        for channel in 0..weights.channels {
            let mut sum = weights.bias[channel];
            for (tap, offset) in window.taps.iter().enumerate() {
                sum += i32::from(input.data[from + offset + channel]) * i32::from(weights.data[tap * weights.wide() + channel]);
            }
            output.data[to + channel] = code(sum, weights.requantise.multipliers[channel], &weights.requantise);
        }
    }
}

pub fn max_pool(window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let channels = output.channels;
    for (from, to) in window.pixels() {
        let out = &mut output.data[to..to + channels];
        out.copy_from_slice(&input.data[from..from + channels]);
        for offset in &window.taps[1..] {
            for (best, &code) in out.iter_mut().zip(&input.data[from + offset..from + offset + channels]) {
                *best = (*best).max(code);
            }
        }
    }
}

pub fn translate(table: &[u8; 256], from: &[u8], to: &mut [u8]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = table[usize::from(from)];
    }
}

pub fn copy(translate: Translate, table: Option<&[u8; 256]>, twice: bool, input: &View<'_>, output: &mut ViewMut<'_>) {
    let factor = if twice { 2 } else { 1 };
    let width = output.geometry.width;
    for y in output.rows.clone() {
        for x in (0..width).step_by(factor) {
            let from = input.pixel(y / factor, x / factor);
            match table {
                Some(table) => translate(table, from, output.pixel(y, x)),
                None => output.pixel(y, x).copy_from_slice(from),
            }
            if twice && x + 1 < width {
                match table {
                    Some(table) => translate(table, from, output.pixel(y, x + 1)),
                    None => output.pixel(y, x + 1).copy_from_slice(from),
                }
            }
        }
    }
}

/// Codes of `a` and `b` in turn.
pub fn interleave(a: &[u8], b: &[u8], to: &mut [u8]) {
    for ((pair, &first), &second) in to.chunks_exact_mut(2).zip(a).zip(b) {
        pair.copy_from_slice(&[first, second]);
    }
}

pub fn zip(
    translate: Translate,
    interleave: Interleave,
    tables: [Option<&[u8; 256]>; 2],
    a: &View<'_>,
    b: &View<'_>,
    output: &mut ViewMut<'_>,
) {
    // Channels at a time, so that translated codes need no more than this.
    const PIECE: usize = 128;
    let mut spare = [[0; PIECE]; 2];
    for y in output.rows.clone() {
        for x in 0..output.geometry.width {
            let pieces = a.pixel(y, x).chunks(PIECE).zip(b.pixel(y, x).chunks(PIECE));
            for ((a, b), pairs) in pieces.zip(output.pixel(y, x).chunks_mut(2 * PIECE)) {
                let mut pieces = [a, b];
                for ((piece, spare), table) in pieces.iter_mut().zip(&mut spare).zip(tables) {
                    if let Some(table) = table {
                        let spare = &mut spare[..piece.len()];
                        translate(table, piece, spare);
                        *piece = spare;
                    }
                }
                interleave(pieces[0], pieces[1], pairs);
            }
        }
    }
}

pub fn add_codes(sum: &Sum, a: &[u8], b: &[u8], to: &mut [u8]) {
    let [low, high] = sum.range.map(|code| (code - sum.zero) as f32);
    for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
        let first = (i32::from(a) - sum.zeros[0]) as f32 * sum.multipliers[0];
        let second = (i32::from(b) - sum.zeros[1]) as f32 * sum.multipliers[1];
        *to = ((first + second).clamp(low, high).round_ties_even() as i32 + sum.zero) as u8;
    }
}

pub fn add(add: AddCodes, sum: &Sum, a: &View<'_>, b: &View<'_>, output: &mut ViewMut<'_>) {
    for y in output.rows.clone() {
        for x in 0..output.geometry.width {
            add(sum, a.pixel(y, x), b.pixel(y, x), output.pixel(y, x));
        }
    }
}
