//! AVX2 without dot products: codes and weights widened to 16 bits, because vpmaddubsw saturates.
//!
//! Codes are widened once for all outputs, weights at load, so the inner loop is vpmaddwd and vpaddd only. Convolutions of 3 × 3 pixels at
//! stride 1 go through Winograd's F(2 × 2, 3 × 3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", section 4.1) in
//! whole numbers: 16 products in place of 36. With `2 G` for `G` the weights stay whole, the sums are four times the true ones, and a shift
//! gives these exactly. Transformed codes are within ± 1020, transformed weights within ± 1152.
//!
//! Each `unsafe` block rests on the facts that `avx512_vnni.rs` names.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::avx2_finish::{Store, kind};
use super::avx2_winograd::conv_winograd;
use super::peak::spin;
use super::plane::{Pixels, View, ViewMut, Window};
use super::weights::{BLOCK, LINE, PackedConv, Wide};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Pixels of a tile: twelve sums, two columns of weights, one pair of codes and one product fill the registers.
pub(super) const TILE: usize = 6;
/// Bytes of widened codes that a group of pixels may take: the first cache also holds the weights of a block.
pub(super) const GROUP_BYTES: usize = 16 << 10;
/// Most pixels of a group, and most Winograd tiles.
pub(super) const GROUP: usize = 24;
/// Points of a Winograd tile.
pub(super) const POINTS: usize = 16;
/// A row of widened codes may be written past its end by less than this.
pub(super) const SLACK: usize = 16;
/// Memory of one call, on the stack; not set at first.
#[repr(align(64))]
pub(super) struct Scratch<T, const N: usize>([MaybeUninit<T>; N]);

impl<T: Copy, const N: usize> Scratch<T, N> {
    #[inline(always)]
    pub fn new() -> Self {
        Self([MaybeUninit::uninit(); N])
    }

    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// What every tile of one convolution shares.
pub(super) struct Job<'a> {
    pub weights: &'a PackedConv,
    pub wide: &'a Wide,
    pub window: &'a Window,
    pub input: *const u8,
    pub output: *mut u8,
}
pub fn conv(weights: &PackedConv, wide: &Wide, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let job = Job { weights, wide, window, input: input.data.as_ptr(), output: output.data.as_mut_ptr() };
    // SAFETY: see the module's words.
    unsafe {
        match (wide.winograd, kind(&weights.requantise, wide.bounded)) {
            (false, kind::PLAIN) => conv_direct::<{ kind::PLAIN }>(&job),
            (false, kind::LEAKY) => conv_direct::<{ kind::LEAKY }>(&job),
            (false, _) => conv_direct::<{ kind::ANY }>(&job),
            (true, kind::PLAIN) => conv_winograd::<{ kind::PLAIN }>(&job),
            (true, kind::LEAKY) => conv_winograd::<{ kind::LEAKY }>(&job),
            (true, _) => conv_winograd::<{ kind::ANY }>(&job),
        }
    }
}
/// Calls `$run` with the first row and the constant width of each tile of `$count` rows: at most [`TILE`] and as even as can be.
macro_rules! in_tiles {
    ($count:expr, |$first:ident, $wide:ident| $run:expr) => {{
        let mut tiles = $count.div_ceil(TILE);
        let mut $first = 0;
        while tiles > 0 {
            let width = ($count - $first).div_ceil(tiles);
            of_width!(width, $wide, $run, 1 2 3 4 5 6);
            $first += width;
            tiles -= 1;
        }
    }};
}

/// As [`in_tiles`], up to twice as wide: for half a block of outputs, whose sums take half the registers.
macro_rules! in_wide_tiles {
    ($count:expr, |$first:ident, $wide:ident| $run:expr) => {{
        let mut $first = 0;
        while $first < $count {
            let width = match $count - $first {
                12.. => 12,
                8.. => 8,
                left => left.min(TILE),
            };
            of_width!(width, $wide, $run, 1 2 3 4 5 6 8 12);
            $first += width;
        }
    }};
}

macro_rules! of_width {
    ($width:expr, $wide:ident, $run:expr, $($of:literal)*) => {
        match $width {
            $($of => {
                const $wide: usize = $of;
                $run
            })*
            _ => unreachable!("no tile is wider"),
        }
    };
}
pub(super) use {in_tiles, in_wide_tiles, of_width};

/// `start` and the products of `P` rows of widened codes with `8 * H` outputs, over `pairs` pairs of inputs.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn products<const P: usize, const H: usize>(
    start: [__m256i; H],
    codes: *const i16,
    row: usize,
    line: *const i8,
    pairs: usize,
) -> [[__m256i; H]; P] {
    // SAFETY: the caller's rows hold `pairs` pairs each, and its weights as many lines.
    unsafe {
        let mut sums = [start; P];
        for pair in 0..pairs {
            let columns: [__m256i; H] = std::array::from_fn(|h| _mm256_load_si256(line.add(pair * LINE + 32 * h).cast()));
            for p in 0..P {
                let two = _mm256_set1_epi32(codes.add(p * row + 2 * pair).cast::<i32>().read_unaligned());
                for h in 0..H {
                    sums[p][h] = _mm256_add_epi32(sums[p][h], _mm256_madd_epi16(two, columns[h]));
                }
            }
        }
        sums
    }
}
/// Widens the window's codes of some pixels into rows of all taps, then multiplies these with every block of outputs.
#[target_feature(enable = "avx2")]
unsafe fn conv_direct<const KIND: u8>(job: &Job<'_>) {
    let mut scratch = Scratch::<i16, { Wide::MAX_ROW + SLACK }>::new();
    let panel = scratch.as_mut_ptr();
    let (w, inputs) = (job.weights, job.wide.inputs);
    let row = job.window.taps.len() * inputs;
    // Where pixels lie side by side, a row of the window is one run of codes.
    let taps = if job.window.pitch == inputs { w.shape().kernel } else { 1 };
    let most = (GROUP_BYTES / 2 / row).clamp(TILE, GROUP).min(Wide::MAX_ROW / row).max(1);
    let mut left = job.window.count();
    let mut pixels = Pixels::new(job.window);
    // SAFETY: `most` rows fit the panel; codes are read within the window, and past a pixel's channels within the spare bytes; weights,
    // bias and multipliers are whole blocks; stores are cut to the channels.
    unsafe {
        while left > 0 {
            let count = left.div_ceil(left.div_ceil(most));
            let mut to = [0; GROUP];
            for (number, to) in to[..count].iter_mut().enumerate() {
                let ([from], [out]) = pixels.take::<1>();
                *to = out;
                for (run, offset) in job.window.taps.iter().step_by(taps).enumerate() {
                    let (codes, wide) = (job.input.add(from + offset), panel.add(number * row + run * taps * inputs));
                    for channel in (0..taps * inputs).step_by(16) {
                        let sixteen = _mm256_cvtepu8_epi16(_mm_loadu_si128(codes.add(channel).cast()));
                        _mm256_storeu_si256(wide.add(channel).cast(), sixteen);
                    }
                }
            }
            for channel in (0..w.outputs).step_by(BLOCK) {
                let line = job.wide.data.as_ptr().add(channel / BLOCK * (row / 2) * LINE);
                let block = Store::<KIND>::new(job, channel);
                if block.count > BLOCK / 2 {
                    in_tiles!(count, |first, WIDE| {
                        let sums = products::<WIDE, 2>(block.bias, panel.add(first * row), row, line, row / 2);
                        (0..WIDE).for_each(|p| block.store(sums[p], job.output.add(to[first + p] + channel)));
                    });
                } else {
                    in_wide_tiles!(count, |first, WIDE| {
                        let sums = products::<WIDE, 1>([block.bias[0]], panel.add(first * row), row, line, row / 2);
                        (0..WIDE).for_each(|p| block.store(sums[p], job.output.add(to[first + p] + channel)));
                    });
                }
            }
            left -= count;
        }
    }
}

// Every product is of registers that an empty block may have changed, or it would be taken out of the loop.
spin!(spin_avx2, "avx2", 16, _mm256_setzero_si256, _mm256_set1_epi8, |sum, a, b| {
    let mut fresh = a;
    // SAFETY: nothing is done.
    unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) fresh, options(nomem, nostack, preserves_flags)) };
    _mm256_add_epi32(*sum, _mm256_madd_epi16(fresh, b))
});
