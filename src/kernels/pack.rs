//! From a graph's weights to the form that an instruction set reads, with the input's zero point folded into
//! the bias.
//!
//! Here is what every instruction set needs of a layer; each has its own packing beside the kernel that reads
//! it.

use super::Isa;
use super::finish;
use super::weights::{BLOCK, ConvForm, ConvShape, DEPTHWISE_BLOCK, DepthwiseForm, Lines};
use super::weights::{PackError, PackedConv, PackedDepthwise, Requantise, STEP};

/// A convolution as a graph has it, to be packed for one instruction set.
#[derive(Debug, Clone)]
pub struct ConvWeights<'a> {
    /// `[output][input][kernel][kernel]`, or `[channel][kernel][kernel]` of a depthwise one.
    pub weights: &'a [i8],
    /// Its window.
    pub shape: ConvShape,
    /// One bias per output channel, in steps of input scale times weight scale.
    pub bias: &'a [i32],
    /// The input's zero point.
    pub zero_point: i32,
    /// How sums become codes.
    pub requantise: Requantise,
}

impl ConvWeights<'_> {
    /// Packs a convolution of each output with all `inputs`, in the form that is fastest on `isa` for outputs
    /// of `pixels` pixels.
    ///
    /// # Errors
    /// [`PackError`] if lengths disagree, a multiplier is not finite, or a sum could leave 32 bits.
    pub fn pack(self, inputs: usize, isa: Isa, pixels: usize) -> Result<PackedConv, PackError> {
        let layer = Layer::new(&self, inputs, pixels)?;
        let outputs = layer.rows.len();
        let Packed { form, bias, multipliers, finish } = isa.pack_conv(&layer);
        let requantise = Requantise { multipliers, ..self.requantise };
        Ok(PackedConv { isa, shape: self.shape, inputs, outputs, form, bias, requantise, finish })
    }

    /// Packs a convolution of each channel with itself, in the form that is fastest on `isa`.
    ///
    /// # Errors
    /// As [`ConvWeights::pack`].
    pub fn pack_depthwise(self, isa: Isa) -> Result<PackedDepthwise, PackError> {
        let layer = Layer::new(&self, 1, 0)?;
        let channels = layer.rows.len();
        let Packed { form, bias, multipliers, finish } = isa.pack_depthwise(&layer);
        let requantise = Requantise { multipliers, ..self.requantise };
        Ok(PackedDepthwise { isa, shape: self.shape, channels, form, bias, requantise, finish })
    }
}

/// What an instruction set makes of a layer.
pub(super) struct Packed<Form> {
    /// The weights.
    pub form: Form,
    /// See [`PackedConv::bias`].
    pub bias: Vec<i32>,
    /// In the same order.
    pub multipliers: Vec<f32>,
    /// One of the constants in `finish.rs`.
    pub finish: u8,
}

/// A layer whose lengths, multipliers and sums were found to be good.
pub(super) struct Layer<'a> {
    /// Weights of each output (of each channel, if depthwise): `[input][tap]`.
    pub rows: Vec<&'a [i8]>,
    /// Its window.
    pub shape: ConvShape,
    /// Inputs of each output; 1 if depthwise.
    pub inputs: usize,
    /// Pixels of the output for which the form is chosen.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "the other forms suit any number"))]
    pub pixels: usize,
    /// How sums become codes.
    pub requantise: &'a Requantise,
    /// As the graph has it.
    bias: &'a [i32],
    zero_point: i32,
    /// Sum of each output's weights, which is within 32 bits.
    sums: Vec<i64>,
    /// Sum of the sizes of each output's weights.
    pub sizes: Vec<i64>,
}

impl<'a> Layer<'a> {
    /// Checks `weights` of outputs that have `inputs` inputs each.
    fn new(weights: &'a ConvWeights<'_>, inputs: usize, pixels: usize) -> Result<Self, PackError> {
        let ConvWeights { weights: all, shape, bias, zero_point, ref requantise } = *weights;
        let (outputs, row) = (bias.len(), inputs * shape.taps());
        if all.is_empty() || row == 0 || all.len() != outputs * row || requantise.multipliers.len() != outputs
        {
            return Err(PackError::Lengths);
        }
        if let Some(channel) = requantise.multipliers.iter().position(|m| !m.is_finite()) {
            return Err(PackError::Multiplier { channel });
        }
        let rows: Vec<&[i8]> = all.chunks_exact(row).collect();
        let sums: Vec<i64> = rows.iter().map(|row| row.iter().map(|&w| i64::from(w)).sum()).collect();
        let sizes: Vec<i64> = rows.iter().map(|row| row.iter().map(|&w| i64::from(w).abs()).sum()).collect();
        let layer = Self { rows, shape, inputs, pixels, requantise, bias, zero_point, sums, sizes };
        match (0..outputs).find(|&channel| layer.overflows(channel)) {
            Some(channel) => Err(PackError::Overflow { channel }),
            None => Ok(layer),
        }
    }

    /// Whether sums of an output could leave 32 bits. Twice the products fit, so that kernels may add them in
    /// any order to a bias with a zero point folded in.
    fn overflows(&self, output: usize) -> bool {
        let largest = 2 * MAX_CODE * self.sizes[output] + i64::from(self.bias[output]).abs();
        let begins = [0, 128].map(|lowered| self.folded_bias(output, lowered));
        largest >= 1 << 31 || begins.into_iter().any(|begin| i32::try_from(begin).is_err())
    }

    /// What an output's sum begins with, for planes that store codes lowered by `lowered`: the zero point is
    /// taken off, and what codes were lowered by is given back.
    fn folded_bias(&self, output: usize, lowered: i64) -> i64 {
        i64::from(self.bias[output]) - (i64::from(self.zero_point) - lowered) * self.sums[output]
    }

    /// The layer in `form`, for planes that store codes lowered by `lowered` (0 or 128), with bias and
    /// multiplier of output `o` at `place(o)` and zeros elsewhere up to whole blocks of `block`.
    pub fn packed<Form, Place>(
        &self,
        form: Form,
        finish: u8,
        lowered: i32,
        block: usize,
        place: Place,
    ) -> Packed<Form>
    where
        Place: Fn(usize) -> usize,
    {
        let padded = self.rows.len().next_multiple_of(block);
        let (mut bias, mut multipliers) = (vec![0; padded], vec![0.0; padded]);
        for output in 0..self.rows.len() {
            // `new` checked that it fits 32 bits.
            bias[place(output)] = self.folded_bias(output, lowered.into()) as i32;
            multipliers[place(output)] = self.requantise.multipliers[output];
        }
        Packed { form, bias, multipliers, finish }
    }

    /// Whether every sum times its multiplier stays below `limit` in size, whatever the codes. LeakyReLU
    /// makes none larger.
    pub fn scaled_sums_stay_below(&self, limit: f64) -> bool {
        let largest = |output: usize| {
            let sum = MAX_CODE as f64 * self.sizes[output] as f64 + f64::from(self.bias[output]).abs();
            sum * f64::from(self.requantise.multipliers[output]).abs()
        };
        (0.0..=1.0).contains(&self.requantise.slope)
            && (0..self.rows.len()).all(|output| largest(output) < limit)
    }

    /// Whether no weight is -128, so that two products of a weight and an s8 code fit 16 bits together.
    #[cfg(target_arch = "aarch64")]
    pub fn is_narrow(&self) -> bool {
        !self.rows.iter().any(|row| row.contains(&i8::MIN))
    }

    /// The form of [`ConvForm::Plain`].
    pub fn plain(&self) -> Vec<i8> {
        self.rows.concat()
    }

    /// The form of [`ConvForm::Fours`].
    pub fn fours(&self) -> Lines {
        let (taps, steps) = (self.shape.taps(), self.inputs.div_ceil(STEP));
        let mut lines = Lines::zeroed(self.rows.len().next_multiple_of(BLOCK) * taps * steps * STEP);
        for (output, row) in self.rows.iter().enumerate() {
            for (input, weights) in row.chunks_exact(taps).enumerate() {
                for (tap, &weight) in weights.iter().enumerate() {
                    let step =
                        ((output / BLOCK * taps + tap) * steps + input / STEP) * BLOCK + output % BLOCK;
                    lines.set(step * STEP + input % STEP, weight);
                }
            }
        }
        lines
    }

    /// The form of [`DepthwiseForm::ByTap`].
    pub fn by_tap(&self) -> Vec<i8> {
        let padded = self.rows.len().next_multiple_of(DEPTHWISE_BLOCK);
        let mut weights = vec![0; self.shape.taps() * padded];
        for (channel, row) in self.rows.iter().enumerate() {
            for (tap, &weight) in row.iter().enumerate() {
                weights[tap * padded + channel] = weight;
            }
        }
        weights
    }
}

/// Largest distance of a code from a zero point.
const MAX_CODE: i64 = 255;

/// The oracle's packing of a convolution: the graph's own order.
pub(super) fn plain_conv(layer: &Layer<'_>) -> Packed<ConvForm> {
    layer.packed(ConvForm::Plain(layer.plain()), finish::ANY, 0, 1, |output| output)
}

/// The oracle's packing of a depthwise convolution.
pub(super) fn plain_depthwise(layer: &Layer<'_>) -> Packed<DepthwiseForm> {
    layer.packed(DepthwiseForm::ByTap(layer.by_tap()), finish::ANY, 0, DEPTHWISE_BLOCK, |channel| channel)
}
