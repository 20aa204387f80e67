//! Weights of a convolution for AVX2 without dot products, of 16 bits; `avx2.rs` says why and multiplies them.

use super::pack::{BLOCK, LINE, Lines, PackedConv, all_bounded};

/// Weights of 16 bits, `[block of 16 outputs][part][input / 2][16][2]`; a part is a tap, or a point of Winograd's transform.
#[derive(Debug, Clone)]
pub struct Wide {
    pub data: Lines,
    /// Points instead of taps.
    pub winograd: bool,
    /// Inputs, rounded up to whole pairs.
    pub inputs: usize,
    /// In the order of a block's outputs.
    pub bias: Vec<i32>,
    /// Likewise.
    pub multipliers: Vec<f32>,
    /// Every sum times its multiplier is in the range of conversions.
    pub bounded: bool,
}

impl Wide {
    /// Longest row of taps and inputs that AVX2's kernel has memory for.
    pub const MAX_ROW: usize = 32 << 10;
    /// Most inputs that its Winograd transform has memory for.
    pub const MAX_WINOGRAD_INPUTS: usize = 512;
    /// Fewer inputs or outputs are not worth the transforms.
    const MIN_WINOGRAD_CHANNELS: usize = 16;

    /// Of `rows` of weights, whose sizes come to `sizes`. None if a row is too long.
    pub fn new(from: &PackedConv, rows: &[&[i8]], sizes: &[i64]) -> Option<Self> {
        let (outputs, taps, inputs) = (from.outputs, from.shape().taps(), from.inputs.next_multiple_of(2));
        let worthwhile = Self::MIN_WINOGRAD_CHANNELS..=Self::MAX_WINOGRAD_INPUTS;
        let winograd = from.shape().kernel == 3
            && from.shape().stride == 1
            && worthwhile.contains(&inputs)
            && outputs >= Self::MIN_WINOGRAD_CHANNELS
            && sizes.iter().all(|&size| size < (1 << 31) / (4 * 255));
        if !winograd && taps * inputs > Self::MAX_ROW {
            return None;
        }
        let parts = if winograd { 16 } else { taps };
        let mut data = Lines::zeroed(from.bias.len() * parts * inputs * 2);
        // Packing works within 128-bit lanes: with the middle quarters of a block changed round it gives outputs in their order. A block of
        // eight or fewer is half as wide.
        let place = |output: usize| match (outputs - output / BLOCK * BLOCK > BLOCK / 2, output % BLOCK) {
            (true, within @ 4..8) => within + 4,
            (true, within @ 8..12) => within - 4,
            (_, within) => within,
        };
        let (mut bias, mut multipliers) = (vec![0; from.bias.len()], vec![0.0; from.bias.len()]);
        for (output, row) in rows.iter().enumerate() {
            let (first, within) = (output / BLOCK * parts * (inputs / 2), place(output));
            let at = output / BLOCK * BLOCK + within;
            (bias[at], multipliers[at]) = (from.bias[output], from.requantise.multipliers[output]);
            for (input, weights) in row.chunks_exact(taps).enumerate() {
                let mut set = |part: usize, weight: i16| {
                    data.set_word((first + part * (inputs / 2) + input / 2) * LINE + within * 4 + input % 2 * 2, weight);
                };
                if winograd {
                    winograd_points(weights).into_iter().enumerate().for_each(|(point, weight)| set(point, weight));
                } else {
                    weights.iter().enumerate().for_each(|(tap, &weight)| set(tap, weight.into()));
                }
            }
        }
        let bounded = all_bounded(sizes, &from.bias, &from.requantise.multipliers);
        Some(Self { data, winograd, inputs, bias, multipliers, bounded })
    }
}

/// `2 G g (2 G)ᵀ` of F(2 × 2, 3 × 3): at most nine times a weight.
fn winograd_points(weights: &[i8]) -> [i16; 16] {
    let taps: [i16; 9] = std::array::from_fn(|tap| weights[tap].into());
    let transformed = |[a, b, c]: [i16; 3]| [2 * a, a + b + c, a - b + c, 2 * c];
    let columns: [[i16; 4]; 3] = std::array::from_fn(|x| transformed([taps[x], taps[3 + x], taps[6 + x]]));
    let rows: [[i16; 4]; 4] = std::array::from_fn(|y| transformed([columns[0][y], columns[1][y], columns[2][y]]));
    std::array::from_fn(|point| rows[point / 4][point % 4])
}
