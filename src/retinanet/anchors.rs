//! Anchors: the prior boxes that the head's rows refer to.
//!
//! Row `r` of a level is cell `(y, x)` and anchor `a` with `r = (y * width + x) * A + a`; boxes are `[x1,
//! y1, x2, y2]` in pixels of the network input. Built once per model from the manifest; nothing is derived
//! from the input size (`retinanet.md`, section 2).

use sha2::{Digest, Sha256};

/// The anchors of one pyramid level, as the manifest lists them.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// Pixels of the input from cell to cell, down and across.
    pub stride_yx: [u32; 2],
    /// Cells down and across.
    pub feature_hw: [usize; 2],
    /// Boxes around 0,0, in cell order.
    pub base: Vec<[f32; 4]>,
}

/// All anchors, per level in `y, x, a` order; `offset` is the first cell's centre, in cells. One f32
/// addition a coordinate.
#[must_use]
pub fn anchors(levels: &[Level], offset: f32) -> Vec<Vec<[f32; 4]>> {
    levels
        .iter()
        .map(|level| {
            let [sy, sx] = level.stride_yx.map(|s| s as f32);
            let [h, w] = level.feature_hw;
            let mut all = Vec::with_capacity(h * w * level.base.len());
            for y in 0..h {
                for x in 0..w {
                    let (dx, dy) = ((x as f32 + offset) * sx, (y as f32 + offset) * sy);
                    all.extend(level.base.iter().map(|b| [b[0] + dx, b[1] + dy, b[2] + dx, b[3] + dy]));
                }
            }
            all
        })
        .collect()
}

/// SHA-256 (hex) of all anchors as little-endian f32, `x1 y1 x2 y2`, in order.
#[must_use]
pub fn sha256(anchors: &[Vec<[f32; 4]>]) -> String {
    let mut hash = Sha256::new();
    for bbox in anchors.iter().flatten() {
        for v in bbox {
            hash.update(v.to_le_bytes());
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
