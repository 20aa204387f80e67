//! A tuning from samples to a judged model.

use super::TuningError;
use super::correction::{correct, told_again};
use super::export::{Origin, export, with_measures};
use super::features::FeatureExtractor;
use super::head::Head;
use super::hooks::{Judgement, LabelSource, LossFunction, PromotionGate, TuningObserver};
use super::judging::{Judged, Pair, calibration, compare, least_score, marked_alarms, part_cells};
use super::kept::{KeptSamples, Spoken};
use super::reference::{Cell, Reference};
use super::set::TrainingSet;
use super::settings::Settings;
use super::temperature::{Answered, answers, keep_told, with_answered_scores};
use super::trainer::{Next, Trainer};
use crate::model::ModelFile;
use crate::one_line::one_line;
use crate::settings::InputSize;
use std::collections::BTreeMap;
use std::path::Path;

/// Most pictures that are learned from, and most that judge: the newest. Features of 400 take 109 MB.
pub const MOST_PICTURES: usize = 400;
/// Held-out pictures without which nothing is judged.
pub const LEAST_HELD_OUT: usize = 8;
/// Held-out objects of a new class without which it is not judged.
pub const LEAST_HELD_OUT_OBJECTS: usize = 3;
/// False alarms of a class from which its outputs are trained. With one or two of them the class forgets more
/// than it learns: diningtable lost 0.06 of its AP50 by one.
pub const LEAST_FALSE_ALARMS: usize = 3;
/// Most classes of a tuned model.
const MOST_CLASSES: usize = 256;

/// Which classes are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// New ones, and known ones with enough false alarms.
    Spoken,
    /// New ones only.
    New,
    /// All.
    All,
    /// None: the scores of known ones are moved to say how often they were right.
    Scores,
}

/// What is to be done.
pub struct Job<'a> {
    /// The model in use.
    pub model: &'a ModelFile,
    /// The size of its input that it runs at.
    pub input: InputSize,
    /// What people said.
    pub samples: KeptSamples,
    /// What keeps known classes; empty: nothing does.
    pub reference: Reference,
    /// What is minimised.
    pub loss: &'a dyn LossFunction,
    /// How; its classes are set by `which`.
    pub training: Settings,
    /// Which classes are trained.
    pub which: Which,
    /// Boxes from which a label that the model does not know becomes a class, and answers from which the scores
    /// of a known one are set.
    pub least_boxes: usize,
    /// Score from which detections are told.
    pub threshold: f32,
    /// This machine's name.
    pub node: &'a str,
    /// Where the training keeps how far it is.
    pub checkpoint: Option<&'a Path>,
}

/// What a job has come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stage {
    /// Features of pictures are taken.
    Features {
        /// Pictures done.
        done: usize,
        /// Pictures in all.
        of: usize,
    },
    /// Training; [`TuningObserver::updated`] says how far.
    Training,
    /// Both models are compared on held-out pictures.
    Judging {
        /// Pictures done.
        done: usize,
        /// Pictures in all.
        of: usize,
    },
}

/// A tuned model with what it was judged by.
pub struct Tuned {
    /// The file.
    pub bytes: Vec<u8>,
    /// Whether it may take the old one's place, and why.
    pub judgement: Judgement,
    /// Both models on held-out pictures.
    pub judged: Judged,
    /// Labels of its classes.
    pub labels: Vec<String>,
    /// Classes of the model before.
    pub known: usize,
    /// Labels whose outputs were trained.
    pub trained: Vec<String>,
    /// Pictures learned from, and held out.
    pub pictures: [usize; 2],
    /// The samples that judged.
    pub held_out: KeptSamples,
    /// Updates made.
    pub updates: u64,
    /// The set that was learned from, with its features.
    pub set: TrainingSet,
    /// The head before it was quantised.
    pub head: Head,
}

/// What a job has learned.
struct Learned {
    head: Head,
    updates: u64,
    /// The classes whose outputs changed.
    classes: Vec<usize>,
    /// Lowest score that counts from now on, where that changed.
    least_score: Option<f32>,
}

impl Job<'_> {
    /// Does it. `next` is asked after each picture and each step of the training, some milliseconds apart;
    /// it may wait, and if it says stop, the training's state is kept for another time.
    ///
    /// # Errors
    /// [`TuningError`]; [`TuningError::Nothing`] where too little is labelled, in words that say what is
    /// missing.
    pub fn run(
        self,
        gate: &mut dyn PromotionGate,
        observer: &mut dyn TuningObserver,
        next: &mut dyn FnMut() -> Next,
    ) -> Result<Tuned, TuningError> {
        let known = self.model.manifest()?.labels();
        let (learned, held_out) = self.samples.part(MOST_PICTURES);
        let spoken = learned.spoken();
        let labels = match self.which {
            Which::Scores => known.clone(),
            Which::Spoken | Which::New | Which::All => {
                with_new_classes(&known, &spoken, self.least_boxes, observer)?
            }
        };
        enough(&learned, &held_out, &labels[known.len()..])?;
        let classes = trained_classes(self.which, &labels, known.len(), &spoken, self.least_boxes)?;
        let mut extractor = FeatureExtractor::at(self.model, labels.len(), 1, self.input)?;
        let (cells_learned, cells_held_out) = part_cells(self.reference.cells);
        let mut set = TrainingSet::new(extractor.layer());
        set.reference = Reference { cells: cells_learned, ..self.reference };
        gather(&mut set, &mut extractor, &learned, &labels, observer, next)?;
        let layer = extractor.layer().clone();
        drop(extractor);
        let before = Head::of(&layer, known.len());
        let Learned { head, updates, classes, least_score } = if self.which == Which::Scores {
            let least = least_score(self.model)?;
            let answers = answers(self.model, self.input, &mut learned.source(&labels), least, next)?;
            let Answered { head, classes, least_score } =
                with_answered_scores(before.clone(), &answers, self.least_boxes, least)?;
            Learned { head, updates: 0, classes, least_score: Some(least_score) }
        } else {
            let mut head = before.with_new_classes(labels.len() - known.len());
            let all = self.which == Which::All;
            let (trained, corrected): (Vec<usize>, Vec<usize>) =
                classes.iter().partition(|class| all || **class >= known.len());
            let mut updates = 0;
            if !trained.is_empty() {
                let training = Settings { classes: trained.clone(), ..self.training };
                (head, updates) = train(head, &set, self.loss, training, self.checkpoint, observer, next)?;
                keep_told(&before, &mut head, &layer, &set, &cells_held_out, &trained, self.threshold);
            }
            if !correct(&mut head, &set, &corrected, self.threshold, next) {
                return Err(stopped());
            }
            Learned { head, updates, classes, least_score: None }
        };
        let [from, to] = learned.times();
        let origin = Origin {
            new_classes: labels[known.len()..].to_vec(),
            loss: self.loss.entry(),
            updates,
            node: self.node.to_owned(),
            from,
            to,
            least_score,
        };
        let court = Court {
            model: self.model,
            input: self.input,
            set: &set,
            origin: &origin,
            known: known.len(),
            labels: &labels,
            held_out: &held_out,
            cells: &cells_held_out,
            threshold: self.threshold,
            scores: self.which == Which::Scores,
        };
        let mut case = court.judge((head, classes), gate, observer, next)?;
        for share in MOVED_BACK {
            let Some(other) = with_less_known(&case, &before, share) else { break };
            let half = "half of what these learned is judged";
            let words = if share < 1.0 { half } else { "the new ones are judged without them" };
            let reason = &case.judgement.reason;
            observer.told(&format!("with the known classes it would not be used: {reason}; {words}"));
            let other = court.judge(other, gate, observer, next)?;
            if other.judgement.promoted {
                case = other;
            } else {
                observer.told(&format!("not used either: {}", other.judgement.reason));
            }
        }
        let pictures = [set.pictures.len(), case.judged.pictures.len()];
        let trained = case.classes.iter().map(|class| labels[*class].clone()).collect();
        Ok(Tuned {
            bytes: case.bytes,
            judgement: case.judgement,
            judged: case.judged,
            known: known.len(),
            labels,
            trained,
            pictures,
            held_out,
            updates,
            set,
            head: case.head,
        })
    }
}

/// By what tuned heads are judged.
struct Court<'a> {
    model: &'a ModelFile,
    input: InputSize,
    set: &'a TrainingSet,
    origin: &'a Origin,
    known: usize,
    labels: &'a [String],
    held_out: &'a KeptSamples,
    cells: &'a [Cell],
    threshold: f32,
    /// Whether scores were set, so that these are judged too.
    scores: bool,
}

/// A tuned head that was judged.
struct Case {
    head: Head,
    /// Classes whose outputs changed.
    classes: Vec<usize>,
    bytes: Vec<u8>,
    judged: Judged,
    judgement: Judgement,
}

impl Court<'_> {
    /// Writes a copy of the model with the head, and has it judged on the pictures held out.
    fn judge(
        &self,
        (head, classes): (Head, Vec<usize>),
        gate: &mut dyn PromotionGate,
        observer: &mut dyn TuningObserver,
        next: &mut dyn FnMut() -> Next,
    ) -> Result<Case, TuningError> {
        let bytes = export(self.model, &head, self.set, self.origin)?;
        let copy = ModelFile::parse(&self.model.path, bytes)?;
        let Self { model, known, labels, held_out, .. } = *self;
        let pair = Pair { before: model, after: &copy, head: &head, known, labels, input: self.input };
        let mut source =
            Watched { inner: held_out.source(labels), done: 0, of: held_out.len(), observer, next };
        let mut refused = Vec::new();
        let mut judged = compare(&pair, &mut source, self.cells, self.threshold, &mut |line| {
            refused.push(line.to_owned())
        })?;
        refused.iter().for_each(|line| observer.told(line));
        let marked = [&Head::of(&model.class_layer()?, known), &head]
            .map(|head| told_again(head, self.set, &classes, self.threshold));
        judged.measures.extend(marked_alarms(marked));
        if self.scores {
            judged.measures.extend(calibration(&judged.before, &judged.after));
        }
        let judgement = gate.judge(&judged.measures);
        // The frame's time is left out, so that the same samples and seed give the same bytes.
        let bytes = with_measures(&copy, &judged.steady().collect::<Vec<_>>())?;
        Ok(Case { head, classes, bytes, judged, judgement })
    }
}

/// By how much of the way known classes go back to what they were, one after the other, where they make the
/// model worse: a smaller step may keep what false alarms taught and lose nothing.
const MOVED_BACK: [f32; 2] = [0.5, 1.0];

/// The head of a case that was lost, with the outputs of the classes of `before` moved back by `share`, if then
/// anything is left of it. Classes are trained independently of each other, so with all of it this is what training the
/// new ones alone gives.
fn with_less_known(case: &Case, before: &Head, share: f32) -> Option<(Head, Vec<usize>)> {
    let (known, new): (Vec<usize>, Vec<usize>) =
        case.classes.iter().partition(|class| **class < before.classes);
    if case.judgement.promoted || known.is_empty() || share >= 1.0 && new.is_empty() {
        return None;
    }
    let mut head = case.head.clone();
    head.move_back(before, share);
    Some((head, if share < 1.0 { case.classes.clone() } else { new }))
}

/// The known labels, and after them those of which enough boxes are there. Others are told.
fn with_new_classes(
    known: &[String],
    spoken: &BTreeMap<String, Spoken>,
    least: usize,
    observer: &mut dyn TuningObserver,
) -> Result<Vec<String>, TuningError> {
    let mut labels = known.to_vec();
    for (label, Spoken { boxes, .. }) in spoken.iter().filter(|(label, _)| !known.contains(label)) {
        if *boxes >= least {
            labels.push(label.clone());
        } else if *boxes > 0 {
            observer.told(&format!(
                "`{}` has {boxes} boxes to learn from and is not learned; a new class needs {least}",
                one_line(label)
            ));
        }
    }
    if labels.len() > MOST_CLASSES {
        let count = labels.len();
        return Err(TuningError::Nothing(format!(
            "{count} classes with the new ones, at most {MOST_CLASSES}"
        )));
    }
    Ok(labels)
}

/// Whether there is enough to learn from and to judge by.
fn enough(learned: &KeptSamples, held_out: &KeptSamples, new: &[String]) -> Result<(), TuningError> {
    let words = |reason: String| Err(TuningError::Nothing(reason));
    if learned.is_empty() && held_out.is_empty() {
        return words(
            "no labelled samples: there is nothing to learn from (`retinad samples label`, `import`)".into(),
        );
    }
    if held_out.len() < LEAST_HELD_OUT {
        return words(format!(
            "{} samples are held out to judge by, {LEAST_HELD_OUT} are needed: a quarter of those whose whole \
             picture is labelled (`retinad samples label --whole`, `--correct` or `--nothing`, `import`)",
            held_out.len()
        ));
    }
    if learned.is_empty() {
        return words("every labelled sample is held out to judge by: label more".into());
    }
    let spoken = held_out.spoken();
    for label in new {
        let boxes = spoken.get(label).map_or(0, |spoken| spoken.boxes);
        if boxes < LEAST_HELD_OUT_OBJECTS {
            return words(format!(
                "`{}` has {boxes} boxes in the samples held out to judge by, a new class needs \
                 {LEAST_HELD_OUT_OBJECTS}: label more of it",
                one_line(label)
            ));
        }
    }
    Ok(())
}

fn trained_classes(
    which: Which,
    labels: &[String],
    known: usize,
    spoken: &BTreeMap<String, Spoken>,
    least: usize,
) -> Result<Vec<usize>, TuningError> {
    let of = |class: usize| spoken.get(&labels[class]).copied().unwrap_or_default();
    let spoken_of = |class: usize| of(class).false_alarms >= LEAST_FALSE_ALARMS;
    let wanted = |class: &usize| match which {
        Which::All => !labels[*class].is_empty(),
        Which::Scores => *class < known && !labels[*class].is_empty(),
        Which::New => *class >= known,
        Which::Spoken => *class >= known || !labels[*class].is_empty() && spoken_of(*class),
    };
    let classes: Vec<usize> = (0..labels.len()).filter(wanted).collect();
    if classes.is_empty() {
        return Err(TuningError::Nothing(format!(
            "no new class has {least} boxes, and no known one {LEAST_FALSE_ALARMS} false alarms in the samples to \
             learn from: label more"
        )));
    }
    Ok(classes)
}

fn gather(
    set: &mut TrainingSet,
    extractor: &mut FeatureExtractor,
    samples: &KeptSamples,
    labels: &[String],
    observer: &mut dyn TuningObserver,
    next: &mut dyn FnMut() -> Next,
) -> Result<(), TuningError> {
    let mut source = samples.source(labels);
    let of = samples.len();
    let mut done = 0;
    while let Some(picture) = source.next()? {
        match extractor.extract(&picture) {
            Ok(features) => set.pictures.push(features),
            // One damaged picture is no reason to learn from none.
            Err(error @ (TuningError::Picture { .. } | TuningError::Label { .. })) => {
                observer.told(&format!("{error}; the sample is left out"));
            }
            Err(error) => return Err(error),
        }
        done += 1;
        observer.stage(Stage::Features { done, of });
        if next() == Next::Stop {
            return Err(stopped());
        }
    }
    if set.pictures.is_empty() {
        return Err(TuningError::Nothing(
            "no labelled sample can be read: there is nothing to learn from".into(),
        ));
    }
    Ok(())
}

fn stopped() -> TuningError {
    TuningError::Stopped(
        "stopped before its end; the next tuning of the same samples goes on from here".into(),
    )
}

fn train(
    head: Head,
    set: &TrainingSet,
    loss: &dyn LossFunction,
    training: Settings,
    checkpoint: Option<&Path>,
    observer: &mut dyn TuningObserver,
    next: &mut dyn FnMut() -> Next,
) -> Result<(Head, u64), TuningError> {
    observer.stage(Stage::Training);
    let mut trainer = Trainer::new(head, set, loss, training)?;
    if let Some(path) = checkpoint {
        trainer.resume(path, observer);
    }
    let mut saved = trainer.progress().pass;
    // A checkpoint that cannot be written costs a training that begins anew, and is told once.
    let save = |trainer: &Trainer<'_>, lines: &mut Option<String>| {
        if let Some(path) = checkpoint
            && let Err(error) = trainer.save(path)
        {
            lines.get_or_insert_with(|| format!("{error}; a tuning that is cut begins anew"));
        }
    };
    let mut complaint = None;
    let mut stop = false;
    trainer.run(observer, &mut |trainer| {
        let pass = trainer.progress().pass;
        stop = next() == Next::Stop;
        if pass != saved || stop {
            saved = pass;
            save(trainer, &mut complaint);
        }
        if stop { Next::Stop } else { Next::Continue }
    })?;
    if let Some(line) = complaint {
        observer.told(&line);
    }
    if stop && !trainer.is_done() {
        return Err(stopped());
    }
    Ok((trainer.head(), trainer.updates()))
}

/// A source whose progress is told.
struct Watched<'a, S> {
    inner: S,
    done: usize,
    of: usize,
    observer: &'a mut dyn TuningObserver,
    next: &'a mut dyn FnMut() -> Next,
}

impl<S: LabelSource> LabelSource for Watched<'_, S> {
    fn next(&mut self) -> Result<Option<super::hooks::LabelledPicture>, TuningError> {
        if self.done > 0 {
            self.observer.stage(Stage::Judging { done: self.done.min(self.of), of: self.of });
        }
        self.done += 1;
        if (self.next)() == Next::Stop {
            return Err(stopped());
        }
        self.inner.next()
    }
}
