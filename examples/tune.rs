//! Tunes the shipped model on pictures of your own:
//! `cargo run --release --example tune -- LABELS.json PICTURES OUT.onnx [NEW,CLASSES] [all|new] [REFERENCE]`.
//!
//! LABELS.json is in COCO form, its categories named as the model's classes and the new ones. `new` trains the
//! outputs of new classes only, `all` every output, held by a reference set. Without arguments it learns "cup"
//! from the demo pictures. Time, and the most memory that was in use, are printed.

use retinad::atomic_file;
use retinad::model::ModelFile;
use retinad::retinanet::loss::Loss;
use retinad::tuning::hooks::{LossFunction, Quiet};
use retinad::tuning::reference::Reference;
use retinad::tuning::{
    CocoFolder, FeatureExtractor, Head, Next, Origin, Settings, Trainer, TrainingSet, export,
};
use std::path::{Path, PathBuf};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |at: usize| words.get(at).map(String::as_str);
    let demo = root.join("examples/pictures");
    let annotations = word(0).map_or_else(|| demo.join("annotations.json"), PathBuf::from);
    let pictures = word(1).map_or_else(|| demo.clone(), PathBuf::from);
    let out = word(2).map_or_else(|| std::env::temp_dir().join("retinad-tuned.onnx"), PathBuf::from);
    let added: Vec<String> =
        word(3).unwrap_or("cup").split(',').filter(|label| !label.is_empty()).map(Into::into).collect();

    let file = ModelFile::read(&root.join("models/retinad-m-320-int8.onnx"))?;
    let mut labels = file.manifest()?.labels();
    let known = labels.len();
    labels.extend(added.iter().cloned());

    let start = Instant::now();
    let mut source = CocoFolder::read(&annotations, &pictures, &labels)?;
    let mut extractor = FeatureExtractor::new(&file, labels.len(), 1)?;
    let mut set = TrainingSet::gather(&mut extractor, &mut source)?;
    if let Some(path) = word(5) {
        set.reference = Reference::read(Path::new(path), extractor.layer())?;
    }
    println!("features of {} pictures: {:.1} s", set.pictures.len(), start.elapsed().as_secs_f64());

    let start = Instant::now();
    let loss = Loss::Focal { alpha: Some(0.25), gamma: 2.0 };
    let classes = if word(4) == Some("all") { Vec::new() } else { (known..labels.len()).collect() };
    let settings = Settings { classes, ..Settings::default() };
    let head = Head::of(extractor.layer(), known).with_new_classes(added.len());
    let mut trainer = Trainer::new(head, &set, &loss, settings)?;
    let (mut longest, mut before) = (0.0_f64, Instant::now());
    trainer.run(&mut Quiet, &mut |_| {
        longest = longest.max(before.elapsed().as_secs_f64());
        before = Instant::now();
        Next::Continue
    })?;
    println!(
        "{} updates: {:.1} s, the longest step {:.0} ms, loss {:.4}",
        trainer.updates(),
        start.elapsed().as_secs_f64(),
        longest * 1e3,
        trainer.progress().loss
    );

    let origin = Origin {
        new_classes: added,
        loss: loss.entry(),
        updates: trainer.updates(),
        node: "example".into(),
        from: None,
        to: None,
        least_score: None,
    };
    let bytes = export(&file, &trainer.head(), &set, &origin)?;
    atomic_file::write(&out, &bytes, 0o644)?;
    println!("{}: {} bytes", out.display(), bytes.len());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(line) = status.lines().find(|line| line.starts_with("VmHWM")) {
        println!("{line}");
    }
    Ok(())
}
