//! Sums, maxima and tables for AVX2.
#![allow(unsafe_code)]

use super::Sum;
use super::avx2_finish::store_first;
use super::plane::Window;
use super::scalar;
use std::arch::x86_64::*;

/// Codes of a register.
const WIDTH: usize = 32;

/// Sums of codes, eight at a time.
#[target_feature(enable = "avx2")]
pub fn add(sum: &Sum, a: &[u8], b: &[u8], to: &mut [u8]) {
    let length = to.len().min(a.len()).min(b.len());
    let (a, a_rest) = a[..length].as_chunks::<8>();
    let (b, b_rest) = b[..length].as_chunks::<8>();
    let (to, to_rest) = to[..length].as_chunks_mut::<8>();
    let [low, high] = sum.range.map(|code| _mm256_set1_ps((code - sum.zero) as f32));
    let (zeros, multipliers) =
        (sum.zeros.map(|z| _mm256_set1_epi32(z)), sum.multipliers.map(|m| _mm256_set1_ps(m)));
    let real = |eight: &[u8; 8], i: usize| {
        // SAFETY: the reference is to eight bytes, and the load takes eight at any alignment.
        let codes = _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(eight.as_ptr().cast()) });
        _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(codes, zeros[i])), multipliers[i])
    };
    for ((a, b), to) in a.iter().zip(b).zip(to) {
        let t = _mm256_add_ps(real(a, 0), real(b, 1));
        let codes = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(t, low), high));
        let codes = _mm256_add_epi32(codes, _mm256_set1_epi32(sum.zero));
        let words = _mm_packus_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
        // SAFETY: the reference is to eight bytes, and the store writes eight at any alignment.
        unsafe { _mm_storel_epi64(to.as_mut_ptr().cast(), _mm_packus_epi16(words, words)) };
    }
    scalar::add(sum, a_rest, b_rest, to_rest);
}

/// Largest code of each channel under the window, 32 channels at a time.
///
/// # Safety
/// The CPU has AVX2; the window has as many outputs as inputs.
#[target_feature(enable = "avx2")]
pub unsafe fn max_pool(window: &mut Window<'_>) {
    let (input, output, channels) = (window.input.as_ptr(), window.output.as_mut_ptr(), window.inputs);
    for channel in (0..channels).step_by(WIDTH) {
        let count = (channels - channel).min(WIDTH);
        for (from, to) in window.pixels() {
            // SAFETY: `channel` is below the window's channels, so `Window::new` proved 64 bytes readable
            // from it on at every tap, and `count` channels from it on writable.
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
#[target_feature(enable = "avx2")]
pub fn translate(table: &[u8; 256], from: &[u8], to: &mut [u8]) {
    let length = from.len().min(to.len());
    let (from, from_rest) = from[..length].as_chunks::<WIDTH>();
    let (to, to_rest) = to[..length].as_chunks_mut::<WIDTH>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: the reference is to 32 bytes, and the load takes 32 at any alignment.
        let codes = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
        let mut found = _mm256_setzero_si256();
        for (row, sixteen) in table.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: the reference is to 16 bytes, and the load takes 16 at any alignment.
            let sixteen = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(sixteen.as_ptr().cast()) });
            // Codes of another row get their top bit set, for which the shuffle gives 0.
            let within = _mm256_sub_epi8(codes, _mm256_set1_epi8((16 * row) as i8));
            let within = _mm256_adds_epu8(within, _mm256_set1_epi8(0x70));
            found = _mm256_or_si256(found, _mm256_shuffle_epi8(sixteen, within));
        }
        // SAFETY: the reference is to 32 bytes, and the store writes 32 at any alignment.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), found) };
    }
    scalar::translate(table, from_rest, to_rest);
}
