//! Labels of your own: `cargo run --release --example own_labels`.
//!
//! Pictures come with lines of text instead of a COCO file. Anything that gives a picture with its boxes is a
//! source: a database, a folder of another tool, the verdicts of a person.

use retinad::capture::read_picture;
use retinad::model::ModelFile;
use retinad::tuning::hooks::{LabelSource, LabelledPicture, Rest, Truth};
use retinad::tuning::{FeatureExtractor, TrainingSet, TuningError};
use std::path::{Path, PathBuf};

/// A picture a line: its file, then five words a box: label and edges in pixels.
const TEXT: &str = "\
coffee.jpg cup 172 18 412 308
chelsea.jpg cat 2 5 409 300
astronaut.jpg person 9 13 367 512";

struct Lines {
    folder: PathBuf,
    labels: Vec<String>,
    lines: std::str::Lines<'static>,
}

impl LabelSource for Lines {
    fn next(&mut self) -> Result<Option<LabelledPicture>, TuningError> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        let refuse = |reason: String| TuningError::Labels { path: line.into(), reason };
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, boxes) = words.split_first().ok_or_else(|| refuse("an empty line".into()))?;
        let mut truths = Vec::new();
        for part in boxes.chunks(5) {
            let [label, edges @ ..] = part else { continue };
            let class = self.labels.iter().position(|known| known == label);
            let class = class.ok_or_else(|| refuse(format!("`{label}` is no class")))?;
            let edges: Vec<f32> = edges.iter().filter_map(|edge| edge.parse().ok()).collect();
            let bbox = edges.try_into().map_err(|_| refuse("a box needs four numbers".into()))?;
            truths.push(Truth { class, bbox, ignore: false });
        }
        let picture = read_picture(&self.folder.join(name)).map_err(refuse)?;
        Ok(Some(LabelledPicture {
            name: (*name).into(),
            picture,
            truths,
            rest: Rest::Background,
            false_alarms: Vec::new(),
        }))
    }
}

/// Public, so that a test can run it.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = ModelFile::read(&root.join("models/retinad-m-320-int8.onnx"))?;
    let mut labels = file.manifest()?.labels();
    labels.push("cup".into());
    let mut extractor = FeatureExtractor::new(&file, labels.len(), 1)?;
    let folder = root.join("examples/pictures");
    let mut source = Lines { folder, labels: labels.clone(), lines: TEXT.lines() };
    let set = TrainingSet::gather(&mut extractor, &mut source)?;
    for (line, picture) in TEXT.lines().zip(&set.pictures) {
        let levels = picture.levels.iter();
        let anchors: usize = levels.clone().map(|level| level.positives.len()).sum();
        let bytes: usize = levels.map(|level| level.codes.len()).sum();
        println!("{line}: {anchors} anchors learn from it, {bytes} bytes of features");
    }
    Ok(())
}
