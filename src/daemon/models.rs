//! Which model the daemon runs: that of the settings, or the one that was tuned from it.

use super::identity::{state_folder, state_folder_of_command};
use crate::detector::Generation;
use crate::generations::{Generations, InUse};
use crate::model::{Manifest, ModelError, ModelFile};
use crate::scene::Stored;
use crate::settings::{InputSize, Settings};
use crate::zones::{LabelError, check_labels};
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;

/// Longest summary, characters.
const LONGEST_SUMMARY: usize = 200;

/// A model with its place among the tuned ones.
pub struct Chosen {
    /// The model.
    pub generation: Arc<Generation>,
    /// Its place.
    pub stored: Stored,
    /// Why it is not the one that was in use last, for people.
    pub note: Option<String>,
}

/// The tuned models of these settings, where state is kept.
pub(super) fn generations(settings: &Settings) -> Option<Generations> {
    state_folder(settings).map(|folder| Generations::within(&folder))
}

/// The model that `run` uses under these settings, loaded as generation `number`.
///
/// # Errors
/// [`ModelError`] if the model of the settings cannot be used.
pub fn load_model(settings: &Settings, number: u64) -> Result<Chosen, ModelError> {
    load(generations(settings).as_ref(), &settings.detector.model_file(), number, settings.detector.input)
}

/// As [`load_model`], for a command that is run beside the service.
///
/// # Errors
/// [`ModelError`].
pub fn load_model_of_command(settings: &Settings, number: u64) -> Result<Chosen, ModelError> {
    let folder = state_folder_of_command(settings);
    let generations = folder.map(|folder| Generations::within(&folder));
    load(generations.as_ref(), &settings.detector.model_file(), number, settings.detector.input)
}

/// The tuned model in use where there is one that loads, else the file `base`.
pub(super) fn load(
    generations: Option<&Generations>,
    base: &Path,
    number: u64,
    input: InputSize,
) -> Result<Chosen, ModelError> {
    let Some(generations) = generations else {
        return Ok(Chosen {
            generation: Generation::load_at(base, number, input)?,
            stored: Stored::default(),
            note: None,
        });
    };
    let InUse { number: tuned, path, earlier, candidate, note } = generations.in_use(base);
    let (generation, note) = match Generation::load_at(&path, number, input) {
        Err(error) if tuned != 0 => {
            let note = Some(format!("{error}; the model of the settings is used"));
            return Ok(Chosen {
                generation: Generation::load_at(base, number, input)?,
                stored: Stored::default(),
                note,
            });
        }
        loaded => (loaded?, note),
    };
    let summary = match candidate {
        Some(candidate) => summary_of_file(&generations.file(candidate)),
        None => summary(&generation.manifest),
    };
    Ok(Chosen { generation, stored: Stored { number: tuned, earlier, candidate, summary }, note })
}

/// Refuses settings that name a label that the model lacks. Where models were tuned on this machine, one of them
/// may have taught that label and not be in use, after a rollback for one; then it is said, and nothing is
/// refused.
///
/// # Errors
/// [`LabelError`] for the first key.
pub fn check_labels_of(settings: &Settings, chosen: &Chosen) -> Result<(), LabelError> {
    match check_labels(settings, &chosen.generation.labels) {
        Err(error) if has_tuned(&chosen.stored) => {
            tracing::warn!(reason = %error, "the settings name a label that the model in use lacks");
            Ok(())
        }
        checked => checked,
    }
}

/// Whether models were tuned from the one of the settings.
fn has_tuned(stored: &Stored) -> bool {
    stored.number != 0 || !stored.earlier.is_empty() || stored.candidate.is_some()
}

/// As [`check_labels_of`], of a model that is about to be used and is not loaded. A file that cannot be read is
/// told by whoever loads it.
///
/// # Errors
/// [`LabelError`] for the first key.
pub(super) fn check_labels_ahead(settings: &Settings) -> Result<(), LabelError> {
    let base = settings.detector.model_file();
    let in_use = generations(settings).map(|generations| generations.in_use(&base));
    let tuned = in_use
        .as_ref()
        .is_some_and(|found| found.number != 0 || !found.earlier.is_empty() || found.candidate.is_some());
    let path = in_use.map_or(base, |found| found.path);
    let labels = ModelFile::read(&path).and_then(|file| file.manifest().map(Manifest::labels));
    match labels.map(|labels| check_labels(settings, &labels)) {
        Ok(Err(error)) if !tuned => Err(error),
        _ => Ok(()),
    }
}

fn summary_of_file(path: &Path) -> String {
    let manifest = ModelFile::read(path).and_then(|file| file.manifest().map(summary));
    manifest.unwrap_or_default()
}

/// By what a tuned model was judged better, in a line.
fn summary(manifest: &Manifest) -> String {
    #[derive(Deserialize)]
    struct Measure {
        name: String,
        before: f64,
        after: f64,
    }
    // Other tools write what they like there.
    let measures: Vec<Measure> = serde_json::from_value(manifest.evaluation.clone()).unwrap_or_default();
    let told = measures.iter().filter(|measure| measure.name.starts_with("AP50"));
    let lines: Vec<String> =
        told.map(|Measure { name, before, after }| format!("{name} {before:.3} -> {after:.3}")).collect();
    lines.join("; ").chars().take(LONGEST_SUMMARY).collect()
}
