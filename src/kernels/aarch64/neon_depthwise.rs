//! Depthwise convolutions for NEON without dot products, sixteen channels at a time.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::LOWERED;
use super::finish::by_finish;
use super::neon_finish::{self, Epilogue, Finish};
use super::pack::{Layer, Packed};
use super::plane::Window;
use super::tiles::{Tile, by_tiles, passes};
use super::weights::{BLOCK, DEPTHWISE_BLOCK, DepthwiseForm, FOREIGN_FORM, PackedDepthwise};
use std::arch::aarch64::*;
use std::ops::Range;

/// Packs a depthwise convolution by tap; without a weight of -128 the products of two taps fit 16 bits
/// together.
pub fn pack(layer: &Layer<'_>) -> Packed<DepthwiseForm> {
    let by_tap = layer.by_tap();
    let form =
        if layer.is_narrow() { DepthwiseForm::ByTapPaired(by_tap) } else { DepthwiseForm::ByTap(by_tap) };
    layer.packed(form, neon_finish::finish_of(layer), LOWERED, DEPTHWISE_BLOCK, |channel| channel)
}

/// What every block of one depthwise convolution shares.
struct Job<'a> {
    packed: &'a PackedDepthwise,
    /// `[tap][channel]`, channels padded to whole blocks.
    weights: *const i8,
    window: &'a Window<'a>,
    input: *const i8,
    output: *mut i8,
}

/// Sixteen channels, from one on, of some rows of a job's window.
type Block = unsafe fn(&Job<'_>, &Range<usize>, usize);

/// Depthwise convolution of weights that [`pack`] made.
///
/// # Safety
/// The weights are for the window's shape and channels.
pub unsafe fn depthwise(packed: &PackedDepthwise, window: &mut Window<'_>) {
    let (weights, block): (&Vec<i8>, Block) = match &packed.form {
        DepthwiseForm::ByTapPaired(weights) => (weights, by_finish!(packed, block_paired)),
        DepthwiseForm::ByTap(weights) => (weights, by_finish!(packed, block)),
        DepthwiseForm::Columns(_) => unreachable!("{FOREIGN_FORM}"),
    };
    let (input, output) = (window.input.as_ptr().cast(), window.output.as_mut_ptr().cast());
    let job = Job { packed, weights: weights.as_ptr(), window, input, output };
    for rows in passes(job.window) {
        for channel in (0..packed.channels).step_by(BLOCK) {
            // SAFETY: the passes are rows of the window, `channel` begins sixteen of its channels, and the
            // weights are in the form that `block` reads.
            unsafe { block(&job, &rows, channel) };
        }
    }
}

/// What all tiles of sixteen channels share.
struct Part<'a> {
    /// The first of these channels.
    channel: usize,
    taps: &'a [usize],
    /// Their weights of the first tap.
    line: *const i8,
    /// From the weights of one tap to those of the next.
    step: usize,
    bias: *const i32,
    finish: Finish,
}

impl<'a> Part<'a> {
    /// The sixteen channels from `channel` on.
    ///
    /// # Safety
    /// `channel` is a multiple of 16 below the job's channels.
    unsafe fn new(job: &'a Job<'_>, channel: usize) -> Self {
        let w = job.packed;
        // SAFETY: `Layer::by_tap` padded the weights of each tap to whole blocks of 64 channels, so the
        // channel's are there.
        let line = unsafe { job.weights.add(channel) };
        let finish = Finish::new(&w.requantise, channel, w.channels);
        let bias = w.bias[channel..].as_ptr();
        Self { channel, taps: &job.window.taps, line, step: w.padded_channels(), bias, finish }
    }
}

/// Sixteen channels of some rows, two taps at a time.
///
/// # Safety
/// `rows` are of the job's window, `channel` is a multiple of 16 below its channels, and no weight is -128.
unsafe fn block_paired<const KIND: u8>(job: &Job<'_>, rows: &Range<usize>, channel: usize) {
    // SAFETY: tiles are of pixels of `rows`, which the caller guarantees, as it does the channel.
    unsafe {
        let part = Part::new(job, channel);
        by_tiles!(job.window, job.input, job.output, rows, 4 3, |P, at| tile_paired::<P, KIND>(&part, at));
    }
}

/// Sixteen channels of some rows, one tap at a time.
///
/// # Safety
/// `rows` are of the job's window, and `channel` is a multiple of 16 below its channels.
unsafe fn block<const KIND: u8>(job: &Job<'_>, rows: &Range<usize>, channel: usize) {
    // SAFETY: tiles are of pixels of `rows`, which the caller guarantees, as it does the channel.
    unsafe {
        let part = Part::new(job, channel);
        by_tiles!(job.window, job.input, job.output, rows, 4 3, |P, at| tile::<P, KIND>(&part, at));
    }
}

/// Adds sixteen products of 16 bits to sums of 32.
#[inline(always)]
fn widen(sums: &mut [int32x4_t; 4], low: int16x8_t, high: int16x8_t) {
    // SAFETY: these intrinsics touch registers only, and every 64-bit ARM has them.
    unsafe {
        sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
        sums[1] = vaddw_high_s16(sums[1], low);
        sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
        sums[3] = vaddw_high_s16(sums[3], high);
    }
}

/// Sixteen channels of `P` pixels, two taps at a time: their products fit 16 bits together.
///
/// # Safety
/// `at` is of `P` pixels of the job's window, `channel` is a multiple of 16 below its channels, and no weight
/// is -128.
#[inline]
unsafe fn tile_paired<const P: usize, const KIND: u8>(part: &Part<'_>, at: Tile) {
    let (channel, step) = (part.channel, part.step);
    // SAFETY: `Layer::by_tap` and `Layer::packed` padded weights and bias to whole blocks of 64 channels, so
    // sixteen follow from `channel` on at each tap. `channel` is one of the window's, and `Window::new`
    // proved 64 bytes from it on. `Finish` knows how many of the sixteen channels there are, and
    // `Window::new` proved that these may be written.
    unsafe {
        let rows: [*const i8; P] = std::array::from_fn(|p| at.from(p).add(channel));
        let codes = |p: usize, offset: usize| vld1q_s8(rows[p].add(offset));
        let mut line = part.line;
        let bias: [int32x4_t; 4] = std::array::from_fn(|q| vld1q_s32(part.bias.add(4 * q)));
        let mut sums = [bias; P];
        let mut pairs = part.taps.chunks_exact(2);
        for pair in &mut pairs {
            let (first, second) = (vld1q_s8(line), vld1q_s8(line.add(step)));
            line = line.add(2 * step);
            for p in 0..P {
                let (a, b) = (codes(p, pair[0]), codes(p, pair[1]));
                let low = vmull_s8(vget_low_s8(a), vget_low_s8(first));
                let low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(second));
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
        Epilogue::<4, KIND>::store_all(&part.finish, &sums, at.channel(channel));
    }
}

/// Sixteen channels of `P` pixels, for weights of which some are -128: one tap at a time.
///
/// # Safety
/// `at` is of `P` pixels of the part's window.
#[inline]
unsafe fn tile<const P: usize, const KIND: u8>(part: &Part<'_>, at: Tile) {
    let (channel, step) = (part.channel, part.step);
    // SAFETY: `Layer::by_tap` and `Layer::packed` padded weights and bias to whole blocks of 64 channels, so
    // sixteen follow from `channel` on at each tap. `channel` is one of the window's, and `Window::new`
    // proved 64 bytes from it on. `Finish` knows how many of the sixteen channels there are, and
    // `Window::new` proved that these may be written.
    unsafe {
        let bias: [int32x4_t; 4] = std::array::from_fn(|q| vld1q_s32(part.bias.add(4 * q)));
        let mut sums = [bias; P];
        for p in 0..P {
            for (tap, offset) in part.taps.iter().enumerate() {
                let codes = vld1q_s8(at.from(p).add(offset + channel));
                let column = vld1q_s8(part.line.add(tap * step));
                let low = vmull_s8(vget_low_s8(codes), vget_low_s8(column));
                widen(&mut sums[p], low, vmull_high_s8(codes, column));
            }
        }
        Epilogue::<4, KIND>::store_all(&part.finish, &sums, at.channel(channel));
    }
}
