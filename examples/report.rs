//! The report on a tuning, to look at: `cargo run --release --example report -- DIR`.
//!
//! Nothing is tuned here. The shipped model at a high threshold stands for the model before, and at a low
//! one for the tuned model, on the demo pictures; what cannot be measured in this way (AP, loss) is made up
//! and says so. Without DIR the report goes to the folder for temporary files.

use retinad::detector::{Detector, Generation};
use retinad::evaluation::Interval;
use retinad::retinanet::loss::Loss;
use retinad::tuning::CocoFolder;
use retinad::tuning::hooks::{BeyondNoise, LabelSource, Measure, PromotionGate};
use retinad::tuning::report::{
    Both, ChangedPicture, ClassChange, Estimate, LossShares, ModelName, MostChanged, Pictures, Report,
    Suggestion,
};
use std::path::{Path, PathBuf};

/// Least scores of the two that are compared.
const BEFORE: f32 = 0.6;
const AFTER: f32 = 0.3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder =
        std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("retinad-report"), PathBuf::from);
    println!("{}", report()?.write(&folder)?.display());
    Ok(())
}

/// The report that the example writes.
pub fn report() -> Result<Report, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generation = Generation::load(&root.join("models/retinad-m-320-int8.onnx"), 1)?;
    let pictures = root.join("examples/pictures");
    let mut detector = Detector::new(&generation, 1)?;
    let mut labelled = CocoFolder::read(&pictures.join("annotations.json"), &pictures, &generation.labels)?;
    let (mut most, mut count) = (MostChanged::new(AFTER), 0);
    while let Some(entry) = labelled.next()? {
        let after = detector.detect(&entry.picture, AFTER, &mut Default::default())?;
        let before = after.iter().copied().filter(|found| found.score >= BEFORE).collect();
        let (name, picture, truths) = (entry.name, entry.picture, Some(entry.truths));
        most.offer(ChangedPicture { name, picture, before, after, truths });
        count += 1;
    }
    let measures = vec![
        measure("AP50 (made up)", 0.61, 0.66, 0.02),
        measure("AP50 of old classes (made up)", 0.7, 0.69, 0.03),
    ];
    let name = |version: &str| ModelName {
        name: generation.manifest.name.clone(),
        version: version.into(),
        sha256: generation.sha256.clone(),
    };
    Ok(Report {
        node: "demo".into(),
        model: Both { before: name("at 0.60"), after: name("at 0.30") },
        labels: generation.labels.clone(),
        pictures: Pictures { trained: 0, held_out: count },
        classes: vec![class("cup (made up)", None, 0.55), class("cat (made up)", Some(0.71), 0.74)],
        precision_recall: Both { before: curve(6.0), after: curve(9.0) },
        min_score: AFTER,
        changed: most.into_pictures(),
        loss_shares: [0.0, 0.5, 1.0, 2.0].map(shares).into(),
        suggestion: Some(Suggestion {
            gamma: 2.0,
            alpha: 0.25,
            reason: "nearly all loss of the background comes from few cells (made up)".into(),
        }),
        judgement: BeyondNoise.judge(&measures),
        measures,
        training: (0..600).map(|update| (update, 0.2 + 0.8 * (-(update as f64) / 90.0).exp())).collect(),
    })
}

fn measure(name: &str, before: f64, after: f64, noise: f64) -> Measure {
    Measure { name: name.into(), before, after, noise, more_is_better: true, is_goal: true }
}

fn class(name: &str, before: Option<f64>, after: f64) -> ClassChange {
    let estimate =
        |ap50: f64| Estimate { ap50, interval: Some(Interval { low: ap50 - 0.06, high: ap50 + 0.05 }) };
    let ap50 = Both { before: before.map(estimate), after: Some(estimate(after)) };
    ClassChange { name: name.into(), new: before.is_none(), ap50 }
}

fn curve(bend: f64) -> Vec<(f64, f64)> {
    (0..=100).map(|i| f64::from(i) / 100.0).map(|recall| (recall, 1.0 - recall.powf(bend))).collect()
}

/// Shares of the loss of cells whose logits lie evenly between sure and wrong: background is mostly sure.
fn shares(gamma: f64) -> LossShares {
    let loss = Loss::Focal { alpha: None, gamma };
    let cumulative = |easiest: f64, hardest: f64| {
        let logits = (0..200).map(|i| easiest + (hardest - easiest) * f64::from(i) / 199.0);
        let sums = logits.scan(0.0, |sum, x| {
            *sum += loss.evaluate(x, true).0;
            Some(*sum)
        });
        let sums: Vec<f64> = sums.collect();
        let all = sums[sums.len() - 1];
        sums.iter().zip(1..).map(|(sum, i)| (f64::from(i) / 200.0, sum / all)).collect()
    };
    LossShares { gamma, positives: cumulative(3.0, -2.0), negatives: cumulative(9.0, -1.0) }
}
