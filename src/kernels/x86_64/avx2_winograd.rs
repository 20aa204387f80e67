//! 3 × 3 convolutions of stride 1 for AVX2 by Winograd's F(2 × 2, 3 × 3), in whole numbers: 16 products in
//! place of 36.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", section 4.1. With `2 G` for `G` the
//! weights stay whole, the sums are four times the true ones, and a shift gives these exactly. Transformed
//! codes are within ± 1020, transformed weights within ± 1152.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::avx2::{GROUP, Job, SLACK, Scratch, TILE, in_tiles, in_wide_tiles, of_width, pairs, products};
use super::avx2_finish::Store;
use super::pack::Layer;
use super::weights::{BLOCK, LINE, Lines};
use std::arch::x86_64::*;

/// Points of a tile of 2 × 2 outputs.
const POINTS: usize = 16;
/// Fewer inputs or outputs are not worth the transforms.
const MIN_CHANNELS: usize = 16;
/// Most inputs that there is memory for.
const MAX_INPUTS: usize = 512;

/// Whether a layer may go this way and gains by it: four times any of its sums must fit 32 bits.
pub fn fits(layer: &Layer<'_>) -> bool {
    (layer.shape.kernel, layer.shape.stride) == (3, 1)
        && (MIN_CHANNELS..=MAX_INPUTS).contains(&layer.inputs.next_multiple_of(2))
        && layer.rows.len() >= MIN_CHANNELS
        && layer.sizes.iter().all(|&size| size < (1 << 31) / (4 * 255))
}

/// Transformed weights, in pairs of inputs.
pub fn weights(layer: &Layer<'_>) -> Lines {
    pairs(layer, POINTS, |weights, points| points.copy_from_slice(&transformed_weights(weights)))
}

/// `2 G g (2 G)ᵀ` of nine weights: at most nine times a weight.
fn transformed_weights(weights: &[i8]) -> [i16; POINTS] {
    let taps: [i16; 9] = std::array::from_fn(|tap| weights[tap].into());
    let transformed = |[a, b, c]: [i16; 3]| [2 * a, a + b + c, a - b + c, 2 * c];
    let columns: [[i16; 4]; 3] = std::array::from_fn(|x| transformed([taps[x], taps[3 + x], taps[6 + x]]));
    let rows: [[i16; 4]; 4] =
        std::array::from_fn(|y| transformed([columns[0][y], columns[1][y], columns[2][y]]));
    std::array::from_fn(|point| rows[point / 4][point % 4])
}

/// Tiles of 2 × 2 outputs that are worked together, numbered row by row over the window.
#[derive(Clone, Copy)]
struct Group {
    /// Number of the first tile.
    first: usize,
    count: usize,
    /// Tiles of a row.
    across: usize,
    /// Numbers from one point's codes to the next point's.
    point: usize,
}

impl Group {
    /// Row and column of the first output of a tile of the group.
    fn output(&self, number: usize) -> (usize, usize) {
        let tile = self.first + number;
        (2 * (tile / self.across), 2 * (tile % self.across))
    }
}

/// Convolution by groups of tiles: codes to 16 points, products of each point, and back.
///
/// # Safety
/// The job's weights are in the form `ConvForm::WinogradPairs`, for its window's shape and channels.
#[target_feature(enable = "avx2")]
pub unsafe fn conv<const KIND: u8>(job: &Job<'_>) {
    let mut points = Scratch::<i16, { POINTS * (TILE * MAX_INPUTS + SLACK) }>::new();
    let mut sums = Scratch::<i32, { POINTS * GROUP * BLOCK }>::new();
    let (points, sums) = (points.as_mut_ptr(), sums.as_mut_ptr());
    let across = job.window.width.div_ceil(2);
    let all = job.window.rows.len().div_ceil(2) * across;
    let most = (TILE * MAX_INPUTS / job.inputs).min(GROUP);
    let parts = all.div_ceil(most);
    let mut first = 0;
    for part in 0..parts {
        let count = (all - first).div_ceil(parts - part);
        let group = Group { first, count, across, point: count * job.inputs + SLACK };
        // SAFETY: the group's tiles are below `all`. `count` is at most `most`, so `count * inputs` numbers
        // of a point, with the slack, fit a sixteenth of `points`, and `count` tiles of sums fit `GROUP`.
        unsafe { transform_codes(job, group, points) };
        for channel in (0..job.weights.outputs).step_by(BLOCK) {
            // SAFETY: `channel` begins a block of outputs; `points` has the group's codes, and `sums` has
            // room as above.
            unsafe {
                let block = Store::<KIND>::new(job.weights, channel);
                multiply(job, group, channel, points, sums);
                store(job, group, channel, sums, &block);
            }
        }
        first += count;
    }
}

/// Transforms the codes under a group's tiles: `[point][tile][input]`.
///
/// # Safety
/// The group's tiles are of the job's window; `points` has room for 16 times `group.point` numbers.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transform_codes(job: &Job<'_>, group: Group, points: *mut i16) {
    let window = job.window;
    for number in 0..group.count {
        let (y, x) = group.output(number);
        // Rows and columns past the window's last one are that one again: they only reach outputs that are
        // not stored.
        let place = |i: usize| {
            let (row, column) = ((y + i / 4).min(window.rows.len() + 1), (x + i % 4).min(window.width + 1));
            job.input.wrapping_add(window.from.at(row, column))
        };
        // SAFETY: a window of 3 × 3 reaches two rows and columns past its first, so each place is at a tap of
        // an output pixel, where `Window::new` proved the inputs and 63 bytes more. The tile's numbers are in
        // the room that the caller guarantees.
        unsafe {
            to_points(&std::array::from_fn(place), job.inputs, points.add(number * job.inputs), group.point);
        }
    }
}

/// `Bᵀ d B` of a tile's 4 × 4 pixels, sixteen channels at a time; points lie `point` numbers apart.
///
/// # Safety
/// `inputs` codes, rounded up to whole sixteens, may be read at each pixel, and as many numbers written at
/// each point.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn to_points(pixels: &[*const u8; POINTS], inputs: usize, to: *mut i16, point: usize) {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn transformed(d: [__m256i; 4]) -> [__m256i; 4] {
        let (first, last) = (_mm256_sub_epi16(d[0], d[2]), _mm256_sub_epi16(d[1], d[3]));
        [first, _mm256_add_epi16(d[1], d[2]), _mm256_sub_epi16(d[2], d[1]), last]
    }
    for channel in (0..inputs).step_by(16) {
        // SAFETY: sixteen codes from a multiple of 16 below `inputs` are among those that the caller
        // guarantees.
        let codes =
            |i: usize| unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(pixels[i].add(channel).cast())) };
        let rows: [[__m256i; 4]; 4] =
            std::array::from_fn(|y| transformed(std::array::from_fn(|x| codes(4 * y + x))));
        for x in 0..4 {
            let column = transformed([rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
            for y in 0..4 {
                // SAFETY: sixteen numbers from `channel` on of one of the sixteen points, which the caller
                // guarantees.
                unsafe { _mm256_storeu_si256(to.add((4 * y + x) * point + channel).cast(), column[y]) };
            }
        }
    }
}

/// Products of a group's codes with a block of outputs: `[point][tile][16 outputs]`, only eight of them where
/// no more are left.
///
/// # Safety
/// `channel` begins a block of outputs; `points` are the group's codes; `sums` has room for 16 times
/// [`GROUP`] times 16 sums and is aligned to a cache line.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn multiply(job: &Job<'_>, group: Group, channel: usize, points: *const i16, sums: *mut i32) {
    let (inputs, pairs, nothing) = (job.inputs, job.inputs / 2, _mm256_setzero_si256());
    let halved = job.weights.outputs - channel <= BLOCK / 2;
    for at in 0..POINTS {
        // SAFETY: `pairs` cache lines were packed of each point of each block. Tiles are below `group.count`,
        // at most `GROUP`: their codes are in `points` and their sums have room.
        unsafe {
            let line = job.lines.add((channel / BLOCK * POINTS + at) * pairs * LINE);
            let (codes, sums) = (points.add(at * group.point), sums.add(at * GROUP * BLOCK));
            if halved {
                in_wide_tiles!(group.count, |first, WIDE| {
                    let found =
                        products::<WIDE, 1>([nothing], codes.add(first * inputs), inputs, line, pairs);
                    keep(found, sums.add(first * BLOCK));
                });
            } else {
                in_tiles!(group.count, |first, WIDE| {
                    let found =
                        products::<WIDE, 2>([nothing; 2], codes.add(first * inputs), inputs, line, pairs);
                    keep(found, sums.add(first * BLOCK));
                });
            }
        }
    }
}

/// Writes products where [`from_points`] reads them.
///
/// # Safety
/// 16 sums may be written for each of `P` tiles; `to` is aligned to a cache line.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn keep<const P: usize, const H: usize>(products: [[__m256i; H]; P], to: *mut i32) {
    for p in 0..P {
        for h in 0..H {
            // SAFETY: `p` is below `P` and `h` below 2, so the eight sums are among the 16 that the caller
            // guarantees.
            unsafe { _mm256_store_si256(to.add(p * BLOCK + 8 * h).cast(), products[p][h]) };
        }
    }
}

/// Codes of a block of outputs from the products of a group.
///
/// # Safety
/// `channel` begins a block of outputs; [`multiply`] wrote `sums` for the same group and block.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store<const KIND: u8>(
    job: &Job<'_>,
    group: Group,
    channel: usize,
    sums: *const i32,
    block: &Store<KIND>,
) {
    let window = job.window;
    let (rows, width, whole) = (window.rows.len(), window.width, block.count > BLOCK / 2);
    for number in 0..group.count {
        // SAFETY: `multiply` wrote sixteen sums of this tile at each point, or eight, which are all that is
        // read then. A code is stored only at a row and column within the window, where `Window::new` proved
        // its outputs writable.
        unsafe {
            let sums = sums.add(number * BLOCK);
            let first_half = from_points(sums, block.bias[0]);
            let second_half = if whole { from_points(sums.add(8), block.bias[1]) } else { first_half };
            let (y, x) = group.output(number);
            for i in 0..4 {
                let (y, x) = (y + i / 2, x + i % 2);
                if y < rows && x < width {
                    let to = job.output.add(window.to.at(y, x) + channel);
                    if whole {
                        block.store([first_half[i], second_half[i]], to);
                    } else {
                        block.store([first_half[i]], to);
                    }
                }
            }
        }
    }
}

/// `Aᵀ m A / 4` of eight outputs, and their bias: the four sums of a tile.
///
/// # Safety
/// Eight sums may be read at each point; `sums` is aligned to 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn from_points(sums: *const i32, bias: __m256i) -> [__m256i; 4] {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn transformed(m: [__m256i; 4]) -> [__m256i; 2] {
        [
            _mm256_add_epi32(_mm256_add_epi32(m[0], m[1]), m[2]),
            _mm256_sub_epi32(_mm256_sub_epi32(m[1], m[2]), m[3]),
        ]
    }
    // SAFETY: `i` is below 16, so these are the eight sums of a point, which the caller guarantees.
    let at = |i: usize| unsafe { _mm256_load_si256(sums.add(i * GROUP * BLOCK).cast()) };
    let rows: [[__m256i; 2]; 4] =
        std::array::from_fn(|y| transformed(std::array::from_fn(|x| at(4 * y + x))));
    let column = |x: usize| transformed([rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
    let columns: [[__m256i; 2]; 2] = std::array::from_fn(column);
    std::array::from_fn(|i| _mm256_add_epi32(_mm256_srai_epi32::<2>(columns[i % 2][i / 2]), bias))
}
