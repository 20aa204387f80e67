//! A loss of your own: `cargo run --release --example own_loss`.
//!
//! The shipped model learns "cup" from four labelled pictures, once with the product's focal loss and once with
//! one that forgives hard negatives more than hard positives.

use retinad::model::ModelFile;
use retinad::retinanet::loss::Loss;
use retinad::tuning::hooks::{LossEntry, LossFunction, Quiet};
use retinad::tuning::{
    CocoFolder, FeatureExtractor, Head, Next, Settings, Trainer, TrainingSet, TuningError,
};
use std::path::Path;

/// Focal loss with a γ of its own for positives and for negatives.
struct TwoGammas {
    positive: f64,
    negative: f64,
}

impl LossFunction for TwoGammas {
    fn evaluate(&self, logits: &[f32], targets: &[f32], gradient: &mut [f32]) -> Result<f64, TuningError> {
        let mut total = 0.0;
        for ((logit, target), slope) in logits.iter().zip(targets).zip(gradient) {
            if *target < 0.0 {
                // Ignored: in no loss.
                *slope = 0.0;
                continue;
            }
            let gamma = if *target > 0.0 { self.positive } else { self.negative };
            let loss = Loss::Focal { alpha: Some(0.25), gamma };
            let (value, derivative) = loss.evaluate(f64::from(*logit), *target > 0.0);
            total += value;
            *slope = derivative as f32;
        }
        Ok(total)
    }

    fn entry(&self) -> LossEntry {
        LossEntry { kind: "two_gammas".into(), alpha: Some(0.25), gamma: Some(self.positive), beta: None }
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
    let settings =
        Settings { passes: 20, pictures_per_update: 2, classes: vec![known], ..Settings::default() };

    let focal = Loss::Focal { alpha: Some(0.25), gamma: 2.0 };
    let own = TwoGammas { positive: 1.0, negative: 3.0 };
    let losses: [(&str, &dyn LossFunction); 2] = [("focal", &focal), ("two gammas", &own)];
    for (name, loss) in losses {
        let head = Head::of(extractor.layer(), known).with_new_classes(1);
        let mut trainer = Trainer::new(head, &set, loss, settings.clone())?;
        trainer.run(&mut Quiet, &mut |_| Next::Continue)?;
        println!("{name}: loss {:.4} after {} updates", trainer.progress().loss, trainer.updates());
    }
    Ok(())
}
