//! AVX-VNNI: dot products of four codes in 256 bits. All but convolutions is AVX2's.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::avx2_finish::store_first;
use super::plane::{Pixels, Window};
use super::spin::spin;
use super::vnni::Job;
use super::weights::{BLOCK, DEPTHWISE_BLOCK, DepthwiseForm, FOREIGN_FORM, LINE};
use super::weights::{PackedConv, PackedDepthwise, Requantise};
use std::arch::x86_64::*;

/// Pixels of a tile: twelve sums, two columns of weights and one of codes fill the registers.
const TILE: usize = 6;

/// Convolution of weights that `vnni::pack` made.
///
/// # Safety
/// The CPU has the features; the weights are for the window's shape and channels.
#[target_feature(enable = "avx2,avxvnni")]
pub unsafe fn conv(weights: &PackedConv, window: &mut Window<'_>) {
    let job = Job::new(weights, window);
    for block in 0..weights.outputs.div_ceil(BLOCK) {
        // SAFETY: `block` is below the number of blocks, and the caller's weights are for the window.
        unsafe { conv_pixels(&job, block) }
    }
}

/// All pixels of a block of outputs.
///
/// # Safety
/// `block` is below the number of blocks; the job's weights are for its window's shape and channels.
#[inline(never)]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn conv_pixels(job: &Job<'_>, block: usize) {
    let mut left = job.window.count();
    let mut pixels = Pixels::new(job.window);
    // SAFETY: the caller guarantees the block, and `left` counts down from all of the window's pixels, so
    // each tile is of pixels that `Pixels` has not passed yet.
    unsafe {
        while left >= TILE {
            let (from, to) = pixels.take::<TILE>();
            conv_tile::<TILE>(job, block, &from, &to);
            left -= TILE;
        }
        while left > 0 {
            let (from, to) = pixels.take::<1>();
            conv_tile::<1>(job, block, &from, &to);
            left -= 1;
        }
    }
}

/// A block of outputs of `P` pixels.
///
/// # Safety
/// As of [`conv_pixels`]; `from` and `to` are offsets of pixels of the job's window.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn conv_tile<const P: usize>(job: &Job<'_>, block: usize, from: &[usize; P], to: &[usize; P]) {
    let w = job.weights;
    let (steps, taps) = (job.steps, job.window.taps.len());
    let channel = block * BLOCK;
    // SAFETY: `Layer::fours` made `taps * steps` cache lines of each block, and `Layer::packed` bias and
    // multipliers of whole blocks, so all that is read of block `block` is there. Four codes are read from
    // input `4 * step` on, which is below the window's inputs, at a tap of one of its pixels: `Window::new`
    // proved 64 bytes there. `count` outputs are left from `channel` on, and `Window::new` proved that a
    // pixel's outputs may be written.
    unsafe {
        let weights = job.lines.add(block * taps * steps * LINE);
        let mut sums = [[_mm256_setzero_si256(); 2]; P];
        for (tap, &offset) in job.window.taps.iter().enumerate() {
            let line = weights.add(tap * steps * LINE);
            let rows: [*const u8; P] = std::array::from_fn(|p| job.input.add(from[p] + offset));
            for step in 0..steps {
                let column = |half: usize| _mm256_load_si256(line.add(step * LINE + 32 * half).cast());
                let columns: [__m256i; 2] = std::array::from_fn(column);
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
            store(sums[p], w, channel, job.output.add(to[p] + channel), count);
        }
    }
}

/// Depthwise convolution of weights that `vnni::pack_depthwise` made, half a block of channels at a time: the
/// lower half of each cache line of weights has the first 32 channels.
///
/// # Safety
/// The CPU has the features; the weights are for the window's shape and channels.
#[target_feature(enable = "avx2,avxvnni")]
pub unsafe fn depthwise(w: &PackedDepthwise, window: &mut Window<'_>) {
    const HALF: usize = DEPTHWISE_BLOCK / 2;
    let DepthwiseForm::TapFours(lines) = &w.form else { unreachable!("{FOREIGN_FORM}") };
    let (input, output) = (window.input.as_ptr(), window.output.as_mut_ptr());
    let groups = window.taps.len().div_ceil(4);
    let taps = window.taps.by_fours();
    let epilogue = Epilogue::new(&w.requantise);
    for channel in (0..w.channels).step_by(HALF) {
        let (block, half) = (channel / DEPTHWISE_BLOCK, channel % DEPTHWISE_BLOCK / HALF);
        let count = (w.channels - channel).min(HALF);
        // SAFETY: `interleave::weights` made `4 * groups` cache lines of each block of 64 channels, and
        // `Layer::packed` bias and multipliers of whole blocks. `channel` is below the window's channels, so
        // `Window::new` proved 64 bytes readable from it on at every tap of every pixel. `count` channels are
        // left, and `Window::new` proved that they may be written.
        unsafe {
            let weights = lines.as_ptr().add(block * groups * 4 * LINE + half * HALF);
            let place = |q: usize| block * DEPTHWISE_BLOCK + 16 * q + 8 * half;
            let bias: [__m256i; 4] =
                std::array::from_fn(|q| _mm256_loadu_si256(w.bias.as_ptr().add(place(q)).cast()));
            for (from, to) in window.pixels() {
                let at = input.add(from + channel);
                let mut sums = bias;
                for (group, taps) in taps.chunks_exact(4).enumerate() {
                    let rows: [__m256i; 4] =
                        std::array::from_fn(|t| _mm256_loadu_si256(at.add(taps[t]).cast()));
                    let quads = side_by_side(rows);
                    for q in 0..4 {
                        let column = _mm256_load_si256(weights.add((group * 4 + q) * LINE).cast());
                        sums[q] = _mm256_dpbusd_avx_epi32(sums[q], quads[q], column);
                    }
                }
                let codes: [__m256i; 4] = std::array::from_fn(|q| {
                    let multiplier = _mm256_loadu_ps(w.requantise.multipliers.as_ptr().add(place(q)));
                    epilogue.codes(sums[q], multiplier)
                });
                let pairs =
                    [_mm256_packus_epi32(codes[0], codes[1]), _mm256_packus_epi32(codes[2], codes[3])];
                let bytes = _mm256_packus_epi16(pairs[0], pairs[1]);
                store_first(bytes, output.add(to + channel), count);
            }
        }
    }
}

/// Four taps of each channel side by side, the bytes that one dot product takes, in the order of
/// `interleave::place`.
#[inline]
#[target_feature(enable = "avx2")]
fn side_by_side(rows: [__m256i; 4]) -> [__m256i; 4] {
    let (low01, high01) = (_mm256_unpacklo_epi8(rows[0], rows[1]), _mm256_unpackhi_epi8(rows[0], rows[1]));
    let (low23, high23) = (_mm256_unpacklo_epi8(rows[2], rows[3]), _mm256_unpackhi_epi8(rows[2], rows[3]));
    [
        _mm256_unpacklo_epi16(low01, low23),
        _mm256_unpackhi_epi16(low01, low23),
        _mm256_unpacklo_epi16(high01, high23),
        _mm256_unpackhi_epi16(high01, high23),
    ]
}

/// Requantisation's constants, in registers.
#[derive(Clone, Copy)]
struct Epilogue {
    slope: __m256,
    low: __m256,
    high: __m256,
    zero: __m256i,
}

impl Epilogue {
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

    /// Eight sums to codes, in 32 bits each.
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
///
/// # Safety
/// `channel` begins a block of `w`'s outputs; `count` is at most 16, and as many codes may be written.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store(halves: [__m256i; 2], w: &PackedConv, channel: usize, to: *mut u8, count: usize) {
    let epilogue = Epilogue::new(&w.requantise);
    // SAFETY: `Layer::packed` made bias and multipliers of whole blocks, so sixteen of each follow from
    // `channel` on; the caller guarantees the `count` codes, and a register has sixteen.
    unsafe {
        let codes: [__m256i; 2] = std::array::from_fn(|half| {
            let at = channel + 8 * half;
            let sum = _mm256_add_epi32(halves[half], _mm256_loadu_si256(w.bias.as_ptr().add(at).cast()));
            epilogue.codes(sum, _mm256_loadu_ps(w.requantise.multipliers.as_ptr().add(at)))
        });
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(codes[0], codes[1]));
        let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        store_first(bytes, to, count);
    }
}

spin!("avx2,avxvnni", 32, [_mm256_setzero_si256 _mm256_set1_epi8], |sum, a, b| _mm256_dpbusd_avx_epi32(*sum, a, b));
