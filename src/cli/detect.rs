//! `retinad detect`: pictures in, JSON lines or COCO results out.

use super::print::{complain, say};
use super::{BAD_SETTINGS, ModelArgument, SOME_FAILED};
use crate::capture;
use crate::detection::{Detection, Times};
use crate::detector::{Detector, Generation};
use crate::settings::Settings;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write;
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

struct Work {
    path: PathBuf,
    image_id: Value,
}

/// Runs `retinad detect`.
pub fn detect(settings: &Settings, arguments: &DetectArguments) -> Result<(), (u8, String)> {
    let usage = |message: &str| (2, message.to_owned());
    if arguments.min_score.is_some_and(|s| !(0.05..=0.99).contains(&s)) {
        return Err(usage("--min-score must be 0.05 to 0.99"));
    }
    if (arguments.format == Format::Coco) != arguments.annotations.is_some()
        || arguments.annotations.is_some() != arguments.paths.is_empty()
    {
        return Err(usage("give pictures, or --format coco with --annotations and --images"));
    }
    let model = Generation::load(&settings.detector.model_file(), 0).map_err(|e| (BAD_SETTINGS, e.to_string()))?;
    let coco = arguments.format == Format::Coco;
    let min_score = arguments.min_score.unwrap_or(if coco { 0.05 } else { settings.detector.min_score });
    let (work, categories) = match (&arguments.annotations, &arguments.images) {
        (Some(annotations), Some(images)) => from_annotations(annotations, images).map_err(|e| (SOME_FAILED, e))?,
        _ => (from_paths(&arguments.paths).map_err(|e| (SOME_FAILED, e))?, HashMap::new()),
    };
    if let Some(folder) = &arguments.draw {
        std::fs::create_dir_all(folder).map_err(|e| (SOME_FAILED, format!("{}: {e}", folder.display())))?;
    }
    let bar = indicatif::ProgressBar::new(work.len() as u64);
    if !coco || work.len() < 20 {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let mut detector = Detector::new(&model, settings.detector.threads(1)).map_err(|e| (super::BAD_SETTINGS, e.to_string()))?;
    let (mut failed, mut lines, mut results) = (0, String::new(), Vec::new());
    for item in &work {
        bar.inc(1);
        let mut times = Times::default();
        let found =
            capture::read_picture(&item.path).and_then(|raw| detector.detect(&raw, min_score, &mut times).map_err(|e| e.to_string()));
        let found = match found {
            Ok(found) => found,
            Err(reason) => {
                failed += 1;
                complain(format_args!("retinad: {}: {reason}", item.path.display()));
                continue;
            }
        };
        if coco {
            for d in &found {
                let Some(category) = categories.get(&model.labels[d.class]) else { continue };
                let [x1, y1, x2, y2] = d.bbox;
                results.push(
                    json!({"image_id": item.image_id, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": d.score}),
                );
            }
        } else {
            let line = json_line(&item.path, &model, &detector, &found, &times);
            if arguments.output.is_some() { lines += &(line + "\n") } else { say!("{line}") }
        }
        if let Some(folder) = &arguments.draw {
            draw(folder, &item.path, &detector, &found).map_err(|e| (SOME_FAILED, e))?;
        }
    }
    bar.finish_and_clear();
    if coco {
        lines = Value::Array(results).to_string();
    }
    match &arguments.output {
        Some(path) => write_whole(path, lines.as_bytes()).map_err(|e| (SOME_FAILED, format!("{}: {e}", path.display())))?,
        None if coco => say!("{lines}"),
        None => {}
    }
    if failed > 0 { Err((SOME_FAILED, format!("{failed} of {} pictures failed", work.len()))) } else { Ok(()) }
}

fn json_line(path: &Path, model: &Generation, detector: &Detector, found: &[Detection], times: &Times) -> String {
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
                p.extension()
                    .and_then(|e| e.to_str())
                    .is_some_and(|e| ["jpg", "jpeg", "png", "webp"].contains(&e.to_ascii_lowercase().as_str()))
            };
            let mut inside: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(is_picture).collect();
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files.into_iter().map(|path| Work { path, image_id: Value::Null }).collect())
}

fn from_annotations(annotations: &Path, images: &Path) -> Result<(Vec<Work>, HashMap<String, Value>), String> {
    let name = annotations.display();
    let text = std::fs::read_to_string(annotations).map_err(|e| format!("{name}: {e}"))?;
    let json: Value = serde_json::from_str(&text).map_err(|e| format!("{name}: {e}"))?;
    let list = |key: &str| json[key].as_array().ok_or_else(|| format!("{name}: no array `{key}`"));
    let mut work = Vec::new();
    for image in list("images")? {
        let file = image["file_name"].as_str().ok_or_else(|| format!("{name}: an image without file_name"))?;
        work.push(Work { path: images.join(file), image_id: image["id"].clone() });
    }
    let categories = list("categories")?.iter().filter_map(|c| Some((c["name"].as_str()?.to_owned(), c["id"].clone()))).collect();
    Ok((work, categories))
}

fn draw(folder: &Path, path: &Path, detector: &Detector, found: &[Detection]) -> Result<(), String> {
    const COLOURS: [[u8; 3]; 6] = [[230, 60, 60], [60, 170, 60], [70, 110, 240], [230, 170, 30], [170, 70, 200], [40, 180, 190]];
    let mut picture = detector.picture().clone();
    let boxes: Vec<_> = found.iter().map(|d| (d.bbox, COLOURS[d.class % COLOURS.len()])).collect();
    crate::image::draw_boxes(&mut picture, &boxes);
    let target = folder.join(path.with_extension("jpg").file_name().unwrap_or_default());
    let mut bytes = Vec::new();
    let side = |v: u32| u16::try_from(v).map_err(|e| e.to_string());
    jpeg_encoder::Encoder::new(&mut bytes, 90)
        .encode(&picture.rgb, side(picture.width)?, side(picture.height)?, jpeg_encoder::ColorType::Rgb)
        .map_err(|e| e.to_string())?;
    write_whole(&target, &bytes).map_err(|e| format!("{}: {e}", target.display()))
}

/// Writes beside the target and renames, so that no half-written file stays.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("part");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
