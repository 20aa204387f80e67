//! `retinad manifest --check`: everything in a manifest that does not hold, by itself or for its graph.

use super::{ManifestArguments, read_json, shown};
use crate::caught::caught;
use crate::cli::exit::{Exit, Failure};
use crate::cli::print::{complain, printable, say};
use crate::detector::{Generation, anchors_sha256};
use crate::engine::{Arithmetic, Engine};
use crate::model::{Examined, Manifest, ManifestError, ModelError, ModelFile, one_line};

/// Most outputs that are listed.
const MOST_OUTPUTS: usize = 64;

/// Runs `retinad manifest --check`.
pub fn check(arguments: &ManifestArguments) -> Result<(), Failure> {
    let Checked { manifest, outputs, .. } = checked(arguments)?;
    let input = &manifest.input;
    say!(
        "ok: {} {}, input `{}` {} x {}, {} levels, {} classes",
        printable(&manifest.name),
        printable(&manifest.version),
        printable(&input.name),
        input.width,
        input.height,
        manifest.heads.len(),
        manifest.classes.len()
    );
    for output in outputs.iter().take(MOST_OUTPUTS) {
        say!("output {}", shown(output));
    }
    for key in manifest.unfilled() {
        complain(format_args!("{key}: still says FILL IN"));
    }
    Ok(())
}

/// A model with a manifest that holds.
pub struct Checked {
    /// The manifest, with its hash.
    pub manifest: Manifest,
    /// The model's bytes with the manifest inside.
    pub stamped: Vec<u8>,
    /// Names and shapes of the graph's outputs.
    outputs: Vec<(String, Vec<usize>)>,
}

/// Reads model and manifest; says all that does not hold on stderr, a line each.
pub fn checked(arguments: &ManifestArguments) -> Result<Checked, Failure> {
    let (file, own) = ModelFile::read_apart(&arguments.model)?;
    let (named, text) = match (&arguments.manifest, own) {
        (Some(path), _) => (one_line(&path.display().to_string()), read_json(path)?),
        (None, Some(text)) => (file.path.clone(), text),
        (None, None) => {
            file.manifest()?;
            return Err(Failure::new(Exit::Unusable, format!("{}: no manifest", file.path)));
        }
    };
    let examined = Manifest::examine(&text);
    let engine = loaded(&file, &examined);
    let (found, outputs) = match &engine {
        Ok(engine) => (faults(&file, &examined, engine), engine.outputs()),
        Err(error) => {
            complain(format_args!("{error}"));
            (examined.faults, Vec::new())
        }
    };
    for ManifestError { field, reason } in &found {
        complain(format_args!("{named}: {}: {}", printable(field), printable(reason)));
    }
    let (Some(mut manifest), true, true) = (examined.manifest, found.is_empty(), engine.is_ok()) else {
        for output in outputs.iter().take(MOST_OUTPUTS) {
            complain(format_args!("the graph's output {}", shown(output)));
        }
        return Err(Failure::new(Exit::Unusable, ""));
    };
    // Drawn up only now: the graph's shapes bound the number of anchors.
    let sha256 = anchors_sha256(&manifest);
    manifest.anchors.sha256.get_or_insert(sha256);
    let stamped = file.with_manifest(&manifest)?;
    let bytes = stamped.clone();
    prove(&file.path, bytes)
        .map_err(|error| Failure::new(Exit::Unusable, error.replacen(&file.path, &named, 1)))?;
    Ok(Checked { manifest, stamped, outputs })
}

/// The engine, for an input of the size that the manifest says, where it says one.
fn loaded(file: &ModelFile, examined: &Examined) -> Result<Engine, ModelError> {
    let own = ["input.width", "input.height"]
        .iter()
        .all(|key| examined.is_own(key) && !examined.faults.iter().any(|fault| fault.field == *key));
    match &examined.manifest {
        Some(manifest) if own => {
            let [height, width] = [manifest.input.height, manifest.input.width].map(|side| side as usize);
            Engine::load_up_to(file, Arithmetic::Best, &[1, 3, height, width], &manifest.tensors())
        }
        _ => Engine::load_any(file, Arithmetic::Best),
    }
}

/// What does not hold by itself, and then what the graph contradicts.
fn faults(file: &ModelFile, examined: &Examined, engine: &Engine) -> Vec<ManifestError> {
    /// Keys on which the shapes of the heads depend.
    const OF_HEADS: [&str; 4] = ["heads", "classes", "anchors.levels", "box_coder.bins"];
    let mut found = examined.faults.clone();
    let Some(manifest) = &examined.manifest else { return found };
    let heads_are_own = OF_HEADS.iter().all(|key| examined.is_own(key));
    let own = |fault: &ManifestError| {
        examined.is_own(&fault.field) && (heads_are_own || !fault.field.starts_with("heads"))
    };
    found.extend(engine.contradictions(file, manifest).into_iter().filter(own));
    let bounded =
        |fault: &ManifestError| fault.field.starts_with("heads") || fault.field.starts_with("anchors");
    if let Some(promised) = &manifest.anchors.sha256
        && heads_are_own
        && examined.is_own("anchors")
        && !found.iter().any(bounded)
    {
        let sha256 = anchors_sha256(manifest);
        if sha256 != *promised {
            let reason = format!(
                "{promised}, but the listed base boxes and strides give {sha256}; left out, --stamp writes it"
            );
            found.push(ManifestError { field: "anchors.sha256".into(), reason: one_line(&reason) });
        }
    }
    found
}

/// Loads the model as the daemon would, and tries it on its built-in picture.
fn prove(path: &str, bytes: Vec<u8>) -> Result<(), String> {
    let file = ModelFile::parse(path, bytes).map_err(|error| error.to_string())?;
    let load = || Generation::from_file(&file, 0, Arithmetic::Best).map_err(|error| error.to_string());
    let generation = caught(load).unwrap_or_else(|words| Err(format!("{path}: panicked: {words}")))?;
    generation.self_test(1).map_err(|error| format!("{path}: {error}"))?;
    let sizes = file.manifest.as_ref().map_or(&[][..], |manifest| &manifest.input.sizes);
    for (number, size) in sizes.iter().enumerate() {
        let load = || {
            let resized = file.at_size(*size).map_err(|error| error.to_string())?;
            let generation = Generation::from_file(&resized, 0, Arithmetic::Best);
            generation.map_err(|error| error.to_string())?.self_test(1).map_err(|error| error.to_string())
        };
        let loaded = caught(load).unwrap_or_else(|words| Err(format!("panicked: {words}")));
        loaded
            .map_err(|reason| format!("{path}: input.sizes[{number}]: {size:?} cannot be run: {reason}"))?;
    }
    Ok(())
}
