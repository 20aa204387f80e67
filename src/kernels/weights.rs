//! What kernels read of a layer: its window, its weights in the form of one instruction set, and how sums
//! become codes.
//!
//! `pack.rs` makes these values. Weights are in exactly one form, and only the instruction set that packed it
//! reads it.

use super::Isa;
use super::plane::Window;

/// Output channels of a block.
pub const BLOCK: usize = 16;
/// Input channels that one step of a dot product multiplies.
pub const STEP: usize = 4;
/// Channels of a depthwise block.
pub const DEPTHWISE_BLOCK: usize = 64;
/// Bytes of a cache line, and of one step's weights of a block of outputs.
pub const LINE: usize = 64;
const _: () = assert!(LINE == BLOCK * STEP);

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

impl ConvShape {
    /// Pixels of the window.
    #[must_use]
    pub fn taps(&self) -> usize {
        self.kernel * self.kernel
    }
}

/// How sums become codes: `zero + rte(clamp(max(t, slope * t)))` with `t = sum * multiplier`.
#[derive(Debug, Clone, PartialEq)]
pub struct Requantise {
    /// Input scale times weight scale by output scale, one value per output channel.
    pub multipliers: Vec<f32>,
    /// Slope below zero, 0 to 1 (LeakyReLU); 1 means no activation.
    pub slope: f32,
    /// The output's zero point.
    pub zero: i32,
    /// Lowest and highest code.
    pub range: [i32; 2],
}

/// Why weights cannot be packed. The text follows a node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Sums could leave 32 bits.
    #[error("output channel {channel}: its sums may exceed 32 bits")]
    Overflow {
        /// Which output channel.
        channel: usize,
    },
    /// A multiplier is not finite.
    #[error("output channel {channel}: its scales are too far apart")]
    Multiplier {
        /// Which output channel.
        channel: usize,
    },
    /// Weights, biases and multipliers differ in length.
    #[error("weights, biases and multipliers disagree in length")]
    Lengths,
}

/// A cache line of weights.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([i8; LINE]);

/// Bytes in whole cache lines, zero at first, so that no aligned vector load of weights crosses a line.
#[derive(Debug, Clone)]
pub struct Lines(Vec<Line>);

impl Lines {
    /// `bytes` zeros, rounded up to whole cache lines.
    pub fn zeroed(bytes: usize) -> Self {
        Self(vec![Line([0; LINE]); bytes.div_ceil(LINE)])
    }

    /// Sets a byte.
    pub fn set(&mut self, at: usize, value: i8) {
        self.0[at / LINE].0[at % LINE] = value;
    }

    /// Sets two bytes, the lower one first; `at` is even.
    #[cfg(target_arch = "x86_64")]
    pub fn set_word(&mut self, at: usize, value: i16) {
        let [low, high] = value.to_le_bytes();
        self.set(at, low as i8);
        self.set(at + 1, high as i8);
    }

    /// Address of the first byte, aligned to a cache line; as many bytes follow as [`Lines::zeroed`] was
    /// asked for.
    pub fn as_ptr(&self) -> *const i8 {
        self.0.as_ptr().cast()
    }
}

/// Message of the panic on a form that the kernel's instruction set never packs; `check` excludes it.
pub(super) const FOREIGN_FORM: &str = "weights in a form of another instruction set";

/// Weights of a convolution in the order in which an instruction set reads them. Missing outputs and inputs
/// are zeros.
#[derive(Debug, Clone)]
pub(super) enum ConvForm {
    /// `[output][input][tap]`, as [`super::ConvWeights::weights`].
    Plain(Vec<i8>),
    /// `[block of 16 outputs][tap][input / 4][16][4]`: one dot product takes four inputs of an output.
    Fours(Lines),
    /// Of 16 bits, `[block of 16 outputs][tap][input / 2][16][2]`: one vpmaddwd takes two inputs of an
    /// output.
    #[cfg(target_arch = "x86_64")]
    Pairs(Lines),
    /// As [`ConvForm::Pairs`], with the 16 points of Winograd's F(2 × 2, 3 × 3) for taps.
    #[cfg(target_arch = "x86_64")]
    WinogradPairs(Lines),
    /// For SMULL, where no weight is -128: `[block of 8 outputs][tap]`, and of each tap `[input /
    /// 16][8][16]`, the last part `[8][8]` where eight inputs or fewer are left.
    #[cfg(target_arch = "aarch64")]
    Eights(Lines),
    /// For SMULL, where there are at most four inputs: where pixels lie four bytes apart, a row of taps is
    /// worked as one tap of that many times four inputs.
    #[cfg(target_arch = "aarch64")]
    EightsByRow {
        /// As [`ConvForm::Eights`], with a row of taps for a tap.
        rows: Lines,
        /// As [`ConvForm::Fours`], for where pixels lie farther apart.
        fours: Lines,
    },
    /// Of 16 bits, `[block of 8 outputs][position][input][8]` for Winograd's F(4 × 4, 3 × 3).
    #[cfg(target_arch = "aarch64")]
    Winograd(Vec<i16>),
}

/// Weights of a depthwise convolution in the order in which an instruction set reads them. Missing channels
/// and taps are zeros.
#[derive(Debug, Clone)]
pub(super) enum DepthwiseForm {
    /// `[tap][channel]`, channels padded to whole blocks of 64.
    ByTap(Vec<i8>),
    /// As [`DepthwiseForm::ByTap`], without a weight of -128, so that products of two taps fit 16 bits
    /// together.
    #[cfg(target_arch = "aarch64")]
    ByTapPaired(Vec<i8>),
    /// `[block of 64 channels][group of 4 taps][quarter][16 channels][4 taps]`: one dot product takes four
    /// taps of a channel. `interleave.rs` has the order of channels.
    #[cfg(target_arch = "x86_64")]
    TapFours(Lines),
    /// Of 16 bits, `[block of 64 channels][pair of taps][quarter][16 channels][2 taps]`, in the same order of
    /// channels.
    #[cfg(target_arch = "x86_64")]
    TapPairs(Lines),
    /// Columns of four rows for SDOT, in the order of `neon_dotprod_depthwise.rs`.
    #[cfg(target_arch = "aarch64")]
    Columns(Vec<i8>),
}

/// A convolution, packed for one instruction set.
#[derive(Debug, Clone)]
pub struct PackedConv {
    pub(super) isa: Isa,
    pub(super) shape: ConvShape,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) form: ConvForm,
    /// What each sum begins with, for codes as planes store them; in the form's order of outputs, padded to
    /// whole blocks.
    pub(super) bias: Vec<i32>,
    /// Its multipliers are in the form's order of outputs, padded to whole blocks.
    pub(super) requantise: Requantise,
    /// One of the constants in `finish.rs`.
    pub(super) finish: u8,
}

impl PackedConv {
    /// The window.
    #[must_use]
    pub fn shape(&self) -> ConvShape {
        self.shape
    }

    /// Multiply-adds for an output of `pixels`.
    #[must_use]
    pub fn macs(&self, pixels: usize) -> u64 {
        (pixels * self.inputs * self.outputs * self.shape.taps()) as u64
    }

    /// Checks that `isa` packed these weights, for the window's shape and channels.
    ///
    /// # Panics
    /// If it did not.
    pub(super) fn check(&self, isa: Isa, window: &Window<'_>) {
        check(self.isa, isa, self.shape, window);
        let (inputs, outputs) = (window.inputs, window.outputs);
        assert!(
            (inputs, outputs) == (self.inputs, self.outputs),
            "planes of {inputs} and {outputs} channels"
        );
    }
}

/// A depthwise convolution, packed for one instruction set.
#[derive(Debug, Clone)]
pub struct PackedDepthwise {
    pub(super) isa: Isa,
    pub(super) shape: ConvShape,
    pub(super) channels: usize,
    pub(super) form: DepthwiseForm,
    /// As [`PackedConv::bias`], by channel, padded to whole blocks of 64.
    pub(super) bias: Vec<i32>,
    /// As [`PackedConv::requantise`].
    pub(super) requantise: Requantise,
    /// As [`PackedConv::finish`].
    pub(super) finish: u8,
}

impl PackedDepthwise {
    /// The window.
    #[must_use]
    pub fn shape(&self) -> ConvShape {
        self.shape
    }

    /// Multiply-adds for an output of `pixels`.
    #[must_use]
    pub fn macs(&self, pixels: usize) -> u64 {
        (pixels * self.channels * self.shape.taps()) as u64
    }

    /// Checks that `isa` packed these weights, for the window's shape and channels.
    ///
    /// # Panics
    /// If it did not.
    pub(super) fn check(&self, isa: Isa, window: &Window<'_>) {
        check(self.isa, isa, self.shape, window);
        let (inputs, outputs) = (window.inputs, window.outputs);
        assert!(
            inputs == self.channels && outputs == self.channels,
            "planes of {inputs} and {outputs} channels"
        );
    }

    /// Channels, padded to whole blocks of 64.
    pub(super) fn padded_channels(&self) -> usize {
        self.bias.len()
    }
}

/// Checks that weights which `packed_by` packed for a window of `shape` may be used by `isa` on `window`.
fn check(packed_by: Isa, isa: Isa, shape: ConvShape, window: &Window<'_>) {
    assert!(isa == packed_by, "weights in the order of {}", packed_by.name());
    assert!(window.shape == shape, "a window of another shape");
}
