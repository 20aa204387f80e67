//! What arrives on `bridge/request/<verb>`: size first, then JSON, then fields. Nothing received panics or
//! allocates beyond its limit.

use super::response::{Code, Refusal};
use super::{Kind, Topic, parse_ulid};
use crate::one_line::one_line;
use crate::verb::Verb;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// Longest transaction, bytes.
const MAX_TRANSACTION: usize = 64;
/// Most samples on a page, and how many without a `limit`.
const MAX_LIMIT: usize = 50;
const DEFAULT_LIMIT: usize = 20;
/// Longest time that a tuning may be given, minutes: a week, as `retinad tune` has it.
const MAX_MINUTES: u32 = 10_080;
/// Most samples that one request names.
const MAX_IDS: usize = 100;

/// What tells a request from others of the same verb: a text of at most 64 bytes or a number, sent back as it
/// came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction(Value);

impl Transaction {
    fn read(value: Value) -> Result<Self, Refusal> {
        match &value {
            Value::Number(_) => Ok(Self(value)),
            Value::String(text) if text.len() <= MAX_TRANSACTION => Ok(Self(value)),
            _ => Err(Refusal::new(
                Code::BadField,
                format!("transaction: must be a number or a text of at most {MAX_TRANSACTION} bytes"),
            )),
        }
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Transaction {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Transaction".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": ["string", "number"]})
    }
}

/// A request that arrived on a topic of its own, well formed or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// As it stands in the topic.
    pub verb: Arc<str>,
    /// As it came, where it could be read.
    pub transaction: Option<Transaction>,
    /// What is asked for, or why that cannot be said.
    pub asked: Result<Request, Refusal>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// What stands on `bridge/info`.
    Info,
    /// What stands on `bridge/health`.
    Health,
    /// A picture of the camera with this id.
    Snapshot(String),
    /// A verdict on a frame.
    Feedback(Feedback),
    /// What samples there are.
    SamplesList(SamplesList),
    /// Samples are to go.
    SamplesDelete(SamplesDelete),
    /// A tuning is to begin.
    TuneStart(TuneStart),
    /// The tuning that runs is to end.
    TuneCancel,
    /// This generation is to be used; none: the candidate.
    ModelActivate(Option<u64>),
    /// This earlier generation is to be used; none: the one before.
    Rollback(Option<u64>),
    /// The settings are to be read again.
    Reload,
    /// The daemon is to end and to be started again.
    Restart,
}

/// What somebody says of a frame that was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// Which frame.
    pub of: FeedbackOf,
    /// What was right or wrong.
    pub verdict: FeedbackVerdict,
    /// What it is, or which of the objects told.
    pub label: Option<String>,
    /// Where it is, `[x1, y1, x2, y2]`, 0 to 1 of the frame's width and height, not empty.
    pub bbox: Option<[f64; 4]>,
}

/// Which frame a verdict is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedbackOf {
    /// One frame.
    Frame {
        /// The camera's id.
        camera: String,
        /// The frame's number.
        seq: u64,
    },
    /// The frame that shows this object best, by its ULID; of that frame the verdict is on this object alone.
    Object(u128),
}

/// What was right or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FeedbackVerdict {
    /// What was told is there.
    Correct,
    /// What was told is not there.
    FalsePositive,
    /// What was told is something else.
    WrongLabel,
    /// Something is there that was not told.
    Missed,
}

impl FeedbackVerdict {
    /// As it stands in a request.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Correct => "correct",
            Self::FalsePositive => "false_positive",
            Self::WrongLabel => "wrong_label",
            Self::Missed => "missed",
        }
    }
}

/// A page of samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamplesList {
    /// Most samples, 1 to 50.
    pub limit: usize,
    /// Only those behind this id.
    pub after: Option<String>,
}

/// How a tuning is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TuneStart {
    /// After so long it ends, and the next one goes on from there; 1 to 10,080.
    pub max_minutes: Option<u32>,
    /// Nothing is kept of it.
    pub dry_run: bool,
}

/// Which samples are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SamplesDelete {
    /// These, 1 to 100 ids.
    Ids(Vec<String>),
    /// Every one.
    All,
}

impl Incoming {
    /// Reads a message on the topic of a request. Whether it is allowed is for the receiver to say.
    #[must_use]
    pub fn read(verb: &Arc<str>, payload: &[u8]) -> Self {
        let limit = Kind::Request.spec().max_bytes;
        if payload.len() > limit {
            return Self::too_large(verb, payload.len());
        }
        let mut transaction = None;
        let fields = object(payload).and_then(|mut fields| {
            transaction = fields.remove("transaction").map(Transaction::read).transpose()?;
            Ok(fields)
        });
        let asked = match Verb::named(verb) {
            Some(known) => fields.and_then(|fields| Request::read(known, fields)),
            None => Err(unknown_verb(verb)),
        };
        Self { verb: Arc::clone(verb), transaction, asked }
    }

    /// A message that is longer than a request may be, and was not read.
    #[must_use]
    pub fn too_large(verb: &Arc<str>, bytes: usize) -> Self {
        let limit = Kind::Request.spec().max_bytes;
        let refusal = Refusal::new(Code::TooLarge, format!("{bytes} bytes, at most {limit} are allowed"));
        Self { verb: Arc::clone(verb), transaction: None, asked: Err(refusal) }
    }

    /// The topic of the answer.
    #[must_use]
    pub fn answer(&self) -> Topic {
        Topic::of_verb(Kind::Response, &self.verb)
    }
}

fn unknown_verb(verb: &str) -> Refusal {
    Refusal::new(Code::UnknownVerb, format!("no verb `{verb}`: there are {}", crate::verb::NAMES.join(", ")))
}

impl Request {
    /// Reads the fields of a verb that this version has.
    fn read(verb: Verb, fields: Map<String, Value>) -> Result<Self, Refusal> {
        match verb {
            Verb::Info => typed::<NoFields>(fields).map(|_| Self::Info),
            Verb::Health => typed::<NoFields>(fields).map(|_| Self::Health),
            Verb::Reload => typed::<NoFields>(fields).map(|_| Self::Reload),
            Verb::Restart => typed::<NoFields>(fields).map(|_| Self::Restart),
            Verb::Snapshot => typed::<SnapshotFields>(fields).map(|fields| Self::Snapshot(fields.camera)),
            Verb::Feedback => typed::<FeedbackFields>(fields)?.checked().map(Self::Feedback),
            Verb::SamplesList => typed::<ListFields>(fields)?.checked().map(Self::SamplesList),
            Verb::SamplesDelete => typed::<DeleteFields>(fields)?.checked().map(Self::SamplesDelete),
            Verb::TuneStart => typed::<TuneFields>(fields)?.checked().map(Self::TuneStart),
            Verb::TuneCancel => typed::<NoFields>(fields).map(|_| Self::TuneCancel),
            Verb::ModelActivate => {
                typed::<GenerationFields>(fields).map(|fields| Self::ModelActivate(fields.generation))
            }
            Verb::Rollback => {
                typed::<GenerationFields>(fields).map(|fields| Self::Rollback(fields.generation))
            }
        }
    }
}

/// The payload as one JSON object.
fn object(payload: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if payload.is_empty() {
        // Clearing a retained request sends an empty message, so an empty one must ask for nothing.
        return Err(Refusal::new(Code::BadJson, "empty; a request without fields is {}".into()));
    }
    let read = serde_json::from_slice::<UniqueFields>(payload);
    read.map(|fields| fields.0).map_err(|error| Refusal::new(Code::BadJson, one_line(&error.to_string())))
}

/// An object each of whose fields stands there once.
struct UniqueFields(Map<String, Value>);

impl<'de> Deserialize<'de> for UniqueFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = UniqueFields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object such as {}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<UniqueFields, A::Error> {
                let mut found = Map::new();
                while let Some((name, value)) = fields.next_entry::<String, Value>()? {
                    if found.contains_key(&name) {
                        return Err(serde::de::Error::custom(format_args!("`{name}` stands there twice")));
                    }
                    found.insert(name, value);
                }
                Ok(UniqueFields(found))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// The fields as those of a verb; an error names the field.
fn typed<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Refusal> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.inner().to_string();
        bad_field(if path == "." { reason } else { format!("{path}: {reason}") })
    })
}

fn bad_field(reason: impl AsRef<str>) -> Refusal {
    Refusal::new(Code::BadField, one_line(reason.as_ref()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotFields {
    camera: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedbackFields {
    event: Option<String>,
    camera: Option<String>,
    seq: Option<u64>,
    verdict: FeedbackVerdict,
    label: Option<String>,
    #[serde(rename = "box")]
    bbox: Option<[f64; 4]>,
}

impl FeedbackFields {
    fn checked(self) -> Result<Feedback, Refusal> {
        let of = self.of()?;
        if let Some([x1, y1, x2, y2]) = self.bbox {
            let within = [x1, y1, x2, y2].iter().all(|side| (0.0..=1.0).contains(side));
            if !within || x1 >= x2 || y1 >= y2 {
                return Err(bad_field(
                    "box: must be [left, top, right, bottom], each from 0 to 1, left < right, top < bottom",
                ));
            }
        }
        let verdict = self.verdict;
        let needs = |what: &str| bad_field(format!("missing field `{what}`, which {} needs", verdict.word()));
        match verdict {
            FeedbackVerdict::WrongLabel | FeedbackVerdict::Missed if self.label.is_none() => {
                return Err(needs("label"));
            }
            FeedbackVerdict::Missed if self.bbox.is_none() => return Err(needs("box")),
            _ => {}
        }
        Ok(Feedback { of, verdict, label: self.label, bbox: self.bbox })
    }

    fn of(&self) -> Result<FeedbackOf, Refusal> {
        let Some(event) = &self.event else {
            let camera = self.camera.clone();
            let missing = "missing field `event`, an object's id, or `camera` and `seq` of a frame";
            let camera = camera.ok_or_else(|| bad_field(missing))?;
            let no_seq = || bad_field("missing field `seq`, that of the frame's detections");
            return Ok(FeedbackOf::Frame { camera, seq: self.seq.ok_or_else(no_seq)? });
        };
        for (name, is_there) in
            [("camera", self.camera.is_some()), ("seq", self.seq.is_some()), ("box", self.bbox.is_some())]
        {
            if is_there {
                return Err(bad_field(format!("{name}: not with `event`, which says which object is meant")));
            }
        }
        match self.verdict {
            FeedbackVerdict::Missed => Err(bad_field("verdict: an object with an event was not missed")),
            FeedbackVerdict::Correct | FeedbackVerdict::FalsePositive if self.label.is_some() => {
                Err(bad_field("label: only with wrong_label where `event` says which object is meant"))
            }
            _ => {
                let id = parse_ulid(event);
                let words = "event: must be the `id` of an event, 26 letters and digits";
                Ok(FeedbackOf::Object(id.ok_or_else(|| bad_field(words))?))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListFields {
    limit: Option<usize>,
    after: Option<String>,
}

impl ListFields {
    fn checked(self) -> Result<SamplesList, Refusal> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(bad_field(format!("limit: {limit} must be 1 to {MAX_LIMIT}")));
        }
        Ok(SamplesList { limit, after: self.after })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteFields {
    ids: Option<Vec<String>>,
    all: Option<bool>,
    confirm: Option<bool>,
}

impl DeleteFields {
    fn checked(self) -> Result<SamplesDelete, Refusal> {
        match (self.ids, self.all) {
            (Some(ids), None | Some(false)) if (1..=MAX_IDS).contains(&ids.len()) => {
                Ok(SamplesDelete::Ids(ids))
            }
            (Some(ids), None | Some(false)) => {
                Err(bad_field(format!("ids: {} of them, must be 1 to {MAX_IDS}", ids.len())))
            }
            (None, Some(true)) if self.confirm == Some(true) => Ok(SamplesDelete::All),
            (None, Some(true)) => Err(bad_field("confirm: must be true, so that all samples are deleted")),
            (Some(_), Some(true)) => Err(bad_field("ids and all: give one of them")),
            (None, None | Some(false)) => Err(bad_field("missing field `ids`, or `all` with `confirm`")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TuneFields {
    max_minutes: Option<u32>,
    dry_run: Option<bool>,
}

impl TuneFields {
    fn checked(self) -> Result<TuneStart, Refusal> {
        let Self { max_minutes, dry_run } = self;
        if let Some(minutes) = max_minutes.filter(|minutes| !(1..=MAX_MINUTES).contains(minutes)) {
            return Err(bad_field(format!("max_minutes: {minutes} must be 1 to {MAX_MINUTES}")));
        }
        Ok(TuneStart { max_minutes, dry_run: dry_run.unwrap_or(false) })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerationFields {
    generation: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(verb: &str, payload: &str) -> Incoming {
        Incoming::read(&Arc::from(verb), payload.as_bytes())
    }

    fn refusal(verb: &str, payload: &str) -> (Code, String) {
        let Refusal { code, message } = read(verb, payload).asked.expect_err(payload);
        assert!(!message.is_empty() && message.lines().count() == 1 && message.len() < 500, "{message}");
        (code, message)
    }

    #[test]
    fn good_requests_are_read() {
        let asked = |verb, payload| read(verb, payload).asked;
        assert_eq!(asked("info", "{}"), Ok(Request::Info));
        let verdict = FeedbackVerdict::Missed;
        let feedback = Feedback {
            of: FeedbackOf::Frame { camera: "front".into(), seq: 7 },
            verdict,
            label: Some("cat".into()),
            bbox: Some([0.0, 0.1, 1.0, 0.2]),
        };
        assert_eq!(
            asked(
                "feedback",
                r#"{"camera":"front","seq":7,"verdict":"missed","label":"cat","box":[0,0.1,1,0.2]}"#
            ),
            Ok(Request::Feedback(feedback))
        );
        let object = Feedback {
            of: FeedbackOf::Object(1),
            verdict: FeedbackVerdict::FalsePositive,
            label: None,
            bbox: None,
        };
        let payload = r#"{"event":"00000000000000000000000001","verdict":"false_positive"}"#;
        assert_eq!(asked("feedback", payload), Ok(Request::Feedback(object)));
        assert_eq!(asked("snapshot", r#"{"camera":"front"}"#), Ok(Request::Snapshot("front".into())));
        let list = SamplesList { limit: 20, after: None };
        assert_eq!(asked("samples/list", r#"{"after":null}"#), Ok(Request::SamplesList(list)));
        let all = Ok(Request::SamplesDelete(SamplesDelete::All));
        assert_eq!(asked("samples/delete", r#"{"all":true,"confirm":true}"#), all);
        assert_eq!(asked("reload", " {\n} "), Ok(Request::Reload));
        let start = TuneStart { max_minutes: Some(30), dry_run: true };
        let payload = r#"{"max_minutes":30,"dry_run":true}"#;
        assert_eq!(asked("tune/start", payload), Ok(Request::TuneStart(start)));
        assert_eq!(asked("model/activate", "{}"), Ok(Request::ModelActivate(None)));
        assert_eq!(asked("rollback", r#"{"generation":0}"#), Ok(Request::Rollback(Some(0))));
    }

    #[test]
    fn a_transaction_is_a_short_text_or_a_number_and_is_kept_with_a_bad_field() {
        for text in [r#""a1""#, "7", "1.5", r#""""#] {
            let incoming = read("info", &format!(r#"{{"transaction":{text}, "x":1}}"#));
            assert_eq!(serde_json::to_string(&incoming.transaction).expect("JSON"), text);
            assert!(incoming.asked.is_err());
        }
        let long = format!("\"{}\"", "x".repeat(65));
        for text in ["null", "true", "[1]", "{}", long.as_str()] {
            let (code, message) = refusal("info", &format!(r#"{{"transaction":{text}}}"#));
            assert_eq!(
                (code, message.starts_with("transaction: must be")),
                (Code::BadField, true),
                "{message}"
            );
        }
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        let deep = format!("{{\"a\":{}", "[".repeat(10_000));
        for payload in [
            "",
            "{",
            "null",
            "[]",
            "7",
            "\"{}\"",
            "{} {}",
            "{'a':1}",
            "{\"a\":NaN}",
            "{\"a\":1e999}",
            "{\"a\":}",
            "{\"a\":1,\"a\":2}",
            "info",
            deep.as_str(),
        ] {
            assert_eq!(refusal("info", payload).0, Code::BadJson, "{payload:.40}");
        }
        let incoming = Incoming::read(&Arc::from("info"), b"{\"a\":\"\xff\"}");
        assert_eq!(incoming.asked.map_err(|refusal| refusal.code), Err(Code::BadJson));
    }

    #[test]
    fn an_object_is_meant_by_its_event_alone() {
        let id = "00000000000000000000000001";
        for (fields, words) in [
            (format!(r#""event":"{id}","camera":"front","verdict":"correct""#), "camera: not with `event`"),
            (format!(r#""event":"{id}","seq":1,"verdict":"correct""#), "seq: not with `event`"),
            (format!(r#""event":"{id}","verdict":"correct","box":[0,0,1,1]"#), "box: not with `event`"),
            (format!(r#""event":"{id}","verdict":"missed","label":"cat","#) + r#""box":null"#, "verdict: "),
            (format!(r#""event":"{id}","verdict":"correct","label":"cat""#), "label: only with wrong_label"),
            (format!(r#""event":"{id}","verdict":"wrong_label""#), "missing field `label`"),
            (r#""event":"x","verdict":"correct""#.into(), "event: must be the `id` of an event"),
            (r#""event":"","verdict":"correct""#.into(), "event: must be"),
            (r#""verdict":"correct""#.into(), "missing field `event`"),
            (r#""camera":"front","verdict":"correct""#.into(), "missing field `seq`"),
        ] {
            let (code, message) = refusal("feedback", &format!("{{{fields}}}"));
            assert!(code == Code::BadField && message.contains(words), "{fields}: {message}");
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        let good = r#""camera":"front","seq":7,"verdict":"missed","label":"cat","box":[0,0,1,1]"#;
        for (old, new, words) in [
            ("7", "-1", "seq: invalid value: integer `-1`"),
            ("7", "1.5", "seq: invalid type: floating point"),
            ("7", "\"7\"", "seq: invalid type: string"),
            ("7", "18446744073709551616", "seq: invalid type: floating point"),
            ("\"front\"", "1", "camera: invalid type: integer"),
            ("\"missed\"", "\"wrong\"", "verdict: unknown variant `wrong`, expected one of"),
            ("\"missed\"", "null", "verdict: "),
            ("\"cat\"", "[]", "label: invalid type: sequence"),
            ("\"cat\"", "null", "missing field `label`, which missed needs"),
            ("[0,0,1,1]", "null", "missing field `box`, which missed needs"),
            ("[0,0,1,1]", "[0,0,1]", "box: invalid length 3"),
            ("[0,0,1,1]", "[0,0,1,1,1]", "box: "),
            ("[0,0,1,1]", "[0,0,1,\"1\"]", "box[3]: invalid type: string"),
            ("[0,0,1,1]", "[0,0,1.01,1]", "box: must be [left, top, right, bottom]"),
            ("[0,0,1,1]", "[-0.01,0,1,1]", "box: must be"),
            ("[0,0,1,1]", "[0.5,0,0.5,1]", "box: must be"),
            ("[0,0,1,1]", "[0,0.6,1,0.5]", "box: must be"),
            ("[0,0,1,1]", "[0,0,1,1e300]", "box: must be"),
            ("\"seq\"", "\"sec\"", "sec: unknown field `sec`, expected one of"),
            ("\"camera\"", "\"label \"", "label : unknown field"),
            ("\"camera\":\"front\",", "", "missing field `event`"),
            ("\"verdict\":\"missed\",", "", "missing field `verdict`"),
        ] {
            assert!(good.contains(old), "{old}");
            let payload = format!("{{{}}}", good.replacen(old, new, 1));
            let (code, message) = refusal("feedback", &payload);
            assert_eq!((code, message.contains(words)), (Code::BadField, true), "{new}: {message}");
        }
        for (verb, payload, words) in [
            ("info", r#"{"x":1}"#, "x: unknown field `x`, there are no fields"),
            ("samples/list", r#"{"limit":0}"#, "limit: 0 must be 1 to 50"),
            ("samples/list", r#"{"limit":51}"#, "limit: 51 must be 1 to 50"),
            ("samples/list", r#"{"limit":1e3}"#, "limit: invalid type"),
            ("tune/start", r#"{"max_minutes":0}"#, "max_minutes: 0 must be 1 to 10080"),
            ("tune/start", r#"{"max_minutes":10081}"#, "max_minutes: 10081 must be"),
            ("tune/start", r#"{"dry_run":1}"#, "dry_run: invalid type"),
            ("tune/cancel", r#"{"job":"a"}"#, "job: unknown field"),
            ("model/activate", r#"{"generation":"5"}"#, "generation: invalid type"),
            ("rollback", r#"{"generation":-1}"#, "generation: invalid value"),
            ("samples/delete", "{}", "missing field `ids`, or `all` with `confirm`"),
            ("samples/delete", r#"{"all":true}"#, "confirm: must be true"),
            ("samples/delete", r#"{"all":true,"confirm":false}"#, "confirm: must be true"),
            ("samples/delete", r#"{"ids":[]}"#, "ids: 0 of them, must be 1 to 100"),
            ("samples/delete", r#"{"ids":["a"],"all":true,"confirm":true}"#, "ids and all: give one of them"),
            ("samples/delete", r#"{"ids":"a"}"#, "ids: invalid type: string"),
        ] {
            let (code, message) = refusal(verb, payload);
            assert_eq!((code, message.contains(words)), (Code::BadField, true), "{payload}: {message}");
        }
    }

    #[test]
    fn size_and_verb_come_first() {
        let (code, message) = refusal("info", &" ".repeat(17 << 10));
        assert_eq!((code, message.as_str()), (Code::TooLarge, "17408 bytes, at most 16384 are allowed"));
        let (code, message) = refusal("infos", r#"{"x":1}"#);
        assert_eq!(
            (code, message.starts_with("no verb `infos`: there are info, health")),
            (Code::UnknownVerb, true)
        );
    }
}
