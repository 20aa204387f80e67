//! The table of kernels, from which dispatch, tests and benches are driven.
//!
//! A row names what an instruction set has for each operation. A kernel's name is its operation, the types it
//! reads and the instruction set that it is written for: `conv_u8_i8::avx2`. One more instruction set is one
//! file of kernels and one row.

use super::Sum;
#[cfg(target_arch = "aarch64")]
use super::aarch64::{neon, neon_codes, neon_depthwise, neon_dotprod, neon_dotprod_depthwise};
use super::pack::{self, Layer, Packed};
use super::plane::Window;
use super::scalar;
use super::weights::{ConvForm, DepthwiseForm, PackedConv, PackedDepthwise};
#[cfg(target_arch = "x86_64")]
use super::x86_64::{avx_vnni, avx2, avx2_codes, avx2_depthwise, avx512_vnni, vnni};

/// An operation on codes that each instruction set has a kernel for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Convolution, all channels with all.
    Conv,
    /// Depthwise convolution.
    Depthwise,
    /// Maximum over a window.
    MaxPool,
    /// Sum of two tensors.
    Add,
    /// Codes through a table of 256.
    Translate,
    /// Channels of two tensors in turn.
    Interleave,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 6] = {
        use Operation::*;
        [Conv, Depthwise, MaxPool, Add, Translate, Interleave]
    };

    /// The first half of its kernels' names: operation and types.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Conv => "conv_u8_i8",
            Self::Depthwise => "depthwise_u8_i8",
            Self::MaxPool => "max_pool_u8",
            Self::Add => "add_u8",
            Self::Translate => "translate_u8",
            Self::Interleave => "interleave_u8",
        }
    }
}

/// A function of one instruction set, and which one that is.
#[derive(Clone, Copy)]
pub(super) struct Kernel<F> {
    /// Name of the instruction set that the function is written for; a row may borrow kernels of a smaller
    /// one.
    pub written_for: &'static str,
    /// Unsafe, because the CPU must have the instruction set.
    pub run: F,
}

const fn kernel<F: Copy>(written_for: &'static str, run: F) -> Kernel<F> {
    Kernel { written_for, run }
}

/// Reads and writes the planes of its window. The caller makes sure that the row's instruction set is there
/// and that the same row packed the weights, for the window's shape and channels.
type Conv = unsafe fn(&PackedConv, &mut Window<'_>);
/// As [`Conv`].
type Depthwise = unsafe fn(&PackedDepthwise, &mut Window<'_>);
/// As [`Conv`], as many channels out as in.
type MaxPool = unsafe fn(&mut Window<'_>);
/// Codes of `a` and `b` to their sums, as many as the shortest slice has.
type Add = unsafe fn(&Sum, &[u8], &[u8], &mut [u8]);
/// Codes through a table, as many as the shorter slice has.
type Translate = unsafe fn(&[u8; 256], &[u8], &mut [u8]);
/// Codes of two slices in turn, as many pairs as the shortest slice has room for.
type Interleave = unsafe fn(&[u8], &[u8], &mut [u8]);
/// Runs as many steps of the instruction set's products in registers; returns their multiply-adds.
type Spin = unsafe fn(usize) -> u64;

/// A row of the table.
pub(super) struct InstructionSet {
    /// As `retinad check` and `bench` print it.
    pub name: &'static str,
    /// Whether this CPU has it.
    pub detected: fn() -> bool,
    /// What codes are XORed with in planes.
    pub flip: u8,
    pub pack_conv: fn(&Layer<'_>) -> Packed<ConvForm>,
    pub pack_depthwise: fn(&Layer<'_>) -> Packed<DepthwiseForm>,
    pub conv: Kernel<Conv>,
    pub depthwise: Kernel<Depthwise>,
    pub max_pool: Kernel<MaxPool>,
    pub add: Kernel<Add>,
    pub translate: Kernel<Translate>,
    pub interleave: Kernel<Interleave>,
    /// None: the portable kernels have no loop in registers.
    pub spin: Option<Spin>,
}

/// ARM multiplies bytes of one kind, so its planes hold codes as s8, lowered by 128.
#[cfg(target_arch = "aarch64")]
const AS_I8: u8 = 0x80;

/// Every instruction set of this architecture, the best last.
pub(super) static TABLE: &[InstructionSet] = &[
    InstructionSet {
        name: "scalar",
        detected: || true,
        flip: 0,
        pack_conv: pack::plain_conv,
        pack_depthwise: pack::plain_depthwise,
        conv: kernel("scalar", scalar::conv),
        depthwise: kernel("scalar", scalar::depthwise),
        max_pool: kernel("scalar", scalar::max_pool),
        add: kernel("scalar", scalar::add),
        translate: kernel("scalar", scalar::translate),
        interleave: kernel("scalar", scalar::interleave),
        spin: None,
    },
    #[cfg(target_arch = "x86_64")]
    InstructionSet {
        name: "avx2",
        detected: || is_x86_feature_detected!("avx2"),
        flip: 0,
        pack_conv: avx2::pack,
        pack_depthwise: avx2_depthwise::pack,
        conv: kernel("avx2", avx2::conv),
        depthwise: kernel("avx2", avx2_depthwise::depthwise),
        max_pool: kernel("avx2", avx2_codes::max_pool),
        add: kernel("avx2", avx2_codes::add),
        translate: kernel("avx2", avx2_codes::translate),
        interleave: kernel("scalar", scalar::interleave),
        spin: Some(avx2::spin),
    },
    #[cfg(target_arch = "x86_64")]
    InstructionSet {
        name: "avx-vnni",
        detected: || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"),
        flip: 0,
        pack_conv: vnni::pack,
        pack_depthwise: vnni::pack_depthwise,
        conv: kernel("avx-vnni", avx_vnni::conv),
        depthwise: kernel("avx-vnni", avx_vnni::depthwise),
        max_pool: kernel("avx2", avx2_codes::max_pool),
        add: kernel("avx2", avx2_codes::add),
        translate: kernel("avx2", avx2_codes::translate),
        interleave: kernel("scalar", scalar::interleave),
        spin: Some(avx_vnni::spin),
    },
    #[cfg(target_arch = "x86_64")]
    InstructionSet {
        name: "avx512-vnni",
        detected: || {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("avx512vbmi")
        },
        flip: 0,
        pack_conv: vnni::pack,
        pack_depthwise: vnni::pack_depthwise,
        conv: kernel("avx512-vnni", avx512_vnni::conv),
        depthwise: kernel("avx512-vnni", avx512_vnni::depthwise),
        max_pool: kernel("avx512-vnni", avx512_vnni::max_pool),
        add: kernel("avx512-vnni", avx512_vnni::add),
        translate: kernel("avx512-vnni", avx512_vnni::translate),
        interleave: kernel("scalar", scalar::interleave),
        spin: Some(avx512_vnni::spin),
    },
    #[cfg(target_arch = "aarch64")]
    InstructionSet {
        name: "neon",
        // Part of every 64-bit ARM.
        detected: || true,
        flip: AS_I8,
        pack_conv: neon::pack,
        pack_depthwise: neon_depthwise::pack,
        conv: kernel("neon", neon::conv),
        depthwise: kernel("neon", neon_depthwise::depthwise),
        max_pool: kernel("neon", neon_codes::max_pool),
        add: kernel("neon", neon_codes::add),
        translate: kernel("neon", neon_codes::translate),
        interleave: kernel("neon", neon_codes::interleave),
        spin: Some(neon::spin),
    },
    #[cfg(target_arch = "aarch64")]
    InstructionSet {
        name: "neon-dotprod",
        detected: || std::arch::is_aarch64_feature_detected!("dotprod"),
        flip: AS_I8,
        pack_conv: neon_dotprod::pack,
        pack_depthwise: neon_dotprod_depthwise::pack,
        conv: kernel("neon-dotprod", neon_dotprod::conv),
        depthwise: kernel("neon-dotprod", neon_dotprod_depthwise::depthwise),
        max_pool: kernel("neon", neon_codes::max_pool),
        add: kernel("neon", neon_codes::add),
        translate: kernel("neon", neon_codes::translate),
        interleave: kernel("neon", neon_codes::interleave),
        spin: Some(neon_dotprod::spin),
    },
];
