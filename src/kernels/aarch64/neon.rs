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

use super::Sum;
use super::neon_finish::{Epilogue, Finish, Tile, by_kind, kind};
use super::plane::{MAX_KERNEL, View, ViewMut, Window};
use super::weights::{BLOCK, PackedConv, PackedDepthwise, STEP, pair_bytes};
use std::arch::aarch64::*;

/// What every tile of one convolution shares.
pub(super) struct Job<'a> {
    pub weights: &'a PackedConv,
    pub window: &'a Window,
    pub taps: &'a [usize],
    /// Input channels of a tap.
    pub inputs: usize,
    pub input: *const i8,
    pub output: *mut i8,
}

/// Bytes of input that a pass over all outputs covers: what stays in the first cache of the smallest core beside the weights of a block.
const PASS: usize = 16 << 10;

/// Runs `$run` on tiles of at most `$most` pixels side by side of output rows `$rows`: as few a row as there can be, of sizes as equal as can
/// be, which must be among `$size`; others pixel by pixel.
macro_rules! by_tiles {
    ($window:expr, $input:expr, $output:expr, $rows:expr, $most:literal $($size:literal)*, |$pixels:ident, $tile:ident| $run:expr) => {{
        let (window, width) = ($window, $window.size.1);
        let tiles = width.div_ceil($most);
        let sizes = [(width / tiles + 1, width % tiles), (width / tiles, tiles - width % tiles)];
        for y in $rows.clone() {
            let mut next = Tile {
                from: $input.add(window.input_at(y, 0)),
                across: window.input.2,
                to: $output.add(window.output_at(y, 0)),
                out: window.output.2,
            };
            for (size, count) in sizes {
                match size {
                    $most => by_tiles!(next, count, $most, $pixels, $tile, $run),
                    $($size => by_tiles!(next, count, $size, $pixels, $tile, $run),)*
                    _ => by_tiles!(next, count * size, 1, $pixels, $tile, $run),
                }
            }
        }
    }};
    ($next:ident, $count:expr, $size:literal, $pixels:ident, $tile:ident, $run:expr) => {{
        const $pixels: usize = $size;
        for _ in 0..$count {
            let $tile = $next;
            $run;
            $next = $next.after($pixels);
        }
    }};
}

pub(super) use by_tiles;

/// What all tiles of a block of outputs share.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub line: *const i8,
    pub bias: *const i32,
    pub taps: *const usize,
    pub count: usize,
    /// Whole steps of sixteen inputs of a tap, and what is left: 1 for a half step of SMULL, steps of four for SDOT.
    pub whole: usize,
    pub rest: usize,
    pub finish: Finish,
}

impl Part {
    /// Outputs of a job from `channel` on, whose weights begin at `line`.
    pub fn new(job: &Job<'_>, channel: usize, line: *const i8, whole: usize, rest: usize) -> Self {
        let w = job.weights;
        Self {
            line,
            bias: w.flipped_bias[channel..].as_ptr(),
            taps: job.taps.as_ptr(),
            count: job.taps.len(),
            whole,
            rest,
            finish: Finish::new(&w.requantise, channel, w.outputs),
        }
    }
}

/// Output rows in groups whose input fits a pass.
pub(super) fn passes(window: &Window) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
    let rows = window.size.0.clone();
    let group = (PASS / window.input.1.max(1)).max(1);
    rows.clone().step_by(group).map(move |start| start..rows.end.min(start + group))
}

/// Calls `run` with a job of the window's taps or, with `rows`, of its rows: where pixels have no channels but these, the taps of a row
/// lie side by side, as their weights do.
pub(super) fn with_job(
    weights: &PackedConv,
    window: &Window,
    input: &View<'_>,
    output: &mut ViewMut<'_>,
    rows: bool,
    run: impl FnOnce(&Job<'_>),
) {
    let (pixel, side) = (input.geometry.channels, weights.shape().kernel);
    let (input, output) = (input.data.as_ptr().cast(), output.data.as_mut_ptr().cast());
    if rows {
        let mut taps = [0; MAX_KERNEL];
        taps.iter_mut().zip(window.taps.iter().step_by(side)).for_each(|(row, tap)| *row = *tap);
        run(&Job { weights, window, taps: &taps[..side], inputs: pixel * side, input, output });
    } else {
        run(&Job { weights, window, taps: &window.taps, inputs: weights.inputs, input, output });
    }
}

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

/// Some outputs, from a channel on, of some rows.
pub(super) type Block = unsafe fn(&Job<'_>, &std::ops::Range<usize>, usize);

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

/// A register operand of the assembly by its name, as the whole vector.
macro_rules! v {
    ($name:ident) => {
        concat!("{", stringify!($name), ":v}")
    };
}
pub(super) use v;

/// The walk of some pixels over all taps and inputs of a `Part`, sixteen inputs a step, as one piece of assembly: a compiler that may reorder
/// puts all products first and spills the sums. `step` adds the products of sixteen inputs, whose codes it finds in each pixel's `$x`,
/// `rest` those of what is left of a tap, from where each `$at` points; both move `line` on. `first` and `last` come before and after all.
macro_rules! over_taps {
    (
        $tile:ident, $part:ident, [$($p:literal $at:ident $x:ident),*],
        first [$($first:tt)*] step [$($step:tt)*] rest [$($rest:tt)*] last [$($last:tt)*] registers [$($registers:tt)*]
    ) => {
        std::arch::asm!(
            $($first)*
            "2:",
            "cbz {whole}, 4f",
            "mov {steps}, {whole}",
            "3:",
            $(concat!("ldr {", stringify!($x), ":q}, [{", stringify!($at), "}], #16"),)*
            $($step)*
            "subs {steps}, {steps}, #1",
            "b.ne 3b",
            "4:",
            "cbz {rest}, 5f",
            $($rest)*
            "5:",
            "subs {count}, {count}, #1",
            "b.eq 6f",
            // From where this tap's whole steps ended to the next tap.
            "ldp {offset}, {steps}, [{taps}], #8",
            "sub {offset}, {steps}, {offset}",
            "sub {offset}, {offset}, {whole}, lsl #4",
            $(concat!("add {", stringify!($at), "}, {", stringify!($at), "}, {offset}"),)*
            "b 2b",
            "6:",
            $($last)*
            taps = inout(reg) $part.taps => _, count = inout(reg) $part.count => _, line = inout(reg) $part.line => _,
            bias = in(reg) $part.bias, whole = in(reg) $part.whole, rest = in(reg) $part.rest, steps = out(reg) _, offset = out(reg) _,
            $($at = inout(reg) $tile.from($p) => _, $x = out(vreg) _,)*
            $($registers)*
            options(readonly, nostack)
        )
    };
}
pub(super) use over_taps;

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

/// As [`Block`], of a depthwise convolution.
type DepthwiseBlock = unsafe fn(&PackedDepthwise, &Window, *const i8, *mut i8, &std::ops::Range<usize>, usize);

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
    let block: DepthwiseBlock = by_kind!(w, depthwise_block);
    for rows in passes(window) {
        for channel in (0..w.channels).step_by(BLOCK) {
            // SAFETY: see the module's words.
            unsafe { block(w, window, input, output, &rows, channel) };
        }
    }
}

unsafe fn depthwise_block<const KIND: u8>(
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
            by_tiles!(window, input, output, rows, 4 3, |P, at| depthwise_tile_wide::<P, KIND>(w, window, channel, at));
        } else {
            by_tiles!(window, input, output, rows, 4 3, |P, at| depthwise_tile::<P, KIND>(w, window, channel, at));
        }
    }
}

/// Sixteen channels of `P` pixels, two taps at a time: their products fit 16 bits together.
#[inline]
unsafe fn depthwise_tile<const P: usize, const KIND: u8>(w: &PackedDepthwise, window: &Window, channel: usize, at: Tile) {
    // SAFETY: weights and bias are padded to whole blocks; pixels are proved by the window; stores are cut to the channels.
    unsafe {
        let rows: [*const i8; P] = std::array::from_fn(|p| at.from(p).add(channel));
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
        Epilogue::<4, KIND>::store_all(&Finish::new(&w.requantise, channel, w.channels), &sums, Tile { to: at.to.add(channel), ..at });
    }
}

/// As [`depthwise_tile`], for weights of which some are -128: one tap at a time.
#[inline]
unsafe fn depthwise_tile_wide<const P: usize, const KIND: u8>(w: &PackedDepthwise, window: &Window, channel: usize, at: Tile) {
    // SAFETY: as in `depthwise_tile`.
    unsafe {
        let bias: [int32x4_t; 4] = std::array::from_fn(|q| vld1q_s32(w.flipped_bias.as_ptr().add(channel + 4 * q)));
        let mut sums = [bias; P];
        for p in 0..P {
            for (tap, offset) in window.taps.iter().enumerate() {
                let codes = vld1q_s8(at.from(p).add(offset + channel));
                let column = vld1q_s8(w.data.as_ptr().add(tap * w.wide() + channel));
                widen(&mut sums[p], vmull_s8(vget_low_s8(codes), vget_low_s8(column)), vmull_high_s8(codes, column));
            }
        }
        Epilogue::<4, KIND>::store_all(&Finish::new(&w.requantise, channel, w.channels), &sums, Tile { to: at.to.add(channel), ..at });
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

pub fn interleave(a: &[u8], b: &[u8], to: &mut [u8]) {
    let length = a.len().min(b.len()).min(to.len() / 2);
    if length < 16 {
        return super::scalar::interleave(a, b, to);
    }
    for done in (0..length).step_by(16) {
        // The last go over some of those before them.
        let at = done.min(length - 16);
        // SAFETY: sixteen codes lie within both slices there, and twice as many within the third.
        unsafe { vst2q_u8(to.as_mut_ptr().add(2 * at), uint8x16x2_t(vld1q_u8(a.as_ptr().add(at)), vld1q_u8(b.as_ptr().add(at)))) };
    }
}

pub fn translate(table: &[u8; 256], from: &[u8], to: &mut [u8]) {
    let length = from.len().min(to.len());
    if length < 16 {
        return super::scalar::translate(table, from, to);
    }
    // SAFETY: the table has 256 bytes; sixteen codes lie within both slices where they are said to.
    unsafe {
        let parts: [uint8x16x4_t; 4] = std::array::from_fn(|i| vld1q_u8_x4(table.as_ptr().add(64 * i)));
        for done in (0..length).step_by(16) {
            let at = done.min(length - 16);
            let codes = vld1q_u8(from.as_ptr().add(at));
            // Codes beyond a quarter of the table give 0 there.
            let found = vqtbl4q_u8(parts[0], codes);
            let found = vorrq_u8(found, vqtbl4q_u8(parts[1], vsubq_u8(codes, vdupq_n_u8(64))));
            let found = vorrq_u8(found, vqtbl4q_u8(parts[2], vsubq_u8(codes, vdupq_n_u8(128))));
            let found = vorrq_u8(found, vqtbl4q_u8(parts[3], vsubq_u8(codes, vdupq_n_u8(192))));
            vst1q_u8(to.as_mut_ptr().add(at), found);
        }
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
