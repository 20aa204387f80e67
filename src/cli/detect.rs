//! `retinad detect`: pictures in, JSON lines or COCO results out.

mod inputs;
mod outputs;

use super::ModelArgument;
use super::exit::{Exit, Failure};
use super::print::{complain, printable, safe_json, say};
use super::progress::progress;
use crate::capture;
use crate::coco::{self, ResultEntry};
use crate::detection::{Detection, Times};
use crate::detector::{Detector, Generation};
use crate::frame::Picture;
use crate::image::{Mark, draw_boxes, encode_jpeg};
use crate::settings::Settings;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use inputs::{FileId, Inputs, Work};
use outputs::Names;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Arguments of `retinad detect`.
#[derive(Args)]
pub struct DetectArguments {
    #[command(flatten)]
    pub(super) model: ModelArgument,
    /// Pictures (JPEG, PNG, WebP) or folders of pictures
    paths: Vec<PathBuf>,
    /// Least score, 0.05 to 0.99; without it the settings' min_score, and 0.05 for COCO results
    #[arg(long)]
    min_score: Option<f32>,
    /// What is written
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Write pictures with boxes and labels into this folder, under names of their own
    #[arg(long, value_name = "DIR")]
    draw: Option<PathBuf>,
    /// COCO annotations: which pictures, and the category ids
    #[arg(long, requires = "images")]
    annotations: Option<PathBuf>,
    /// Folder of the annotations' pictures
    #[arg(long)]
    images: Option<PathBuf>,
    /// File for the results; without it stdout
    #[arg(short, long)]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object a picture and line
    Json,
    /// COCO results, one array
    Coco,
}

/// What was found so far, in the form that is written.
struct Results<'a> {
    model: &'a Generation,
    format: Format,
    /// Category ids of the annotations by label.
    categories: HashMap<String, u64>,
    output: Option<&'a Path>,
    /// JSON lines that wait for the file.
    lines: String,
    /// COCO results.
    entries: Vec<ResultEntry>,
    bar: ProgressBar,
}

/// Least score of COCO results where none is given: AP needs the low ones, too.
const COCO_MIN_SCORE: f32 = 0.05;

/// Runs `retinad detect`.
pub fn detect(settings: &Settings, arguments: &DetectArguments) -> Result<(), Failure> {
    check_usage(arguments)?;
    let model_file = settings.detector.model_file();
    let model = Generation::load_at(&model_file, super::FIRST_GENERATION, settings.detector.input)?;
    let coco = arguments.format == Format::Coco;
    let min_score =
        arguments.min_score.unwrap_or(if coco { COCO_MIN_SCORE } else { settings.detector.min_score });
    let Inputs { work, refused, categories, files } =
        inputs(arguments, &model_file, &model.labels).map_err(failed)?;
    let output = arguments.output.as_deref();
    if let Some(path) = output {
        outputs::check_results_file(path, &files).map_err(failed)?;
    }
    let mut names = drawings(arguments, files)?;
    let share = settings.detector.share(1);
    let mut detector = Detector::new(&model, share.threads)?;
    detector.set_picture_bytes(share.picture_bytes);
    let bar = progress(work.len());
    let (format, lines, entries) = (arguments.format, String::new(), Vec::new());
    let mut results = Results { model: &model, format, categories, output, lines, entries, bar };
    for reason in &refused {
        results.complain(reason);
    }
    let mut failures = refused.len();
    for item in &work {
        let mut times = Times::default();
        let raw = capture::read_picture(&item.path);
        match raw.and_then(|raw| detector.detect(&raw, min_score, &mut times).map_err(|e| e.to_string())) {
            Ok(found) => {
                results.add(item, &detector, &found, &times);
                if let Some(names) = &mut names {
                    let path = names.next(&item.path);
                    draw(&path, detector.take_picture(), &found, &model.labels)
                        .map_err(|reason| failed(format!("{}: {reason}", path.display())))?;
                }
            }
            Err(reason) => {
                failures += 1;
                results.complain(&format!("{}: {reason}", item.path.display()));
            }
        }
        results.bar.inc(1);
    }
    results.bar.finish_and_clear();
    results.write()?;
    if failures > 0 {
        let all = work.len() + refused.len();
        return Err(Failure::new(
            Exit::SomeFailed,
            format!("{failures} of {all} pictures or folders failed"),
        ));
    }
    Ok(())
}

/// A failure of some input or output, in words that a terminal can show.
fn failed(words: String) -> Failure {
    Failure::new(Exit::SomeFailed, printable(&words))
}

/// The pictures to detect in; nothing of what is read may be written.
fn inputs(arguments: &DetectArguments, model: &Path, labels: &[String]) -> Result<Inputs, String> {
    let mut inputs = match (&arguments.annotations, &arguments.images) {
        (Some(annotations), Some(images)) => Inputs::of_annotations(annotations, images, labels)?,
        _ => Inputs::of_paths(&arguments.paths),
    };
    let others = arguments.annotations.as_deref().into_iter().chain([model]);
    inputs.files.extend(others.filter_map(FileId::of));
    Ok(inputs)
}

/// Makes the folder for drawings.
fn drawings(arguments: &DetectArguments, inputs: HashSet<FileId>) -> Result<Option<Names>, Failure> {
    let Some(folder) = &arguments.draw else { return Ok(None) };
    std::fs::create_dir_all(folder).map_err(|e| failed(format!("{}: {e}", folder.display())))?;
    Ok(Some(Names::new(folder.clone(), inputs)))
}

fn check_usage(arguments: &DetectArguments) -> Result<(), Failure> {
    if arguments.min_score.is_some_and(|score| !(0.05..=0.99).contains(&score)) {
        return Err(Failure::new(Exit::Usage, "--min-score must be 0.05 to 0.99"));
    }
    let annotated = arguments.annotations.is_some();
    if (arguments.format == Format::Coco) != annotated || annotated != arguments.paths.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "give pictures, or --format coco with --annotations and --images",
        ));
    }
    Ok(())
}

impl Results<'_> {
    /// Takes what was found in a picture; JSON lines for stdout are printed at once.
    fn add(&mut self, item: &Work, detector: &Detector, found: &[Detection], times: &Times) {
        match self.format {
            Format::Coco => self
                .entries
                .extend(found.iter().filter_map(|d| coco_entry(item, d, self.model, &self.categories))),
            Format::Json => {
                let line = json_line(&item.path, self.model, detector, found, times);
                if self.output.is_some() {
                    self.lines += &(line + "\n");
                } else {
                    self.bar.suspend(|| say!("{line}"));
                }
            }
        }
    }

    /// A line on stderr.
    fn complain(&self, reason: &str) {
        self.bar.suspend(|| complain(format_args!("retinad: {}", printable(reason))));
    }

    /// Writes what was not printed yet.
    fn write(self) -> Result<(), Failure> {
        let text = match self.format {
            Format::Coco => coco::results_text(&self.entries),
            Format::Json => self.lines,
        };
        match self.output {
            Some(path) => outputs::write_results(path, text.as_bytes())
                .map_err(|e| failed(format!("{}: {e}", path.display())))?,
            None if self.format == Format::Coco => say!("{text}"),
            None => {}
        }
        Ok(())
    }
}

/// A COCO result; none for a class that the annotations do not know.
fn coco_entry(
    item: &Work,
    detection: &Detection,
    model: &Generation,
    categories: &HashMap<String, u64>,
) -> Option<ResultEntry> {
    let category_id = *categories.get(&model.labels[detection.class])?;
    let [x1, y1, x2, y2] = detection.bbox;
    let bbox = [x1, y1, x2 - x1, y2 - y1].map(f64::from);
    Some(ResultEntry { image_id: item.image_id, category_id, bbox, score: f64::from(detection.score) })
}

/// What was found in a picture, one line.
#[derive(Serialize)]
struct PictureLine<'a> {
    file: String,
    width: u32,
    height: u32,
    inference_ms: f64,
    detections: Vec<ObjectInPicture<'a>>,
}

/// An object, its box in whole pixels.
#[derive(Serialize)]
struct ObjectInPicture<'a> {
    label: &'a str,
    label_id: usize,
    score: f64,
    box_px: [f32; 4],
}

fn json_line(
    path: &Path,
    model: &Generation,
    detector: &Detector,
    found: &[Detection],
    times: &Times,
) -> String {
    let object = |d: &Detection| ObjectInPicture {
        label: &model.labels[d.class],
        label_id: d.class,
        score: (f64::from(d.score) * 1e3).round() / 1e3,
        box_px: d.bbox.map(f32::round),
    };
    let picture = detector.picture();
    let line = serde_json::to_string(&PictureLine {
        file: path.display().to_string(),
        width: picture.width,
        height: picture.height,
        inference_ms: (times.inference.as_secs_f64() * 1e4).round() / 10.0,
        detections: found.iter().map(object).collect(),
    })
    .unwrap_or_default();
    safe_json(&line)
}

/// Writes `picture` with its objects into the file `path`.
fn draw(path: &Path, mut picture: Picture, found: &[Detection], labels: &[String]) -> Result<(), String> {
    const COLOURS: [[u8; 3]; 6] =
        [[230, 60, 60], [60, 170, 60], [70, 110, 240], [230, 170, 30], [170, 70, 200], [40, 180, 190]];
    let mark = |d: &Detection| Mark {
        bbox: d.bbox,
        colour: COLOURS[d.class % COLOURS.len()],
        text: format!("{} {:.2}", labels[d.class], d.score),
    };
    // The best one on top.
    draw_boxes(&mut picture, &found.iter().rev().map(mark).collect::<Vec<_>>());
    let bytes = encode_jpeg(&picture).map_err(|error| error.to_string())?;
    outputs::write_drawing(path, &bytes).map_err(|e| e.to_string())
}
