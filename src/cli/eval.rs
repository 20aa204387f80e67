//! `retinad eval`: how good a model, or somebody's results, are on annotated pictures.

pub(super) mod detections;
mod report;

use super::exit::{Exit, Failure};
use super::print::{complain, printable, safe_json, say};
use super::{ModelArgument, labels};
use crate::atomic_file;
use crate::coco::{self, Annotations, ResultEntry};
use crate::detector::Generation;
use crate::evaluation::{self, Evaluation};
use crate::settings::Settings;
use clap::Args;
use detections::Detected;
use report::{Judged, Report};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Shown below the arguments.
pub const EXAMPLES: &str = "Examples:
  retinad eval --annotations val.json --images val/
  retinad eval --model other.onnx --annotations val.json --images val/ --json > report.json
  retinad eval --annotations val.json --detections results.json --plots charts/

AP, AR and their twelve numbers are those of pycocotools (boxes, 100 detections of a class in a picture), over
IoU 0.50 to 0.95. Truths that are a crowd, `difficult` or `ignore` count neither as hit nor as miss. A model is
asked for all detections with scores above 0.05. Precision, recall, calibration and confusion are at IoU 0.50.
Numbers that have nothing to count are null in JSON.

Exit code: 0 all judged; 1 annotations, results or pictures cannot be used, or some of the pictures (the numbers
are then those of the others); 2 usage; 78 settings or model cannot be used.";

/// Arguments of `retinad eval`.
#[derive(Args)]
pub struct EvalArguments {
    #[command(flatten)]
    pub(super) model: ModelArgument,
    /// COCO annotations (.json or .json.gz): pictures, categories, boxes
    #[arg(long, value_name = "FILE")]
    annotations: PathBuf,
    /// Folder of the annotations' pictures, in which the model detects
    #[arg(long, value_name = "DIR", required_unless_present = "detections")]
    images: Option<PathBuf>,
    /// COCO results (.json or .json.gz) to judge, without running a model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "images", "workers"])]
    detections: Option<PathBuf>,
    /// Score above which detections count for precision, recall and confusion, 0 to 0.99 (with a model from
    /// 0.05); without it the settings' min_score
    #[arg(long)]
    threshold: Option<f32>,
    /// Pictures at once, 1 to 64; without it one for each core
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: Option<u16>,
    /// Draws of pictures for the 95 % intervals of AP and AP50; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=100_000))]
    resamples: u32,
    /// Write charts into this folder: precision-recall.svg, reliability.svg, ap-per-class.svg
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Scores above which a model is asked for detections: AP needs the low ones, too.
const LEAST_SCORE: f32 = 0.05;
/// Seed of the resamples: the same report each time.
const SEED: u64 = 0;
/// Categories that are judged at most; the confusion matrix has a row and a column for each.
const MOST_CATEGORIES: usize = 2000;
/// Boxes in one picture that are judged at most; each is compared with 100 detections.
const MOST_BOXES: usize = 10_000;
/// Mode of the charts, before the umask.
const PUBLIC: u32 = 0o666;

/// Runs `retinad eval`.
pub fn eval(settings: &Settings, arguments: &EvalArguments) -> Result<(), Failure> {
    let threshold = threshold(settings, arguments)?;
    let mut annotations = read_annotations(&arguments.annotations)?;
    if let Some(folder) = &arguments.plots {
        std::fs::create_dir_all(folder).map_err(|e| failed(format!("{}: {e}", folder.display())))?;
    }
    let (results, judged, failures) = match (&arguments.detections, &arguments.images) {
        (Some(path), _) => {
            let results = coco::read_results(path, &annotations).map_err(|e| failed(e.to_string()))?;
            (results, Judged::Results { file: path.display().to_string() }, 0)
        }
        (None, Some(images)) => {
            let model = Generation::load_at(
                &settings.detector.model_file(),
                super::FIRST_GENERATION,
                settings.detector.input,
            )?;
            let detected = detect(settings, arguments, &annotations, images, &model)?;
            let failures = detected.failed.len();
            leave_out(&mut annotations, &detected.failed);
            (detected.results, Judged::model(&model, LEAST_SCORE), failures)
        }
        (None, None) => return Err(Failure::new(Exit::Usage, "give --images or --detections")),
    };
    if annotations.images.is_empty() {
        return Err(failed(format!("all {failures} pictures failed")));
    }
    tell(arguments, threshold, &annotations, &results, judged, failures)?;
    if failures > 0 {
        let all = annotations.images.len() + failures;
        return Err(failed(format!(
            "{failures} of {all} pictures failed; the numbers are those of the others"
        )));
    }
    Ok(())
}

/// Judges, draws and prints.
fn tell(
    arguments: &EvalArguments,
    threshold: f32,
    annotations: &Annotations,
    results: &[ResultEntry],
    judged: Judged,
    failures: usize,
) -> Result<(), Failure> {
    let pictures = evaluation::pictures(annotations, results);
    let classes = evaluation::classes(annotations);
    let evaluation = Evaluation::new(&pictures, classes.len());
    if let Some(folder) = &arguments.plots {
        let names: Vec<String> = classes.iter().map(|(_, name)| (*name).to_owned()).collect();
        for chart in evaluation::charts(&evaluation, &names).map_err(Failure::of(Exit::Internal))? {
            let path = folder.join(chart.file);
            atomic_file::write(&path, chart.svg.as_bytes(), PUBLIC)
                .map_err(|e| failed(format!("{}: {e}", path.display())))?;
        }
    }
    let report = Report::new(&report::Source {
        annotations: arguments.annotations.display().to_string(),
        judged,
        failures,
        pictures: &pictures,
        classes: &classes,
        evaluation: &evaluation,
        threshold: f64::from(threshold),
        resamples: arguments.resamples,
        seed: SEED,
    });
    if arguments.json {
        say!("{}", safe_json(&report.to_json()));
    } else {
        say!("{}", report.to_text());
    }
    Ok(())
}

/// A failure of some input or output, in words that a terminal can show.
pub(super) fn failed(words: String) -> Failure {
    Failure::new(Exit::SomeFailed, printable(&words))
}

fn threshold(settings: &Settings, arguments: &EvalArguments) -> Result<f32, Failure> {
    let least = if arguments.detections.is_some() { 0.0 } else { LEAST_SCORE };
    match arguments.threshold {
        Some(threshold) if !(least..=0.99).contains(&threshold) => {
            Err(Failure::new(Exit::Usage, format!("--threshold is {threshold}, must be {least} to 0.99")))
        }
        Some(threshold) => Ok(threshold),
        None => Ok(settings.detector.min_score),
    }
}

/// Annotations in which there is something to judge; no truth at all is well, since that shows false alarms.
pub(super) fn read_annotations(path: &Path) -> Result<Annotations, Failure> {
    let annotations = Annotations::read(path).map_err(|e| failed(e.to_string()))?;
    let empty = |what: &str| Err(failed(format!("{}: `{what}` is empty", path.display())));
    if annotations.images.is_empty() {
        return empty("images");
    }
    if annotations.categories.is_empty() {
        return empty("categories");
    }
    match beyond_bounds(&annotations) {
        Some(reason) => Err(failed(format!("{}: {reason}", path.display()))),
        None => Ok(annotations),
    }
}

/// What would take more memory than such a report is worth.
fn beyond_bounds(annotations: &Annotations) -> Option<String> {
    let categories = annotations.categories.len();
    if categories > MOST_CATEGORIES {
        return Some(format!("{categories} categories, at most {MOST_CATEGORIES} are judged"));
    }
    let mut counts = HashMap::<u64, usize>::new();
    for annotation in &annotations.annotations {
        *counts.entry(annotation.image_id).or_default() += 1;
    }
    let (id, count) = counts.into_iter().max_by_key(|(id, count)| (*count, *id))?;
    (count > MOST_BOXES).then(|| format!("image id {id} has {count} boxes, at most {MOST_BOXES} are judged"))
}

fn detect(
    settings: &Settings,
    arguments: &EvalArguments,
    annotations: &Annotations,
    images: &Path,
    model: &Arc<Generation>,
) -> Result<Detected, Failure> {
    compare_labels(&arguments.annotations, annotations, &model.labels)?;
    detections::find_all(&arguments.annotations, annotations, images)?;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let workers = arguments.workers.map_or_else(cores, usize::from).min(annotations.images.len());
    detections::detect_all(
        model,
        annotations,
        images,
        LEAST_SCORE,
        workers,
        &settings.detector.share(workers),
    )
}

/// Tells where annotations and model do not know the same things.
fn compare_labels(file: &Path, annotations: &Annotations, labels: &[String]) -> Result<(), Failure> {
    let names = || annotations.categories.iter().map(|category| category.name.as_str());
    let (categories, known): (HashSet<&str>, HashSet<&str>) =
        (names().collect(), labels.iter().map(String::as_str).filter(|label| !label.is_empty()).collect());
    let file = file.display();
    if categories.is_disjoint(&known) {
        return Err(failed(format!("{file}: {}", labels::none_in_common(names(), labels))));
    }
    let note = |what: &str, names: Vec<&str>| {
        if !names.is_empty() {
            let (count, few) = (names.len(), labels::first_few(names.into_iter()));
            complain(format_args!("retinad: {}: {count} {what}: {few}", printable(&file.to_string())));
        }
    };
    let unknown = names().filter(|name| !known.contains(name)).collect();
    note("categories that the model does not know, whose truths all count as missed", unknown);
    let unasked = labels
        .iter()
        .map(String::as_str)
        .filter(|label| known.contains(label) && !categories.contains(label));
    note("labels of the model that are no category, whose detections are left out", unasked.collect());
    Ok(())
}

/// Takes pictures out, with what is in them.
fn leave_out(annotations: &mut Annotations, failed: &HashSet<u64>) {
    annotations.images.retain(|image| !failed.contains(&image.id));
    annotations.annotations.retain(|annotation| !failed.contains(&annotation.image_id));
}
