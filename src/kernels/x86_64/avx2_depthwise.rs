//! Depthwise convolutions for AVX2.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::avx2_finish::{Epilogue, kind, store_first};
use super::plane::{Pixels, View, ViewMut, Window};
use super::weights::{DEPTHWISE_BLOCK, LINE, PackedDepthwise};
use std::arch::x86_64::*;

pub fn depthwise(weights: &PackedDepthwise, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    // SAFETY: see the module's words.
    unsafe {
        let (input, output) = (input.data.as_ptr(), output.data.as_mut_ptr());
        match kind(&weights.requantise, weights.bounded) {
            kind::PLAIN => depthwise_pixels::<{ kind::PLAIN }>(weights, window, input, output),
            kind::LEAKY => depthwise_pixels::<{ kind::LEAKY }>(weights, window, input, output),
            _ => depthwise_pixels::<{ kind::ANY }>(weights, window, input, output),
        }
    }
}

/// 32 channels at a time: the codes of two taps side by side, widened, are what one product takes.
#[target_feature(enable = "avx2")]
unsafe fn depthwise_pixels<const KIND: u8>(w: &PackedDepthwise, window: &Window, input: *const u8, output: *mut u8) {
    const HALF: usize = DEPTHWISE_BLOCK / 2;
    let pairs = window.taps.len().div_ceil(2);
    let taps = &window.taps.by_fours()[..2 * pairs];
    let epilogue = Epilogue::<KIND>::new(&w.requantise);
    for channel in (0..w.channels).step_by(HALF) {
        let (block, half) = (channel / DEPTHWISE_BLOCK, channel % DEPTHWISE_BLOCK / HALF);
        let count = (w.channels - channel).min(HALF);
        let place = |q: usize| block * DEPTHWISE_BLOCK + 16 * q + 8 * half;
        // SAFETY: blocks of weights, bias and multipliers are whole; pixels are proved by the window; stores are cut to the channels.
        unsafe {
            let weights = w.interleaved.as_ptr().add(block * pairs * 4 * LINE + half * LINE / 2);
            let mut left = window.count();
            let mut pixels = Pixels::new(window);
            let tile =
                |constants| DepthwiseTile { input: input.add(channel), output: output.add(channel), taps, weights, count, constants };
            let tile = tile(Constants {
                epilogue,
                bias: w.interleaved_bias.as_ptr().add(place(0)),
                multipliers: w.interleaved_multipliers.as_ptr().add(place(0)),
            });
            while left >= 2 {
                tile.run(&pixels.take::<2>());
                left -= 2;
            }
            if left == 1 {
                tile.run(&pixels.take::<1>());
            }
        }
    }
}

/// What follows the sums of 32 channels; a quarter's values lie 16 after the last one's.
#[derive(Clone, Copy)]
struct Constants<const KIND: u8> {
    epilogue: Epilogue<KIND>,
    bias: *const i32,
    multipliers: *const f32,
}

/// 32 channels of some pixels.
struct DepthwiseTile<'a, const KIND: u8> {
    input: *const u8,
    output: *mut u8,
    taps: &'a [usize],
    weights: *const i8,
    count: usize,
    constants: Constants<KIND>,
}

impl<const KIND: u8> DepthwiseTile<'_, KIND> {
    /// # Safety
    /// Every tap of the pixels may be read, and `count` bytes written at each.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn run<const P: usize>(&self, (from, to): &([usize; P], [usize; P])) {
        let Constants { epilogue, bias, multipliers } = self.constants;
        let nothing = _mm256_setzero_si256();
        // SAFETY: the caller's; weights, bias and multipliers are whole blocks.
        unsafe {
            let bias: [__m256i; 4] = std::array::from_fn(|q| _mm256_loadu_si256(bias.add(16 * q).cast()));
            let mut sums = [bias; P];
            for (pair, taps) in self.taps.chunks_exact(2).enumerate() {
                let columns: [__m256i; 4] = std::array::from_fn(|q| _mm256_load_si256(self.weights.add((pair * 4 + q) * LINE).cast()));
                for p in 0..P {
                    let [a, b] = [0, 1].map(|i| _mm256_loadu_si256(self.input.add(from[p] + taps[i]).cast()));
                    let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
                    let twos = [
                        _mm256_unpacklo_epi8(low, nothing),
                        _mm256_unpackhi_epi8(low, nothing),
                        _mm256_unpacklo_epi8(high, nothing),
                        _mm256_unpackhi_epi8(high, nothing),
                    ];
                    for q in 0..4 {
                        sums[p][q] = _mm256_add_epi32(sums[p][q], _mm256_madd_epi16(twos[q], columns[q]));
                    }
                }
            }
            for p in 0..P {
                let rounded: [__m256i; 4] = std::array::from_fn(|q| epilogue.rounded(sums[p][q], _mm256_loadu_ps(multipliers.add(16 * q))));
                let (first, second) = (epilogue.words(rounded[0], rounded[1]), epilogue.words(rounded[2], rounded[3]));
                let codes = epilogue.clamped(_mm256_packus_epi16(first, second));
                store_first(codes, self.output.add(to[p]), self.count);
            }
        }
    }
}
