//! 3 × 3 convolutions of stride 1 for AVX2 by Winograd's F(2 × 2, 3 × 3).
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "arrays of registers walked in step")]

use super::avx2::{GROUP, Job, POINTS, SLACK, Scratch, TILE, in_tiles, in_wide_tiles, of_width, products};
use super::avx2_finish::Store;
use super::weights::{BLOCK, LINE, Wide};
use std::arch::x86_64::*;

/// Tiles of 2 × 2 outputs: codes to 16 points, products of each point, and back.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn conv_winograd<const KIND: u8>(job: &Job<'_>) {
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
