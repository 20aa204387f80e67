//! What AVX-VNNI and AVX-512 VNNI share: vpdpbusd takes four codes and four weights of each sum, exactly.

use super::finish;
use super::interleave;
use super::pack::{Layer, Packed};
use super::plane::Window;
use super::weights::{BLOCK, ConvForm, DEPTHWISE_BLOCK, DepthwiseForm, FOREIGN_FORM, PackedConv, STEP};

/// Packs a convolution: four inputs of an output side by side.
pub fn pack(layer: &Layer<'_>) -> Packed<ConvForm> {
    layer.packed(ConvForm::Fours(layer.fours()), finish::ANY, 0, BLOCK, |output| output)
}

/// Packs a depthwise convolution: four taps of a channel side by side.
pub fn pack_depthwise(layer: &Layer<'_>) -> Packed<DepthwiseForm> {
    let form = DepthwiseForm::TapFours(interleave::weights(layer, 4));
    layer.packed(form, finish::ANY, 0, DEPTHWISE_BLOCK, interleave::place)
}

/// What every tile of one convolution shares.
pub struct Job<'a> {
    pub weights: &'a PackedConv,
    /// The first cache line of weights.
    pub lines: *const i8,
    /// Cache lines of weights of a tap and a block of outputs.
    pub steps: usize,
    pub window: &'a Window<'a>,
    pub input: *const u8,
    pub output: *mut u8,
}

impl<'a> Job<'a> {
    /// # Panics
    /// If the weights are in another form than [`ConvForm::Fours`].
    pub fn new(weights: &'a PackedConv, window: &'a mut Window<'_>) -> Self {
        let ConvForm::Fours(lines) = &weights.form else { unreachable!("{FOREIGN_FORM}") };
        let output = window.output.as_mut_ptr();
        let (steps, input) = (weights.inputs.div_ceil(STEP), window.input.as_ptr());
        Self { weights, lines: lines.as_ptr(), steps, window, input, output }
    }
}
