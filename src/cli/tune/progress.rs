//! What a tuning says while it runs: a bar on a terminal, else a line of JSON whenever something changed.

use crate::cli::print::{complain, printable, safe_json, say};
use crate::contract::{Tune, TuneSamples, TuneState, rfc3339};
use crate::health;
use crate::tuning::hooks::{Measure, Progress, TuningObserver};
use crate::tuning::{Stage, Tuned, TuningError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::SystemTime;

/// Digits of a job's name.
const NAME: usize = 8;

/// Tells.
pub struct Teller {
    json: bool,
    bar: ProgressBar,
    stage: Option<&'static str>,
    now: Tune,
    pass: u32,
    /// `(update, loss)` of the training.
    losses: Vec<(u64, f64)>,
}

impl Teller {
    /// Of a tuning that begins now.
    pub fn new(json: bool) -> Self {
        let job = health::kernel_random("uuid").chars().filter(char::is_ascii_hexdigit).take(NAME).collect();
        let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        if let Ok(style) = ProgressStyle::with_template("{msg:<22} {bar:30} {pos}/{len}, {eta} left") {
            bar.set_style(style);
        }
        let teller = Self {
            json,
            bar,
            stage: None,
            now: Tune::begun(job, rfc3339(SystemTime::now())),
            pass: 0,
            losses: Vec::new(),
        };
        teller.line();
        teller
    }

    fn line(&self) {
        if self.json
            && let Ok(line) = serde_json::to_string(&self.now)
        {
            say!("{}", safe_json(&line));
        }
    }

    fn bar(&mut self, stage: &'static str, done: usize, of: usize) {
        if self.stage != Some(stage) {
            self.stage = Some(stage);
            self.bar.reset();
            self.bar.set_message(stage);
        }
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
    }

    /// `(update, loss)` of at most some hundred updates of the training.
    pub fn losses(&self) -> Vec<(u64, f64)> {
        const MOST: usize = 400;
        self.losses.iter().copied().step_by(self.losses.len().div_ceil(MOST).max(1)).collect()
    }

    /// It failed, or was ended.
    pub fn failed(&mut self, error: &TuningError) {
        self.bar.finish_and_clear();
        let ended = matches!(error, TuningError::Stopped(_));
        self.now.state = if ended { TuneState::Cancelled } else { TuneState::Failed };
        self.now.error = (!ended).then(|| error.to_string());
        self.line();
    }

    /// It is over; `failure` says why a better model could not be kept.
    pub fn done(&mut self, tuned: &Tuned, failure: Option<&str>) {
        self.bar.finish_and_clear();
        let [train, val] = tuned.pictures;
        self.now.samples = TuneSamples { train, val };
        let [before, after] = ap50(&tuned.judged.measures);
        (self.now.ap_before, self.now.ap_after) = (before, after);
        let better = tuned.judgement.promoted && failure.is_none();
        self.now.state = if better { TuneState::Candidate } else { TuneState::Failed };
        self.now.error = match failure {
            Some(failure) => Some(failure.to_owned()),
            None => (!better).then(|| tuned.judgement.reason.clone()),
        };
        self.line();
    }
}

/// AP50 of both models over all held-out classes: of the known ones, or where there is none, of the new ones.
fn ap50(measures: &[Measure]) -> [Option<f64>; 2] {
    let first = measures.iter().find(|measure| measure.name.starts_with("AP50"));
    [first.map(|measure| measure.before), first.map(|measure| measure.after)]
}

impl TuningObserver for Teller {
    fn updated(&mut self, progress: &Progress) {
        self.bar("learning", progress.update as usize, progress.updates as usize);
        (self.now.step, self.now.steps) = (progress.update, progress.updates);
        self.losses.push((progress.update, progress.loss));
        self.now.loss = Some(progress.loss).filter(|loss| loss.is_finite());
        if progress.pass != self.pass {
            self.pass = progress.pass;
            self.line();
        }
    }

    fn stage(&mut self, stage: Stage) {
        match stage {
            Stage::Features { done, of } => {
                self.now.samples.train = of;
                self.bar("looking at pictures", done, of);
            }
            Stage::Training => self.line(),
            Stage::Judging { done, of } => {
                self.bar("judging", done, of);
                if self.now.state != TuneState::Evaluating {
                    self.now.state = TuneState::Evaluating;
                    self.now.samples.val = of;
                    self.line();
                }
            }
        }
    }

    fn told(&mut self, line: &str) {
        self.bar.suspend(|| complain(format_args!("retinad: {}", printable(line))));
    }
}
