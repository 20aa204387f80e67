//! 3 × 3 convolutions of stride 1 by Winograd's F(4 × 4, 3 × 3), for NEON without dot products: a quarter of
//! the multiplications.
//!
//! It is exact, so it gives the oracle's bytes: the transforms are of whole numbers, weights are multiplied
//! by what makes them whole, and all sums are modulo 2^32. What comes out is the sum times 9 and a power of
//! two of at most 2^6, modulo 2^32; a multiplication by the inverse of 9 and a shift give the sum itself as
//! long as it is below 2^25, as sums of [`MAX_INPUTS`] are. Transformed codes and weights fit 16 bits: codes
//! grow at most 100-fold (12,800), weights at most 49-fold (6,272).
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::finish::by_finish;
use super::neon_finish::{Epilogue, Finish};
use super::pack::Layer;
use super::plane::Window;
use super::tiles::Tile;
use super::weights::PackedConv;
use std::arch::aarch64::*;
use std::mem::MaybeUninit;

/// Side of the square of outputs that one transform gives.
const SIDE: usize = 4;
/// Side of the square of inputs that it takes.
const REACH: usize = SIDE + 2;
/// Products of transformed codes and weights, each a matrix of its own.
const POSITIONS: usize = REACH * REACH;
/// Tiles whose sums fill the registers, and which are transformed together.
const TILES: usize = 10;
/// Outputs of a block.
const OUTPUTS: usize = 8;
/// Most inputs: the transformed codes of ten tiles lie on the stack, 92 KB of them.
const MAX_INPUTS: usize = 128;
/// Fewest output pixels for which the larger weights pay.
const MIN_PIXELS: usize = 64;

const _: () = assert!(MAX_INPUTS * 9 * 128 * 128 < 1 << 25);

/// Whether a layer may go this way and gains by it.
pub fn fits(layer: &Layer<'_>) -> bool {
    (layer.shape.kernel, layer.shape.stride) == (3, 1)
        && layer.inputs.is_multiple_of(8)
        && layer.inputs <= MAX_INPUTS
        && layer.pixels >= MIN_PIXELS
}

/// Weights times the common denominator of each point: 0, 1, -1, 2, -2 and infinity.
const POINTS: [[i32; 3]; REACH] = [[1, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4], [0, 0, 1]];

/// Transformed weights, `[block of 8 outputs][position][input][8]`.
pub fn weights(layer: &Layer<'_>) -> Vec<i16> {
    let (inputs, outputs) = (layer.inputs, layer.rows.len());
    let mut transformed = vec![0; outputs.div_ceil(OUTPUTS) * POSITIONS * inputs * OUTPUTS];
    for (output, row) in layer.rows.iter().enumerate() {
        for (input, weights) in row.chunks_exact(9).enumerate() {
            for position in 0..POSITIONS {
                let (down, across) = (POINTS[position / REACH], POINTS[position % REACH]);
                let product = |tap: usize| down[tap / 3] * across[tap % 3] * i32::from(weights[tap]);
                let at =
                    ((output / OUTPUTS * POSITIONS + position) * inputs + input) * OUTPUTS + output % OUTPUTS;
                transformed[at] = (0..9).map(product).sum::<i32>() as i16;
            }
        }
    }
    transformed
}

/// Convolution of weights that [`weights`] transformed.
///
/// # Safety
/// The weights are for the window's shape and channels, and `transformed` are these weights.
pub unsafe fn conv(packed: &PackedConv, transformed: &[i16], window: &mut Window<'_>) {
    let (from, to) = (window.input.as_ptr().cast(), window.output.as_mut_ptr().cast());
    let run: unsafe fn(&Job<'_>) = by_finish!(packed, run);
    // SAFETY: the caller guarantees the weights, and the pointers are to the window's planes.
    unsafe { run(&Job { packed, transformed, window, eights: packed.inputs / 8, from, to }) }
}

/// What all tiles of a convolution share.
struct Job<'a> {
    packed: &'a PackedConv,
    transformed: &'a [i16],
    window: &'a Window<'a>,
    /// Inputs by eights.
    eights: usize,
    from: *const i8,
    to: *mut i8,
}

/// At most [`TILES`] tiles that are worked together, numbered row by row over the window.
#[derive(Clone, Copy)]
struct Group {
    /// Number of the first tile.
    first: usize,
    count: usize,
    /// Tiles of a row.
    across: usize,
}

impl Group {
    /// Row and column of the first output of a tile of the group.
    #[inline(always)]
    fn output(self, tile: usize) -> (usize, usize) {
        ((self.first + tile) / self.across * SIDE, (self.first + tile) % self.across * SIDE)
    }
}

/// Convolution by groups of tiles: codes to positions, products of each position, and back.
///
/// # Safety
/// The job's weights are for its window's shape and channels, and its pointers to the window's planes.
unsafe fn run<const KIND: u8>(job: &Job<'_>) {
    let across = job.window.width.div_ceil(SIDE);
    let all = job.window.rows.len().div_ceil(SIDE) * across;
    // `[position][input / 8][tile][8]` and `[position][tile][8 outputs]`.
    let mut codes = MaybeUninit::<[i16; POSITIONS * TILES * MAX_INPUTS]>::uninit();
    let mut products = MaybeUninit::<[i32; POSITIONS * TILES * OUTPUTS]>::uninit();
    let (codes, products) = (codes.as_mut_ptr().cast::<i16>(), products.as_mut_ptr().cast::<i32>());
    for first in (0..all).step_by(TILES) {
        let group = Group { first, count: TILES.min(all - first), across };
        // SAFETY: the group's tiles are below `all`, and `codes` has room for ten tiles of the most inputs
        // that `fits` admits.
        unsafe { transform_codes(job, group, codes) };
        for channel in (0..job.packed.outputs).step_by(OUTPUTS) {
            // SAFETY: `channel` begins a block of eight outputs, `codes` are the group's, and `products` has
            // room for ten tiles.
            unsafe {
                multiply(job, channel, codes, products);
                store::<KIND>(job, group, channel, products);
            }
        }
    }
}

/// Transforms the codes under a group's tiles.
///
/// # Safety
/// The group's tiles are of the job's window; `codes` has room for [`POSITIONS`] times [`TILES`] times the
/// job's inputs.
#[inline(always)]
unsafe fn transform_codes(job: &Job<'_>, group: Group, codes: *mut i16) {
    let (window, eights) = (job.window, job.eights);
    let (height, width) = (window.rows.len(), window.width);
    for tile in 0..group.count {
        let (y, x) = group.output(tile);
        // Codes beyond the window's reach only get into outputs that are not stored, so any that can be read
        // do.
        let rows = std::array::from_fn(|i| window.from.first + (y + i).min(height + 1) * window.taps[3]);
        let columns = std::array::from_fn(|i| (x + i).min(width + 1) * window.taps[1]);
        for eight in 0..eights {
            // SAFETY: a window of 3 × 3 reaches two rows and columns past its first, so each row and column
            // is at a tap of an output pixel, where `Window::new` proved all inputs readable. `eight` and
            // `tile` are below what the caller guarantees room for, at each position.
            unsafe {
                let to = codes.add((eight * TILES + tile) * 8);
                transform(job.from.add(8 * eight), &rows, &columns, to, eights * TILES * 8);
            }
        }
    }
}

/// One dimension of the transform of codes.
#[inline(always)]
fn spread(d: [int16x8_t; REACH]) -> [int16x8_t; REACH] {
    // SAFETY: these intrinsics touch registers only, and every 64-bit ARM has them.
    unsafe {
        let (four, five) = (vdupq_n_s16(4), vdupq_n_s16(5));
        let (even, odd) = (vmlsq_s16(d[4], d[2], four), vmlsq_s16(d[3], d[1], four));
        let (second, third) = (vsubq_s16(d[4], d[2]), vsubq_s16(d[3], d[1]));
        let third = vaddq_s16(third, third);
        [
            vmlsq_s16(vmlaq_s16(d[4], d[0], four), d[2], five),
            vaddq_s16(even, odd),
            vsubq_s16(even, odd),
            vaddq_s16(second, third),
            vsubq_s16(second, third),
            vmlsq_s16(vmlaq_s16(d[5], d[1], four), d[3], five),
        ]
    }
}

/// Eight channels of a tile's codes, transformed, to each position's matrix, `step` numbers apart.
///
/// # Safety
/// Eight codes can be read at each row and column, and eight numbers written at each position.
#[inline(always)]
unsafe fn transform(
    from: *const i8,
    rows: &[usize; REACH],
    columns: &[usize; REACH],
    to: *mut i16,
    step: usize,
) {
    // SAFETY: the caller guarantees the codes at each row and column and the numbers at each of the 36
    // positions.
    unsafe {
        let code = |i: usize, j: usize| vmovl_s8(vld1_s8(from.add(rows[i] + columns[j])));
        let down: [[int16x8_t; REACH]; REACH] =
            std::array::from_fn(|j| spread(std::array::from_fn(|i| code(i, j))));
        for i in 0..REACH {
            for (j, value) in spread(std::array::from_fn(|j| down[j][i])).into_iter().enumerate() {
                vst1q_s16(to.add((i * REACH + j) * step), value);
            }
        }
    }
}

/// Products of ten tiles' codes with a block of outputs, position by position.
///
/// # Safety
/// `channel` begins a block of eight outputs; `codes` has room for ten tiles of the job's inputs, `products`
/// for those of ten tiles.
#[inline(always)]
unsafe fn multiply(job: &Job<'_>, channel: usize, codes: *const i16, products: *mut i32) {
    let eights = job.eights;
    // SAFETY: `weights` made `eights * 64` numbers of each position of each block. Codes and products of each
    // position are in the room that the caller guarantees; those of tiles that the group does not have are
    // whatever was there.
    unsafe {
        let block = job.transformed.as_ptr().add(channel / OUTPUTS * POSITIONS * eights * 8 * OUTPUTS);
        for position in 0..POSITIONS {
            let codes = codes.add(position * eights * TILES * 8);
            let products = products.add(position * TILES * OUTPUTS);
            multiply_tiles(codes, block.add(position * eights * 64), eights, products);
        }
    }
}

/// Twenty multiplications of eight weights by one input of ten tiles.
macro_rules! input {
    ($weights:literal, $lane:literal) => {
        input!($weights, $lane; 0 12 13, 1 14 15, 2 16 17, 3 18 19, 4 20 21,
            5 22 23, 6 24 25, 7 26 27, 8 28 29, 9 30 31)
    };
    ($weights:literal, $lane:literal; $($codes:literal $low:literal $high:literal),*) => {
        concat!($(
            "smlal v", $low, ".4s, v", $weights, ".4h, v", $codes, ".h[", $lane, "]\n",
            "smlal2 v", $high, ".4s, v", $weights, ".8h, v", $codes, ".h[", $lane, "]\n",
        )*)
    };
}

/// Ten tiles times eight outputs at one position, over all inputs. It is one piece of assembly, because the
/// compiler would spill sums.
///
/// # Safety
/// `codes` are `[eights][10][8]`, `weights` are `[eights][8][8]`, and `to` has room for `[10][8]`; `eights`
/// is not 0.
#[inline(always)]
unsafe fn multiply_tiles(codes: *const i16, weights: *const i16, eights: usize, to: *mut i32) {
    // SAFETY: each of the `eights` steps reads 160 bytes of codes and 128 of weights, and 320 bytes of
    // products are written at the end: what the caller guarantees. Tiles that the group does not have give
    // numbers that nobody reads.
    unsafe {
        std::arch::asm!(
            "movi v12.4s, #0", "movi v13.4s, #0", "movi v14.4s, #0", "movi v15.4s, #0", "movi v16.4s, #0",
            "movi v17.4s, #0", "movi v18.4s, #0", "movi v19.4s, #0", "movi v20.4s, #0", "movi v21.4s, #0",
            "movi v22.4s, #0", "movi v23.4s, #0", "movi v24.4s, #0", "movi v25.4s, #0", "movi v26.4s, #0",
            "movi v27.4s, #0", "movi v28.4s, #0", "movi v29.4s, #0", "movi v30.4s, #0", "movi v31.4s, #0",
            "2:",
            "ldp q10, q11, [{w}], #128",
            "ldp q0, q1, [{x}], #160",
            "ldp q2, q3, [{x}, #-128]",
            "ldp q4, q5, [{x}, #-96]",
            "ldp q6, q7, [{x}, #-64]",
            "ldp q8, q9, [{x}, #-32]",
            input!(10, 0),
            input!(11, 1),
            "ldp q10, q11, [{w}, #-96]",
            input!(10, 2),
            input!(11, 3),
            "ldp q10, q11, [{w}, #-64]",
            input!(10, 4),
            input!(11, 5),
            "ldp q10, q11, [{w}, #-32]",
            input!(10, 6),
            input!(11, 7),
            "subs {n}, {n}, #1",
            "b.ne 2b",
            "stp q12, q13, [{to}]", "stp q14, q15, [{to}, #32]",
            "stp q16, q17, [{to}, #64]", "stp q18, q19, [{to}, #96]",
            "stp q20, q21, [{to}, #128]", "stp q22, q23, [{to}, #160]",
            "stp q24, q25, [{to}, #192]", "stp q26, q27, [{to}, #224]",
            "stp q28, q29, [{to}, #256]", "stp q30, q31, [{to}, #288]",
            w = inout(reg) weights => _, x = inout(reg) codes => _, n = inout(reg) eights => _, to = in(reg) to,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack)
        );
    }
}

/// One dimension of the way back; the four results are 24, 12, 6 and 6 times what they stand for.
#[inline(always)]
fn gather(m: [int32x4_t; REACH]) -> [int32x4_t; SIDE] {
    // SAFETY: these intrinsics touch registers only, and every 64-bit ARM has them.
    unsafe {
        let (both, apart) = (vaddq_s32(m[1], m[2]), vsubq_s32(m[1], m[2]));
        let (both_far, apart_far) = (vaddq_s32(m[3], m[4]), vsubq_s32(m[3], m[4]));
        let six = |m: int32x4_t| vaddq_s32(vshlq_n_s32::<1>(m), vshlq_n_s32::<2>(m));
        [
            vaddq_s32(vsubq_s32(six(m[0]), vshlq_n_s32::<2>(both)), both_far),
            vsubq_s32(apart_far, vaddq_s32(apart, apart)),
            vsubq_s32(both_far, both),
            vaddq_s32(vsubq_s32(six(m[5]), apart), vaddq_s32(apart_far, apart_far)),
        ]
    }
}

/// Codes of a block of outputs from the products of a group.
///
/// # Safety
/// `channel` begins a block of eight outputs, and `products` are those of the group's tiles with it.
#[inline(always)]
unsafe fn store<const KIND: u8>(job: &Job<'_>, group: Group, channel: usize, products: *const i32) {
    let (w, window) = (job.packed, job.window);
    let (height, width) = (window.rows.len(), window.width);
    // SAFETY: `Layer::packed` made bias and multipliers of whole blocks of 16. A code is stored only at a row
    // and column within the window; `Finish` knows how many of the eight outputs there are, and `Window::new`
    // proved that these may be written.
    unsafe {
        let finish = Finish::new(&w.requantise, channel, w.outputs);
        let bias = std::array::from_fn(|q| vld1q_s32(w.bias.as_ptr().add(channel + 4 * q)));
        for tile in 0..group.count {
            let (y, x) = group.output(tile);
            let sums = restore(products.add(tile * OUTPUTS), bias);
            for (i, sums) in sums.iter().enumerate().take(height - y) {
                let to = job.to.add(window.to.at(y + i, x) + channel);
                let at = Tile { from: std::ptr::null(), across: 0, to, out: window.to.across };
                if width - x >= SIDE {
                    Epilogue::<2, KIND>::store_all(&finish, sums, at);
                } else {
                    (0..width - x)
                        .for_each(|j| Epilogue::<2, KIND>::store_all(&finish, &[sums[j]], at.after(j)));
                }
            }
        }
    }
}

/// Sums of eight outputs of a tile's sixteen pixels from its products.
///
/// # Safety
/// Eight products can be read at each position.
#[inline(always)]
unsafe fn restore(products: *const i32, bias: [int32x4_t; 2]) -> [[[int32x4_t; 2]; SIDE]; SIDE] {
    /// Powers of two in what [`gather`] gives.
    const SHIFTS: [i32; SIDE] = [3, 2, 1, 1];
    const INVERSE_OF_NINE: i32 = 0x38e3_8e39;
    // SAFETY: the caller guarantees the eight products of each position, of which four are read from `4 * q`
    // on.
    unsafe {
        let mut sums = [[bias; SIDE]; SIDE];
        for q in 0..2 {
            let product =
                |i: usize, j: usize| vld1q_s32(products.add((i * REACH + j) * TILES * OUTPUTS + 4 * q));
            let down: [[int32x4_t; SIDE]; REACH] =
                std::array::from_fn(|j| gather(std::array::from_fn(|i| product(i, j))));
            for i in 0..SIDE {
                for (j, sum) in gather(std::array::from_fn(|j| down[j][i])).into_iter().enumerate() {
                    let shift = vdupq_n_s32(-(SHIFTS[i] + SHIFTS[j]));
                    sums[i][j][q] = vaddq_s32(bias[q], vshlq_s32(vmulq_n_s32(sum, INVERSE_OF_NINE), shift));
                }
            }
        }
        sums
    }
}
