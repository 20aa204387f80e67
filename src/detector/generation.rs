//! A generation: one loaded and checked model, with the number that outcomes carry to say which model judged
//! them.

use crate::caught::caught;
use crate::engine::{Arithmetic, Engine};
use crate::memory::give_back;
use crate::model::{Manifest, ModelError, ModelFile, one_line};
use crate::retinanet::anchors::{self, Level};
use crate::settings::InputSize;
use std::path::Path;
use std::sync::{Arc, OnceLock};

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
    /// At the manifest's own size.
    pub(super) own: Plan,
    further: Vec<FurtherPlan>,
    /// What further plans are made from, where there are any.
    source: Option<ModelFile>,
    /// From the bytes of red, green and blue to real values of the input.
    pub(super) table: Box<[[f32; 256]; 3]>,
    /// From bytes to the input's codes, where the engine takes codes.
    pub(super) code_table: Option<Box<[[u8; 256]; 3]>>,
}

/// How the model runs at one size of its input.
pub(super) struct Plan {
    pub engine: Engine,
    pub levels: Vec<Level>,
    /// Width and height in pixels.
    pub size: [u32; 2],
}

impl Plan {
    fn new(file: &ModelFile, arithmetic: Arithmetic) -> Result<Self, ModelError> {
        let manifest = file.manifest()?;
        // The graph's shapes bound the levels, and with them the memory of their anchors.
        let engine = Engine::load(file, arithmetic)?;
        let levels = checked_levels(manifest, &file.path)?;
        Ok(Self { engine, levels, size: [manifest.input.width, manifest.input.height] })
    }
}

/// A plan for another size, made when the first picture of its shape comes.
struct FurtherPlan {
    size: [u32; 2],
    plan: OnceLock<Result<Plan, String>>,
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

    /// As [`Generation::load`], with the size of the input that the settings ask for. Of those that the manifest
    /// lists, [`InputSize::Auto`] takes for each picture the one that is nearest to its shape.
    ///
    /// # Errors
    /// [`ModelError`]; [`ModelError::Size`] if the model does not have the size.
    pub fn load_at(path: &Path, number: u64, input: InputSize) -> Result<Arc<Self>, ModelError> {
        let load = || Self::from_file_at(&ModelFile::read(path)?, number, input);
        let loaded = caught(load).unwrap_or_else(|words| Err(panicked(path, &words)));
        give_back();
        loaded
    }

    /// As [`Generation::load_at`], from a file in memory.
    ///
    /// # Errors
    /// As [`Generation::load_at`]. A panic is not caught.
    pub fn from_file_at(file: &ModelFile, number: u64, input: InputSize) -> Result<Arc<Self>, ModelError> {
        let manifest = file.manifest()?;
        let (own, further) = ([manifest.input.width, manifest.input.height], &manifest.input.sizes);
        match input {
            InputSize::Auto if further.is_empty() => Self::from_file(file, number, Arithmetic::Best),
            InputSize::Auto => {
                let mut generation = Self::made(file, number, Arithmetic::Best)?;
                let further = further.iter().map(|size| FurtherPlan { size: *size, plan: OnceLock::new() });
                generation.further = further.collect();
                generation.source = Some(file.clone());
                Ok(Arc::new(generation))
            }
            InputSize::Pixels(size) if size == own => Self::from_file(file, number, Arithmetic::Best),
            InputSize::Pixels(size) if further.contains(&size) => {
                let resized = file.at_size(size)?;
                Self::from_file(&resized, number, Arithmetic::Best)
            }
            InputSize::Pixels(asked) => {
                let allowed = std::iter::once(&own).chain(further).map(|[w, h]| format!("\"{w}x{h}\""));
                let allowed = allowed.collect::<Vec<_>>().join(", ");
                let asked = InputSize::Pixels(asked).to_string();
                Err(ModelError::Size { path: file.path.clone(), asked, allowed })
            }
        }
    }

    /// As [`Generation::load_as`], from a file in memory.
    ///
    /// # Errors
    /// [`ModelError`]. A panic is not caught.
    pub fn from_file(file: &ModelFile, number: u64, arithmetic: Arithmetic) -> Result<Arc<Self>, ModelError> {
        Self::made(file, number, arithmetic).map(Arc::new)
    }

    fn made(file: &ModelFile, number: u64, arithmetic: Arithmetic) -> Result<Self, ModelError> {
        let manifest = file.manifest()?.clone();
        let own = Plan::new(file, arithmetic)?;
        let table = Box::new(real_table(&manifest));
        let code_table =
            own.engine.input_quantisation().map(|quantisation| Box::new(coded(&table, quantisation)));
        let (path, sha256, labels) = (file.path.clone(), file.sha256.clone(), manifest.labels());
        let (further, source) = (Vec::new(), None);
        Ok(Self { number, path, sha256, labels, manifest, own, further, source, table, code_table })
    }

    /// The number of the plan, 0 for the own one, whose size is nearest in shape to a picture.
    pub(super) fn plan_for(&self, width: u32, height: u32) -> usize {
        let shape = |[width, height]: [u32; 2]| (f64::from(width.max(1)) / f64::from(height.max(1))).ln();
        let distance = |size: [u32; 2]| (shape(size) - shape([width, height])).abs();
        let sizes = std::iter::once(self.own.size).chain(self.further.iter().map(|further| further.size));
        let nearest = sizes.map(distance).enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        nearest.map_or(0, |(number, _)| number)
    }

    /// A plan by its number. The first time it is made, which takes as long as loading the model.
    pub(super) fn plan(&self, number: usize) -> Result<&Plan, String> {
        let Some(further) = number.checked_sub(1).and_then(|at| self.further.get(at)) else {
            return Ok(&self.own);
        };
        let made = || {
            let Some(file) = &self.source else { return Err("no file to plan from".to_owned()) };
            let made = || {
                let resized = file.at_size(further.size);
                resized.and_then(|file| Plan::new(&file, Arithmetic::Best)).map_err(|error| error.to_string())
            };
            let made = caught(made).unwrap_or_else(|words| Err(format!("{}: panicked: {words}", self.path)));
            give_back();
            made
        };
        further.plan.get_or_init(made).as_ref().map_err(String::clone)
    }

    /// How many sizes the input can have.
    pub(super) fn plans(&self) -> usize {
        1 + self.further.len()
    }

    /// What the model runs in, for people.
    #[must_use]
    pub fn arithmetic(&self) -> String {
        self.own.engine.arithmetic()
    }

    /// Nodes that run in float within an INT8 model: operator, name and why.
    #[must_use]
    pub fn leftovers(&self) -> Vec<&str> {
        self.own.engine.leftovers()
    }

    /// Whether every node runs in INT8, so that every machine gives the same heads.
    #[must_use]
    pub fn is_whole_int8(&self) -> bool {
        self.code_table.is_some() && self.own.engine.leftovers().is_empty()
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
    use crate::detector::Detector;
    use crate::frame::{Encoding, RawFrame, Turn};
    use std::path::PathBuf;

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

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/retinad-m-320-int8.onnx")
    }

    /// Half grey, half black.
    fn picture(width: u32, height: u32) -> RawFrame {
        let data = (0..3 * width * height).map(|at| if at % 64 < 32 { 128 } else { 0 }).collect();
        RawFrame { width, height, encoding: Encoding::Rgb, turn: Turn::NONE, data }
    }

    #[test]
    fn each_picture_is_seen_at_the_size_nearest_to_its_shape() {
        let auto = Generation::load_at(&shipped(), 1, InputSize::Auto).expect("loads");
        let mut detector = Detector::new(&auto, 1).expect("a detector");
        let mut cells = |width, height| {
            detector.detect(&picture(width, height), 0.3, &mut Default::default()).expect("detects");
            let classes = &detector.heads().levels[0].0;
            [classes.width, classes.height]
        };
        assert_eq!(cells(640, 360), [44, 36]);
        assert_eq!(cells(360, 640), [36, 44]);
        assert_eq!(cells(400, 400), [40, 40]);
        assert_eq!(cells(640, 480), [44, 36]);
        assert_eq!(cells(40, 2000), [36, 44]);
    }

    #[test]
    fn a_size_that_was_asked_for_is_used_for_all_pictures_and_says_what_auto_says() {
        let wide = InputSize::Pixels([352, 288]);
        let [auto, wide] = [InputSize::Auto, wide].map(|input| {
            let generation = Generation::load_at(&shipped(), 1, input).expect("loads");
            let mut detector = Detector::new(&generation, 1).expect("a detector");
            detector.detect(&picture(640, 360), 0.0, &mut Default::default()).expect("detects");
            (generation.sha256.clone(), detector.heads().clone())
        });
        assert_eq!(auto, wide);
        let other = Generation::load_at(&shipped(), 1, InputSize::Pixels([640, 384])).err().expect("refused");
        let line = other.to_string();
        let words = "detector.input: \"640x384\", must be \"auto\" or a size of";
        assert!(
            line.starts_with(words) && line.ends_with(": \"320x320\", \"352x288\", \"288x352\""),
            "{line}"
        );
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
