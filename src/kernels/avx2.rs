//! AVX2 without dot products: codes and weights widened to 16 bits, because vpmaddubsw saturates.
//!
//! Codes are widened once for all outputs, weights at load, so the inner loop is vpmaddwd and vpaddd only. Convolutions of 3 × 3 pixels at
//! stride 1 go through Winograd's F(2 × 2, 3 × 3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", section 4.1) in
//! whole numbers: 16 products in place of 36. With `2 G` for `G` the weights stay whole, the sums are four times the true ones, and a shift
//! gives these exactly. Transformed codes are within ± 1020, transformed weights within ± 1152.
//!
//! Each `unsafe` block rests on the facts that `x86.rs` names.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::Sum;
use super::pack::{BLOCK, DEPTHWISE_BLOCK, PackedConv, PackedDepthwise, Requantise, Wide};
use super::plane::{Pixels, View, ViewMut, Window};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Bytes of weights of a block of outputs and a pair of inputs.
const LINE: usize = 64;
/// Pixels of a tile: twelve sums, two columns of weights, one pair of codes and one product fill the registers.
const TILE: usize = 6;
/// Bytes of widened codes that a group of pixels may take: the first cache also holds the weights of a block.
const GROUP_BYTES: usize = 16 << 10;
/// Most pixels of a group, and most Winograd tiles.
const GROUP: usize = 24;
/// Points of a Winograd tile.
const POINTS: usize = 16;
/// A row of widened codes may be written past its end by less than this.
const SLACK: usize = 16;

/// Memory of one call, on the stack; not set at first.
#[repr(align(64))]
struct Scratch<T, const N: usize>([MaybeUninit<T>; N]);

impl<T: Copy, const N: usize> Scratch<T, N> {
    #[inline(always)]
    fn new() -> Self {
        Self([MaybeUninit::uninit(); N])
    }

    fn as_mut_ptr(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// What every tile of one convolution shares.
struct Job<'a> {
    weights: &'a PackedConv,
    wide: &'a Wide,
    window: &'a Window,
    input: *const u8,
    output: *mut u8,
}

pub fn conv(weights: &PackedConv, wide: &Wide, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    let job = Job { weights, wide, window, input: input.data.as_ptr(), output: output.data.as_mut_ptr() };
    // SAFETY: see the module's words.
    unsafe { if wide.winograd { conv_winograd(&job) } else { conv_direct(&job) } }
}

/// Rows of `n` pixels in tiles of at most [`TILE`], as even as can be: `$run` with the tile's first pixel and its width as a constant.
macro_rules! in_tiles {
    ($count:expr, |$first:ident, $wide:ident| $run:expr) => {{
        let mut tiles = $count.div_ceil(TILE);
        let mut $first = 0;
        while tiles > 0 {
            let width = ($count - $first).div_ceil(tiles);
            macro_rules! of {
                ($of:literal) => {{
                    const $wide: usize = $of;
                    $run
                }};
            }
            match width {
                1 => of!(1),
                2 => of!(2),
                3 => of!(3),
                4 => of!(4),
                5 => of!(5),
                _ => of!(6),
            }
            $first += width;
            tiles -= 1;
        }
    }};
}

/// Products of `P` rows of widened codes with `8 * H` outputs, over `pairs` pairs of inputs.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn products<const P: usize, const H: usize>(codes: *const i16, row: usize, line: *const i8, pairs: usize) -> [[__m256i; H]; P] {
    // SAFETY: the caller's rows hold `pairs` pairs each, and its weights as many lines.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); H]; P];
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
unsafe fn conv_direct(job: &Job<'_>) {
    let mut scratch = Scratch::<i16, { Wide::MAX_ROW + SLACK }>::new();
    let panel = scratch.as_mut_ptr();
    let (w, inputs) = (job.weights, job.wide.inputs);
    let row = job.window.taps.len() * inputs;
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
                for (tap, offset) in job.window.taps.iter().enumerate() {
                    let (codes, wide) = (job.input.add(from + offset), panel.add(number * row + tap * inputs));
                    for channel in (0..inputs).step_by(16) {
                        let sixteen = _mm256_cvtepu8_epi16(_mm_loadu_si128(codes.add(channel).cast()));
                        _mm256_storeu_si256(wide.add(channel).cast(), sixteen);
                    }
                }
            }
            for channel in (0..w.outputs).step_by(BLOCK) {
                let line = job.wide.data.as_ptr().add(channel / BLOCK * (row / 2) * LINE);
                let requantise = Store::new(w, channel);
                in_tiles!(count, |first, WIDE| {
                    let codes = panel.add(first * row);
                    if w.outputs - channel > BLOCK / 2 {
                        let sums = products::<WIDE, 2>(codes, row, line, row / 2);
                        for p in 0..WIDE {
                            requantise.store(sums[p], job.output.add(to[first + p] + channel));
                        }
                    } else {
                        let sums = products::<WIDE, 1>(codes, row, line, row / 2);
                        for p in 0..WIDE {
                            requantise.store([sums[p][0], _mm256_setzero_si256()], job.output.add(to[first + p] + channel));
                        }
                    }
                });
            }
            left -= count;
        }
    }
}

/// Tiles of 2 × 2 outputs: codes to 16 points, products of each point, and back.
#[target_feature(enable = "avx2")]
unsafe fn conv_winograd(job: &Job<'_>) {
    let mut points = Scratch::<i16, { POINTS * (TILE * Wide::MAX_WINOGRAD_INPUTS + SLACK) }>::new();
    let mut sums = Scratch::<i32, { POINTS * GROUP * BLOCK }>::new();
    let (points, sums) = (points.as_mut_ptr(), sums.as_mut_ptr());
    let (w, inputs, window) = (job.weights, job.wide.inputs, job.window);
    let (rows, width) = (window.size.0.len(), window.size.1);
    let across = width.div_ceil(2);
    let all = rows.div_ceil(2) * across;
    let most = (TILE * Wide::MAX_WINOGRAD_INPUTS / inputs).min(GROUP);
    let parts = all.div_ceil(most);
    let mut first = 0;
    // SAFETY: `most` tiles fit both scratches, and each point's rows have slack; codes are read within the window (rows and columns past its
    // last are the last again: their outputs are not stored) and past a pixel's channels within the spare bytes; weights, bias and
    // multipliers are whole blocks; only pixels of the window are stored, cut to the channels.
    unsafe {
        for part in 0..parts {
            let count = (all - first).div_ceil(parts - part);
            let point = count * inputs + SLACK;
            for number in 0..count {
                let (y, x) = (2 * ((first + number) / across), 2 * ((first + number) % across));
                let place = |i: usize| {
                    let (row, column) = ((y + i / 4).min(rows + 1), (x + i % 4).min(width + 1));
                    job.input.add(window.input.0 + row * window.input.1 + column * window.input.2)
                };
                to_points(&std::array::from_fn(place), inputs, points.add(number * inputs), point);
            }
            for channel in (0..w.outputs).step_by(BLOCK) {
                let line = job.wide.data.as_ptr().add(channel / BLOCK * POINTS * (inputs / 2) * LINE);
                for at in 0..POINTS {
                    let (codes, line) = (points.add(at * point), line.add(at * (inputs / 2) * LINE));
                    let sums = sums.add(at * GROUP * BLOCK);
                    in_tiles!(count, |first, WIDE| {
                        if w.outputs - channel > BLOCK / 2 {
                            keep(products::<WIDE, 2>(codes.add(first * inputs), inputs, line, inputs / 2), sums.add(first * BLOCK));
                        } else {
                            keep(products::<WIDE, 1>(codes.add(first * inputs), inputs, line, inputs / 2), sums.add(first * BLOCK));
                        }
                    });
                }
                let requantise = Store::new(w, channel);
                for number in 0..count {
                    let sums = sums.add(number * BLOCK);
                    let halves = if w.outputs - channel > BLOCK / 2 {
                        [from_points(sums), from_points(sums.add(8))]
                    } else {
                        [from_points(sums), [_mm256_setzero_si256(); 4]]
                    };
                    let (y, x) = (2 * ((first + number) / across), 2 * ((first + number) % across));
                    for i in 0..4 {
                        let (y, x) = (y + i / 2, x + i % 2);
                        if y < rows && x < width {
                            let to = window.output.0 + y * window.output.1 + x * window.output.2;
                            requantise.store([halves[0][i], halves[1][i]], job.output.add(to + channel));
                        }
                    }
                }
            }
            first += count;
        }
    }
}

/// `Bᵀ d B` of a tile's 4 × 4 pixels, sixteen channels at a time; points lie `point` numbers apart.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn to_points(pixels: &[*const u8; POINTS], inputs: usize, to: *mut i16, point: usize) {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn transformed(d: [__m256i; 4]) -> [__m256i; 4] {
        [_mm256_sub_epi16(d[0], d[2]), _mm256_add_epi16(d[1], d[2]), _mm256_sub_epi16(d[2], d[1]), _mm256_sub_epi16(d[1], d[3])]
    }
    // SAFETY: as the caller's.
    unsafe {
        for channel in (0..inputs).step_by(16) {
            let rows: [[__m256i; 4]; 4] = std::array::from_fn(|y| {
                transformed(std::array::from_fn(|x| _mm256_cvtepu8_epi16(_mm_loadu_si128(pixels[4 * y + x].add(channel).cast()))))
            });
            for x in 0..4 {
                let column = transformed([rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
                for y in 0..4 {
                    _mm256_storeu_si256(to.add((4 * y + x) * point + channel).cast(), column[y]);
                }
            }
        }
    }
}

/// `Aᵀ m A / 4` of eight outputs: the four sums of a tile.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn from_points(sums: *const i32) -> [__m256i; 4] {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn transformed(m: [__m256i; 4]) -> [__m256i; 2] {
        [_mm256_add_epi32(_mm256_add_epi32(m[0], m[1]), m[2]), _mm256_sub_epi32(_mm256_sub_epi32(m[1], m[2]), m[3])]
    }
    // SAFETY: as the caller's.
    unsafe {
        let rows: [[__m256i; 2]; 4] =
            std::array::from_fn(|y| transformed(std::array::from_fn(|x| _mm256_load_si256(sums.add((4 * y + x) * GROUP * BLOCK).cast()))));
        let columns: [[__m256i; 2]; 2] = std::array::from_fn(|x| transformed([rows[0][x], rows[1][x], rows[2][x], rows[3][x]]));
        std::array::from_fn(|i| _mm256_srai_epi32::<2>(columns[i % 2][i / 2]))
    }
}

/// Writes products where [`from_points`] reads them.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn keep<const P: usize, const H: usize>(products: [[__m256i; H]; P], to: *mut i32) {
    for p in 0..P {
        for h in 0..H {
            // SAFETY: as the caller's.
            unsafe { _mm256_store_si256(to.add(p * BLOCK + 8 * h).cast(), products[p][h]) };
        }
    }
}

/// What follows the sums of a block of outputs.
#[derive(Clone, Copy)]
struct Store<'a> {
    requantise: &'a Requantise,
    bias: &'a [i32],
    channel: usize,
    count: usize,
}

impl<'a> Store<'a> {
    fn new(weights: &'a PackedConv, channel: usize) -> Self {
        let count = (weights.outputs - channel).min(BLOCK);
        Self { requantise: &weights.requantise, bias: &weights.bias[channel..], channel, count }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn store(self, halves: [__m256i; 2], to: *mut u8) {
        // SAFETY: as the caller's.
        unsafe { store(halves, self.bias, self.requantise, self.channel, to, self.count) }
    }
}

/// Requantisation's constants, in registers.
#[derive(Clone, Copy)]
pub(super) struct Epilogue256 {
    slope: __m256,
    low: __m256,
    high: __m256,
    zero: __m256i,
}

impl Epilogue256 {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(requantise: &Requantise) -> Self {
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
    pub(super) fn codes(self, sums: __m256i, multiplier: __m256) -> __m256i {
        let t = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), multiplier);
        let t = _mm256_max_ps(t, _mm256_mul_ps(self.slope, t));
        let t = _mm256_min_ps(_mm256_max_ps(t, self.low), self.high);
        _mm256_add_epi32(_mm256_cvtps_epi32(t), self.zero)
    }
}

/// Sixteen sums without bias to `count` codes at `to`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store(halves: [__m256i; 2], bias: &[i32], requantise: &Requantise, channel: usize, to: *mut u8, count: usize) {
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
        if count == BLOCK {
            _mm_storeu_si128(to.cast(), bytes);
        } else {
            let mut spare = [0u8; BLOCK];
            _mm_storeu_si128(spare.as_mut_ptr().cast(), bytes);
            std::ptr::copy_nonoverlapping(spare.as_ptr(), to, count);
        }
    }
}

pub fn add(sum: &Sum, a: &[u8], b: &[u8], to: &mut [u8]) {
    let length = to.len().min(a.len()).min(b.len());
    let whole = length / 8 * 8;
    // SAFETY: the CPU has AVX2; `whole` bytes are read and written, eight at a time.
    unsafe { add_bytes(sum, a.as_ptr(), b.as_ptr(), to.as_mut_ptr(), whole) }
    super::scalar::add_codes(sum, &a[whole..length], &b[whole..length], &mut to[whole..length]);
}

#[target_feature(enable = "avx2")]
unsafe fn add_bytes(sum: &Sum, a: *const u8, b: *const u8, to: *mut u8, length: usize) {
    let [low, high] = sum.range.map(|code| _mm256_set1_ps((code - sum.zero) as f32));
    let (zeros, multipliers) = (sum.zeros.map(|z| _mm256_set1_epi32(z)), sum.multipliers.map(|m| _mm256_set1_ps(m)));
    for done in (0..length).step_by(8) {
        // SAFETY: as the caller's.
        unsafe {
            let real = |from: *const u8, i: usize| {
                let codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(done).cast()));
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(codes, zeros[i])), multipliers[i])
            };
            let t = _mm256_add_ps(real(a, 0), real(b, 1));
            let codes = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(t, low), high));
            let codes = _mm256_add_epi32(codes, _mm256_set1_epi32(sum.zero));
            let words = _mm_packus_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
            _mm_storel_epi64(to.add(done).cast(), _mm_packus_epi16(words, words));
        }
    }
}

pub fn depthwise(weights: &PackedDepthwise, window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    // SAFETY: see the module's words.
    unsafe { depthwise_pixels(weights, window, input.data.as_ptr(), output.data.as_mut_ptr()) }
}

/// 32 channels at a time: the codes of two taps side by side, widened, are what one product takes.
#[target_feature(enable = "avx2")]
unsafe fn depthwise_pixels(w: &PackedDepthwise, window: &Window, input: *const u8, output: *mut u8) {
    const HALF: usize = DEPTHWISE_BLOCK / 2;
    let taps = window.taps.by_fours();
    let pairs = window.taps.len().div_ceil(2);
    let epilogue = Epilogue256::new(&w.requantise);
    let nothing = _mm256_setzero_si256();
    for channel in (0..w.channels).step_by(HALF) {
        let (block, half) = (channel / DEPTHWISE_BLOCK, channel % DEPTHWISE_BLOCK / HALF);
        let count = (w.channels - channel).min(HALF);
        let place = |q: usize| block * DEPTHWISE_BLOCK + 16 * q + 8 * half;
        // SAFETY: blocks of weights, bias and multipliers are whole; pixels are proved by the window; stores are cut to the channels.
        unsafe {
            let weights = w.paired.as_ptr().add(block * pairs * 4 * LINE + half * LINE / 2);
            for (from, to) in window.pixels() {
                let at = input.add(from + channel);
                let mut sums: [__m256i; 4] = std::array::from_fn(|q| _mm256_loadu_si256(w.interleaved_bias.as_ptr().add(place(q)).cast()));
                for pair in 0..pairs {
                    let [a, b] = [0, 1].map(|i| _mm256_loadu_si256(at.add(taps[2 * pair + i]).cast()));
                    let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
                    let twos = [
                        _mm256_unpacklo_epi8(low, nothing),
                        _mm256_unpackhi_epi8(low, nothing),
                        _mm256_unpacklo_epi8(high, nothing),
                        _mm256_unpackhi_epi8(high, nothing),
                    ];
                    for q in 0..4 {
                        let column = _mm256_load_si256(weights.add((pair * 4 + q) * LINE).cast());
                        sums[q] = _mm256_add_epi32(sums[q], _mm256_madd_epi16(twos[q], column));
                    }
                }
                let codes: [__m256i; 4] = std::array::from_fn(|q| {
                    let multiplier = _mm256_loadu_ps(w.interleaved_multipliers.as_ptr().add(place(q)));
                    epilogue.codes(sums[q], multiplier)
                });
                store_quarters(codes, output.add(to + channel), count);
            }
        }
    }
}

/// Codes of 32 channels, in the order of interleaved weights, to the first `count` bytes at `to`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store_quarters(codes: [__m256i; 4], to: *mut u8, count: usize) {
    let pairs = [_mm256_packus_epi32(codes[0], codes[1]), _mm256_packus_epi32(codes[2], codes[3])];
    let bytes = _mm256_packus_epi16(pairs[0], pairs[1]);
    // SAFETY: the caller's word that `count` bytes, at most 32, may be written.
    unsafe {
        if count == 32 {
            _mm256_storeu_si256(to.cast(), bytes);
        } else {
            let mut spare = [0u8; 32];
            _mm256_storeu_si256(spare.as_mut_ptr().cast(), bytes);
            std::ptr::copy_nonoverlapping(spare.as_ptr(), to, count);
        }
    }
}
