//! NEON without dot products (Cortex-A53 and A72, and every other 64-bit ARM) and with them (Cortex-A76).
//!
//! Codes are moved to s8 by flipping their top bit, so that SMULL takes them with the weights. Two products fit 16 bits unless a weight is
//! -128 (2 * 128 * 128 = 2^15), so weights without it are multiplied two steps at a time (SMULL, SMLAL) before they are widened (SADALP).
//! The 128 that each code lost is given back through the sum of the weights, which is part of the bias here.
//!
//! Each `unsafe` block rests on the facts that `x86.rs` names: the CPU has NEON (every aarch64 has), and `Window::new` proved the planes.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::Sum;
use super::pack::{BLOCK, PackedConv, PackedDepthwise, Requantise};
use super::plane::{View, ViewMut, Window};
use std::arch::aarch64::*;

/// Pixels of a tile: the partial sums of two times sixteen outputs fill half of the registers.
const PIXELS: usize = 2;

pub fn conv(weights: &PackedConv, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let pixels: Vec<(usize, usize)> = window.pixels().collect();
    for block in 0..weights.outputs.div_ceil(BLOCK) {
        let mut chunks = pixels.chunks_exact(PIXELS);
        let tile = if weights.narrow { conv_tile::<PIXELS, true> } else { conv_tile::<PIXELS, false> };
        // SAFETY: see the module's words.
        unsafe {
            for chunk in &mut chunks {
                tile(weights, block, &window.taps, input.data.as_ptr(), output.data.as_mut_ptr(), chunk);
            }
            for pixel in chunks.remainder().chunks(1) {
                conv_tile::<1, false>(weights, block, &window.taps, input.data.as_ptr(), output.data.as_mut_ptr(), pixel);
            }
        }
    }
}

/// Sixteen outputs of `P` pixels. Weights lie as `[tap][step][16 outputs][4 inputs]`: a load holds four inputs of four outputs.
#[inline]
unsafe fn conv_tile<const P: usize, const NARROW: bool>(
    w: &PackedConv,
    block: usize,
    taps: &[usize],
    input: *const u8,
    output: *mut u8,
    pixels: &[(usize, usize)],
) {
    let channel = block * BLOCK;
    // SAFETY: blocks of weights and bias are whole; pixels are proved by the window; stores are cut to the channels.
    unsafe {
        let mut line = w.data.as_ptr().add(block * taps.len() * w.steps * 64);
        let flip = vdup_n_u8(0x80);
        // Of each output two partial sums: of the first and of the last two of each four inputs.
        let mut sums = [[[vdupq_n_s32(0); 2]; 4]; P];
        for &offset in taps {
            let rows: [*const u8; P] = std::array::from_fn(|p| input.add(pixels[p].0 + offset));
            let four = |row: *const u8, step: usize| {
                let four = row.add(4 * step).cast::<u32>().read_unaligned();
                vreinterpret_s8_u8(veor_u8(vreinterpret_u8_u32(vdup_n_u32(four)), flip))
            };
            let mut step = 0;
            while NARROW && step + 2 <= w.steps {
                let codes: [[int8x8_t; 2]; P] = std::array::from_fn(|p| [four(rows[p], step), four(rows[p], step + 1)]);
                for q in 0..4 {
                    let columns = [vld1q_s8(line.add(16 * q)), vld1q_s8(line.add(64 + 16 * q))];
                    for p in 0..P {
                        let low = vmull_s8(vget_low_s8(columns[0]), codes[p][0]);
                        let high = vmull_s8(vget_high_s8(columns[0]), codes[p][0]);
                        sums[p][q][0] = vpadalq_s16(sums[p][q][0], vmlal_s8(low, vget_low_s8(columns[1]), codes[p][1]));
                        sums[p][q][1] = vpadalq_s16(sums[p][q][1], vmlal_s8(high, vget_high_s8(columns[1]), codes[p][1]));
                    }
                }
                line = line.add(128);
                step += 2;
            }
            while step < w.steps {
                let codes: [int8x8_t; P] = std::array::from_fn(|p| four(rows[p], step));
                for q in 0..4 {
                    let column = vld1q_s8(line.add(16 * q));
                    for p in 0..P {
                        let low = vmull_s8(vget_low_s8(column), codes[p]);
                        let high = vmull_s8(vget_high_s8(column), codes[p]);
                        sums[p][q][0] = vpadalq_s16(sums[p][q][0], low);
                        sums[p][q][1] = vpadalq_s16(sums[p][q][1], high);
                    }
                }
                line = line.add(64);
                step += 1;
            }
        }
        let count = (w.outputs - channel).min(BLOCK);
        for p in 0..P {
            let quads: [int32x4_t; 4] = std::array::from_fn(|q| {
                let pairs = vpaddq_s32(sums[p][q][0], sums[p][q][1]);
                vaddq_s32(pairs, vld1q_s32(w.flipped_bias.as_ptr().add(channel + 4 * q)))
            });
            store(quads, &w.requantise, channel, output.add(pixels[p].1 + channel), count);
        }
    }
}

/// Pixels of a tile with dot products.
const DOT_PIXELS: usize = 5;

pub fn conv_dot(weights: &PackedConv, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let pixels: Vec<(usize, usize)> = window.pixels().collect();
    for block in 0..weights.outputs.div_ceil(BLOCK) {
        let mut chunks = pixels.chunks_exact(DOT_PIXELS);
        // SAFETY: see the module's words; `Isa` found dot products.
        unsafe {
            for chunk in &mut chunks {
                conv_tile_dot::<DOT_PIXELS>(weights, block, &window.taps, input.data.as_ptr(), output.data.as_mut_ptr(), chunk);
            }
            for pixel in chunks.remainder().chunks(1) {
                conv_tile_dot::<1>(weights, block, &window.taps, input.data.as_ptr(), output.data.as_mut_ptr(), pixel);
            }
        }
    }
}

/// Sixteen outputs of `P` pixels: each dot product takes four inputs of four outputs.
#[inline]
#[target_feature(enable = "dotprod")]
unsafe fn conv_tile_dot<const P: usize>(
    w: &PackedConv,
    block: usize,
    taps: &[usize],
    input: *const u8,
    output: *mut u8,
    pixels: &[(usize, usize)],
) {
    let channel = block * BLOCK;
    // SAFETY: blocks of weights and bias are whole; pixels are proved by the window; stores are cut to the channels. Sixteen inputs are
    // read at once only where there are as many.
    unsafe {
        let mut line = w.data.as_ptr().add(block * taps.len() * w.steps * 64);
        let flip = vdupq_n_u8(0x80);
        let bias: [int32x4_t; 4] = std::array::from_fn(|q| vld1q_s32(w.flipped_bias.as_ptr().add(channel + 4 * q)));
        let mut sums = [bias; P];
        for &offset in taps {
            let rows: [*const u8; P] = std::array::from_fn(|p| input.add(pixels[p].0 + offset));
            let mut step = 0;
            while step + 4 <= w.steps {
                let codes: [int8x16_t; P] = std::array::from_fn(|p| vreinterpretq_s8_u8(veorq_u8(vld1q_u8(rows[p].add(4 * step)), flip)));
                for q in 0..4 {
                    let columns: [int8x16_t; 4] = std::array::from_fn(|i| vld1q_s8(line.add(64 * i + 16 * q)));
                    for p in 0..P {
                        sums[p][q] = dot_lane::<0>(sums[p][q], columns[0], codes[p]);
                        sums[p][q] = dot_lane::<1>(sums[p][q], columns[1], codes[p]);
                        sums[p][q] = dot_lane::<2>(sums[p][q], columns[2], codes[p]);
                        sums[p][q] = dot_lane::<3>(sums[p][q], columns[3], codes[p]);
                    }
                }
                line = line.add(256);
                step += 4;
            }
            while step < w.steps {
                let codes: [int8x16_t; P] = std::array::from_fn(|p| {
                    let four = rows[p].add(4 * step).cast::<u32>().read_unaligned();
                    vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_u32(vdupq_n_u32(four)), flip))
                });
                for q in 0..4 {
                    let column = vld1q_s8(line.add(16 * q));
                    for p in 0..P {
                        sums[p][q] = dot_lane::<0>(sums[p][q], column, codes[p]);
                    }
                }
                line = line.add(64);
                step += 1;
            }
        }
        let count = (w.outputs - channel).min(BLOCK);
        for p in 0..P {
            store(sums[p], &w.requantise, channel, output.add(pixels[p].1 + channel), count);
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

/// Sixteen sums to `count` codes at `to`.
#[inline]
unsafe fn store(sums: [int32x4_t; 4], requantise: &Requantise, channel: usize, to: *mut u8, count: usize) {
    let [low, high] = requantise.range.map(|code| (code - requantise.zero) as f32);
    // SAFETY: multipliers hold whole blocks from `channel`; `count` codes are written.
    unsafe {
        let codes: [int16x4_t; 4] = std::array::from_fn(|q| {
            let multiplier = vld1q_f32(requantise.multipliers.as_ptr().add(channel + 4 * q));
            let t = vmulq_f32(vcvtq_f32_s32(sums[q]), multiplier);
            let t = vmaxq_f32(t, vmulq_f32(vdupq_n_f32(requantise.slope), t));
            let t = vminq_f32(vmaxq_f32(t, vdupq_n_f32(low)), vdupq_n_f32(high));
            vmovn_s32(vaddq_s32(vcvtnq_s32_f32(t), vdupq_n_s32(requantise.zero)))
        });
        let bytes = vcombine_u8(vqmovun_s16(vcombine_s16(codes[0], codes[1])), vqmovun_s16(vcombine_s16(codes[2], codes[3])));
        if count == BLOCK {
            vst1q_u8(to, bytes);
        } else {
            let mut spare = [0u8; BLOCK];
            vst1q_u8(spare.as_mut_ptr(), bytes);
            std::ptr::copy_nonoverlapping(spare.as_ptr(), to, count);
        }
    }
}

pub fn depthwise(w: &PackedDepthwise, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    for (from, to) in window.pixels() {
        for channel in (0..w.channels).step_by(BLOCK) {
            // SAFETY: weights and bias are padded to whole blocks; the pixel is proved by the window; stores are cut to the channels.
            unsafe {
                let mut sums: [int32x4_t; 4] = std::array::from_fn(|q| vld1q_s32(w.bias.as_ptr().add(channel + 4 * q)));
                for (tap, offset) in window.taps.iter().enumerate() {
                    // A code of up to 255 times a weight fits 16 bits, so the product is taken there.
                    let codes = vld1q_u8(input.data.as_ptr().add(from + offset + channel));
                    let column = vld1q_s8(w.data.as_ptr().add(tap * w.wide() + channel));
                    let low = vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(codes))), vmovl_s8(vget_low_s8(column)));
                    let high = vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(codes))), vmovl_s8(vget_high_s8(column)));
                    sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
                    sums[1] = vaddw_s16(sums[1], vget_high_s16(low));
                    sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
                    sums[3] = vaddw_s16(sums[3], vget_high_s16(high));
                }
                let count = (w.channels - channel).min(BLOCK);
                store(sums, &w.requantise, channel, output.data.as_mut_ptr().add(to + channel), count);
            }
        }
    }
}

pub fn add_codes(sum: &Sum, a: &[u8], b: &[u8], to: &mut [u8]) {
    let length = to.len().min(a.len()).min(b.len());
    let whole = length / 8 * 8;
    let [low, high] = sum.range.map(|code| (code - sum.zero) as f32);
    for done in (0..whole).step_by(8) {
        // SAFETY: eight codes from `done` lie within all three slices.
        unsafe {
            let half = |words: uint16x4_t, i: usize| {
                let codes = vsubq_s32(vreinterpretq_s32_u32(vmovl_u16(words)), vdupq_n_s32(sum.zeros[i]));
                vmulq_f32(vcvtq_f32_s32(codes), vdupq_n_f32(sum.multipliers[i]))
            };
            let (a, b) = (vmovl_u8(vld1_u8(a.as_ptr().add(done))), vmovl_u8(vld1_u8(b.as_ptr().add(done))));
            let code = |t: float32x4_t| {
                let t = vminq_f32(vmaxq_f32(t, vdupq_n_f32(low)), vdupq_n_f32(high));
                vmovn_s32(vaddq_s32(vcvtnq_s32_f32(t), vdupq_n_s32(sum.zero)))
            };
            let first = code(vaddq_f32(half(vget_low_u16(a), 0), half(vget_low_u16(b), 1)));
            let second = code(vaddq_f32(half(vget_high_u16(a), 0), half(vget_high_u16(b), 1)));
            vst1_u8(to.as_mut_ptr().add(done), vqmovun_s16(vcombine_s16(first, second)));
        }
    }
    super::scalar::add_codes(sum, &a[whole..length], &b[whole..length], &mut to[whole..length]);
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
