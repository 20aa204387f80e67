//! By what a tuned model is judged: both models on pictures and cells that neither has learned from, and how far
//! chance alone moves each number.
//!
//! A measure's noise is 1.96 standard deviations of the difference between both models over draws of the same
//! pictures (or cells) with repetition; where a number is no mean over pictures, the bound is stated here.

use super::TuningError;
use super::features::FeatureExtractor;
use super::head::Head;
use super::hooks::{LabelSource, LabelledPicture, Measure};
use super::real_logits;
use super::reference::Cell;
use crate::detection::{Detection, Times};
use crate::detector::{Detector, Generation};
use crate::engine::Arithmetic;
use crate::evaluation::{Evaluation, Found, Picture, Resamples, Truth};
use crate::model::{ClassLayer, ModelFile};

/// Lowest score that counts for AP.
const LEAST_SCORE: f32 = 0.05;
/// Draws behind a measure's noise.
const DRAWS: usize = 200;
/// Seed of the draws.
const SEED: u64 = 1;
/// Pictures on which INT8 and float are compared.
const COMPARED: usize = 16;
/// False alarms a picture that a new class may add.
const NEW_ALARMS: f64 = 0.1;
/// Scores that INT8 may lie further from float than before.
const APART: f64 = 0.01;
/// Share of a frame's time that a tuned model may take more: clocks and other programs move it by as much.
const TIME: f64 = 0.1;
/// Cells with a positive of a class that its AP needs.
const LEAST_POSITIVES: u32 = 5;
/// Cells of the reference set are learned from but for each fifth, which judges.
const HELD_OUT_CELLS: usize = 5;

/// What changed of one class.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ClassChange {
    /// Its label.
    pub label: String,
    /// Whether the model before did not know it.
    pub new: bool,
    /// Objects in the held-out pictures.
    pub objects: u64,
    /// AP at IoU 0.50 of the model before; none without objects.
    pub before: Option<f64>,
    /// Of the tuned one.
    pub after: Option<f64>,
}

/// What the two models found in a held-out picture.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The picture's name.
    pub name: String,
    /// Of the model before, down to a score of 0.05.
    pub before: Vec<Detection>,
    /// Of the tuned one.
    pub after: Vec<Detection>,
}

/// Both models on what neither has learned from.
#[derive(Debug, Clone)]
pub struct Judged {
    /// For the gate.
    pub measures: Vec<Measure>,
    /// Each class with objects in the held-out pictures.
    pub classes: Vec<ClassChange>,
    /// Per held-out picture.
    pub pictures: Vec<Compared>,
    /// The same for evaluation: what is there, and what the model before found.
    pub before: Vec<Picture>,
    /// What is there, and what the tuned model found.
    pub after: Vec<Picture>,
}

/// The two models.
pub struct Pair<'a> {
    /// The one in use.
    pub before: &'a ModelFile,
    /// The tuned one, as it would be used.
    pub after: &'a ModelFile,
    /// The tuned head before it was quantised.
    pub head: &'a Head,
    /// Classes of the model in use.
    pub known: usize,
    /// Labels of the tuned one.
    pub labels: &'a [String],
}

/// Parts the cells of a reference set into those to learn from and those to judge by.
pub(super) fn part_cells(cells: Vec<Cell>) -> (Vec<Cell>, Vec<Cell>) {
    let (mut learned, mut held_out) = (Vec::new(), Vec::new());
    for (number, cell) in cells.into_iter().enumerate() {
        if number % HELD_OUT_CELLS == 0 { held_out.push(cell) } else { learned.push(cell) }
    }
    (learned, held_out)
}

/// Compares the two models on the pictures of `source`, whose truths are of the tuned model's classes, and on
/// `cells` of a reference set. `threshold` is the score from which detections are told. Pictures that cannot be
/// used are given to `refused` in a line each.
///
/// # Errors
/// [`TuningError`] if a model does not run.
pub fn compare(
    pair: &Pair<'_>,
    source: &mut dyn LabelSource,
    cells: &[Cell],
    threshold: f32,
    refused: &mut dyn FnMut(&str),
) -> Result<Judged, TuningError> {
    let mut models = Models::new(pair)?;
    let mut judged = Judged {
        measures: Vec::new(),
        classes: Vec::new(),
        pictures: Vec::new(),
        before: Vec::new(),
        after: Vec::new(),
    };
    while let Some(picture) = source.next()? {
        match models.look(&picture) {
            Ok([before, after]) => {
                judged.before.push(evaluated(&picture, &before));
                judged.after.push(evaluated(&picture, &after));
                judged.pictures.push(Compared { name: picture.name, before, after });
            }
            Err(error) => refused(&format!("{}: {error}", picture.name)),
        }
    }
    judged.classes = class_changes(pair, &judged);
    let Judged { before, after, .. } = &judged;
    let known = |class: usize| class < pair.known;
    let mut measures = Vec::new();
    measures.extend(ap50("AP50 of known classes", before, after, &known));
    measures.extend(ap50("AP50 of new classes", before, after, &|class| !known(class)));
    measures.extend(alarms("false alarms a picture", [before, after], threshold, &known, 0.0));
    if pair.labels.len() > pair.known {
        let name = "false alarms a picture of new classes";
        measures.extend(alarms(name, [before, after], threshold, &|class| !known(class), NEW_ALARMS));
    }
    measures.extend(reference_ap(pair, cells)?);
    measures.extend(models.apart());
    measures.extend(models.time());
    judged.measures = measures;
    Ok(judged)
}

/// Both models, ready to run.
struct Models<'a> {
    detectors: [Detector; 2],
    extractors: [FeatureExtractor; 2],
    heads: [Head; 2],
    /// Sum and count of distances between INT8's scores and float's.
    apart: [(f64, usize); 2],
    /// Milliseconds of each picture.
    times: [Vec<f64>; 2],
    seen: usize,
    _pair: &'a Pair<'a>,
}

impl<'a> Models<'a> {
    fn new(pair: &'a Pair<'a>) -> Result<Self, TuningError> {
        let detector = |file: &ModelFile| {
            let generation = Generation::from_file(file, 0, Arithmetic::Best)?;
            Detector::new(&generation, 1)
                .map_err(|source| TuningError::Picture { picture: file.path.clone(), source })
        };
        let extractor = |file: &ModelFile| FeatureExtractor::new(file, pair.labels.len(), 1);
        let extractors = [extractor(pair.before)?, extractor(pair.after)?];
        let heads = [Head::of(extractors[0].layer(), pair.known), pair.head.clone()];
        let detectors = [detector(pair.before)?, detector(pair.after)?];
        Ok(Self {
            detectors,
            extractors,
            heads,
            apart: [(0.0, 0); 2],
            times: [Vec::new(), Vec::new()],
            seen: 0,
            _pair: pair,
        })
    }

    fn look(&mut self, picture: &LabelledPicture) -> Result<[Vec<Detection>; 2], TuningError> {
        let failed = |source| TuningError::Picture { picture: picture.name.clone(), source };
        let mut found = [Vec::new(), Vec::new()];
        let mut times = [Times::default(), Times::default()];
        // In turns, so that whatever slows the machine slows both.
        let order = if self.seen % 2 == 0 { [0, 1] } else { [1, 0] };
        for model in order {
            let detector = &mut self.detectors[model];
            found[model] =
                detector.detect(&picture.picture, LEAST_SCORE, &mut times[model]).map_err(failed)?;
        }
        for model in order {
            let spent = times[model].inference + times[model].postprocess;
            self.times[model].push(spent.as_secs_f64() * 1e3);
            if self.seen < COMPARED {
                let (sum, count) = self.extractors[model].apart(picture, &self.heads[model])?;
                self.apart[model].0 += sum;
                self.apart[model].1 += count;
            }
        }
        self.seen += 1;
        Ok(found)
    }

    fn apart(&self) -> Option<Measure> {
        let mean = |model: usize| {
            let (sum, count) = self.apart[model];
            (count > 0).then(|| sum / count as f64)
        };
        Some(Measure {
            name: "distance of INT8's scores from float's".into(),
            before: mean(0)?,
            after: mean(1)?,
            noise: APART,
            more_is_better: false,
        })
    }

    fn time(&self) -> Option<Measure> {
        let median = |model: usize| {
            let mut times = self.times[model].clone();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied()
        };
        let (before, after) = (median(0)?, median(1)?);
        let name = "milliseconds a frame".into();
        Some(Measure { name, before, after, noise: TIME * before, more_is_better: false })
    }
}

/// A picture as evaluation takes it.
fn evaluated(picture: &LabelledPicture, found: &[Detection]) -> Picture {
    let xywh = |[x1, y1, x2, y2]: [f32; 4]| [x1, y1, x2 - x1, y2 - y1].map(f64::from);
    let truth = |truth: &super::hooks::Truth| {
        let bbox = xywh(truth.bbox);
        Truth { class: truth.class, bbox, area: bbox[2] * bbox[3], crowd: false, ignored: truth.ignore }
    };
    let one = |found: &Detection| Found {
        class: found.class,
        bbox: xywh(found.bbox),
        score: f64::from(found.score),
    };
    Picture { truths: picture.truths.iter().map(truth).collect(), found: found.iter().map(one).collect() }
}

/// The pictures with nothing but these classes in them.
fn restricted(pictures: &[Picture], wanted: &dyn Fn(usize) -> bool) -> Vec<Picture> {
    let one = |picture: &Picture| Picture {
        truths: picture.truths.iter().filter(|truth| wanted(truth.class)).cloned().collect(),
        found: picture.found.iter().filter(|found| wanted(found.class)).cloned().collect(),
    };
    pictures.iter().map(one).collect()
}

/// One more than the greatest class.
fn classes(pictures: &[Picture]) -> usize {
    let of = |picture: &Picture| {
        let (truths, found) = (picture.truths.iter().map(|t| t.class), picture.found.iter().map(|f| f.class));
        truths.chain(found).max().map_or(0, |class| class + 1)
    };
    pictures.iter().map(of).max().unwrap_or(0)
}

fn class_changes(pair: &Pair<'_>, judged: &Judged) -> Vec<ClassChange> {
    let of = |pictures: &[Picture]| Evaluation::new(pictures, pair.labels.len()).class_ap();
    let (before, after) = (of(&judged.before), of(&judged.after));
    let change = |(class, label): (usize, &String)| ClassChange {
        label: label.clone(),
        new: class >= pair.known,
        objects: after[class].truths,
        before: before[class].ap.ap50,
        after: after[class].ap.ap50,
    };
    pair.labels.iter().enumerate().map(change).filter(|change| change.objects > 0).collect()
}

/// AP50 of some classes; none where nothing of them is there.
fn ap50(
    name: &str,
    before: &[Picture],
    after: &[Picture],
    wanted: &dyn Fn(usize) -> bool,
) -> Option<Measure> {
    let (before, after) = (restricted(before, wanted), restricted(after, wanted));
    let count = classes(&before).max(classes(&after));
    let (old, new) = (Evaluation::new(&before, count), Evaluation::new(&after, count));
    let all = vec![1; before.len()];
    let value = |evaluation: &Evaluation| evaluation.ap_of(&all).ap50;
    let differences = Resamples::new(SEED, before.len())
        .take(DRAWS)
        .filter_map(|weights| Some(new.ap_of(&weights).ap50? - old.ap_of(&weights).ap50?));
    Some(Measure {
        name: name.into(),
        before: value(&old)?,
        after: value(&new)?,
        noise: noise(differences),
        more_is_better: true,
    })
}

/// False alarms a picture at the threshold; `allowed` may be added whatever chance says.
fn alarms(
    name: &str,
    [before, after]: [&[Picture]; 2],
    threshold: f32,
    wanted: &dyn Fn(usize) -> bool,
    allowed: f64,
) -> Option<Measure> {
    let count = |pictures: &[Picture]| -> Vec<f64> {
        let one = |picture: Picture| {
            let classes = classes(std::slice::from_ref(&picture));
            Evaluation::new(&[picture], classes).at(f64::from(threshold)).false_alarms as f64
        };
        restricted(pictures, wanted).into_iter().map(one).collect()
    };
    if before.is_empty() {
        return None;
    }
    let (before, after) = (count(before), count(after));
    let mean = |counts: &[f64], weights: &[u32]| {
        let sum: f64 = counts.iter().zip(weights).map(|(count, weight)| count * f64::from(*weight)).sum();
        sum / counts.len() as f64
    };
    let differences = Resamples::new(SEED, before.len())
        .take(DRAWS)
        .map(|weights| mean(&after, &weights) - mean(&before, &weights));
    let all = vec![1; before.len()];
    Some(Measure {
        name: name.into(),
        before: mean(&before, &all),
        after: mean(&after, &all),
        noise: noise(differences).max(allowed),
        more_is_better: false,
    })
}

/// 1.96 standard deviations; infinite where there is nothing to take them from, so that nothing is better by more.
fn noise(differences: impl Iterator<Item = f64>) -> f64 {
    let draws: Vec<f64> = differences.collect();
    if draws.len() < 2 {
        return f64::INFINITY;
    }
    let mean = draws.iter().sum::<f64>() / draws.len() as f64;
    let squares: f64 = draws.iter().map(|draw| (draw - mean).powi(2)).sum();
    1.96 * (squares / (draws.len() - 1) as f64).sqrt()
}

/// How well scores of single cells tell objects from others: AP over anchors of cells, mean over the classes
/// known before.
fn reference_ap(pair: &Pair<'_>, cells: &[Cell]) -> Result<Option<Measure>, TuningError> {
    if cells.is_empty() {
        return Ok(None);
    }
    let ranked = |file: &ModelFile, classes: usize| -> Result<Vec<Ranking>, TuningError> {
        let layer = file.class_layer()?;
        let head = Head::of(&layer, classes);
        Ok(rankings(&head, &layer, cells, pair.known))
    };
    let before = ranked(pair.before, pair.known)?;
    let after = ranked(pair.after, pair.labels.len())?;
    let differences = Resamples::new(SEED, cells.len())
        .take(DRAWS)
        .filter_map(|weights| Some(mean_ap(&after, &weights)? - mean_ap(&before, &weights)?));
    let all = vec![1; cells.len()];
    let (Some(old), Some(new)) = (mean_ap(&before, &all), mean_ap(&after, &all)) else { return Ok(None) };
    Ok(Some(Measure {
        name: "AP of the reference set's cells".into(),
        before: old,
        after: new,
        noise: noise(differences),
        more_is_better: true,
    }))
}

/// Anchors of cells by falling logit, for one class.
struct Ranking {
    /// `(cell, whether it is a positive)`.
    rows: Vec<(u32, bool)>,
    /// Positives of each cell that has some, those below the least score too.
    positives: Vec<(u32, u32)>,
}

fn rankings(head: &Head, layer: &ClassLayer, cells: &[Cell], known: usize) -> Vec<Ranking> {
    let least = (LEAST_SCORE / (1.0 - LEAST_SCORE)).ln();
    let mut scored: Vec<Vec<(f32, u32, bool)>> = vec![Vec::new(); known];
    let mut positives: Vec<Vec<(u32, u32)>> = vec![Vec::new(); known];
    for (number, cell) in cells.iter().enumerate() {
        let logits = real_logits(head, layer, usize::from(cell.level), &cell.codes);
        for (anchor, logits) in logits.chunks_exact(head.classes).enumerate() {
            if cell.ignored.iter().any(|ignored| usize::from(*ignored) == anchor) {
                continue;
            }
            let is = |class: usize| {
                cell.positives.iter().any(|(a, c, _)| usize::from(*a) == anchor && usize::from(*c) == class)
            };
            for (class, logit) in logits.iter().take(known).enumerate() {
                let positive = is(class);
                if positive {
                    positives[class].push((number as u32, 1));
                }
                if *logit >= least {
                    scored[class].push((*logit, number as u32, positive));
                }
            }
        }
    }
    let ranking = |(mut rows, positives): (Vec<(f32, u32, bool)>, Vec<(u32, u32)>)| {
        rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Ranking { rows: rows.into_iter().map(|(_, cell, positive)| (cell, positive)).collect(), positives }
    };
    scored.into_iter().zip(positives).map(ranking).collect()
}

/// Mean AP over the classes with enough positives; none without such a class.
fn mean_ap(rankings: &[Ranking], weights: &[u32]) -> Option<f64> {
    let aps: Vec<f64> = rankings.iter().filter_map(|ranking| ap(ranking, weights)).collect();
    (!aps.is_empty()).then(|| aps.iter().sum::<f64>() / aps.len() as f64)
}

/// The mean of the precision at each positive.
fn ap(ranking: &Ranking, weights: &[u32]) -> Option<f64> {
    let total: u32 = ranking.positives.iter().map(|(cell, count)| count * weights[*cell as usize]).sum();
    if total < LEAST_POSITIVES {
        return None;
    }
    let (mut seen, mut hits, mut sum) = (0.0, 0.0, 0.0);
    for (cell, positive) in &ranking.rows {
        let weight = f64::from(weights[*cell as usize]);
        seen += weight;
        if *positive && weight > 0.0 {
            hits += weight;
            sum += weight * hits / seen;
        }
    }
    Some(sum / f64::from(total))
}
