//! How tuning goes, and whom to tell: a change of state at once, progress now and then.

use super::requests::Ticket;
use super::{Effect, Now, Scene, TuneOrder};
use crate::contract::{Code, Data, Job, Kind, Refusal, Topic, Tune, TuneStart, TuneState};
use std::time::{Duration, Instant};

/// Least time between two messages on progress.
const GAP: Duration = Duration::from_secs(5);

/// What is heard of a tuning.
#[derive(Debug, Clone, PartialEq)]
pub enum TuneNews {
    /// What it says of itself.
    Line(Box<Tune>),
    /// Its process has ended. `reason` says why where it did not say so itself.
    Ended {
        /// In words, for people.
        reason: String,
    },
}

/// The tuning that runs, or ran last.
pub(super) struct Tuning {
    now: Tune,
    /// Its process has not ended.
    runs: bool,
    /// When what is published was published, and whether it has changed since.
    told: Option<Instant>,
    is_stale: bool,
    /// Who asked for it, until it says its name.
    asked: Option<Ticket>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { now: Tune::idle(), runs: false, told: None, is_stale: false, asked: None }
    }
}

impl Tuning {
    /// Takes what is heard. What became of the request that started it, once that is known.
    pub fn take(
        &mut self,
        now: Now,
        news: TuneNews,
        effects: &mut Vec<Effect>,
    ) -> Option<(Ticket, Result<Data, Refusal>)> {
        match news {
            TuneNews::Line(line) => {
                let changed = line.state != self.now.state || line.job != self.now.job;
                self.now = *line;
                self.is_stale = true;
                if changed {
                    self.publish(now, effects);
                }
            }
            TuneNews::Ended { reason } => {
                self.runs = false;
                // One that said how it ended has said all.
                if self.now.state.is_at_work() || self.asked.is_some() {
                    self.now.state = TuneState::Failed;
                    self.now.error = Some(reason.clone());
                    self.publish(now, effects);
                }
                let refusal = Refusal::new(Code::Internal, reason);
                return self.asked.take().map(|ticket| (ticket, Err(refusal)));
            }
        }
        let job = self.now.job.clone()?;
        self.asked.take().map(|ticket| (ticket, Ok(Data::Job(Job { job }))))
    }

    /// Publishes progress that has waited long enough.
    pub fn pass_time(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.next_deadline().is_some_and(|due| now.mono >= due) {
            self.publish(now, effects);
        }
    }

    /// When [`Tuning::pass_time`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.told.filter(|_| self.is_stale).map(|told| told + GAP)
    }

    pub fn publish(&mut self, now: Now, effects: &mut Vec<Effect>) {
        (self.told, self.is_stale) = (Some(now.mono), false);
        let bytes = serde_json::to_vec(&self.now).unwrap_or_default();
        effects.push(Effect::Publish(Topic::of_node(Kind::Tune), bytes));
    }
}

impl Scene {
    /// Begins a tuning; `ticket` is answered when it has a name.
    pub(super) fn start_tuning(&mut self, ticket: Ticket, start: &TuneStart, effects: &mut Vec<Effect>) {
        // What the one before came to stays told until this one says something.
        self.tuning.now = Tune::idle();
        (self.tuning.runs, self.tuning.asked) = (true, Some(ticket));
        let TuneStart { max_minutes, dry_run } = *start;
        effects.push(Effect::Tune(TuneOrder::Start { max_minutes, dry_run }));
    }

    /// Whether another tuning may begin.
    pub(super) fn may_tune(&self) -> Result<(), Refusal> {
        if self.tuning.runs {
            return Err(Refusal::new(Code::Busy, "a tuning runs already; tune/cancel ends it".into()));
        }
        Ok(())
    }

    pub(super) fn cancel_tuning(&mut self, effects: &mut Vec<Effect>) -> Result<Data, Refusal> {
        match (&self.tuning.now.job, self.tuning.runs) {
            (Some(job), true) => {
                effects.push(Effect::Tune(TuneOrder::Cancel));
                Ok(Data::Job(Job { job: job.clone() }))
            }
            _ => Err(Refusal::new(Code::NotFound, "no tuning runs that was started over MQTT".into())),
        }
    }

    pub(super) fn take_tune_news(&mut self, now: Now, news: TuneNews, effects: &mut Vec<Effect>) {
        if let Some((ticket, result)) = self.tuning.take(now, news, effects) {
            self.requests.finish(now, ticket, result, effects);
        }
    }
}
