//! AVX-512 with VNNI, BW, VL and VBMI: dot products of four codes in 512 bits, masked loads and stores.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::Sum;
use super::plane::{Pixels, Window};
use super::spin::spin;
use super::vnni::Job;
use super::weights::{BLOCK, DEPTHWISE_BLOCK, DepthwiseForm, FOREIGN_FORM, LINE};
use super::weights::{PackedConv, PackedDepthwise, Requantise};
use std::arch::x86_64::*;

/// Convolution of weights that `vnni::pack` made.
///
/// # Safety
/// The CPU has the features; the weights are for the window's shape and channels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn conv(weights: &PackedConv, window: &mut Window<'_>) {
    let job = Job::new(weights, window);
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
        // SAFETY: at least `wide` blocks are left from `block` on, and the caller's weights are for the
        // window.
        unsafe {
            match wide {
                1 => conv_pixels::<14, 1>(&job, block),
                2 => conv_pixels::<12, 2>(&job, block),
                3 => conv_pixels::<8, 3>(&job, block),
                _ => conv_pixels::<6, 4>(&job, block),
            }
        }
        block += wide;
    }
}

/// All pixels of `N` blocks of outputs, `P` at a time.
///
/// # Safety
/// `block + N` is at most the number of blocks; the job's weights are for its window's shape and channels.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn conv_pixels<const P: usize, const N: usize>(job: &Job<'_>, block: usize) {
    let mut left = job.window.count();
    let mut pixels = Pixels::new(job.window);
    // SAFETY: the caller guarantees the blocks, and `left` counts down from all of the window's pixels, so
    // each tile is of pixels that `Pixels` has not passed yet.
    unsafe {
        while left >= P {
            let (from, to) = pixels.take::<P>();
            conv_tile::<P, N>(job, block, &from, &to);
            left -= P;
        }
        while left >= 4 {
            let (from, to) = pixels.take::<4>();
            conv_tile::<4, N>(job, block, &from, &to);
            left -= 4;
        }
        while left > 0 {
            let (from, to) = pixels.take::<1>();
            conv_tile::<1, N>(job, block, &from, &to);
            left -= 1;
        }
    }
}

/// `N` blocks of outputs of `P` pixels.
///
/// # Safety
/// As of [`conv_pixels`]; `from` and `to` are offsets of pixels of the job's window.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn conv_tile<const P: usize, const N: usize>(
    job: &Job<'_>,
    block: usize,
    from: &[usize; P],
    to: &[usize; P],
) {
    let w = job.weights;
    let (steps, taps) = (job.steps, job.window.taps.len());
    // SAFETY: `Layer::fours` made `taps * steps` cache lines of each block, and `Layer::packed` bias and
    // multipliers of whole blocks, so all that is read of block `block + n` is there. Four codes are read
    // from input `4 * step` on, which is below the window's inputs, at a tap of one of its pixels:
    // `Window::new` proved 64 bytes there. `mask` has no bit beyond the last output, and `Window::new` proved
    // that a pixel's outputs may be written.
    unsafe {
        let weights = job.lines.add(block * taps * steps * LINE);
        let between = taps * steps * LINE;
        let mut sums = [[_mm512_setzero_si512(); N]; P];
        for n in 0..N {
            let bias = _mm512_loadu_si512(w.bias.as_ptr().add((block + n) * BLOCK).cast());
            for row in &mut sums {
                row[n] = bias;
            }
        }
        for (tap, &offset) in job.window.taps.iter().enumerate() {
            let line = weights.add(tap * steps * LINE);
            let rows: [*const u8; P] = std::array::from_fn(|p| job.input.add(from[p] + offset));
            for step in 0..steps {
                let column = |n: usize| _mm512_load_si512(line.add(n * between + step * LINE).cast());
                let columns: [__m512i; N] = std::array::from_fn(column);
                for p in 0..P {
                    let codes = _mm512_set1_epi32(rows[p].add(4 * step).cast::<i32>().read_unaligned());
                    for n in 0..N {
                        sums[p][n] = _mm512_dpbusd_epi32(sums[p][n], codes, columns[n]);
                    }
                }
            }
        }
        let epilogue = Epilogue::new(&w.requantise);
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
struct Epilogue {
    slope: __m512,
    low: __m512,
    high: __m512,
    zero: __m512i,
}

impl Epilogue {
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

    /// Sixteen sums to codes, in 32 bits each.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn codes(self, sums: __m512i, multiplier: __m512) -> __m512i {
        let t = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), multiplier);
        let t = _mm512_max_ps(t, _mm512_mul_ps(self.slope, t));
        let t = _mm512_min_ps(_mm512_max_ps(t, self.low), self.high);
        _mm512_add_epi32(_mm512_cvtps_epi32(t), self.zero)
    }
}

/// Depthwise convolution of weights that `vnni::pack_depthwise` made.
///
/// # Safety
/// The CPU has the features; the weights are for the window's shape and channels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn depthwise(w: &PackedDepthwise, window: &mut Window<'_>) {
    let DepthwiseForm::TapFours(lines) = &w.form else { unreachable!("{FOREIGN_FORM}") };
    let (input, output) = (window.input.as_ptr(), window.output.as_mut_ptr());
    let groups = window.taps.len().div_ceil(4);
    let taps = window.taps.by_fours();
    let epilogue = Epilogue::new(&w.requantise);
    for block in 0..w.padded_channels() / DEPTHWISE_BLOCK {
        let channel = block * DEPTHWISE_BLOCK;
        let mask = u64::MAX >> (DEPTHWISE_BLOCK - (w.channels - channel).min(DEPTHWISE_BLOCK));
        // SAFETY: `interleave::weights` made `4 * groups` cache lines of each block of 64 channels, and
        // `Layer::packed` bias and multipliers of whole blocks. `left` counts down from all of the window's
        // pixels, so that each tile is of some of them; `channel` is below the window's channels.
        unsafe {
            let weights = lines.as_ptr().add(block * groups * 4 * LINE);
            let (bias, multipliers) =
                (w.bias.as_ptr().add(channel), w.requantise.multipliers.as_ptr().add(channel));
            let bias: [__m512i; 4] = std::array::from_fn(|q| _mm512_loadu_si512(bias.add(16 * q).cast()));
            let multipliers: [__m512; 4] = std::array::from_fn(|q| _mm512_loadu_ps(multipliers.add(16 * q)));
            let (input, output) = (input.add(channel), output.add(channel));
            let tile = DepthwiseTile { input, output, taps, weights, bias, multipliers, epilogue, mask };
            let mut left = window.count();
            let mut pixels = Pixels::new(window);
            while left > 0 {
                if left >= 2 {
                    tile.run(&pixels.take::<2>());
                    left -= 2;
                } else {
                    tile.run(&pixels.take::<1>());
                    left -= 1;
                }
            }
        }
    }
}

/// A block of 64 channels of a depthwise convolution; some pixels at a time.
struct DepthwiseTile<'a> {
    /// The planes, from the block's first channel on.
    input: *const u8,
    output: *mut u8,
    /// In whole groups of four.
    taps: &'a [usize],
    /// Four cache lines of each group of taps.
    weights: *const i8,
    bias: [__m512i; 4],
    multipliers: [__m512; 4],
    epilogue: Epilogue,
    /// The block's channels that there are.
    mask: u64,
}

impl DepthwiseTile<'_> {
    /// The codes of `P` pixels, given by their input and output offsets.
    ///
    /// # Safety
    /// 64 bytes may be read at every tap of the pixels and those of `mask` written at each, from the block's
    /// first channel on; there are weights of all taps.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run<const P: usize>(&self, (from, to): &([usize; P], [usize; P])) {
        let mut sums = [self.bias; P];
        // SAFETY: the caller guarantees what is read at the taps and written within `mask`, and four cache
        // lines of weights of each group of taps.
        unsafe {
            for (group, taps) in self.taps.chunks_exact(4).enumerate() {
                let line = self.weights.add(group * 4 * LINE);
                let columns: [__m512i; 4] =
                    std::array::from_fn(|q| _mm512_load_si512(line.add(q * LINE).cast()));
                for p in 0..P {
                    let at = self.input.add(from[p]);
                    let rows: [__m512i; 4] =
                        std::array::from_fn(|t| _mm512_loadu_si512(at.add(taps[t]).cast()));
                    let quads = side_by_side(rows);
                    for q in 0..4 {
                        sums[p][q] = _mm512_dpbusd_epi32(sums[p][q], quads[q], columns[q]);
                    }
                }
            }
            for p in 0..P {
                let codes: [__m512i; 4] =
                    std::array::from_fn(|q| self.epilogue.codes(sums[p][q], self.multipliers[q]));
                let pairs =
                    [_mm512_packus_epi32(codes[0], codes[1]), _mm512_packus_epi32(codes[2], codes[3])];
                let bytes = _mm512_packus_epi16(pairs[0], pairs[1]);
                _mm512_mask_storeu_epi8(self.output.add(to[p]).cast(), self.mask, bytes);
            }
        }
    }
}

/// Four taps of each channel side by side, the bytes that one dot product takes, in the order of
/// `interleave::place`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn side_by_side(rows: [__m512i; 4]) -> [__m512i; 4] {
    let (low01, high01) = (_mm512_unpacklo_epi8(rows[0], rows[1]), _mm512_unpackhi_epi8(rows[0], rows[1]));
    let (low23, high23) = (_mm512_unpacklo_epi8(rows[2], rows[3]), _mm512_unpackhi_epi8(rows[2], rows[3]));
    [
        _mm512_unpacklo_epi16(low01, low23),
        _mm512_unpackhi_epi16(low01, low23),
        _mm512_unpacklo_epi16(high01, high23),
        _mm512_unpackhi_epi16(high01, high23),
    ]
}

/// Codes through a table, 64 at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub fn translate(table: &[u8; 256], from: &[u8], to: &mut [u8]) {
    let length = from.len().min(to.len());
    let (from, to) = (from.as_ptr(), to.as_mut_ptr());
    // SAFETY: each part is 64 of the table's 256 bytes.
    let part = |i: usize| unsafe { _mm512_loadu_si512(table.as_ptr().add(64 * i).cast()) };
    let part: [__m512i; 4] = std::array::from_fn(part);
    let mut done = 0;
    while done < length {
        let mask = u64::MAX >> (64 - (length - done).min(64));
        // SAFETY: `mask` has a bit for each of the `length - done` codes that are left of both slices, and
        // for no other.
        unsafe {
            let codes = _mm512_maskz_loadu_epi8(mask, from.add(done).cast());
            let low = _mm512_permutex2var_epi8(part[0], codes, part[1]);
            let high = _mm512_permutex2var_epi8(part[2], codes, part[3]);
            let translated = _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
            _mm512_mask_storeu_epi8(to.add(done).cast(), mask, translated);
        }
        done += 64;
    }
}

/// Largest code of each channel under the window, 64 channels at a time.
///
/// # Safety
/// The CPU has the features; the window has as many outputs as inputs.
#[target_feature(enable = "avx512f,avx512bw")]
pub unsafe fn max_pool(window: &mut Window<'_>) {
    let (input, output, channels) = (window.input.as_ptr(), window.output.as_mut_ptr(), window.inputs);
    for channel in (0..channels).step_by(64) {
        let mask = u64::MAX >> (64 - (channels - channel).min(64));
        for (from, to) in window.pixels() {
            // SAFETY: `Window::new` proved every channel of every tap readable and of every output pixel
            // writable, and `mask` has no bit beyond the last channel.
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

/// Sums of codes, sixteen at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn add(sum: &Sum, a: &[u8], b: &[u8], to: &mut [u8]) {
    let length = to.len().min(a.len()).min(b.len());
    let (a, b, to) = (a.as_ptr(), b.as_ptr(), to.as_mut_ptr());
    let [low, high] = sum.range.map(|code| _mm512_set1_ps((code - sum.zero) as f32));
    let (zeros, multipliers) =
        (sum.zeros.map(|z| _mm512_set1_epi32(z)), sum.multipliers.map(|m| _mm512_set1_ps(m)));
    for done in (0..length).step_by(BLOCK) {
        let mask = u16::MAX >> (BLOCK - (length - done).min(BLOCK));
        // SAFETY: `mask` has a bit for each of the `length - done` codes that are left of all three slices,
        // and for no other.
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

spin!("avx512f,avx512bw,avx512vl,avx512vnni", 64, [_mm512_setzero_si512 _mm512_set1_epi8], |sum, a, b| _mm512_dpbusd_epi32(*sum, a, b));
