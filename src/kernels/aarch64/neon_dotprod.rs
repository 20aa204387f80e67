//! NEON with dot products (Cortex-A76): convolutions. SDOT takes four inputs of four outputs.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::LOWERED;
use super::finish::by_finish;
use super::neon::SPUN;
use super::neon_finish::{self, Epilogue, Finish};
use super::pack::{Layer, Packed};
use super::plane::Window;
use super::tiles::{Block, Job, Part, Tile, by_tiles, over_taps, passes, v, with_job};
use super::weights::{BLOCK, ConvForm, FOREIGN_FORM, LINE, PackedConv, STEP};
use std::arch::aarch64::*;
use std::ops::Range;

/// Packs a convolution: four inputs of an output side by side.
pub fn pack(layer: &Layer<'_>) -> Packed<ConvForm> {
    let form = ConvForm::Fours(layer.fours());
    layer.packed(form, neon_finish::finish_of(layer), LOWERED, BLOCK, |output| output)
}

/// Convolution of weights that [`pack`] made.
///
/// # Safety
/// The CPU has dot products; the weights are for the window's shape and channels.
pub unsafe fn conv(weights: &PackedConv, window: &mut Window<'_>) {
    let ConvForm::Fours(lines) = &weights.form else { unreachable!("{FOREIGN_FORM}") };
    let (whole, half): (Block, Block) = (by_finish!(weights, block), by_finish!(weights, block_half));
    let rows = weights.inputs.next_multiple_of(STEP) == window.pitch;
    with_job(weights, lines, window, rows, |job| {
        for rows in passes(job.window) {
            for channel in (0..weights.outputs).step_by(BLOCK) {
                let block = if weights.outputs - channel > BLOCK / 2 { whole } else { half };
                // SAFETY: the caller guarantees dot products and weights for the window; the passes are rows
                // of the window, and `channel` begins a block of sixteen outputs.
                unsafe { block(job, &rows, channel) };
            }
        }
    });
}

/// Cache lines of weights of a tap of a block.
fn steps(job: &Job<'_>) -> usize {
    job.inputs.div_ceil(STEP)
}

/// Address of the weights of the block that begins at output `channel`.
///
/// # Safety
/// `channel` begins a block of sixteen of the job's outputs.
#[inline(always)]
unsafe fn block_line(job: &Job<'_>, channel: usize) -> *const i8 {
    // SAFETY: `Layer::fours` made `steps` cache lines of each tap of each block, and the caller guarantees
    // that there is this one.
    unsafe { job.lines.add(channel / BLOCK * job.taps.len() * steps(job) * LINE) }
}

/// Sixteen outputs of some rows.
///
/// # Safety
/// The CPU has dot products; `rows` are of the job's window, and `channel` begins a block of sixteen outputs.
#[target_feature(enable = "dotprod")]
unsafe fn block<const KIND: u8>(job: &Job<'_>, rows: &Range<usize>, channel: usize) {
    let steps = steps(job);
    // SAFETY: tiles are of pixels of `rows`, which the caller guarantees, as it does the block; `channel` is
    // below the outputs that `Window::new` proved writable.
    unsafe {
        let part = Part::new(job, channel, block_line(job, channel), steps / 4, steps % 4);
        by_tiles!(job.window, job.input, job.output.add(channel), rows, 5 4 3, |P, at| tile::<P, KIND>(&part, at));
    }
}

/// The last eight outputs or fewer of some rows.
///
/// # Safety
/// As of [`block`]; at most eight outputs are left.
#[target_feature(enable = "dotprod")]
unsafe fn block_half<const KIND: u8>(job: &Job<'_>, rows: &Range<usize>, channel: usize) {
    // SAFETY: tiles are of pixels of `rows`, which the caller guarantees, as it does the block.
    unsafe {
        by_tiles!(job.window, job.input, job.output, rows, 8 7 6 5 4 3, |P, at| tile_half::<P, KIND>(job, channel, at));
    }
}

/// Sixteen outputs of `P` pixels: each dot product takes four inputs of four outputs.
///
/// # Safety
/// The CPU has dot products; `at` is of `P` pixels of the job's window, with the part's channels to be
/// written; `part` is of a block of the job's weights.
#[inline]
#[target_feature(enable = "dotprod")]
unsafe fn tile<const P: usize, const KIND: u8>(part: &Part, at: Tile) {
    // SAFETY: the caller guarantees the pixels and the block; `Finish` knows how many of the sixteen outputs
    // there are, and `Window::new` proved that these may be written.
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

/// Dot products of sixteen outputs, whose weights are in `v28` to `v31`, of some pixels with the four inputs
/// of lane `$lane`.
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
        /// The CPU has dot products; `at` is of pixels of a job's window, and `part` of a block of the same
        /// job's weights.
        #[inline(always)]
        unsafe fn $name(at: Tile, part: &Part, sums: &mut [[int32x4_t; 4]]) {
            // SAFETY: the caller guarantees dot products. The assembly reads sixteen codes at a time from
            // inputs that the window has: `Window::new` proved 64 bytes from each. `Layer::fours` made a
            // cache line of each four inputs of a tap, and `Layer::packed` bias in whole blocks; the caller
            // guarantees that both are the part's.
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
dots!(dots_5; 0 q0 x0 a0 b0 c0 d0, 1 q1 x1 a1 b1 c1 d1, 2 q2 x2 a2 b2 c2 d2, 3 q3 x3 a3 b3 c3 d3,
    4 q4 x4 a4 b4 c4 d4);

/// The last eight outputs, or fewer, of `P` pixels.
///
/// # Safety
/// The CPU has dot products; `at` is of `P` pixels of the job's window, and `channel` begins a block of
/// sixteen outputs, of which at most eight are left.
#[inline]
#[target_feature(enable = "dotprod")]
unsafe fn tile_half<const P: usize, const KIND: u8>(job: &Job<'_>, channel: usize, at: Tile) {
    let w = job.weights;
    let (whole, rest) = (steps(job) / 4, steps(job) % 4);
    // SAFETY: `Layer::fours` made a cache line of each step of each tap, and `Layer::packed` bias of whole
    // blocks. Sixteen codes are read from inputs that the window has: `Window::new` proved 64 bytes from
    // each. `Finish` knows how many of the eight outputs there are, and `Window::new` proved that these may
    // be written.
    unsafe {
        let codes = |p: usize, offset: usize| vld1q_s8(at.from(p).add(offset));
        let mut line = block_line(job, channel);
        let bias: [int32x4_t; 2] = std::array::from_fn(|q| vld1q_s32(w.bias.as_ptr().add(channel + 4 * q)));
        let mut sums = [bias; P];
        for &offset in job.taps {
            for step in 0..whole {
                let x: [int8x16_t; P] = std::array::from_fn(|p| codes(p, offset + 16 * step));
                lane::<0, P>(&mut sums, line, &x);
                lane::<1, P>(&mut sums, line.add(LINE), &x);
                lane::<2, P>(&mut sums, line.add(2 * LINE), &x);
                lane::<3, P>(&mut sums, line.add(3 * LINE), &x);
                line = line.add(4 * LINE);
            }
            if rest > 0 {
                let x: [int8x16_t; P] = std::array::from_fn(|p| codes(p, offset + 16 * whole));
                lane::<0, P>(&mut sums, line, &x);
                if rest > 1 {
                    lane::<1, P>(&mut sums, line.add(LINE), &x);
                }
                if rest > 2 {
                    lane::<2, P>(&mut sums, line.add(2 * LINE), &x);
                }
                line = line.add(LINE * rest);
            }
        }
        let finish = Finish::new(&w.requantise, channel, w.outputs);
        Epilogue::<2, KIND>::store_all(&finish, &sums, at.channel(channel));
    }
}

/// One step of four inputs, those at `4 * L` of each sixteen codes, into all sums of a tile.
///
/// # Safety
/// The CPU has dot products, and a cache line of weights can be read at `line`.
#[inline(always)]
unsafe fn lane<const L: i32, const P: usize>(
    sums: &mut [[int32x4_t; 2]; P],
    line: *const i8,
    codes: &[int8x16_t; P],
) {
    // SAFETY: the caller guarantees the 64 bytes of a cache line, of which these are the first 32, and dot
    // products.
    unsafe {
        let columns: [int8x16_t; 2] = std::array::from_fn(|q| vld1q_s8(line.add(16 * q)));
        for p in 0..P {
            for q in 0..2 {
                sums[p][q] = dot_lane::<L>(sums[p][q], columns[q], codes[p]);
            }
        }
    }
}

/// `sums + dot(columns, codes[4 * LANE..])` for each four inputs; the intrinsic is not stable yet.
///
/// # Safety
/// The CPU has dot products.
#[inline(always)]
unsafe fn dot_lane<const LANE: i32>(mut sums: int32x4_t, columns: int8x16_t, codes: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction touches registers only, and the caller guarantees that the CPU has it.
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
///
/// # Safety
/// The CPU has dot products.
#[inline(always)]
pub unsafe fn dot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction touches registers only, and the caller guarantees that the CPU has it.
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

/// Runs `steps` steps of SDOT in registers; returns their multiply-adds.
///
/// # Safety
/// The CPU has dot products.
pub unsafe fn spin(steps: usize) -> u64 {
    // SAFETY: these intrinsics touch registers only, and the caller guarantees dot products.
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
