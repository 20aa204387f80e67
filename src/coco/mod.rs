//! COCO files: annotations (pictures, categories, boxes) and results (what a detector found), read and
//! written.
//!
//! What is read is whole and consistent, or refused with one line that names file and entry: each bad entry
//! counts, the first is told. Boxes are `[x, y, width, height]` in pixels of the picture. Fields that are not
//! listed here are skipped, and are gone when such a file is written again. No clocks; files only by the path
//! that was given.
//!
//! Rules that COCO leaves open:
//! - An annotation's box may jut out of its picture by [`MOST_OUTSIDE`] pixels, as rounding makes it, and
//!   is then kept as it is; one that lies further out is refused, not clipped, because the label would be a
//!   guess.
//! - A result's box may lie anywhere: where it is wrong, it counts as wrong.
//! - Ids are whole numbers from 0. Flags are 0, 1, false or true, and 0 where they are missing. `area` is
//!   width times height where it is missing.

mod annotations;
mod entries;
mod results;

pub use annotations::{Annotation, Annotations, Category, Image};
pub use results::{ResultEntry, read_results, results_text};

use crate::one_line::one_line;
use crate::regular_file;
use serde::de::DeserializeSeed;
use std::io::Read;
use std::path::Path;

/// Largest file that is read, bytes, unpacked: COCO's own of 118,000 pictures has 450 MB.
pub const MAX_BYTES: u64 = 1 << 29;
/// Furthest that an annotation's box may jut out of its picture, pixels.
pub const MOST_OUTSIDE: f64 = 1.0;
/// Largest coordinate or size of a box, pixels; areas and unions of such boxes are exact enough.
const MAX_COORDINATE: f64 = 1e6;
/// Mode of files that are written, before the umask.
const PUBLIC: u32 = 0o666;

/// Why a COCO file is not used. One line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CocoError {
    /// It cannot be read or written, or is too large.
    #[error("{file}: {reason}")]
    File {
        /// Its path.
        file: String,
        /// The system's words, or what it is.
        reason: String,
    },
    /// It is no JSON, or not in COCO's form.
    #[error("{file}: {place}{reason}")]
    Form {
        /// Its path.
        file: String,
        /// The array and entry that was being read, as a prefix.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// An entry that cannot be used.
    #[error("{file}: {list}[{index}]{}: {reason}{}", id_words(*id), more_words(*others))]
    Entry {
        /// The file's path.
        file: String,
        /// The array that holds it; empty for results.
        list: &'static str,
        /// Its number in the array, from 0.
        index: usize,
        /// Its id, where it has one.
        id: Option<u64>,
        /// What is wrong with it.
        reason: String,
        /// How many entries are bad beside it.
        others: usize,
    },
}

fn id_words(id: Option<u64>) -> String {
    id.map_or(String::new(), |id| format!(" (id {id})"))
}

fn more_words(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" (and {others} more bad entries)") }
}

/// The first bad entry, and how many there are.
#[derive(Default)]
struct Faults {
    first: Option<(&'static str, usize, Option<u64>, String)>,
    count: usize,
}

impl Faults {
    fn add(&mut self, list: &'static str, index: usize, id: Option<u64>, reason: String) {
        self.count += 1;
        self.first.get_or_insert((list, index, id, reason));
    }

    fn into_result(self, file: &str) -> Result<(), CocoError> {
        let Some((list, index, id, reason)) = self.first else { return Ok(()) };
        let (file, reason, others) = (file.to_owned(), one_line(&reason), self.count - 1);
        Err(CocoError::Entry { file, list, index, id, reason, others })
    }
}

/// The path as messages show it.
fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// The bytes of a file, unpacked where its name ends with `.gz`; at most [`MAX_BYTES`].
fn read_bytes(path: &Path) -> Result<Vec<u8>, CocoError> {
    let failed = |reason: String| CocoError::File { file: shown(path), reason };
    let bytes = regular_file::read(path, MAX_BYTES).map_err(|e| failed(e.to_string()))?;
    if path.extension().is_none_or(|extension| extension != "gz") {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    flate2::read::MultiGzDecoder::new(&bytes[..])
        .take(MAX_BYTES + 1)
        .read_to_end(&mut unpacked)
        .map_err(|e| failed(format!("cannot be unpacked: {e}")))?;
    if unpacked.len() as u64 > MAX_BYTES {
        return Err(failed(format!("unpacks to more than {MAX_BYTES} bytes, at most those are read")));
    }
    Ok(unpacked)
}

/// Runs `seed` over a whole JSON text.
fn parse<'de, S>(file: &str, bytes: &'de [u8], place: &entries::Place, seed: S) -> Result<S::Value, CocoError>
where
    S: DeserializeSeed<'de>,
{
    // Some editors put a byte order mark in front.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    parsed.map_err(|error| CocoError::Form {
        file: file.to_owned(),
        place: place.prefix(),
        reason: match not_finite_at(bytes, &error) {
            Some(word) => {
                format!("{word} at line {} column {}, must be a finite number", error.line(), error.column())
            }
            None => one_line(&error.to_string()),
        },
    })
}

/// Python writes numbers that JSON does not have; which one stands where the error is.
fn not_finite_at(bytes: &[u8], error: &serde_json::Error) -> Option<&'static str> {
    let line = bytes.split(|byte| *byte == b'\n').nth(error.line().checked_sub(1)?)?;
    let near = error.column().saturating_sub(2)..=error.column();
    let starts =
        |word: &&str| near.clone().any(|at| line.get(at..).is_some_and(|l| l.starts_with(word.as_bytes())));
    ["NaN", "-Infinity", "Infinity"].into_iter().find(starts)
}

/// A box's numbers, if each can be one.
fn checked_box(bbox: [f64; 4]) -> Result<[f64; 4], String> {
    for (name, number) in ["x", "y", "width", "height"].into_iter().zip(bbox) {
        if !number.is_finite() || number.abs() > MAX_COORDINATE {
            return Err(format!(
                "bbox has {name} {number:?}, must be finite and at most {MAX_COORDINATE} in size"
            ));
        }
    }
    let sides = ["width", "height"].into_iter().zip([bbox[2], bbox[3]]);
    for (name, side) in sides {
        if side < 0.0 {
            return Err(format!("bbox has {name} {side:?}, must not be negative"));
        }
    }
    Ok(bbox)
}

#[cfg(test)]
mod tests;
