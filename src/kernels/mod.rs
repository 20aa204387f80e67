//! INT8 arithmetic on slices, by instruction set. Nothing here knows a graph, a model or a tensor type.
//!
//! One definition of the arithmetic (`README.md` here), and every instruction set gives the scalar oracle's bytes: sums in i32, requantised
//! in f32 with one rounding to even, clamped first. Activations are codes of 0 to 255 in NHWC planes, weights are -128 to 127. A plane
//! holds codes as its instruction set multiplies them: [`Isa::flip`].

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod pack;
mod plane;
mod scalar;
mod weights;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use pack::ConvWeights;
pub use plane::{Geometry, View, ViewMut};
pub use weights::{ConvShape, PackError, PackedConv, PackedDepthwise, Requantise};

#[cfg(target_arch = "aarch64")]
use aarch64::{neon, neon_codes, neon_depthwise, neon_dotprod, neon_dotprod_depthwise, neon_winograd};
use pack::Order;
use plane::Window;
#[cfg(target_arch = "x86_64")]
use x86_64::{avx_vnni, avx2, avx2_codes, avx2_depthwise, avx512_vnni};

/// An instruction set for which there are kernels, as a token: one that exists is one that this CPU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Scalar,
    /// Widening to 16 bits: exact, no saturating step.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 with dot products.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// With VNNI, BW, VL and VBMI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// Without dot products.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// With dot products.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl Isa {
    /// Portable: the oracle.
    pub const SCALAR: Self = Self(Set::Scalar);

    /// Those this CPU has, the best last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "only the oracle on other architectures")]
        let mut found = vec![Self::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                found.push(Self(Set::Avx2));
                if is_x86_feature_detected!("avxvnni") {
                    found.push(Self(Set::AvxVnni));
                }
            }
            let vnni = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("avx512vbmi");
            if vnni {
                found.push(Self(Set::Avx512Vnni));
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            // Part of every 64-bit ARM.
            found.push(Self(Set::Neon));
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push(Self(Set::NeonDot));
            }
        }
        found
    }

    /// The best this CPU has.
    #[must_use]
    pub fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self::SCALAR)
    }

    /// The set of a name, where this CPU has it.
    ///
    /// # Errors
    /// The names that this CPU has.
    pub fn named(name: &str) -> Result<Self, String> {
        let available = Self::available();
        let names: Vec<&str> = available.iter().map(|isa| isa.name()).collect();
        let found = names.iter().position(|known| *known == name);
        found.map(|i| available[i]).ok_or_else(|| format!("`{name}` is not an instruction set of this CPU; it has {}", names.join(", ")))
    }

    /// In which order it reads weights.
    fn order(self) -> Order {
        match self.0 {
            Set::Scalar => Order::Plain,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => Order::Wide,
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni | Set::Avx512Vnni => Order::Fours,
            #[cfg(target_arch = "aarch64")]
            Set::Neon => Order::Pairs,
            #[cfg(target_arch = "aarch64")]
            Set::NeonDot => Order::Fours,
        }
    }

    /// What codes are XORed with in planes of this set: ARM multiplies bytes of one kind, so its codes are stored as s8, moved down by 128.
    /// Zero points, ranges and arithmetic are those of the codes themselves; tables are of codes as they are stored.
    #[must_use]
    pub fn flip(self) -> u8 {
        match self.0 {
            #[cfg(target_arch = "aarch64")]
            Set::Neon | Set::NeonDot => 0x80,
            _ => 0,
        }
    }

    /// Its name, as `retinad check` and `bench` print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Set::NeonDot => "neon-dotprod",
        }
    }
}

/// Convolution of any kernel size, all channels with all: a sum over taps of matrix products at shifted addresses.
///
/// # Panics
/// If a plane does not hold what its geometry says, the shapes disagree, or the weights were packed for another instruction set; the engine
/// checks at load.
pub fn conv(isa: Isa, weights: &PackedConv, input: &View<'_>, output: &mut ViewMut<'_>) {
    let window = Window::new(weights.shape(), input, output);
    weights.check(isa, input.channels, output.channels);
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Vnni => avx512_vnni::conv_avx512(weights, &window, input, output),
        #[cfg(target_arch = "x86_64")]
        Set::AvxVnni => avx_vnni::conv_avx_vnni(weights, &window, input, output),
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => match &weights.wide {
            Some(wide) => avx2::conv(weights, wide, &window, input, output),
            // A row too long for its memory.
            None => scalar::conv(weights, &window, input, output),
        },
        #[cfg(target_arch = "aarch64")]
        Set::Neon if !weights.winograd.is_empty() => neon_winograd::conv(weights, &window, input, output),
        #[cfg(target_arch = "aarch64")]
        Set::Neon => neon::conv(weights, &window, input, output),
        #[cfg(target_arch = "aarch64")]
        Set::NeonDot => neon_dotprod::conv(weights, &window, input, output),
        Set::Scalar => scalar::conv(weights, &window, input, output),
    }
}

/// Depthwise convolution: each channel with itself.
///
/// # Panics
/// As [`conv`].
pub fn depthwise(isa: Isa, weights: &PackedDepthwise, input: &View<'_>, output: &mut ViewMut<'_>) {
    let window = Window::new(weights.shape(), input, output);
    weights.check(isa, input.channels, output.channels);
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Vnni => avx512_vnni::depthwise_avx512(weights, &window, input, output),
        #[cfg(target_arch = "x86_64")]
        Set::AvxVnni => avx_vnni::depthwise_avx_vnni(weights, &window, input, output),
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => avx2_depthwise::depthwise(weights, &window, input, output),
        #[cfg(target_arch = "aarch64")]
        Set::Neon => neon_depthwise::depthwise(weights, &window, input, output),
        #[cfg(target_arch = "aarch64")]
        Set::NeonDot if !weights.quads.is_empty() => neon_dotprod_depthwise::depthwise(weights, &window, input, output),
        #[cfg(target_arch = "aarch64")]
        Set::NeonDot => neon_depthwise::depthwise(weights, &window, input, output),
        Set::Scalar => scalar::depthwise(weights, &window, input, output),
    }
}

/// Maximum over a window; padding is the lowest code.
///
/// # Panics
/// As [`conv`].
pub fn max_pool(isa: Isa, shape: ConvShape, input: &View<'_>, output: &mut ViewMut<'_>) {
    let window = Window::new(shape, input, output);
    assert!(input.channels == output.channels, "planes of different channels");
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Vnni => avx512_vnni::max_pool_avx512(&window, input, output),
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 | Set::AvxVnni => avx2_codes::max_pool(&window, input, output),
        #[cfg(target_arch = "aarch64")]
        Set::Neon | Set::NeonDot => neon_codes::max_pool(&window, input, output),
        Set::Scalar => scalar::max_pool(&window, input, output),
    }
}

/// Codes moved from plane to plane, through `table` where their scales differ; with `twice` each pixel is written four times (nearest
/// upsampling).
///
/// # Panics
/// As [`conv`].
pub fn copy(isa: Isa, table: Option<&[u8; 256]>, twice: bool, input: &View<'_>, output: &mut ViewMut<'_>) {
    let translate = translation(isa);
    scalar::copy(translate, table, twice, input, output);
}

/// Channels of `a` and `b` in turn: a concatenation followed by a channel shuffle with two groups.
///
/// # Panics
/// As [`conv`].
pub fn zip(isa: Isa, tables: [Option<&[u8; 256]>; 2], a: &View<'_>, b: &View<'_>, output: &mut ViewMut<'_>) {
    let interleave: Interleave = match isa.0 {
        #[cfg(target_arch = "aarch64")]
        Set::Neon | Set::NeonDot => neon_codes::interleave,
        _ => scalar::interleave,
    };
    scalar::zip(translation(isa), interleave, tables, a, b, output);
}

/// Multiply-adds a second of one core in a loop of registers only: what convolutions could reach if loads, stores and requantising cost
/// nothing. The best of some short rounds, 20 ms in all; `None` for the portable set.
#[must_use]
pub fn peak(isa: Isa) -> Option<f64> {
    const ROUNDS: usize = 10;
    /// Steps of a round, about 2 ms.
    const STEPS: usize = 200_000;
    let round: fn(usize) -> u64 = match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Vnni => avx512_vnni::spin_avx512,
        #[cfg(target_arch = "x86_64")]
        Set::AvxVnni => avx_vnni::spin_avx_vnni,
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => avx2::spin_avx2,
        #[cfg(target_arch = "aarch64")]
        Set::Neon => neon::spin,
        #[cfg(target_arch = "aarch64")]
        Set::NeonDot => neon_dotprod::spin,
        Set::Scalar => return None,
    };
    let once = || {
        let from = std::time::Instant::now();
        let macs = round(STEPS);
        macs as f64 / from.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| once()).max_by(f64::total_cmp)
}

/// How two summands become one.
#[derive(Debug, Clone, Copy)]
pub struct Sum {
    /// Zero points of the summands.
    pub zeros: [i32; 2],
    /// Their scales, divided by the result's.
    pub multipliers: [f32; 2],
    /// The result's zero point, and its range of codes.
    pub zero: i32,
    /// Lowest and highest code.
    pub range: [i32; 2],
}

/// `rte(clamp((a - za) * Ma + (b - zb) * Mb)) + z`, each step in f32.
///
/// # Panics
/// As [`conv`].
pub fn add(isa: Isa, sum: &Sum, a: &View<'_>, b: &View<'_>, output: &mut ViewMut<'_>) {
    assert!(a.channels == output.channels && b.channels == output.channels, "planes of different channels");
    let add: AddCodes = match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Vnni => avx512_vnni::add_avx512,
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 | Set::AvxVnni => avx2_codes::add,
        #[cfg(target_arch = "aarch64")]
        Set::Neon | Set::NeonDot => neon_codes::add_codes,
        Set::Scalar => scalar::add_codes,
    };
    scalar::add(add, sum, a, b, output);
}

/// Adds the codes of one pixel.
type AddCodes = fn(&Sum, &[u8], &[u8], &mut [u8]);

/// Writes codes of two slices in turn.
type Interleave = fn(&[u8], &[u8], &mut [u8]);

/// Puts codes through a table in place.
type Translate = fn(&[u8; 256], &[u8], &mut [u8]);

fn translation(isa: Isa) -> Translate {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Vnni => avx512_vnni::translate_avx512,
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 | Set::AvxVnni => avx2_codes::translate,
        #[cfg(target_arch = "aarch64")]
        Set::Neon | Set::NeonDot => neon_codes::translate,
        Set::Scalar => scalar::translate,
    }
}

#[cfg(test)]
mod tests;
