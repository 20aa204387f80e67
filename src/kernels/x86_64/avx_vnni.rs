//! AVX-VNNI: convolutions, depthwise ones too; all else is AVX2's.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::avx2_finish::store_first;
use super::avx512_vnni::Job;
use super::peak::spin;
use super::plane::{Pixels, View, ViewMut, Window};
use super::weights::{BLOCK, DEPTHWISE_BLOCK, LINE, PackedConv, PackedDepthwise, Requantise};
use std::arch::x86_64::*;

/// Pixels of a tile: twelve sums, two columns of weights and one of codes fill the registers.
const VNNI_PIXELS: usize = 6;

pub fn conv_avx_vnni(weights: &PackedConv, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let job = Job { weights, taps: &window.taps, input: input.data.as_ptr(), output: output.data.as_mut_ptr() };
    for block in 0..weights.outputs.div_ceil(BLOCK) {
        // SAFETY: see the module's words.
        unsafe { conv_pixels_avx_vnni(&job, block, window) }
    }
}

#[target_feature(enable = "avx2,avxvnni")]
unsafe fn conv_pixels_avx_vnni(job: &Job<'_>, block: usize, window: &Window) {
    let mut left = window.count();
    let mut pixels = Pixels::new(window);
    // SAFETY: as the caller's.
    unsafe {
        while left >= VNNI_PIXELS {
            let (from, to) = pixels.take::<VNNI_PIXELS>();
            conv_tile_avx_vnni::<VNNI_PIXELS>(job, block, &from, &to);
            left -= VNNI_PIXELS;
        }
        while left > 0 {
            let (from, to) = pixels.take::<1>();
            conv_tile_avx_vnni::<1>(job, block, &from, &to);
            left -= 1;
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn conv_tile_avx_vnni<const P: usize>(job: &Job<'_>, block: usize, from: &[usize; P], to: &[usize; P]) {
    let w = job.weights;
    let (steps, taps) = (w.steps, job.taps.len());
    let channel = block * BLOCK;
    // SAFETY: blocks of weights, bias and multipliers are whole; pixels are proved by the window; stores are cut to the channels.
    unsafe {
        let weights = w.data.as_ptr().add(block * taps * steps * LINE);
        let mut sums = [[_mm256_setzero_si256(); 2]; P];
        for (tap, &offset) in job.taps.iter().enumerate() {
            let line = weights.add(tap * steps * LINE);
            let rows: [*const u8; P] = std::array::from_fn(|p| job.input.add(from[p] + offset));
            for step in 0..steps {
                let columns: [__m256i; 2] = std::array::from_fn(|half| _mm256_load_si256(line.add(step * LINE + 32 * half).cast()));
                for p in 0..P {
                    let codes = _mm256_set1_epi32(rows[p].add(4 * step).cast::<i32>().read_unaligned());
                    for half in 0..2 {
                        sums[p][half] = _mm256_dpbusd_avx_epi32(sums[p][half], codes, columns[half]);
                    }
                }
            }
        }
        let count = (w.outputs - channel).min(BLOCK);
        for p in 0..P {
            store_avx2(sums[p], &w.bias[channel..], &w.requantise, channel, job.output.add(to[p] + channel), count);
        }
    }
}

/// As [`depthwise_avx512`], half a block at a time: the lower half of each line of interleaved weights holds its first 32 channels.
pub fn depthwise_avx_vnni(weights: &PackedDepthwise, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    // SAFETY: see the module's words.
    unsafe { depthwise_pixels_avx_vnni(weights, window, input.data.as_ptr(), output.data.as_mut_ptr()) }
}

#[target_feature(enable = "avx2,avxvnni")]
unsafe fn depthwise_pixels_avx_vnni(w: &PackedDepthwise, window: &Window, input: *const u8, output: *mut u8) {
    const HALF: usize = DEPTHWISE_BLOCK / 2;
    let groups = window.taps.len().div_ceil(4);
    let taps = window.taps.by_fours();
    let epilogue = Epilogue256::new(&w.requantise);
    for channel in (0..w.channels).step_by(HALF) {
        let (block, half) = (channel / DEPTHWISE_BLOCK, channel % DEPTHWISE_BLOCK / HALF);
        let count = (w.channels - channel).min(HALF);
        // SAFETY: blocks of weights, bias and multipliers are whole; pixels are proved by the window; stores are cut to the channels.
        unsafe {
            let weights = w.interleaved.as_ptr().add(block * groups * 4 * LINE + half * HALF);
            let place = |q: usize| block * DEPTHWISE_BLOCK + 16 * q + 8 * half;
            let bias: [__m256i; 4] = std::array::from_fn(|q| _mm256_loadu_si256(w.interleaved_bias.as_ptr().add(place(q)).cast()));
            for (from, to) in window.pixels() {
                let at = input.add(from + channel);
                let mut sums = bias;
                for (group, taps) in taps.chunks_exact(4).enumerate() {
                    let rows: [__m256i; 4] = std::array::from_fn(|t| _mm256_loadu_si256(at.add(taps[t]).cast()));
                    let (low01, high01) = (_mm256_unpacklo_epi8(rows[0], rows[1]), _mm256_unpackhi_epi8(rows[0], rows[1]));
                    let (low23, high23) = (_mm256_unpacklo_epi8(rows[2], rows[3]), _mm256_unpackhi_epi8(rows[2], rows[3]));
                    let quads = [
                        _mm256_unpacklo_epi16(low01, low23),
                        _mm256_unpackhi_epi16(low01, low23),
                        _mm256_unpacklo_epi16(high01, high23),
                        _mm256_unpackhi_epi16(high01, high23),
                    ];
                    for q in 0..4 {
                        let column = _mm256_load_si256(weights.add((group * 4 + q) * LINE).cast());
                        sums[q] = _mm256_dpbusd_avx_epi32(sums[q], quads[q], column);
                    }
                }
                let codes: [__m256i; 4] = std::array::from_fn(|q| {
                    let multiplier = _mm256_loadu_ps(w.interleaved_multipliers.as_ptr().add(place(q)));
                    epilogue.codes(sums[q], multiplier)
                });
                let pairs = [_mm256_packus_epi32(codes[0], codes[1]), _mm256_packus_epi32(codes[2], codes[3])];
                let bytes = _mm256_packus_epi16(pairs[0], pairs[1]);
                store_first(bytes, output.add(to + channel), count);
            }
        }
    }
}

/// Requantisation's constants, in registers.
#[derive(Clone, Copy)]
struct Epilogue256 {
    slope: __m256,
    low: __m256,
    high: __m256,
    zero: __m256i,
}

impl Epilogue256 {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(requantise: &Requantise) -> Self {
        let [low, high] = requantise.range.map(|code| (code - requantise.zero) as f32);
        Self {
            slope: _mm256_set1_ps(requantise.slope),
            low: _mm256_set1_ps(low),
            high: _mm256_set1_ps(high),
            zero: _mm256_set1_epi32(requantise.zero),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn codes(self, sums: __m256i, multiplier: __m256) -> __m256i {
        let t = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), multiplier);
        let t = _mm256_max_ps(t, _mm256_mul_ps(self.slope, t));
        let t = _mm256_min_ps(_mm256_max_ps(t, self.low), self.high);
        _mm256_add_epi32(_mm256_cvtps_epi32(t), self.zero)
    }
}

/// Sixteen sums without bias to `count` codes at `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_avx2(halves: [__m256i; 2], bias: &[i32], requantise: &Requantise, channel: usize, to: *mut u8, count: usize) {
    let epilogue = Epilogue256::new(requantise);
    // SAFETY: bias and multipliers hold whole blocks from `channel`; `count` codes are written.
    unsafe {
        let codes: [__m256i; 2] = std::array::from_fn(|half| {
            let sum = _mm256_add_epi32(halves[half], _mm256_loadu_si256(bias.as_ptr().add(8 * half).cast()));
            let multiplier = _mm256_loadu_ps(requantise.multipliers.as_ptr().add(channel + 8 * half));
            epilogue.codes(sum, multiplier)
        });
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(codes[0], codes[1]));
        let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        store_first(bytes, to, count);
    }
}

spin!(spin_avx_vnni, "avx2,avxvnni", 32, _mm256_setzero_si256, _mm256_set1_epi8, |sum, a, b| _mm256_dpbusd_avx_epi32(*sum, a, b));
