//! The oracle: portable, plain, and what every other instruction set must reproduce byte for byte.

use super::Sum;
use super::plane::Window;
use super::weights::{ConvForm, DepthwiseForm, FOREIGN_FORM, PackedConv, PackedDepthwise, Requantise};

/// Turns a sum into a code. It is clamped before the conversion, because conversions out of range differ
/// between CPUs.
fn code(sum: i32, multiplier: f32, requantise: &Requantise) -> u8 {
    let t = sum as f32 * multiplier;
    let t = t.max(requantise.slope * t);
    let [low, high] = requantise.range.map(|code| (code - requantise.zero) as f32);
    (t.clamp(low, high).round_ties_even() as i32 + requantise.zero) as u8
}

/// Convolution of weights in the form [`ConvForm::Plain`].
///
/// # Panics
/// If the weights are in another form.
pub fn conv(weights: &PackedConv, window: &mut Window<'_>) {
    let ConvForm::Plain(plain) = &weights.form else { unreachable!("{FOREIGN_FORM}") };
    let taps = weights.shape.taps();
    for (from, to) in window.pixels() {
        for channel in 0..weights.outputs {
            let mut sum = weights.bias[channel];
            for (tap, offset) in window.taps.iter().enumerate() {
                for input in 0..weights.inputs {
                    let weight = plain[(channel * weights.inputs + input) * taps + tap];
                    sum += i32::from(window.input[from + offset + input]) * i32::from(weight);
                }
            }
            let multiplier = weights.requantise.multipliers[channel];
            window.output[to + channel] = code(sum, multiplier, &weights.requantise);
        }
    }
}

/// Depthwise convolution of weights in the form [`DepthwiseForm::ByTap`].
///
/// # Panics
/// If the weights are in another form.
pub fn depthwise(weights: &PackedDepthwise, window: &mut Window<'_>) {
    let DepthwiseForm::ByTap(by_tap) = &weights.form else { unreachable!("{FOREIGN_FORM}") };
    for (from, to) in window.pixels() {
        for channel in 0..weights.channels {
            let mut sum = weights.bias[channel];
            for (tap, offset) in window.taps.iter().enumerate() {
                let weight = by_tap[tap * weights.padded_channels() + channel];
                sum += i32::from(window.input[from + offset + channel]) * i32::from(weight);
            }
            let multiplier = weights.requantise.multipliers[channel];
            window.output[to + channel] = code(sum, multiplier, &weights.requantise);
        }
    }
}

/// Largest code of each channel under the window.
pub fn max_pool(window: &mut Window<'_>) {
    let channels = window.outputs;
    for (from, to) in window.pixels() {
        let best = &mut window.output[to..to + channels];
        best.copy_from_slice(&window.input[from..from + channels]);
        for offset in &window.taps[1..] {
            for (best, &code) in best.iter_mut().zip(&window.input[from + offset..][..channels]) {
                *best = (*best).max(code);
            }
        }
    }
}

/// Codes of `from` through `table`.
pub fn translate(table: &[u8; 256], from: &[u8], to: &mut [u8]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = table[usize::from(from)];
    }
}

/// Codes of `a` and `b` in turn.
pub fn interleave(a: &[u8], b: &[u8], to: &mut [u8]) {
    for ((pair, &first), &second) in to.chunks_exact_mut(2).zip(a).zip(b) {
        pair.copy_from_slice(&[first, second]);
    }
}

/// Sums of the codes of `a` and `b`.
pub fn add(sum: &Sum, a: &[u8], b: &[u8], to: &mut [u8]) {
    let [low, high] = sum.range.map(|code| (code - sum.zero) as f32);
    for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
        let first = (i32::from(a) - sum.zeros[0]) as f32 * sum.multipliers[0];
        let second = (i32::from(b) - sum.zeros[1]) as f32 * sum.multipliers[1];
        *to = ((first + second).clamp(low, high).round_ties_even() as i32 + sum.zero) as u8;
    }
}
