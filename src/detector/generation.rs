//! A generation: one loaded and checked model, with the number that outcomes carry to say which model judged
//! them.

use crate::caught::caught;
use crate::engine::{Arithmetic, Engine};
use crate::model::{Manifest, ModelError, ModelFile, one_line};
use crate::retinanet::anchors::{self, Level};
use std::path::Path;
use std::sync::Arc;

/// A loaded and checked model; shared by all workers. It lives as long as anybody runs it or reads its
/// labels.
pub struct Generation {
    /// Counts the models of this process from 0; given by whoever loads.
    pub number: u64,
    /// The file it was read from, for messages.
    pub path: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Labels per class; unused classes are empty.
    pub labels: Vec<String>,
    /// The manifest.
    pub manifest: Manifest,
    pub(super) engine: Engine,
    pub(super) levels: Vec<Level>,
    /// From the bytes of red, green and blue to real values of the input.
    pub(super) table: Box<[[f32; 256]; 3]>,
    /// From bytes to the input's codes, where the engine takes codes.
    pub(super) code_table: Option<Box<[[u8; 256]; 3]>>,
}

impl Generation {
    /// Reads, checks and loads the model file at `path` as generation `number`.
    ///
    /// # Errors
    /// [`ModelError`]: exit code 78. A panic on a file that nobody expected is [`ModelError::Graph`].
    pub fn load(path: &Path, number: u64) -> Result<Arc<Self>, ModelError> {
        Self::load_as(path, number, Arithmetic::Best)
    }

    /// As [`Generation::load`], in a given arithmetic.
    ///
    /// # Errors
    /// [`ModelError`]; also where the model cannot run in it.
    pub fn load_as(path: &Path, number: u64, arithmetic: Arithmetic) -> Result<Arc<Self>, ModelError> {
        let load = || Self::from_file(&ModelFile::read(path)?, number, arithmetic);
        caught(load).unwrap_or_else(|words| Err(panicked(path, &words)))
    }

    /// As [`Generation::load_as`], from a file in memory.
    ///
    /// # Errors
    /// [`ModelError`]. A panic is not caught.
    pub fn from_file(file: &ModelFile, number: u64, arithmetic: Arithmetic) -> Result<Arc<Self>, ModelError> {
        let manifest = file.manifest()?.clone();
        // The graph's shapes bound the levels, and with them the memory of their anchors.
        let engine = Engine::load(file, arithmetic)?;
        let levels = checked_levels(&manifest, &file.path)?;
        let table = Box::new(real_table(&manifest));
        let code_table =
            engine.input_quantisation().map(|quantisation| Box::new(coded(&table, quantisation)));
        let (path, sha256, labels) = (file.path.clone(), file.sha256.clone(), manifest.labels());
        Ok(Arc::new(Self { number, path, sha256, labels, manifest, engine, levels, table, code_table }))
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

    /// Whether every node runs in INT8, so that every machine gives the same heads.
    #[must_use]
    pub fn is_whole_int8(&self) -> bool {
        self.code_table.is_some() && self.engine.leftovers().is_empty()
    }
}

fn panicked(path: &Path, words: &str) -> ModelError {
    let path = one_line(&path.display().to_string());
    ModelError::Graph { path, reason: format!("panicked while it was loaded: {words}") }
}

fn levels(manifest: &Manifest) -> Vec<Level> {
    let level = |level: &crate::model::Level| Level {
        stride_yx: level.stride_yx,
        feature_hw: level.feature_hw,
        base: level.base.clone(),
    };
    manifest.anchors.levels.iter().map(level).collect()
}

/// What `anchors.sha256` of a manifest has to be. It takes 16 bytes for each anchor that the levels list.
#[must_use]
pub fn anchors_sha256(manifest: &Manifest) -> String {
    anchors::sha256(&anchors::anchors(&levels(manifest), manifest.anchors.offset))
}

/// The anchors' levels, if they give the anchors that the manifest's hash was taken over.
fn checked_levels(manifest: &Manifest, path: &str) -> Result<Vec<Level>, ModelError> {
    let levels = levels(manifest);
    let Some(promised) = &manifest.anchors.sha256 else { return Ok(levels) };
    let sha256 = anchors::sha256(&anchors::anchors(&levels, manifest.anchors.offset));
    if sha256 == *promised {
        return Ok(levels);
    }
    Err(ModelError::Manifest {
        path: path.to_owned(),
        field: "anchors.sha256".into(),
        reason: one_line(&format!("{promised}, but the listed base boxes and strides give {sha256}")),
    })
}

/// `[channel][byte]` to the real value of the input.
fn real_table(manifest: &Manifest) -> [[f32; 256]; 3] {
    let input = &manifest.input;
    let value = |channel: usize, byte: usize| {
        (byte as f32 * input.scale_to_unit - input.mean[channel]) / input.std[channel]
    };
    std::array::from_fn(|channel| std::array::from_fn(|byte| value(channel, byte)))
}

/// The table in codes, as QuantizeLinear makes them: divided by the scale, rounded to even, moved by the zero
/// point.
fn coded(table: &[[f32; 256]; 3], (scale, zero): (f32, i32)) -> [[u8; 256]; 3] {
    let code = |value: f32| ((value / scale).round_ties_even() + zero as f32).clamp(0.0, 255.0) as u8;
    table.map(|values| values.map(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_one_line_that_names_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/retinad-m-320-int8.onnx");
        let whole = std::fs::read(&shipped).expect("the shipped model");
        let file = ModelFile::read(&shipped).expect("the shipped model");
        let mut manifest = file.manifest().expect("a manifest").clone();
        manifest.anchors.levels[0].stride_yx = [9, 8];
        let other_anchors = file.with_manifest(&manifest).expect("written");
        let cases: [(&str, Option<&[u8]>); 6] = [
            ("vanished", None),
            ("empty", Some(b"")),
            ("text", Some(b"this is no model")),
            ("short", Some(&whole[..whole.len() / 3])),
            ("cut-at-the-end", Some(&whole[..whole.len() - 1])),
            ("anchors", Some(&other_anchors)),
        ];
        for (name, bytes) in cases {
            let path = folder.path().join(name);
            if let Some(bytes) = bytes {
                std::fs::write(&path, bytes).expect("written");
            }
            let error = Generation::load(&path, 1).err().expect("refused").to_string();
            assert!(error.lines().count() == 1 && error.contains(name), "{error}");
        }
        let error = Generation::load(folder.path(), 1).err().expect("refused").to_string();
        assert!(error.ends_with("a folder, must be a regular file"), "{error}");
    }

    #[test]
    fn a_panic_while_loading_is_an_error_of_one_line_that_names_the_file() {
        let words = caught(|| -> () { panic!("index out of\nbounds") }).expect_err("a panic");
        let error = panicked(Path::new("models/new.onnx"), &words).to_string();
        assert_eq!(
            error,
            "models/new.onnx: cannot be run: panicked while it was loaded: index out of bounds"
        );
    }
}
