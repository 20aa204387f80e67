//! NEON without dot products (Cortex-A53 and A72, and every other 64-bit ARM) and with them (Cortex-A76).
//!
//! Planes hold codes moved down to s8 (`Isa::flip`), as SMULL and SDOT take them with the weights. Two products fit 16 bits unless a weight
//! is -128 (2 * 128 * 128 = 2^15), so weights without it are multiplied two steps at a time (SMULL, SMLAL) before they are widened (SADALP).
//! The 128 that each code lost is given back through the sum of the weights, which is part of the bias here.
//!
//! Each `unsafe` block rests on the facts that `x86.rs` names: the CPU has NEON (every aarch64 has), and `Window::new` proved the planes.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::Sum;
use super::pack::{BLOCK, PackedConv, PackedDepthwise, Requantise, pair_bytes};
use super::plane::{Pixels, View, ViewMut, Window};
use std::arch::aarch64::*;

/// What every tile of one convolution shares.
struct Job<'a> {
    weights: &'a PackedConv,
    window: &'a Window,
    input: *const i8,
    output: *mut i8,
}

/// Bytes of input that a pass over all outputs covers: what stays in the first cache of the smallest core beside the weights of a block.
const PASS: usize = 16 << 10;

/// Runs tiles of `$wide` pixels of output rows `$rows` through `$tile`, and what is left one by one.
macro_rules! by_tiles {
    ($window:expr, $rows:expr, $wide:ident, $tile:ident [$($generic:tt),*] ($($argument:expr),*)) => {{
        let mut left = $rows.len() * $window.size.1;
        let mut pixels = Pixels::from_row($window, $rows.start);
        while left >= $wide {
            $tile::<$wide, $($generic),*>($($argument,)* &pixels.take());
            left -= $wide;
        }
        while left > 0 {
            $tile::<1, $($generic),*>($($argument,)* &pixels.take());
            left -= 1;
        }
    }};
}

/// Output rows in groups whose input fits a pass.
fn passes(window: &Window) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
    let rows = window.size.0.clone();
    let group = (PASS / window.input.1.max(1)).max(1);
    rows.clone().step_by(group).map(move |start| start..rows.end.min(start + group))
}

pub fn conv(weights: &PackedConv, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let job = Job { weights, window, input: input.data.as_ptr().cast(), output: output.data.as_mut_ptr().cast() };
    let (block, width) = match (weights.pairs.is_empty(), leaky(&weights.requantise)) {
        (true, true) => (block_wide::<PIXELS, true> as Block, BLOCK),
        (true, false) => (block_wide::<PIXELS, false> as Block, BLOCK),
        (false, true) => (block::<PIXELS, true> as Block, 8),
        (false, false) => (block::<PIXELS, false> as Block, 8),
    };
    for rows in passes(window) {
        for channel in (0..weights.outputs).step_by(width) {
            // SAFETY: see the module's words.
            unsafe { block(&job, &rows, channel) };
        }
    }
}

/// Some outputs, from a channel on, of some rows.
type Block = unsafe fn(&Job<'_>, &std::ops::Range<usize>, usize);

pub(super) fn leaky(requantise: &Requantise) -> bool {
    requantise.slope != 1.0
}

type Offsets<const P: usize> = ([usize; P], [usize; P]);

unsafe fn block<const P: usize, const LEAKY: bool>(job: &Job<'_>, rows: &std::ops::Range<usize>, channel: usize) {
    // SAFETY: as the caller's.
    unsafe { by_tiles!(job.window, rows, P, tile[LEAKY](job, channel)) }
}

unsafe fn block_wide<const P: usize, const LEAKY: bool>(job: &Job<'_>, rows: &std::ops::Range<usize>, channel: usize) {
    // SAFETY: as the caller's.
    unsafe { by_tiles!(job.window, rows, P, tile_wide[LEAKY](job, channel)) }
}

/// Eight outputs of `P` pixels, sixteen inputs a step: SMULL of the first eight, SMLAL2 of the others, SADALP into four partial sums of
/// each output.
#[inline]
unsafe fn tile<const P: usize, const LEAKY: bool>(job: &Job<'_>, channel: usize, (from, to): &Offsets<P>) {
    let w = job.weights;
    // SAFETY: blocks of weights and bias are whole; pixels are proved by the window, and what is read past an input's last channel meets
    // zero weights; stores are cut to the channels.
    unsafe {
        let codes = |p: usize, at: usize| vld1q_s8(job.input.add(from[p] + at));
        let mut line = w.pairs.as_ptr().add(channel / 8 * job.window.taps.len() * pair_bytes(w.inputs));
        let mut sums = [[vdupq_n_s32(0); 8]; P];
        let half = matches!(w.inputs % 16, 1..=8);
        let whole = w.inputs.div_ceil(16) - usize::from(half);
        for &offset in job.window.taps.iter() {
            for step in 0..whole {
                let x: [int8x16_t; P] = std::array::from_fn(|p| codes(p, offset + 16 * step));
                for o in 0..8 {
                    multiply(&mut sums, o, vld1q_s8(line.add(16 * o)), &x);
                }
                line = line.add(128);
            }
            if half {
                let x: [int8x16_t; P] = std::array::from_fn(|p| codes(p, offset + 16 * whole));
                for o in (0..8).step_by(2) {
                    // Two outputs' eight weights in one load.
                    multiply_halves(&mut sums, o, vld1q_s8(line.add(8 * o)), &x);
                }
                line = line.add(64);
            }
        }
        let count = (w.outputs - channel).min(8);
        let bias: [int32x4_t; 2] = std::array::from_fn(|q| vld1q_s32(w.flipped_bias.as_ptr().add(channel + 4 * q)));
        let epilogue = Epilogue::<2, LEAKY>::new(&w.requantise, channel);
        for p in 0..P {
            let four = |o: usize| vpaddq_s32(vpaddq_s32(sums[p][o], sums[p][o + 1]), vpaddq_s32(sums[p][o + 2], sums[p][o + 3]));
            epilogue.store([vaddq_s32(four(0), bias[0]), vaddq_s32(four(4), bias[1])], job.output.add(to[p] + channel), count);
        }
    }
}

/// Pixels of a tile for SMULL: their sums fill half of the registers. With three the compiler spills some, which costs more than the
/// loads saved.
const PIXELS: usize = 2;

/// Sixteen products of output `o` and each pixel, into its four partial sums. Two pixels are written as one block, because a compiler
/// that may reorder puts all products first and spills the sums.
#[inline(always)]
fn multiply<const P: usize>(sums: &mut [[int32x4_t; 8]; P], o: usize, column: int8x16_t, x: &[int8x16_t; P]) {
    // SAFETY: registers only; every aarch64 has these.
    unsafe {
        if P == PIXELS {
            std::arch::asm!(
                "smull {t0:v}.8h, {w:v}.8b, {x0:v}.8b",
                "smull {t1:v}.8h, {w:v}.8b, {x1:v}.8b",
                "smlal2 {t0:v}.8h, {w:v}.16b, {x0:v}.16b",
                "smlal2 {t1:v}.8h, {w:v}.16b, {x1:v}.16b",
                "sadalp {s0:v}.4s, {t0:v}.8h",
                "sadalp {s1:v}.4s, {t1:v}.8h",
                w = in(vreg) column, x0 = in(vreg) x[0], x1 = in(vreg) x[1],
                s0 = inout(vreg) sums[0][o], s1 = inout(vreg) sums[1][o],
                t0 = out(vreg) _, t1 = out(vreg) _,
                options(pure, nomem, nostack, preserves_flags)
            );
        } else {
            for p in 0..P {
                let products = vmlal_high_s8(vmull_s8(vget_low_s8(column), vget_low_s8(x[p])), column, x[p]);
                sums[p][o] = vpadalq_s16(sums[p][o], products);
            }
        }
    }
}

/// Eight products each of outputs `o` and `o + 1` and each pixel; the low half of `columns` is the first's.
#[inline(always)]
fn multiply_halves<const P: usize>(sums: &mut [[int32x4_t; 8]; P], o: usize, columns: int8x16_t, x: &[int8x16_t; P]) {
    // SAFETY: registers only; every aarch64 has these.
    unsafe {
        let second = vextq_s8::<8>(columns, columns);
        for (o, column) in [(o, columns), (o + 1, second)] {
            if P == PIXELS {
                std::arch::asm!(
                    "smull {t0:v}.8h, {w:v}.8b, {x0:v}.8b",
                    "smull {t1:v}.8h, {w:v}.8b, {x1:v}.8b",
                    "sadalp {s0:v}.4s, {t0:v}.8h",
                    "sadalp {s1:v}.4s, {t1:v}.8h",
                    w = in(vreg) column, x0 = in(vreg) x[0], x1 = in(vreg) x[1],
                    s0 = inout(vreg) sums[0][o], s1 = inout(vreg) sums[1][o],
                    t0 = out(vreg) _, t1 = out(vreg) _,
                    options(pure, nomem, nostack, preserves_flags)
                );
            } else {
                for p in 0..P {
                    sums[p][o] = vpadalq_s16(sums[p][o], vmull_s8(vget_low_s8(column), vget_low_s8(x[p])));
                }
            }
        }
    }
}

/// As [`tile`], sixteen outputs, for weights of which some are -128: each product is widened alone.
#[inline]
unsafe fn tile_wide<const P: usize, const LEAKY: bool>(job: &Job<'_>, channel: usize, (from, to): &Offsets<P>) {
    let w = job.weights;
    // SAFETY: as in `tile`.
    unsafe {
        let mut line = w.data.as_ptr().add(channel / BLOCK * job.window.taps.len() * w.steps * 64);
        // Of each output two partial sums: of the first and of the last two of each four inputs.
        let mut sums = [[[vdupq_n_s32(0); 2]; 4]; P];
        for &offset in job.window.taps.iter() {
            for step in 0..w.steps {
                let codes: [int8x8_t; P] = std::array::from_fn(|p| {
                    let four = job.input.add(from[p] + offset + 4 * step).cast::<u32>().read_unaligned();
                    vreinterpret_s8_u32(vdup_n_u32(four))
                });
                for q in 0..4 {
                    let column = vld1q_s8(line.add(16 * q));
                    for p in 0..P {
                        sums[p][q][0] = vpadalq_s16(sums[p][q][0], vmull_s8(vget_low_s8(column), codes[p]));
                        sums[p][q][1] = vpadalq_s16(sums[p][q][1], vmull_s8(vget_high_s8(column), codes[p]));
                    }
                }
                line = line.add(64);
            }
        }
        let count = (w.outputs - channel).min(BLOCK);
        let epilogue = Epilogue::<4, LEAKY>::new(&w.requantise, channel);
        for p in 0..P {
            let quads = std::array::from_fn(|q| {
                vaddq_s32(vpaddq_s32(sums[p][q][0], sums[p][q][1]), vld1q_s32(w.flipped_bias.as_ptr().add(channel + 4 * q)))
            });
            epilogue.store(quads, job.output.add(to[p] + channel), count);
        }
    }
}

pub fn conv_dot(weights: &PackedConv, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let job = Job { weights, window, input: input.data.as_ptr().cast(), output: output.data.as_mut_ptr().cast() };
    let (whole, half) = if leaky(&weights.requantise) {
        (block_dot::<5, 4, true> as Block, block_dot::<8, 2, true> as Block)
    } else {
        (block_dot::<5, 4, false> as Block, block_dot::<8, 2, false> as Block)
    };
    for rows in passes(window) {
        for channel in (0..weights.outputs).step_by(BLOCK) {
            let block = if weights.outputs - channel > 8 { whole } else { half };
            // SAFETY: see the module's words; `Isa` found dot products.
            unsafe { block(&job, &rows, channel) };
        }
    }
}

#[target_feature(enable = "dotprod")]
unsafe fn block_dot<const P: usize, const Q: usize, const LEAKY: bool>(job: &Job<'_>, rows: &std::ops::Range<usize>, channel: usize) {
    // SAFETY: as the caller's.
    unsafe { by_tiles!(job.window, rows, P, tile_dot [Q, LEAKY] (job, channel)) }
}

/// `Q` times four outputs of `P` pixels: each dot product takes four inputs of four outputs.
#[inline]
#[target_feature(enable = "dotprod")]
unsafe fn tile_dot<const P: usize, const Q: usize, const LEAKY: bool>(job: &Job<'_>, channel: usize, (from, to): &Offsets<P>) {
    let w = job.weights;
    // SAFETY: as in `tile`.
    unsafe {
        let codes = |p: usize, at: usize| vld1q_s8(job.input.add(from[p] + at));
        let mut line = w.data.as_ptr().add(channel / BLOCK * job.window.taps.len() * w.steps * 64);
        let bias: [int32x4_t; Q] = std::array::from_fn(|q| vld1q_s32(w.flipped_bias.as_ptr().add(channel + 4 * q)));
        let mut sums = [bias; P];
        for &offset in job.window.taps.iter() {
            for step in 0..w.steps / 4 {
                let x: [int8x16_t; P] = std::array::from_fn(|p| codes(p, offset + 16 * step));
                dots::<0, P, Q>(&mut sums, line, &x);
                dots::<1, P, Q>(&mut sums, line.add(64), &x);
                dots::<2, P, Q>(&mut sums, line.add(128), &x);
                dots::<3, P, Q>(&mut sums, line.add(192), &x);
                line = line.add(256);
            }
            let rest = w.steps % 4;
            if rest > 0 {
                let x: [int8x16_t; P] = std::array::from_fn(|p| codes(p, offset + w.steps / 4 * 16));
                dots::<0, P, Q>(&mut sums, line, &x);
                if rest > 1 {
                    dots::<1, P, Q>(&mut sums, line.add(64), &x);
                }
                if rest > 2 {
                    dots::<2, P, Q>(&mut sums, line.add(128), &x);
                }
                line = line.add(64 * rest);
            }
        }
        let count = (w.outputs - channel).min(4 * Q);
        let epilogue = Epilogue::<Q, LEAKY>::new(&w.requantise, channel);
        for p in 0..P {
            epilogue.store(sums[p], job.output.add(to[p] + channel), count);
        }
    }
}

/// One step of four inputs, those at `4 * LANE` of each sixteen codes, into all sums of a tile.
#[inline(always)]
unsafe fn dots<const LANE: i32, const P: usize, const Q: usize>(sums: &mut [[int32x4_t; Q]; P], line: *const i8, codes: &[int8x16_t; P]) {
    // SAFETY: a step's weights are 64 bytes.
    let columns: [int8x16_t; Q] = std::array::from_fn(|q| unsafe { vld1q_s8(line.add(16 * q)) });
    for p in 0..P {
        for q in 0..Q {
            sums[p][q] = dot_lane::<LANE>(sums[p][q], columns[q], codes[p]);
        }
    }
}

/// `sums + dot(columns, codes[4 * LANE..])` for each four inputs; the intrinsic is not stable yet.
#[inline(always)]
fn dot_lane<const LANE: i32>(mut sums: int32x4_t, columns: int8x16_t, codes: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; callers have dot products.
    unsafe {
        std::arch::asm!(
            ".arch_extension dotprod",
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{3}]",
            inout(vreg) sums,
            in(vreg) columns,
            in(vreg) codes,
            const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// What follows the sums of `4 * Q` outputs from one channel on; made once for all pixels of a tile.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<const Q: usize, const LEAKY: bool> {
    multipliers: [float32x4_t; Q],
    /// LeakyReLU's, where it is not 1.
    slope: float32x4_t,
    zero: int16x8_t,
    low: int8x16_t,
    high: int8x16_t,
}

impl<const Q: usize, const LEAKY: bool> Epilogue<Q, LEAKY> {
    /// # Safety
    /// Multipliers hold whole blocks, so that `4 * Q` of them follow `channel`.
    #[inline(always)]
    pub(super) unsafe fn new(requantise: &Requantise, channel: usize) -> Self {
        // SAFETY: the caller's word; the rest is registers only.
        unsafe {
            Self {
                multipliers: std::array::from_fn(|q| vld1q_f32(requantise.multipliers.as_ptr().add(channel + 4 * q))),
                slope: vdupq_n_f32(requantise.slope),
                zero: vdupq_n_s16((requantise.zero - 128) as i16),
                low: vdupq_n_s8((requantise.range[0] - 128) as i8),
                high: vdupq_n_s8((requantise.range[1] - 128) as i8),
            }
        }
    }

    /// Sums to `count` codes at `to`. Rounded first and clamped after, which is the same because rounding is monotone and conversions and
    /// narrowings saturate here.
    ///
    /// # Safety
    /// `count` codes, at most `4 * Q`, may be written.
    #[inline(always)]
    pub(super) unsafe fn store(self, sums: [int32x4_t; Q], to: *mut i8, count: usize) {
        const { assert!(Q == 2 || Q == 4) };
        // SAFETY: the caller's word; the rest is registers only.
        unsafe {
            let code = |q: usize| {
                let t = vmulq_f32(vcvtq_f32_s32(sums[q]), self.multipliers[q]);
                vcvtnq_s32_f32(if LEAKY { vmaxq_f32(t, vmulq_f32(self.slope, t)) } else { t })
            };
            let eight = |q: usize| vqaddq_s16(vqmovn_high_s32(vqmovn_s32(code(q)), code(q + 1)), self.zero);
            let first = vqmovn_s16(eight(0));
            let bytes = if Q == 4 { vqmovn_high_s16(first, eight(Q - 2)) } else { vcombine_s8(first, first) };
            let bytes = vminq_s8(vmaxq_s8(bytes, self.low), self.high);
            store(bytes, to, count);
        }
    }
}

pub fn depthwise_dot(w: &PackedDepthwise, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let (input, output) = (input.data.as_ptr().cast(), output.data.as_mut_ptr().cast());
    let block = if leaky(&w.requantise) { depthwise_block_dot::<4, true> } else { depthwise_block_dot::<4, false> };
    for rows in passes(window) {
        for channel in (0..w.channels).step_by(BLOCK) {
            // SAFETY: see the module's words; `Isa` found dot products.
            unsafe { block(w, window, input, output, &rows, channel) };
        }
    }
}

#[target_feature(enable = "dotprod")]
unsafe fn depthwise_block_dot<const P: usize, const LEAKY: bool>(
    w: &PackedDepthwise,
    window: &Window,
    input: *const i8,
    output: *mut i8,
    rows: &std::ops::Range<usize>,
    channel: usize,
) {
    // SAFETY: as the caller's.
    unsafe { by_tiles!(window, rows, P, depthwise_tile_dot[LEAKY](w, window, input, output, channel)) }
}

/// Sixteen channels of `P` pixels: the codes of four taps side by side are what one dot product takes; what is left tap by tap.
#[inline]
#[target_feature(enable = "dotprod")]
unsafe fn depthwise_tile_dot<const P: usize, const LEAKY: bool>(
    w: &PackedDepthwise,
    window: &Window,
    input: *const i8,
    output: *mut i8,
    channel: usize,
    (from, to): &Offsets<P>,
) {
    // SAFETY: as in `depthwise_tile`.
    unsafe {
        let pixels: [*const i8; P] = std::array::from_fn(|p| input.add(from[p] + channel));
        let codes = |p: usize, offset: usize| vld1q_s8(pixels[p].add(offset));
        let bias: [int32x4_t; 4] = std::array::from_fn(|q| vld1q_s32(w.flipped_bias.as_ptr().add(channel + 4 * q)));
        let mut sums = [bias; P];
        let mut line = w.quads.as_ptr().add(channel / BLOCK * (window.taps.len() / 4) * 64);
        let mut groups = window.taps.chunks_exact(4);
        for taps in &mut groups {
            let columns: [int8x16_t; 4] = std::array::from_fn(|q| vld1q_s8(line.add(16 * q)));
            line = line.add(64);
            for p in 0..P {
                let [a, b, c, d]: [int8x16_t; 4] = std::array::from_fn(|tap| codes(p, taps[tap]));
                let pair = |codes: int8x16_t| vreinterpretq_s16_s8(codes);
                let (low, high) = ((pair(vzip1q_s8(a, b)), pair(vzip1q_s8(c, d))), (pair(vzip2q_s8(a, b)), pair(vzip2q_s8(c, d))));
                let quads = [vzip1q_s16(low.0, low.1), vzip2q_s16(low.0, low.1), vzip1q_s16(high.0, high.1), vzip2q_s16(high.0, high.1)];
                for q in 0..4 {
                    sums[p][q] = dot(sums[p][q], columns[q], vreinterpretq_s8_s16(quads[q]));
                }
            }
        }
        let done = window.taps.len() / 4 * 4;
        for (tap, &offset) in groups.remainder().iter().enumerate() {
            let column = vld1q_s8(w.data.as_ptr().add((done + tap) * w.wide() + channel));
            for p in 0..P {
                let a = codes(p, offset);
                widen(&mut sums[p], vmull_s8(vget_low_s8(a), vget_low_s8(column)), vmull_high_s8(a, column));
            }
        }
        let count = (w.channels - channel).min(BLOCK);
        let epilogue = Epilogue::<4, LEAKY>::new(&w.requantise, channel);
        for p in 0..P {
            epilogue.store(sums[p], output.add(to[p] + channel), count);
        }
    }
}

/// `sums + dot` of each four bytes; the intrinsic is not stable yet.
#[inline(always)]
fn dot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; callers have dot products.
    unsafe {
        std::arch::asm!(
            ".arch_extension dotprod",
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums,
            in(vreg) a,
            in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Adds sixteen products of 16 bits to sums of 32.
#[inline(always)]
fn widen(sums: &mut [int32x4_t; 4], low: int16x8_t, high: int16x8_t) {
    // SAFETY: registers only; every aarch64 has these.
    unsafe {
        sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
        sums[1] = vaddw_high_s16(sums[1], low);
        sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
        sums[3] = vaddw_high_s16(sums[3], high);
    }
}

pub fn depthwise(w: &PackedDepthwise, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let (input, output) = (input.data.as_ptr().cast(), output.data.as_mut_ptr().cast());
    let block = if leaky(&w.requantise) { depthwise_block::<4, true> } else { depthwise_block::<4, false> };
    for rows in passes(window) {
        for channel in (0..w.channels).step_by(BLOCK) {
            // SAFETY: see the module's words.
            unsafe { block(w, window, input, output, &rows, channel) };
        }
    }
}

unsafe fn depthwise_block<const P: usize, const LEAKY: bool>(
    w: &PackedDepthwise,
    window: &Window,
    input: *const i8,
    output: *mut i8,
    rows: &std::ops::Range<usize>,
    channel: usize,
) {
    // SAFETY: as the caller's.
    unsafe {
        if !w.narrow {
            by_tiles!(window, rows, P, depthwise_tile_wide[LEAKY](w, window, input, output, channel));
        } else {
            by_tiles!(window, rows, P, depthwise_tile[LEAKY](w, window, input, output, channel));
        }
    }
}

/// Sixteen channels of `P` pixels, two taps at a time: their products fit 16 bits together.
#[inline]
unsafe fn depthwise_tile<const P: usize, const LEAKY: bool>(
    w: &PackedDepthwise,
    window: &Window,
    input: *const i8,
    output: *mut i8,
    channel: usize,
    (from, to): &Offsets<P>,
) {
    // SAFETY: weights and bias are padded to whole blocks; pixels are proved by the window; stores are cut to the channels.
    unsafe {
        let rows: [*const i8; P] = std::array::from_fn(|p| input.add(from[p] + channel));
        let codes = |p: usize, offset: usize| vld1q_s8(rows[p].add(offset));
        let mut line = w.data.as_ptr().add(channel);
        let bias: [int32x4_t; 4] = std::array::from_fn(|q| vld1q_s32(w.flipped_bias.as_ptr().add(channel + 4 * q)));
        let mut sums = [bias; P];
        let mut pairs = window.taps.chunks_exact(2);
        for pair in &mut pairs {
            let (first, second) = (vld1q_s8(line), vld1q_s8(line.add(w.wide())));
            line = line.add(2 * w.wide());
            for p in 0..P {
                let (a, b) = (codes(p, pair[0]), codes(p, pair[1]));
                let low = vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(first)), vget_low_s8(b), vget_low_s8(second));
                let high = vmlal_high_s8(vmull_high_s8(a, first), b, second);
                widen(&mut sums[p], low, high);
            }
        }
        for &offset in pairs.remainder() {
            let last = vld1q_s8(line);
            for p in 0..P {
                let a = codes(p, offset);
                widen(&mut sums[p], vmull_s8(vget_low_s8(a), vget_low_s8(last)), vmull_high_s8(a, last));
            }
        }
        let count = (w.channels - channel).min(BLOCK);
        let epilogue = Epilogue::<4, LEAKY>::new(&w.requantise, channel);
        for p in 0..P {
            epilogue.store(sums[p], output.add(to[p] + channel), count);
        }
    }
}

/// As [`depthwise_tile`], for weights of which some are -128: one tap at a time.
#[inline]
unsafe fn depthwise_tile_wide<const P: usize, const LEAKY: bool>(
    w: &PackedDepthwise,
    window: &Window,
    input: *const i8,
    output: *mut i8,
    channel: usize,
    (from, to): &Offsets<P>,
) {
    // SAFETY: as in `depthwise_tile`.
    unsafe {
        let count = (w.channels - channel).min(BLOCK);
        let epilogue = Epilogue::<4, LEAKY>::new(&w.requantise, channel);
        for p in 0..P {
            let mut sums: [int32x4_t; 4] = std::array::from_fn(|q| vld1q_s32(w.flipped_bias.as_ptr().add(channel + 4 * q)));
            for (tap, offset) in window.taps.iter().enumerate() {
                let codes = vld1q_s8(input.add(from[p] + offset + channel));
                let column = vld1q_s8(w.data.as_ptr().add(tap * w.wide() + channel));
                widen(&mut sums, vmull_s8(vget_low_s8(codes), vget_low_s8(column)), vmull_high_s8(codes, column));
            }
            epilogue.store(sums, output.add(to[p] + channel), count);
        }
    }
}

/// As [`super::scalar::max_pool`], sixteen channels at a time.
pub fn max_pool(window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let (from, to) = (input.data.as_ptr().cast::<i8>(), output.data.as_mut_ptr().cast::<i8>());
    for (pixel, out) in window.pixels() {
        for channel in (0..output.channels).step_by(BLOCK) {
            // SAFETY: pixels are proved by the window, what is read past the last channel lies within the spare bytes, and stores are cut.
            unsafe {
                let codes = |offset: usize| vld1q_s8(from.add(pixel + offset + channel));
                let best = window.taps[1..].iter().fold(codes(0), |best, &offset| vmaxq_s8(best, codes(offset)));
                store(best, to.add(out + channel), (output.channels - channel).min(BLOCK));
            }
        }
    }
}

/// The first `count` of sixteen bytes.
///
/// # Safety
/// They may be written.
#[inline(always)]
unsafe fn store(bytes: int8x16_t, to: *mut i8, count: usize) {
    // SAFETY: the caller's word.
    unsafe {
        if count == BLOCK {
            vst1q_s8(to, bytes);
        } else if count == 8 {
            vst1_s8(to, vget_low_s8(bytes));
        } else {
            let mut spare = [0; BLOCK];
            vst1q_s8(spare.as_mut_ptr(), bytes);
            std::ptr::copy_nonoverlapping(spare.as_ptr(), to, count);
        }
    }
}

pub fn add_codes(sum: &Sum, a: &[u8], b: &[u8], to: &mut [u8]) {
    let length = to.len().min(a.len()).min(b.len());
    let mut done = 0;
    while length - done >= 8 {
        // SAFETY: eight codes from `done` lie within all three slices.
        unsafe { add_eight(sum, a.as_ptr().add(done).cast(), b.as_ptr().add(done).cast(), to.as_mut_ptr().add(done).cast()) };
        done += 8;
    }
    if done < length {
        let mut rest = [[0; 8]; 3];
        rest[0][..length - done].copy_from_slice(&a[done..length]);
        rest[1][..length - done].copy_from_slice(&b[done..length]);
        // SAFETY: each is of eight.
        unsafe { add_eight(sum, rest[0].as_ptr().cast(), rest[1].as_ptr().cast(), rest[2].as_mut_ptr().cast()) };
        to[done..length].copy_from_slice(&rest[2][..length - done]);
    }
}

/// # Safety
/// Eight codes can be read at `a` and `b` and written at `to`.
#[inline(always)]
unsafe fn add_eight(sum: &Sum, a: *const i8, b: *const i8, to: *mut i8) {
    let [low, high] = sum.range.map(|code| (code - sum.zero) as f32);
    // SAFETY: the caller's word.
    unsafe {
        let zeros = sum.zeros.map(|zero| vdupq_n_s16((zero - 128) as i16));
        let moved = |codes: *const i8, i: usize| vsubq_s16(vmovl_s8(vld1_s8(codes)), zeros[i]);
        let real = |words: int16x4_t, i: usize| vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(words)), sum.multipliers[i]);
        let code = |t: float32x4_t| vmovn_s32(vcvtnq_s32_f32(vminq_f32(vmaxq_f32(t, vdupq_n_f32(low)), vdupq_n_f32(high))));
        let (a, b) = (moved(a, 0), moved(b, 1));
        let first = code(vaddq_f32(real(vget_low_s16(a), 0), real(vget_low_s16(b), 1)));
        let second = code(vaddq_f32(real(vget_high_s16(a), 0), real(vget_high_s16(b), 1)));
        vst1_s8(to, vmovn_s16(vaddq_s16(vcombine_s16(first, second), vdupq_n_s16((sum.zero - 128) as i16))));
    }
}

pub fn translate(table: &[u8; 256], from: &[u8], to: &mut [u8]) {
    let length = from.len().min(to.len());
    let whole = length / 16 * 16;
    // SAFETY: the table has 256 bytes; sixteen codes from `done` lie within both slices.
    unsafe {
        let parts: [uint8x16x4_t; 4] = std::array::from_fn(|i| vld1q_u8_x4(table.as_ptr().add(64 * i)));
        for done in (0..whole).step_by(16) {
            let codes = vld1q_u8(from.as_ptr().add(done));
            // Codes beyond a quarter of the table give 0 there.
            let found = vqtbl4q_u8(parts[0], codes);
            let found = vorrq_u8(found, vqtbl4q_u8(parts[1], vsubq_u8(codes, vdupq_n_u8(64))));
            let found = vorrq_u8(found, vqtbl4q_u8(parts[2], vsubq_u8(codes, vdupq_n_u8(128))));
            let found = vorrq_u8(found, vqtbl4q_u8(parts[3], vsubq_u8(codes, vdupq_n_u8(192))));
            vst1q_u8(to.as_mut_ptr().add(done), found);
        }
    }
    super::scalar::translate(table, &from[whole..length], &mut to[whole..length]);
}

/// Sums that run beside each other in [`spin`] and [`spin_dot`].
const SPUN: usize = 16;

/// Runs `steps` steps of SMULL, SMLAL2 and SADALP in registers; returns their multiply-adds.
pub fn spin(steps: usize) -> u64 {
    // SAFETY: registers only; every aarch64 has these.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); 8]; PIXELS];
        let (a, b) = (vdupq_n_s8(std::hint::black_box(3)), [vdupq_n_s8(std::hint::black_box(5)); PIXELS]);
        for _ in 0..steps {
            for o in 0..8 {
                multiply(&mut sums, o, a, &b);
            }
        }
        std::hint::black_box(sums);
    }
    (steps * 8 * PIXELS * 16) as u64
}

/// As [`spin`], of SDOT.
pub fn spin_dot(steps: usize) -> u64 {
    // SAFETY: registers only; `Isa` found dot products.
    unsafe {
        let mut sums = [vdupq_n_s32(0); SPUN];
        let (a, b) = (vdupq_n_s8(std::hint::black_box(3)), vdupq_n_s8(std::hint::black_box(5)));
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = dot_lane::<0>(*sum, a, b);
            }
        }
        std::hint::black_box(sums);
    }
    (steps * SPUN * 16) as u64
}
