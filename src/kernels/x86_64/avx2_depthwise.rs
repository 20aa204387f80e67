//! Depthwise convolutions for AVX2, 32 channels at a time: the codes of two taps side by side, widened, are
//! what vpmaddwd takes.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::avx2;
use super::avx2_finish::{Epilogue, store_first};
use super::finish::by_finish;
use super::interleave;
use super::pack::{Layer, Packed};
use super::plane::{Pixels, Window};
use super::weights::{DEPTHWISE_BLOCK, DepthwiseForm, FOREIGN_FORM, LINE, Lines, PackedDepthwise};
use std::arch::x86_64::*;

/// Channels that are worked together.
const HALF: usize = DEPTHWISE_BLOCK / 2;

/// Packs a depthwise convolution: two taps of a channel side by side, in 16 bits.
pub fn pack(layer: &Layer<'_>) -> Packed<DepthwiseForm> {
    let form = DepthwiseForm::TapPairs(interleave::weights(layer, 2));
    layer.packed(form, avx2::finish_of(layer), 0, DEPTHWISE_BLOCK, interleave::place)
}

/// Depthwise convolution of weights that [`pack`] made.
///
/// # Safety
/// The CPU has AVX2; the weights are for the window's shape and channels.
#[target_feature(enable = "avx2")]
pub unsafe fn depthwise(weights: &PackedDepthwise, window: &mut Window<'_>) {
    let DepthwiseForm::TapPairs(lines) = &weights.form else { unreachable!("{FOREIGN_FORM}") };
    let run: unsafe fn(&PackedDepthwise, &Lines, &mut Window<'_>) = by_finish!(weights, all_channels);
    // SAFETY: the caller guarantees AVX2 and weights for the window, and these are its lines.
    unsafe { run(weights, lines, window) }
}

/// All pixels, 32 channels at a time.
///
/// # Safety
/// The weights, whose lines are `lines`, are for the window's shape and channels.
#[target_feature(enable = "avx2")]
unsafe fn all_channels<const KIND: u8>(w: &PackedDepthwise, lines: &Lines, window: &mut Window<'_>) {
    let (input, output) = (window.input.as_ptr(), window.output.as_mut_ptr());
    let pairs = window.taps.len().div_ceil(2);
    let taps = &window.taps.by_fours()[..2 * pairs];
    let epilogue = Epilogue::<KIND>::new(&w.requantise);
    for channel in (0..w.channels).step_by(HALF) {
        let (block, half) = (channel / DEPTHWISE_BLOCK, channel % DEPTHWISE_BLOCK / HALF);
        let place = block * DEPTHWISE_BLOCK + 8 * half;
        // SAFETY: `interleave::weights` made `4 * pairs` cache lines of each block of 64 channels, and
        // `Layer::packed` bias and multipliers of whole blocks. `left` counts down from all of the window's
        // pixels, so that each tile is of some of them; `channel` is below the window's channels, so
        // `Window::new` proved 64 bytes from it on at every tap, and `count` channels from it on writable.
        unsafe {
            let tile = Tile {
                input: input.add(channel),
                output: output.add(channel),
                taps,
                weights: lines.as_ptr().add(block * pairs * 4 * LINE + half * LINE / 2),
                count: (w.channels - channel).min(HALF),
                epilogue,
                bias: w.bias.as_ptr().add(place),
                multipliers: w.requantise.multipliers.as_ptr().add(place),
            };
            let mut left = window.count();
            let mut pixels = Pixels::new(window);
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

/// 32 channels of some pixels.
struct Tile<'a, const KIND: u8> {
    /// The planes, from the first of these channels on.
    input: *const u8,
    output: *mut u8,
    /// In whole pairs.
    taps: &'a [usize],
    /// Half of each of four cache lines of a pair of taps.
    weights: *const i8,
    /// Channels that there are.
    count: usize,
    epilogue: Epilogue<KIND>,
    /// A quarter's eight values lie 16 after those of the quarter before it.
    bias: *const i32,
    /// Likewise.
    multipliers: *const f32,
}

impl<const KIND: u8> Tile<'_, KIND> {
    /// The codes of `P` pixels, given by their input and output offsets.
    ///
    /// # Safety
    /// 32 bytes may be read at every tap of the pixels, and `count` bytes written at each; there are weights
    /// of all taps, and bias and multipliers of the block.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn run<const P: usize>(&self, (from, to): &([usize; P], [usize; P])) {
        let nothing = _mm256_setzero_si256();
        // SAFETY: the caller guarantees what is read at the taps, four lines of weights of each pair of taps,
        // eight values of bias and multipliers at each quarter, and the `count` codes that are written, at
        // most the 32 of a register.
        unsafe {
            let bias: [__m256i; 4] =
                std::array::from_fn(|q| _mm256_loadu_si256(self.bias.add(16 * q).cast()));
            let mut sums = [bias; P];
            for (pair, taps) in self.taps.chunks_exact(2).enumerate() {
                let line = self.weights.add(pair * 4 * LINE);
                let columns: [__m256i; 4] =
                    std::array::from_fn(|q| _mm256_load_si256(line.add(q * LINE).cast()));
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
                let multipliers = |q: usize| _mm256_loadu_ps(self.multipliers.add(16 * q));
                let rounded: [__m256i; 4] =
                    std::array::from_fn(|q| self.epilogue.rounded(sums[p][q], multipliers(q)));
                let first = self.epilogue.words(rounded[0], rounded[1]);
                let second = self.epilogue.words(rounded[2], rounded[3]);
                let codes = self.epilogue.clamped(_mm256_packus_epi16(first, second));
                store_first(codes, self.output.add(to[p]), self.count);
            }
        }
    }
}
