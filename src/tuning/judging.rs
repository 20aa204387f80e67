//! By what a tuned model is judged: both models on pictures and cells that neither has learned from, and
//! how far chance alone moves each number.
//!
//! Both models are compared over draws of the same pictures (or cells) with repetition. A measure's noise
//! reaches from the difference to the end of its 95 % interval that lies towards no difference: it is
//! exceeded where 97.5 % of the draws agree. Where a number is no mean over pictures, the bound is stated
//! here.

use super::TuningError;
use super::chance::ap50_by_chance;
use super::features::FeatureExtractor;
use super::head::Head;
use super::hooks::{LabelSource, LabelledPicture, Measure};
use super::real_logits;
use super::reference::Cell;
use crate::detection::{Detection, Times};
use crate::detector::{Detector, Generation};
use crate::evaluation::{Evaluation, Found, Interval, Picture, Resamples, Truth};
use crate::model::{ClassLayer, ModelFile};
use crate::one_line::one_line;
use crate::settings::InputSize;
use rustix::time::{ClockId, clock_gettime};

/// Lowest score that counts for AP.
const LEAST_SCORE: f32 = 0.05;
/// Draws behind a measure's noise.
const DRAWS: usize = 400;
/// How far a new class's AP50 must be beyond the most that chance gave it: of twenty models that had
/// learned from shuffled labels one was beyond that by a fiftieth.
const BEYOND_CHANCE: f64 = 1.25;
/// Seed of the draws.
const SEED: u64 = 1;
/// Pictures on which INT8 and float are compared.
const COMPARED: usize = 16;
/// AP50 below which a new class is of no use.
const NEW_AP: f64 = 0.1;
/// False alarms a picture that a new class may add, on pictures that do not show it.
const NEW_ALARMS: f64 = 0.1;
/// Scores that INT8 may lie further from float than before.
const APART: f64 = 0.01;
/// Share of a frame's time that a tuned model may take more: clocks and other programs move it by as much.
const TIME: f64 = 0.1;
/// Name of the measure that differs from run to run.
const FRAME_TIME: &str = "processor milliseconds a frame";
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

impl Judged {
    /// The measures that are the same whenever the same is judged again.
    pub fn steady(&self) -> impl Iterator<Item = &Measure> {
        self.measures.iter().filter(|measure| measure.name != FRAME_TIME)
    }
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
    /// The size of the input that both run at.
    pub input: InputSize,
}

/// Parts the cells of a reference set into those to learn from and those to judge by.
pub(super) fn part_cells(cells: Vec<Cell>) -> (Vec<Cell>, Vec<Cell>) {
    let (mut learned, mut held_out) = (Vec::new(), Vec::new());
    for (number, cell) in cells.into_iter().enumerate() {
        if number % HELD_OUT_CELLS == 0 { held_out.push(cell) } else { learned.push(cell) }
    }
    (learned, held_out)
}

/// Compares the two models on the pictures of `source`, whose truths are of the tuned model's classes, and
/// on `cells` of a reference set. `threshold` is the score from which detections are told. Pictures that
/// cannot be used are given to `refused` in a line each.
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
            Err(error) => refused(&error.to_string()),
        }
    }
    judged.classes = class_changes(pair, &judged);
    let Judged { before, after, .. } = &judged;
    let known = |class: usize| class < pair.known;
    let new = |class: usize| !known(class);
    let mut measures = Vec::new();
    measures.extend(ap50("AP50 of known classes", before, after, &known));
    measures.extend((pair.known..pair.labels.len()).filter_map(|class| of_new_class(class, pair, &judged)));
    measures.extend(found(before, after, threshold, &known));
    measures.extend(alarms("false alarms a picture", [before, after], threshold, &known));
    if pair.labels.len() > pair.known {
        let name = "false alarms a picture of new classes";
        // A box that lies badly around what is there bothers nobody as one around nothing does.
        let without = |pictures: &[Picture]| -> Vec<Picture> {
            let has = |picture: &&Picture| picture.truths.iter().any(|truth| new(truth.class));
            pictures.iter().filter(|picture| !has(picture)).cloned().collect()
        };
        let (before, after) = (without(before), without(after));
        let measure = alarms(name, [&before, &after], threshold, &new);
        // Before, there were none: they are no reason to be glad, and some are the price of the class. One is chance,
        // however few pictures there are.
        let noise = NEW_ALARMS.max(1.0 / before.len().max(1) as f64);
        measures.extend(measure.map(|alarms| Measure { noise, is_goal: false, ..alarms }));
    }
    measures.extend(reference_ap(pair, cells)?);
    measures.extend(models.apart());
    measures.extend(models.time());
    judged.measures = measures;
    Ok(judged)
}

/// The model with room for all that its classes find in a picture.
///
/// All classes of a picture share `max_detections`, so that a new class takes places from the known ones
/// among those of low scores, which nobody is told of but AP counts. COCO's bound is one for each class.
fn unbounded(file: &ModelFile, pair: &Pair<'_>) -> Result<ModelFile, TuningError> {
    let mut manifest = file.manifest()?.clone();
    let (classes, known) = (pair.labels.len(), pair.known.max(1));
    let decode = &mut manifest.decode;
    decode.max_detections = (decode.max_detections * classes).min(10_000);
    decode.topk_per_level = (decode.topk_per_level * classes).div_ceil(known).min(100_000);
    Ok(ModelFile::parse(&file.path, file.with_manifest(&manifest)?)?)
}

/// Both models, ready to run.
struct Models {
    detectors: [Detector; 2],
    least_scores: [f32; 2],
    extractors: [FeatureExtractor; 2],
    heads: [Head; 2],
    /// Sum and count of distances between INT8's scores and float's.
    apart: [(f64, usize); 2],
    /// Milliseconds of processor time of each picture.
    times: [Vec<f64>; 2],
    seen: usize,
}

impl Models {
    fn new(pair: &Pair<'_>) -> Result<Self, TuningError> {
        let detector = |file: &ModelFile| {
            let generation = Generation::from_file_at(&unbounded(file, pair)?, 0, pair.input)?;
            Detector::new(&generation, 1)
                .map_err(|source| TuningError::Picture { picture: file.path.clone(), source })
        };
        let extractor = |file: &ModelFile| FeatureExtractor::at(file, pair.labels.len(), 1, pair.input);
        let extractors = [extractor(pair.before)?, extractor(pair.after)?];
        let heads = [Head::of(extractors[0].layer(), pair.known), pair.head.clone()];
        let detectors = [detector(pair.before)?, detector(pair.after)?];
        let least_scores = [least_score(pair.before)?, least_score(pair.after)?];
        Ok(Self {
            detectors,
            least_scores,
            extractors,
            heads,
            apart: [(0.0, 0); 2],
            times: [Vec::new(), Vec::new()],
            seen: 0,
        })
    }

    fn look(&mut self, picture: &LabelledPicture) -> Result<[Vec<Detection>; 2], TuningError> {
        let failed = |source| TuningError::Picture { picture: picture.name.clone(), source };
        let mut found = [Vec::new(), Vec::new()];
        // In turns, so that whatever slows the machine slows both.
        let order = if self.seen.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for model in order {
            let start = cpu_milliseconds();
            found[model] = self.detectors[model]
                .detect(&picture.picture, self.least_scores[model], &mut Times::default())
                .map_err(failed)?;
            self.times[model].push(cpu_milliseconds() - start);
        }
        for model in order {
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
            is_goal: false,
        })
    }

    /// The least time of each model: what it takes where nothing else takes part.
    fn time(&self) -> Option<Measure> {
        let least = |model: usize| self.times[model].iter().copied().min_by(f64::total_cmp);
        let (before, after) = (least(0)?, least(1)?);
        let name = FRAME_TIME.into();
        Some(Measure { name, before, after, noise: TIME * before, more_is_better: false, is_goal: false })
    }
}

/// Pictures in which what people called a false alarm is told again, by both models. That most of it is gone is a
/// reason to use the tuned model: it is what they asked for.
pub(super) fn marked_alarms([before, after]: [usize; 2]) -> Option<Measure> {
    let (before, after) = (before as f64, after as f64);
    (before > 0.0).then(|| Measure {
        name: "marked false alarms that are told".into(),
        before,
        after,
        noise: before / 2.0,
        more_is_better: false,
        is_goal: true,
    })
}

/// The lowest score that counts for AP: a model whose scores were set lower counts lower ones.
pub(super) fn least_score(file: &ModelFile) -> Result<f32, TuningError> {
    Ok(file.manifest()?.decode.score_threshold.clamp(1e-3, LEAST_SCORE))
}

/// What this thread has used of a processor. The time on the wall would be that of whatever else runs: a
/// tuning has the lowest priority and waits for everything.
fn cpu_milliseconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
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

/// AP50 of a class that the model before did not know. Its noise is a quarter more than the class reaches
/// at most in [`DRAWS`] deals of other objects in place of its own, and no less than [`NEW_AP`].
fn of_new_class(class: usize, pair: &Pair<'_>, judged: &Judged) -> Option<Measure> {
    let label = &pair.labels[class];
    let change = judged.classes.iter().find(|change| change.label == *label)?;
    Some(Measure {
        name: format!("AP50 of the new class `{}`", one_line(label)),
        before: change.before.unwrap_or(0.0),
        after: change.after?,
        noise: (BEYOND_CHANCE * ap50_by_chance(&judged.after, class, DRAWS)).max(NEW_AP),
        more_is_better: true,
        is_goal: true,
    })
}

/// How far scores lie from how often they are right: the expected calibration error.
pub(super) fn calibration(before: &[Picture], after: &[Picture]) -> Option<Measure> {
    let count = classes(before).max(classes(after));
    let (old, new) = (Evaluation::new(before, count), Evaluation::new(after, count));
    let both =
        |weights: &[u32]| Some([old.calibration_error_of(weights)?, new.calibration_error_of(weights)?]);
    measure("distance of scores from how often they are right", before.len(), false, &both)
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
    let ap50 = |weights: &[u32]| Some([old.ap_of(weights).ap50?, new.ap_of(weights).ap50?]);
    measure(name, before.len(), true, &ap50)
}

/// Share of the objects that are told at the threshold.
fn found(
    before: &[Picture],
    after: &[Picture],
    threshold: f32,
    wanted: &dyn Fn(usize) -> bool,
) -> Option<Measure> {
    let [old, new] = [before, after].map(|pictures| points(pictures, threshold, wanted));
    let recall = |points: &[[u64; 3]], weights: &[u32]| {
        let sum = |at: usize| -> u64 { points.iter().zip(weights).map(|(p, w)| p[at] * u64::from(*w)).sum() };
        let objects = sum(0) + sum(1);
        (objects > 0).then(|| sum(0) as f64 / objects as f64)
    };
    let both = |weights: &[u32]| Some([recall(&old, weights)?, recall(&new, weights)?]);
    let measure = measure("share of objects that are told", before.len(), true, &both)?;
    Some(Measure { is_goal: false, ..measure })
}

/// False alarms a picture at the threshold.
fn alarms(
    name: &str,
    [before, after]: [&[Picture]; 2],
    threshold: f32,
    wanted: &dyn Fn(usize) -> bool,
) -> Option<Measure> {
    if before.is_empty() {
        return None;
    }
    let [old, new] = [before, after].map(|pictures| points(pictures, threshold, wanted));
    let mean = |points: &[[u64; 3]], weights: &[u32]| {
        let sum: u64 = points.iter().zip(weights).map(|(point, weight)| point[2] * u64::from(*weight)).sum();
        sum as f64 / points.len() as f64
    };
    measure(name, before.len(), false, &|weights| Some([mean(&old, weights), mean(&new, weights)]))
}

/// Hits, misses and false alarms of each picture.
fn points(pictures: &[Picture], threshold: f32, wanted: &dyn Fn(usize) -> bool) -> Vec<[u64; 3]> {
    let one = |picture: Picture| {
        let classes = classes(std::slice::from_ref(&picture));
        let point = Evaluation::new(&[picture], classes).at(f64::from(threshold));
        [point.hits, point.missed, point.false_alarms]
    };
    restricted(pictures, wanted).into_iter().map(one).collect()
}

/// A number of both models over draws of `count` pictures or cells; none where nothing gives a number.
fn measure(
    name: &str,
    count: usize,
    more_is_better: bool,
    both: &dyn Fn(&[u32]) -> Option<[f64; 2]>,
) -> Option<Measure> {
    let [before, after] = both(&vec![1; count])?;
    let draws = Resamples::new(SEED, count).take(DRAWS);
    let differences: Vec<f64> =
        draws.filter_map(|weights| both(&weights)).map(|[before, after]| after - before).collect();
    let difference = after - before;
    // Without draws nothing is better by more.
    let noise = Interval::of(differences).map_or(f64::INFINITY, |Interval { low, high }| {
        if difference >= 0.0 { (difference - low).max(0.0) } else { (high - difference).max(0.0) }
    });
    Some(Measure { name: name.into(), before, after, noise, more_is_better, is_goal: true })
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
        Ok(rankings(&head, &layer, cells, pair.known, least_score(file)?))
    };
    let before = ranked(pair.before, pair.known)?;
    let after = ranked(pair.after, pair.labels.len())?;
    let both = |weights: &[u32]| Some([mean_ap(&before, weights)?, mean_ap(&after, weights)?]);
    let measure = measure("AP of the reference set's cells", cells.len(), true, &both);
    Ok(measure.map(|measure| Measure { is_goal: false, ..measure }))
}

/// Anchors of cells by falling logit, for one class.
struct Ranking {
    /// `(cell, whether it is a positive)`.
    rows: Vec<(u32, bool)>,
    /// Positives of each cell that has some, those below the least score too.
    positives: Vec<(u32, u32)>,
}

fn rankings(head: &Head, layer: &ClassLayer, cells: &[Cell], known: usize, least: f32) -> Vec<Ranking> {
    let least = (least / (1.0 - least)).ln();
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
    let ranking = |rows: Vec<(f32, u32, bool)>, positives| {
        let mut rows = rows;
        rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Ranking { rows: rows.into_iter().map(|(_, cell, positive)| (cell, positive)).collect(), positives }
    };
    scored.into_iter().zip(positives).map(|(rows, positives)| ranking(rows, positives)).collect()
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
