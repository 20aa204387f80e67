//! Depthwise convolutions for NEON.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::neon_finish::{Epilogue, Finish, by_kind, kind};
use super::plane::{View, ViewMut, Window};
use super::tiles::{Tile, by_tiles, passes};
use super::weights::{BLOCK, PackedDepthwise};
use std::arch::aarch64::*;

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
