//! Depthwise weights with the taps of a channel side by side, in the order in which unpacking leaves the
//! codes.

use super::pack::Layer;
use super::weights::{DEPTHWISE_BLOCK, Lines};

/// Place of a channel's weights, bias and multiplier; or the channel at a place, for it is its own inverse.
///
/// Unpacking works within 128-bit lanes, so that channel `16 * lane + 4 * quarter + rest` of a block of 64
/// comes to place `16 * quarter + 4 * lane + rest`.
pub fn place(channel: usize) -> usize {
    let (block, within) = (channel / DEPTHWISE_BLOCK * DEPTHWISE_BLOCK, channel % DEPTHWISE_BLOCK);
    let (lane, quarter, rest) = (within / 16, within % 16 / 4, within % 4);
    block + 16 * quarter + 4 * lane + rest
}

/// Weights of `together` taps in four bytes: four of 8 bits or two of 16.
pub fn weights(layer: &Layer<'_>, together: usize) -> Lines {
    let padded = layer.rows.len().next_multiple_of(DEPTHWISE_BLOCK);
    let groups = layer.shape.taps().div_ceil(together);
    let mut lines = Lines::zeroed(groups * 4 * padded);
    for (channel, row) in layer.rows.iter().enumerate() {
        let (block, within) = (place(channel) / DEPTHWISE_BLOCK, place(channel) % DEPTHWISE_BLOCK);
        for (tap, &weight) in row.iter().enumerate() {
            let four = (block * groups + tap / together) * DEPTHWISE_BLOCK + within;
            if together == 4 {
                lines.set(four * 4 + tap % 4, weight);
            } else {
                lines.set_word(four * 4 + tap % 2 * 2, weight.into());
            }
        }
    }
    lines
}
