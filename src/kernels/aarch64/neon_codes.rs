//! Maxima, sums, tables and concatenations for NEON.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::Sum;
use super::plane::{View, ViewMut, Window};
use super::weights::BLOCK;
use std::arch::aarch64::*;

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
