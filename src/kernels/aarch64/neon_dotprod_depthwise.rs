//! Depthwise convolutions with dot products on 64-bit ARM.
//!
//! Four rows of a column are put side by side, channel by channel, once; a dot product then takes four taps of four channels, and the same
//! codes serve all outputs of a row that they reach and several rows, by weights moved down with zeros above and below.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::neon_dotprod::dot;
use super::neon_finish::{Codes, by_kind, kind};
use super::plane::{View, ViewMut, Window};
use super::weights::{BLOCK, ConvShape, PackedDepthwise};
use std::arch::aarch64::*;

/// Channels of a dot product.
const FOUR: usize = 4;
/// Outputs of a row that are worked together, so that their columns stay in the first cache.
const CHUNK: usize = 40;
/// Columns under a chunk of a 5 × 5 window of stride 2, and under what its last tile may reach beyond it.
const COLUMNS: usize = (CHUNK + 7 - 1) * 2 + 5;

/// Groups of four rows under a window.
pub const fn groups(kernel: usize) -> usize {
    kernel.div_ceil(FOUR)
}

/// Rows of outputs whose windows lie in these groups.
pub const fn together(kernel: usize, stride: usize) -> usize {
    (FOUR * groups(kernel) - kernel) / stride + 1
}

/// Whether there is a kernel for it.
pub fn fits(shape: ConvShape, channels: usize) -> bool {
    matches!((shape.kernel, shape.stride), (3 | 5, 1 | 2)) && channels.is_multiple_of(FOUR)
}

/// `[block of 16 channels][row of outputs][four channels][column][group of rows][channel][row]`, from `weight(channel, tap)`.
pub fn pack(shape: ConvShape, channels: usize, weight: impl Fn(usize, usize) -> i8) -> Vec<i8> {
    let ConvShape { kernel, stride, .. } = shape;
    let (groups, together) = (groups(kernel), together(kernel, stride));
    let mut packed = vec![0; channels.div_ceil(BLOCK) * BLOCK * together * kernel * groups * FOUR];
    for channel in 0..channels {
        for (tap, (row, output)) in (0..kernel * kernel).flat_map(|tap| (0..together).map(move |row| (tap, (row, row * stride)))) {
            let (y, x) = (tap / kernel + output, tap % kernel);
            let four = (channel / BLOCK * together + row) * BLOCK / FOUR + channel % BLOCK / FOUR;
            let at = ((four * kernel + x) * groups + y / FOUR) * BLOCK + channel % FOUR * FOUR + y % FOUR;
            packed[at] = weight(channel, tap);
        }
    }
    packed
}

pub fn depthwise(w: &PackedDepthwise, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    type Run = unsafe fn(&PackedDepthwise, &Window, *const i8, *mut i8);
    let run: Run = match (w.shape().kernel, w.shape().stride) {
        (3, 1) => by_kind!(w, three),
        (3, _) => by_kind!(w, three_apart),
        (_, 1) => by_kind!(w, five),
        _ => by_kind!(w, five_apart),
    };
    // SAFETY: the window proved the planes, `Isa` found dot products.
    unsafe { run(w, window, input.data.as_ptr().cast(), output.data.as_mut_ptr().cast()) }
}

/// [`run`] of one shape.
macro_rules! shape {
    ($name:ident, $kernel:literal, $stride:literal) => {
        #[target_feature(enable = "dotprod")]
        unsafe fn $name<const KIND: u8>(w: &PackedDepthwise, window: &Window, from: *const i8, to: *mut i8) {
            // SAFETY: as the caller's.
            unsafe { run::<KIND, $kernel, { groups($kernel) }, $stride>(w, window, from, to) }
        }
    };
}

shape!(three, 3, 1);
shape!(three_apart, 3, 2);
shape!(five, 5, 1);
shape!(five_apart, 5, 2);

/// # Safety
/// `window` is of the planes `from` and `to`; the CPU has dot products.
#[inline(always)]
unsafe fn run<const KIND: u8, const K: usize, const G: usize, const S: usize>(
    w: &PackedDepthwise,
    window: &Window,
    from: *const i8,
    to: *mut i8,
) {
    let (height, width) = (window.size.0.len(), window.size.1);
    let (together, step) = (together(K, S), window.output.2);
    // `[group of rows][four channels][column][channel][row]`
    let mut quads = [0i8; 2 * COLUMNS * BLOCK * FOUR];
    for y in (0..height).step_by(together) {
        // Rows and columns past the last meet zero weights or sums that are not stored: any that can be read do.
        let row = |i: usize| window.input.0 + (y * S + i).min((height - 1) * S + K - 1) * window.taps[K];
        let rows: [[usize; FOUR]; G] = std::array::from_fn(|group| std::array::from_fn(|i| row(group * FOUR + i)));
        for x in (0..width).step_by(CHUNK) {
            let across = CHUNK.min(width - x);
            let tiles = across.div_ceil(8);
            let size = if across < 8 { across.min(5) } else { across.div_ceil(tiles) };
            let tiles = if size > 5 { tiles } else { across.div_ceil(5) };
            for channel in (0..w.channels).step_by(BLOCK) {
                // SAFETY: weights and bias are padded to whole blocks; rows and columns are of the window; only pixels of the output are
                // written, and of these only the channels.
                unsafe {
                    let input = from.add(x * S * window.taps[1] + channel);
                    for group in 0..G {
                        let to = quads.as_mut_ptr().add(group * COLUMNS * BLOCK * FOUR);
                        interleave(rows[group].map(|row| input.add(row)), window.taps[1], (across - 1) * S + K, to);
                    }
                    for row in 0..together.min(height - y) {
                        let pixels = to.add(window.output.0 + (y + row) * window.output.1 + x * window.output.2 + channel);
                        for four in 0..FOUR.min((w.channels - channel) / FOUR) {
                            let first = channel + four * FOUR;
                            let line = w.quads.as_ptr().add(((channel / BLOCK * together + row) * FOUR + four) * K * G * BLOCK);
                            let weights: [[int8x16_t; G]; K] =
                                std::array::from_fn(|x| std::array::from_fn(|group| vld1q_s8(line.add((x * G + group) * BLOCK))));
                            let bias = vld1q_s32(w.flipped_bias.as_ptr().add(first));
                            let codes = Codes::<KIND>::new(&w.requantise, first);
                            let (quads, pixels) = (quads.as_ptr().add(four * COLUMNS * BLOCK), pixels.add(four * FOUR));
                            if size > 5 {
                                for tile in 0..tiles {
                                    // The last tile goes over pixels of the one before it.
                                    let x = (8 * tile).min(across - 8);
                                    let sums = sums::<K, G, S, 8>(quads.add(x * S * BLOCK), &weights, bias);
                                    store(&codes, sums, pixels.add(x * step), step);
                                }
                            } else if across >= 5 {
                                for tile in 0..tiles {
                                    let x = (5 * tile).min(across - 5);
                                    let sums = sums::<K, G, S, 5>(quads.add(x * S * BLOCK), &weights, bias);
                                    store(&codes, sums, pixels.add(x * step), step);
                                }
                            } else {
                                for x in 0..across {
                                    let sums = sums::<K, G, S, 1>(quads.add(x * S * BLOCK), &weights, bias);
                                    store(&codes, sums, pixels.add(x * step), step);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Sixteen channels of four rows, side by side, of some columns `step` bytes apart.
///
/// # Safety
/// They can be read, and their quads written.
#[inline(always)]
unsafe fn interleave(rows: [*const i8; FOUR], step: usize, columns: usize, to: *mut i8) {
    // SAFETY: the caller's word.
    unsafe {
        let quads = |column: usize| {
            let [a, b, c, d] = rows.map(|row| vld1q_s8(row.add(column * step)));
            let pair = |a: int8x16_t, b: int8x16_t| [vreinterpretq_s16_s8(vzip1q_s8(a, b)), vreinterpretq_s16_s8(vzip2q_s8(a, b))];
            let (upper, lower) = (pair(a, b), pair(c, d));
            let quad = |i: usize| {
                if i.is_multiple_of(2) { vzip1q_s16(upper[i / 2], lower[i / 2]) } else { vzip2q_s16(upper[i / 2], lower[i / 2]) }
            };
            std::array::from_fn::<int16x8_t, FOUR, _>(quad)
        };
        let place = |four: usize, column: usize| to.add((four * COLUMNS + column) * BLOCK).cast::<i16>();
        for column in (0..columns - 1).step_by(2) {
            let (first, second) = (quads(column), quads(column + 1));
            for four in 0..FOUR {
                vst1q_s16_x2(place(four, column), int16x8x2_t(first[four], second[four]));
            }
        }
        let last = quads(columns - 1);
        for four in 0..FOUR {
            vst1q_s16(place(four, columns - 1), last[four]);
        }
    }
}

/// Sums of four channels of `P` pixels side by side.
///
/// # Safety
/// Quads of all columns under them can be read; the CPU has dot products.
#[inline(always)]
unsafe fn sums<const K: usize, const G: usize, const S: usize, const P: usize>(
    quads: *const i8,
    weights: &[[int8x16_t; G]; K],
    bias: int32x4_t,
) -> [int32x4_t; P] {
    let mut sums = [bias; P];
    macro_rules! columns {
        ($($column:literal)*) => {
            // SAFETY: the caller's word.
            $(unsafe { column::<$column, K, G, S, P>(&mut sums, quads, weights) };)*
        };
    }
    columns!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18);
    const { assert!((P - 1) * S + K <= 19) };
    sums
}

/// The part of one column in the sums of all pixels that it reaches.
///
/// # Safety
/// As of [`sums`].
#[inline(always)]
unsafe fn column<const C: usize, const K: usize, const G: usize, const S: usize, const P: usize>(
    sums: &mut [int32x4_t; P],
    quads: *const i8,
    weights: &[[int8x16_t; G]; K],
) {
    if C >= (P - 1) * S + K {
        return;
    }
    for group in 0..G {
        // SAFETY: the caller's word.
        let quad = unsafe { vld1q_s8(quads.add((group * COLUMNS * FOUR + C) * BLOCK)) };
        for (pixel, sum) in sums.iter_mut().enumerate() {
            if C >= pixel * S && C - pixel * S < K {
                *sum = dot(*sum, weights[C - pixel * S][group], quad);
            }
        }
    }
}

/// Codes of four channels of `P` pixels, `step` bytes apart.
///
/// # Safety
/// They may be written.
#[inline(always)]
unsafe fn store<const KIND: u8, const P: usize>(codes: &Codes<KIND>, sums: [int32x4_t; P], to: *mut i8, step: usize) {
    // SAFETY: the caller's word.
    unsafe {
        for pixel in (0..P).step_by(2) {
            let both = codes.eight(sums[pixel], sums[(pixel + 1).min(P - 1)]);
            to.add(pixel * step).cast::<u32>().write_unaligned(vget_lane_u32::<0>(both));
            if pixel + 1 < P {
                to.add((pixel + 1) * step).cast::<u32>().write_unaligned(vget_lane_u32::<1>(both));
            }
        }
    }
}
