//! The tuned head, quantised into a copy of its model with lineage in the manifest.

use super::TuningError;
use super::head::Head;
use super::hooks::{LossEntry, Measure};
use super::set::TrainingSet;
use crate::detector::Generation;
use crate::engine::Arithmetic;
use crate::model::{
    Class, ClassLayer, Manifest, ModelError, ModelFile, NewClassLayer, SelfTest, SelfTestPicture,
};
use serde::Serialize;

/// Logits this far below the lowest that counts share a code.
const BELOW_THRESHOLD: f32 = 3.0;
/// Highest logit that a head can say at least: a score of 0.95.
const LEAST_TOP: f32 = 3.0;
/// Room above the highest logit seen, of the range.
const HEADROOM: f32 = 0.1;

/// What is told of a tuned model.
#[derive(Debug, Clone, Serialize)]
pub struct Origin {
    /// Names of new classes, in order.
    pub new_classes: Vec<String>,
    /// Loss that was minimised.
    pub loss: LossEntry,
    /// Updates made.
    pub updates: u64,
    /// The node that tuned it.
    pub node: String,
    /// Times of the first and the last sample, RFC 3339, where they are known.
    pub from: Option<String>,
    /// See `from`.
    pub to: Option<String>,
    /// Lowest score that counts, 0.001 to below 1, where it is another than the model's own.
    pub least_score: Option<f32>,
}

#[derive(Serialize)]
struct Lineage<'a> {
    parent_sha256: &'a str,
    generation: u64,
    tuned_on: TunedOn<'a>,
}

#[derive(Serialize)]
struct TunedOn<'a> {
    node: &'a str,
    from: Option<&'a str>,
    to: Option<&'a str>,
    samples: usize,
    reference_cells: usize,
}

#[derive(Serialize)]
struct Training<'a> {
    datasets: serde_json::Value,
    loss: &'a LossEntry,
    normaliser: &'static str,
    steps: u64,
    commit: Option<String>,
}

/// The bytes of a copy of `file` with the last class layer `head`.
///
/// Outputs that training left as they were keep their bytes; the others get a step of their own. The range of
/// each level's head is taken from `set`: from 3 below the logit of the manifest's threshold to a tenth above
/// the highest logit. The copy is loaded and tried before it is given back, and its manifest promises the
/// heads of the built-in picture where the model runs wholly in INT8.
///
/// # Errors
/// [`TuningError::Model`] if the copy cannot be made or does not run.
pub fn export(
    file: &ModelFile,
    head: &Head,
    set: &TrainingSet,
    origin: &Origin,
) -> Result<Vec<u8>, TuningError> {
    let layer = file.class_layer()?;
    let mut manifest = file.manifest()?.clone();
    let old = Head::of(&layer, manifest.classes.len());
    if let Some(score) = origin.least_score {
        manifest.decode.score_threshold = score.max(1e-3);
    }
    let lowest = logit(manifest.decode.score_threshold.max(1e-3)) - BELOW_THRESHOLD;
    let outputs = ranges(head, set).into_iter().map(|highest| codes(lowest, highest)).collect();
    let new = NewClassLayer {
        weights: head.weights.clone(),
        bias: head.bias.clone(),
        kept: kept(&old, head),
        outputs,
    };
    for label in &origin.new_classes {
        manifest.classes.push(Some(Class { label: label.clone(), coco_id: None }));
    }
    if manifest.classes.len() != head.classes {
        let reason = format!("{} classes, the tuned head has {}", manifest.classes.len(), head.classes);
        return Err(ModelError::Manifest { path: file.path.clone(), field: "classes".into(), reason }.into());
    }
    tell_origin(&mut manifest, file, set, origin);
    manifest.self_test = None;
    let bytes = file.with_class_layer(&new, &manifest)?;
    let copy = ModelFile::parse(&file.path, bytes)?;
    let generation = Generation::from_file(&copy, 0, Arithmetic::Best)?;
    let digest = generation
        .heads_sha256(1)
        .map_err(|error| ModelError::Graph { path: file.path.clone(), reason: error.to_string() })?;
    manifest.self_test =
        digest.map(|heads_sha256| SelfTest { picture: SelfTestPicture::Retinad1, heads_sha256 });
    Ok(copy.with_manifest(&manifest)?)
}

/// The bytes of a tuned model with what it was judged by in its manifest.
///
/// # Errors
/// [`TuningError::Model`] if its manifest cannot be read.
pub fn with_measures(copy: &ModelFile, measures: &[&Measure]) -> Result<Vec<u8>, TuningError> {
    let mut manifest = copy.manifest()?.clone();
    manifest.evaluation = serde_json::to_value(measures).unwrap_or_default();
    Ok(copy.with_manifest(&manifest)?)
}

fn tell_origin(manifest: &mut Manifest, file: &ModelFile, set: &TrainingSet, origin: &Origin) {
    let generation = manifest.lineage.get("generation").and_then(serde_json::Value::as_u64).unwrap_or(0) + 1;
    let base = manifest.version.split('+').next().unwrap_or_default().to_owned();
    manifest.version = format!("{base}+tuned.{generation}");
    let tuned_on = TunedOn {
        node: &origin.node,
        from: origin.from.as_deref(),
        to: origin.to.as_deref(),
        samples: set.pictures.len(),
        reference_cells: set.reference.cells.len(),
    };
    let lineage = Lineage { parent_sha256: &file.sha256, generation, tuned_on };
    let datasets = manifest.training.get("datasets").cloned().unwrap_or_default();
    let training = Training {
        datasets,
        loss: &origin.loss,
        normaliser: "positives of the class, moving",
        steps: origin.updates,
        commit: None,
    };
    let value = |part: Result<serde_json::Value, _>| part.unwrap_or_default();
    manifest.lineage = value(serde_json::to_value(lineage));
    manifest.training = value(serde_json::to_value(training));
    // What the model before was judged by is not true of this one.
    manifest.evaluation = serde_json::Value::Array(Vec::new());
}

/// Per output of `head` the one of `old` that it equals to the last bit.
fn kept(old: &Head, head: &Head) -> Vec<Option<usize>> {
    let row = |head: &Head, output: usize| {
        let weights = head.weights[output * head.inputs..(output + 1) * head.inputs].iter();
        (weights.map(|weight| weight.to_bits()).collect::<Vec<_>>(), head.bias[output].to_bits())
    };
    let of = |output: usize| {
        // Anchors of a head with several layers are counted through all of them.
        let (anchor, class) = (output / head.classes, output % head.classes);
        let before = anchor * old.classes + class;
        (class < old.classes && row(old, before) == row(head, output)).then_some(before)
    };
    (0..head.bias.len()).map(of).collect()
}

/// The highest logit of each level over the set.
fn ranges(head: &Head, set: &TrainingSet) -> Vec<f32> {
    let mut highest = vec![f32::MIN; set.codes.len()];
    let mut values = vec![0.0; head.inputs];
    let mut see = |level: usize, codes: &[u8]| {
        let (scale, zero) = set.codes[level];
        for (value, code) in values.iter_mut().zip(codes) {
            *value = (i32::from(*code) - zero) as f32 * scale;
        }
        highest[level] = head.logits(level, &values).fold(highest[level], f32::max);
    };
    // Cells with an object have the highest logits, and are few.
    for picture in &set.pictures {
        for (at, level) in picture.levels.iter().enumerate() {
            let mut last = None;
            for positive in &level.positives {
                let cell = positive.cell as usize;
                if last != Some(cell) {
                    see(at, &level.codes[cell * head.inputs..(cell + 1) * head.inputs]);
                }
                last = Some(cell);
            }
        }
    }
    for cell in &set.reference.cells {
        see(usize::from(cell.level), &cell.codes);
    }
    highest
}

/// Step and code of 0.0 of a range.
fn codes(lowest: f32, highest: f32) -> (f32, u8) {
    let highest = (highest + HEADROOM * (highest - lowest)).max(LEAST_TOP);
    let step = (highest - lowest) / 255.0;
    (step, (-lowest / step).round().clamp(0.0, 255.0) as u8)
}

/// The logit of a score.
pub(super) fn logit(score: f32) -> f32 {
    (score / (1.0 - score)).ln()
}

/// Real logits of cells of one level, as the tuned head says them without quantisation: `[cell][output]`, the
/// outputs that answer for this level.
#[must_use]
pub fn real_logits(head: &Head, layer: &ClassLayer, level: usize, codes: &[u8]) -> Vec<f32> {
    let quantisation = layer.levels[level].input_codes;
    let value = |code: &u8| (i32::from(*code) - quantisation.zero_point) as f32 * quantisation.scale;
    codes
        .chunks_exact(head.inputs)
        .flat_map(|cell| {
            let values: Vec<f32> = cell.iter().map(value).collect();
            head.logits(level, &values).collect::<Vec<f32>>()
        })
        .collect()
}
