//! AVX2 without dot products: codes and weights widened to 16 bits, because vpmaddubsw saturates.
//!
//! Codes are widened once for all outputs, weights at load, so the inner loop is vpmaddwd and vpaddd only.
//! Convolutions of 3 × 3 pixels at stride 1 are in `avx2_winograd.rs`.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::avx2_finish::Store;
use super::avx2_winograd;
use super::finish::{self, by_finish};
use super::pack::{self, Layer, Packed};
use super::plane::{Pixels, Window};
use super::scalar;
use super::spin::spin;
use super::weights::{BLOCK, ConvForm, FOREIGN_FORM, LINE, Lines, PackedConv};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Pixels of a tile: twelve sums, two columns of weights, one pair of codes and one product fill the
/// registers.
pub const TILE: usize = 6;
/// Most pixels of a group that is widened together, and most Winograd tiles.
pub const GROUP: usize = 24;
/// A row of widened codes may be written past its end by less than this.
pub const SLACK: usize = 16;
/// Bytes of widened codes that a group of pixels may take: the first cache also holds the weights of a block.
const GROUP_BYTES: usize = 16 << 10;
/// Longest row of taps and inputs that there is memory for.
const MAX_ROW: usize = 32 << 10;
/// Scaled sums below this, with room to spare, are converted to 32 bits exactly.
const MAX_CONVERTED: f64 = (1 << 30) as f64;

/// Memory of one call, on the stack; not set at first.
#[repr(align(64))]
pub struct Scratch<T, const N: usize>([MaybeUninit<T>; N]);

impl<T: Copy, const N: usize> Scratch<T, N> {
    /// Room for `N` values.
    #[inline(always)]
    pub fn new() -> Self {
        Self([MaybeUninit::uninit(); N])
    }

    /// Address of the first of `N` values, aligned to a cache line.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// The finish of a layer: a conversion without a clamp before it is exact for moderate scaled sums.
pub fn finish_of(layer: &Layer<'_>) -> u8 {
    finish::of(layer.scaled_sums_stay_below(MAX_CONVERTED), layer.requantise.slope)
}

/// Packs a convolution: two inputs of an output side by side, in 16 bits, or the points of Winograd's
/// transform.
pub fn pack(layer: &Layer<'_>) -> Packed<ConvForm> {
    let taps = layer.shape.taps();
    let form = if avx2_winograd::fits(layer) {
        ConvForm::WinogradPairs(avx2_winograd::weights(layer))
    } else if taps * layer.inputs.next_multiple_of(2) > MAX_ROW {
        return pack::plain_conv(layer);
    } else {
        ConvForm::Pairs(pairs(layer, taps, |weights, words| {
            words.iter_mut().zip(weights).for_each(|(word, &weight)| *word = weight.into());
        }))
    };
    layer.packed(form, finish_of(layer), 0, BLOCK, |output| place(layer.rows.len(), output))
}

/// The form of [`ConvForm::Pairs`], with `parts` parts for taps; `part` writes those of one output and input
/// from its taps.
pub fn pairs(layer: &Layer<'_>, parts: usize, part: impl Fn(&[i8], &mut [i16])) -> Lines {
    let (outputs, pairs) = (layer.rows.len(), layer.inputs.div_ceil(2));
    let mut lines = Lines::zeroed(outputs.next_multiple_of(BLOCK) * parts * pairs * 4);
    let mut words = vec![0; parts];
    for (output, row) in layer.rows.iter().enumerate() {
        let (first, within) = (output / BLOCK * parts * pairs, place(outputs, output) % BLOCK);
        for (input, weights) in row.chunks_exact(layer.shape.taps()).enumerate() {
            part(weights, &mut words);
            for (number, &word) in words.iter().enumerate() {
                let line = first + number * pairs + input / 2;
                lines.set_word(line * LINE + within * 4 + input % 2 * 2, word);
            }
        }
    }
    lines
}

/// Place of an output of `outputs` in packed weights. Narrowing works within 128-bit lanes: with the middle
/// quarters of a block exchanged it leaves outputs in their order. A block of eight or fewer is half as wide
/// and needs no exchange.
fn place(outputs: usize, output: usize) -> usize {
    let first = output / BLOCK * BLOCK;
    let within = match (outputs - first > BLOCK / 2, output % BLOCK) {
        (true, within @ 4..8) => within + 4,
        (true, within @ 8..12) => within - 4,
        (_, within) => within,
    };
    first + within
}

/// What every tile of one convolution shares.
pub struct Job<'a> {
    pub weights: &'a PackedConv,
    /// The first cache line of weights.
    pub lines: *const i8,
    /// Inputs, rounded up to whole pairs.
    pub inputs: usize,
    pub window: &'a Window<'a>,
    pub input: *const u8,
    pub output: *mut u8,
}

/// Convolution of weights that [`pack()`] made.
///
/// # Safety
/// The CPU has AVX2; the weights are for the window's shape and channels.
#[target_feature(enable = "avx2")]
pub unsafe fn conv(weights: &PackedConv, window: &mut Window<'_>) {
    let (lines, run): (&Lines, unsafe fn(&Job<'_>)) = match &weights.form {
        ConvForm::Pairs(lines) => (lines, by_finish!(weights, conv_direct)),
        ConvForm::WinogradPairs(lines) => {
            use avx2_winograd::conv as conv_winograd;
            (lines, by_finish!(weights, conv_winograd))
        }
        // A row of taps and inputs is too long for the memory here.
        ConvForm::Plain(_) => return scalar::conv(weights, window),
        ConvForm::Fours(_) => unreachable!("{FOREIGN_FORM}"),
    };
    let output = window.output.as_mut_ptr();
    let inputs = weights.inputs.next_multiple_of(2);
    let input = window.input.as_ptr();
    // SAFETY: the caller guarantees AVX2 and weights for the window; `lines` are in the form that `run`
    // reads.
    unsafe { run(&Job { weights, lines: lines.as_ptr(), inputs, window, input, output }) }
}

/// Calls `$run` with the first row and the constant width of each tile of `$count` rows: at most [`TILE`] and
/// as even as can be.
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

/// Calls `$run` with the constant `$wide` that equals `$width`, which must be among `$of`.
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
///
/// # Safety
/// `P` rows, `row` numbers apart, have `pairs` pairs of codes each, and `pairs` cache lines of weights begin
/// at `line`, which is aligned to one.
#[inline]
#[target_feature(enable = "avx2")]
pub unsafe fn products<const P: usize, const H: usize>(
    start: [__m256i; H],
    codes: *const i16,
    row: usize,
    line: *const i8,
    pairs: usize,
) -> [[__m256i; H]; P] {
    let mut sums = [start; P];
    for pair in 0..pairs {
        // SAFETY: `pair` is below `pairs`, and the caller guarantees that many cache lines; `H` is 1 or 2, so
        // 32 * H bytes are within one.
        let column = |h: usize| unsafe { _mm256_load_si256(line.add(pair * LINE + 32 * h).cast()) };
        let columns: [__m256i; H] = std::array::from_fn(column);
        for p in 0..P {
            // SAFETY: `p` is below `P` and `pair` below `pairs`, and the caller guarantees these codes.
            let two = unsafe { codes.add(p * row + 2 * pair).cast::<i32>().read_unaligned() };
            for h in 0..H {
                let product = _mm256_madd_epi16(_mm256_set1_epi32(two), columns[h]);
                sums[p][h] = _mm256_add_epi32(sums[p][h], product);
            }
        }
    }
    sums
}

/// Widens the window's codes of some pixels into rows of all taps, then multiplies these with every block of
/// outputs.
///
/// # Safety
/// The job's weights are in the form [`ConvForm::Pairs`], for its window's shape and channels.
#[target_feature(enable = "avx2")]
unsafe fn conv_direct<const KIND: u8>(job: &Job<'_>) {
    let mut scratch = Scratch::<i16, { MAX_ROW + SLACK }>::new();
    let panel = scratch.as_mut_ptr();
    let row = job.window.taps.len() * job.inputs;
    // Where pixels lie side by side, a row of the window is one run of codes.
    let taps = if job.window.pitch == job.inputs { job.weights.shape.kernel } else { 1 };
    let most = (GROUP_BYTES / 2 / row).clamp(TILE, GROUP).min(MAX_ROW / row).max(1);
    let mut left = job.window.count();
    let mut pixels = Pixels::new(job.window);
    while left > 0 {
        let count = left.div_ceil(left.div_ceil(most));
        let mut to = [0; GROUP];
        for (number, to) in to[..count].iter_mut().enumerate() {
            let ([from], [out]) = pixels.take::<1>();
            *to = out;
            // SAFETY: `from` is of one of the window's pixels; the panel has room for `most * row` numbers
            // and the slack, because `pack` admits no row longer than `MAX_ROW`, and `number` is below
            // `count`, at most `most`.
            unsafe { widen(job, taps, from, panel.add(number * row)) };
        }
        for channel in (0..job.weights.outputs).step_by(BLOCK) {
            // SAFETY: `channel` begins a block of outputs; the panel's first `count` rows were written, and
            // `to` are offsets of the same pixels.
            unsafe { multiply::<KIND>(job, channel, panel, count, &to) };
        }
        left -= count;
    }
}

/// Widens the codes of all taps of a pixel into a row at `to`, `taps` of them at a time.
///
/// # Safety
/// `from` is the input offset of one of the window's pixels; `taps` is 1, or the window's side where its
/// pixels have no channels but the inputs; the row's numbers and [`SLACK`] more may be written.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn widen(job: &Job<'_>, taps: usize, from: usize, to: *mut i16) {
    let codes_of_run = taps * job.inputs;
    for (run, offset) in job.window.taps.iter().step_by(taps).enumerate() {
        // SAFETY: `Window::new` proved the inputs of each tap readable and 63 bytes more, so sixteen codes
        // are from each of a tap, or of taps that lie side by side. The caller guarantees the row and its
        // slack.
        unsafe {
            let (codes, wide) = (job.input.add(from + offset), to.add(run * codes_of_run));
            for channel in (0..codes_of_run).step_by(16) {
                let sixteen = _mm256_cvtepu8_epi16(_mm_loadu_si128(codes.add(channel).cast()));
                _mm256_storeu_si256(wide.add(channel).cast(), sixteen);
            }
        }
    }
}

/// Multiplies rows of widened codes with a block of outputs, and stores the codes.
///
/// # Safety
/// `channel` begins a block of outputs; the panel has `count` rows of widened codes, and `to` begins with the
/// output offsets of their pixels.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn multiply<const KIND: u8>(
    job: &Job<'_>,
    channel: usize,
    panel: *const i16,
    count: usize,
    to: &[usize; GROUP],
) {
    let row = job.window.taps.len() * job.inputs;
    // SAFETY: `pairs` made `row / 2` cache lines of each block, and `channel` begins one. Tiles are of rows
    // below `count`, which the caller guarantees. `block.count` outputs are left from `channel` on, and
    // `Window::new` proved that a pixel's outputs may be written.
    unsafe {
        let line = job.lines.add(channel / BLOCK * (row / 2) * LINE);
        let block = Store::<KIND>::new(job.weights, channel);
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
}

// Every product is of registers that an empty block may have changed, or the compiler would take it out of
// the loop.
spin!("avx2", 16, [_mm256_setzero_si256 _mm256_set1_epi8], |sum, a, b| {
    let mut fresh = a;
    // SAFETY: the block is a comment and does nothing.
    unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) fresh, options(nomem, nostack, preserves_flags)) };
    _mm256_add_epi32(*sum, _mm256_madd_epi16(fresh, b))
});
