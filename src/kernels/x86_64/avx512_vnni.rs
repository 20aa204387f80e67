//! AVX-512 VNNI and AVX-VNNI; `avx2.rs` has AVX2 without dot products.
//!
//! Each `unsafe` block rests on the same two facts, checked before any kernel runs: `Isa::available` found the CPU's features, and
//! `Window::new` proved that every tap of every output pixel lies in the input's plane and every output pixel in the output's. Vector
//! loads may overrun a pixel's channels by less than `plane::SPARE` bytes, which each plane has at its end.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::Sum;
use super::avx2::store_first;
use super::plane::{Pixels, View, ViewMut, Window};
use super::weights::{BLOCK, DEPTHWISE_BLOCK, LINE, PackedConv, PackedDepthwise, Requantise};
use std::arch::x86_64::*;

/// What every tile of one convolution shares.
struct Job<'a> {
    weights: &'a PackedConv,
    taps: &'a [usize],
    input: *const u8,
    output: *mut u8,
}

// ---- AVX-512 VNNI ----

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

// ---- AVX-VNNI: convolutions, depthwise ones too; all else is AVX2's ----

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

// ---- the peak of each set ----

/// Sums that run beside each other: enough to hide the latency of a dot product on any core.
const SPUN: usize = 12;

macro_rules! spin {
    ($name:ident, $features:literal, $width:literal, $zero:ident, $set:ident, |$sum:ident, $a:ident, $b:ident| $step:expr) => {
        /// Runs `steps` steps of the set's products in registers; returns their multiply-adds.
        pub fn $name(steps: usize) -> u64 {
            #[target_feature(enable = $features)]
            fn run(steps: usize) -> u64 {
                let mut sums = [$zero(); SPUN];
                let ($a, $b) = ($set(std::hint::black_box(3)), $set(std::hint::black_box(5)));
                for _ in 0..steps {
                    for $sum in &mut sums {
                        *$sum = $step;
                    }
                }
                std::hint::black_box(sums);
                (steps * SPUN * $width) as u64
            }
            // SAFETY: the set's token proves that the CPU has it.
            unsafe { run(steps) }
        }
    };
}

spin!(spin_avx512, "avx512f,avx512bw,avx512vl,avx512vnni", 64, _mm512_setzero_si512, _mm512_set1_epi8, |sum, a, b| _mm512_dpbusd_epi32(
    *sum, a, b
));
spin!(spin_avx_vnni, "avx2,avxvnni", 32, _mm256_setzero_si256, _mm256_set1_epi8, |sum, a, b| _mm256_dpbusd_avx_epi32(*sum, a, b));
// Every product is of registers that an empty block may have changed, or it would be taken out of the loop.
spin!(spin_avx2, "avx2", 16, _mm256_setzero_si256, _mm256_set1_epi8, |sum, a, b| {
    let mut fresh = a;
    // SAFETY: nothing is done.
    unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) fresh, options(nomem, nostack, preserves_flags)) };
    _mm256_add_epi32(*sum, _mm256_madd_epi16(fresh, b))
});
