//! From the sums of NEON's tiles, with and without dot products, to codes.
//!
//! What a layer does not need (a clamp, LeakyReLU, saturation) is left out at compile time, by the constants
//! of `finish.rs`.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::LOWERED;
use super::finish;
use super::pack::Layer;
use super::tiles::Tile;
use super::weights::{BLOCK, Requantise};
use std::arch::aarch64::*;

/// Scaled sums below this fit 16 bits together with a zero point, so that no narrowing need saturate.
const MAX_NARROWED: f64 = 32_767.0 - 256.0;

/// The finish of a layer: without clamp and saturation, where every code is in its range and scaled sums fit
/// 16 bits.
pub fn finish_of(layer: &Layer<'_>) -> u8 {
    let short = layer.requantise.range == [0, 255] && layer.scaled_sums_stay_below(MAX_NARROWED);
    finish::of(short, layer.requantise.slope)
}

/// How the sums of some outputs become codes, from one channel on.
#[derive(Clone, Copy)]
pub struct Finish {
    /// The first of those outputs' multipliers.
    multipliers: *const f32,
    slope: f32,
    zero: i16,
    low: i8,
    high: i8,
    /// Channels that are left.
    count: usize,
}

impl Finish {
    /// Outputs from `channel` on of `channels`.
    pub fn new(requantise: &Requantise, channel: usize, channels: usize) -> Self {
        let stored = |code: i32| code - LOWERED;
        Self {
            multipliers: requantise.multipliers[channel..].as_ptr(),
            slope: requantise.slope,
            zero: stored(requantise.zero) as i16,
            low: stored(requantise.range[0]) as i8,
            high: stored(requantise.range[1]) as i8,
            count: channels - channel,
        }
    }
}

/// A [`Finish`] of `4 * Q` outputs in registers.
#[derive(Clone, Copy)]
pub struct Epilogue<const Q: usize, const KIND: u8> {
    multipliers: [float32x4_t; Q],
    /// LeakyReLU's; 1 for none.
    slope: float32x4_t,
    zero: int16x8_t,
    low: int8x16_t,
    high: int8x16_t,
}

impl<const Q: usize, const KIND: u8> Epilogue<Q, KIND> {
    /// The constants of `4 * Q` outputs.
    ///
    /// # Safety
    /// There are `4 * Q` multipliers from the finish's first one on.
    #[inline(always)]
    unsafe fn new(finish: &Finish) -> Self {
        // SAFETY: the caller guarantees the multipliers; all else touches registers only, and every 64-bit
        // ARM has it.
        unsafe {
            Self {
                multipliers: std::array::from_fn(|q| vld1q_f32(finish.multipliers.add(4 * q))),
                slope: vdupq_n_f32(finish.slope),
                zero: vdupq_n_s16(finish.zero),
                low: vdupq_n_s8(finish.low),
                high: vdupq_n_s8(finish.high),
            }
        }
    }

    /// Sums to `4 * Q` codes at `to`. They are rounded first and clamped after, which is the same because
    /// rounding is monotone and conversions and narrowings saturate here.
    ///
    /// # Safety
    /// `4 * Q` codes may be written.
    #[inline(always)]
    unsafe fn store(self, sums: [int32x4_t; Q], to: *mut i8) {
        const { assert!(Q == 2 || Q == 4) };
        // SAFETY: the caller guarantees the codes; all else touches registers only, and every 64-bit ARM has
        // it.
        unsafe {
            let code = |q: usize| {
                let t = vmulq_f32(vcvtq_f32_s32(sums[q]), self.multipliers[q]);
                vcvtnq_s32_f32(if KIND == finish::PLAIN { t } else { vmaxq_f32(t, vmulq_f32(self.slope, t)) })
            };
            let eight = |q: usize| with_zero_point::<KIND>(code(q), code(q + 1), self.zero);
            let first = vqmovn_s16(eight(0));
            let bytes = if Q == 4 { vqmovn_high_s16(first, eight(Q - 2)) } else { vcombine_s8(first, first) };
            let bytes =
                if KIND == finish::ANY { vminq_s8(vmaxq_s8(bytes, self.low), self.high) } else { bytes };
            if Q == 4 { vst1q_s8(to, bytes) } else { vst1_s8(to, vget_low_s8(bytes)) }
        }
    }

    /// Sums of pixels to their codes.
    ///
    /// # Safety
    /// The finish's outputs, `4 * Q` at most, may be written at each pixel of `at`, and its multipliers go on
    /// to a whole block.
    #[inline(always)]
    pub unsafe fn store_all<const P: usize>(finish: &Finish, sums: &[[int32x4_t; Q]; P], at: Tile) {
        // SAFETY: `4 * Q` is at most a block, so there are as many multipliers. Whole registers are stored
        // only where all their outputs exist; otherwise the codes go through memory of a block here, and
        // `count` of them to the pixel.
        unsafe {
            let epilogue = Self::new(finish);
            if finish.count >= 4 * Q {
                for p in 0..P {
                    epilogue.store(sums[p], at.after(p).to);
                }
            } else {
                for p in 0..P {
                    let mut codes = [0; BLOCK];
                    epilogue.store(sums[p], codes.as_mut_ptr());
                    std::ptr::copy_nonoverlapping(codes.as_ptr(), at.after(p).to, finish.count);
                }
            }
        }
    }
}

/// Eight rounded values in 16 bits, with the zero point added.
#[inline(always)]
fn with_zero_point<const KIND: u8>(first: int32x4_t, second: int32x4_t, zero: int16x8_t) -> int16x8_t {
    // SAFETY: these intrinsics touch registers only, and every 64-bit ARM has them.
    unsafe {
        if KIND == finish::ANY {
            vqaddq_s16(vqmovn_high_s32(vqmovn_s32(first), second), zero)
        } else {
            vaddq_s16(vuzp1q_s16(vreinterpretq_s16_s32(first), vreinterpretq_s16_s32(second)), zero)
        }
    }
}

/// As [`Epilogue`], for four channels of any pixels.
pub struct Codes<const KIND: u8> {
    multipliers: float32x4_t,
    slope: float32x4_t,
    zero: int16x8_t,
    low: int8x8_t,
    high: int8x8_t,
}

impl<const KIND: u8> Codes<KIND> {
    /// The constants of the four channels from `channel` on.
    ///
    /// # Safety
    /// There are four multipliers from `channel` on.
    #[inline(always)]
    pub unsafe fn new(requantise: &Requantise, channel: usize) -> Self {
        // SAFETY: the caller guarantees the multipliers; all else touches registers only, and every 64-bit
        // ARM has it.
        unsafe {
            Self {
                multipliers: vld1q_f32(requantise.multipliers.as_ptr().add(channel)),
                slope: vdupq_n_f32(requantise.slope),
                zero: vdupq_n_s16((requantise.zero - LOWERED) as i16),
                low: vdup_n_s8((requantise.range[0] - LOWERED) as i8),
                high: vdup_n_s8((requantise.range[1] - LOWERED) as i8),
            }
        }
    }

    /// The codes of two pixels.
    #[inline(always)]
    pub fn eight(&self, first: int32x4_t, second: int32x4_t) -> uint32x2_t {
        // SAFETY: these intrinsics touch registers only, and every 64-bit ARM has them.
        unsafe {
            let code = |sums: int32x4_t| {
                let t = vmulq_f32(vcvtq_f32_s32(sums), self.multipliers);
                vcvtnq_s32_f32(if KIND == finish::PLAIN { t } else { vmaxq_f32(t, vmulq_f32(self.slope, t)) })
            };
            let bytes = vqmovn_s16(with_zero_point::<KIND>(code(first), code(second), self.zero));
            vreinterpret_u32_s8(if KIND == finish::ANY {
                vmin_s8(vmax_s8(bytes, self.low), self.high)
            } else {
                bytes
            })
        }
    }
}
