//! NEON without dot products (Cortex-A53 and A72, and every other 64-bit ARM), and what it shares with NEON that has them (`neon_dotprod.rs`):
//! tiles and the walk over taps, depthwise convolutions, maxima, sums and tables. What follows the sums is in `neon_finish.rs`.
//!
//! Planes hold codes moved down to s8 (`Isa::flip`), as SMULL and SDOT take them with the weights. Two products fit 16 bits unless a weight
//! is -128 (2 * 128 * 128 = 2^15), so weights without it are multiplied two steps at a time (SMULL, SMLAL) before they are widened (SADALP).
//! The 128 that each code lost is given back through the sum of the weights, which is part of the bias here.
//!
//! Each `unsafe` block rests on the facts that `avx512_vnni.rs` names: the CPU has NEON (every aarch64 has), and `Window::new` proved the planes.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::neon_finish::{Epilogue, Finish, by_kind, kind};
use super::plane::{View, ViewMut, Window};
use super::tiles::{Block, Job, Part, Tile, by_tiles, over_taps, passes, v, with_job};
use super::weights::{BLOCK, PackedConv, STEP, pair_bytes};
use std::arch::aarch64::*;

pub fn conv(weights: &PackedConv, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let paired = !weights.pairs.is_empty() && (!weights.by_rows || input.geometry.channels == STEP);
    let block: Block = if paired { by_kind!(weights, block) } else { by_kind!(weights, block_wide) };
    let width = if paired { 8 } else { BLOCK };
    let rows = weights.by_rows || weights.inputs.is_multiple_of(16) && weights.inputs == input.geometry.channels;
    with_job(weights, window, input, output, paired && rows, |job| {
        for rows in passes(window) {
            for channel in (0..weights.outputs).step_by(width) {
                // SAFETY: see the module's words.
                unsafe { block(job, &rows, channel) };
            }
        }
    });
}

unsafe fn block<const KIND: u8>(job: &Job<'_>, rows: &std::ops::Range<usize>, channel: usize) {
    // SAFETY: as the caller's.
    unsafe {
        let rest = usize::from(matches!(job.inputs % 16, 1..=8));
        let line = job.weights.pairs.as_ptr().add(channel / 8 * job.taps.len() * pair_bytes(job.inputs));
        let part = Part::new(job, channel, line, job.inputs.div_ceil(16) - rest, rest);
        by_tiles!(job.window, job.input, job.output.add(channel), rows, 3 2, |P, at| tile::<P, KIND>(&part, at));
    }
}

unsafe fn block_wide<const KIND: u8>(job: &Job<'_>, rows: &std::ops::Range<usize>, channel: usize) {
    // SAFETY: as the caller's.
    unsafe { by_tiles!(job.window, job.input, job.output, rows, 2, |P, at| tile_wide::<P, KIND>(job, channel, at)) }
}

/// Eight outputs of `P` pixels.
#[inline(always)]
unsafe fn tile<const P: usize, const KIND: u8>(part: &Part, at: Tile) {
    // SAFETY: blocks of weights and bias are whole; pixels are proved by the window, and what is read past an input's last channel meets
    // zero weights; stores are cut to the channels.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); 2]; P];
        match P {
            3 => multiply_3(at, part, &mut sums),
            2 => multiply_2(at, part, &mut sums),
            _ => multiply_1(at, part, &mut sums),
        }
        Epilogue::<2, KIND>::store_all(&part.finish, &sums, at);
    }
}

/// Sixteen products of one output and some pixels, into four partial sums each.
macro_rules! sixteen {
    ($weights:ident; $($codes:ident $products:ident $sums:ident),*) => {
        concat!(
            $("smull ", v!($products), ".8h, ", v!($weights), ".8b, ", v!($codes), ".8b\n",)*
            $("smlal2 ", v!($products), ".8h, ", v!($weights), ".16b, ", v!($codes), ".16b\n",)*
            $("sadalp ", v!($sums), ".4s, ", v!($products), ".8h\n",)*
        )
    };
}

/// Eight products each of two outputs, whose weights are the halves of one register, and some pixels, whose codes are in both halves.
macro_rules! eight_each {
    ($weights:ident; $($codes:ident $products:ident $first:ident $second:ident),*) => {
        concat!(
            $("smull ", v!($products), ".8h, ", v!($weights), ".8b, ", v!($codes), ".8b\n",)*
            $("sadalp ", v!($first), ".4s, ", v!($products), ".8h\n",)*
            $("smull2 ", v!($products), ".8h, ", v!($weights), ".16b, ", v!($codes), ".16b\n",)*
            $("sadalp ", v!($second), ".4s, ", v!($products), ".8h\n",)*
        )
    };
}

/// Sums of eight outputs of some pixels over all taps and inputs, sixteen inputs a step: SMULL of the first eight, SMLAL2 of the others,
/// SADALP into four partial sums of each output; with three pixels that is every register.
macro_rules! multiply {
    ($name:ident; $($p:literal $at:ident $x:ident $t:ident
        $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident),*) => {
        /// # Safety
        /// `at` are pixels of the job's window, `part` is of its weights.
        #[inline(always)]
        unsafe fn $name(at: Tile, part: &Part, sums: &mut [[int32x4_t; 2]]) {
            // SAFETY: the caller's word.
            unsafe {
                over_taps!(
                    at, part, [$($p $at $x),*],
                    // A bias is the first of its output's partial sums.
                    first [
                        $(concat!("ldp {", stringify!($a), ":s}, {", stringify!($b), ":s}, [{bias}]"),
                        concat!("ldp {", stringify!($c), ":s}, {", stringify!($d), ":s}, [{bias}, #8]"),
                        concat!("ldp {", stringify!($e), ":s}, {", stringify!($f), ":s}, [{bias}, #16]"),
                        concat!("ldp {", stringify!($g), ":s}, {", stringify!($h), ":s}, [{bias}, #24]"),)*
                    ]
                    step [
                        "ldp {w0:q}, {w1:q}, [{line}], #128",
                        sixteen!(w0; $($x $t $a),*),
                        sixteen!(w1; $($x $t $b),*),
                        "ldp {w0:q}, {w1:q}, [{line}, #-96]",
                        sixteen!(w0; $($x $t $c),*),
                        sixteen!(w1; $($x $t $d),*),
                        "ldp {w0:q}, {w1:q}, [{line}, #-64]",
                        sixteen!(w0; $($x $t $e),*),
                        sixteen!(w1; $($x $t $f),*),
                        "ldp {w0:q}, {w1:q}, [{line}, #-32]",
                        sixteen!(w0; $($x $t $g),*),
                        sixteen!(w1; $($x $t $h),*),
                    ]
                    rest [
                        $(concat!("ld1r {{", v!($x), ".2d}}, [{", stringify!($at), "}]"),)*
                        "ldp {w0:q}, {w1:q}, [{line}], #64",
                        eight_each!(w0; $($x $t $a $b),*),
                        eight_each!(w1; $($x $t $c $d),*),
                        "ldp {w0:q}, {w1:q}, [{line}, #-32]",
                        eight_each!(w0; $($x $t $e $f),*),
                        eight_each!(w1; $($x $t $g $h),*),
                    ]
                    last [
                        $(concat!("addp ", v!($a), ".4s, ", v!($a), ".4s, ", v!($b), ".4s"),
                        concat!("addp ", v!($c), ".4s, ", v!($c), ".4s, ", v!($d), ".4s"),
                        concat!("addp ", v!($e), ".4s, ", v!($e), ".4s, ", v!($f), ".4s"),
                        concat!("addp ", v!($g), ".4s, ", v!($g), ".4s, ", v!($h), ".4s"),
                        concat!("addp ", v!($a), ".4s, ", v!($a), ".4s, ", v!($c), ".4s"),
                        concat!("addp ", v!($e), ".4s, ", v!($e), ".4s, ", v!($g), ".4s"),)*
                    ]
                    registers [
                        w0 = out(vreg) _, w1 = out(vreg) _,
                        $($t = out(vreg) _,
                        $a = out(vreg) sums[$p][0], $b = out(vreg) _, $c = out(vreg) _, $d = out(vreg) _,
                        $e = out(vreg) sums[$p][1], $f = out(vreg) _, $g = out(vreg) _, $h = out(vreg) _,)*
                    ]
                );
            }
        }
    };
}

multiply!(multiply_1; 0 q0 x0 t0 a0 b0 c0 d0 e0 f0 g0 h0);
multiply!(multiply_2; 0 q0 x0 t0 a0 b0 c0 d0 e0 f0 g0 h0, 1 q1 x1 t1 a1 b1 c1 d1 e1 f1 g1 h1);
multiply!(multiply_3; 0 q0 x0 t0 a0 b0 c0 d0 e0 f0 g0 h0, 1 q1 x1 t1 a1 b1 c1 d1 e1 f1 g1 h1,
    2 q2 x2 t2 a2 b2 c2 d2 e2 f2 g2 h2);

/// As [`tile`], sixteen outputs, for weights of which some are -128: each product is widened alone.
#[inline]
unsafe fn tile_wide<const P: usize, const KIND: u8>(job: &Job<'_>, channel: usize, at: Tile) {
    let w = job.weights;
    // SAFETY: as in `tile`.
    unsafe {
        let mut line = w.data.as_ptr().add(channel / BLOCK * job.taps.len() * w.steps * 64);
        // Of each output two partial sums: of the first and of the last two of each four inputs.
        let mut sums = [[[vdupq_n_s32(0); 2]; 4]; P];
        for &offset in job.taps {
            for step in 0..w.steps {
                let codes: [int8x8_t; P] = std::array::from_fn(|p| {
                    let four = at.from(p).add(offset + 4 * step).cast::<u32>().read_unaligned();
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
        let sums = sums.map(|sums| {
            std::array::from_fn(|q| vaddq_s32(vpaddq_s32(sums[q][0], sums[q][1]), vld1q_s32(w.flipped_bias.as_ptr().add(channel + 4 * q))))
        });
        Epilogue::<4, KIND>::store_all(&Finish::new(&w.requantise, channel, w.outputs), &sums, Tile { to: at.to.add(channel), ..at });
    }
}

/// Sums that run beside each other in [`spin`], here and in `neon_dotprod.rs`.
pub(super) const SPUN: usize = 16;

/// Runs `steps` steps of SMULL, SMLAL2 and SADALP in registers; returns their multiply-adds.
pub fn spin(steps: usize) -> u64 {
    // SAFETY: registers only; every aarch64 has these.
    unsafe {
        let mut sums = [vdupq_n_s32(0); SPUN];
        let (a, b) = (vdupq_n_s8(std::hint::black_box(3)), vdupq_n_s8(std::hint::black_box(5)));
        for _ in 0..steps {
            for sum in &mut sums {
                std::arch::asm!(
                    "smull {t:v}.8h, {a:v}.8b, {b:v}.8b",
                    "smlal2 {t:v}.8h, {a:v}.16b, {b:v}.16b",
                    "sadalp {sum:v}.4s, {t:v}.8h",
                    a = in(vreg) a, b = in(vreg) b, sum = inout(vreg) *sum, t = out(vreg) _,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
        }
        std::hint::black_box(sums);
    }
    (steps * SPUN * 16) as u64
}
