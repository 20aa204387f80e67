//! Convolutions on 64-bit ARM with dot products (Cortex-A76): SDOT takes four inputs of four outputs. What both sets share is in `neon.rs`.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::neon::SPUN;
use super::neon_finish::{Epilogue, Finish, by_kind, kind};
use super::plane::{View, ViewMut, Window};
use super::tiles::{Block, Job, Part, Tile, by_tiles, over_taps, passes, v, with_job};
use super::weights::{BLOCK, PackedConv, STEP};
use std::arch::aarch64::*;

pub fn conv(weights: &PackedConv, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let (whole, half): (Block, Block) = (by_kind!(weights, block), by_kind!(weights, block_half));
    let rows = weights.steps * STEP == input.geometry.channels;
    with_job(weights, window, input, output, rows, |job| {
        for rows in passes(window) {
            for channel in (0..weights.outputs).step_by(BLOCK) {
                let block = if weights.outputs - channel > 8 { whole } else { half };
                // SAFETY: `Isa` found dot products, `Window::new` proved the planes.
                unsafe { block(job, &rows, channel) };
            }
        }
    });
}

#[target_feature(enable = "dotprod")]
unsafe fn block<const KIND: u8>(job: &Job<'_>, rows: &std::ops::Range<usize>, channel: usize) {
    // SAFETY: as the caller's.
    unsafe {
        let steps = job.inputs.div_ceil(STEP);
        let line = job.weights.data.as_ptr().add(channel / BLOCK * job.taps.len() * steps * 64);
        let part = Part::new(job, channel, line, steps / 4, steps % 4);
        by_tiles!(job.window, job.input, job.output.add(channel), rows, 5 4 3, |P, at| tile::<P, KIND>(&part, at));
    }
}

#[target_feature(enable = "dotprod")]
unsafe fn block_half<const KIND: u8>(job: &Job<'_>, rows: &std::ops::Range<usize>, channel: usize) {
    // SAFETY: as the caller's.
    unsafe { by_tiles!(job.window, job.input, job.output, rows, 8 7 6 5 4 3, |P, at| tile_half::<P, KIND>(job, channel, at)) }
}

/// Sixteen outputs of `P` pixels: each dot product takes four inputs of four outputs.
#[inline]
#[target_feature(enable = "dotprod")]
unsafe fn tile<const P: usize, const KIND: u8>(part: &Part, at: Tile) {
    // SAFETY: as in `neon::tile`.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); 4]; P];
        match P {
            5 => dots_5(at, part, &mut sums),
            4 => dots_4(at, part, &mut sums),
            3 => dots_3(at, part, &mut sums),
            _ => dots_1(at, part, &mut sums),
        }
        Epilogue::<4, KIND>::store_all(&part.finish, &sums, at);
    }
}

/// Dot products of sixteen outputs, whose weights are in `v28` to `v31`, of some pixels with the four inputs of lane `$lane`.
macro_rules! four {
    ($lane:literal; $($x:ident $a:ident $b:ident $c:ident $d:ident),*) => {
        concat!(
            "ld1 {{v28.16b-v31.16b}}, [{line}], #64\n",
            $("sdot ", v!($a), ".4s, v28.16b, ", v!($x), ".4b[", $lane, "]\n",)*
            $("sdot ", v!($b), ".4s, v29.16b, ", v!($x), ".4b[", $lane, "]\n",)*
            $("sdot ", v!($c), ".4s, v30.16b, ", v!($x), ".4b[", $lane, "]\n",)*
            $("sdot ", v!($d), ".4s, v31.16b, ", v!($x), ".4b[", $lane, "]\n",)*
        )
    };
}

/// Sums of sixteen outputs of some pixels over all taps and inputs, sixteen inputs a step.
macro_rules! dots {
    ($name:ident; $($p:literal $at:ident $x:ident $a:ident $b:ident $c:ident $d:ident),*) => {
        /// # Safety
        /// `at` are pixels of the job's window, `part` is of its weights; the CPU has dot products.
        #[inline(always)]
        unsafe fn $name(at: Tile, part: &Part, sums: &mut [[int32x4_t; 4]]) {
            // SAFETY: the caller's word.
            unsafe {
                over_taps!(
                    at, part, [$($p $at $x),*],
                    first [
                        ".arch_extension dotprod",
                        $(concat!("ldp {", stringify!($a), ":q}, {", stringify!($b), ":q}, [{bias}]"),
                        concat!("ldp {", stringify!($c), ":q}, {", stringify!($d), ":q}, [{bias}, #32]"),)*
                    ]
                    step [
                        four!(0; $($x $a $b $c $d),*),
                        four!(1; $($x $a $b $c $d),*),
                        four!(2; $($x $a $b $c $d),*),
                        four!(3; $($x $a $b $c $d),*),
                    ]
                    rest [
                        $(concat!("ldr {", stringify!($x), ":q}, [{", stringify!($at), "}]"),)*
                        four!(0; $($x $a $b $c $d),*),
                        "cmp {rest}, #2",
                        "b.lo 5f",
                        four!(1; $($x $a $b $c $d),*),
                        "b.eq 5f",
                        four!(2; $($x $a $b $c $d),*),
                    ]
                    last []
                    registers [
                        out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                        $($a = out(vreg) sums[$p][0], $b = out(vreg) sums[$p][1],
                        $c = out(vreg) sums[$p][2], $d = out(vreg) sums[$p][3],)*
                    ]
                );
            }
        }
    };
}

dots!(dots_1; 0 q0 x0 a0 b0 c0 d0);
dots!(dots_3; 0 q0 x0 a0 b0 c0 d0, 1 q1 x1 a1 b1 c1 d1, 2 q2 x2 a2 b2 c2 d2);
dots!(dots_4; 0 q0 x0 a0 b0 c0 d0, 1 q1 x1 a1 b1 c1 d1, 2 q2 x2 a2 b2 c2 d2, 3 q3 x3 a3 b3 c3 d3);
dots!(dots_5; 0 q0 x0 a0 b0 c0 d0, 1 q1 x1 a1 b1 c1 d1, 2 q2 x2 a2 b2 c2 d2, 3 q3 x3 a3 b3 c3 d3, 4 q4 x4 a4 b4 c4 d4);

/// As [`tile`], the last eight outputs or fewer.
#[inline]
#[target_feature(enable = "dotprod")]
unsafe fn tile_half<const P: usize, const KIND: u8>(job: &Job<'_>, channel: usize, at: Tile) {
    let w = job.weights;
    // SAFETY: as in `neon::tile`.
    unsafe {
        let codes = |p: usize, offset: usize| vld1q_s8(at.from(p).add(offset));
        let steps = job.inputs.div_ceil(STEP);
        let mut line = w.data.as_ptr().add(channel / BLOCK * job.taps.len() * steps * 64);
        let bias: [int32x4_t; 2] = std::array::from_fn(|q| vld1q_s32(w.flipped_bias.as_ptr().add(channel + 4 * q)));
        let mut sums = [bias; P];
        for &offset in job.taps {
            for step in 0..steps / 4 {
                let x: [int8x16_t; P] = std::array::from_fn(|p| codes(p, offset + 16 * step));
                lane::<0, P>(&mut sums, line, &x);
                lane::<1, P>(&mut sums, line.add(64), &x);
                lane::<2, P>(&mut sums, line.add(128), &x);
                lane::<3, P>(&mut sums, line.add(192), &x);
                line = line.add(256);
            }
            let rest = steps % 4;
            if rest > 0 {
                let x: [int8x16_t; P] = std::array::from_fn(|p| codes(p, offset + steps / 4 * 16));
                lane::<0, P>(&mut sums, line, &x);
                if rest > 1 {
                    lane::<1, P>(&mut sums, line.add(64), &x);
                }
                if rest > 2 {
                    lane::<2, P>(&mut sums, line.add(128), &x);
                }
                line = line.add(64 * rest);
            }
        }
        Epilogue::<2, KIND>::store_all(&Finish::new(&w.requantise, channel, w.outputs), &sums, Tile { to: at.to.add(channel), ..at });
    }
}

/// One step of four inputs, those at `4 * LANE` of each sixteen codes, into all sums of a tile.
#[inline(always)]
unsafe fn lane<const LANE: i32, const P: usize>(sums: &mut [[int32x4_t; 2]; P], line: *const i8, codes: &[int8x16_t; P]) {
    // SAFETY: a step's weights are 64 bytes.
    let columns: [int8x16_t; 2] = std::array::from_fn(|q| unsafe { vld1q_s8(line.add(16 * q)) });
    for p in 0..P {
        for q in 0..2 {
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

/// `sums + dot` of each four bytes; the intrinsic is not stable yet.
#[inline(always)]
pub(super) fn dot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
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

/// As [`super::neon::spin`], of SDOT.
pub fn spin(steps: usize) -> u64 {
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
