//! The self-test of a model: a built-in picture, detected on twice, before the model sees a camera's.

use super::{DetectError, Detector, Generation};
use crate::caught::caught;
use crate::detection::{Detection, Heads, Tensor};
use crate::frame::{Encoding, RawFrame, Turn};
use crate::model::SelfTestPicture;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Why a model that loads is not to be used. Printed as one line; the model is named by whoever asked for the
/// test.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelfTestError {
    /// The picture gave no result.
    #[error("self-test: {0}")]
    Detect(#[from] DetectError),
    /// A head, a tap, a score or a box is NaN or infinite.
    #[error("self-test: {what} is not finite")]
    NotFinite {
        /// Which number.
        what: String,
    },
    /// The same picture gave two results.
    #[error("self-test: the same picture gave other {what} the second time")]
    Unsteady {
        /// `heads` or `detections`.
        what: &'static str,
    },
    /// The heads are not those that the manifest promises.
    #[error("self-test: the heads' SHA-256 is {found}, but self_test.heads_sha256 is {expected}")]
    Heads {
        /// Of this run.
        found: String,
        /// The manifest's.
        expected: String,
    },
    /// The model panicked.
    #[error("self-test: panicked: {0}")]
    Panicked(String),
}

impl Generation {
    /// Tries the model: a detector with `threads` threads detects on the built-in picture twice. Both results
    /// must be finite and equal; and where the manifest has `self_test` and the model runs wholly in INT8,
    /// the heads must be those it promises.
    ///
    /// # Errors
    /// [`SelfTestError`]; a panic is one too.
    pub fn self_test(self: &Arc<Self>, threads: usize) -> Result<(), SelfTestError> {
        let heads = self.steady_heads(threads)?;
        let Some(promise) = &self.manifest.self_test else { return Ok(()) };
        if !self.is_whole_int8() {
            return Ok(());
        }
        let (found, expected) = (heads_sha256(&heads), promise.heads_sha256.clone());
        if found == expected { Ok(()) } else { Err(SelfTestError::Heads { found, expected }) }
    }

    /// What the manifest's `self_test.heads_sha256` has to be for this model; `None` if it does not run
    /// wholly in INT8, where float arithmetic makes the heads differ from machine to machine.
    ///
    /// # Errors
    /// As [`Generation::self_test`].
    pub fn heads_sha256(self: &Arc<Self>, threads: usize) -> Result<Option<String>, SelfTestError> {
        let heads = self.steady_heads(threads)?;
        Ok(self.is_whole_int8().then(|| heads_sha256(&heads)))
    }

    /// The heads of the built-in picture, finite and twice the same. A panic is an error.
    fn steady_heads(self: &Arc<Self>, threads: usize) -> Result<Heads, SelfTestError> {
        caught(|| self.detect_twice(threads)).unwrap_or_else(|words| Err(SelfTestError::Panicked(words)))
    }

    fn detect_twice(self: &Arc<Self>, threads: usize) -> Result<Heads, SelfTestError> {
        let input = &self.manifest.input;
        let picture = picture(SelfTestPicture::Retinad1, input.width, input.height);
        let mut detector = Detector::new(self, threads)?;
        let mut detect = || -> Result<(Vec<Detection>, Heads), SelfTestError> {
            let found = detector.detect(&picture, 0.0, &mut Default::default())?;
            Ok((found, detector.heads().clone()))
        };
        let (first, second) = (detect()?, detect()?);
        check_finite(&first.1, &first.0)?;
        if first.1 != second.1 {
            return Err(SelfTestError::Unsteady { what: "heads" });
        }
        if first.0 != second.0 {
            return Err(SelfTestError::Unsteady { what: "detections" });
        }
        Ok(first.1)
    }
}

/// The built-in picture in the size of the input, so that no scaler stands between it and the heads.
///
/// `retinad-1`: red rises from left to right, green from top to bottom, blue along both; then rectangles in
/// fixed parts of the sides. Whole numbers only, so that every machine makes the same bytes.
fn picture(which: SelfTestPicture, width: u32, height: u32) -> RawFrame {
    let SelfTestPicture::Retinad1 = which;
    let part = |at: u32, side: u32| (at * 255 / (side - 1)) as u8;
    let mut data = Vec::with_capacity(3 * width as usize * height as usize);
    for y in 0..height {
        for x in 0..width {
            let (across, down) = (part(x, width), part(y, height));
            let inside = |edges: &[u8; 4]| {
                (edges[0]..edges[2]).contains(&across) && (edges[1]..edges[3]).contains(&down)
            };
            let rectangle = RECTANGLES.iter().rev().find(|(edges, _)| inside(edges));
            data.extend(rectangle.map_or([across, down, across / 2 + down / 2], |(_, colour)| *colour));
        }
    }
    RawFrame { width, height, encoding: Encoding::Rgb, turn: Turn::NONE, data }
}

/// Edges `x1 y1 x2 y2` in 255ths of the sides, and colour; a later one covers an earlier one. Large and
/// small, upright and lying, bright and dark, so that every level of the pyramid sees edges.
const RECTANGLES: [([u8; 4], [u8; 3]); 7] = [
    ([20, 30, 110, 200], [200, 40, 40]),
    ([45, 55, 85, 95], [240, 200, 170]),
    ([130, 20, 235, 80], [30, 60, 180]),
    ([140, 110, 190, 240], [20, 20, 20]),
    ([205, 130, 220, 145], [250, 250, 250]),
    ([205, 160, 245, 170], [60, 160, 70]),
    ([60, 215, 66, 221], [255, 255, 0]),
];

fn check_finite(heads: &Heads, found: &[Detection]) -> Result<(), SelfTestError> {
    let fails = |what: String| Err(SelfTestError::NotFinite { what });
    let finite =
        |tensor: &Tensor| tensor.scale.is_finite() && tensor.values.iter().all(|value| value.is_finite());
    for (level, (class, bbox)) in heads.levels.iter().enumerate() {
        for (name, tensor) in [("class", class), ("box", bbox)] {
            if !finite(tensor) {
                return fails(format!("the {name} output of level {level}"));
            }
        }
    }
    if let Some(level) = heads.objects.iter().position(|tensor| !finite(tensor)) {
        return fails(format!("the object output of level {level}"));
    }
    if let Some(tap) = heads.taps.iter().position(|tensor| !finite(tensor)) {
        return fails(format!("tap {tap}"));
    }
    match found.iter().position(|d| !d.score.is_finite() || !d.bbox.iter().all(|side| side.is_finite())) {
        Some(at) => fails(format!("detection {at}")),
        None => Ok(()),
    }
}

/// Digest of all head codes: per level class, then box, then of all levels what the classes are multiplied by, each
/// in `c, y, x` order.
fn heads_sha256(heads: &Heads) -> String {
    let mut digest = Sha256::new();
    let levels = heads.levels.iter().flat_map(|(class, bbox)| [class, bbox]);
    for tensor in levels.chain(&heads.objects) {
        digest.update(tensor.planar_codes());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
