//! `samples list` and `samples show`.

use super::{Faults, failed, ids};
use crate::atomic_file;
use crate::cli::exit::Failure;
use crate::cli::print;
use crate::frame::{Encoding, Picture, RawFrame, Turn};
use crate::image::{Mark, decode, draw_boxes, encode_jpeg};
use crate::samples::{BACKGROUND, Entry, Origin, Sample, Store, Verdicts};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Arguments of `retinad samples list`.
#[derive(Args)]
pub struct ListArguments {
    /// Only samples of this camera
    #[arg(long)]
    camera: Option<String>,
    /// Only samples kept for this reason: uncertain, flicker, empty, random, feedback or import
    #[arg(long)]
    reason: Option<String>,
    /// Only samples that somebody has labelled
    #[arg(long, conflicts_with = "unlabelled")]
    labelled: bool,
    /// Only samples that nobody has labelled
    #[arg(long)]
    unlabelled: bool,
    /// One JSON object a sample and line
    #[arg(long)]
    json: bool,
}

/// Arguments of `retinad samples show`.
#[derive(Args)]
pub struct ShowArguments {
    /// Ids as `retinad samples list` shows them
    #[arg(required = true)]
    ids: Vec<String>,
    /// Write each picture with its boxes to this folder: what was found in red, what people say in green
    #[arg(long)]
    draw: Option<PathBuf>,
    /// One JSON object a sample and line
    #[arg(long)]
    json: bool,
}

const FOUND: [u8; 3] = [230, 60, 60];
const LABELLED: [u8; 3] = [60, 170, 60];
const NOTHING_THERE: [u8; 3] = [120, 120, 120];
/// Mode of what is written for people, before the umask.
const PUBLIC: u32 = 0o666;

/// Lists samples, the oldest first.
pub fn list(store: &Store, arguments: &ListArguments) -> Result<(), Failure> {
    let (mut faults, mut shown, mut labelled, mut bytes) = (Faults::default(), 0, 0, 0);
    for entry in store.entries()? {
        let Some(sample) = faults.note(store.read(&entry.id)) else { continue };
        if !arguments.wants(&sample) {
            continue;
        }
        shown += 1;
        labelled += usize::from(sample.is_labelled());
        bytes += entry.bytes;
        if arguments.json {
            print_json(&sample, &entry)?;
        } else {
            print::line(format_args!("{}", line_of(&sample)));
        }
    }
    if !arguments.json {
        let megabytes = bytes as f64 / f64::from(1 << 20);
        let folder = store.folder().display();
        print::line(format_args!("{shown} samples, {labelled} labelled, {megabytes:.1} MB in {folder}"));
    }
    faults.into_result()
}

impl ListArguments {
    fn wants(&self, sample: &Sample) -> bool {
        let camera = self.camera.as_ref().is_none_or(|camera| *camera == sample.camera);
        let has = |word: &String| sample.reasons.iter().any(|reason| reason.word() == word);
        let labelled = sample.is_labelled();
        camera
            && self.reason.as_ref().is_none_or(has)
            && (!self.labelled || labelled)
            && (!self.unlabelled || !labelled)
    }
}

fn line_of(sample: &Sample) -> String {
    let mut found = sample.found.iter().map(|found| format!("{} {:.2}", found.label, found.score));
    let said = match sample.verdicts {
        Verdicts::None => "-".to_owned(),
        _ if sample.labels.is_empty() => "nothing there".to_owned(),
        _ => joined(sample.labels.iter().map(|label| label.label.clone())),
    };
    format!("{}  {}  found: {}  labels: {said}", sample.id, reasons(sample), joined(&mut found))
}

fn reasons(sample: &Sample) -> String {
    joined(sample.reasons.iter().map(|reason| reason.word().to_owned()))
}

/// Words with commas, or a dash for none.
fn joined(words: impl Iterator<Item = String>) -> String {
    let words = words.collect::<Vec<_>>().join(", ");
    if words.is_empty() { "-".to_owned() } else { words }
}

/// Shows samples in full.
pub fn show(store: &Store, arguments: &ShowArguments) -> Result<(), Failure> {
    let mut faults = Faults::default();
    if let Some(folder) = &arguments.draw {
        std::fs::create_dir_all(folder).map_err(|error| failed(format!("{}: {error}", folder.display())))?;
    }
    let entries = if arguments.json { store.entries()? } else { Vec::new() };
    for id in ids(&arguments.ids)? {
        let Some(sample) = faults.note(store.read(&id)) else { continue };
        match entries.iter().find(|entry| entry.id == id) {
            Some(entry) => print_json(&sample, entry)?,
            // One that went while it was read is no line of JSON.
            None if arguments.json => {}
            None => print_whole(&sample),
        }
        if let Some(folder) = &arguments.draw {
            let path = folder.join(format!("{id}.jpg"));
            let drawn = draw(store, &sample, &path).map_err(|reason| format!("{}: {reason}", path.display()));
            faults.note(drawn);
        }
    }
    faults.into_result()
}

fn print_whole(sample: &Sample) {
    let Sample { id, width, height, camera, captured, threshold, .. } = sample;
    let reasons = reasons(sample);
    print::line(format_args!("{id}  {width}x{height}  camera {camera}  {captured}  kept: {reasons}"));
    print::line(format_args!("  model {}  threshold {threshold:.2}", sample.model.name));
    for (found, number) in sample.found.iter().zip(1..) {
        let (label, score, corners) = (&found.label, found.score, corners(found.bbox));
        print::line(format_args!("  found {number}  {label} {score:.2}  {corners}"));
    }
    for (label, number) in sample.labels.iter().zip(1..) {
        let (what, corners, by) = (&label.label, corners(label.bbox), by(label.origin));
        let ignored = if label.ignore { "  (counts neither way)" } else { "" };
        print::line(format_args!("  label {number}  {what}  {corners}  by {by}{ignored}"));
    }
    let said = match sample.verdicts {
        Verdicts::None => "nobody has said anything",
        Verdicts::Part => "about the rest of the picture nothing is known",
        Verdicts::Whole => "nothing else is in the picture",
    };
    print::line(format_args!("  {said}"));
}

fn by(origin: Origin) -> &'static str {
    match origin {
        Origin::Person => "retinad samples label",
        Origin::Feedback => "feedback over MQTT",
        Origin::Import => "retinad samples import",
    }
}

/// `left,top,right,bottom`, as `samples label --box` takes it.
fn corners(bbox: [f32; 4]) -> String {
    bbox.map(|v| v.round().to_string()).join(",")
}

/// One box as JSON.
#[derive(Serialize)]
struct BoxLine<'a> {
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    #[serde(rename = "box")]
    corners: [f32; 4],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ignore: bool,
}

/// A sample as JSON; boxes are `[x1, y1, x2, y2]` as in `retinad detect`.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    camera: &'a str,
    captured_at: &'a str,
    width: u32,
    height: u32,
    reasons: Vec<&'static str>,
    threshold: f32,
    model: &'a crate::samples::Model,
    found: Vec<BoxLine<'a>>,
    labels: Vec<BoxLine<'a>>,
    labelled: Verdicts,
    bytes: u64,
}

fn print_json(sample: &Sample, entry: &Entry) -> Result<(), Failure> {
    let found = sample.found.iter().map(|f| BoxLine {
        label: &f.label,
        score: Some(f.score),
        origin: None,
        corners: f.bbox,
        ignore: false,
    });
    let labels = sample.labels.iter().map(|l| BoxLine {
        label: &l.label,
        score: None,
        origin: Some(l.origin),
        corners: l.bbox,
        ignore: l.ignore,
    });
    let line = Line {
        id: sample.id.as_str(),
        camera: &sample.camera,
        captured_at: &sample.captured,
        width: sample.width,
        height: sample.height,
        reasons: sample.reasons.iter().map(|reason| reason.word()).collect(),
        threshold: sample.threshold,
        model: &sample.model,
        found: found.collect(),
        labels: labels.collect(),
        labelled: sample.verdicts,
        bytes: entry.bytes,
    };
    let text = serde_json::to_string(&line).map_err(failed)?;
    print::line(format_args!("{text}"));
    Ok(())
}

fn draw(store: &Store, sample: &Sample, path: &Path) -> Result<(), String> {
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return Err("is there and no regular file".into());
    }
    let data = store.picture(&sample.id).map_err(|error| error.to_string())?;
    let raw = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data };
    let mut picture = Picture::default();
    decode(&raw, &mut picture).map_err(|error| error.to_string())?;
    let found = sample.found.iter().rev().map(|found| Mark {
        bbox: found.bbox,
        colour: FOUND,
        text: format!("{} {:.2}", found.label, found.score),
    });
    let labels = sample.labels.iter().map(|label| Mark {
        bbox: label.bbox,
        colour: if label.label == BACKGROUND { NOTHING_THERE } else { LABELLED },
        text: label.label.clone(),
    });
    draw_boxes(&mut picture, &found.chain(labels).collect::<Vec<_>>());
    let bytes = encode_jpeg(&picture).map_err(|error| error.to_string())?;
    atomic_file::write(path, &bytes, PUBLIC).map_err(|error| error.to_string())
}
