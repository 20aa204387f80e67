//! 3 × 3 convolutions of stride 1 by Winograd's F(4 × 4, 3 × 3), for 64-bit ARM without dot products: a quarter of the multiplications.
//!
//! Exact, so it gives the oracle's bytes: the transforms are of whole numbers, weights times what makes them whole, and all sums are modulo
//! 2^32. What comes out is the sum times 9 and a power of two of at most 2^6, modulo 2^32; a multiplication by the inverse of 9 and a shift
//! give the sum itself as long as it is below 2^25, as sums of [`MAX_INPUTS`] are. Transformed codes and weights fit 16 bits: codes grow at
//! most 100-fold (12,800), weights at most 49-fold (6,272).
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::neon_finish::{Epilogue, Finish, by_kind, kind};
use super::plane::{View, ViewMut, Window};
use super::tiles::Tile;
use super::weights::{ConvShape, PackedConv};
use std::arch::aarch64::*;
use std::mem::MaybeUninit;

/// Side of the square of outputs that one transform gives, and of the square of inputs it takes.
const SIDE: usize = 4;
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

/// Whether a convolution over `pixels` pixels may go this way and gains by it.
pub fn fits(shape: ConvShape, inputs: usize, pixels: usize) -> bool {
    (shape.kernel, shape.stride) == (3, 1) && inputs.is_multiple_of(8) && inputs <= MAX_INPUTS && pixels >= MIN_PIXELS
}

/// Weights times the common denominator of each point: 0, 1, -1, 2, -2 and infinity.
const POINTS: [[i32; 3]; REACH] = [[1, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4], [0, 0, 1]];

/// `[block of 8 outputs][position][input][8]`, from `weight(output, input, tap)`.
pub fn pack(inputs: usize, outputs: usize, weight: impl Fn(usize, usize, usize) -> i8) -> Vec<i16> {
    let mut packed = vec![0; outputs.div_ceil(OUTPUTS) * POSITIONS * inputs * OUTPUTS];
    for output in 0..outputs {
        for input in 0..inputs {
            for position in 0..POSITIONS {
                let (down, across) = (POINTS[position / REACH], POINTS[position % REACH]);
                let product = |tap: usize| down[tap / 3] * across[tap % 3] * i32::from(weight(output, input, tap));
                let at = ((output / OUTPUTS * POSITIONS + position) * inputs + input) * OUTPUTS + output % OUTPUTS;
                packed[at] = (0..9).map(product).sum::<i32>() as i16;
            }
        }
    }
    packed
}

pub fn conv(weights: &PackedConv, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let (from, to) = (input.data.as_ptr().cast(), output.data.as_mut_ptr().cast());
    let run: unsafe fn(&PackedConv, &Window, *const i8, *mut i8) = by_kind!(weights, run);
    // SAFETY: the window proved the planes.
    unsafe { run(weights, window, from, to) }
}

/// # Safety
/// `window` is of the planes `from` and `to`.
unsafe fn run<const KIND: u8>(weights: &PackedConv, window: &Window, from: *const i8, to: *mut i8) {
    let (height, width) = (window.size.0.len(), window.size.1);
    let across = width.div_ceil(SIDE);
    let all = height.div_ceil(SIDE) * across;
    let eights = weights.inputs / 8;
    // `[position][input / 8][tile][8]` and `[position][tile][8 outputs]`.
    let mut codes = MaybeUninit::<[i16; POSITIONS * TILES * MAX_INPUTS]>::uninit();
    let mut products = MaybeUninit::<[i32; POSITIONS * TILES * OUTPUTS]>::uninit();
    let (codes, products) = (codes.as_mut_ptr().cast::<i16>(), products.as_mut_ptr().cast::<i32>());
    let multiply = POSITIONS * eights * 8 * OUTPUTS;
    for first in (0..all).step_by(TILES) {
        let tiles = TILES.min(all - first);
        for tile in 0..tiles {
            let (y, x) = ((first + tile) / across * SIDE, (first + tile) % across * SIDE);
            // Codes beyond the window's reach are only parts of outputs that are not stored: any that can be read do.
            let rows = std::array::from_fn(|i| window.input.0 + (y + i).min(height + 1) * window.taps[3]);
            let columns = std::array::from_fn(|i| (x + i).min(width + 1) * window.taps[1]);
            for eight in 0..eights {
                // SAFETY: rows and columns are the window's own; `codes` has room for `MAX_INPUTS`.
                unsafe { transform(from.add(8 * eight), &rows, &columns, codes.add((eight * TILES + tile) * 8), eights * TILES * 8) };
            }
        }
        for channel in (0..weights.outputs).step_by(OUTPUTS) {
            // SAFETY: weights are packed for whole blocks, bias and multipliers padded to them; only pixels of the plane are stored.
            unsafe {
                let block = weights.winograd.as_ptr().add(channel / OUTPUTS * multiply);
                for position in 0..POSITIONS {
                    let codes = codes.add(position * eights * TILES * 8);
                    multiply_tiles(codes, block.add(position * eights * 64), eights, products.add(position * TILES * OUTPUTS));
                }
                let finish = Finish::new(&weights.requantise, channel, weights.outputs);
                let bias = std::array::from_fn(|q| vld1q_s32(weights.flipped_bias.as_ptr().add(channel + 4 * q)));
                for tile in 0..tiles {
                    let (y, x) = ((first + tile) / across * SIDE, (first + tile) % across * SIDE);
                    let sums = restore(products.add(tile * OUTPUTS), bias);
                    for (i, sums) in sums.iter().enumerate().take(height - y) {
                        let row = to.add(window.output.0 + (y + i) * window.output.1 + channel);
                        let at = Tile { from: std::ptr::null(), across: 0, to: row.add(x * window.output.2), out: window.output.2 };
                        if width - x >= SIDE {
                            Epilogue::<2, KIND>::store_all(&finish, sums, at);
                        } else {
                            (0..width - x).for_each(|j| Epilogue::<2, KIND>::store_all(&finish, &[sums[j]], at.after(j)));
                        }
                    }
                }
            }
        }
    }
}

/// One dimension of the transform of codes.
#[inline(always)]
fn spread(d: [int16x8_t; REACH]) -> [int16x8_t; REACH] {
    // SAFETY: registers only; every aarch64 has these.
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
unsafe fn transform(from: *const i8, rows: &[usize; REACH], columns: &[usize; REACH], to: *mut i16, step: usize) {
    // SAFETY: the caller's word.
    unsafe {
        let code = |i: usize, j: usize| vmovl_s8(vld1_s8(from.add(rows[i] + columns[j])));
        let down: [[int16x8_t; REACH]; REACH] = std::array::from_fn(|j| spread(std::array::from_fn(|i| code(i, j))));
        for i in 0..REACH {
            for (j, value) in spread(std::array::from_fn(|j| down[j][i])).into_iter().enumerate() {
                vst1q_s16(to.add((i * REACH + j) * step), value);
            }
        }
    }
}

/// Twenty multiplications of eight weights by one input of ten tiles.
macro_rules! input {
    ($weights:literal, $lane:literal) => {
        input!($weights, $lane; 0 12 13, 1 14 15, 2 16 17, 3 18 19, 4 20 21, 5 22 23, 6 24 25, 7 26 27, 8 28 29, 9 30 31)
    };
    ($weights:literal, $lane:literal; $($codes:literal $low:literal $high:literal),*) => {
        concat!($(
            "smlal v", $low, ".4s, v", $weights, ".4h, v", $codes, ".h[", $lane, "]\n",
            "smlal2 v", $high, ".4s, v", $weights, ".8h, v", $codes, ".h[", $lane, "]\n",
        )*)
    };
}

/// Ten tiles times eight outputs at one position, over all inputs. In one piece, because the compiler would spill sums.
///
/// # Safety
/// `codes`: `[eights][10][8]`, `weights`: `[eights][8][8]`, `to`: `[10][8]`.
#[inline(always)]
unsafe fn multiply_tiles(codes: *const i16, weights: *const i16, eights: usize, to: *mut i32) {
    // SAFETY: the caller's word. Tiles past the last give numbers that nobody reads.
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
            "stp q12, q13, [{to}]", "stp q14, q15, [{to}, #32]", "stp q16, q17, [{to}, #64]", "stp q18, q19, [{to}, #96]",
            "stp q20, q21, [{to}, #128]", "stp q22, q23, [{to}, #160]", "stp q24, q25, [{to}, #192]", "stp q26, q27, [{to}, #224]",
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
    // SAFETY: registers only; every aarch64 has these.
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

/// Sums of eight outputs of a tile's sixteen pixels from its products.
///
/// # Safety
/// Eight products can be read at each position.
#[inline(always)]
unsafe fn restore(products: *const i32, bias: [int32x4_t; 2]) -> [[[int32x4_t; 2]; SIDE]; SIDE] {
    /// Powers of two in what [`gather`] gives.
    const SHIFTS: [i32; SIDE] = [3, 2, 1, 1];
    const INVERSE_OF_NINE: i32 = 0x38e3_8e39;
    // SAFETY: the caller's word.
    unsafe {
        let mut sums = [[bias; SIDE]; SIDE];
        for q in 0..2 {
            let product = |i: usize, j: usize| vld1q_s32(products.add((i * REACH + j) * TILES * OUTPUTS + 4 * q));
            let down: [[int32x4_t; SIDE]; REACH] = std::array::from_fn(|j| gather(std::array::from_fn(|i| product(i, j))));
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
