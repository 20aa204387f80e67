//! Which loss suits a site: focal loss and cross entropy, each with several learning rates and seeds, by AP50 of a
//! class that the model does not know.
//! `cargo run --release --example compare_losses -- SITE HELD_OUT NEW [SEEDS]`.
//!
//! SITE and HELD_OUT are folders with pictures and `annotations.json`, as `examples/make_site.rs` writes them. For
//! each loss and learning rate the shipped model learns NEW from SITE, held by the shipped reference set, and is
//! judged as a daemon would use it, in INT8, on HELD_OUT. Then the best rate of each loss is compared seed by seed:
//! the same seed gives both the same order of pictures.

use retinad::capture::read_picture;
use retinad::coco::{Annotations, ResultEntry};
use retinad::detection::Times;
use retinad::detector::{Detector, Generation};
use retinad::engine::Arithmetic;
use retinad::evaluation::{self, Evaluation};
use retinad::model::ModelFile;
use retinad::retinanet::loss::Loss;
use retinad::tuning::hooks::{LossFunction, Quiet};
use retinad::tuning::reference::Reference;
use retinad::tuning::{
    CocoFolder, FeatureExtractor, Head, Next, Origin, Settings, Trainer, TrainingSet, export,
};
use std::path::{Path, PathBuf};

const RATES: [f64; 4] = [0.001, 0.002, 0.005, 0.01];
const LOSSES: [(&str, Loss); 2] =
    [("focal loss", Loss::Focal { alpha: Some(0.25), gamma: 2.0 }), ("cross entropy", Loss::CrossEntropy)];
/// Scores from which detections count for AP.
const LEAST_SCORE: f32 = 0.05;

type Failed = Box<dyn std::error::Error>;

/// What every training here shares.
struct Site {
    file: ModelFile,
    set: TrainingSet,
    head: Head,
    known: usize,
    new: String,
    held_out: Annotations,
    pictures: PathBuf,
}

fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [site, held_out, new, seeds @ ..] = words.as_slice() else {
        return Err(
            "give SITE HELD_OUT NEW [SEEDS]: two folders with annotations.json, a label, a number".into()
        );
    };
    let seeds: u64 = seeds.first().map_or(Ok(5), |word| word.parse())?;
    let site = Site::read(Path::new(site), Path::new(held_out), new)?;
    println!(
        "{} pictures to learn `{new}` from, {} to judge by",
        site.set.pictures.len(),
        site.held_out.images.len()
    );
    let mut best = Vec::new();
    for (name, loss) in &LOSSES {
        let mut rows = Vec::new();
        for rate in RATES {
            let found =
                (0..seeds).map(|seed| site.ap50_after(loss, rate, seed)).collect::<Result<Vec<_>, _>>()?;
            println!("{name:<14} learning rate {rate:<6} AP50 {}", spread(&found));
            rows.push(found);
        }
        rows.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        best.push(rows.swap_remove(0));
    }
    let ahead: Vec<f64> = best[0].iter().zip(&best[1]).map(|(focal, cross)| focal - cross).collect();
    println!("focal loss ahead of cross entropy by {}, each at its best learning rate", spread(&ahead));
    Ok(())
}

impl Site {
    fn read(site: &Path, held_out: &Path, new: &str) -> Result<Self, Failed> {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let file = ModelFile::read(&models.join("retinad-m-320-int8.onnx"))?;
        let mut labels = file.manifest()?.labels();
        let known = labels.len();
        labels.push(new.to_owned());
        let mut source = CocoFolder::read(&site.join("annotations.json"), site, &labels)?;
        let mut extractor = FeatureExtractor::new(&file, labels.len(), 1)?;
        let mut set = TrainingSet::gather(&mut extractor, &mut source)?;
        set.reference = Reference::read(&models.join("retinad-m-320-int8.reference"), extractor.layer())?;
        let head = Head::of(extractor.layer(), known).with_new_classes(1);
        let held_out_labels = Annotations::read(&held_out.join("annotations.json"))?;
        if !held_out_labels.categories.iter().any(|category| category.name == new) {
            return Err(format!("{}: no category `{new}`", held_out.display()).into());
        }
        Ok(Self {
            file,
            set,
            head,
            known,
            new: new.into(),
            held_out: held_out_labels,
            pictures: held_out.into(),
        })
    }

    /// AP50 of the new class on the pictures held out, after a training.
    fn ap50_after(&self, loss: &Loss, learning_rate: f64, seed: u64) -> Result<f64, Failed> {
        let settings = Settings { classes: vec![self.known], learning_rate, seed, ..Settings::default() };
        let mut trainer = Trainer::new(self.head.clone(), &self.set, loss, settings)?;
        trainer.run(&mut Quiet, &mut |_| Next::Continue)?;
        let origin = Origin {
            new_classes: vec![self.new.clone()],
            loss: loss.entry(),
            updates: trainer.updates(),
            node: "example".into(),
            from: None,
            to: None,
            least_score: None,
        };
        let bytes = export(&self.file, &trainer.head(), &self.set, &origin)?;
        let generation =
            Generation::from_file(&ModelFile::parse(&self.file.path, bytes)?, 1, Arithmetic::Best)?;
        self.judge(&mut Detector::new(&generation, 1)?)
    }

    fn judge(&self, detector: &mut Detector) -> Result<f64, Failed> {
        let of_new = |(_, category): &(usize, &(u64, &str))| category.1 == self.new;
        let classes = evaluation::classes(&self.held_out);
        let (class, (category_id, _)) =
            classes.iter().enumerate().find(of_new).expect("looked for in `read`");
        let mut results = Vec::new();
        for image in &self.held_out.images {
            let frame = read_picture(&self.pictures.join(&image.file_name))?;
            for found in detector.detect(&frame, LEAST_SCORE, &mut Times::default())? {
                if found.class != self.known {
                    continue;
                }
                let [x1, y1, x2, y2] = found.bbox.map(f64::from);
                results.push(ResultEntry {
                    image_id: image.id,
                    category_id: *category_id,
                    bbox: [x1, y1, x2 - x1, y2 - y1],
                    score: f64::from(found.score),
                });
            }
        }
        let pictures = evaluation::pictures(&self.held_out, &results);
        let of_class = Evaluation::new(&pictures, classes.len()).class_ap()[class];
        of_class.ap.ap50.ok_or_else(|| format!("no `{}` among the pictures held out", self.new).into())
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean, least and greatest.
fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.3} ({least:.3} to {greatest:.3})", mean(values))
}
