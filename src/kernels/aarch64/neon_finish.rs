//! From the sums of NEON's tiles, of both instruction sets, to codes.
//!
//! What a layer does not need (a clamp, LeakyReLU, saturation) is left out at compile time: [`kind`].
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::tiles::Tile;
use super::weights::{BLOCK, Requantise};
use std::arch::aarch64::*;

/// The `$function` of what packed weights ask for after their sums.
macro_rules! by_kind {
    ($weights:expr, $function:ident) => {
        match kind::of(&$weights.requantise, $weights.bounded) {
            kind::PLAIN => $function::<{ kind::PLAIN }>,
            kind::LEAKY => $function::<{ kind::LEAKY }>,
            _ => $function::<{ kind::ANY }>,
        }
    };
}
pub(super) use by_kind;

/// What is done to sums, least first: only what a layer needs.
pub(super) mod kind {
    use crate::kernels::weights::Requantise;

    /// Any code, no activation, 16 bits suffice.
    pub const PLAIN: u8 = 0;
    /// Any code, LeakyReLU, 16 bits suffice.
    pub const LEAKY: u8 = 1;
    /// Whatever there is.
    pub const ANY: u8 = 2;

    pub fn of(requantise: &Requantise, bounded: bool) -> u8 {
        match (requantise.range, requantise.slope, bounded) {
            ([0, 255], 1.0, true) => PLAIN,
            ([0, 255], _, true) => LEAKY,
            _ => ANY,
        }
    }
}

/// What follows the sums of some outputs, from one channel on.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    multipliers: *const f32,
    slope: f32,
    zero: i16,
    low: i8,
    high: i8,
    /// Channels that are left.
    count: usize,
}

impl Finish {
    /// From `channel` on of `channels`.
    pub(super) fn new(requantise: &Requantise, channel: usize, channels: usize) -> Self {
        let stored = |code: i32| code - 128;
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
pub(super) struct Epilogue<const Q: usize, const KIND: u8> {
    multipliers: [float32x4_t; Q],
    /// LeakyReLU's; 1 for none.
    slope: float32x4_t,
    zero: int16x8_t,
    low: int8x16_t,
    high: int8x16_t,
}

impl<const Q: usize, const KIND: u8> Epilogue<Q, KIND> {
    /// # Safety
    /// There are `4 * Q` multipliers.
    #[inline(always)]
    unsafe fn new(finish: &Finish) -> Self {
        // SAFETY: the caller's word; the rest is registers only.
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

    /// Sums to `4 * Q` codes at `to`. Rounded first and clamped after, which is the same because rounding is monotone and conversions and
    /// narrowings saturate here.
    ///
    /// # Safety
    /// They may be written.
    #[inline(always)]
    unsafe fn store(self, sums: [int32x4_t; Q], to: *mut i8) {
        const { assert!(Q == 2 || Q == 4) };
        // SAFETY: the caller's word; the rest is registers only.
        unsafe {
            let code = |q: usize| {
                let t = vmulq_f32(vcvtq_f32_s32(sums[q]), self.multipliers[q]);
                vcvtnq_s32_f32(if KIND == kind::PLAIN { t } else { vmaxq_f32(t, vmulq_f32(self.slope, t)) })
            };
            let eight = |q: usize| moved::<KIND>(code(q), code(q + 1), self.zero);
            let first = vqmovn_s16(eight(0));
            let bytes = if Q == 4 { vqmovn_high_s16(first, eight(Q - 2)) } else { vcombine_s8(first, first) };
            let bytes = if KIND == kind::ANY { vminq_s8(vmaxq_s8(bytes, self.low), self.high) } else { bytes };
            if Q == 4 { vst1q_s8(to, bytes) } else { vst1_s8(to, vget_low_s8(bytes)) }
        }
    }

    /// Sums of pixels to their codes.
    ///
    /// # Safety
    /// The channels of these pixels may be written; multipliers are padded to whole blocks.
    #[inline(always)]
    pub(super) unsafe fn store_all<const P: usize>(finish: &Finish, sums: &[[int32x4_t; Q]; P], at: Tile) {
        // SAFETY: the caller's word.
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

/// Eight rounded values in 16 bits, moved by the zero point.
#[inline(always)]
fn moved<const KIND: u8>(first: int32x4_t, second: int32x4_t, zero: int16x8_t) -> int16x8_t {
    // SAFETY: registers only; every aarch64 has these.
    unsafe {
        if KIND == kind::ANY {
            vqaddq_s16(vqmovn_high_s32(vqmovn_s32(first), second), zero)
        } else {
            vaddq_s16(vuzp1q_s16(vreinterpretq_s16_s32(first), vreinterpretq_s16_s32(second)), zero)
        }
    }
}

/// As [`Epilogue`], for the same four channels of any pixels.
pub(super) struct Codes<const KIND: u8> {
    multipliers: float32x4_t,
    slope: float32x4_t,
    zero: int16x8_t,
    low: int8x8_t,
    high: int8x8_t,
}

impl<const KIND: u8> Codes<KIND> {
    /// # Safety
    /// Four multipliers follow `channel`.
    #[inline(always)]
    pub(super) unsafe fn new(requantise: &Requantise, channel: usize) -> Self {
        // SAFETY: the caller's word; the rest is registers only.
        unsafe {
            Self {
                multipliers: vld1q_f32(requantise.multipliers.as_ptr().add(channel)),
                slope: vdupq_n_f32(requantise.slope),
                zero: vdupq_n_s16((requantise.zero - 128) as i16),
                low: vdup_n_s8((requantise.range[0] - 128) as i8),
                high: vdup_n_s8((requantise.range[1] - 128) as i8),
            }
        }
    }

    /// The codes of two pixels.
    #[inline(always)]
    pub(super) fn eight(&self, first: int32x4_t, second: int32x4_t) -> uint32x2_t {
        // SAFETY: registers only; every aarch64 has these.
        unsafe {
            let code = |sums: int32x4_t| {
                let t = vmulq_f32(vcvtq_f32_s32(sums), self.multipliers);
                vcvtnq_s32_f32(if KIND == kind::PLAIN { t } else { vmaxq_f32(t, vmulq_f32(self.slope, t)) })
            };
            let bytes = vqmovn_s16(moved::<KIND>(code(first), code(second), self.zero));
            vreinterpret_u32_s8(if KIND == kind::ANY { vmin_s8(vmax_s8(bytes, self.low), self.high) } else { bytes })
        }
    }
}
