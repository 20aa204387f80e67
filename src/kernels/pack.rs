//! Weights of a graph to the order in which an instruction set reads them, with the input's zero point folded into the bias.

use super::Isa;
#[cfg(target_arch = "aarch64")]
use super::weights::pair_bytes;
use super::weights::{BLOCK, ConvShape, DEPTHWISE_BLOCK, Lines, PackError, PackedConv, PackedDepthwise, Requantise, STEP};
#[cfg(target_arch = "x86_64")]
use super::weights::{LINE, Wide};

/// A convolution as a graph has it, to be packed for one instruction set.
#[derive(Debug, Clone)]
pub struct ConvWeights<'a> {
    /// `[output][input][kernel][kernel]`, or `[channel][kernel][kernel]` of a depthwise one.
    pub weights: &'a [i8],
    /// Its window.
    pub shape: ConvShape,
    /// An output channel each.
    pub bias: &'a [i32],
    /// The input's zero point.
    pub zero_point: i32,
    /// What follows the sums.
    pub requantise: Requantise,
}

/// `bias - zero_point * sum(weights)` per output, checked against 32 bits, and the sums of the sizes of each output's weights.
fn fold(rows: &[&[i8]], bias: &[i32], zero_point: i32) -> Result<(Vec<i32>, Vec<i64>), PackError> {
    let each = |(channel, (row, &bias)): (usize, (&&[i8], &i32))| {
        let (mut sum, mut size) = (0i64, 0i64);
        for &w in *row {
            sum += i64::from(w);
            size += i64::from(w).abs();
        }
        let folded = i64::from(bias) - i64::from(zero_point) * sum;
        if 2 * 255 * size + i64::from(bias).abs() >= 1 << 31 {
            return Err(PackError::Overflow { channel });
        }
        Ok((i32::try_from(folded).map_err(|_| PackError::Overflow { channel })?, size))
    };
    rows.iter().zip(bias).enumerate().map(each).collect()
}

/// Whether no sum of an output's size times 255 and its bias, times its multiplier, leaves what conversions to 32 bits take, with room to
/// spare.
#[cfg(target_arch = "x86_64")]
fn all_bounded(sizes: &[i64], bias: &[i32], multipliers: &[f32]) -> bool {
    let most =
        |((&size, &bias), &multiplier): ((&i64, &i32), &f32)| (255.0 * size as f64 + f64::from(bias).abs()) * f64::from(multiplier).abs();
    sizes.iter().zip(bias).zip(multipliers).map(most).all(|most| most < f64::from(1 << 30))
}

/// `bias` for codes moved down by 128, which is within 32 bits: `fold` left room for twice 255 times the sum of all weights.
#[cfg(target_arch = "aarch64")]
fn flipped(bias: &[i32], rows: &[&[i8]]) -> Vec<i32> {
    let sums = rows.iter().map(|row| row.iter().map(|&w| i32::from(w)).sum::<i32>()).chain(std::iter::repeat(0));
    bias.iter().zip(sums).map(|(bias, sum)| bias + 128 * sum).collect()
}

/// Whether sums times their multipliers, and a zero point, fit 16 bits whatever the codes, so that no narrowing need saturate.
#[cfg(target_arch = "aarch64")]
fn within_16_bits(rows: &[&[i8]], bias: &[i32], requantise: &Requantise) -> bool {
    const MOST: f64 = 32_767.0 - 256.0;
    let most = |((row, &bias), &multiplier): ((&&[i8], &i32), &f32)| {
        let size: f64 = row.iter().map(|&w| f64::from(w).abs()).sum();
        (255.0 * size + f64::from(bias).abs()) * f64::from(multiplier).abs()
    };
    (0.0..=1.0).contains(&requantise.slope) && rows.iter().zip(bias).zip(&requantise.multipliers).map(most).all(|t| t < MOST)
}

fn padded<T: Copy>(values: &[T], to: usize, with: T) -> Vec<T> {
    let mut values = values.to_vec();
    values.resize(values.len().next_multiple_of(to), with);
    values
}

/// Weights of each row of taps as those of one tap with four inputs a pixel.
#[cfg(target_arch = "aarch64")]
fn as_rows(rows: &[&[i8]], inputs: usize, kernel: usize) -> Vec<Vec<i8>> {
    let mut found = vec![vec![0; STEP * kernel * kernel]; rows.len()];
    for (row, found) in rows.iter().zip(&mut found) {
        for (at, &weight) in row.iter().enumerate() {
            let (input, y, x) = (at / (kernel * kernel), at / kernel % kernel, at % kernel);
            found[(x * STEP + input) * kernel + y] = weight;
        }
    }
    debug_assert!(inputs <= STEP);
    found
}

#[cfg(target_arch = "aarch64")]
fn pairs<R: AsRef<[i8]>>(rows: &[R], inputs: usize, taps: usize) -> Lines {
    let bytes = pair_bytes(inputs);
    let mut data = Lines::zeroed(rows.len().div_ceil(8) * taps * bytes);
    for (output, row) in rows.iter().map(AsRef::as_ref).enumerate() {
        for input in 0..inputs {
            let sixteen = input / 16 * 16;
            // The last part of a row may be a half.
            let wide = if inputs - sixteen <= 8 { 8 } else { 16 };
            for tap in 0..taps {
                let at = (output / 8 * taps + tap) * bytes + sixteen * 8 + output % 8 * wide + input % 16;
                data.set(at, row[input * taps + tap]);
            }
        }
    }
    data
}

impl ConvWeights<'_> {
    /// Its outputs and the weights of each.
    fn rows(&self) -> Result<Vec<&[i8]>, PackError> {
        let outputs = self.bias.len();
        if self.weights.is_empty()
            || outputs == 0
            || !self.weights.len().is_multiple_of(outputs)
            || self.requantise.multipliers.len() != outputs
        {
            return Err(PackError::Lengths);
        }
        if let Some(channel) = self.requantise.multipliers.iter().position(|m| !m.is_finite()) {
            return Err(PackError::Multiplier { channel });
        }
        Ok(self.weights.chunks_exact(self.weights.len() / outputs).collect())
    }

    /// Each output with all `inputs`, in the order that is best on `isa` for outputs of `pixels` pixels.
    ///
    /// # Errors
    /// [`PackError`].
    #[cfg_attr(not(target_arch = "aarch64"), allow(unused_variables, reason = "one order whatever the pixels"))]
    pub fn pack(self, inputs: usize, isa: Isa, pixels: usize) -> Result<PackedConv, PackError> {
        let (rows, taps) = (self.rows()?, self.shape.taps());
        if rows[0].len() != inputs * taps {
            return Err(PackError::Lengths);
        }
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "only x86 reads sizes"))]
        let (bias, sizes) = fold(&rows, self.bias, self.zero_point)?;
        let bias = padded(&bias, BLOCK, 0);
        let mut packed = PackedConv {
            isa,
            plain: Vec::new(),
            data: Lines::zeroed(0),
            inputs,
            outputs: rows.len(),
            steps: inputs.div_ceil(STEP),
            #[cfg(target_arch = "aarch64")]
            flipped_bias: flipped(&bias, &rows),
            #[cfg(target_arch = "aarch64")]
            bounded: within_16_bits(&rows, self.bias, &self.requantise),
            #[cfg(target_arch = "aarch64")]
            pairs: Lines::zeroed(0),
            #[cfg(target_arch = "aarch64")]
            by_rows: inputs <= STEP && (2..=4).contains(&self.shape.kernel),
            #[cfg(target_arch = "aarch64")]
            winograd: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            wide: None,
            shape: self.shape,
            requantise: Requantise { multipliers: padded(&self.requantise.multipliers, BLOCK, 0.0), ..self.requantise },
            bias,
        };
        match isa.order() {
            Order::Plain => packed.plain = self.weights.to_vec(),
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Order::Fours => packed.data = fours(&rows, inputs, taps),
            #[cfg(target_arch = "x86_64")]
            Order::Wide => {
                packed.wide = wide(&packed, &rows, &sizes);
                if packed.wide.is_none() {
                    packed.plain = self.weights.to_vec();
                }
            }
            #[cfg(target_arch = "aarch64")]
            Order::Pairs if super::aarch64::neon_winograd::fits(self.shape, inputs, pixels) => {
                packed.winograd =
                    super::aarch64::neon_winograd::pack(inputs, rows.len(), |output, input, tap| rows[output][input * taps + tap]);
            }
            #[cfg(target_arch = "aarch64")]
            Order::Pairs => {
                let narrow = !self.weights.contains(&i8::MIN);
                if narrow && packed.by_rows {
                    packed.pairs = pairs(&as_rows(&rows, inputs, self.shape.kernel), STEP * self.shape.kernel, self.shape.kernel);
                } else if narrow {
                    packed.pairs = pairs(&rows, inputs, taps);
                }
                if !narrow || packed.by_rows {
                    packed.data = fours(&rows, inputs, taps);
                }
            }
        }
        Ok(packed)
    }

    /// Each channel with itself, in the order that is best on `isa`.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn pack_depthwise(self, isa: Isa) -> Result<PackedDepthwise, PackError> {
        let (rows, taps, shape) = (self.rows()?, self.shape.taps(), self.shape);
        if rows[0].len() != taps {
            return Err(PackError::Lengths);
        }
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "only x86 reads sizes"))]
        let (bias, sizes) = fold(&rows, self.bias, self.zero_point)?;
        let bias = padded(&bias, DEPTHWISE_BLOCK, 0);
        let requantise = Requantise { multipliers: padded(&self.requantise.multipliers, DEPTHWISE_BLOCK, 0.0), ..self.requantise };
        #[cfg(target_arch = "aarch64")]
        let with_quads = isa.order() == Order::Fours && super::aarch64::neon_dotprod_depthwise::fits(shape, rows.len());
        #[cfg(target_arch = "aarch64")]
        let by_taps = !with_quads;
        #[cfg(not(target_arch = "aarch64"))]
        let by_taps = isa.order() == Order::Plain;
        let mut data = Vec::new();
        if by_taps {
            data = vec![0; taps * bias.len()];
            for (channel, row) in rows.iter().enumerate() {
                row.iter().enumerate().for_each(|(tap, &weight)| data[tap * bias.len() + channel] = weight);
            }
        }
        Ok(PackedDepthwise {
            isa,
            data,
            #[cfg(target_arch = "x86_64")]
            interleaved: match isa.order() {
                Order::Plain => Lines::zeroed(0),
                Order::Fours => interleaved(&rows, taps, 4),
                Order::Wide => interleaved(&rows, taps, 2),
            },
            #[cfg(target_arch = "x86_64")]
            bounded: all_bounded(&sizes, &bias, &requantise.multipliers),
            #[cfg(target_arch = "x86_64")]
            interleaved_bias: (0..bias.len()).map(|at| bias[channel_at(at)]).collect(),
            #[cfg(target_arch = "x86_64")]
            interleaved_multipliers: (0..bias.len()).map(|at| requantise.multipliers[channel_at(at)]).collect(),
            channels: rows.len(),
            #[cfg(target_arch = "aarch64")]
            flipped_bias: flipped(&bias, &rows),
            #[cfg(target_arch = "aarch64")]
            bounded: within_16_bits(&rows, self.bias, &requantise),
            #[cfg(target_arch = "aarch64")]
            narrow: !self.weights.contains(&i8::MIN),
            #[cfg(target_arch = "aarch64")]
            quads: match with_quads {
                true => super::aarch64::neon_dotprod_depthwise::pack(shape, rows.len(), |channel, tap| rows[channel][tap]),
                false => Vec::new(),
            },
            bias,
            requantise,
            shape,
        })
    }
}

/// In which order an instruction set reads weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As they come.
    Plain,
    /// Four inputs, or taps, of an output side by side: for dot products.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Fours,
    /// Two, of 16 bits.
    #[cfg(target_arch = "x86_64")]
    Wide,
    /// For SMULL.
    #[cfg(target_arch = "aarch64")]
    Pairs,
}

/// See [`PackedConv::data`].
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn fours(rows: &[&[i8]], inputs: usize, taps: usize) -> Lines {
    let steps = inputs.div_ceil(STEP);
    let mut data = Lines::zeroed(rows.len().next_multiple_of(BLOCK) * taps * steps * STEP);
    for (output, row) in rows.iter().enumerate() {
        for (input, weights) in row.chunks_exact(taps).enumerate() {
            for (tap, &weight) in weights.iter().enumerate() {
                let step = ((output / BLOCK * taps + tap) * steps + input / STEP) * BLOCK + output % BLOCK;
                data.set(step * STEP + input % STEP, weight);
            }
        }
    }
    data
}

/// Which channel has place `at` of [`PackedDepthwise::interleaved`]. Unpacking works within 128-bit lanes: quarter q, lane l, place j hold
/// channel 16 l + 4 q + j of a block.
#[cfg(target_arch = "x86_64")]
fn channel_at(at: usize) -> usize {
    let (block, within) = (at / DEPTHWISE_BLOCK * DEPTHWISE_BLOCK, at % DEPTHWISE_BLOCK);
    let (quarter, lane, place) = (within / 16, within % 16 / 4, within % 4);
    block + 16 * lane + 4 * quarter + place
}

/// See [`PackedDepthwise::interleaved`]; `together` taps take four bytes.
#[cfg(target_arch = "x86_64")]
fn interleaved(rows: &[&[i8]], taps: usize, together: usize) -> Lines {
    let (wide, groups) = (rows.len().next_multiple_of(DEPTHWISE_BLOCK), taps.div_ceil(together));
    let mut data = Lines::zeroed(groups * 4 * wide);
    for at in 0..wide {
        for (tap, &weight) in rows.get(channel_at(at)).copied().into_iter().flatten().enumerate() {
            let line = (at / DEPTHWISE_BLOCK * groups + tap / together) * DEPTHWISE_BLOCK + at % DEPTHWISE_BLOCK;
            if together == 4 {
                data.set(line * 4 + tap % 4, weight);
            } else {
                data.set_word(line * 4 + tap % 2 * 2, weight.into());
            }
        }
    }
    data
}

/// Fewer inputs or outputs are not worth the transforms.
#[cfg(target_arch = "x86_64")]
const MIN_WINOGRAD_CHANNELS: usize = 16;

/// Of `rows` of weights, whose sizes come to `sizes`. None if a row is too long.
#[cfg(target_arch = "x86_64")]
fn wide(from: &PackedConv, rows: &[&[i8]], sizes: &[i64]) -> Option<Wide> {
    let (outputs, taps, inputs) = (from.outputs, from.shape().taps(), from.inputs.next_multiple_of(2));
    let worthwhile = MIN_WINOGRAD_CHANNELS..=Wide::MAX_WINOGRAD_INPUTS;
    let winograd = from.shape().kernel == 3
        && from.shape().stride == 1
        && worthwhile.contains(&inputs)
        && outputs >= MIN_WINOGRAD_CHANNELS
        && sizes.iter().all(|&size| size < (1 << 31) / (4 * 255));
    if !winograd && taps * inputs > Wide::MAX_ROW {
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
    Some(Wide { data, winograd, inputs, bias, multipliers, bounded })
}

/// `2 G g (2 G)ᵀ` of F(2 × 2, 3 × 3): at most nine times a weight.
#[cfg(target_arch = "x86_64")]
fn winograd_points(weights: &[i8]) -> [i16; 16] {
    let taps: [i16; 9] = std::array::from_fn(|tap| weights[tap].into());
    let transformed = |[a, b, c]: [i16; 3]| [2 * a, a + b + c, a - b + c, 2 * c];
    let columns: [[i16; 4]; 3] = std::array::from_fn(|x| transformed([taps[x], taps[3 + x], taps[6 + x]]));
    let rows: [[i16; 4]; 4] = std::array::from_fn(|y| transformed([columns[0][y], columns[1][y], columns[2][y]]));
    std::array::from_fn(|point| rows[point / 4][point % 4])
}
