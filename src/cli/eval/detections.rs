//! The model's detections in the annotations' pictures, on several cores.

use super::failed;
use crate::capture;
use crate::cli::exit::{Exit, Failure};
use crate::cli::print::{complain, printable};
use crate::cli::progress::progress;
use crate::coco::{Annotations, Image, ResultEntry};
use crate::detection::Times;
use crate::detector::{Detector, Generation};
use crate::settings::WorkerShare;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What was found.
pub struct Detected {
    /// In all pictures that could be read.
    pub results: Vec<ResultEntry>,
    /// Ids of the other pictures; each was told.
    pub failed: HashSet<u64>,
}

/// Refuses annotations of which a picture is not there, before the model runs for an hour.
///
/// # Errors
/// A line that names the first such entry and counts the others.
pub fn find_all(file: &Path, annotations: &Annotations, images: &Path) -> Result<(), Failure> {
    let missing = |(index, image): (usize, &Image)| {
        let path = images.join(&image.file_name);
        path.metadata().err().map(|error| (index, image.id, path, error))
    };
    let mut missing = annotations.images.iter().enumerate().filter_map(missing);
    let Some((index, id, path, error)) = missing.next() else { return Ok(()) };
    let others = match missing.count() {
        0 => String::new(),
        count => format!(" (and {count} more missing pictures)"),
    };
    Err(failed(format!("{}: images[{index}] (id {id}): {}: {error}{others}", file.display(), path.display())))
}

/// Detects in all pictures with `workers` detectors; the results come in the pictures' order, whoever found
/// them.
///
/// # Errors
/// If a detector cannot be built or panics. A picture that cannot be judged is told and left out.
pub fn detect_all(
    model: &Arc<Generation>,
    annotations: &Annotations,
    images: &Path,
    least_score: f32,
    workers: usize,
    share: &WorkerShare,
) -> Result<Detected, Failure> {
    let categories: HashMap<&str, u64> =
        annotations.categories.iter().map(|category| (category.name.as_str(), category.id)).collect();
    let detectors =
        (0..workers).map(|_| Detector::new(model, share.threads)).collect::<Result<Vec<_>, _>>()?;
    let bar = progress(annotations.images.len());
    let next = AtomicUsize::new(0);
    let work = |mut detector: Detector| {
        detector.set_picture_bytes(share.picture_bytes);
        let mut found = Vec::new();
        while let Some((place, image)) = taken(&next, &annotations.images) {
            found.push((place, detect_one(&mut detector, image, images, least_score, &categories)));
            bar.inc(1);
        }
        found
    };
    let mut found = std::thread::scope(|scope| {
        let threads: Vec<_> = detectors.into_iter().map(|detector| scope.spawn(|| work(detector))).collect();
        let joined = threads.into_iter().map(|thread| thread.join()).collect::<Result<Vec<_>, _>>();
        joined.map(|found| found.into_iter().flatten().collect::<Vec<_>>())
    })
    .map_err(|_| Failure::new(Exit::Internal, "a detector panicked"))?;
    bar.finish_and_clear();
    found.sort_by_key(|(place, _)| *place);
    let mut detected = Detected { results: Vec::new(), failed: HashSet::new() };
    for (place, outcome) in found {
        match outcome {
            Ok(results) => detected.results.extend(results),
            Err(reason) => {
                complain(format_args!("retinad: {}", printable(&reason)));
                detected.failed.insert(annotations.images[place].id);
            }
        }
    }
    Ok(detected)
}

/// The next picture that nobody has taken.
fn taken<'a>(next: &AtomicUsize, images: &'a [Image]) -> Option<(usize, &'a Image)> {
    let place = next.fetch_add(1, Ordering::Relaxed);
    images.get(place).map(|image| (place, image))
}

fn detect_one(
    detector: &mut Detector,
    image: &Image,
    images: &Path,
    least_score: f32,
    categories: &HashMap<&str, u64>,
) -> Result<Vec<ResultEntry>, String> {
    let path = images.join(&image.file_name);
    let of_picture = |reason: String| format!("{}: {reason}", path.display());
    let raw = capture::read_picture(&path).map_err(of_picture)?;
    let found = detector
        .detect(&raw, least_score, &mut Times::default())
        .map_err(|error| of_picture(error.to_string()))?;
    let (width, height) = (detector.picture().width, detector.picture().height);
    if (width, height) != (image.width, image.height) {
        return Err(of_picture(format!(
            "{width} x {height} pixels, but the annotations (image id {}) say {} x {}",
            image.id, image.width, image.height
        )));
    }
    let labels = &detector.generation().labels;
    let result = |found: &crate::detection::Detection| {
        let category_id = *categories.get(labels[found.class].as_str())?;
        let [x1, y1, x2, y2] = found.bbox;
        let bbox = [x1, y1, x2 - x1, y2 - y1].map(f64::from);
        Some(ResultEntry { image_id: image.id, category_id, bbox, score: f64::from(found.score) })
    };
    Ok(found.iter().filter_map(result).collect())
}
