//! What a training learns from: features of pictures, and cells of the reference set.

use super::TuningError;
use super::features::{FeatureExtractor, PictureFeatures};
use super::hooks::LabelSource;
use super::reference::Reference;
use crate::model::ClassLayer;
use sha2::{Digest, Sha256};

/// Features of labelled pictures of one model, with the reference set that keeps the old classes.
#[derive(Debug, Clone)]
pub struct TrainingSet {
    /// Per picture.
    pub pictures: Vec<PictureFeatures>,
    /// Step and code of 0.0 of each level's features.
    pub codes: Vec<(f32, i32)>,
    /// Channels of a cell.
    pub inputs: usize,
    /// Kept from pictures of before; empty: nothing is.
    pub reference: Reference,
}

impl TrainingSet {
    /// An empty set for a model with the last class layer `layer`.
    #[must_use]
    pub fn new(layer: &ClassLayer) -> Self {
        let codes =
            |level: &crate::model::ClassLevel| (level.input_codes.scale, level.input_codes.zero_point);
        Self {
            pictures: Vec::new(),
            codes: layer.levels.iter().map(codes).collect(),
            inputs: layer.inputs,
            reference: Reference::empty(layer),
        }
    }

    /// Takes the features of all pictures that `source` gives.
    ///
    /// # Errors
    /// [`TuningError`] of the first picture or label that cannot be used; [`TuningError::Nothing`] if there
    /// is none.
    pub fn gather(
        extractor: &mut FeatureExtractor,
        source: &mut dyn LabelSource,
    ) -> Result<Self, TuningError> {
        let mut set = Self::new(extractor.layer());
        while let Some(picture) = source.next()? {
            set.pictures.push(extractor.extract(&picture)?);
        }
        if set.pictures.is_empty() {
            return Err(TuningError::Nothing("no labelled pictures: there is nothing to learn from".into()));
        }
        Ok(set)
    }

    /// Digest of everything in the set.
    pub(super) fn sha256(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for picture in &self.pictures {
            digest.update(picture.weight.to_le_bytes());
        }
        for level in self.pictures.iter().flat_map(|picture| &picture.levels) {
            digest.update((level.codes.len() as u64).to_le_bytes());
            digest.update(&level.codes);
            for p in &level.positives {
                digest.update(p.cell.to_le_bytes());
                digest.update([p.anchor, p.quality]);
                digest.update(p.class.to_le_bytes());
            }
            for (cell, anchor) in &level.ignored {
                digest.update(cell.to_le_bytes());
                digest.update([255, *anchor]);
            }
            for alarm in &level.false_alarms {
                digest.update(alarm.cell.to_le_bytes());
                digest.update([254, alarm.anchor]);
                digest.update(alarm.class.to_le_bytes());
            }
        }
        digest.update(self.reference.sha256());
        digest.finalize().into()
    }
}
