//! What is known of a sample, and how it stands in its file: a COCO file of one picture, so that any tool that
//! reads COCO can open it, with fields of our own beside COCO's.

use super::SampleId;
use super::selection::Reason;
use crate::one_line::one_line;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// The label of a box in which there is nothing of what a person was shown there.
pub const BACKGROUND: &str = "background";
/// Most boxes of one sample, found or labelled.
pub(super) const MOST_BOXES: usize = 1000;
/// Longest label, bytes.
const LONGEST_LABEL: usize = 64;
/// Boxes may stand out of the picture by this much, pixels, because tools round; they are cut off there.
const ROUNDING: f32 = 1.0;
/// Form of the file.
const FORMAT: &str = "retinad-sample/1";

/// Why a sample's file, or something that is said about a sample, cannot be used. One line that names the
/// entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordError(pub String);

/// One object that the model found in the picture, also below the threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What it is.
    pub label: String,
    /// Sigmoid score, 0 to 1.
    pub score: f32,
    /// `[x1, y1, x2, y2]`, pixels.
    pub bbox: [f32; 4],
    /// Whether it was told: counted and published.
    pub told: bool,
}

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `retinad samples label`.
    Person,
    /// A verdict over MQTT.
    Feedback,
    /// A file of a labelling tool.
    Import,
}

/// One object that is in the picture, or with [`BACKGROUND`] an area in which there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// What it is.
    pub label: String,
    /// `[x1, y1, x2, y2]`, pixels.
    pub bbox: [f32; 4],
    /// Who says so.
    pub origin: Origin,
    /// Whether it counts neither as right nor as wrong: a crowd, or what even people find hard to see.
    pub ignore: bool,
}

/// How much of a picture people have spoken about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Verdicts {
    /// Nothing.
    #[default]
    None,
    /// The labelled boxes; about the rest nothing is known.
    Part,
    /// The whole: what has no label is background.
    Whole,
}

/// The model that judged the frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file, hex.
    pub sha256: String,
}

/// A frame that was kept, without its picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its name.
    pub id: SampleId,
    /// The camera's id, or `import`.
    pub camera: String,
    /// When the frame was captured, RFC 3339; empty where nobody knows.
    pub captured: String,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Why it was kept.
    pub reasons: BTreeSet<Reason>,
    /// The camera's threshold then.
    pub threshold: f32,
    /// Who judged it.
    pub model: Model,
    /// What was found, best first.
    pub found: Vec<Found>,
    /// What people say is there.
    pub labels: Vec<Label>,
    /// How much of the picture the labels speak about.
    pub verdicts: Verdicts,
}

impl Sample {
    /// What was told of it: mostly what scored above the threshold, but for what the settings ask of single
    /// labels and of what was there before.
    pub fn told(&self) -> impl Iterator<Item = &Found> {
        self.found.iter().filter(|found| found.told)
    }

    /// Whether anybody has said anything about it.
    #[must_use]
    pub fn is_labelled(&self) -> bool {
        self.verdicts != Verdicts::None
    }

    /// A box as it can stand in this sample: within the picture, at least a pixel large.
    ///
    /// # Errors
    /// In words, without a name for the box.
    pub fn checked_box(&self, [x1, y1, x2, y2]: [f32; 4]) -> Result<[f32; 4], RecordError> {
        let (width, height) = (self.width as f32, self.height as f32);
        let within = |low: f32, high: f32, end: f32| low >= -ROUNDING && high <= end + ROUNDING;
        if ![x1, y1, x2, y2].iter().all(|v| v.is_finite())
            || !within(x1, x2, width)
            || !within(y1, y2, height)
        {
            return Err(RecordError(format!(
                "{x1},{y1},{x2},{y2} is not within the picture of {}x{} pixels",
                self.width, self.height
            )));
        }
        let cut = [x1.max(0.0), y1.max(0.0), x2.min(width), y2.min(height)];
        if cut[2] - cut[0] < 1.0 || cut[3] - cut[1] < 1.0 {
            let words = format!("{x1},{y1},{x2},{y2} is no box: left, top, right, bottom, at least a pixel");
            return Err(RecordError(words));
        }
        Ok(cut)
    }

    /// The text of its file.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let names: Vec<&str> = self
            .labels
            .iter()
            .map(|label| label.label.as_str())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let category = |label: &str| names.iter().position(|name| *name == label).unwrap_or(0) as u64 + 1;
        let annotations = self.labels.iter().zip(1..).map(|(label, id)| {
            let bbox = xywh(label.bbox);
            let area = bbox[2] * bbox[3];
            let category_id = category(&label.label);
            Annotation {
                id,
                image_id: 1,
                category_id,
                bbox,
                area,
                iscrowd: 0,
                ignore: u8::from(label.ignore),
                origin: label.origin,
            }
        });
        let file = File {
            info: Info { description: FORMAT.to_owned() },
            images: vec![Image {
                id: 1,
                file_name: format!("{}.jpg", self.id),
                width: self.width,
                height: self.height,
                date_captured: self.captured.clone(),
                camera: self.camera.clone(),
                reasons: self.reasons.clone(),
                threshold: self.threshold,
                model: self.model.clone(),
                found: self.found.iter().map(|found| FoundEntry::of(found, self.threshold)).collect(),
                labelled: self.verdicts,
            }],
            annotations: annotations.collect(),
            categories: names
                .iter()
                .zip(1..)
                .map(|(name, id)| Category { id, name: (*name).to_owned() })
                .collect(),
        };
        let mut bytes = serde_json::to_vec_pretty(&file).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads the text of the file of the sample `id`.
    ///
    /// # Errors
    /// [`RecordError`] that names the entry.
    pub fn from_json(id: &SampleId, text: &[u8]) -> Result<Self, RecordError> {
        let file: File = serde_json::from_slice(text).map_err(|e| RecordError(one_line(&e.to_string())))?;
        if file.info.description != FORMAT {
            return Err(refused("info.description", format!("must be `{FORMAT}`")));
        }
        let Ok([image]) = <[Image; 1]>::try_from(file.images) else {
            return Err(refused("images", "must have one entry"));
        };
        if image.file_name != format!("{id}.jpg") {
            return Err(refused("images[0].file_name", format!("must be `{id}.jpg`")));
        }
        let side = 1..=crate::image::MAX_SIDE;
        if !side.contains(&image.width) || !side.contains(&image.height) {
            return Err(refused("images[0]", format!("{}x{} pixels", image.width, image.height)));
        }
        if image.found.len() > MOST_BOXES || file.annotations.len() > MOST_BOXES {
            return Err(RecordError(format!("more than {MOST_BOXES} boxes")));
        }
        let mut sample = Self {
            id: id.clone(),
            camera: image.camera,
            captured: image.date_captured,
            width: image.width,
            height: image.height,
            reasons: image.reasons,
            threshold: image.threshold,
            model: image.model,
            found: Vec::new(),
            labels: Vec::new(),
            verdicts: image.labelled,
        };
        for (i, found) in image.found.iter().enumerate() {
            let found = found.read(&sample).map_err(|e| refused(format!("images[0].found[{i}]"), e))?;
            sample.found.push(found);
        }
        let name_of = |id| file.categories.iter().find(|category| category.id == id).map(|c| &c.name);
        for (i, annotation) in file.annotations.iter().enumerate() {
            let entry = || format!("annotations[{i}]");
            let label = name_of(annotation.category_id)
                .ok_or_else(|| refused(entry(), format!("no category {}", annotation.category_id)))?;
            let label = checked_label(label).map_err(|error| refused(entry(), error))?;
            let bbox = sample.checked_box(xyxy(annotation.bbox)).map_err(|error| refused(entry(), error))?;
            sample.labels.push(Label {
                label,
                bbox,
                origin: annotation.origin,
                ignore: annotation.ignore != 0,
            });
        }
        Ok(sample)
    }
}

fn refused(entry: impl fmt::Display, reason: impl fmt::Display) -> RecordError {
    RecordError(format!("{entry}: {reason}"))
}

/// A label as a sample can hold it.
///
/// # Errors
/// In words.
pub fn checked_label(text: &str) -> Result<String, RecordError> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST_LABEL || text.contains(char::is_control) {
        let shown = one_line(text);
        return Err(RecordError(format!("`{shown}` is no label: 1 to {LONGEST_LABEL} bytes, on one line")));
    }
    Ok(text.to_owned())
}

/// COCO's corner and size of a box of two corners.
fn xywh([x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
    [x1, y1, x2 - x1, y2 - y1]
}

fn xyxy([x, y, width, height]: [f32; 4]) -> [f32; 4] {
    [x, y, x + width, y + height]
}

#[derive(Serialize, Deserialize)]
struct File {
    info: Info,
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Serialize, Deserialize)]
struct Info {
    description: String,
}

#[derive(Serialize, Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
    #[serde(default)]
    date_captured: String,
    camera: String,
    reasons: BTreeSet<Reason>,
    threshold: f32,
    #[serde(default)]
    model: Model,
    #[serde(default)]
    found: Vec<FoundEntry>,
    #[serde(default)]
    labelled: Verdicts,
}

#[derive(Serialize, Deserialize)]
struct FoundEntry {
    label: String,
    score: f32,
    bbox: [f32; 4],
    /// Where it differs from whether the score is above the threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<bool>,
}

#[derive(Serialize, Deserialize)]
struct Annotation {
    id: u64,
    image_id: u64,
    category_id: u64,
    bbox: [f32; 4],
    area: f32,
    iscrowd: u8,
    #[serde(default)]
    ignore: u8,
    origin: Origin,
}

#[derive(Serialize, Deserialize)]
struct Category {
    id: u64,
    name: String,
}

impl FoundEntry {
    fn of(found: &Found, threshold: f32) -> Self {
        let told = (found.told != (found.score > threshold)).then_some(found.told);
        Self { label: found.label.clone(), score: found.score, bbox: xywh(found.bbox), told }
    }

    fn read(&self, sample: &Sample) -> Result<Found, RecordError> {
        if !(0.0..=1.0).contains(&self.score) {
            return Err(RecordError(format!("score {} must be 0 to 1", self.score)));
        }
        let [x1, y1, x2, y2] = xyxy(self.bbox);
        if ![x1, y1, x2, y2].iter().all(|v| v.is_finite()) {
            return Err(RecordError("its box is not finite".into()));
        }
        let (width, height) = (sample.width as f32, sample.height as f32);
        let bbox = [x1.clamp(0.0, width), y1.clamp(0.0, height), x2.clamp(0.0, width), y2.clamp(0.0, height)];
        let told = self.told.unwrap_or(self.score > sample.threshold);
        Ok(Found { label: checked_label(&self.label)?, score: self.score, bbox, told })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    /// A sample with something in each field.
    pub fn sample(second: u64) -> Sample {
        let captured = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_706_581 + second);
        Sample {
            id: SampleId::of(captured, "front"),
            camera: "front".into(),
            captured: crate::contract::rfc3339(captured),
            width: 64,
            height: 48,
            reasons: [Reason::Uncertain, Reason::Flicker].into(),
            threshold: 0.5,
            model: Model { name: "m".into(), sha256: "ab".repeat(32) },
            found: vec![Found { label: "cat".into(), score: 0.4, bbox: [1.0, 2.0, 30.0, 40.5], told: false }],
            labels: vec![
                Label {
                    label: "dog".into(),
                    bbox: [1.0, 2.0, 30.0, 40.0],
                    origin: Origin::Person,
                    ignore: true,
                },
                Label {
                    label: BACKGROUND.into(),
                    bbox: [31.0, 0.0, 64.0, 48.0],
                    origin: Origin::Feedback,
                    ignore: false,
                },
            ],
            verdicts: Verdicts::Part,
        }
    }

    #[test]
    fn a_sample_is_read_as_it_was_written() {
        let sample = sample(0);
        assert_eq!(Sample::from_json(&sample.id, &sample.to_json()), Ok(sample));
    }

    #[test]
    fn what_was_told_is_kept_where_the_score_alone_does_not_say_it() {
        let mut sample = sample(0);
        for (score, told) in [(0.4, false), (0.4, true), (0.9, true), (0.9, false)] {
            sample.found.push(Found { score, told, ..sample.found[0].clone() });
        }
        let text = String::from_utf8(sample.to_json()).expect("UTF-8");
        assert_eq!(text.matches("\"told\"").count(), 2, "only where it differs: {text}");
        let read = Sample::from_json(&sample.id, text.as_bytes()).expect("its own file");
        assert_eq!((read.found.clone(), read.told().count()), (sample.found, 2));
    }

    #[test]
    fn a_file_that_cannot_be_right_is_refused_by_entry() {
        let sample = sample(0);
        let text = String::from_utf8(sample.to_json()).expect("UTF-8");
        for (old, new, words) in [
            ("retinad-sample/1", "retinad-sample/2", "info.description: must be"),
            ("\"width\": 64", "\"width\": 0", "images[0]: 0x48 pixels"),
            ("\"score\": 0.4", "\"score\": 1.5", "images[0].found[0]: score 1.5 must be 0 to 1"),
            ("\"category_id\": 2", "\"category_id\": 9", "annotations[0]: no category 9"),
            ("\"name\": \"dog\"", "\"name\": \" \"", "annotations[0]: `` is no label"),
            ("-front.jpg", "-back.jpg", "images[0].file_name: must be"),
            ("\"origin\": \"person\"", "\"origin\": \"nobody\"", "unknown variant `nobody`"),
            ("31.0,", "60.0,", "annotations[1]: 60,0,93,48 is not within the picture of 64x48 pixels"),
            ("\"images\": [", "\"images\": [,", "expected value"),
        ] {
            assert!(text.contains(old), "{old} stands in {text}");
            let error = Sample::from_json(&sample.id, text.replacen(old, new, 1).as_bytes());
            let error = error.expect_err(new).to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{new}: {error}");
        }
        for cut in 0..text.trim_end().len() {
            assert!(Sample::from_json(&sample.id, &text.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn boxes_are_cut_where_tools_round_and_refused_beyond() {
        let sample = sample(0);
        assert_eq!(sample.checked_box([-0.5, 0.0, 64.9, 48.0]), Ok([0.0, 0.0, 64.0, 48.0]));
        for bad in [
            [-2.0, 0.0, 10.0, 10.0],
            [0.0, 0.0, 70.0, 10.0],
            [10.0, 10.0, 5.0, 20.0],
            [5.0, 5.0, 5.5, 20.0],
            [f32::NAN, 0.0, 10.0, 10.0],
            [0.0, 0.0, f32::INFINITY, 10.0],
        ] {
            sample.checked_box(bad).expect_err("refused");
        }
    }
}
