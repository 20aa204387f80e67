//! What kernels read of a layer: its window, its weights in the order of one instruction set, and what follows the sums. `pack.rs` makes it.

use super::Isa;

/// Output channels of a block.
pub const BLOCK: usize = 16;
/// Input channels that one step multiplies.
pub const STEP: usize = 4;
/// Channels of a depthwise block.
pub const DEPTHWISE_BLOCK: usize = 64;
/// Bytes of a cache line; on x86 those of a block of outputs and one step, too.
pub const LINE: usize = 64;

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
pub struct Line(pub [i8; LINE]);

/// Bytes in whole cache lines, zero at first.
#[derive(Debug, Clone)]
pub struct Lines(Vec<Line>);

impl Lines {
    pub fn zeroed(bytes: usize) -> Self {
        Self(vec![Line([0; LINE]); bytes.div_ceil(LINE)])
    }

    /// Sets a byte.
    pub fn set(&mut self, at: usize, value: i8) {
        self.0[at / LINE].0[at % LINE] = value;
    }

    /// Sets two bytes, the lower first; `at` is even.
    #[cfg(target_arch = "x86_64")]
    pub fn set_word(&mut self, at: usize, value: i16) {
        let [low, high] = value.to_le_bytes();
        (self.0[at / LINE].0[at % LINE], self.0[at / LINE].0[at % LINE + 1]) = (low as i8, high as i8);
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

/// Weights of a convolution in the one order that its instruction set reads; the others are empty.
#[derive(Debug, Clone)]
pub struct PackedConv {
    pub(super) isa: Isa,
    /// As [`super::ConvWeights::weights`], for the oracle.
    pub(super) plain: Vec<i8>,
    /// For dot products, `[block of 16 outputs][tap][input / 4][16][4]`, zeros where there is no channel.
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code, reason = "no dot products"))]
    pub(super) data: Lines,
    pub(super) bias: Vec<i32>,
    pub(super) requantise: Requantise,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code, reason = "no dot products"))]
    pub(super) steps: usize,
    /// `bias` for codes moved down by 128.
    #[cfg(target_arch = "aarch64")]
    pub(super) flipped_bias: Vec<i32>,
    /// What `within_16_bits` of `pack.rs` says.
    #[cfg(target_arch = "aarch64")]
    pub(super) bounded: bool,
    /// For SMULL, where no weight is -128: `[block of 8 outputs][tap]`, and of each `[input / 16][8][16]`, the last one `[8][8]` where eight
    /// inputs or fewer are left. With [`Self::by_rows`] a row of taps is one tap.
    #[cfg(target_arch = "aarch64")]
    pub(super) pairs: Lines,
    /// There are so few inputs that a row of taps is worked as one tap of that many times four, where pixels lie four bytes apart; `data`
    /// is there for where they do not.
    #[cfg(target_arch = "aarch64")]
    pub(super) by_rows: bool,
    /// For `neon_winograd.rs`, in its order.
    #[cfg(target_arch = "aarch64")]
    pub(super) winograd: Vec<i16>,
    /// For AVX2.
    #[cfg(target_arch = "x86_64")]
    pub(super) wide: Option<Wide>,
    pub(super) shape: ConvShape,
}

/// Weights of 16 bits, `[block of 16 outputs][part][input / 2][16][2]`; a part is a tap, or a point of Winograd's transform.
#[cfg(target_arch = "x86_64")]
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

#[cfg(target_arch = "x86_64")]
impl Wide {
    /// Longest row of taps and inputs that AVX2's kernel has memory for.
    pub const MAX_ROW: usize = 32 << 10;
    /// Most inputs that its Winograd transform has memory for.
    pub const MAX_WINOGRAD_INPUTS: usize = 512;
}

/// Weights of a depthwise convolution in the one order that its instruction set reads; the others are empty.
#[derive(Debug, Clone)]
pub struct PackedDepthwise {
    pub(super) isa: Isa,
    /// `[tap][channel]`, channels padded to whole blocks.
    pub(super) data: Vec<i8>,
    /// For dot products, `[block of 64][group of 4 taps][quarter][16 channels][4 taps]`: see `avx512_vnni.rs`. For AVX2 of 16 bits and with two
    /// taps side by side, `[block of 64][pair of taps][quarter][16 channels][2 taps]`.
    #[cfg(target_arch = "x86_64")]
    pub(super) interleaved: Lines,
    /// See [`Wide::bounded`].
    #[cfg(target_arch = "x86_64")]
    pub(super) bounded: bool,
    pub(super) bias: Vec<i32>,
    pub(super) requantise: Requantise,
    /// `bias` and multipliers in the order of `interleaved`.
    #[cfg(target_arch = "x86_64")]
    pub(super) interleaved_bias: Vec<i32>,
    #[cfg(target_arch = "x86_64")]
    pub(super) interleaved_multipliers: Vec<f32>,
    pub(super) channels: usize,
    /// `bias` for codes moved down by 128.
    #[cfg(target_arch = "aarch64")]
    pub(super) flipped_bias: Vec<i32>,
    /// What `within_16_bits` of `pack.rs` says.
    #[cfg(target_arch = "aarch64")]
    pub(super) bounded: bool,
    /// No weight is -128.
    #[cfg(target_arch = "aarch64")]
    pub(super) narrow: bool,
    /// For `neon_dotprod_depthwise.rs`, in its order; empty where it has no kernel for the shape.
    #[cfg(target_arch = "aarch64")]
    pub(super) quads: Vec<i8>,
    pub(super) shape: ConvShape,
}

/// Bytes of one tap of a block of 8 outputs in the order of `pairs`: whole sixteens, and a half where eight inputs or fewer are left.
#[cfg(target_arch = "aarch64")]
pub(super) fn pair_bytes(inputs: usize) -> usize {
    8 * inputs.next_multiple_of(8)
}

impl PackedConv {
    /// The weight of an output, a tap and an input; kept for the oracle only.
    pub(super) fn weight(&self, output: usize, tap: usize, input: usize) -> i8 {
        self.plain[(output * self.inputs + input) * self.shape.taps() + tap]
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

    pub(super) fn check(&self, isa: Isa, inputs: usize, outputs: usize) {
        assert!(isa == self.isa, "weights in the order of {}", self.isa.name());
        assert!(inputs == self.inputs && outputs == self.outputs, "planes of {inputs} and {outputs} channels");
        // Kernels read four input channels at a time: those past the last meet zero weights, and lie within the spare bytes.
    }
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
        (pixels * self.channels * self.shape.kernel * self.shape.kernel) as u64
    }

    pub(super) fn check(&self, isa: Isa, inputs: usize, outputs: usize) {
        assert!(isa == self.isa, "weights in the order of {}", self.isa.name());
        assert!(inputs == self.channels && outputs == self.channels, "planes of {inputs} and {outputs} channels");
    }

    pub(super) fn wide(&self) -> usize {
        self.bias.len()
    }
}
