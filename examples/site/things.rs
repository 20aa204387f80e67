//! Background things that the model takes for something, and a camera that looks at each of them.

use super::made::Numbers;
use retinad::capture::read_picture;
use retinad::frame::Picture;
use retinad::image::{decode, encode_jpeg};
use serde_json::Value;
use std::error::Error;
use std::path::Path;

/// Most things.
const MOST: usize = 3;
/// Frames of each thing.
pub const FRAMES: usize = 40;
/// Of these so many are marked; the others judge.
pub const MARKED: usize = 10;
/// Score from which a thing is taken: it is then told in most frames, whatever the light.
const SURE: f64 = 0.6;
/// Overlap from which a detection may be of a labelled object, if badly.
const NEAR: f64 = 0.1;
/// Overlap from which two boxes are of the same thing.
pub const SAME: f64 = 0.5;
/// How far a camera shakes, pixels.
const SHAKE: i64 = 4;

/// Something that is taken for a `label`.
pub struct Thing {
    pub label: String,
    /// Corners, pixels of the frame.
    pub bbox: [f64; 4],
    /// Number of its picture among those of the annotations.
    picture: usize,
}

impl Thing {
    /// Whether a detection, as messages and `retinad detect` tell it, is of the thing.
    pub fn is(&self, detection: &Value) -> bool {
        detection["label"] == self.label.as_str()
            && overlap(&self.bbox, &corners(&detection["box_px"])) >= SAME
    }
}

/// The detections most sure of themselves that are near no labelled object, each of another label and picture.
/// `found` has for each picture of `labels`, in their order, what the model tells.
pub fn choose(labels: &Value, found: &[Value]) -> Vec<Thing> {
    let mut all = Vec::new();
    for (picture, (image, found)) in labels["images"].as_array().into_iter().flatten().zip(found).enumerate()
    {
        for detection in found["detections"].as_array().into_iter().flatten() {
            let (bbox, score) = (corners(&detection["box_px"]), detection["score"].as_f64().unwrap_or(0.0));
            if score >= SURE && !truths(labels, image).any(|truth| overlap(&truth, &bbox) >= NEAR) {
                let label = detection["label"].as_str().unwrap_or_default().to_owned();
                all.push((score, Thing { label, bbox, picture }));
            }
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut things: Vec<Thing> = Vec::new();
    for (_, thing) in all {
        if things.len() < MOST && !things.iter().any(|t| t.label == thing.label || t.picture == thing.picture)
        {
            things.push(thing);
        }
    }
    things
}

/// Writes [`FRAMES`] frames of each thing into `folder`, the first thing's first: the light changes, the sensor is
/// noisy, the wind moves the camera.
pub fn write(things: &[Thing], labels: &Value, pictures: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let mut numbers = Numbers(11);
    for (number, thing) in things.iter().enumerate() {
        let name = labels["images"][thing.picture]["file_name"].as_str().unwrap_or_default();
        let mut picture = Picture::default();
        decode(&read_picture(&pictures.join(name))?, &mut picture)?;
        for frame in 0..FRAMES {
            let seen = seen_again(&picture, &mut numbers);
            let path = folder.join(format!("{:04}.jpg", number * FRAMES + frame));
            std::fs::write(path, encode_jpeg(&seen)?)?;
        }
    }
    Ok(())
}

/// The picture a moment later.
fn seen_again(picture: &Picture, numbers: &mut Numbers) -> Picture {
    let [dx, dy] = [0, 1].map(|_| numbers.below(2 * SHAKE as usize + 1) as i64 - SHAKE);
    let light = 0.8 + 0.4 * numbers.share();
    let (width, height) = (i64::from(picture.width), i64::from(picture.height));
    let mut rgb = Vec::with_capacity(picture.rgb.len());
    for y in 0..height {
        for x in 0..width {
            let (from_x, from_y) = ((x + dx).clamp(0, width - 1), (y + dy).clamp(0, height - 1));
            let at = 3 * (from_y * width + from_x) as usize;
            let noise = 16.0 * (numbers.share() - 0.5);
            let lit = |value: &u8| (f64::from(*value) * light + noise).clamp(0.0, 255.0) as u8;
            rgb.extend(picture.rgb[at..at + 3].iter().map(lit));
        }
    }
    Picture { width: picture.width, height: picture.height, rgb }
}

/// The truths of a picture of `labels`, as corners.
fn truths<'a>(labels: &'a Value, picture: &'a Value) -> impl Iterator<Item = [f64; 4]> + 'a {
    let of = |a: &'a Value| {
        let [x, y, w, h] = [0, 1, 2, 3].map(|at| a["bbox"][at].as_f64().unwrap_or(0.0));
        [x, y, x + w, y + h]
    };
    let here = |a: &&Value| a["image_id"] == picture["id"];
    labels["annotations"].as_array().into_iter().flatten().filter(here).map(of)
}

fn corners(bbox: &Value) -> [f64; 4] {
    [0, 1, 2, 3].map(|at| bbox[at].as_f64().unwrap_or(0.0))
}

fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    let area = |c: &[f64; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let both = side(0, 2) * side(1, 3);
    both / (area(a) + area(b) - both).max(1.0)
}
