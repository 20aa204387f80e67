//! AVX-512 VNNI and AVX-VNNI; `avx2.rs` has AVX2 without dot products.
//!
//! Each `unsafe` block rests on the same two facts, checked before any kernel runs: `Isa::available` found the CPU's features, and
//! `Window::new` proved that every tap of every output pixel lies in the input's plane and every output pixel in the output's. Vector
//! loads may overrun a pixel's channels by less than `plane::SPARE` bytes, which each plane has at its end.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::Sum;
use super::peak::spin;
use super::plane::{Pixels, View, ViewMut, Window};
use super::weights::{BLOCK, DEPTHWISE_BLOCK, LINE, PackedConv, PackedDepthwise, Requantise};
use std::arch::x86_64::*;

/// What every tile of one convolution shares.
pub(super) struct Job<'a> {
    pub weights: &'a PackedConv,
    pub taps: &'a [usize],
    pub input: *const u8,
    pub output: *mut u8,
}

pub fn conv_avx512(weights: &PackedConv, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let job = Job { weights, taps: &window.taps, input: input.data.as_ptr(), output: output.data.as_mut_ptr() };
    let blocks = weights.outputs.div_ceil(BLOCK);
    let mut block = 0;
    while block < blocks {
        // As wide as registers allow, but no single block left over: 5 is 3 + 2, 6 is 3 + 3.
        let wide = match blocks - block {
            1 => 1,
            2 => 2,
            3 | 5 | 6 => 3,
            _ => 4,
        };
        // SAFETY: see the module's words.
        unsafe {
            match wide {
                1 => conv_pixels_avx512::<14, 1>(&job, block, window),
                2 => conv_pixels_avx512::<12, 2>(&job, block, window),
                3 => conv_pixels_avx512::<8, 3>(&job, block, window),
                _ => conv_pixels_avx512::<6, 4>(&job, block, window),
            }
        }
        block += wide;
    }
}

/// All pixels of `N` blocks of outputs, `P` at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn conv_pixels_avx512<const P: usize, const N: usize>(job: &Job<'_>, block: usize, window: &Window) {
    let mut left = window.count();
    let mut pixels = Pixels::new(window);
    // SAFETY: as the caller's.
    unsafe {
        while left >= P {
            let (from, to) = pixels.take::<P>();
            conv_tile_avx512::<P, N>(job, block, &from, &to);
            left -= P;
        }
        while left >= 4 {
            let (from, to) = pixels.take::<4>();
            conv_tile_avx512::<4, N>(job, block, &from, &to);
            left -= 4;
        }
        while left > 0 {
            let (from, to) = pixels.take::<1>();
            conv_tile_avx512::<1, N>(job, block, &from, &to);
            left -= 1;
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn conv_tile_avx512<const P: usize, const N: usize>(job: &Job<'_>, block: usize, from: &[usize; P], to: &[usize; P]) {
    let w = job.weights;
    let (steps, taps) = (w.steps, job.taps.len());
    // SAFETY: blocks of weights, bias and multipliers are whole; pixels are proved by the window; stores are masked to the channels.
    unsafe {
        let weights = w.data.as_ptr().add(block * taps * steps * LINE);
        let between = taps * steps * LINE;
        let mut sums = [[_mm512_setzero_si512(); N]; P];
        for n in 0..N {
            let bias = _mm512_loadu_si512(w.bias.as_ptr().add((block + n) * BLOCK).cast());
            for row in &mut sums {
                row[n] = bias;
            }
        }
        for (tap, &offset) in job.taps.iter().enumerate() {
            let line = weights.add(tap * steps * LINE);
            let rows: [*const u8; P] = std::array::from_fn(|p| job.input.add(from[p] + offset));
            for step in 0..steps {
                let columns: [__m512i; N] = std::array::from_fn(|n| _mm512_load_si512(line.add(n * between + step * LINE).cast()));
                for p in 0..P {
                    let codes = _mm512_set1_epi32(rows[p].add(4 * step).cast::<i32>().read_unaligned());
                    for n in 0..N {
                        sums[p][n] = _mm512_dpbusd_epi32(sums[p][n], codes, columns[n]);
                    }
                }
            }
        }
        let epilogue = Epilogue512::new(&w.requantise);
        for n in 0..N {
            let channel = (block + n) * BLOCK;
            let multiplier = _mm512_loadu_ps(w.requantise.multipliers.as_ptr().add(channel));
            let mask = u16::MAX >> (BLOCK - (w.outputs - channel).min(BLOCK));
            for p in 0..P {
                let codes = _mm512_cvtepi32_epi8(epilogue.codes(sums[p][n], multiplier));
                _mm_mask_storeu_epi8(job.output.add(to[p] + channel).cast(), mask, codes);
            }
        }
    }
}

/// Requantisation's constants, in registers.
#[derive(Clone, Copy)]
struct Epilogue512 {
    slope: __m512,
    low: __m512,
    high: __m512,
    zero: __m512i,
}

impl Epilogue512 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(requantise: &Requantise) -> Self {
        let [low, high] = requantise.range.map(|code| (code - requantise.zero) as f32);
        Self {
            slope: _mm512_set1_ps(requantise.slope),
            low: _mm512_set1_ps(low),
            high: _mm512_set1_ps(high),
            zero: _mm512_set1_epi32(requantise.zero),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn codes(self, sums: __m512i, multiplier: __m512) -> __m512i {
        let t = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), multiplier);
        let t = _mm512_max_ps(t, _mm512_mul_ps(self.slope, t));
        let t = _mm512_min_ps(_mm512_max_ps(t, self.low), self.high);
        _mm512_add_epi32(_mm512_cvtps_epi32(t), self.zero)
    }
}

pub fn depthwise_avx512(weights: &PackedDepthwise, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    // SAFETY: see the module's words.
    unsafe { depthwise_pixels_avx512(weights, window, input.data.as_ptr(), output.data.as_mut_ptr()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn depthwise_pixels_avx512(w: &PackedDepthwise, window: &Window, input: *const u8, output: *mut u8) {
    let groups = window.taps.len().div_ceil(4);
    let taps = window.taps.by_fours();
    let epilogue = Epilogue512::new(&w.requantise);
    for block in 0..w.wide() / DEPTHWISE_BLOCK {
        let channel = block * DEPTHWISE_BLOCK;
        let mask = u64::MAX >> (DEPTHWISE_BLOCK - (w.channels - channel).min(DEPTHWISE_BLOCK));
        // SAFETY: blocks of weights, bias and multipliers are whole; pixels are proved by the window; stores are masked to the channels.
        unsafe {
            let weights = w.interleaved.as_ptr().add(block * groups * 4 * LINE);
            let load = |values: &[i32], q: usize| _mm512_loadu_si512(values.as_ptr().add(channel + 16 * q).cast());
            let bias: [__m512i; 4] = std::array::from_fn(|q| load(&w.interleaved_bias, q));
            let multipliers: [__m512; 4] =
                std::array::from_fn(|q| _mm512_loadu_ps(w.interleaved_multipliers.as_ptr().add(channel + 16 * q)));
            let mut left = window.count();
            let mut pixels = Pixels::new(window);
            while left > 0 {
                if left >= 2 {
                    let (from, to) = pixels.take::<2>();
                    depthwise_tile_avx512::<2>(input, output, &from, &to, channel, taps, weights, &bias, &multipliers, epilogue, mask);
                    left -= 2;
                } else {
                    let (from, to) = pixels.take::<1>();
                    depthwise_tile_avx512::<1>(input, output, &from, &to, channel, taps, weights, &bias, &multipliers, epilogue, mask);
                    left -= 1;
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(clippy::too_many_arguments, reason = "what one tile needs, in registers")]
unsafe fn depthwise_tile_avx512<const P: usize>(
    input: *const u8,
    output: *mut u8,
    from: &[usize; P],
    to: &[usize; P],
    channel: usize,
    taps: &[usize],
    weights: *const i8,
    bias: &[__m512i; 4],
    multipliers: &[__m512; 4],
    epilogue: Epilogue512,
    mask: u64,
) {
    // SAFETY: as the caller's.
    unsafe {
        let mut sums = [*bias; P];
        for (group, taps) in taps.chunks_exact(4).enumerate() {
            let columns: [__m512i; 4] = std::array::from_fn(|q| _mm512_load_si512(weights.add((group * 4 + q) * LINE).cast()));
            for p in 0..P {
                let at = input.add(from[p] + channel);
                let rows: [__m512i; 4] = std::array::from_fn(|t| _mm512_loadu_si512(at.add(taps[t]).cast()));
                // Four taps of a channel side by side: the bytes that one dot product takes.
                let (low01, high01) = (_mm512_unpacklo_epi8(rows[0], rows[1]), _mm512_unpackhi_epi8(rows[0], rows[1]));
                let (low23, high23) = (_mm512_unpacklo_epi8(rows[2], rows[3]), _mm512_unpackhi_epi8(rows[2], rows[3]));
                let quads = [
                    _mm512_unpacklo_epi16(low01, low23),
                    _mm512_unpackhi_epi16(low01, low23),
                    _mm512_unpacklo_epi16(high01, high23),
                    _mm512_unpackhi_epi16(high01, high23),
                ];
                for q in 0..4 {
                    sums[p][q] = _mm512_dpbusd_epi32(sums[p][q], quads[q], columns[q]);
                }
            }
        }
        for p in 0..P {
            let codes: [__m512i; 4] = std::array::from_fn(|q| epilogue.codes(sums[p][q], multipliers[q]));
            let pairs = [_mm512_packus_epi32(codes[0], codes[1]), _mm512_packus_epi32(codes[2], codes[3])];
            _mm512_mask_storeu_epi8(output.add(to[p] + channel).cast(), mask, _mm512_packus_epi16(pairs[0], pairs[1]));
        }
    }
}

pub fn translate_avx512(table: &[u8; 256], from: &[u8], to: &mut [u8]) {
    let length = from.len().min(to.len());
    // SAFETY: the CPU has the features; loads and stores are masked to `length`.
    unsafe { translate_bytes_avx512(table, from.as_ptr(), to.as_mut_ptr(), length) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn translate_bytes_avx512(table: &[u8; 256], from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: as the caller's.
    unsafe {
        let part: [__m512i; 4] = std::array::from_fn(|i| _mm512_loadu_si512(table.as_ptr().add(64 * i).cast()));
        let mut done = 0;
        while done < length {
            let mask = u64::MAX >> (64 - (length - done).min(64));
            let codes = _mm512_maskz_loadu_epi8(mask, from.add(done).cast());
            let low = _mm512_permutex2var_epi8(part[0], codes, part[1]);
            let high = _mm512_permutex2var_epi8(part[2], codes, part[3]);
            let translated = _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
            _mm512_mask_storeu_epi8(to.add(done).cast(), mask, translated);
            done += 64;
        }
    }
}

pub fn max_pool_avx512(window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    // SAFETY: see the module's words.
    unsafe { max_pool_pixels_avx512(window, input.channels, input.data.as_ptr(), output.data.as_mut_ptr()) }
}

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn max_pool_pixels_avx512(window: &Window, channels: usize, input: *const u8, output: *mut u8) {
    for channel in (0..channels).step_by(64) {
        let mask = u64::MAX >> (64 - (channels - channel).min(64));
        for (from, to) in window.pixels() {
            // SAFETY: as the caller's; loads and stores are masked to the channels.
            unsafe {
                let at = input.add(from + channel);
                let mut best = _mm512_setzero_si512();
                for &tap in window.taps.iter() {
                    best = _mm512_max_epu8(best, _mm512_maskz_loadu_epi8(mask, at.add(tap).cast()));
                }
                _mm512_mask_storeu_epi8(output.add(to + channel).cast(), mask, best);
            }
        }
    }
}

pub fn add_avx512(sum: &Sum, a: &[u8], b: &[u8], to: &mut [u8]) {
    let length = to.len().min(a.len()).min(b.len());
    // SAFETY: the CPU has the features; loads and stores are masked to `length`.
    unsafe { add_bytes_avx512(sum, a.as_ptr(), b.as_ptr(), to.as_mut_ptr(), length) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn add_bytes_avx512(sum: &Sum, a: *const u8, b: *const u8, to: *mut u8, length: usize) {
    let [low, high] = sum.range.map(|code| _mm512_set1_ps((code - sum.zero) as f32));
    let (zeros, multipliers) = (sum.zeros.map(|z| _mm512_set1_epi32(z)), sum.multipliers.map(|m| _mm512_set1_ps(m)));
    for done in (0..length).step_by(BLOCK) {
        let mask = u16::MAX >> (BLOCK - (length - done).min(BLOCK));
        // SAFETY: as the caller's.
        unsafe {
            let real = |from: *const u8, i: usize| {
                let codes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, from.add(done).cast()));
                _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(codes, zeros[i])), multipliers[i])
            };
            let t = _mm512_add_ps(real(a, 0), real(b, 1));
            let codes = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(t, low), high));
            let codes = _mm512_add_epi32(codes, _mm512_set1_epi32(sum.zero));
            _mm_mask_storeu_epi8(to.add(done).cast(), mask, _mm512_cvtepi32_epi8(codes));
        }
    }
}

spin!(spin_avx512, "avx512f,avx512bw,avx512vl,avx512vnni", 64, _mm512_setzero_si512, _mm512_set1_epi8, |sum, a, b| _mm512_dpbusd_epi32(
    *sum, a, b
));
