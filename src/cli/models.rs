//! `retinad models` and `retinad rollback`: the tuned models of this machine, and which one is in use.

use super::exit::{Exit, Failure};
use super::print::{printable, say};
use crate::daemon;
use crate::generations::{Change, Entry, Generations, GenerationsError};
use crate::model::ModelFile;
use crate::settings::Settings;
use clap::Args;

/// Arguments of `retinad models`.
#[derive(Args)]
pub struct ModelsArguments {
    /// Use this generation from now on; 0 is the model of the settings
    #[arg(long = "use", value_name = "NUMBER")]
    number: Option<u64>,
    /// Print one JSON object for each
    #[arg(long, conflicts_with = "number")]
    json: bool,
}

/// Arguments of `retinad rollback`.
#[derive(Args)]
pub struct RollbackArguments {
    /// Go back to this generation; without it to the one before. 0 is the model of the settings
    #[arg(value_name = "NUMBER")]
    number: Option<u64>,
}

/// A generation, as `--json` prints it.
#[derive(serde::Serialize)]
struct Line<'a> {
    generation: u64,
    in_use: bool,
    candidate: bool,
    path: &'a str,
    sha256: Option<&'a str>,
    version: Option<&'a str>,
    labels: Option<usize>,
    error: Option<String>,
}

/// Runs `retinad models`.
pub fn models(settings: &Settings, arguments: &ModelsArguments) -> Result<(), Failure> {
    let generations = generations(settings)?;
    let base = settings.detector.model_file();
    if let Some(number) = arguments.number {
        return changed(settings, generations.activate(&base, Some(number)).map_err(failed)?);
    }
    for entry in generations.entries(&base) {
        tell(&entry, arguments.json);
    }
    Ok(())
}

/// Runs `retinad rollback`.
pub fn rollback(settings: &Settings, arguments: &RollbackArguments) -> Result<(), Failure> {
    let base = settings.detector.model_file();
    changed(settings, generations(settings)?.roll_back(&base, arguments.number).map_err(failed)?)
}

fn generations(settings: &Settings) -> Result<Generations, Failure> {
    let state = daemon::state_folder_of_command(settings);
    state.map(|state| Generations::within(&state)).ok_or_else(|| {
        let words = "no state folder: the service has none yet, and the settings set no state_dir";
        Failure::new(Exit::Usage, words)
    })
}

fn failed(error: GenerationsError) -> Failure {
    let exit = match error {
        GenerationsError::Model(_) => Exit::Unusable,
        _ => Exit::SomeFailed,
    };
    Failure::new(exit, printable(&error.to_string()))
}

fn changed(settings: &Settings, Change { generation, previous }: Change) -> Result<(), Failure> {
    let then = if daemon::runs_here(settings) { "; the daemon takes it within seconds" } else { "" };
    if generation == previous {
        say!("generation {generation} is in use already");
    } else {
        say!("generation {generation} is in use in place of {previous}{then}");
    }
    Ok(())
}

fn tell(entry: &Entry, json: bool) {
    let file = ModelFile::read(&entry.path);
    let manifest = file.as_ref().ok().and_then(|file| file.manifest().ok());
    let error = match (&file, &manifest) {
        (Err(error), _) => Some(error.to_string()),
        (Ok(file), None) => file.manifest().err().map(|error| error.to_string()),
        _ => None,
    };
    let path = entry.path.display().to_string();
    let line = Line {
        generation: entry.number,
        in_use: entry.in_use,
        candidate: entry.candidate,
        path: &path,
        sha256: file.as_ref().ok().map(|file| file.sha256.as_str()),
        version: manifest.map(|manifest| manifest.version.as_str()),
        labels: manifest.map(|manifest| manifest.classes.len()),
        error: error.clone(),
    };
    if json {
        say!("{}", super::print::safe_json(&serde_json::to_string(&line).unwrap_or_default()));
        return;
    }
    let mark = if entry.in_use { "*" } else { " " };
    let (number, path) = (entry.number, printable(&path));
    let note = match (entry.candidate, &error) {
        (_, Some(error)) => format!("  cannot be used: {}", printable(error)),
        (true, None) => "  candidate".to_owned(),
        (false, None) => String::new(),
    };
    let version = line.version.map_or(String::new(), |version| format!("  {}", printable(version)));
    let labels = line.labels.map_or(String::new(), |labels| format!("  {labels} classes"));
    say!("{mark} {number:>4}{version}{labels}  {path}{note}");
}
