//! `retinad detect`: pictures in, JSON lines or COCO results out.

use super::ModelArgument;
use super::exit::{Exit, Failure};
use super::print::{complain, say};
use crate::atomic_file;
use crate::capture;
use crate::detection::{Detection, Times};
use crate::detector::{Detector, Generation};
use crate::settings::Settings;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::collections::HashMap;
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
    /// Write pictures with boxes into this folder
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

/// One picture.
struct Work {
    path: PathBuf,
    image_id: Value,
}

/// What was found so far, in the form that is written.
struct Results<'a> {
    model: &'a Generation,
    format: Format,
    /// Category ids of the annotations by label.
    categories: HashMap<String, Value>,
    output: Option<&'a Path>,
    /// JSON lines that wait for the file.
    lines: String,
    /// COCO results.
    entries: Vec<Value>,
}

/// Fewer pictures than this are done before a bar would be read.
const FEWEST_FOR_A_BAR: usize = 20;
/// Least score of COCO results where none is given: AP needs the low ones, too.
const COCO_MIN_SCORE: f32 = 0.05;

/// Runs `retinad detect`.
pub fn detect(settings: &Settings, arguments: &DetectArguments) -> Result<(), Failure> {
    check_usage(arguments)?;
    let model = Generation::load(&settings.detector.model_file(), super::FIRST_GENERATION)?;
    let coco = arguments.format == Format::Coco;
    let min_score =
        arguments.min_score.unwrap_or(if coco { COCO_MIN_SCORE } else { settings.detector.min_score });
    let (work, categories) = pictures(arguments).map_err(Failure::of(Exit::SomeFailed))?;
    if let Some(folder) = &arguments.draw {
        std::fs::create_dir_all(folder).map_err(|e| named(folder, &e))?;
    }
    let bar = indicatif::ProgressBar::new(work.len() as u64);
    if !coco || work.len() < FEWEST_FOR_A_BAR {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let mut detector = Detector::new(&model, settings.detector.threads(1))?;
    let output = arguments.output.as_deref();
    let (format, lines, entries) = (arguments.format, String::new(), Vec::new());
    let mut results = Results { model: &model, format, categories, output, lines, entries };
    let mut failed = 0;
    for item in &work {
        bar.inc(1);
        let mut times = Times::default();
        let raw = capture::read_picture(&item.path);
        match raw.and_then(|raw| detector.detect(&raw, min_score, &mut times).map_err(|e| e.to_string())) {
            Ok(found) => {
                results.add(item, &detector, &found, &times);
                if let Some(folder) = &arguments.draw {
                    draw(folder, &item.path, &detector, &found).map_err(Failure::of(Exit::SomeFailed))?;
                }
            }
            Err(reason) => {
                failed += 1;
                complain(format_args!("retinad: {}: {reason}", item.path.display()));
            }
        }
    }
    bar.finish_and_clear();
    results.write()?;
    if failed > 0 {
        return Err(Failure::new(Exit::SomeFailed, format!("{failed} of {} pictures failed", work.len())));
    }
    Ok(())
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

/// The pictures to detect in, and the category ids of annotations by label.
fn pictures(arguments: &DetectArguments) -> Result<(Vec<Work>, HashMap<String, Value>), String> {
    match (&arguments.annotations, &arguments.images) {
        (Some(annotations), Some(images)) => from_annotations(annotations, images),
        _ => Ok((from_paths(&arguments.paths)?, HashMap::new())),
    }
}

fn named(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::SomeFailed, format!("{}: {error}", path.display()))
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
                if self.output.is_some() { self.lines += &(line + "\n") } else { say!("{line}") }
            }
        }
    }

    /// Writes what was not printed yet.
    fn write(self) -> Result<(), Failure> {
        let text = match self.format {
            Format::Coco => Value::Array(self.entries).to_string(),
            Format::Json => self.lines,
        };
        match self.output {
            Some(path) => atomic_file::write(path, text.as_bytes(), PUBLIC).map_err(|e| named(path, &e))?,
            None if self.format == Format::Coco => say!("{text}"),
            None => {}
        }
        Ok(())
    }
}

/// Mode of what is written for people, before the umask.
const PUBLIC: u32 = 0o666;

/// A COCO result; none for a class that the annotations do not know.
fn coco_entry(
    item: &Work,
    detection: &Detection,
    model: &Generation,
    categories: &HashMap<String, Value>,
) -> Option<Value> {
    let category = categories.get(&model.labels[detection.class])?;
    let [x1, y1, x2, y2] = detection.bbox;
    let bbox = [x1, y1, x2 - x1, y2 - y1];
    Some(json!({"image_id": item.image_id, "category_id": category, "bbox": bbox, "score": detection.score}))
}

fn json_line(
    path: &Path,
    model: &Generation,
    detector: &Detector,
    found: &[Detection],
    times: &Times,
) -> String {
    let detections: Vec<Value> = found
        .iter()
        .map(|d| json!({"label": model.labels[d.class], "label_id": d.class, "score": (f64::from(d.score) * 1e3).round() / 1e3, "box_px": d.bbox.map(|v| v.round())}))
        .collect();
    let picture = detector.picture();
    json!({"file": path.display().to_string(), "width": picture.width, "height": picture.height,
        "inference_ms": (times.inference.as_secs_f64() * 1e4).round() / 10.0, "detections": detections})
    .to_string()
}

fn from_paths(paths: &[PathBuf]) -> Result<Vec<Work>, String> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
            let is_picture = |p: &PathBuf| {
                p.extension().and_then(|e| e.to_str()).is_some_and(|e| {
                    ["jpg", "jpeg", "png", "webp"].contains(&e.to_ascii_lowercase().as_str())
                })
            };
            let mut inside: Vec<PathBuf> =
                entries.filter_map(|e| Some(e.ok()?.path())).filter(is_picture).collect();
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files.into_iter().map(|path| Work { path, image_id: Value::Null }).collect())
}

fn from_annotations(
    annotations: &Path,
    images: &Path,
) -> Result<(Vec<Work>, HashMap<String, Value>), String> {
    let name = annotations.display();
    let text = std::fs::read_to_string(annotations).map_err(|e| format!("{name}: {e}"))?;
    let json: Value = serde_json::from_str(&text).map_err(|e| format!("{name}: {e}"))?;
    let list = |key: &str| json[key].as_array().ok_or_else(|| format!("{name}: no array `{key}`"));
    let mut work = Vec::new();
    for image in list("images")? {
        let file =
            image["file_name"].as_str().ok_or_else(|| format!("{name}: an image without file_name"))?;
        work.push(Work { path: images.join(file), image_id: image["id"].clone() });
    }
    let categories = list("categories")?
        .iter()
        .filter_map(|c| Some((c["name"].as_str()?.to_owned(), c["id"].clone())))
        .collect();
    Ok((work, categories))
}

fn draw(folder: &Path, path: &Path, detector: &Detector, found: &[Detection]) -> Result<(), String> {
    const COLOURS: [[u8; 3]; 6] =
        [[230, 60, 60], [60, 170, 60], [70, 110, 240], [230, 170, 30], [170, 70, 200], [40, 180, 190]];
    let mut picture = detector.picture().clone();
    let boxes: Vec<_> = found.iter().map(|d| (d.bbox, COLOURS[d.class % COLOURS.len()])).collect();
    crate::image::draw_boxes(&mut picture, &boxes);
    let target = folder.join(path.with_extension("jpg").file_name().unwrap_or_default());
    let mut bytes = Vec::new();
    let side = |v: u32| u16::try_from(v).map_err(|e| e.to_string());
    jpeg_encoder::Encoder::new(&mut bytes, 90)
        .encode(&picture.rgb, side(picture.width)?, side(picture.height)?, jpeg_encoder::ColorType::Rgb)
        .map_err(|e| e.to_string())?;
    atomic_file::write(&target, &bytes, PUBLIC).map_err(|e| format!("{}: {e}", target.display()))
}
