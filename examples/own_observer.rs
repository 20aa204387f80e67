//! An observer of your own: `cargo run --release --example own_observer`.
//!
//! It draws the loss as a line of text while the shipped model learns "cup", and training is stopped from
//! outside once the loss is low enough.

use retinad::model::ModelFile;
use retinad::retinanet::loss::Loss;
use retinad::tuning::hooks::{Progress, TuningObserver};
use retinad::tuning::{CocoFolder, FeatureExtractor, Head, Next, Settings, Trainer, TrainingSet};
use std::path::Path;

#[derive(Default)]
struct Curve {
    line: String,
    first: Option<f64>,
}

impl TuningObserver for Curve {
    fn updated(&mut self, progress: &Progress) {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let first = *self.first.get_or_insert(progress.loss);
        let height = (progress.loss / first * 7.0).clamp(0.0, 7.0);
        self.line.push(BARS[height as usize]);
    }

    fn told(&mut self, line: &str) {
        eprintln!("{line}");
    }
}

/// Public, so that a test can run it.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = ModelFile::read(&root.join("models/retinad-m-320-int8.onnx"))?;
    let mut labels = file.manifest()?.labels();
    let known = labels.len();
    labels.push("cup".into());
    let pictures = root.join("examples/pictures");
    let mut source = CocoFolder::read(&pictures.join("annotations.json"), &pictures, &labels)?;
    let mut extractor = FeatureExtractor::new(&file, labels.len(), 1)?;
    let set = TrainingSet::gather(&mut extractor, &mut source)?;

    let loss = Loss::Focal { alpha: Some(0.25), gamma: 2.0 };
    let settings = Settings { passes: 60, classes: vec![known], ..Settings::default() };
    let head = Head::of(extractor.layer(), known).with_new_classes(1);
    let mut trainer = Trainer::new(head, &set, &loss, settings)?;
    let mut curve = Curve::default();
    trainer.run(&mut curve, &mut |trainer| {
        let Progress { update, loss, .. } = trainer.progress();
        if update > 0 && loss < 0.06 { Next::Stop } else { Next::Continue }
    })?;
    println!("{}", curve.line);
    println!("loss {:.4} after {} updates", trainer.progress().loss, trainer.progress().update);
    Ok(())
}
