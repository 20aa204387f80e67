//! What `retinad eval` prints: one report, as JSON or as tables.

use crate::detector::Generation;
use crate::evaluation::{
    Calibration, ClassAp, Confusion, Evaluation, Interval, Intervals, OperatingPoint, Picture, Summary,
};
use serde::Serialize;
use std::fmt::Write;

/// Thresholds of the table, 0.05 to 0.95.
const STEPS: u32 = 19;
/// Confusions that are listed as text.
const MOST_CONFUSIONS: usize = 8;

/// What was judged.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// A model's own detections.
    Model {
        /// Its file.
        file: String,
        /// SHA-256 of the file, hex.
        sha256: String,
        /// What it ran in.
        arithmetic: String,
        /// Its detections have scores above this.
        least_score: f64,
    },
    /// Results from a file.
    Results {
        /// The file.
        file: String,
    },
}

impl Judged {
    /// The detections of `model` above `least_score`.
    pub fn model(model: &Generation, least_score: f32) -> Self {
        Self::Model {
            file: model.path.clone(),
            sha256: model.sha256.clone(),
            arithmetic: model.arithmetic(),
            // The manifest's own bound holds as well. As people write it: 0.05 and not 0.05000000074505806.
            least_score: rounded(f64::from(least_score.max(model.manifest.decode.score_threshold))),
        }
    }
}

fn rounded(score: f64) -> f64 {
    (score * 1e6).round() / 1e6
}

/// What a report is made from.
pub struct Source<'a> {
    /// The file of annotations.
    pub annotations: String,
    /// Whose detections.
    pub judged: Judged,
    /// Pictures that were left out.
    pub failures: usize,
    /// The others.
    pub pictures: &'a [Picture],
    /// Id and name of each class.
    pub classes: &'a [(u64, &'a str)],
    /// The matches.
    pub evaluation: &'a Evaluation,
    /// For precision, recall and confusion.
    pub threshold: f64,
    /// Draws of the intervals.
    pub resamples: u32,
    /// Of the draws.
    pub seed: u64,
}

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    annotations: String,
    judged: Judged,
    pictures: usize,
    pictures_failed: usize,
    /// Truths that count, and those that are ignored.
    truths: usize,
    truths_ignored: usize,
    detections: usize,
    coco: Summary,
    /// The middle 95 % of the draws; none without draws.
    intervals: Option<Drawn>,
    classes: Vec<ClassReport<'a>>,
    at_threshold: OperatingPoint,
    thresholds: Vec<OperatingPoint>,
    calibration: Calibration,
    confusion: Confusion,
}

#[derive(Debug, Serialize)]
struct Drawn {
    resamples: u32,
    seed: u64,
    #[serde(flatten)]
    of: Intervals,
}

#[derive(Debug, Serialize)]
struct ClassReport<'a> {
    category_id: u64,
    name: &'a str,
    #[serde(flatten)]
    ap: ClassAp,
    at_threshold: OperatingPoint,
}

impl<'a> Report<'a> {
    /// Takes all numbers.
    pub fn new(source: &Source<'a>) -> Self {
        let (evaluation, threshold) = (source.evaluation, rounded(source.threshold));
        let truths = || source.pictures.iter().flat_map(|picture| &picture.truths);
        let ignored = truths().filter(|truth| truth.ignored).count();
        let of_classes = evaluation.class_ap().into_iter().zip(evaluation.classes_at(threshold));
        let class = |(&(category_id, name), (ap, at_threshold)): (&(u64, &'a str), _)| ClassReport {
            category_id,
            name,
            ap,
            at_threshold,
        };
        Self {
            annotations: source.annotations.clone(),
            judged: source.judged.clone(),
            pictures: source.pictures.len(),
            pictures_failed: source.failures,
            truths: truths().count() - ignored,
            truths_ignored: ignored,
            detections: evaluation.detections(),
            coco: evaluation.summary(),
            intervals: (source.resamples > 0).then(|| Drawn {
                resamples: source.resamples,
                seed: source.seed,
                of: evaluation.bootstrap(source.seed, source.resamples as usize),
            }),
            classes: source.classes.iter().zip(of_classes).map(class).collect(),
            at_threshold: evaluation.at(threshold),
            thresholds: (1..=STEPS).map(|step| evaluation.at(f64::from(step) / 20.0)).collect(),
            calibration: evaluation.calibration(),
            confusion: Confusion::new(source.pictures, source.classes.len(), threshold),
        }
    }

    /// One JSON object on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts are always written")
    }

    /// Tables.
    pub fn to_text(&self) -> String {
        let mut text = self.heading();
        self.write_coco(&mut text);
        self.write_classes(&mut text);
        self.write_thresholds(&mut text);
        self.write_errors(&mut text);
        text
    }

    fn heading(&self) -> String {
        let judged = match &self.judged {
            Judged::Model { file, arithmetic, least_score, .. } => {
                format!("by {file} ({arithmetic}), scores above {least_score}")
            }
            Judged::Results { file } => format!("of {file}"),
        };
        format!(
            "{}: {} pictures, {} truths ({} more are ignored)\n{} detections {judged}\n\n",
            self.annotations, self.pictures, self.truths, self.truths_ignored, self.detections
        )
    }

    fn write_coco(&self, text: &mut String) {
        let of = self.intervals.as_ref().map(|drawn| drawn.of);
        for (name, value) in self.coco.named() {
            let interval = match name {
                "AP" => of.and_then(|of| of.ap),
                "AP50" => of.and_then(|of| of.ap50),
                _ => None,
            };
            let within = interval.map_or(String::new(), |Interval { low, high }| {
                format!("   95 % of resamples: {low:.3} to {high:.3}")
            });
            put(text, &format!("{name:<6} {}{within}", shown(value)));
        }
    }

    fn write_classes(&self, text: &mut String) {
        let width = self.classes.iter().map(|class| class.name.chars().count()).max().unwrap_or(0).max(5);
        put(
            text,
            &format!(
                "\n{:<width$}      AP   AP50  truths | above {}: precision  recall  false alarms",
                "class", self.at_threshold.threshold
            ),
        );
        for class in &self.classes {
            let (ap, at) = (class.ap, class.at_threshold);
            put(
                text,
                &format!(
                    "{:<width$}   {:>5}  {:>5}  {:>6} | {:>21}  {:>6}  {:>12}",
                    class.name,
                    shown(ap.ap.ap),
                    shown(ap.ap.ap50),
                    ap.truths,
                    shown(at.precision),
                    shown(at.recall),
                    at.false_alarms
                ),
            );
        }
    }

    fn write_thresholds(&self, text: &mut String) {
        put(text, "\nthreshold  precision  recall     F1  false alarms a picture");
        for point in &self.thresholds {
            put(
                text,
                &format!(
                    "{:>9.2}  {:>9}  {:>6}  {:>5}  {:>22}",
                    point.threshold,
                    shown(point.precision),
                    shown(point.recall),
                    shown(point.f1),
                    shown(point.false_alarms_per_picture)
                ),
            );
        }
    }

    fn write_errors(&self, text: &mut String) {
        let error = shown(self.calibration.expected_error);
        put(text, &format!("\nexpected calibration error {error} ({} bins)", self.calibration.bins.len()));
        let confused = self.confusion.most_frequent(MOST_CONFUSIONS);
        let name = |class: usize| self.classes[class].name;
        let pairs: Vec<String> = confused
            .iter()
            .map(|(truth, found, times)| format!("{} for {} ({times})", name(*truth), name(*found)))
            .collect();
        let pairs = if pairs.is_empty() { "nothing".into() } else { pairs.join(", ") };
        let _ = write!(text, "taken for another above {}: {pairs}", self.confusion.threshold);
    }
}

/// A number with three digits, or a dash.
fn shown(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.3}"))
}

fn put(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
