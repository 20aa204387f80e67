//! Maxima, sums, tables and concatenations for NEON.
#![allow(unsafe_code)]

use super::plane::Window;
use super::{LOWERED, Sum, scalar};
use std::arch::aarch64::*;

/// Codes of a register.
const WIDTH: usize = 16;

/// Largest code of each channel under the window, sixteen channels at a time.
///
/// # Safety
/// The window has as many outputs as inputs.
pub unsafe fn max_pool(window: &mut Window<'_>) {
    let (from, to) = (window.input.as_ptr().cast::<i8>(), window.output.as_mut_ptr().cast::<i8>());
    let channels = window.inputs;
    for (pixel, out) in window.pixels() {
        for channel in (0..channels).step_by(WIDTH) {
            // SAFETY: `channel` is below the window's channels, so `Window::new` proved 64 bytes readable
            // from it on at every tap, and as many codes as are left of the channels writable.
            unsafe {
                let codes = |offset: usize| vld1q_s8(from.add(pixel + offset + channel));
                let best =
                    window.taps[1..].iter().fold(codes(0), |best, &offset| vmaxq_s8(best, codes(offset)));
                store(best, to.add(out + channel), (channels - channel).min(WIDTH));
            }
        }
    }
}

/// Stores the first `count` of sixteen bytes.
///
/// # Safety
/// `count` is at most 16, and as many bytes may be written.
#[inline(always)]
unsafe fn store(bytes: int8x16_t, to: *mut i8, count: usize) {
    // SAFETY: the caller guarantees `count` bytes, and each arm writes just as many.
    unsafe {
        if count == WIDTH {
            vst1q_s8(to, bytes);
        } else if count == 8 {
            vst1_s8(to, vget_low_s8(bytes));
        } else {
            let mut spare = [0; WIDTH];
            vst1q_s8(spare.as_mut_ptr(), bytes);
            std::ptr::copy_nonoverlapping(spare.as_ptr(), to, count);
        }
    }
}

/// Sums of codes, eight at a time.
pub fn add(sum: &Sum, a: &[u8], b: &[u8], to: &mut [u8]) {
    let length = to.len().min(a.len()).min(b.len());
    let (a, a_rest) = a[..length].as_chunks::<8>();
    let (b, b_rest) = b[..length].as_chunks::<8>();
    let (to, to_rest) = to[..length].as_chunks_mut::<8>();
    for ((a, b), to) in a.iter().zip(b).zip(to) {
        add_eight(sum, a, b, to);
    }
    if !to_rest.is_empty() {
        let mut rest = [[0; 8]; 3];
        rest[0][..a_rest.len()].copy_from_slice(a_rest);
        rest[1][..b_rest.len()].copy_from_slice(b_rest);
        let [a, b, sums] = &mut rest;
        add_eight(sum, a, b, sums);
        to_rest.copy_from_slice(&sums[..to_rest.len()]);
    }
}

/// Sums of eight codes.
#[inline(always)]
fn add_eight(sum: &Sum, a: &[u8; 8], b: &[u8; 8], to: &mut [u8; 8]) {
    let [low, high] = sum.range.map(|code| (code - sum.zero) as f32);
    // SAFETY: the loads and the store are of the eight bytes of a reference, at any alignment; all else
    // touches registers only, and every 64-bit ARM has it.
    unsafe {
        let zeros = sum.zeros.map(|zero| vdupq_n_s16((zero - LOWERED) as i16));
        let centred =
            |codes: &[u8; 8], i: usize| vsubq_s16(vmovl_s8(vld1_s8(codes.as_ptr().cast())), zeros[i]);
        let real =
            |words: int16x4_t, i: usize| vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(words)), sum.multipliers[i]);
        let clamped = |t: float32x4_t| vminq_f32(vmaxq_f32(t, vdupq_n_f32(low)), vdupq_n_f32(high));
        let code = |t: float32x4_t| vmovn_s32(vcvtnq_s32_f32(clamped(t)));
        let (a, b) = (centred(a, 0), centred(b, 1));
        let first = code(vaddq_f32(real(vget_low_s16(a), 0), real(vget_low_s16(b), 1)));
        let second = code(vaddq_f32(real(vget_high_s16(a), 0), real(vget_high_s16(b), 1)));
        let codes = vaddq_s16(vcombine_s16(first, second), vdupq_n_s16((sum.zero - LOWERED) as i16));
        vst1_s8(to.as_mut_ptr().cast(), vmovn_s16(codes));
    }
}

/// Codes of two slices in turn, sixteen of each at a time.
pub fn interleave(a: &[u8], b: &[u8], to: &mut [u8]) {
    let length = a.len().min(b.len()).min(to.len() / 2);
    if length < WIDTH {
        return scalar::interleave(a, b, to);
    }
    for done in (0..length).step_by(WIDTH) {
        // The last step goes over some codes of the one before it.
        let at = done.min(length - WIDTH);
        // SAFETY: `at` is at most `length - 16`, so sixteen codes follow in `a` and `b`, and twice as many
        // from `2 * at` on in `to`.
        unsafe {
            let both = uint8x16x2_t(vld1q_u8(a.as_ptr().add(at)), vld1q_u8(b.as_ptr().add(at)));
            vst2q_u8(to.as_mut_ptr().add(2 * at), both);
        }
    }
}

/// Codes through a table, sixteen at a time, a quarter of the table after the other.
pub fn translate(table: &[u8; 256], from: &[u8], to: &mut [u8]) {
    let length = from.len().min(to.len());
    if length < WIDTH {
        return scalar::translate(table, from, to);
    }
    // SAFETY: each part is 64 of the table's 256 bytes. `at` is at most `length - 16`, so sixteen codes
    // follow in both slices.
    unsafe {
        let parts: [uint8x16x4_t; 4] = std::array::from_fn(|i| vld1q_u8_x4(table.as_ptr().add(64 * i)));
        for done in (0..length).step_by(WIDTH) {
            let at = done.min(length - WIDTH);
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
