//! Requests over MQTT: which are let in, what each does, and its answer.
//!
//! Some are answered at once. What needs the disk becomes an errand under a ticket, and is answered when the
//! errand is done; what is asked of the settings, when they have been read. At most [`MOST_AT_ONCE`] are under
//! way. A request whose transaction was answered in the last ten minutes gets that answer again and is not
//! carried out a second time, because QoS 1 may deliver it twice.

use super::feedback;
use super::recent::{MOST_FRAMES, Told};
use super::sampling::NewSample;
use super::{Effect, Now, Scene};
use crate::contract::{
    Code, Data, Feedback, FeedbackOf, Incoming, Kind, Refusal, Reloaded, Request, Response, Restarting,
    SamplesDelete, SamplesList, Topic, Transaction, TuneStart, ulid_text,
};
use crate::one_line::one_line;
use crate::samples::{Opinion, SampleId};
use crate::tracking::TrackId;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most requests under way.
const MOST_AT_ONCE: usize = 8;
/// For so long an answer is kept for a request that comes again.
const KEPT: Duration = Duration::from_secs(600);
/// Most answers that are kept, and their bytes.
const MOST_KEPT: usize = 64;
const MOST_KEPT_BYTES: usize = 256 << 10;
/// After so long whoever asks is told that it takes too long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names an errand until it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What the disk is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Errand {
    /// Put what somebody says of a frame into the store.
    Label(Box<Labelling>),
    /// Say what samples there are.
    List {
        /// Most samples.
        limit: usize,
        /// Only those behind this one.
        after: Option<SampleId>,
    },
    /// Remove these samples.
    Delete(Vec<SampleId>),
    /// Remove every sample.
    DeleteAll,
    /// Use a tuned model from now on.
    Activate {
        /// The model of the settings.
        base: PathBuf,
        /// Its number; none: the candidate.
        generation: Option<u64>,
    },
    /// Go back to an earlier one.
    RollBack {
        /// The model of the settings.
        base: PathBuf,
        /// Its number; none: the one before.
        generation: Option<u64>,
    },
}

/// A frame, and what somebody says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelling {
    /// The frame, as it is kept where the store does not have it yet.
    pub new: NewSample,
    /// What is said.
    pub opinion: Opinion,
}

/// What becomes of a request that is let in.
enum Reply {
    Now(Data),
    AfterErrand(Errand),
    AfterReload,
    /// The settings are read first, because a daemon that cannot use them would not come back.
    BeforeRestart,
    /// When the picture of this camera is made.
    AfterPicture(String),
    AfterStart(TuneStart),
}

/// A request under way.
struct Pending {
    verb: Arc<str>,
    transaction: Option<Transaction>,
    since: Instant,
    awaits: Awaits,
}

/// What a request under way waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// What its ticket names.
    Ticket,
    /// The settings, which are read anew.
    Reload,
    /// The settings, and then the daemon ends to be started again.
    Restart,
}

/// An answer that was sent.
struct Answer {
    verb: Arc<str>,
    transaction: Transaction,
    at: Instant,
    bytes: Vec<u8>,
}

/// Requests under way and answers that were sent.
#[derive(Default)]
pub(super) struct Requests {
    pending: BTreeMap<Ticket, Pending>,
    next: u64,
    answers: VecDeque<Answer>,
}

impl Scene {
    /// Answers a request, or has done what it asks for first.
    pub(super) fn take_request(&mut self, now: Now, incoming: Incoming, effects: &mut Vec<Effect>) {
        if self.requests.is_repeat(now, &incoming, effects) {
            return;
        }
        let Incoming { verb, transaction, asked } = incoming;
        let is_known = crate::verb::Verb::named(&verb).is_some();
        let asked = if is_known && !self.settings.mqtt.allow.iter().any(|allowed| **allowed == *verb) {
            let words = format!("`{verb}` is not among mqtt.allow of the settings");
            Err(Refusal::new(Code::Forbidden, words))
        } else if asked.is_ok() && self.requests.pending.len() >= MOST_AT_ONCE {
            Err(Refusal::new(Code::Busy, format!("{MOST_AT_ONCE} requests are under way; try again")))
        } else {
            asked
        };
        let request = match asked {
            Ok(request) => request,
            // It was not carried out, so that the same transaction may come again.
            Err(refusal) => return publish(&verb, transaction, Err(refusal), effects),
        };
        match self.reply(now, request, effects) {
            Ok(Reply::Now(data)) => self.requests.answer(now, verb, transaction, Ok(data), effects),
            Ok(Reply::AfterErrand(errand)) => {
                let ticket = self.requests.open(now, verb, transaction, Awaits::Ticket);
                effects.push(Effect::Run(ticket, errand));
            }
            Ok(Reply::AfterPicture(camera)) => {
                let ticket = self.requests.open(now, verb, transaction, Awaits::Ticket);
                self.order_picture(ticket, &camera, effects);
            }
            Ok(Reply::AfterReload) => {
                self.requests.open(now, verb, transaction, Awaits::Reload);
                effects.push(Effect::Reload);
            }
            Ok(Reply::BeforeRestart) => {
                self.requests.open(now, verb, transaction, Awaits::Restart);
                effects.push(Effect::Reload);
            }
            Ok(Reply::AfterStart(start)) => {
                let ticket = self.requests.open(now, verb, transaction, Awaits::Ticket);
                self.start_tuning(ticket, &start, effects);
            }
            Err(refusal) => self.requests.answer(now, verb, transaction, Err(refusal), effects),
        }
    }

    /// The table of verbs and what each does.
    fn reply(&mut self, now: Now, request: Request, effects: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        match request {
            Request::Info => Ok(Reply::Now(Data::Info(Box::new(self.info().fitting())))),
            Request::Health => self.health_now(now, effects).map(Data::Health).map(Reply::Now),
            Request::Snapshot(camera) => self.may_picture(&camera).map(|()| Reply::AfterPicture(camera)),
            Request::Feedback(feedback) => self.labelling(&feedback).map(Reply::AfterErrand),
            Request::SamplesList(list) => listing(list).map(Reply::AfterErrand),
            Request::SamplesDelete(delete) => deletion(delete).map(Reply::AfterErrand),
            Request::TuneStart(start) => self.may_tune().map(|()| Reply::AfterStart(start)),
            Request::TuneCancel => self.cancel_tuning(effects).map(Reply::Now),
            Request::ModelActivate(generation) => {
                let base = self.settings.detector.model_file();
                Ok(Reply::AfterErrand(Errand::Activate { base, generation }))
            }
            Request::Rollback(generation) => {
                let base = self.settings.detector.model_file();
                Ok(Reply::AfterErrand(Errand::RollBack { base, generation }))
            }
            Request::Reload => Ok(Reply::AfterReload),
            Request::Restart => Ok(Reply::BeforeRestart),
        }
    }

    /// The last health message, or a new one where that is too old.
    fn health_now(
        &mut self,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<Box<crate::contract::Health>, Refusal> {
        if self.report.fresh_health(now).is_none() {
            self.publish_health(now, effects);
        }
        let missing = || Refusal::new(Code::Internal, "health is not known yet".into());
        self.report.fresh_health(now).ok_or_else(missing)
    }

    fn labelling(&self, feedback: &Feedback) -> Result<Errand, Refusal> {
        let settings = &self.settings.samples;
        if !settings.enabled {
            let words = "samples.enabled is false in the settings, so no frame is kept to learn from";
            return Err(Refusal::new(Code::SamplesOff, words.into()));
        }
        let (told, of) = self.frame_of(&feedback.of)?;
        let opinion = feedback::opinion(told, of, feedback, &self.generations.current().facts.labels)?;
        let new = NewSample {
            sample: told.sample.clone(),
            raw: Arc::clone(&told.raw),
            hidden: self.hidden_areas(&told.sample.camera),
            most_bytes: u64::from(settings.max_mb) << 20,
        };
        Ok(Errand::Label(Box::new(Labelling { new, opinion })))
    }

    /// The frame that a verdict is on, and which of its objects, if it is on one alone.
    fn frame_of(&self, of: &FeedbackOf) -> Result<(&Told, Option<TrackId>), Refusal> {
        match of {
            FeedbackOf::Frame { camera, seq } => {
                if !self.settings.cameras.contains_key(camera) {
                    let known: Vec<&str> = self.settings.cameras.keys().map(String::as_str).collect();
                    let words = format!("no camera `{camera}`: there are {}", known.join(", "));
                    return Err(Refusal::new(Code::UnknownCamera, one_line(&words)));
                }
                let told = self.recent.find(camera, *seq).ok_or_else(|| {
                    let words = format!(
                        "frame {seq} of `{camera}` is not remembered: only the last {MOST_FRAMES} frames that \
                         were told can be"
                    );
                    Refusal::new(Code::NotFound, words)
                })?;
                Ok((told, None))
            }
            FeedbackOf::Object(id) => {
                let object = TrackId(*id);
                let told = self.recent.best_of(object).ok_or_else(|| {
                    let words =
                        format!("no frame is remembered any more that shows object {}", ulid_text(*id));
                    Refusal::new(Code::NotFound, words)
                })?;
                Ok((told, Some(object)))
            }
        }
    }

    /// Answers those who asked for the settings to be read.
    pub(super) fn take_reloaded(&mut self, now: Now, taken: bool, effects: &mut Vec<Effect>) {
        let restart_required = self.report.restart_required();
        let answer = |awaits| match awaits {
            Awaits::Ticket => None,
            _ if !taken => {
                let words =
                    "the settings or the model cannot be used and what was in use stays; the log says why";
                Some(Err(Refusal::new(Code::Internal, words.into())))
            }
            Awaits::Reload => Some(Ok(Data::Reloaded(Reloaded { restart_required }))),
            Awaits::Restart => Some(Ok(Data::Restarting(Restarting { restarting: true }))),
        };
        let waiting = self.requests.pending.iter();
        let answers = waiting.filter_map(|(ticket, pending)| Some((*ticket, answer(pending.awaits)?)));
        let mut restart = false;
        for (ticket, result) in answers.collect::<Vec<_>>() {
            restart |= matches!(result, Ok(Data::Restarting(_)));
            self.requests.finish(now, ticket, result, effects);
        }
        if restart {
            // The last one: nothing behind it is carried out.
            effects.push(Effect::Restart);
        }
    }
}

impl Requests {
    /// Whether this request came before: it is under way, or was answered and gets the same answer again.
    fn is_repeat(&mut self, now: Now, incoming: &Incoming, effects: &mut Vec<Effect>) -> bool {
        let Some(transaction) = &incoming.transaction else { return false };
        self.forget_old(now);
        let same = |answer: &&Answer| answer.verb == incoming.verb && answer.transaction == *transaction;
        if let Some(answer) = self.answers.iter().find(same) {
            effects.push(Effect::Publish(incoming.answer(), answer.bytes.clone()));
            return true;
        }
        let under_way = |pending: &Pending| {
            pending.verb == incoming.verb && pending.transaction.as_ref() == Some(transaction)
        };
        self.pending.values().any(under_way)
    }

    fn forget_old(&mut self, now: Now) {
        let is_old = |answer: &Answer| now.mono.saturating_duration_since(answer.at) >= KEPT;
        while self.answers.front().is_some_and(is_old) {
            self.answers.pop_front();
        }
    }

    fn open(&mut self, now: Now, verb: Arc<str>, transaction: Option<Transaction>, awaits: Awaits) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.pending.insert(ticket, Pending { verb, transaction, since: now.mono, awaits });
        ticket
    }

    /// Answers a request that was under way; one that was given up already has its answer.
    pub fn finish(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<Data, Refusal>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Pending { verb, transaction, .. }) = self.pending.remove(&ticket) else { return };
        self.answer(now, verb, transaction, result, effects);
    }

    /// Sends an answer, and keeps it where the request has a transaction.
    fn answer(
        &mut self,
        now: Now,
        verb: Arc<str>,
        transaction: Option<Transaction>,
        result: Result<Data, Refusal>,
        effects: &mut Vec<Effect>,
    ) {
        publish(&verb, transaction.clone(), result, effects);
        let (Some(transaction), Some(Effect::Publish(_, bytes))) = (transaction, effects.last()) else {
            return;
        };
        self.forget_old(now);
        self.answers.push_back(Answer { verb, transaction, at: now.mono, bytes: bytes.clone() });
        let bytes = |answers: &VecDeque<Answer>| answers.iter().map(|kept| kept.bytes.len()).sum::<usize>();
        while self.answers.len() > MOST_KEPT || bytes(&self.answers) > MOST_KEPT_BYTES {
            self.answers.pop_front();
        }
    }

    /// Gives up what takes too long, so that others are let in.
    pub fn pass_time(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some((&ticket, _)) =
            self.pending.iter().find(|(_, pending)| now.mono >= pending.since + PATIENCE)
        {
            let words = format!("not done within {} s; it may still be", PATIENCE.as_secs());
            self.finish(now, ticket, Err(Refusal::new(Code::Internal, words)), effects);
        }
    }

    /// How many answers are kept, and their bytes.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize) {
        (self.answers.len(), self.answers.iter().map(|kept| kept.bytes.len()).sum())
    }

    /// When [`Requests::pass_time`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.since + PATIENCE).min()
    }
}

fn publish(
    verb: &Arc<str>,
    transaction: Option<Transaction>,
    result: Result<Data, Refusal>,
    effects: &mut Vec<Effect>,
) {
    let topic = Topic::of_verb(Kind::Response, verb);
    effects.push(Effect::Publish(topic, Response::of(transaction, result).encode()));
}

fn listing(list: SamplesList) -> Result<Errand, Refusal> {
    let after = list.after.map(|text| sample_id("after", &text)).transpose()?;
    Ok(Errand::List { limit: list.limit, after })
}

fn deletion(delete: SamplesDelete) -> Result<Errand, Refusal> {
    match delete {
        SamplesDelete::All => Ok(Errand::DeleteAll),
        SamplesDelete::Ids(ids) => {
            let ids = ids.iter().enumerate().map(|(i, text)| sample_id(&format!("ids[{i}]"), text));
            ids.collect::<Result<_, _>>().map(Errand::Delete)
        }
    }
}

fn sample_id(field: &str, text: &str) -> Result<SampleId, Refusal> {
    text.parse().map_err(|error| Refusal::new(Code::BadField, format!("{field}: {error}")))
}
