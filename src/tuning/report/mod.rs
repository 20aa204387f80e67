//! The report on a tuning, for a person who never trained a model: one page of HTML that needs no network, no
//! script and no other file, on light and dark screens.
//!
//! What it shows is given as plain data; nothing is measured here. Its size is bounded: ten pictures of at
//! most 640 pixels a side, charts of at most some hundred points.

mod changed;
mod charts;
mod html;
mod page;
mod pictures;

pub use changed::{ChangedPicture, MostChanged};

use super::hooks::{Judgement, Measure};
use crate::atomic_file;
use crate::evaluation::Interval;
use crate::one_line::one_line;
use crate::plot::PlotError;
use crate::regular_file;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Name of the page in the report's folder.
pub const PAGE: &str = "index.html";
/// Most bytes of a page; the largest that the bounds allow has a fifth of it.
pub const MOST_BYTES: usize = 16 << 20;
/// How every report begins, so that one is known when it is replaced.
const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
                    <meta name=\"generator\" content=\"retinad tuning report\">\n";
/// Mode of what is written for people, before the umask.
const PUBLIC: u32 = 0o666;

/// Something of the model in use and of the tuned one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Both<T> {
    /// Of the model that was in use.
    pub before: T,
    /// Of the tuned one.
    pub after: T,
}

/// A model as the report names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelName {
    /// Name in its manifest.
    pub name: String,
    /// Version in its manifest.
    pub version: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// How many pictures there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pictures {
    /// That training saw.
    pub trained: usize,
    /// That it did not see, which judge.
    pub held_out: usize,
}

/// AP50 of a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Average precision at IoU 0.50, 0 to 1.
    pub ap50: f64,
    /// Where it would lie with other pictures of the same site, in 95 of 100 cases.
    pub interval: Option<Interval>,
}

/// A class on held-out pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassChange {
    /// Its label.
    pub name: String,
    /// Whether the model in use did not know it.
    pub new: bool,
    /// AP50; none where it cannot be said (a new class, or one that no held-out picture shows).
    pub ap50: Both<Option<Estimate>>,
}

/// How a loss is spread over the cells of this site's pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct LossShares {
    /// Focusing of the focal loss; 0 is cross entropy.
    pub gamma: f64,
    /// `(fraction of the cells, the easiest first; their share of the sum of the loss)`, rising, of cells
    /// with an object.
    pub positives: Vec<(f64, f64)>,
    /// The same of background cells.
    pub negatives: Vec<(f64, f64)>,
}

/// Settings of the loss that suit this site.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// Focusing.
    pub gamma: f64,
    /// Weight of positives.
    pub alpha: f64,
    /// Why, in one sentence.
    pub reason: String,
}

/// Everything that a report shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Whose pictures these are.
    pub node: String,
    /// The models.
    pub model: Both<ModelName>,
    /// Labels of the tuned model's classes; those of the model in use come first.
    pub labels: Vec<String>,
    /// How many pictures trained and judged.
    pub pictures: Pictures,
    /// Class by class.
    pub classes: Vec<ClassChange>,
    /// `(recall, precision)` by rising recall, over all classes at IoU 0.50.
    pub precision_recall: Both<Vec<(f64, f64)>>,
    /// Detections below this score are not shown.
    pub min_score: f32,
    /// Pictures whose detections changed, in any order; the ten that changed most are shown.
    pub changed: Vec<ChangedPicture>,
    /// One for each focusing that was looked at.
    pub loss_shares: Vec<LossShares>,
    /// What suits this site; none where there was too little to say it.
    pub suggestion: Option<Suggestion>,
    /// What the gate said.
    pub judgement: Judgement,
    /// By what it judged.
    pub measures: Vec<Measure>,
    /// `(update, loss)` of the training.
    pub training: Vec<(u64, f64)>,
}

/// Why there is no report. Printed as one line; the folder holds no half of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The folder or the page cannot be written.
    #[error("report {path}: {source}")]
    Written {
        /// The folder or file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder belongs to somebody else.
    #[error("report {path}: holds `{entry}`, which is no report of ours; name a new or an empty folder")]
    Occupied {
        /// The folder.
        path: String,
        /// What is in it.
        entry: String,
    },
    /// A chart cannot be drawn.
    #[error("report: {0}")]
    Chart(#[from] PlotError),
    /// The page is larger than a page may be.
    #[error("report: the page has {bytes} bytes, at most {MOST_BYTES} are written; give it fewer classes")]
    Large {
        /// Its bytes.
        bytes: usize,
    },
}

impl Report {
    /// Writes the page into `folder`, which is made if its parent is there, and replaces an older report in
    /// it. A page is there whole or not at all, also after a power cut.
    ///
    /// # Errors
    /// [`ReportError`]; an older report is then as it was.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, ReportError> {
        // Whatever may fail for want of sense does so before the disk is touched.
        let page = self.page()?;
        check_folder(folder)?;
        let made = match std::fs::create_dir(folder) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(unwritten(folder, error)),
        };
        atomic_file::remove_leftovers(folder);
        let path = folder.join(PAGE);
        match atomic_file::write(&path, page.as_bytes(), PUBLIC) {
            Ok(()) => Ok(path),
            Err(error) => {
                if made {
                    // It was empty when it was made, and holds nothing of ours.
                    let _ = std::fs::remove_dir(folder);
                }
                Err(unwritten(&path, error))
            }
        }
    }

    /// The page.
    ///
    /// # Errors
    /// [`ReportError::Chart`], [`ReportError::Large`].
    pub fn page(&self) -> Result<String, ReportError> {
        let page = page::page(self)?;
        if page.len() > MOST_BYTES {
            return Err(ReportError::Large { bytes: page.len() });
        }
        Ok(page)
    }
}

/// Whether a report can go into `folder`, as far as that can be seen without writing: to be asked before a long
/// training.
///
/// # Errors
/// [`ReportError`], as [`Report::write`] would give it.
pub fn check_folder(folder: &Path) -> Result<(), ReportError> {
    match foreign(folder) {
        Ok(None) => Ok(()),
        Ok(Some(entry)) => Err(ReportError::Occupied { path: shown(folder), entry: one_line(&entry) }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
            std::fs::metadata(parent.unwrap_or(Path::new("."))).map_err(|error| unwritten(folder, error))?;
            Ok(())
        }
        Err(error) => Err(unwritten(folder, error)),
    }
}

fn unwritten(path: &Path, source: std::io::Error) -> ReportError {
    ReportError::Written { path: shown(path), source }
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// What `folder` holds beside a report of ours.
fn foreign(folder: &Path) -> std::io::Result<Option<String>> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let ours = entry.file_name() == PAGE && is_report(&entry.path());
        if !ours && !atomic_file::is_leftover(&entry.file_name()) {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

fn is_report(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = regular_file::open(path).map(|file| file.take(HEAD.len() as u64).read_to_end(&mut head));
    matches!(read, Ok(Ok(_))) && head == HEAD.as_bytes()
}
