//! Depthwise convolutions for NEON with dot products.
//!
//! Four rows of a column are put side by side, channel by channel, once; a dot product then takes four taps
//! of four channels, and the same codes serve all outputs of a row that they reach and several rows, by
//! weights moved down with zeros above and below.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::LOWERED;
use super::finish::by_finish;
use super::neon_depthwise;
use super::neon_dotprod::dot;
use super::neon_finish::{self, Codes};
use super::pack::{Layer, Packed};
use super::plane::Window;
use super::weights::{BLOCK, ConvShape, DEPTHWISE_BLOCK, DepthwiseForm, PackedDepthwise};
use std::arch::aarch64::*;

/// Channels of a dot product, and rows.
const FOUR: usize = 4;
/// Outputs of a row that are worked together, so that their columns stay in the first cache.
const CHUNK: usize = 40;
/// Columns under a chunk of a 5 × 5 window of stride 2, and under what its last tile may reach beyond it.
const COLUMNS: usize = (CHUNK + 7 - 1) * 2 + 5;
/// Bytes of the columns of one group of rows: `[four channels][column][channel][row]`.
const GROUP_BYTES: usize = COLUMNS * BLOCK * FOUR;

/// Groups of four rows under a window.
const fn groups(kernel: usize) -> usize {
    kernel.div_ceil(FOUR)
}

/// Rows of outputs whose windows lie in these groups.
const fn together(kernel: usize, stride: usize) -> usize {
    (FOUR * groups(kernel) - kernel) / stride + 1
}

/// Packs a depthwise convolution in columns of four rows, or, where there is no kernel for its shape, as
/// without dot products.
pub fn pack(layer: &Layer<'_>) -> Packed<DepthwiseForm> {
    let shape = (layer.shape.kernel, layer.shape.stride);
    if !matches!(shape, (3 | 5, 1 | 2)) || !layer.rows.len().is_multiple_of(FOUR) {
        return neon_depthwise::pack(layer);
    }
    let form = DepthwiseForm::Columns(columns_of(layer));
    layer.packed(form, neon_finish::finish_of(layer), LOWERED, DEPTHWISE_BLOCK, |channel| channel)
}

/// `[block of 16 channels][row of outputs][four channels][column][group of rows][channel][row]`.
fn columns_of(layer: &Layer<'_>) -> Vec<i8> {
    let ConvShape { kernel, stride, .. } = layer.shape;
    let (groups, together) = (groups(kernel), together(kernel, stride));
    let mut packed = vec![0; layer.rows.len().next_multiple_of(BLOCK) * together * kernel * groups * FOUR];
    for (channel, weights) in layer.rows.iter().enumerate() {
        for (tap, &weight) in weights.iter().enumerate() {
            for output in 0..together {
                let (y, x) = (tap / kernel + output * stride, tap % kernel);
                let four = (channel / BLOCK * together + output) * BLOCK / FOUR + channel % BLOCK / FOUR;
                let at = ((four * kernel + x) * groups + y / FOUR) * BLOCK + channel % FOUR * FOUR + y % FOUR;
                packed[at] = weight;
            }
        }
    }
    packed
}

/// Addresses that all tiles of a convolution share. What else they share are arguments of their own, because
/// then the compiler knows that no store changes it.
#[derive(Clone, Copy)]
struct Addresses {
    /// The first of the weights, in the order of [`columns_of`].
    columns: *const i8,
    /// The input plane.
    from: *const i8,
    /// The output plane.
    to: *mut i8,
}

/// All pixels of a convolution.
type Run = unsafe fn(&PackedDepthwise, &Window<'_>, Addresses);

/// Depthwise convolution of weights that [`pack`] made.
///
/// # Safety
/// The CPU has dot products; the weights are for the window's shape and channels.
pub unsafe fn depthwise(packed: &PackedDepthwise, window: &mut Window<'_>) {
    let DepthwiseForm::Columns(columns) = &packed.form else {
        // SAFETY: every 64-bit ARM has NEON, and the caller guarantees weights for the window.
        return unsafe { neon_depthwise::depthwise(packed, window) };
    };
    let run: Run = match (packed.shape.kernel, packed.shape.stride) {
        (3, 1) => by_finish!(packed, three),
        (3, _) => by_finish!(packed, three_apart),
        (_, 1) => by_finish!(packed, five),
        _ => by_finish!(packed, five_apart),
    };
    let (from, to) = (window.input.as_ptr().cast(), window.output.as_mut_ptr().cast());
    // SAFETY: the caller guarantees dot products and weights for the window; `run` is for their shape, as
    // `pack` admits no other.
    unsafe { run(packed, window, Addresses { columns: columns.as_ptr(), from, to }) }
}

/// [`run`] of one shape.
macro_rules! shape {
    ($name:ident, $kernel:literal, $stride:literal) => {
        /// # Safety
        /// The CPU has dot products; `w` is of this shape, and for the window's channels; the addresses are
        /// theirs.
        #[target_feature(enable = "dotprod")]
        unsafe fn $name<const KIND: u8>(w: &PackedDepthwise, window: &Window<'_>, addresses: Addresses) {
            // SAFETY: the caller guarantees dot products, the shape and the addresses.
            unsafe { run::<KIND, $kernel, { groups($kernel) }, $stride>(w, window, addresses) }
        }
    };
}

shape!(three, 3, 1);
shape!(three_apart, 3, 2);
shape!(five, 5, 1);
shape!(five_apart, 5, 2);

/// All pixels, a chunk of some rows and sixteen channels at a time.
///
/// # Safety
/// The CPU has dot products; `w` is of a `K` × `K` window of stride `S` with `G` groups of rows, and for the
/// window's channels; the addresses are theirs.
#[inline(always)]
unsafe fn run<const KIND: u8, const K: usize, const G: usize, const S: usize>(
    w: &PackedDepthwise,
    window: &Window<'_>,
    addresses: Addresses,
) {
    let height = window.rows.len();
    let together = together(K, S);
    // `[group of rows][four channels][column][channel][row]`
    let mut quads = [0i8; 2 * GROUP_BYTES];
    for y in (0..height).step_by(together) {
        // Rows past the last one meet zero weights or sums that are not stored: any that can be read do.
        let row = |i: usize| window.from.first + (y * S + i).min((height - 1) * S + K - 1) * window.taps[K];
        let rows: [[usize; FOUR]; G] =
            std::array::from_fn(|group| std::array::from_fn(|i| row(group * FOUR + i)));
        for x in (0..window.width).step_by(CHUNK) {
            let across = CHUNK.min(window.width - x);
            let width = tile_width(across);
            for channel in (0..w.channels).step_by(BLOCK) {
                // SAFETY: each row is at a tap of an output row, and `(across - 1) * S + K` columns from `x *
                // S` on are those under the chunk's windows, so `Window::new` proved 64 bytes from `channel`
                // on at each. `quads` has room for `COLUMNS` columns of two groups, and no window has more
                // groups. Rows of outputs are below `height`.
                unsafe {
                    let input = addresses.from.add(x * S * window.taps[1] + channel);
                    for group in 0..G {
                        let to = quads.as_mut_ptr().add(group * GROUP_BYTES);
                        let columns = (across - 1) * S + K;
                        interleave(rows[group].map(|row| input.add(row)), window.taps[1], columns, to);
                    }
                    for output in 0..together.min(height - y) {
                        let to = addresses.to.add(window.to.at(y + output, x) + channel);
                        let (columns, quads) = (addresses.columns, quads.as_ptr());
                        let step = window.to.across;
                        let chunk = Chunk { output, channel, across, step, to, quads, columns };
                        match width {
                            8 => row_of_outputs::<KIND, K, G, S, 8>(w, chunk),
                            5 => row_of_outputs::<KIND, K, G, S, 5>(w, chunk),
                            _ => row_of_outputs::<KIND, K, G, S, 1>(w, chunk),
                        }
                    }
                }
            }
        }
    }
}

/// Sixteen channels of some outputs side by side.
#[derive(Clone, Copy)]
struct Chunk {
    /// Which of the rows whose windows lie in the same groups of rows.
    output: usize,
    /// The first channel.
    channel: usize,
    /// Outputs of the row.
    across: usize,
    /// Bytes from one output's codes to the next.
    step: usize,
    /// Where the first output's codes go.
    to: *mut i8,
    /// Columns under the chunk: `[group of rows][four channels][column][channel][row]`.
    quads: *const i8,
    /// The first of the weights, in the order of [`columns_of`].
    columns: *const i8,
}

/// Sixteen channels of a chunk, four at a time, `P` outputs a tile.
///
/// # Safety
/// As of [`run`]; the chunk is of the window, its quads were written, and it has at least `P` outputs.
#[inline(always)]
unsafe fn row_of_outputs<const KIND: u8, const K: usize, const G: usize, const S: usize, const P: usize>(
    w: &PackedDepthwise,
    chunk: Chunk,
) {
    let Chunk { output, channel, across, step, .. } = chunk;
    let block = channel / BLOCK * together(K, S) + output;
    for four in 0..FOUR.min((w.channels - channel) / FOUR) {
        let first = channel + four * FOUR;
        // SAFETY: `columns_of` made `K * G` registers of weights of each four channels, padded to whole
        // blocks of 16, and `Layer::packed` bias and multipliers of whole blocks. These four channels exist,
        // so `Window::new` proved that they may be written at each output of the chunk.
        unsafe {
            let line = chunk.columns.add((block * FOUR + four) * K * G * BLOCK);
            let at = |x: usize, group: usize| vld1q_s8(line.add((x * G + group) * BLOCK));
            let weights: [[int8x16_t; G]; K] =
                std::array::from_fn(|x| std::array::from_fn(|group| at(x, group)));
            let bias = vld1q_s32(w.bias.as_ptr().add(first));
            let codes = Codes::<KIND>::new(&w.requantise, first);
            let (quads, to) = (chunk.quads.add(four * COLUMNS * BLOCK), chunk.to.add(four * FOUR));
            let outputs = Outputs { quads, to, step, across };
            tiles::<KIND, K, G, S, P>(outputs, &weights, bias, &codes);
        }
    }
}

/// Pixels of a tile for `across` of them side by side: those for which the tiles overlap least.
fn tile_width(across: usize) -> usize {
    match across {
        ..5 => 1,
        5..8 => 5,
        _ if across.div_ceil(across.div_ceil(8)) > 5 => 8,
        _ => 5,
    }
}

/// Four channels of a chunk.
#[derive(Clone, Copy)]
struct Outputs {
    /// Their columns in the first group of rows.
    quads: *const i8,
    /// Where the first output's codes go.
    to: *mut i8,
    /// Bytes from one output's codes to the next.
    step: usize,
    /// How many outputs there are.
    across: usize,
}

/// Four channels of all outputs of a chunk, `P` outputs at a time.
///
/// # Safety
/// The CPU has dot products; the outputs' quads can be read and their codes written; there are at least `P`
/// outputs.
#[inline(always)]
unsafe fn tiles<const KIND: u8, const K: usize, const G: usize, const S: usize, const P: usize>(
    outputs: Outputs,
    weights: &[[int8x16_t; G]; K],
    bias: int32x4_t,
    codes: &Codes<KIND>,
) {
    for tile in 0..outputs.across.div_ceil(P) {
        // The last tile goes over outputs of the one before it.
        let x = (P * tile).min(outputs.across - P);
        // SAFETY: `x + P` is at most `across`, and the caller guarantees the quads and codes of that many
        // outputs.
        unsafe {
            let sums = sums::<K, G, S, P>(outputs.quads.add(x * S * BLOCK), weights, bias);
            store(codes, sums, outputs.to.add(x * outputs.step), outputs.step);
        }
    }
}

/// Sixteen channels of four rows, side by side, of some columns `step` bytes apart.
///
/// # Safety
/// Sixteen codes can be read at each column of each row, and the quads of as many columns written at `to`;
/// `columns` is not 0.
#[inline(always)]
unsafe fn interleave(rows: [*const i8; FOUR], step: usize, columns: usize, to: *mut i8) {
    // SAFETY: `column` stays below `columns`, and the caller guarantees codes and room for that many. Two
    // columns of the same four channels lie side by side.
    unsafe {
        let quads = |column: usize| {
            let [a, b, c, d] = rows.map(|row| vld1q_s8(row.add(column * step)));
            let pair = |a, b| [vreinterpretq_s16_s8(vzip1q_s8(a, b)), vreinterpretq_s16_s8(vzip2q_s8(a, b))];
            let (upper, lower) = (pair(a, b), pair(c, d));
            let quad = |i: usize| {
                let (upper, lower) = (upper[i / 2], lower[i / 2]);
                if i.is_multiple_of(2) { vzip1q_s16(upper, lower) } else { vzip2q_s16(upper, lower) }
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
/// The CPU has dot products, and the quads of all columns under the pixels can be read.
#[inline(always)]
unsafe fn sums<const K: usize, const G: usize, const S: usize, const P: usize>(
    quads: *const i8,
    weights: &[[int8x16_t; G]; K],
    bias: int32x4_t,
) -> [int32x4_t; P] {
    let mut sums = [bias; P];
    macro_rules! columns {
        ($($column:literal)*) => {
            // SAFETY: `column` reads only columns under the pixels, whose quads the caller guarantees, as it
            // does dot products.
            $(unsafe { column::<$column, K, G, S, P>(&mut sums, quads, weights) };)*
        };
    }
    columns!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18);
    const { assert!((P - 1) * S + K <= 19) };
    sums
}

/// The part of column `C` in the sums of all pixels that it reaches; nothing if it is under none.
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
        // SAFETY: column `C` is under the pixels, so the caller guarantees its quads in each of the `G`
        // groups of rows.
        let quad = unsafe { vld1q_s8(quads.add(group * GROUP_BYTES + C * BLOCK)) };
        for (pixel, sum) in sums.iter_mut().enumerate() {
            if C >= pixel * S && C - pixel * S < K {
                // SAFETY: the caller guarantees dot products.
                *sum = unsafe { dot(*sum, weights[C - pixel * S][group], quad) };
            }
        }
    }
}

/// Codes of four channels of `P` pixels, `step` bytes apart.
///
/// # Safety
/// Four codes may be written at each pixel.
#[inline(always)]
unsafe fn store<const KIND: u8, const P: usize>(
    codes: &Codes<KIND>,
    sums: [int32x4_t; P],
    to: *mut i8,
    step: usize,
) {
    // SAFETY: `pixel` stays below `P`, and the caller guarantees four codes at each.
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
