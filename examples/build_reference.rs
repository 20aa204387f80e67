//! Builds a reference set, which keeps old classes while new ones are learned:
//! `cargo run --release --example build_reference -- LABELS.json PICTURES OUT [COUNT [MODEL]]`.
//!
//! LABELS.json is in COCO form and holds every object of the model's classes; at most COUNT of its pictures are
//! used. Without arguments the demo pictures are, and the file goes to the folder for temporary files. It is for
//! the shipped model, or for MODEL.

use retinad::model::ModelFile;
use retinad::tuning::hooks::LabelSource;
use retinad::tuning::reference::{MAX_BYTES, ReferenceBuilder};
use retinad::tuning::{CocoFolder, FeatureExtractor};
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |at: usize| words.get(at).map(String::as_str);
    let demo = root.join("examples/pictures");
    let annotations = word(0).map_or_else(|| demo.join("annotations.json"), PathBuf::from);
    let pictures = word(1).map_or_else(|| demo.clone(), PathBuf::from);
    let out = word(2).map_or_else(|| std::env::temp_dir().join("retinad-reference"), PathBuf::from);
    let count: usize = word(3).map_or(Ok(usize::MAX), str::parse)?;

    let model = word(4).map_or_else(|| root.join("models/retinad-m-320-int8.onnx"), PathBuf::from);

    let file = ModelFile::read(&model)?;
    let labels = file.manifest()?.labels();
    let mut source = CocoFolder::read(&annotations, &pictures, &labels)?;
    let mut extractor = FeatureExtractor::new(&file, labels.len(), 1)?;
    let mut builder = ReferenceBuilder::new(extractor.layer(), labels.len(), MAX_BYTES, 0);
    let mut done = 0;
    while done < count
        && let Some(picture) = source.next()?
    {
        builder.offer(&extractor.extract(&picture)?);
        done += 1;
    }
    let reference = builder.finish();
    reference.write(&out)?;
    let positives = reference.cells.iter().filter(|cell| !cell.positives.is_empty()).count();
    let cells = reference.cells.len();
    println!("{}: {cells} cells of {done} pictures, {positives} with an object", out.display());
    Ok(())
}
