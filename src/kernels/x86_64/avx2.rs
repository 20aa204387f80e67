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

use super::Sum;
use super::plane::{Pixels, View, ViewMut, Window};
use super::weights::{BLOCK, DEPTHWISE_BLOCK, LINE, PackedConv, PackedDepthwise, Requantise, Wide};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

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

fn kind(requantise: &Requantise, bounded: bool) -> u8 {
    match (bounded, requantise.slope == 1.0) {
        (false, _) => kind::ANY,
        (true, false) => kind::LEAKY,
        (true, true) => kind::PLAIN,
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

/// `start` and the products of `P` rows of widened codes with `8 * H` outputs, over `pairs` pairs of inputs.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn products<const P: usize, const H: usize>(
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

/// Tiles of 2 × 2 outputs: codes to 16 points, products of each point, and back.
#[target_feature(enable = "avx2")]
unsafe fn conv_winograd<const KIND: u8>(job: &Job<'_>) {
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
                let block = Store::<KIND>::new(job, channel);
                let nothing = _mm256_setzero_si256();
                for at in 0..POINTS {
                    let (codes, line) = (points.add(at * point), line.add(at * (inputs / 2) * LINE));
                    let sums = sums.add(at * GROUP * BLOCK);
                    if block.count > BLOCK / 2 {
                        in_tiles!(count, |first, WIDE| {
                            keep(
                                products::<WIDE, 2>([nothing; 2], codes.add(first * inputs), inputs, line, inputs / 2),
                                sums.add(first * BLOCK),
                            );
                        });
                    } else {
                        in_wide_tiles!(count, |first, WIDE| {
                            keep(
                                products::<WIDE, 1>([nothing], codes.add(first * inputs), inputs, line, inputs / 2),
                                sums.add(first * BLOCK),
                            );
                        });
                    }
                }
                for number in 0..count {
                    let sums = sums.add(number * BLOCK);
                    let first_half = from_points(sums, block.bias[0]);
                    let second_half = if block.count > BLOCK / 2 { from_points(sums.add(8), block.bias[1]) } else { first_half };
                    let (y, x) = (2 * ((first + number) / across), 2 * ((first + number) % across));
                    for i in 0..4 {
                        let (y, x) = (y + i / 2, x + i % 2);
                        if y < rows && x < width {
                            let to = job.output.add(window.output.0 + y * window.output.1 + x * window.output.2 + channel);
                            if block.count > BLOCK / 2 {
                                block.store([first_half[i], second_half[i]], to);
                            } else {
                                block.store([first_half[i]], to);
                            }
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

/// `Aᵀ m A / 4` of eight outputs, and their bias: the four sums of a tile.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn from_points(sums: *const i32, bias: __m256i) -> [__m256i; 4] {
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
        std::array::from_fn(|i| _mm256_add_epi32(_mm256_srai_epi32::<2>(columns[i % 2][i / 2]), bias))
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

/// How sums become codes.
mod kind {
    /// No activation, and no sum times its multiplier leaves the range of conversions.
    pub const PLAIN: u8 = 0;
    /// As `PLAIN`, with LeakyReLU.
    pub const LEAKY: u8 = 1;
    /// Any: clamped before the conversion too.
    pub const ANY: u8 = 2;
}

/// Requantisation's constants, in registers.
#[derive(Clone, Copy)]
struct Epilogue<const KIND: u8> {
    slope: __m256,
    range: [__m256; 2],
    zero: __m256i,
    low: __m256i,
    high: __m256i,
}

impl<const KIND: u8> Epilogue<KIND> {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(requantise: &Requantise) -> Self {
        let [low, high] = requantise.range;
        Self {
            slope: _mm256_set1_ps(requantise.slope),
            range: [low, high].map(|code| _mm256_set1_ps((code - requantise.zero) as f32)),
            zero: _mm256_set1_epi16(requantise.zero as i16),
            low: _mm256_set1_epi8(low as i8),
            high: _mm256_set1_epi8(high as i8),
        }
    }

    /// Eight sums, requantised; the zero point and the narrower range are still to come.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn rounded(&self, sums: __m256i, multipliers: __m256) -> __m256i {
        let mut t = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), multipliers);
        if KIND != kind::PLAIN {
            t = _mm256_max_ps(t, _mm256_mul_ps(self.slope, t));
        }
        if KIND == kind::ANY {
            t = _mm256_min_ps(_mm256_max_ps(t, self.range[0]), self.range[1]);
        }
        _mm256_cvtps_epi32(t)
    }

    /// Sixteen words in the order of `a` and `b` by lanes, moved by the zero point. Saturating here and clamping after gives what clamping
    /// first would, because all of these are monotone.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn words(&self, a: __m256i, b: __m256i) -> __m256i {
        _mm256_adds_epi16(_mm256_packs_epi32(a, b), self.zero)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn clamped(&self, codes: __m256i) -> __m256i {
        _mm256_min_epu8(_mm256_max_epu8(codes, self.low), self.high)
    }
}

/// A block of outputs: its constants, and how many there are.
#[derive(Clone, Copy)]
struct Store<const KIND: u8> {
    epilogue: Epilogue<KIND>,
    bias: [__m256i; 2],
    multipliers: [__m256; 2],
    count: usize,
}

impl<const KIND: u8> Store<KIND> {
    /// # Safety
    /// `channel` begins a block.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn new(job: &Job<'_>, channel: usize) -> Self {
        // SAFETY: bias and multipliers are whole blocks.
        unsafe {
            Self {
                epilogue: Epilogue::new(&job.weights.requantise),
                bias: std::array::from_fn(|h| _mm256_loadu_si256(job.wide.bias.as_ptr().add(channel + 8 * h).cast())),
                multipliers: std::array::from_fn(|h| _mm256_loadu_ps(job.wide.multipliers.as_ptr().add(channel + 8 * h))),
                count: (job.weights.outputs - channel).min(BLOCK),
            }
        }
    }

    /// Sums, bias included, to codes at `to`.
    ///
    /// # Safety
    /// `count` bytes may be written.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn store<const H: usize>(&self, sums: [__m256i; H], to: *mut u8) {
        let rounded: [__m256i; H] = std::array::from_fn(|h| self.epilogue.rounded(sums[h], self.multipliers[h]));
        let words = self.epilogue.words(rounded[0], rounded[H - 1]);
        // Two halves lie in the order in which packing by lanes makes them one after the other; a lone half has its quarters in both lanes.
        let (first, second) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        let codes = if H == 2 { _mm_packus_epi16(first, second) } else { _mm_packus_epi16(_mm_unpacklo_epi64(first, second), first) };
        let codes = _mm256_castsi256_si128(self.epilogue.clamped(_mm256_castsi128_si256(codes)));
        // SAFETY: the caller's.
        unsafe { store_first(codes, to, self.count) }
    }
}

/// The first `count` codes of a register to `to`.
///
/// # Safety
/// They may be written, and a register has as many.
#[inline(always)]
pub(super) unsafe fn store_first<R: Copy>(register: R, to: *mut u8, count: usize) {
    // SAFETY: the caller's.
    unsafe {
        if count == size_of::<R>() {
            to.cast::<R>().write_unaligned(register);
        } else {
            std::ptr::copy_nonoverlapping((&raw const register).cast::<u8>(), to, count);
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

/// 32 channels at a time.
pub fn max_pool(window: &Window, input: &View<'_>, output: &mut ViewMut<'_>) {
    // SAFETY: see the module's words.
    unsafe { max_pool_pixels(window, input.channels, input.data.as_ptr(), output.data.as_mut_ptr()) }
}

#[target_feature(enable = "avx2")]
unsafe fn max_pool_pixels(window: &Window, channels: usize, input: *const u8, output: *mut u8) {
    for channel in (0..channels).step_by(DEPTHWISE_BLOCK / 2) {
        let count = (channels - channel).min(DEPTHWISE_BLOCK / 2);
        for (from, to) in window.pixels() {
            // SAFETY: codes are read within the window, and past a pixel's channels within the spare bytes; stores are cut to the channels.
            unsafe {
                let mut best = _mm256_setzero_si256();
                for &tap in window.taps.iter() {
                    best = _mm256_max_epu8(best, _mm256_loadu_si256(input.add(from + channel + tap).cast()));
                }
                store_first(best, output.add(to + channel), count);
            }
        }
    }
}

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

/// Codes through a table, 32 at a time: each of its sixteen rows gives the codes of its own high nibble.
pub fn translate(table: &[u8; 256], from: &[u8], to: &mut [u8]) {
    let whole = from.len().min(to.len()) / 32 * 32;
    let (head, tail) = to.split_at_mut(whole);
    // SAFETY: the CPU has AVX2; `whole` bytes are read and written, 32 at a time.
    unsafe { translate_bytes(table, from.as_ptr(), head.as_mut_ptr(), whole) }
    super::scalar::translate(table, &from[whole..], tail);
}

#[target_feature(enable = "avx2")]
unsafe fn translate_bytes(table: &[u8; 256], from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: as the caller's; rows lie within the table.
    unsafe {
        for done in (0..length).step_by(32) {
            let codes = _mm256_loadu_si256(from.add(done).cast());
            let mut found = _mm256_setzero_si256();
            for row in 0..16 {
                let sixteen = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().add(16 * row).cast()));
                // Codes of another row get their top bit, which gives 0.
                let within = _mm256_adds_epu8(_mm256_sub_epi8(codes, _mm256_set1_epi8((16 * row) as i8)), _mm256_set1_epi8(0x70));
                found = _mm256_or_si256(found, _mm256_shuffle_epi8(sixteen, within));
            }
            _mm256_storeu_si256(to.add(done).cast(), found);
        }
    }
}
