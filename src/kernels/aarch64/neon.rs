//! NEON without dot products (Cortex-A53 and A72, and every other 64-bit ARM): convolutions.
//!
//! Two products fit 16 bits unless a weight is -128 (2 * 128 * 128 = 2^15), so weights without it are
//! multiplied two steps at a time (SMULL, SMLAL2) before they are widened (SADALP). Convolutions of 3 × 3
//! pixels at stride 1 are in `neon_winograd.rs`.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::LOWERED;
use super::finish::by_finish;
use super::neon_finish::{self, Epilogue, Finish};
use super::neon_winograd;
use super::pack::{Layer, Packed};
use super::plane::Window;
use super::tiles::{Block, Job, Part, Tile, by_tiles, over_taps, passes, v, with_job};
use super::weights::{BLOCK, ConvForm, FOREIGN_FORM, LINE, Lines, PackedConv, STEP};
use std::arch::aarch64::*;
use std::ops::Range;

/// Packs a convolution for SMULL, or for Winograd's transform.
pub fn pack(layer: &Layer<'_>) -> Packed<ConvForm> {
    let by_rows = layer.inputs <= STEP && (2..=4).contains(&layer.shape.kernel);
    let form = if neon_winograd::fits(layer) {
        ConvForm::Winograd(neon_winograd::weights(layer))
    } else if !layer.is_narrow() {
        ConvForm::Fours(layer.fours())
    } else if by_rows {
        let kernel = layer.shape.kernel;
        ConvForm::EightsByRow { rows: eights(&as_rows(layer), STEP * kernel, kernel), fours: layer.fours() }
    } else {
        ConvForm::Eights(eights(&layer.rows, layer.inputs, layer.shape.taps()))
    };
    layer.packed(form, neon_finish::finish_of(layer), LOWERED, BLOCK, |output| output)
}

/// Weights of each row of taps as those of one tap, with four inputs a pixel.
fn as_rows(layer: &Layer<'_>) -> Vec<Vec<i8>> {
    let kernel = layer.shape.kernel;
    debug_assert!(layer.inputs <= STEP);
    let mut found = vec![vec![0; STEP * kernel * kernel]; layer.rows.len()];
    for (row, found) in layer.rows.iter().zip(&mut found) {
        for (at, &weight) in row.iter().enumerate() {
            let (input, y, x) = (at / (kernel * kernel), at / kernel % kernel, at % kernel);
            found[(x * STEP + input) * kernel + y] = weight;
        }
    }
    found
}

/// The form of [`ConvForm::Eights`], of outputs whose weights are `[input][tap]`.
fn eights<R: AsRef<[i8]>>(rows: &[R], inputs: usize, taps: usize) -> Lines {
    let bytes = tap_bytes(inputs);
    let mut lines = Lines::zeroed(rows.len().div_ceil(8) * taps * bytes);
    for (output, row) in rows.iter().map(AsRef::as_ref).enumerate() {
        for input in 0..inputs {
            let sixteen = input / 16 * 16;
            // The last part of a row may be a half.
            let wide = if inputs - sixteen <= 8 { 8 } else { 16 };
            for tap in 0..taps {
                let at = (output / 8 * taps + tap) * bytes + sixteen * 8 + output % 8 * wide + input % 16;
                lines.set(at, row[input * taps + tap]);
            }
        }
    }
    lines
}

/// Bytes of one tap of a block of 8 outputs in the form [`ConvForm::Eights`]: whole sixteens of inputs, and a
/// half where eight or fewer are left.
fn tap_bytes(inputs: usize) -> usize {
    8 * inputs.next_multiple_of(8)
}

/// Convolution of weights that [`pack`] made.
///
/// # Safety
/// The weights are for the window's shape and channels.
pub unsafe fn conv(weights: &PackedConv, window: &mut Window<'_>) {
    // SAFETY: the caller guarantees weights for the window, and each arm passes the weights in the form that
    // its function reads.
    unsafe {
        match &weights.form {
            ConvForm::Winograd(transformed) => neon_winograd::conv(weights, transformed, window),
            ConvForm::Eights(lines) => {
                let rows = weights.inputs.is_multiple_of(16) && weights.inputs == window.pitch;
                conv_eights(weights, lines, window, rows);
            }
            ConvForm::EightsByRow { rows, .. } if window.pitch == STEP => {
                conv_eights(weights, rows, window, true)
            }
            ConvForm::EightsByRow { fours, .. } | ConvForm::Fours(fours) => {
                conv_fours(weights, fours, window)
            }
            ConvForm::Plain(_) => unreachable!("{FOREIGN_FORM}"),
        }
    }
}

/// All outputs, eight at a time, of `lines` in the form [`ConvForm::Eights`].
///
/// # Safety
/// The weights are for the window's shape and channels. With `rows`, pixels have no channels but the inputs
/// (four, if there are fewer), and `lines` serve a row of taps as one tap.
unsafe fn conv_eights(weights: &PackedConv, lines: &Lines, window: &mut Window<'_>, rows: bool) {
    let block: Block = by_finish!(weights, block_of_eight);
    with_job(weights, lines, window, rows, |job| {
        for rows in passes(job.window) {
            for channel in (0..weights.outputs).step_by(8) {
                // SAFETY: the passes are rows of the window, `channel` begins a block of eight, and `lines`
                // are in their form.
                unsafe { block(job, &rows, channel) };
            }
        }
    });
}

/// All outputs, sixteen at a time, of `lines` in the form [`ConvForm::Fours`].
///
/// # Safety
/// The weights are for the window's shape and channels.
unsafe fn conv_fours(weights: &PackedConv, lines: &Lines, window: &mut Window<'_>) {
    let block: Block = by_finish!(weights, block_of_fours);
    with_job(weights, lines, window, false, |job| {
        for rows in passes(job.window) {
            for channel in (0..weights.outputs).step_by(BLOCK) {
                // SAFETY: the passes are rows of the window, `channel` begins a block of sixteen, and `lines`
                // are in their form.
                unsafe { block(job, &rows, channel) };
            }
        }
    });
}

/// Eight outputs of some rows.
///
/// # Safety
/// `rows` are of the job's window, `channel` begins a block of eight outputs, and the job's lines are in the
/// form [`ConvForm::Eights`].
unsafe fn block_of_eight<const KIND: u8>(job: &Job<'_>, rows: &Range<usize>, channel: usize) {
    let rest = usize::from(matches!(job.inputs % 16, 1..=8));
    let whole = job.inputs.div_ceil(16) - rest;
    // SAFETY: `eights` made `tap_bytes` of each tap of each block, so the block's weights begin there. Tiles
    // are of pixels of `rows`, which the caller guarantees; `channel` is below the outputs that `Window::new`
    // proved writable.
    unsafe {
        let line = job.lines.add(channel / 8 * job.taps.len() * tap_bytes(job.inputs));
        let part = Part::new(job, channel, line, whole, rest);
        by_tiles!(job.window, job.input, job.output.add(channel), rows, 3 2, |P, at| tile::<P, KIND>(&part, at));
    }
}

/// Sixteen outputs of some rows, whatever the weights.
///
/// # Safety
/// `rows` are of the job's window, `channel` begins a block of sixteen outputs, and the job's lines are in
/// the form [`ConvForm::Fours`].
unsafe fn block_of_fours<const KIND: u8>(job: &Job<'_>, rows: &Range<usize>, channel: usize) {
    // SAFETY: tiles are of pixels of `rows`, which the caller guarantees, as it does the block and the form.
    unsafe {
        by_tiles!(job.window, job.input, job.output, rows, 2, |P, at| tile_of_fours::<P, KIND>(
            job, channel, at
        ));
    }
}

/// Eight outputs of `P` pixels.
///
/// # Safety
/// `at` is of `P` pixels of the job's window, with the part's channels to be written; `part` is of a block of
/// the job's weights.
#[inline(always)]
unsafe fn tile<const P: usize, const KIND: u8>(part: &Part, at: Tile) {
    // SAFETY: the caller guarantees the pixels and the block; `Finish` knows how many of the eight outputs
    // there are, and `Window::new` proved that these may be written.
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

/// Eight products each of two outputs, whose weights are the halves of one register, and some pixels, whose
/// codes are in both halves.
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

/// Sums of eight outputs of some pixels over all taps and inputs, sixteen inputs a step: SMULL of the first
/// eight, SMLAL2 of the others, SADALP into four partial sums of each output; with three pixels that is every
/// register.
macro_rules! multiply {
    ($name:ident; $($p:literal $at:ident $x:ident $t:ident
        $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident),*) => {
        /// # Safety
        /// `at` is of pixels of a job's window, and `part` of a block of the same job's weights.
        #[inline(always)]
        unsafe fn $name(at: Tile, part: &Part, sums: &mut [[int32x4_t; 2]]) {
            // SAFETY: the assembly reads the codes of each tap, in whole sixteens or a half, from inputs that
            // the window has: `Window::new` proved 64 bytes from each. `weights` packed `8 * inputs` bytes of
            // each tap, rounded up to whole halves, and bias in whole blocks; the caller guarantees that both
            // are the part's.
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

/// Sixteen outputs of `P` pixels, for weights of which some are -128: each product is widened alone.
///
/// # Safety
/// `at` is of `P` pixels of the job's window, `channel` begins a block of sixteen outputs, and the job's
/// lines are in the form [`ConvForm::Fours`].
#[inline]
unsafe fn tile_of_fours<const P: usize, const KIND: u8>(job: &Job<'_>, channel: usize, at: Tile) {
    let w = job.weights;
    let steps = w.inputs.div_ceil(STEP);
    // SAFETY: `Layer::fours` made `steps` cache lines of each tap of each block, and `Layer::packed` bias of
    // whole blocks. Four codes are read from input `4 * step` on, which the window has: `Window::new` proved
    // 64 bytes there. `Finish` knows how many of the sixteen outputs there are, and `Window::new` proved that
    // these may be written.
    unsafe {
        let mut line = job.lines.add(channel / BLOCK * job.taps.len() * steps * LINE);
        // Of each output two partial sums: of the first and of the last two of each four inputs.
        let mut sums = [[[vdupq_n_s32(0); 2]; 4]; P];
        for &offset in job.taps {
            for step in 0..steps {
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
                line = line.add(LINE);
            }
        }
        let bias = |q: usize| vld1q_s32(w.bias.as_ptr().add(channel + 4 * q));
        let sums =
            sums.map(|sums| std::array::from_fn(|q| vaddq_s32(vpaddq_s32(sums[q][0], sums[q][1]), bias(q))));
        let finish = Finish::new(&w.requantise, channel, w.outputs);
        Epilogue::<4, KIND>::store_all(&finish, &sums, at.channel(channel));
    }
}

/// Sums that run beside each other in [`spin`], here and in `neon_dotprod.rs`.
pub const SPUN: usize = 16;

/// Runs `steps` steps of SMULL, SMLAL2 and SADALP in registers; returns their multiply-adds.
pub fn spin(steps: usize) -> u64 {
    // SAFETY: these intrinsics and instructions touch registers only, and every 64-bit ARM has them.
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
