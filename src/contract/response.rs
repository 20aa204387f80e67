//! `bridge/response/<verb>`: what became of a request.

use super::{Health, Info, Kind, SCHEMA_VERSION, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Payload of `bridge/response/<verb>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Response<D = Map<String, Value>> {
    /// Version of the meaning of these fields: 1.
    pub v: u32,
    /// What became of it.
    pub status: ResponseStatus,
    /// As in the request; left out where that had none, or none that could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Transaction"))]
    pub transaction: Option<Transaction>,
    /// What the verb gives; only with `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "D"))]
    pub data: Option<D>,
    /// Why it was refused or failed; only with `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Refusal"))]
    pub error: Option<Refusal>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// It was done.
    Ok,
    /// It was refused, or failed: `error` says why.
    Error,
}

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Refusal {
    /// What programs look at.
    pub code: Code,
    /// The same for people, on one line: what is wrong and what is allowed.
    pub message: String,
}

impl Refusal {
    /// With this message, which is one line without paths, addresses, user names or secrets.
    #[must_use]
    pub fn new(code: Code, message: String) -> Self {
        Self { code, message }
    }
}

/// Kinds of refusals. Users write automations on them, so a code never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The message is no JSON object.
    BadJson,
    /// A field is missing, unknown, or not what is allowed.
    BadField,
    /// The message is too long, or the answer would be.
    TooLarge,
    /// `mqtt.allow` does not list the verb.
    Forbidden,
    /// Eight requests are in progress, or a tuning runs already; try again.
    Busy,
    /// No camera has this id.
    UnknownCamera,
    /// There is no such verb.
    UnknownVerb,
    /// What is asked about is not there, or not any more.
    NotFound,
    /// Pictures may not leave the machine: `snapshots.enabled` is false, or the camera's were switched off.
    SnapshotsOff,
    /// `samples.enabled` is false, or there is no state folder: nothing is kept.
    SamplesOff,
    /// Labelled samples fill `samples.max_mb`, or one picture has too many labels.
    NoRoom,
    /// It failed for a reason of the machine's, which stands in the log.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 12] = [
        Self::BadJson,
        Self::BadField,
        Self::TooLarge,
        Self::Forbidden,
        Self::Busy,
        Self::UnknownCamera,
        Self::UnknownVerb,
        Self::NotFound,
        Self::SnapshotsOff,
        Self::SamplesOff,
        Self::NoRoom,
        Self::Internal,
    ];
}

/// What verbs give, the `data` of a response.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Data {
    /// Of `info`.
    Info(Box<Info>),
    /// Of `health`.
    Health(Box<Health>),
    /// Of `snapshot`.
    Snapshot(SnapshotSent),
    /// Of `feedback`.
    Labelled(Labelled),
    /// Of `samples/list`.
    Samples(SamplesPage),
    /// Of `samples/delete`.
    Deleted(Deleted),
    /// Of `tune/start` and `tune/cancel`.
    Job(Job),
    /// Of `model/activate` and `rollback`.
    Activated(Activated),
    /// Of `reload`.
    Reloaded(Reloaded),
    /// Of `restart`.
    Restarting(Restarting),
}

/// A picture was sent just before this answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSent {
    /// Its topic.
    pub topic: String,
    /// Its size.
    pub bytes: usize,
    /// Number of the frame that it shows, as on `<cam>/detections`.
    pub seq: u64,
}

/// A verdict stands in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labelled {
    /// The sample's id.
    pub sample: String,
    /// True: it is on the disk.
    pub stored: bool,
}

/// Samples in the order of their ids, which is that of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplesPage {
    /// These.
    pub samples: Vec<SampleInfo>,
    /// How many there are in all.
    pub total: usize,
    /// What `after` must be to see the next ones; null where there are none.
    pub next: Option<String>,
}

/// What is told of a sample; never its picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleInfo {
    /// Its id.
    pub id: String,
    /// The camera's id, or `import`.
    pub camera: String,
    /// When it was captured, RFC 3339; empty where nobody knows.
    pub captured: String,
    /// Why it was kept.
    pub reasons: Vec<String>,
    /// How much of it people have spoken about: `none`, `part`, `whole`; null where its file is damaged.
    pub verdicts: Option<String>,
    /// By label how many objects people have marked, at most [`SampleInfo::MOST_LABELS`] of them.
    pub labels: BTreeMap<String, usize>,
}

impl SampleInfo {
    /// Most labels that are told of one sample; of more the first in alphabetical order.
    pub const MOST_LABELS: usize = 20;
}

/// Samples are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// How many; those that were not there are not counted.
    pub deleted: usize,
}

/// A tuning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name on `bridge/tune`.
    pub job: String,
}

/// Another generation is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activated {
    /// To be used from now on; 0 is the model of the settings.
    pub generation: u64,
    /// Used before.
    pub previous: u64,
}

/// The settings are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether some wait for a restart: `bridge/info` names them.
    pub restart_required: bool,
}

/// The daemon ends now and is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarting {
    /// True.
    pub restarting: bool,
}

impl SamplesPage {
    /// The page within the size of a response: the last samples are left for the next page.
    #[must_use]
    pub fn fitting(mut self) -> Self {
        /// The rest of the response: transaction and the fields around.
        const AROUND: usize = 1 << 10;
        let limit = Kind::Response.spec().max_bytes - AROUND;
        while serde_json::to_vec(&self).is_ok_and(|bytes| bytes.len() > limit) && self.samples.len() > 1 {
            self.samples.pop();
            self.next = self.samples.last().map(|last| last.id.clone());
        }
        self
    }
}

impl Response<Data> {
    /// The answer to a request.
    #[must_use]
    pub fn of(transaction: Option<Transaction>, result: Result<Data, Refusal>) -> Self {
        let (status, data, error) = match result {
            Ok(data) => (ResponseStatus::Ok, Some(data), None),
            Err(refusal) => (ResponseStatus::Error, None, Some(refusal)),
        };
        Self { v: SCHEMA_VERSION, status, transaction, data, error }
    }

    /// As JSON, within the topic's limit: what is larger is refused instead.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let limit = Kind::Response.spec().max_bytes;
        // Plain data with text keys cannot fail to become JSON.
        let bytes = serde_json::to_vec(&self).unwrap_or_default();
        if bytes.len() <= limit {
            return bytes;
        }
        let message = format!("the answer has {} bytes, at most {limit} are sent", bytes.len());
        let refusal = Refusal::new(Code::TooLarge, message);
        serde_json::to_vec(&Self::of(self.transaction, Err(refusal))).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_data_or_an_error_and_never_both() {
        let done = Response::of(None, Ok(Data::Deleted(Deleted { deleted: 3 })));
        let text = String::from_utf8(done.encode()).expect("JSON");
        assert_eq!(text, r#"{"v":1,"status":"ok","data":{"deleted":3}}"#);
        let refused = Response::of(None, Err(Refusal::new(Code::UnknownCamera, "no camera `frnt`".into())));
        let read: Response = serde_json::from_slice(&refused.encode()).expect("JSON");
        assert_eq!((read.status, read.data), (ResponseStatus::Error, None));
        assert_eq!(read.error.map(|error| error.code), Some(Code::UnknownCamera));
    }

    #[test]
    fn a_page_that_is_too_long_leaves_its_end_for_the_next() {
        let sample = |i: usize| SampleInfo {
            id: format!("{i:064}"),
            camera: "x".repeat(32),
            captured: "2026-11-26T15:23:01.123Z".into(),
            reasons: Vec::new(),
            verdicts: Some("part".into()),
            labels: (0..SampleInfo::MOST_LABELS).map(|l| (format!("{l:064}"), 1000)).collect(),
        };
        let page = SamplesPage { samples: (0..50).map(sample).collect(), total: 50, next: None };
        let fitted = page.clone().fitting();
        assert!(fitted.samples.len() > 10 && fitted.samples.len() < 50, "{}", fitted.samples.len());
        assert_eq!(fitted.next.as_ref(), fitted.samples.last().map(|last| &last.id));
        let bytes = Response::of(None, Ok(Data::Samples(fitted))).encode();
        assert!(
            bytes.len() <= Kind::Response.spec().max_bytes && bytes.starts_with(br#"{"v":1,"status":"ok""#)
        );
        let refused = Response::of(None, Ok(Data::Samples(page))).encode();
        assert!(refused.starts_with(br#"{"v":1,"status":"error""#) && refused.len() < 200);
    }
}
