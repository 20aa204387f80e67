//! Weights in the order in which kernels read them, with the input's zero point folded into the bias.

use super::Isa;

/// Output channels of a block.
pub const BLOCK: usize = 16;
/// Input channels that one step multiplies.
pub const STEP: usize = 4;
/// Channels of a depthwise block.
pub const DEPTHWISE_BLOCK: usize = 64;

/// Window of a convolution: square, the same padding on all sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Side of the window, pixels.
    pub kernel: usize,
    /// Step of the window, pixels.
    pub stride: usize,
    /// Padding on the upper left side, pixels.
    pub pad: usize,
}

/// Sums to codes: `zero + rte(clamp(max(t, slope * t)))` with `t = sum * multiplier`.
#[derive(Debug, Clone, PartialEq)]
pub struct Requantise {
    /// Input scale times weight scale by output scale, a value an output channel.
    pub multipliers: Vec<f32>,
    /// Slope below zero, 0 to 1 (LeakyReLU); 1: no activation.
    pub slope: f32,
    /// The output's zero point.
    pub zero: i32,
    /// Lowest and highest code.
    pub range: [i32; 2],
}

/// Why weights cannot be packed. In words that follow a node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Sums could leave 32 bits.
    #[error("output channel {channel}: its sums may exceed 32 bits")]
    Overflow {
        /// Which.
        channel: usize,
    },
    /// A multiplier that is not finite: the scales are too far apart.
    #[error("output channel {channel}: its scales are too far apart")]
    Multiplier {
        /// Which.
        channel: usize,
    },
    /// Weights, biases and multipliers of different lengths.
    #[error("weights, biases and multipliers disagree in length")]
    Lengths,
}

/// A cache line, so that no vector load of weights crosses one.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [i8; 64]);

/// Bytes in whole cache lines, zero at first.
#[derive(Debug, Clone)]
pub struct Lines(Vec<Line>);

impl Lines {
    fn zeroed(bytes: usize) -> Self {
        Self(vec![Line([0; 64]); bytes.div_ceil(64)])
    }

    fn set(&mut self, at: usize, value: i8) {
        self.0[at / 64].0[at % 64] = value;
    }

    /// The byte at `at`.
    pub fn get(&self, at: usize) -> i8 {
        self.0[at / 64].0[at % 64]
    }

    /// Whether there is nothing in it.
    #[cfg(target_arch = "aarch64")]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first byte; `bytes` of `zeroed` follow.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub fn as_ptr(&self) -> *const i8 {
        self.0.as_ptr().cast()
    }
}

/// Weights of a convolution, `[block of 16 outputs][tap][input / 4][16][4]`, zeros where there is no channel.
#[derive(Debug, Clone)]
pub struct PackedConv {
    pub(super) data: Lines,
    pub(super) bias: Vec<i32>,
    pub(super) requantise: Requantise,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) steps: usize,
    /// `bias` for codes moved down by 128.
    #[cfg(target_arch = "aarch64")]
    pub(super) flipped_bias: Vec<i32>,
    /// What [`within_16_bits`] says.
    #[cfg(target_arch = "aarch64")]
    pub(super) bounded: bool,
    /// For SMULL, where no weight is -128: `[block of 8 outputs][tap]`, and of each `[input / 16][8][16]`, the last one `[8][8]` where eight
    /// inputs or fewer are left. With [`Self::by_rows`] a row of taps is one tap. Empty if a weight is -128.
    #[cfg(target_arch = "aarch64")]
    pub(super) pairs: Lines,
    /// There are so few inputs that a row of taps is worked as one tap of that many times four, where pixels lie four bytes apart.
    #[cfg(target_arch = "aarch64")]
    pub(super) by_rows: bool,
    /// For `neon_winograd.rs`, in its order; empty where it is not used.
    #[cfg(target_arch = "aarch64")]
    pub(super) winograd: Vec<i16>,
    /// For AVX2, in place of `data`.
    #[cfg(target_arch = "x86_64")]
    pub(super) wide: Option<Wide>,
    shape: ConvShape,
}

/// Weights of 16 bits, `[block of 16 outputs][part][input / 2][16][2]`; a part is a tap, or a point of Winograd's transform.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone)]
pub(super) struct Wide {
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

/// Whether no sum of `size` times 255 and `bias`, times `multiplier`, leaves what conversions to 32 bits take, with room to spare.
#[cfg(target_arch = "x86_64")]
fn bounded(size: u64, bias: i32, multiplier: f32) -> bool {
    (255.0 * size as f64 + f64::from(bias).abs()) * f64::from(multiplier.abs()) < f64::from(1 << 30)
}

#[cfg(target_arch = "x86_64")]
impl Wide {
    /// Longest row of taps and inputs that AVX2's kernel has memory for.
    pub const MAX_ROW: usize = 32 << 10;
    /// Most inputs that its Winograd transform has memory for.
    pub const MAX_WINOGRAD_INPUTS: usize = 512;
    /// Fewer inputs or outputs are not worth the transforms.
    const MIN_WINOGRAD_CHANNELS: usize = 16;

    /// None if a row is too long.
    fn new(from: &PackedConv) -> Option<Self> {
        let (inputs, taps) = (from.inputs.next_multiple_of(2), from.shape.kernel * from.shape.kernel);
        let worthwhile = Self::MIN_WINOGRAD_CHANNELS..=Self::MAX_WINOGRAD_INPUTS;
        let winograd = from.shape.kernel == 3
            && from.shape.stride == 1
            && worthwhile.contains(&inputs)
            && from.outputs >= Self::MIN_WINOGRAD_CHANNELS
            && (0..from.outputs).all(|output| from.size(output) < (1 << 31) / (4 * 255));
        if !winograd && taps * inputs > Self::MAX_ROW {
            return None;
        }
        let parts = if winograd { 16 } else { taps };
        let mut data = Lines::zeroed(from.outputs.next_multiple_of(BLOCK) * parts * inputs * 2);
        // Packing works within 128-bit lanes: with the middle quarters of a block changed round it gives outputs in their order. A block of
        // eight or fewer is half as wide.
        let place = |output: usize| match (from.outputs - output / BLOCK * BLOCK > BLOCK / 2, output % BLOCK) {
            (true, within @ 4..8) => within + 4,
            (true, within @ 8..12) => within - 4,
            (_, within) => within,
        };
        let (mut bias, mut multipliers) = (vec![0; from.bias.len()], vec![0.0; from.bias.len()]);
        for output in 0..from.outputs {
            let at = output / BLOCK * BLOCK + place(output);
            (bias[at], multipliers[at]) = (from.bias[output], from.requantise.multipliers[output]);
        }
        let bounded = (0..from.outputs).all(|o| bounded(from.size(o), from.bias[o], from.requantise.multipliers[o]));
        let mut set = |output: usize, part: usize, input: usize, weight: i16| {
            let pair = (output / BLOCK * parts + part) * (inputs / 2) + input / 2;
            let at = ((pair * BLOCK + place(output)) * 2 + input % 2) * 2;
            let [low, high] = weight.to_le_bytes();
            data.set(at, low as i8);
            data.set(at + 1, high as i8);
        };
        for output in 0..from.outputs {
            for input in 0..from.inputs {
                if winograd {
                    let taps = std::array::from_fn(|tap| i16::from(from.weight(output, tap, input)));
                    for (point, weight) in winograd_points(&taps).into_iter().enumerate() {
                        set(output, point, input, weight);
                    }
                } else {
                    (0..taps).for_each(|tap| set(output, tap, input, i16::from(from.weight(output, tap, input))));
                }
            }
        }
        Some(Self { data, winograd, inputs, bias, multipliers, bounded })
    }
}

/// `2 G g (2 G)ᵀ` of F(2 × 2, 3 × 3): at most nine times a weight.
#[cfg(target_arch = "x86_64")]
fn winograd_points(taps: &[i16; 9]) -> [i16; 16] {
    let transformed = |[a, b, c]: [i16; 3]| [2 * a, a + b + c, a - b + c, 2 * c];
    let columns: [[i16; 4]; 3] = std::array::from_fn(|x| transformed([taps[x], taps[3 + x], taps[6 + x]]));
    let rows: [[i16; 4]; 4] = std::array::from_fn(|y| transformed([columns[0][y], columns[1][y], columns[2][y]]));
    std::array::from_fn(|point| rows[point / 4][point % 4])
}

/// Weights of a depthwise convolution; in the order of each instruction set.
#[derive(Debug, Clone)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "the interleaved order is AVX-512's"))]
pub struct PackedDepthwise {
    /// `[tap][channel]`, channels padded to whole blocks.
    pub(super) data: Vec<i8>,
    /// `[block of 64][group of 4 taps][quarter][16 channels][4 taps]`: see `x86.rs`.
    pub(super) interleaved: Lines,
    /// As `interleaved`, of 16 bits and with two taps side by side: `[block of 64][pair of taps][quarter][16 channels][2 taps]`.
    #[cfg(target_arch = "x86_64")]
    pub(super) paired: Lines,
    /// See [`Wide::bounded`].
    #[cfg(target_arch = "x86_64")]
    pub(super) bounded: bool,
    pub(super) bias: Vec<i32>,
    pub(super) requantise: Requantise,
    /// `bias` and multipliers in the order of `interleaved`.
    pub(super) interleaved_bias: Vec<i32>,
    pub(super) interleaved_multipliers: Vec<f32>,
    pub(super) channels: usize,
    /// `bias` for codes moved down by 128.
    #[cfg(target_arch = "aarch64")]
    pub(super) flipped_bias: Vec<i32>,
    /// What [`within_16_bits`] says.
    #[cfg(target_arch = "aarch64")]
    pub(super) bounded: bool,
    /// No weight is -128.
    #[cfg(target_arch = "aarch64")]
    pub(super) narrow: bool,
    /// For `neon_depthwise.rs`, in its order; empty where it has no kernel for the shape.
    #[cfg(target_arch = "aarch64")]
    pub(super) quads: Vec<i8>,
    shape: ConvShape,
}

/// `bias - zero_point * sum(weights)` per output, checked against 32 bits.
fn fold(weights: &[Vec<i8>], bias: &[i32], zero_point: i32) -> Result<Vec<i32>, PackError> {
    let each = |(channel, (row, &bias)): (usize, (&Vec<i8>, &i32))| {
        let (mut sum, mut size) = (0i64, 0i64);
        for &w in row {
            sum += i64::from(w);
            size += i64::from(w).abs();
        }
        let folded = i64::from(bias) - i64::from(zero_point) * sum;
        if 2 * 255 * size + i64::from(bias).abs() >= 1 << 31 {
            return Err(PackError::Overflow { channel });
        }
        i32::try_from(folded).map_err(|_| PackError::Overflow { channel })
    };
    weights.iter().zip(bias).enumerate().map(each).collect()
}

/// `bias` for codes moved down by 128, which is within 32 bits: `fold` left room for twice 255 times the sum of all weights.
#[cfg(target_arch = "aarch64")]
fn flipped(bias: &[i32], rows: &[Vec<i8>]) -> Vec<i32> {
    let sums = rows.iter().map(|row| row.iter().map(|&w| i32::from(w)).sum::<i32>()).chain(std::iter::repeat(0));
    bias.iter().zip(sums).map(|(bias, sum)| bias + 128 * sum).collect()
}

/// Whether sums times their multipliers, and a zero point, fit 16 bits whatever the codes, so that no narrowing need saturate.
#[cfg(target_arch = "aarch64")]
fn within_16_bits(rows: &[Vec<i8>], bias: &[i32], requantise: &Requantise) -> bool {
    const MOST: f64 = 32_767.0 - 256.0;
    let most = |((row, &bias), &multiplier): ((&Vec<i8>, &i32), &f32)| {
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

/// Bytes of one tap of a block of 8 outputs in the order of `pairs`: whole sixteens, and a half where eight inputs or fewer are left.
#[cfg(target_arch = "aarch64")]
pub(super) fn pair_bytes(inputs: usize) -> usize {
    8 * inputs.next_multiple_of(8)
}

/// Weights of each row of taps as those of one tap with four inputs a pixel.
#[cfg(target_arch = "aarch64")]
fn as_rows(rows: &[Vec<i8>], inputs: usize, kernel: usize) -> Vec<Vec<i8>> {
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
fn pairs(rows: &[Vec<i8>], inputs: usize, taps: usize) -> Lines {
    let bytes = pair_bytes(inputs);
    let mut data = Lines::zeroed(rows.len().div_ceil(8) * taps * bytes);
    for (output, row) in rows.iter().enumerate() {
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

impl PackedConv {
    /// Packs `weights` of `[outputs][inputs][kernel][kernel]`, as ONNX has them.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn new(
        weights: &[i8],
        inputs: usize,
        shape: ConvShape,
        bias: &[i32],
        zero_point: i32,
        requantise: Requantise,
    ) -> Result<Self, PackError> {
        let (outputs, taps) = (bias.len(), shape.kernel * shape.kernel);
        if weights.len() != outputs * inputs * taps || requantise.multipliers.len() != outputs || weights.is_empty() {
            return Err(PackError::Lengths);
        }
        if let Some(channel) = requantise.multipliers.iter().position(|m| !m.is_finite()) {
            return Err(PackError::Multiplier { channel });
        }
        let rows: Vec<Vec<i8>> = weights.chunks_exact(inputs * taps).map(<[i8]>::to_vec).collect();
        #[cfg(target_arch = "aarch64")]
        let bounded = within_16_bits(&rows, bias, &requantise);
        let bias = padded(&fold(&rows, bias, zero_point)?, BLOCK, 0);
        let steps = inputs.div_ceil(STEP);
        let mut data = Lines::zeroed(bias.len() * taps * steps * STEP);
        for (output, row) in rows.iter().enumerate() {
            for input in 0..inputs {
                for tap in 0..taps {
                    let step = ((output / BLOCK * taps + tap) * steps + input / STEP) * BLOCK + output % BLOCK;
                    data.set(step * STEP + input % STEP, row[input * taps + tap]);
                }
            }
        }
        let requantise = Requantise { multipliers: padded(&requantise.multipliers, BLOCK, 0.0), ..requantise };
        #[cfg(target_arch = "aarch64")]
        let (flipped_bias, by_rows) = (flipped(&bias, &rows), inputs <= STEP && (2..=4).contains(&shape.kernel));
        Ok(Self {
            data,
            bias,
            requantise,
            inputs,
            outputs,
            steps,
            #[cfg(target_arch = "aarch64")]
            flipped_bias,
            #[cfg(target_arch = "aarch64")]
            bounded,
            #[cfg(target_arch = "aarch64")]
            pairs: match (weights.contains(&i8::MIN), by_rows) {
                (true, _) => Lines::zeroed(0),
                (false, false) => pairs(&rows, inputs, taps),
                (false, true) => pairs(&as_rows(&rows, inputs, shape.kernel), STEP * shape.kernel, shape.kernel),
            },
            #[cfg(target_arch = "aarch64")]
            by_rows,
            #[cfg(target_arch = "aarch64")]
            winograd: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            wide: None,
            shape,
        })
    }

    /// The same in the order that is best on `isa` for outputs of `pixels` pixels, without what only others read.
    #[must_use]
    #[cfg_attr(target_arch = "x86_64", allow(unused_variables, reason = "one order whatever the pixels"))]
    pub fn only_for(mut self, isa: Isa, pixels: usize) -> Self {
        #[cfg(target_arch = "x86_64")]
        if isa.reads_wide() {
            self.wide = Wide::new(&self);
            if self.wide.is_some() {
                self.data = Lines::zeroed(0);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if isa.reads_pairs() {
            if super::neon_winograd::fits(self.shape, self.inputs, pixels) {
                self.winograd = super::neon_winograd::pack(self.inputs, self.outputs, |output, input, tap| self.weight(output, tap, input));
                (self.data, self.pairs) = (Lines::zeroed(0), Lines::zeroed(0));
            } else if !self.pairs.is_empty() && !self.by_rows {
                self.data = Lines::zeroed(0);
            }
        } else {
            self.pairs = Lines::zeroed(0);
        }
        self
    }

    /// The weight of an output, a tap and an input.
    pub(super) fn weight(&self, output: usize, tap: usize, input: usize) -> i8 {
        let taps = self.shape.kernel * self.shape.kernel;
        let step = ((output / BLOCK * taps + tap) * self.steps + input / STEP) * BLOCK + output % BLOCK;
        self.data.get(step * STEP + input % STEP)
    }

    /// Sum of the sizes of an output's weights.
    #[cfg(target_arch = "x86_64")]
    fn size(&self, output: usize) -> u64 {
        let taps = self.shape.kernel * self.shape.kernel;
        (0..self.inputs * taps).map(|i| u64::from(self.weight(output, i % taps, i / taps).unsigned_abs())).sum()
    }

    /// The window.
    #[must_use]
    pub fn shape(&self) -> ConvShape {
        self.shape
    }

    /// Multiply-adds for an output of `pixels`.
    #[must_use]
    pub fn macs(&self, pixels: usize) -> u64 {
        (pixels * self.inputs * self.outputs * self.shape.kernel * self.shape.kernel) as u64
    }

    pub(super) fn check(&self, inputs: usize, outputs: usize) {
        assert!(inputs == self.inputs && outputs == self.outputs, "planes of {inputs} and {outputs} channels");
        // Kernels read four input channels at a time: those past the last meet zero weights, and lie within the spare bytes.
    }
}

impl PackedDepthwise {
    /// Packs `weights` of `[channels][kernel][kernel]`.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn new(weights: &[i8], shape: ConvShape, bias: &[i32], zero_point: i32, requantise: Requantise) -> Result<Self, PackError> {
        let (channels, taps) = (bias.len(), shape.kernel * shape.kernel);
        if weights.len() != channels * taps || requantise.multipliers.len() != channels || weights.is_empty() {
            return Err(PackError::Lengths);
        }
        if let Some(channel) = requantise.multipliers.iter().position(|m| !m.is_finite()) {
            return Err(PackError::Multiplier { channel });
        }
        let rows: Vec<Vec<i8>> = weights.chunks_exact(taps).map(<[i8]>::to_vec).collect();
        #[cfg(target_arch = "aarch64")]
        let bounded = within_16_bits(&rows, bias, &requantise);
        let bias = padded(&fold(&rows, bias, zero_point)?, DEPTHWISE_BLOCK, 0);
        let multipliers = padded(&requantise.multipliers, DEPTHWISE_BLOCK, 0.0);
        let (wide, groups) = (bias.len(), taps.div_ceil(4));
        let mut data = vec![0; taps * wide];
        let mut interleaved = Lines::zeroed(groups * 4 * wide);
        #[cfg(target_arch = "x86_64")]
        let (pairs, mut paired) = (taps.div_ceil(2), Lines::zeroed(taps.div_ceil(2) * 4 * wide));
        let (mut interleaved_bias, mut interleaved_multipliers) = (vec![0; wide], vec![0.0; wide]);
        for channel in 0..wide {
            let (block, within) = (channel / DEPTHWISE_BLOCK, channel % DEPTHWISE_BLOCK);
            // Byte unpacking works within 128-bit lanes: quarter q, lane l, place j hold channel 16 l + 4 q + j.
            let (lane, quarter, place) = (within / 16, within % 16 / 4, within % 4);
            let at = quarter * 16 + lane * 4 + place;
            interleaved_bias[block * DEPTHWISE_BLOCK + at] = bias[channel];
            interleaved_multipliers[block * DEPTHWISE_BLOCK + at] = multipliers[channel];
            for (tap, &weight) in rows.get(channel).into_iter().flatten().enumerate() {
                data[tap * wide + channel] = weight;
                interleaved.set(((block * groups + tap / 4) * DEPTHWISE_BLOCK + at) * 4 + tap % 4, weight);
                #[cfg(target_arch = "x86_64")]
                for (byte, value) in i16::from(weight).to_le_bytes().into_iter().enumerate() {
                    paired.set(((block * pairs + tap / 2) * DEPTHWISE_BLOCK + at) * 4 + tap % 2 * 2 + byte, value as i8);
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        let bounded = {
            let size = |row: &Vec<i8>| row.iter().map(|w| u64::from(w.unsigned_abs())).sum();
            rows.iter().zip(&bias).zip(&multipliers).all(|((row, &bias), &multiplier)| bounded(size(row), bias, multiplier))
        };
        let requantise = Requantise { multipliers, ..requantise };
        #[cfg(target_arch = "aarch64")]
        let flipped_bias = flipped(&bias, &rows);
        #[cfg(target_arch = "aarch64")]
        let quads = if super::neon_depthwise::fits(shape, channels) {
            super::neon_depthwise::pack(shape, channels, |channel, tap| rows[channel][tap])
        } else {
            Vec::new()
        };
        Ok(Self {
            data,
            interleaved,
            #[cfg(target_arch = "x86_64")]
            paired,
            #[cfg(target_arch = "x86_64")]
            bounded,
            bias,
            requantise,
            interleaved_bias,
            interleaved_multipliers,
            channels,
            #[cfg(target_arch = "aarch64")]
            flipped_bias,
            #[cfg(target_arch = "aarch64")]
            bounded,
            #[cfg(target_arch = "aarch64")]
            narrow: !weights.contains(&i8::MIN),
            #[cfg(target_arch = "aarch64")]
            quads,
            shape,
        })
    }

    /// The window.
    #[must_use]
    pub fn shape(&self) -> ConvShape {
        self.shape
    }

    /// Multiply-adds for an output of `pixels`.
    #[must_use]
    pub fn macs(&self, pixels: usize) -> u64 {
        (pixels * self.channels * self.shape.kernel * self.shape.kernel) as u64
    }

    pub(super) fn check(&self, inputs: usize, outputs: usize) {
        assert!(inputs == self.channels && outputs == self.channels, "planes of {inputs} and {outputs} channels");
    }

    pub(super) fn wide(&self) -> usize {
        self.bias.len()
    }
}
