//! Table 3 and the sweeps: which losses are trained, and how each fared.

use super::pictures::Material;
use super::tuning_failure;
use super::workers::in_parallel;
use crate::cli::exit::{Exit, Failure};
use crate::cli::progress::progress_of;
use crate::evaluation::{Evaluation, Summary};
use crate::retinanet::loss::Loss;
use crate::tuning::study::trials::{self, Measured, RATES, Search, Trained, Trial, mean_ap};
use crate::tuning::{Head, PRIOR, Settings};
use serde::Serialize;

/// Plain and balanced cross entropy, FL, FL* (2, 1), FL* (4, 0), and CE without the prior, in [`entries`].
pub const CE: usize = 0;
pub const BALANCED: usize = 1;
pub const FOCAL: usize = 2;
pub const STAR_2_1: usize = 3;
pub const STAR_4_0: usize = 4;
pub const NO_PRIOR: usize = 5;
/// Those that are trained with every seed.
const WITH_SEEDS: usize = 6;
/// The score of a background cell of a head whose biases start at 0.
const EVEN: f64 = 0.5;
/// Draws of an interval, and their seed.
const DRAWS: usize = 400;
const SEED: u64 = 0;

/// [P], table 1a: α of balanced CE, AP.
pub const PAPER_ALPHA: [(f64, f64); 7] =
    [(0.10, 0.0), (0.25, 10.8), (0.50, 30.2), (0.75, 31.1), (0.90, 30.8), (0.99, 28.7), (0.999, 25.1)];
/// [P], table 1b: γ of FL, the α that was best with it, AP.
pub const PAPER_GAMMA: [(f64, f64, f64); 7] = [
    (0.0, 0.75, 31.1),
    (0.1, 0.75, 31.4),
    (0.2, 0.75, 31.9),
    (0.5, 0.50, 32.9),
    (1.0, 0.25, 33.7),
    (2.0, 0.25, 34.0),
    (5.0, 0.25, 32.2),
];

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// For people.
    pub name: String,
    /// What is minimised.
    pub loss: Loss,
    /// Score of a background cell before training.
    pub prior: f64,
}

/// The five losses of table 3 and CE without the prior, then what the sweeps add.
pub fn entries() -> Vec<Entry> {
    let entry = |name: &str, loss, prior| Entry { name: name.into(), loss, prior };
    let star = |gamma, beta| Loss::FocalStar { alpha: Some(0.25), gamma, beta };
    let mut entries = vec![
        entry("CE", Loss::CrossEntropy, PRIOR),
        entry("balanced CE, α 0.75", Loss::Balanced { alpha: 0.75 }, PRIOR),
        entry("FL γ 2, α 0.25", Loss::Focal { alpha: Some(0.25), gamma: 2.0 }, PRIOR),
        entry("FL* γ 2, β 1, α 0.25", star(2.0, 1.0), PRIOR),
        entry("FL* γ 4, β 0, α 0.25", star(4.0, 0.0), PRIOR),
        entry("CE without the prior", Loss::CrossEntropy, EVEN),
    ];
    let swept = PAPER_ALPHA
        .iter()
        .map(|(alpha, _)| Loss::Balanced { alpha: *alpha })
        .chain(PAPER_GAMMA.iter().map(|(gamma, alpha, _)| of_gamma(*gamma, *alpha)));
    for loss in swept {
        if !entries.iter().any(|entry| entry.loss == loss) {
            let [alpha, gamma, _] = loss.parameters().map(|value| value.map(|value| value.to_string()));
            let alpha = alpha.unwrap_or_default();
            let name = match gamma {
                Some(gamma) => format!("FL γ {gamma}, α {alpha}"),
                None => format!("balanced CE, α {alpha}"),
            };
            entries.push(Entry { name, loss, prior: PRIOR });
        }
    }
    entries
}

/// Focal loss; with γ = 0 it is balanced CE to the last bit, and trained as that.
pub fn of_gamma(gamma: f64, alpha: f64) -> Loss {
    if gamma == 0.0 { Loss::Balanced { alpha } } else { Loss::Focal { alpha: Some(alpha), gamma } }
}

/// How one entry fared.
#[derive(Serialize)]
pub struct Outcome {
    /// For people.
    pub name: String,
    /// The learning rate that was chosen.
    pub rate: f64,
    /// Rates that were tried, with the AP by which one was chosen; none where the training diverged.
    pub tried: Vec<(f64, Option<f64>)>,
    /// Trainings of the chosen rate that were judged.
    pub trainings: usize,
    /// How many of them diverged.
    pub diverged: usize,
    /// AP of each.
    pub aps: Vec<f64>,
    /// Mean AP.
    pub ap: Option<Measured>,
    /// Mean AP50.
    pub ap50: Option<f64>,
    /// Mean AP75.
    pub ap75: Option<f64>,
    #[serde(skip)]
    evaluations: Vec<Evaluation>,
}

/// All entries' outcomes.
pub struct Contest {
    /// As [`entries`].
    pub outcomes: Vec<Outcome>,
}

impl Contest {
    /// How much better one entry is than another.
    pub fn difference(&self, of: usize, other: usize) -> Option<Measured> {
        let (of, other) = (&self.outcomes[of].evaluations, &self.outcomes[other].evaluations);
        // Where one has more trainings than the other, those of the same pictures are compared.
        let count = of.len().min(other.len());
        mean_ap(&of[..count], Some(&other[..count]), DRAWS, SEED)
    }

    /// The same of the first training of each.
    pub fn difference_of_first(&self, of: usize, other: usize) -> Option<Measured> {
        let first = |entry: usize| self.outcomes[entry].evaluations.get(..1);
        mean_ap(first(of)?, Some(first(other)?), DRAWS, SEED)
    }

    /// The outcome of a loss that was trained from the prior.
    pub fn of_loss(&self, loss: Loss) -> usize {
        entries().iter().position(|entry| entry.loss == loss && entry.prior == PRIOR).unwrap_or(CE)
    }
}

/// Trains and judges everything.
pub fn run(
    material: &Material,
    schedule: &Settings,
    seeds: usize,
    workers: usize,
) -> Result<Contest, Failure> {
    let entries = entries();
    let bar = progress_of(0, "passes of training");
    let first = trials::FIRST_RATES.len() * entries.len() + (seeds - 1) * WITH_SEEDS;
    let passes = u64::from(schedule.passes);
    bar.set_length(first as u64 * passes);
    let anchors = Head::of(&material.layer, material.labels.len()).anchors;
    let classes = material.classes.len();
    let train = |trial: &Trial| {
        let untrained = Head::untrained(&material.layer, anchors, classes, trial.prior);
        let set = &material.parts[trial.part % material.parts.len()];
        trials::train(trial, untrained, set, schedule, &|| bar.inc(1)).map_err(tuning_failure)
    };
    let trial = |entry: usize, rate, part| Trial {
        loss: entries[entry].loss,
        rate,
        part,
        prior: entries[entry].prior,
    };
    let none = || Ok(());
    let mut searches = vec![Search::default(); entries.len()];
    let mut heads: Vec<(usize, usize, Trained)> = Vec::new();
    let mut jobs = wanted(&searches);
    let mut expected = true;
    while !jobs.is_empty() {
        if !expected {
            bar.inc_length(jobs.len() as u64 * passes);
        }
        expected = false;
        let done = in_parallel(&jobs, workers, none, |(), (entry, rate)| {
            let trained = train(&trial(*entry, *rate, 0))?;
            let judged = trials::judge(&trained, &material.choosing, classes).map_err(internal)?;
            let ap = judged.and_then(|evaluation| evaluation.summary().ap);
            Ok((*entry, *rate, trained, ap))
        })?;
        for (entry, rate, trained, ap) in done {
            searches[entry].add(rate, ap);
            heads.push((entry, rate, trained));
        }
        jobs = wanted(&searches);
    }
    let best: Vec<usize> = searches.iter().map(|search| search.best().unwrap_or_default()).collect();
    heads.retain(|(entry, rate, _)| best[*entry] == *rate);
    let further: Vec<(usize, usize)> =
        (1..seeds).flat_map(|part| (0..WITH_SEEDS).map(move |entry| (entry, part))).collect();
    let more =
        in_parallel(&further, workers, none, |(), (entry, part)| train(&trial(*entry, best[*entry], *part)))?;
    bar.finish_and_clear();
    let mut trained: Vec<(usize, Trained)> =
        heads.into_iter().map(|(entry, _, trained)| (entry, trained)).collect();
    trained.extend(further.into_iter().map(|(entry, _)| entry).zip(more));
    let judged = in_parallel(&trained, workers, none, |(), (entry, trained)| {
        let evaluation = trials::judge(trained, &material.scoring, classes).map_err(internal)?;
        Ok((*entry, evaluation))
    })?;
    let outcome = |(number, entry): (usize, &Entry)| {
        let of = judged.iter().filter(|(of, _)| *of == number);
        outcome(
            entry,
            best[number],
            &searches[number],
            of.map(|(_, evaluation)| evaluation.clone()).collect(),
        )
    };
    Ok(Contest { outcomes: entries.iter().enumerate().map(outcome).collect() })
}

/// What is to be tried next, of all entries.
fn wanted(searches: &[Search]) -> Vec<(usize, usize)> {
    let of = |(entry, search): (usize, &Search)| search.next().into_iter().map(move |rate| (entry, rate));
    searches.iter().enumerate().flat_map(of).collect()
}

fn outcome(entry: &Entry, rate: usize, search: &Search, judged: Vec<Option<Evaluation>>) -> Outcome {
    let trainings = judged.len();
    let evaluations: Vec<Evaluation> = judged.into_iter().flatten().collect();
    let summaries: Vec<Summary> = evaluations.iter().map(Evaluation::summary).collect();
    let mean = |value: fn(&Summary) -> Option<f64>| {
        let values: Vec<f64> = summaries.iter().filter_map(value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    Outcome {
        name: entry.name.clone(),
        rate: RATES[rate],
        tried: search.tried.iter().map(|(rate, ap)| (RATES[*rate], *ap)).collect(),
        trainings,
        diverged: trainings - evaluations.len(),
        aps: summaries.iter().filter_map(|summary| summary.ap).collect(),
        ap: mean_ap(&evaluations, None, DRAWS, SEED),
        ap50: mean(|summary| summary.ap50),
        ap75: mean(|summary| summary.ap75),
        evaluations,
    }
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Internal, error)
}
