//! INT8 arithmetic on slices, by instruction set. Nothing here knows a graph, a model or a tensor type.
//!
//! One definition of the arithmetic (`README.md` here), and every instruction set gives the scalar oracle's
//! bytes: sums in i32, requantised in f32 with one rounding to even, clamped first. Activations are codes of
//! 0 to 255 in NHWC planes, weights are -128 to 127. A plane holds codes as its instruction set multiplies
//! them: [`Isa::flip`].
#![cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(
        dead_code,
        unused_imports,
        unused_macros,
        irrefutable_let_patterns,
        reason = "only the oracle is left"
    )
)]

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod elementwise;
mod finish;
mod isa;
mod pack;
mod plane;
mod scalar;
mod table;
mod weights;
mod wide;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use isa::Isa;
pub use pack::ConvWeights;
pub use plane::{Geometry, MAX_KERNEL, View, ViewMut};
pub use table::Operation;
pub use weights::{ConvShape, PackError, PackedConv, PackedDepthwise, Requantise};
pub use wide::{Wide, widest};

use plane::Window;

/// Convolution of any kernel size, all channels with all: a sum over taps of matrix products at shifted
/// addresses.
///
/// # Panics
/// If a plane does not hold what its geometry says, the shapes disagree, or the weights were packed for
/// another instruction set; the engine checks at load.
pub fn conv(isa: Isa, weights: &PackedConv, input: &View<'_>, output: &mut ViewMut<'_>) {
    isa.conv(weights, &mut Window::new(weights.shape(), input, output));
}

/// Depthwise convolution: each channel with itself.
///
/// # Panics
/// As [`conv`].
pub fn depthwise(isa: Isa, weights: &PackedDepthwise, input: &View<'_>, output: &mut ViewMut<'_>) {
    isa.depthwise(weights, &mut Window::new(weights.shape(), input, output));
}

/// Maximum over a window; padding is the lowest code.
///
/// # Panics
/// As [`conv`].
pub fn max_pool(isa: Isa, shape: ConvShape, input: &View<'_>, output: &mut ViewMut<'_>) {
    isa.max_pool(&mut Window::new(shape, input, output));
}

/// Codes moved from plane to plane, through `table` where their scales differ; with `twice` each pixel is
/// written four times (nearest upsampling).
///
/// # Panics
/// As [`conv`].
pub fn copy(isa: Isa, table: Option<&[u8; 256]>, twice: bool, input: &View<'_>, output: &mut ViewMut<'_>) {
    elementwise::copy(isa, table, twice, input, output);
}

/// Channels of `a` and `b` in turn: a concatenation followed by a channel shuffle with two groups. Codes go
/// through `tables` where their scales differ from the output's.
///
/// # Panics
/// As [`conv`].
pub fn zip(isa: Isa, tables: [Option<&[u8; 256]>; 2], a: &View<'_>, b: &View<'_>, output: &mut ViewMut<'_>) {
    elementwise::zip(isa, tables, a, b, output);
}

/// How two summands become one.
#[derive(Debug, Clone, Copy)]
pub struct Sum {
    /// Zero points of the summands.
    pub zeros: [i32; 2],
    /// Their scales, divided by the result's.
    pub multipliers: [f32; 2],
    /// The result's zero point.
    pub zero: i32,
    /// Lowest and highest code of the result.
    pub range: [i32; 2],
}

/// `rte(clamp((a - za) * Ma + (b - zb) * Mb)) + z`, each step in f32.
///
/// # Panics
/// As [`conv`].
pub fn add(isa: Isa, sum: &Sum, a: &View<'_>, b: &View<'_>, output: &mut ViewMut<'_>) {
    assert!(a.channels == output.channels && b.channels == output.channels, "planes of different channels");
    elementwise::add(isa, sum, a, b, output);
}

/// How two factors become one.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Zero points of the factors.
    pub zeros: [i32; 2],
    /// Their scales multiplied, divided by the result's.
    pub multiplier: f32,
    /// The result's zero point.
    pub zero: i32,
    /// Lowest and highest code of the result.
    pub range: [i32; 2],
}

/// `rte(clamp((a - za) * (b - zb) * M)) + z`, the product of codes in i32, the rest in f32. A plane `b` of
/// one pixel is a factor of each channel.
///
/// # Panics
/// As [`conv`].
pub fn mul(isa: Isa, product: &Product, a: &View<'_>, b: &View<'_>, output: &mut ViewMut<'_>) {
    assert!(a.channels == output.channels && b.channels == output.channels, "planes of different channels");
    elementwise::mul(isa, product, a, b, output);
}

/// How codes between pixels come about.
#[derive(Debug, Clone, Copy)]
pub struct Bilinear {
    /// Zero points of input and result.
    pub zeros: [i32; 2],
    /// The input's scale, divided by the result's.
    pub multiplier: f32,
}

/// Bilinear upsampling to twice the size, pixel centres at halves:
/// `rte(clamp(sum(w * (x - z_in)) / 16 * M)) + z`, with the weights 9, 3, 3, 1 of the four pixels around; the sum
/// in i32, the rest in f32.
///
/// # Panics
/// As [`conv`].
pub fn bilinear(isa: Isa, bilinear: &Bilinear, input: &View<'_>, output: &mut ViewMut<'_>) {
    assert!(input.channels == output.channels, "planes of different channels");
    elementwise::bilinear(isa, bilinear, input, output);
}

/// How codes under a window become their average.
#[derive(Debug, Clone, Copy)]
pub struct Mean {
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Its step down and across.
    pub stride: [usize; 2],
    /// Padding above and on the left.
    pub pad: [usize; 2],
    /// Padding counts as pixels of 0.0.
    pub all: bool,
    /// Zero points of input and result.
    pub zeros: [i32; 2],
    /// The input's scale, divided by the result's.
    pub multiplier: f32,
}

/// `rte(clamp(sum(x - z_in) * (M / count))) + z`, sums in i32, the rest in f32; at most 2^23 pixels a window.
///
/// # Panics
/// As [`conv`].
pub fn average(isa: Isa, mean: &Mean, input: &View<'_>, output: &mut ViewMut<'_>) {
    assert!(input.channels == output.channels, "planes of different channels");
    elementwise::average(isa, mean, input, output);
}

/// Multiply-adds a second of one core in a loop of registers only: what convolutions could reach if loads,
/// stores and requantising cost nothing. The best of some short rounds, 20 ms in all; None for the portable
/// kernels.
#[must_use]
pub fn peak(isa: Isa) -> Option<f64> {
    const ROUNDS: usize = 10;
    /// Steps of a round, about 2 ms.
    const STEPS: usize = 200_000;
    let once = |_| {
        let from = std::time::Instant::now();
        isa.spin(STEPS).map(|macs| macs as f64 / from.elapsed().as_secs_f64())
    };
    (0..ROUNDS).filter_map(once).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests;
