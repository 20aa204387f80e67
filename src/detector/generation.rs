//! A loaded model: the manifest, the engine, and the tables from bytes to the input.

use crate::engine::{Arithmetic, Engine};
use crate::model::{Manifest, ModelError, ModelFile};
use crate::retinanet::anchors::{self, Level};
use std::path::Path;
use std::sync::Arc;

/// A loaded and checked model; shared by all workers.
pub struct DetectorModel {
    /// Labels per class; unused classes are empty.
    pub labels: Vec<String>,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// The manifest.
    pub manifest: Manifest,
    pub(super) engine: Engine,
    pub(super) levels: Vec<Level>,
    pub(super) table: Box<[[f32; 256]; 3]>,
    /// From bytes to the input's codes, where the engine takes codes.
    pub(super) code_table: Option<Box<[[u8; 256]; 3]>>,
}

impl DetectorModel {
    /// Reads, checks and loads the model file.
    ///
    /// # Errors
    /// [`ModelError`]: exit code 78.
    pub fn load(path: &Path) -> Result<Arc<Self>, ModelError> {
        Self::load_as(path, Arithmetic::Best)
    }

    /// As [`DetectorModel::load`], in a given arithmetic.
    ///
    /// # Errors
    /// [`ModelError`]; also where the model cannot run in it.
    pub fn load_as(path: &Path, arithmetic: Arithmetic) -> Result<Arc<Self>, ModelError> {
        let file = ModelFile::read(path)?;
        let manifest = file.manifest()?.clone();
        let levels: Vec<Level> = manifest
            .anchors
            .levels
            .iter()
            .map(|level| Level { stride_yx: level.stride_yx, feature_hw: level.feature_hw, base: level.base.clone() })
            .collect();
        let sha256 = anchors::sha256(&anchors::anchors(&levels, manifest.anchors.offset));
        if sha256 != manifest.anchors.sha256 {
            return Err(ModelError::Manifest {
                path: file.path,
                field: "anchors.sha256".into(),
                reason: format!("{}, but the listed base boxes and strides give {sha256}", manifest.anchors.sha256),
            });
        }
        let engine = Engine::load(&file, arithmetic)?;
        let input = &manifest.input;
        let mut table = Box::new([[0.0; 256]; 3]);
        for (channel, values) in table.iter_mut().enumerate() {
            for (byte, value) in values.iter_mut().enumerate() {
                *value = (byte as f32 * input.scale_to_unit - input.mean[channel]) / input.std[channel];
            }
        }
        let code_table = engine.input_quantisation().map(|(scale, zero)| {
            // As QuantizeLinear does it: divided, rounded to even, moved.
            let code = |value: f32| ((value / scale).round_ties_even() + zero as f32).clamp(0.0, 255.0) as u8;
            Box::new(table.map(|values| values.map(code)))
        });
        Ok(Arc::new(Self { labels: manifest.labels(), sha256: file.sha256, engine, levels, table, code_table, manifest }))
    }

    /// What the model runs in, for people.
    #[must_use]
    pub fn arithmetic(&self) -> String {
        self.engine.arithmetic()
    }

    /// Nodes that run in float within an INT8 model: operator, name and why.
    #[must_use]
    pub fn leftovers(&self) -> Vec<&str> {
        self.engine.leftovers()
    }
}
