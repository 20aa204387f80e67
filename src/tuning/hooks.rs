//! The seams of tuning: what a program that uses this library may put in place of the product's own.
//!
//! Where pictures with labels come from ([`LabelSource`]), what is minimised ([`LossFunction`]), who sees the
//! progress ([`TuningObserver`]), and whether the tuned model may take the old one's place
//! ([`PromotionGate`]). A frame on its way through the daemon is seen by a [`FrameTap`]. Each has a runnable
//! example in `examples/`.

use super::TuningError;
use crate::frame::RawFrame;
use crate::retinanet::loss::{Loss, batch};

pub use super::job::Stage;
pub use crate::pipeline::FrameTap;

/// A box that a picture is known to hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// Index into the classes of the model that is being made, new ones included.
    pub class: usize,
    /// `[x1, y1, x2, y2]` in pixels of the picture.
    pub bbox: [f32; 4],
    /// Neither an object to be found nor background: difficult, or a crowd.
    pub ignore: bool,
}

/// A picture with what is known of it.
#[derive(Debug, Clone)]
pub struct LabelledPicture {
    /// What messages call it.
    pub name: String,
    /// The picture as it was stored.
    pub picture: RawFrame,
    /// Its boxes.
    pub truths: Vec<Truth>,
    /// What is known of the rest of the picture.
    pub rest: Rest,
    /// What a model told of it and people say is not so.
    pub false_alarms: Vec<FalseAlarm>,
}

/// Something that a model took for an object of a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FalseAlarm {
    /// Index into the classes of the model that is being made.
    pub class: usize,
    /// `[x1, y1, x2, y2]` in pixels of the picture.
    pub bbox: [f32; 4],
}

/// What is known of the parts of a picture in which no truth lies.
#[derive(Debug, Clone, PartialEq)]
pub enum Rest {
    /// Background, for every class that is trained: somebody looked at the whole picture.
    Background,
    /// Nothing, but that there is no object in these boxes, `[x1, y1, x2, y2]` in pixels of the picture.
    /// Such is a picture about which people gave single verdicts.
    Unknown {
        /// Where there is nothing.
        nothing: Vec<[f32; 4]>,
    },
}

/// Where pictures with labels come from.
pub trait LabelSource {
    /// The next picture; `None` after the last.
    ///
    /// # Errors
    /// [`TuningError`] that names the entry.
    fn next(&mut self) -> Result<Option<LabelledPicture>, TuningError>;
}

/// What tuning minimises.
pub trait LossFunction {
    /// The sum of the loss over `logits`, and its derivative by each of them, written into `gradient`; both
    /// undivided. Slices are of one length. Of `targets`, 0 is a negative, below 0 ignored (adds nothing and
    /// has the derivative 0), above 0 and at most 1 a positive: the IoU of its predicted box with its truth.
    ///
    /// # Errors
    /// [`TuningError`] if the loss is not defined.
    fn evaluate(&self, logits: &[f32], targets: &[f32], gradient: &mut [f32]) -> Result<f64, TuningError>;

    /// What the manifest's `training.loss` says of it.
    fn entry(&self) -> LossEntry;
}

/// A loss as a manifest names it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LossEntry {
    /// Its name.
    pub kind: String,
    /// Weight of positives, if it has one.
    pub alpha: Option<f64>,
    /// Focusing, if it has one.
    pub gamma: Option<f64>,
    /// Shift, if it has one.
    pub beta: Option<f64>,
}

impl LossFunction for Loss {
    fn evaluate(&self, logits: &[f32], targets: &[f32], gradient: &mut [f32]) -> Result<f64, TuningError> {
        Ok(batch::evaluate(*self, logits, targets, gradient)?)
    }

    fn entry(&self) -> LossEntry {
        let [alpha, gamma, beta] = self.parameters();
        LossEntry { kind: self.kind().into(), alpha, gamma, beta }
    }
}

/// Where a training is.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Progress {
    /// Updates made.
    pub update: u64,
    /// Updates in all.
    pub updates: u64,
    /// Passes over the pictures that are complete.
    pub pass: u32,
    /// Loss of the last update, divided by its normaliser.
    pub loss: f64,
    /// Its learning rate.
    pub learning_rate: f64,
}

/// Who sees how a training goes.
pub trait TuningObserver {
    /// An update was made.
    fn updated(&mut self, progress: &Progress);

    /// A job has come to this.
    fn stage(&mut self, stage: Stage) {
        let _ = stage;
    }

    /// A line for people: a checkpoint that could not be used, say.
    fn told(&mut self, line: &str) {
        let _ = line;
    }
}

/// Sees nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl TuningObserver for Quiet {
    fn updated(&mut self, _: &Progress) {}
}

/// Writes each update as a line of JSON; what cannot be written is dropped.
pub struct JsonLines<W: std::io::Write>(pub W);

impl<W: std::io::Write> TuningObserver for JsonLines<W> {
    fn updated(&mut self, progress: &Progress) {
        if let Ok(line) = serde_json::to_string(progress) {
            let _ = writeln!(self.0, "{line}");
        }
    }
}

/// One number by which a tuned model is judged.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Measure {
    /// Its name, for people.
    pub name: String,
    /// Of the model in use.
    pub before: f64,
    /// Of the tuned one.
    pub after: f64,
    /// A difference up to this means nothing.
    pub noise: f64,
    /// Whether more is better.
    pub more_is_better: bool,
    /// Whether a gain in it is a reason to use the tuned model. Otherwise it only must not get worse.
    pub is_goal: bool,
}

impl Measure {
    /// How much better the tuned model is; negative where it is worse.
    #[must_use]
    pub fn gain(&self) -> f64 {
        let gain = self.after - self.before;
        if self.more_is_better { gain } else { -gain }
    }
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the tuned model takes the old one's place.
    pub promoted: bool,
    /// Why, in one sentence.
    pub reason: String,
}

/// Who decides whether a tuned model takes the old one's place.
pub trait PromotionGate {
    /// Judges by `measures`.
    fn judge(&mut self, measures: &[Measure]) -> Judgement;
}

/// The product's gate: no measure may be worse by more than its noise, and one that is a goal must be
/// better by more.
#[derive(Debug, Clone, Copy, Default)]
pub struct BeyondNoise;

impl PromotionGate for BeyondNoise {
    fn judge(&mut self, measures: &[Measure]) -> Judgement {
        let told = |measure: &Measure, word: &str| {
            let Measure { name, before, after, noise, .. } = measure;
            format!("{name} is {word}: {after:.4} after {before:.4}, noise {noise:.4}")
        };
        // A measure that is not a number is neither within its noise nor beyond it.
        let fails = |measure: &&Measure| {
            let gain = measure.gain();
            gain.is_nan() || measure.noise.is_nan() || gain < -measure.noise
        };
        if let Some(worse) = measures.iter().find(fails) {
            return Judgement { promoted: false, reason: told(worse, "worse") };
        }
        match measures.iter().find(|measure| measure.is_goal && measure.gain() > measure.noise) {
            Some(better) => Judgement { promoted: true, reason: told(better, "better") },
            None => Judgement { promoted: false, reason: "nothing is better by more than its noise".into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(name: &str, before: f64, after: f64, more_is_better: bool) -> Measure {
        Measure { name: name.into(), before, after, noise: 0.01, more_is_better, is_goal: true }
    }

    #[test]
    fn a_model_is_promoted_only_if_something_is_better_and_nothing_worse_beyond_noise() {
        let ap = |before, after| measure("AP50", before, after, true);
        let alarms = |before, after| measure("false alarms", before, after, false);
        let judge = |measures: &[Measure]| BeyondNoise.judge(measures);
        assert!(judge(&[ap(0.5, 0.6), alarms(0.2, 0.205)]).promoted);
        assert!(judge(&[ap(0.5, 0.495), alarms(0.2, 0.1)]).promoted);
        let worse = judge(&[ap(0.5, 0.6), alarms(0.2, 0.25)]);
        assert_eq!(worse.reason, "false alarms is worse: 0.2500 after 0.2000, noise 0.0100");
        assert!(!worse.promoted && !judge(&[ap(0.5, 0.509)]).promoted && !judge(&[]).promoted);
        assert!(!judge(&[ap(0.5, f64::NAN), alarms(0.2, 0.1)]).promoted);
        let guard = |before, after| Measure { is_goal: false, ..ap(before, after) };
        assert!(!judge(&[guard(0.5, 0.6)]).promoted, "what must not get worse is no reason");
        assert!(!judge(&[guard(0.5, 0.4), ap(0.5, 0.6)]).promoted);
    }

    #[test]
    fn an_update_is_one_line_of_json() {
        let mut lines = Vec::new();
        let progress = Progress { update: 3, updates: 9, pass: 1, loss: 0.5, learning_rate: 0.01 };
        JsonLines(&mut lines).updated(&progress);
        let line = String::from_utf8(lines).expect("text");
        assert_eq!(line, "{\"update\":3,\"updates\":9,\"pass\":1,\"loss\":0.5,\"learning_rate\":0.01}\n");
    }
}
