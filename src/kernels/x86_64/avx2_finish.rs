//! From AVX2's sums to codes.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::finish;
use super::weights::{BLOCK, PackedConv, Requantise};
use std::arch::x86_64::*;

/// Requantisation's constants, in registers, for a finish of `finish.rs`.
#[derive(Clone, Copy)]
pub struct Epilogue<const KIND: u8> {
    slope: __m256,
    range: [__m256; 2],
    zero: __m256i,
    low: __m256i,
    high: __m256i,
}

impl<const KIND: u8> Epilogue<KIND> {
    /// Those of a layer.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn new(requantise: &Requantise) -> Self {
        let [low, high] = requantise.range;
        Self {
            slope: _mm256_set1_ps(requantise.slope),
            range: [low, high].map(|code| _mm256_set1_ps((code - requantise.zero) as f32)),
            zero: _mm256_set1_epi16(requantise.zero as i16),
            low: _mm256_set1_epi8(low as i8),
            high: _mm256_set1_epi8(high as i8),
        }
    }

    /// Eight sums, requantised and rounded; the zero point and the layer's range of codes are still to come.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn rounded(&self, sums: __m256i, multipliers: __m256) -> __m256i {
        let mut t = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), multipliers);
        if KIND != finish::PLAIN {
            t = _mm256_max_ps(t, _mm256_mul_ps(self.slope, t));
        }
        if KIND == finish::ANY {
            t = _mm256_min_ps(_mm256_max_ps(t, self.range[0]), self.range[1]);
        }
        _mm256_cvtps_epi32(t)
    }

    /// Sixteen words in the order of `a` and `b` by lanes, moved by the zero point. Saturating here and
    /// clamping after gives what clamping first would, because all of these are monotone.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn words(&self, a: __m256i, b: __m256i) -> __m256i {
        _mm256_adds_epi16(_mm256_packs_epi32(a, b), self.zero)
    }

    /// Codes within the layer's range.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn clamped(&self, codes: __m256i) -> __m256i {
        _mm256_min_epu8(_mm256_max_epu8(codes, self.low), self.high)
    }
}

/// A block of outputs: its constants, and how many there are.
#[derive(Clone, Copy)]
pub struct Store<const KIND: u8> {
    epilogue: Epilogue<KIND>,
    pub bias: [__m256i; 2],
    multipliers: [__m256; 2],
    /// Outputs of the block, at most 16.
    pub count: usize,
}

impl<const KIND: u8> Store<KIND> {
    /// The block of `w` that begins at output `channel`.
    ///
    /// # Safety
    /// `channel` begins a block.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn new(w: &PackedConv, channel: usize) -> Self {
        let (bias, multipliers) = (w.bias.as_ptr(), w.requantise.multipliers.as_ptr());
        // SAFETY: `Layer::packed` made bias and multipliers of whole blocks of 16, and the caller guarantees
        // that one begins here.
        unsafe {
            Self {
                epilogue: Epilogue::new(&w.requantise),
                bias: std::array::from_fn(|h| _mm256_loadu_si256(bias.add(channel + 8 * h).cast())),
                multipliers: std::array::from_fn(|h| _mm256_loadu_ps(multipliers.add(channel + 8 * h))),
                count: (w.outputs - channel).min(BLOCK),
            }
        }
    }

    /// Sums, bias included, to codes at `to`.
    ///
    /// # Safety
    /// `count` bytes may be written; with one register of sums `count` is at most 8.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn store<const H: usize>(&self, sums: [__m256i; H], to: *mut u8) {
        let rounded: [__m256i; H] =
            std::array::from_fn(|h| self.epilogue.rounded(sums[h], self.multipliers[h]));
        let words = self.epilogue.words(rounded[0], rounded[H - 1]);
        // Two halves lie in the order in which packing by lanes makes them one after the other; a lone half
        // has its quarters in both lanes.
        let (first, second) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        let lone = _mm_unpacklo_epi64(first, second);
        let codes = if H == 2 { _mm_packus_epi16(first, second) } else { _mm_packus_epi16(lone, first) };
        let codes = _mm256_castsi256_si128(self.epilogue.clamped(_mm256_castsi128_si256(codes)));
        // SAFETY: the caller guarantees `count` bytes, and `count` is at most the sixteen of a register.
        unsafe { store_first(codes, to, self.count) }
    }
}

/// The first `count` bytes of a register to `to`.
///
/// # Safety
/// They may be written, and `count` is at most the register's size.
#[inline(always)]
pub unsafe fn store_first<R: Copy>(register: R, to: *mut u8, count: usize) {
    // SAFETY: the caller guarantees that `count` bytes may be written and that the register has as many.
    unsafe {
        if count == size_of::<R>() {
            to.cast::<R>().write_unaligned(register);
        } else {
            std::ptr::copy_nonoverlapping((&raw const register).cast::<u8>(), to, count);
        }
    }
}
