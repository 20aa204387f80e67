//! Sums, maxima and tables for AVX2.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::Sum;
use super::avx2_finish::store_first;
use super::plane::{View, ViewMut, Window};
use super::weights::DEPTHWISE_BLOCK;
use std::arch::x86_64::*;

pub fn add(sum: &Sum, a: &[u8], b: &[u8], to: &mut [u8]) {
    let length = to.len().min(a.len()).min(b.len());
    let whole = length / 8 * 8;
    // SAFETY: the CPU has AVX2; `whole` bytes are read and written, eight at a time.
    unsafe { add_bytes(sum, a.as_ptr(), b.as_ptr(), to.as_mut_ptr(), whole) }
    super::scalar::add_codes(sum, &a[whole..length], &b[whole..length], &mut to[whole..length]);
}

#[target_feature(enable = "avx2")]
unsafe fn add_bytes(sum: &Sum, a: *const u8, b: *const u8, to: *mut u8, length: usize) {
    let [low, high] = sum.range.map(|code| _mm256_set1_ps((code - sum.zero) as f32));
    let (zeros, multipliers) = (sum.zeros.map(|z| _mm256_set1_epi32(z)), sum.multipliers.map(|m| _mm256_set1_ps(m)));
    for done in (0..length).step_by(8) {
        // SAFETY: as the caller's.
        unsafe {
            let real = |from: *const u8, i: usize| {
                let codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(done).cast()));
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(codes, zeros[i])), multipliers[i])
            };
            let t = _mm256_add_ps(real(a, 0), real(b, 1));
            let codes = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(t, low), high));
            let codes = _mm256_add_epi32(codes, _mm256_set1_epi32(sum.zero));
            let words = _mm_packus_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
            _mm_storel_epi64(to.add(done).cast(), _mm_packus_epi16(words, words));
        }
    }
}

/// 32 channels at a time.
pub fn max_pool(window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    // SAFETY: see the module's words.
    unsafe { max_pool_pixels(window, input.channels, input.data.as_ptr(), output.data.as_mut_ptr()) }
}

#[target_feature(enable = "avx2")]
unsafe fn max_pool_pixels(window: &Window, channels: usize, input: *const u8, output: *mut u8) {
    for channel in (0..channels).step_by(DEPTHWISE_BLOCK / 2) {
        let count = (channels - channel).min(DEPTHWISE_BLOCK / 2);
        for (from, to) in window.pixels() {
            // SAFETY: codes are read within the window, and past a pixel's channels within the spare bytes; stores are cut to the channels.
            unsafe {
                let mut best = _mm256_setzero_si256();
                for &tap in window.taps.iter() {
                    best = _mm256_max_epu8(best, _mm256_loadu_si256(input.add(from + channel + tap).cast()));
                }
                store_first(best, output.add(to + channel), count);
            }
        }
    }
}

/// Codes through a table, 32 at a time: each of its sixteen rows gives the codes of its own high nibble.
pub fn translate(table: &[u8; 256], from: &[u8], to: &mut [u8]) {
    let whole = from.len().min(to.len()) / 32 * 32;
    let (head, tail) = to.split_at_mut(whole);
    // SAFETY: the CPU has AVX2; `whole` bytes are read and written, 32 at a time.
    unsafe { translate_bytes(table, from.as_ptr(), head.as_mut_ptr(), whole) }
    super::scalar::translate(table, &from[whole..], tail);
}

#[target_feature(enable = "avx2")]
unsafe fn translate_bytes(table: &[u8; 256], from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: as the caller's; rows lie within the table.
    unsafe {
        for done in (0..length).step_by(32) {
            let codes = _mm256_loadu_si256(from.add(done).cast());
            let mut found = _mm256_setzero_si256();
            for row in 0..16 {
                let sixteen = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().add(16 * row).cast()));
                // Codes of another row get their top bit, which gives 0.
                let within = _mm256_adds_epu8(_mm256_sub_epi8(codes, _mm256_set1_epi8((16 * row) as i8)), _mm256_set1_epi8(0x70));
                found = _mm256_or_si256(found, _mm256_shuffle_epi8(sixteen, within));
            }
            _mm256_storeu_si256(to.add(done).cast(), found);
        }
    }
}
