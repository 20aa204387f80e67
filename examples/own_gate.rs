//! A gate of your own: `cargo run --release --example own_gate`.
//!
//! The shipped model learns "cup" from the demo pictures. The product's gate wants one measure to be better and
//! none worse beyond its noise; this one also wants the tuned model to be sure of its cup. Real measures come
//! from pictures that training has not seen; a demo of four pictures has none to spare.

use retinad::capture::read_picture;
use retinad::detector::{Detector, Generation};
use retinad::engine::Arithmetic;
use retinad::model::ModelFile;
use retinad::retinanet::loss::Loss;
use retinad::tuning::hooks::{BeyondNoise, Judgement, LossFunction, Measure, PromotionGate, Quiet};
use retinad::tuning::{
    CocoFolder, FeatureExtractor, Head, Next, Origin, Settings, Trainer, TrainingSet, export,
};
use std::path::Path;

/// The product's gate, and a floor under one measure.
struct Sure {
    name: &'static str,
    least: f64,
}

impl PromotionGate for Sure {
    fn judge(&mut self, measures: &[Measure]) -> Judgement {
        match measures.iter().find(|measure| measure.name == self.name) {
            Some(measure) if measure.after >= self.least => BeyondNoise.judge(measures),
            Some(Measure { after, .. }) => Judgement {
                promoted: false,
                reason: format!("{} is {after:.2}, must be at least {:.2}", self.name, self.least),
            },
            None => Judgement { promoted: false, reason: format!("{} was not measured", self.name) },
        }
    }
}

/// The highest score of `label` in a picture, 0 where it is not found.
fn score(bytes: &[u8], label: &str, picture: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let file = ModelFile::parse("tuned.onnx", bytes.to_vec())?;
    let generation = Generation::from_file(&file, 0, Arithmetic::Best)?;
    let mut detector = Detector::new(&generation, 1)?;
    let found = detector.detect(&read_picture(picture)?, 0.05, &mut Default::default())?;
    let of_label = found.iter().filter(|detection| generation.labels[detection.class] == label);
    Ok(of_label.map(|detection| f64::from(detection.score)).fold(0.0, f64::max))
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
    for passes in [2, 60] {
        let settings =
            Settings { passes, pictures_per_update: 2, classes: vec![known], ..Settings::default() };
        let head = Head::of(extractor.layer(), known).with_new_classes(1);
        let mut trainer = Trainer::new(head, &set, &loss, settings)?;
        trainer.run(&mut Quiet, &mut |_| Next::Continue)?;
        let origin = Origin {
            new_classes: vec!["cup".into()],
            loss: loss.entry(),
            updates: trainer.updates(),
            node: "demo".into(),
            from: None,
            to: None,
            least_score: None,
        };
        let tuned = export(&file, &trainer.head(), &set, &origin)?;
        let mut measures = Vec::new();
        for (name, label, picture) in
            [("cup in coffee", "cup", "coffee.jpg"), ("cat in chelsea", "cat", "chelsea.jpg")]
        {
            let picture = pictures.join(picture);
            let (before, after) = (score(&file.bytes, label, &picture)?, score(&tuned, label, &picture)?);
            measures.push(Measure {
                name: name.into(),
                before,
                after,
                noise: 0.05,
                more_is_better: true,
                is_goal: true,
            });
        }
        let Judgement { promoted, reason } = Sure { name: "cup in coffee", least: 0.5 }.judge(&measures);
        println!("{passes} passes: {}: {reason}", if promoted { "promoted" } else { "not promoted" });
    }
    Ok(())
}
