//! Results: what a detector found, as COCO's tools read it.

use super::entries::{Entry, List, Place};
use super::{Annotations, CocoError, Faults, checked_box, parse, read_bytes, shown};
use serde::Serialize;
use std::collections::HashSet;
use std::path::Path;

/// One detection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResultEntry {
    /// The picture it is in.
    pub image_id: u64,
    /// What it is.
    pub category_id: u64,
    /// `[x, y, width, height]`, pixels of the picture.
    pub bbox: [f64; 4],
    /// How sure the detector is, 0 to 1.
    pub score: f64,
}

/// Reads a file of results, `.json` or `.json.gz`, that belong to `annotations`.
///
/// # Errors
/// [`CocoError`]; results of pictures or categories that the annotations do not have are among them.
pub fn read_results(path: &Path, annotations: &Annotations) -> Result<Vec<ResultEntry>, CocoError> {
    from_slice(&shown(path), &read_bytes(path)?, annotations)
}

/// As [`read_results`], of bytes that messages call `file`.
pub(super) fn from_slice(
    file: &str,
    bytes: &[u8],
    annotations: &Annotations,
) -> Result<Vec<ResultEntry>, CocoError> {
    let images: HashSet<u64> = annotations.images.iter().map(|image| image.id).collect();
    let categories: HashSet<u64> = annotations.categories.iter().map(|category| category.id).collect();
    let (mut results, mut faults, place) = (Vec::new(), Faults::default(), Place::default());
    let list = List {
        name: "",
        keys: ["image_id", "category_id", "bbox", "score"],
        place: &place,
        take: |index, entry: &Entry<4>| match result(entry, &images, &categories) {
            Ok(result) => results.push(result),
            Err(reason) => faults.add("", index, None, reason),
        },
    };
    parse(file, bytes, &place, list)?;
    faults.into_result(file)?;
    Ok(results)
}

fn result(entry: &Entry<4>, images: &HashSet<u64>, categories: &HashSet<u64>) -> Result<ResultEntry, String> {
    let (image_id, category_id) = (entry.whole("image_id")?, entry.whole("category_id")?);
    if !images.contains(&image_id) {
        return Err(format!("image_id {image_id} is not among the annotations' pictures"));
    }
    if !categories.contains(&category_id) {
        return Err(format!("category_id {category_id} is not among the annotations' categories"));
    }
    let (bbox, score) = (checked_box(entry.four("bbox")?)?, entry.number("score")?);
    if !(0.0..=1.0).contains(&score) {
        return Err(format!("score is {score:?}, must be 0 to 1"));
    }
    Ok(ResultEntry { image_id, category_id, bbox, score })
}

/// Results as one JSON array.
#[must_use]
pub fn results_text(results: &[ResultEntry]) -> String {
    serde_json::to_string(results).expect("numbers are always written")
}
