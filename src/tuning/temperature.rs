//! What a score means: how often something that is told with it is there.
//!
//! A class layer that was trained anew ranks better or worse, and its scores mean something else: cells of
//! the reference set are richer in objects than frames are, so that rare classes come out too sure, and a
//! threshold that was right before tells twice the false alarms. A shift of each class's logit mends that
//! ([`keep_told`]). Scores of a model that was not trained are set by what people said of its detections, with
//! a factor and a shift (Platt 1999; the factor is the temperature of Guo and others 2017). Neither changes
//! the order within a class.

use super::TuningError;
use super::head::Head;
use super::hooks::{LabelSource, LabelledPicture, Rest};
use super::kept::SAME;
use super::real_logits;
use super::reference::Cell;
use super::set::TrainingSet;
use super::trainer::Next;
use crate::detection::{Detection, Times};
use crate::detector::{Detector, Generation};
use crate::model::{ClassLayer, ModelFile};
use crate::retinanet::nms::iou;
use crate::settings::InputSize;
use std::ops::RangeInclusive;

/// Objects by which a class's threshold is kept.
const LEAST_TOLD: usize = 25;
/// Steps of Newton's method at most.
const STEPS: usize = 50;
/// A step that moves neither number by more ends the search.
const ENOUGH: f64 = 1e-9;
/// Least and greatest factor: beyond, there is too little to go by.
const FACTORS: RangeInclusive<f64> = 0.25..=4.0;
/// How firmly logits are held to what they are, in `pull · ((factor - 1)² + shift²)`: as firmly as some ten
/// verdicts against it would move them.
const PULL: f64 = 1.0;

/// What a logit is multiplied with, and what is added then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub factor: f64,
    pub shift: f64,
}

impl Scale {
    /// Changes nothing.
    pub const SAME: Self = Self { factor: 1.0, shift: 0.0 };

    /// The scale with which logits say how likely it is that something is there: the least cross entropy
    /// over `seen`, logits with whether something was. Where no sensible factor has it (all answers are the
    /// same, say), a shift alone is taken. None where logits are no numbers.
    pub fn of(seen: &[(f32, bool)]) -> Option<Self> {
        let sensible = |scale: &Self| scale.shift.is_finite() && FACTORS.contains(&scale.factor);
        [true, false].into_iter().map(|with_factor| Self::fitted(seen, with_factor)).find(sensible)
    }

    /// Newton's method, from no change; without a factor, by the shift alone.
    fn fitted(seen: &[(f32, bool)], with_factor: bool) -> Self {
        let Self { mut factor, mut shift } = Self::SAME;
        for _ in 0..STEPS {
            // Slope and curvature of the cross entropy by factor and shift.
            let mut slope = [2.0 * PULL * (factor - 1.0), 2.0 * PULL * shift];
            let (mut aa, mut ab, mut bb) = (2.0 * PULL, 0.0, 2.0 * PULL);
            for &(logit, there) in seen {
                let logit = f64::from(logit);
                let likely = 1.0 / (1.0 + (-(factor * logit + shift)).exp());
                let (error, weight) = (likely - f64::from(u8::from(there)), likely * (1.0 - likely));
                slope[0] += error * logit;
                slope[1] += error;
                aa += weight * logit * logit;
                ab += weight * logit;
                bb += weight;
            }
            let determinant = aa * bb - ab * ab;
            let step = if with_factor {
                [(bb * slope[0] - ab * slope[1]) / determinant, (aa * slope[1] - ab * slope[0]) / determinant]
            } else {
                [0.0, slope[1] / bb]
            };
            // Far from the end a whole step may leap over it.
            let most = step[0].abs().max(step[1].abs());
            let share = (1.0 / most).min(1.0);
            factor -= share * step[0];
            shift -= share * step[1];
            if most < ENOUGH {
                break;
            }
        }
        Self { factor, shift }
    }
}

impl Head {
    /// Scales all logits of a class.
    pub(super) fn scale(&mut self, class: usize, scale: Scale) {
        for anchor in 0..self.layers * self.anchors {
            let output = anchor * self.classes + class;
            let weights = &mut self.weights[output * self.inputs..(output + 1) * self.inputs];
            weights.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * scale.factor) as f32);
            self.bias[output] = (f64::from(self.bias[output]) * scale.factor + scale.shift) as f32;
        }
    }
}

/// The logits of what `model` finds from `least_score` in the pictures of `source`, for each class, with whether it is there;
/// what nobody spoke about is left out. A picture that cannot be used is passed over, as [`Job`] has told it.
///
/// [`Job`]: super::Job
pub(super) fn answers(
    model: &ModelFile,
    input: InputSize,
    source: &mut dyn LabelSource,
    least_score: f32,
    next: &mut dyn FnMut() -> Next,
) -> Result<Vec<Vec<(f32, bool)>>, TuningError> {
    let generation = Generation::from_file_at(model, 0, input)?;
    let failed = |source| TuningError::Picture { picture: model.path.clone(), source };
    let mut detector = Detector::new(&generation, 1).map_err(failed)?;
    let mut answers = vec![Vec::new(); model.manifest()?.classes.len()];
    while let Some(picture) = source.next()? {
        if let Ok(found) = detector.detect(&picture.picture, least_score, &mut Times::default()) {
            for (class, score, there) in answered(&picture, &found) {
                answers[class].push(((score / (1.0 - score)).ln(), there));
            }
        }
        if next() == Next::Stop {
            return Err(TuningError::Stopped("stopped before its end".into()));
        }
    }
    Ok(answers)
}

/// Class and score of what was found and spoken about, best first, with whether it is there: each truth is
/// there once.
fn answered(picture: &LabelledPicture, found: &[Detection]) -> Vec<(usize, f32, bool)> {
    let mut told = vec![false; picture.truths.len()];
    let mut answered = Vec::new();
    for Detection { class, score, bbox, .. } in found {
        let over = |other: &[f32; 4]| iou(other, bbox) >= SAME;
        let truths = || picture.truths.iter().enumerate().filter(|(_, truth)| over(&truth.bbox));
        if truths().any(|(_, truth)| truth.ignore) {
            continue;
        }
        let free = truths().find(|(at, truth)| truth.class == *class && !told[*at]).map(|(at, _)| at);
        let denied = match &picture.rest {
            Rest::Background => true,
            Rest::Unknown { nothing } => nothing.iter().any(over) || truths().next().is_some(),
        };
        if let Some(at) = free {
            told[at] = true;
            answered.push((*class, *score, true));
        } else if denied {
            answered.push((*class, *score, false));
        }
    }
    answered
}

/// A head whose scores were set by what people said.
#[derive(Debug)]
pub(super) struct Answered {
    pub head: Head,
    /// The classes whose scores were set.
    pub classes: Vec<usize>,
    /// What the lowest score that counted before has become, where that is lower: below it nothing was told.
    pub least_score: f32,
}

/// Moves the scores of each class that `least` answers speak about, so that they say how often they were right.
/// Nothing below `least_score` was found before.
pub(super) fn with_answered_scores(
    mut head: Head,
    answers: &[Vec<(f32, bool)>],
    least: usize,
    least_score: f32,
) -> Result<Answered, TuningError> {
    let spoken: Vec<usize> = (0..answers.len()).filter(|class| answers[*class].len() >= least).collect();
    if spoken.is_empty() {
        return Err(TuningError::Nothing(format!(
            "no class was found {least} times in labelled samples: there is nothing to set scores by"
        )));
    }
    let lowest = f64::from(least_score / (1.0 - least_score)).ln();
    let mut least_score = least_score;
    for class in &spoken {
        if let Some(scale) = Scale::of(&answers[*class]) {
            head.scale(*class, scale);
            let logit = scale.factor * lowest + scale.shift;
            least_score = least_score.min((1.0 / (1.0 + (-logit).exp())) as f32);
        }
    }
    Ok(Answered { head, classes: spoken, least_score })
}

/// Shifts those of `classes` in `head` that `before` knows, so that as many objects score at least `threshold`
/// as did before: those of the site's pictures where [`LEAST_TOLD`] of the class were told, else those of
/// `held_out`, cells of the reference set from which nothing was learned.
///
/// Objects are counted and not false alarms: cells without an object are in the reference set because the
/// model in use was surest of them, and of these any other model finds fewer. The site's own objects were
/// learned from, so that a little too many of them are told and the shift errs towards fewer false alarms.
pub(super) fn keep_told(
    before: &Head,
    head: &mut Head,
    layer: &ClassLayer,
    set: &TrainingSet,
    held_out: &[Cell],
    classes: &[usize],
    threshold: f32,
) {
    let lowest = (threshold / (1.0 - threshold)).ln();
    let site = cells_with_objects(set);
    let by_site = [objects(before, layer, &site), objects(head, layer, &site)];
    let by_reference = [objects(before, layer, held_out), objects(head, layer, held_out)];
    for class in classes.iter().copied().filter(|class| *class < before.classes) {
        let told = |objects: &[Vec<Vec<f32>>; 2]| {
            objects[0][class].iter().take_while(|logit| **logit >= lowest).count()
        };
        let objects = if told(&by_site) >= LEAST_TOLD { &by_site } else { &by_reference };
        // Where fewer are told, those just below the threshold count too: two or three more or less are chance.
        let last = told(objects).max(LEAST_TOLD) - 1;
        if let (Some(old), Some(new)) = (objects[0][class].get(last), objects[1][class].get(last)) {
            head.scale(class, Scale { factor: 1.0, shift: f64::from(old - new) });
        }
    }
}

/// The cells of a set's pictures that answer for an object.
fn cells_with_objects(set: &TrainingSet) -> Vec<Cell> {
    let levels = set.pictures.iter().flat_map(|picture| picture.levels.iter().enumerate());
    levels
        .flat_map(|(number, level)| {
            level.positives.chunk_by(|a, b| a.cell == b.cell).map(move |of_cell| {
                let at = of_cell[0].cell as usize * set.inputs;
                Cell {
                    level: number as u8,
                    codes: level.codes[at..at + set.inputs].to_vec(),
                    positives: of_cell.iter().map(|p| (p.anchor, p.class, p.quality)).collect(),
                    ignored: Vec::new(),
                }
            })
        })
        .collect()
}

/// For each class the highest logit of each cell with an object of it, the highest first.
fn objects(head: &Head, layer: &ClassLayer, cells: &[Cell]) -> Vec<Vec<f32>> {
    let mut objects = vec![Vec::new(); head.classes];
    for cell in cells.iter().filter(|cell| !cell.positives.is_empty()) {
        let logits = real_logits(head, layer, usize::from(cell.level), &cell.codes);
        let mut highest = vec![f32::NEG_INFINITY; head.classes];
        // Objects of classes that this head lacks are no matter of its own.
        for (anchor, class, _) in
            cell.positives.iter().filter(|(_, class, _)| usize::from(*class) < head.classes)
        {
            let class = usize::from(*class);
            highest[class] = highest[class].max(logits[usize::from(*anchor) * head.classes + class]);
        }
        for (objects, highest) in objects.iter_mut().zip(highest).filter(|(_, highest)| highest.is_finite()) {
            objects.push(highest);
        }
    }
    objects.iter_mut().for_each(|objects| objects.sort_by(|a, b| b.total_cmp(a)));
    objects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Encoding, RawFrame, Turn};
    use crate::model::{ClassLevel, Quantisation};
    use crate::tuning::features::{LevelFeatures, PictureFeatures, Positive};
    use crate::tuning::hooks::Truth;
    use crate::tuning::shuffle::Random;

    /// Logits of both kinds, of which `factor · logit + shift` says how likely something is there.
    fn drawn(factor: f64, shift: f64) -> Vec<(f32, bool)> {
        let mut random = Random::new(3, 0);
        let one = |_| {
            let logit = 2.0 * random.normal() - 1.0;
            let likely = 1.0 / (1.0 + (-(factor * logit + shift)).exp());
            (logit as f32, (random.below(1_000_000) as f64) < likely * 1e6)
        };
        (0..40_000).map(one).collect()
    }

    #[test]
    fn factor_and_shift_are_found_again() {
        for (factor, shift) in [(1.0, 0.0), (0.5, -1.0), (2.5, 1.5), (0.8, 3.0)] {
            let found = Scale::of(&drawn(factor, shift)).expect("a scale");
            assert!((found.factor - factor).abs() < 0.06 * factor, "{found:?} of {factor}");
            assert!((found.shift - shift).abs() < 0.1, "{found:?} of {shift}");
        }
    }

    #[test]
    fn where_nothing_can_be_known_nothing_changes() {
        assert_eq!(Scale::of(&[]), Some(Scale::SAME));
        // Numbers that are none have no scale; scores that say the opposite are at most shifted.
        assert_eq!(Scale::of(&drawn(-1.0, 0.0)).map(|scale| scale.factor), Some(1.0));
        assert_eq!(Scale::of(&[(f32::NAN, true), (0.0, false)]), None);
        // Three verdicts move little, and whatever is told apart without error stays finite.
        let few = Scale::of(&[(0.5, false), (1.0, false), (2.0, true)]).expect("a scale");
        assert!((few.factor - 1.0).abs() < 0.5 && few.shift.abs() < 1.0, "{few:?}");
        let sure: Vec<_> = (0..100).map(|at| (at as f32 / 10.0 - 5.0, at >= 50)).collect();
        assert!(Scale::of(&sure).is_none_or(|scale| FACTORS.contains(&scale.factor)));
    }

    #[test]
    fn a_scaled_class_says_scaled_logits_and_others_what_they_said() {
        let (inputs, anchors, classes) = (2, 2, 3);
        let weights = (0..inputs * anchors * classes).map(|at| at as f32 / 3.0 - 1.0).collect();
        let head = Head {
            inputs,
            layers: 1,
            anchors,
            classes,
            weights,
            bias: vec![-4.0, -3.0, -2.0, -1.0, 0.0, 1.0],
        };
        let mut scaled = head.clone();
        scaled.scale(1, Scale { factor: 0.5, shift: -1.0 });
        let logit = |head: &Head, output: usize| {
            let row = &head.weights[output * inputs..(output + 1) * inputs];
            row.iter().zip([3.0, 7.0]).map(|(weight, value)| weight * value).sum::<f32>() + head.bias[output]
        };
        for output in 0..anchors * classes {
            let (old, new) = (logit(&head, output), logit(&scaled, output));
            let expected = if output % classes == 1 { 0.5 * old - 1.0 } else { old };
            assert!((new - expected).abs() < 1e-5, "{output}: {new} of {old}");
        }
    }

    #[test]
    fn what_people_said_of_a_box_speaks_of_what_was_found_there_and_of_nothing_else() {
        let found = |class, score, bbox| Detection { class, score, bbox };
        let (cat, chair, door) = ([0.0, 0.0, 40.0, 40.0], [50.0, 50.0, 90.0, 90.0], [0.0, 60.0, 30.0, 90.0]);
        let truth = |class, bbox, ignore| Truth { class, bbox, ignore };
        let data =
            RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data: Vec::new() };
        let mut picture = LabelledPicture {
            name: "p".into(),
            picture: data,
            truths: vec![truth(0, cat, false), truth(1, door, true)],
            rest: Rest::Background,
            false_alarms: Vec::new(),
        };
        let seen = [found(0, 0.9, cat), found(0, 0.8, cat), found(2, 0.7, chair), found(1, 0.6, door)];
        let right = (0, 0.9, true);
        assert_eq!(answered(&picture, &seen), [right, (0, 0.8, false), (2, 0.7, false)]);
        picture.rest = Rest::Unknown { nothing: Vec::new() };
        assert_eq!(answered(&picture, &seen), [right, (0, 0.8, false)], "nobody spoke about the chair");
        picture.rest = Rest::Unknown { nothing: vec![chair] };
        assert_eq!(answered(&picture, &seen), [right, (0, 0.8, false), (2, 0.7, false)]);
    }

    #[test]
    fn a_class_that_was_wrong_becomes_less_sure_and_others_stay() {
        let head = Head {
            inputs: 1,
            layers: 1,
            anchors: 1,
            classes: 2,
            weights: vec![1.0, 1.0],
            bias: vec![0.0, 0.0],
        };
        let wrong: Vec<(f32, bool)> = (0..12).map(|at| (at as f32 / 6.0, false)).collect();
        let moved = with_answered_scores(head.clone(), &[wrong.clone(), wrong[..9].to_vec()], 10, 0.05);
        let Answered { head: moved, classes, least_score } = moved.expect("enough answers");
        assert_eq!(classes, [0]);
        assert!(least_score <= 0.05 && least_score > 0.0, "{least_score}");
        assert!(moved.weights[0] + moved.bias[0] < 0.0, "{moved:?}");
        assert_eq!((moved.weights[1], moved.bias[1]), (1.0, 0.0), "nine answers are too few");
        let none =
            with_answered_scores(head, &[Vec::new(), wrong[..9].to_vec()], 10, 0.05).expect_err("too few");
        assert!(none.to_string().contains("no class was found 10 times"), "{none}");
    }

    #[test]
    fn as_many_objects_are_told_as_before() {
        let codes = Quantisation { scale: 1.0, zero_point: 0, signed: false };
        let levels = vec![ClassLevel { input: String::new(), input_codes: codes, output_codes: codes }];
        let layer = ClassLayer {
            inputs: 1,
            layers: 1,
            weights: Vec::new(),
            bias: Vec::new(),
            levels,
            body_sha256: String::new(),
        };
        let head = |weights: [f32; 2]| Head {
            inputs: 1,
            layers: 1,
            anchors: 1,
            classes: 2,
            weights: weights.into(),
            bias: vec![-100.0; 2],
        };
        let cell = |code: u8| Cell {
            level: 0,
            codes: vec![code],
            positives: vec![(0, u16::from(code.is_multiple_of(5)), 100)],
            ignored: Vec::new(),
        };
        let cells: Vec<Cell> = (0..=255).map(cell).collect();
        let (before, mut tuned) = (head([1.0, 1.0]), head([2.0, 1.0]));
        let told = |head: &Head| {
            let told = |logits: &Vec<f32>| logits.iter().filter(|logit| **logit >= 0.0).count();
            objects(head, &layer, &cells).iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(told(&before), [124, 32]);
        assert!(told(&tuned)[0] > 150);
        let mut set = TrainingSet::new(&layer);
        keep_told(&before, &mut tuned, &layer, &set, &cells, &[0], 0.5);
        assert_eq!(told(&tuned), [124, 32]);
        // Where a dozen of the second class are told, those just below the threshold count, too.
        let doubtful = |head: Head| Head { bias: vec![-200.0; 2], ..head };
        let (before, mut tuned) = (doubtful(head([1.0, 1.0])), doubtful(head([1.0, 0.9])));
        assert_eq!(told(&before)[1], 12);
        keep_told(&before, &mut tuned, &layer, &set, &cells, &[1], 0.5);
        let last = |head: &Head| objects(head, &layer, &cells)[1][24];
        assert!((last(&tuned) - last(&before)).abs() < 1e-4, "{}", last(&tuned));
        // The site's own objects go before those of the reference set.
        let positive = |cell: u32| Positive { cell, anchor: 0, class: 0, quality: 255 };
        let level = LevelFeatures {
            codes: (120..=180).collect(),
            positives: (0..=60).map(positive).collect(),
            ignored: Vec::new(),
            false_alarms: Vec::new(),
        };
        set.pictures = vec![PictureFeatures { levels: vec![level], unmatched: 0, weight: 1.0 }];
        let (before, mut tuned) = (head([1.0, 1.0]), head([0.9, 1.0]));
        keep_told(&before, &mut tuned, &layer, &set, &cells, &[0], 0.5);
        let site = cells_with_objects(&set);
        let last = |head: &Head| objects(head, &layer, &site)[0][60];
        assert_eq!((site.len(), last(&before)), (61, 20.0));
        assert!((last(&tuned) - last(&before)).abs() < 1e-4, "{}", last(&tuned));
    }
}
