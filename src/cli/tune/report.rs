//! The report on a tuning, from what the job gives.

use crate::evaluation::{Evaluation, Interval, Picture};
use crate::model::{Manifest, ModelError, ModelFile};
use crate::tuning::hooks::LabelSource;
use crate::tuning::report::{
    Both, ChangedPicture, ClassChange, Estimate, LossShares, ModelName, MostChanged, Pictures, Report,
    Suggestion,
};
use crate::tuning::study::cumulative::{GAMMAS, Sides, Spread, spreads};
use crate::tuning::{Tuned, TuningError};
use std::collections::HashMap;

/// Draws behind the interval of a class.
const DRAWS: usize = 200;
/// Seed of the draws.
const SEED: u64 = 1;
/// Share of the background's loss that its hardest hundredth should hold.
const CONCENTRATED: f64 = 0.5;
/// The best α for each γ of [`GAMMAS`] in the paper's tables 1a and 1b.
const ALPHAS: [f64; 4] = [0.75, 0.75, 0.25, 0.25];

/// What the report says of a tuning of `model` on `node`. `losses` has `(update, loss)`.
///
/// # Errors
/// [`TuningError`] if samples or model cannot be read any more.
pub fn report(
    tuned: &Tuned,
    model: &ModelFile,
    node: &str,
    threshold: f32,
    losses: Vec<(u64, f64)>,
) -> Result<Report, TuningError> {
    let copy = ModelFile::parse(&model.path, tuned.bytes.clone())?;
    let sides = Sides::of(&tuned.head, &tuned.set, |class| Some(usize::from(class)));
    let (positives, negatives) = (spreads(&sides.positives, &GAMMAS), spreads(&sides.negatives, &GAMMAS));
    Ok(Report {
        node: node.to_owned(),
        model: Both { before: name(model)?, after: name(&copy)? },
        labels: tuned.labels.clone(),
        pictures: Pictures { trained: tuned.pictures[0], held_out: tuned.pictures[1] },
        classes: classes(tuned),
        precision_recall: Both {
            before: curve(&tuned.judged.before, tuned.labels.len()),
            after: curve(&tuned.judged.after, tuned.labels.len()),
        },
        min_score: threshold,
        changed: changed(tuned, threshold)?,
        suggestion: suggestion(&negatives),
        loss_shares: positives
            .into_iter()
            .zip(negatives)
            .map(|(positives, negatives)| LossShares {
                gamma: positives.gamma,
                positives: positives.curve,
                negatives: negatives.curve,
            })
            .collect(),
        judgement: tuned.judgement.clone(),
        measures: tuned.judged.measures.clone(),
        training: losses,
    })
}

fn name(file: &ModelFile) -> Result<ModelName, ModelError> {
    let Manifest { name, version, .. } = file.manifest()?;
    Ok(ModelName { name: name.clone(), version: version.clone(), sha256: file.sha256.clone() })
}

fn classes(tuned: &Tuned) -> Vec<ClassChange> {
    let one = |change: &crate::tuning::ClassChange| {
        let class = tuned.labels.iter().position(|label| *label == change.label);
        let estimate = |pictures: &[Picture], ap50: Option<f64>| {
            Some(Estimate { ap50: ap50?, interval: interval(pictures, class?) })
        };
        ClassChange {
            name: change.label.clone(),
            new: change.new,
            ap50: Both {
                before: estimate(&tuned.judged.before, change.before.filter(|_| !change.new)),
                after: estimate(&tuned.judged.after, change.after),
            },
        }
    };
    tuned.judged.classes.iter().map(one).collect()
}

/// Where AP50 of one class would lie with other pictures.
fn interval(pictures: &[Picture], class: usize) -> Option<Interval> {
    let alone = |picture: &Picture| Picture {
        truths: picture.truths.iter().filter(|truth| truth.class == class).cloned().collect(),
        found: picture.found.iter().filter(|found| found.class == class).cloned().collect(),
    };
    let alone: Vec<Picture> = pictures.iter().map(alone).collect();
    Evaluation::new(&alone, class + 1).bootstrap(SEED, DRAWS).ap50
}

fn curve(pictures: &[Picture], classes: usize) -> Vec<(f64, f64)> {
    Evaluation::new(pictures, classes).mean_precision()
}

/// The held-out pictures that the two models see most differently.
fn changed(tuned: &Tuned, threshold: f32) -> Result<Vec<ChangedPicture>, TuningError> {
    let seen: HashMap<&str, _> =
        tuned.judged.pictures.iter().map(|picture| (picture.name.as_str(), picture)).collect();
    let mut most = MostChanged::new(threshold);
    let mut source = tuned.held_out.source(&tuned.labels);
    while let Some(picture) = source.next()? {
        if let Some(compared) = seen.get(picture.name.as_str()) {
            most.offer(ChangedPicture {
                name: picture.name,
                picture: picture.picture,
                before: compared.before.clone(),
                after: compared.after.clone(),
                truths: Some(picture.truths),
            });
        }
    }
    Ok(most.into_pictures())
}

/// The least focusing with which background that is told from objects easily does not drown the rest.
fn suggestion(negatives: &[Spread]) -> Option<Suggestion> {
    let at = negatives.iter().position(|spread| spread.hardest_1 >= CONCENTRATED);
    let (at, spread) = match at {
        Some(at) => (at, &negatives[at]),
        None => (negatives.len().checked_sub(1)?, negatives.last()?),
    };
    if spread.samples == 0 {
        return None;
    }
    let share = 100.0 * spread.hardest_1;
    let reason = format!(
        "with it the hardest hundredth of the background here holds {share:.0} % of its loss; α is the paper's for this γ"
    );
    Some(Suggestion { gamma: spread.gamma, alpha: ALPHAS[at], reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::study::cumulative::Logits;

    #[test]
    fn the_least_focusing_that_concentrates_is_suggested() {
        // 990 easy cells and 10 hard ones: the harder the easy ones, the more focusing it takes.
        let suggested = |easy: f32| {
            let mut negatives = Logits::default();
            (0..990).for_each(|_| negatives.add(easy));
            (0..10).for_each(|_| negatives.add(-2.0));
            suggestion(&spreads(&negatives, &GAMMAS)).expect("a suggestion").gamma
        };
        assert_eq!([8.0, 3.5, 1.5, 0.0].map(suggested), [0.0, 0.5, 2.0, 2.0]);
        assert_eq!(suggestion(&spreads(&Logits::default(), &GAMMAS)), None);
    }
}
