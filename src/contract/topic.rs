//! Topics: the only file that formats or parses one. [`TOPICS`] is the table that the documentation is
//! compared with.
//!
//! A pattern such as `<cam>/<label>` is the one truth about a topic's spelling: formatting fills its
//! placeholders, parsing matches against it, and a subscription replaces each placeholder by `+`.

use super::slug::{RESERVED_CAMERAS, RESERVED_LABELS};
use crate::verb::Verb;
use std::fmt;
use std::sync::Arc;

/// Which topic, without the names that fill its placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is described by its row in TOPICS")]
pub enum Kind {
    Status,
    Info,
    Health,
    Tune,
    Model,
    Log,
    Request,
    Response,
    CameraStatus,
    Detections,
    Events,
    All,
    Count,
    ZoneCount,
    Motion,
    DetectSet,
    DetectState,
    ThresholdSet,
    ThresholdState,
    SnapshotsSet,
    SnapshotsState,
    Snapshot,
    LabelSnapshot,
    HomeAssistantDevice,
    HomeAssistantStatus,
    LineRight,
    LineLeft,
}

/// How the outbox treats a message that retinad publishes. It decides quality of service and retention, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Retained, QoS 1; the newest value of each topic is kept and sent again on every connect.
    State,
    /// Retained, QoS 0; only the newest waits.
    Latest,
    /// QoS 1, kept until the broker acknowledges it.
    Event,
    /// QoS 1, an answer to a request.
    Response,
    /// QoS 0; dropped first when there is no connection or too much to send.
    Sample,
    /// QoS 0 picture; the newest of each topic, dropped while disconnected.
    Picture,
}

impl Class {
    /// MQTT quality of service, 0 or 1.
    #[must_use]
    pub fn qos(self) -> u8 {
        match self {
            Self::State | Self::Event | Self::Response => 1,
            Self::Latest | Self::Sample | Self::Picture => 0,
        }
    }

    /// Whether the broker keeps the last message for those who subscribe later.
    #[must_use]
    pub fn retained(self) -> bool {
        matches!(self, Self::State | Self::Latest)
    }
}

/// Who sends a topic's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// retinad publishes, in this class.
    Out(Class),
    /// retinad subscribes, at this quality of service; retained messages are refused or, for Home
    /// Assistant's, allowed.
    In(u8),
}

/// What a payload is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// UTF-8 text without quotes.
    Text,
    /// One JSON object; the name is that of its schema under `schemas/mqtt/v1/`.
    Json(&'static str),
    /// A JPEG file.
    Jpeg,
    /// One JSON object whose form is Home Assistant's.
    Discovery,
}

/// One row of the contract.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Which topic.
    pub kind: Kind,
    /// Spelling below `<base>/<node>/`; from the broker's root where it starts with `/`.
    pub pattern: &'static str,
    /// Who sends.
    pub way: Way,
    /// What the payload is made of.
    pub form: Form,
    /// Largest payload in bytes; larger ones are not sent, or refused.
    pub max_bytes: usize,
    /// When it is sent, or what it does.
    pub when: &'static str,
    /// Whether this version has it; the others are the plan, so that nobody takes their names.
    pub built: bool,
}

const fn row(
    kind: Kind,
    pattern: &'static str,
    way: Way,
    form: Form,
    max_bytes: usize,
    when: &'static str,
) -> Spec {
    Spec { kind, pattern, way, form, max_bytes, when, built: true }
}

const fn planned(
    kind: Kind,
    pattern: &'static str,
    way: Way,
    form: Form,
    max_bytes: usize,
    when: &'static str,
) -> Spec {
    Spec { kind, pattern, way, form, max_bytes, when, built: false }
}

/// What the patterns of a camera's topics begin with.
const CAMERA: &str = "<cam>/";
/// The placeholder that stands for one level or two.
const VERB: &str = "<verb>";
/// First level of Home Assistant's topics, unless the settings say otherwise.
const HOME_ASSISTANT: &str = "homeassistant";
/// Most bytes of each level of a verb.
const MAX_VERB_LEVEL: usize = 32;

const STATE: Way = Way::Out(Class::State);
const LATEST: Way = Way::Out(Class::Latest);
const EVENT: Way = Way::Out(Class::Event);
const RESPONSE: Way = Way::Out(Class::Response);
const SAMPLE: Way = Way::Out(Class::Sample);
const PICTURE: Way = Way::Out(Class::Picture);
const IN: Way = Way::In(1);
const KIB: usize = 1 << 10;

/// Every topic, in the order of the documentation.
#[rustfmt::skip]
pub const TOPICS: [Spec; 27] = [
    row(Kind::Status, "status", STATE, Form::Text, 7,
        "`online` as the last step of every connect; `offline` as the last step of a stop, and as the will"),
    row(Kind::Info, "bridge/info", STATE, Form::Json("info"), 32 * KIB, "on connect and when a field changes"),
    row(Kind::Health, "bridge/health", LATEST, Form::Json("health"), 32 * KIB,
        "every `health.interval_s`, on connect, and on a change of state at most every 5 s"),
    row(Kind::Tune, "bridge/tune", STATE, Form::Json("tune"), 2 * KIB, "a tuning job changes; progress at most every 5 s"),
    row(Kind::Model, "bridge/model", STATE, Form::Json("model"), KIB, "on connect and when another model is in use"),
    planned(Kind::Log, "bridge/log", SAMPLE, Form::Json("log"), KIB, "a warning or error; off by default, at most one a second"),
    row(Kind::Request, "bridge/request/<verb>", IN, Form::Json("request"), 16 * KIB, "asks for something, once"),
    row(Kind::Response, "bridge/response/<verb>", RESPONSE, Form::Json("response"), 40 * KIB, "once for each request"),
    row(Kind::CameraStatus, "<cam>/status", STATE, Form::Text, 8, "on change and on connect"),
    row(Kind::Detections, "<cam>/detections", SAMPLE, Form::Json("detections"), 24 * KIB,
        "for each frame, as `mqtt.detections` says, at most `mqtt.max_rate` a second"),
    row(Kind::Events, "<cam>/events", EVENT, Form::Json("event"), 4 * KIB, "an object appears, changes, leaves"),
    row(Kind::All, "<cam>/all", STATE, Form::Text, 5, "objects of all labels, on change"),
    row(Kind::Count, "<cam>/<label>", STATE, Form::Text, 5, "objects of the label, on change; falls only after `mqtt.off_delay_s`"),
    row(Kind::ZoneCount, "<cam>/zone/<zone>/<label>", STATE, Form::Text, 5,
        "objects of the label that stand in the zone, on change; falls only after `mqtt.off_delay_s`"),
    row(Kind::Motion, "<cam>/motion", STATE, Form::Text, 3,
        "`ON` or `OFF`, on change, with `motion = true`; `OFF` only after `mqtt.off_delay_s`"),
    row(Kind::DetectSet, "<cam>/detect/set", IN, Form::Text, 32, "switches detection on (`ON`) or off (`OFF`)"),
    row(Kind::DetectState, "<cam>/detect/state", STATE, Form::Text, 3, "on connect and after every command, a refused one too"),
    row(Kind::ThresholdSet, "<cam>/threshold/set", IN, Form::Text, 32, "only scores above it are told first, a decimal from 0.05 to 0.99"),
    row(Kind::ThresholdState, "<cam>/threshold/state", STATE, Form::Text, 4, "on connect and after every command, a refused one too"),
    row(Kind::SnapshotsSet, "<cam>/snapshots/set", IN, Form::Text, 32, "switches pictures within what the settings allow"),
    row(Kind::SnapshotsState, "<cam>/snapshots/state", STATE, Form::Text, 3, "on connect and after every command"),
    row(Kind::Snapshot, "<cam>/snapshot", PICTURE, Form::Jpeg, 200 * KIB, "the frame, with what is found in it, on request"),
    row(Kind::LabelSnapshot, "<cam>/<label>/snapshot", PICTURE, Form::Jpeg, 100 * KIB,
        "an object, before the event that names it: when it appears, and when it is seen better"),
    row(Kind::HomeAssistantDevice, "/homeassistant/device/<id>/config", STATE, Form::Discovery, 128 * KIB,
        "on connect, on Home Assistant's birth, and when cameras or labels change"),
    row(Kind::HomeAssistantStatus, "/homeassistant/status", Way::In(0), Form::Text, 16, "Home Assistant's birth and will"),
    row(Kind::LineRight, "<cam>/line/<line>/<label>/right", STATE, Form::Text, 20,
        "objects of the label that crossed the line from left to right since the daemon was started, on change"),
    row(Kind::LineLeft, "<cam>/line/<line>/<label>/left", STATE, Form::Text, 20, "the same from right to left"),
];

impl Kind {
    /// The row of this topic.
    #[must_use]
    pub fn spec(self) -> &'static Spec {
        // The table lists the kinds in the order of the enum; a test holds that.
        &TOPICS[self as usize]
    }
}

/// One topic with its names filled in. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    kind: Kind,
    /// What stands for the pattern's placeholders, in order.
    names: [Option<Arc<str>>; 3],
}

impl Topic {
    /// A topic without placeholders, such as `status`.
    ///
    /// # Panics
    /// If the kind's pattern has a placeholder.
    #[must_use]
    pub fn of_node(kind: Kind) -> Self {
        Self::filled(kind, [None, None, None])
    }

    /// A topic of a camera, such as `<cam>/status`.
    ///
    /// # Panics
    /// If the kind's pattern has another number of placeholders.
    #[must_use]
    pub fn of_camera(kind: Kind, camera: &Arc<str>) -> Self {
        Self::filled(kind, [Some(Arc::clone(camera)), None, None])
    }

    /// `<cam>/<label>`.
    #[must_use]
    pub fn count(camera: &Arc<str>, label_slug: &Arc<str>) -> Self {
        Self::filled(Kind::Count, [Some(Arc::clone(camera)), Some(Arc::clone(label_slug)), None])
    }

    /// `<cam>/zone/<zone>/<label>`.
    #[must_use]
    pub fn zone_count(camera: &Arc<str>, zone: &Arc<str>, label_slug: &Arc<str>) -> Self {
        Self::filled(Kind::ZoneCount, [camera, zone, label_slug].map(|name| Some(Arc::clone(name))))
    }

    /// `<cam>/line/<line>/<label>/right`, or `left`.
    #[must_use]
    pub fn line_total(to_right: bool, camera: &Arc<str>, line: &Arc<str>, label_slug: &Arc<str>) -> Self {
        let kind = if to_right { Kind::LineRight } else { Kind::LineLeft };
        Self::filled(kind, [camera, line, label_slug].map(|name| Some(Arc::clone(name))))
    }

    /// `<cam>/<label>/snapshot`.
    #[must_use]
    pub fn label_snapshot(camera: &Arc<str>, label_slug: &Arc<str>) -> Self {
        Self::filled(Kind::LabelSnapshot, [Some(Arc::clone(camera)), Some(Arc::clone(label_slug)), None])
    }

    /// Where Home Assistant is told of the device with this id.
    #[must_use]
    pub fn device(id: &str) -> Self {
        Self::filled(Kind::HomeAssistantDevice, [Some(Arc::from(id)), None, None])
    }

    /// `bridge/request/<verb>` or `bridge/response/<verb>`; a verb has one level or two.
    #[must_use]
    pub fn of_verb(kind: Kind, verb: &Arc<str>) -> Self {
        Self::filled(kind, [Some(Arc::clone(verb)), None, None])
    }

    /// One topic of every kind that this version sends: of the node, a response to `info`, and of `camera`
    /// those that name nothing beside it.
    #[must_use]
    pub fn of_each_kind_sent(camera: Option<&Arc<str>>) -> Vec<Self> {
        let sent = TOPICS.iter().filter(|spec| spec.built && matches!(spec.way, Way::Out(_)));
        let topic = |spec: &Spec| match (spec.kind, spec.pattern.matches('<').count()) {
            (Kind::Response, _) => Some(Self::of_verb(spec.kind, &Arc::from(Verb::Info.spec().name))),
            (kind, 0) => Some(Self::of_node(kind)),
            (kind, 1) if spec.pattern.starts_with(CAMERA) => {
                camera.map(|camera| Self::of_camera(kind, camera))
            }
            _ => None,
        };
        sent.filter_map(topic).collect()
    }

    fn filled(kind: Kind, names: [Option<Arc<str>>; 3]) -> Self {
        let placeholders = kind.spec().pattern.split('/').filter(|level| level.starts_with('<')).count();
        assert!(placeholders == names.iter().flatten().count(), "{kind:?} has {placeholders} placeholders");
        Self { kind, names }
    }

    /// Which topic this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The row of this topic.
    #[must_use]
    pub fn spec(&self) -> &'static Spec {
        self.kind.spec()
    }

    /// What stands for the pattern's placeholders, in order.
    #[must_use]
    pub fn names(&self) -> &[Option<Arc<str>>; 3] {
        &self.names
    }

    /// The camera that it is about, if any.
    #[must_use]
    pub fn camera(&self) -> Option<&Arc<str>> {
        if self.spec().pattern.starts_with("<cam>") { self.names[0].as_ref() } else { None }
    }

    /// The verb of a request or response.
    #[must_use]
    pub fn verb(&self) -> Option<&Arc<str>> {
        if self.spec().pattern.ends_with(VERB) { self.names[0].as_ref() } else { None }
    }

    /// The topic that answers a set: `<cam>/detect/set` is answered on `<cam>/detect/state`.
    #[must_use]
    pub fn answer(&self) -> Option<Self> {
        let kind = match self.kind {
            Kind::DetectSet => Kind::DetectState,
            Kind::ThresholdSet => Kind::ThresholdState,
            Kind::SnapshotsSet => Kind::SnapshotsState,
            Kind::Request => Kind::Response,
            _ => return None,
        };
        Some(Self { kind, names: self.names.clone() })
    }
}

/// The spelling below `<base>/<node>/`, for log lines.
impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = self.names.iter().flatten();
        for (i, level) in self.spec().pattern.trim_start_matches('/').split('/').enumerate() {
            let name = if level.starts_with('<') { names.next().map_or("", |name| &**name) } else { level };
            write!(f, "{}{name}", if i == 0 { "" } else { "/" })?;
        }
        Ok(())
    }
}

/// Where this node's topics stand on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    prefix: String,
    /// The first levels of Home Assistant's topics.
    home_assistant: String,
}

impl Names {
    /// For `<base>/<node>/`.
    #[must_use]
    pub fn new(base: &str, node: &str) -> Self {
        Self { prefix: format!("{base}/{node}"), home_assistant: HOME_ASSISTANT.to_owned() }
    }

    /// The same where Home Assistant's topics stand below `prefix`.
    #[must_use]
    pub fn with_home_assistant(self, prefix: &str) -> Self {
        Self { home_assistant: prefix.to_owned(), ..self }
    }

    /// From `/homeassistant/...` of a pattern, or of a topic, to where it stands on the broker.
    fn rooted(&self, spelled: &str) -> String {
        let below = spelled.trim_start_matches('/').strip_prefix(HOME_ASSISTANT).unwrap_or_default();
        format!("{}{below}", self.home_assistant)
    }

    /// A topic's full name on the broker.
    #[must_use]
    pub fn full(&self, topic: &Topic) -> String {
        if topic.spec().pattern.starts_with('/') {
            self.rooted(&topic.to_string())
        } else {
            format!("{}/{topic}", self.prefix)
        }
    }

    /// The topic with this full name; `None` if it is none of this node's.
    #[must_use]
    pub fn parse(&self, full: &str) -> Option<Topic> {
        match full.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('/')) {
            Some(rest) => parse_levels(rest, false),
            None => {
                let below = full.strip_prefix(&self.home_assistant)?.strip_prefix('/')?;
                parse_levels(&format!("{HOME_ASSISTANT}/{below}"), true)
            }
        }
    }

    /// A subscription to every topic of this kind; of requests and responses, to those whose verb has one
    /// level.
    #[must_use]
    pub fn filter(&self, kind: Kind) -> String {
        let levels: Vec<&str> = kind
            .spec()
            .pattern
            .split('/')
            .map(|level| if level.starts_with('<') { "+" } else { level })
            .collect();
        let relative = levels.join("/");
        if relative.starts_with('/') { self.rooted(&relative) } else { format!("{}/{relative}", self.prefix) }
    }

    /// A subscription to everything of this node.
    #[must_use]
    pub fn of_node(&self) -> String {
        format!("{}/#", self.prefix)
    }

    /// Whether this full name stands below this node's.
    #[must_use]
    pub fn is_of_node(&self, full: &str) -> bool {
        full.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Subscriptions to the requests of every verb, those of one level and of two.
    #[must_use]
    pub fn request_filters(&self) -> [String; 2] {
        let one = self.filter(Kind::Request);
        let two = format!("{one}/+");
        [one, two]
    }
}

/// Node and topic of a full name below `base`, whichever node it is of.
#[must_use]
pub fn parse_of_any_node<'a>(base: &str, full: &'a str) -> Option<(&'a str, Topic)> {
    let (node, rest) = full.strip_prefix(base)?.strip_prefix('/')?.split_once('/')?;
    Some((node, parse_levels(rest, false)?))
}

/// The topic spelled by `text`; patterns with fewer placeholders win, so that `front/all` is no label.
fn parse_levels(text: &str, from_root: bool) -> Option<Topic> {
    let levels: Vec<&str> = text.split('/').collect();
    let candidates = TOPICS.iter().filter(|spec| spec.pattern.starts_with('/') == from_root);
    candidates
        .filter_map(|spec| matched(spec, &levels))
        .min_by_key(|topic| topic.names.iter().flatten().count())
}

fn matched(spec: &Spec, levels: &[&str]) -> Option<Topic> {
    let pattern: Vec<&str> = spec.pattern.trim_start_matches('/').split('/').collect();
    let has_verb = spec.pattern.ends_with(VERB);
    if pattern.len() != levels.len() && !(has_verb && pattern.len() + 1 == levels.len()) {
        return None;
    }
    let mut found = Vec::new();
    for (i, (wanted, level)) in pattern.iter().zip(levels).enumerate() {
        if *wanted == VERB {
            let verb = &levels[i..];
            verb.iter().all(|level| may_stand_for(VERB, level)).then_some(())?;
            found.push(Arc::from(verb.join("/")));
        } else if wanted.starts_with('<') && may_stand_for(wanted, level) {
            found.push(Arc::from(*level));
        } else if wanted != level {
            return None;
        }
    }
    let mut found = found.into_iter();
    Some(Topic { kind: spec.kind, names: [found.next(), found.next(), found.next()] })
}

/// Whether this level may be the name that the placeholder stands for.
fn may_stand_for(placeholder: &str, level: &str) -> bool {
    match placeholder {
        "<cam>" => !level.is_empty() && !RESERVED_CAMERAS.contains(&level),
        "<label>" => !level.is_empty() && !RESERVED_LABELS.contains(&level),
        // A verb that nobody knows is answered under its own name, which must therefore be a plain one.
        VERB => {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
            (1..=MAX_VERB_LEVEL).contains(&level.len()) && level.bytes().all(fits)
        }
        _ => !level.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[test]
    fn the_table_lists_the_kinds_in_the_order_of_the_enum() {
        for (i, spec) in TOPICS.iter().enumerate() {
            assert_eq!(spec.kind as usize, i, "{spec:?}");
        }
    }

    #[test]
    fn every_topic_is_parsed_as_what_was_formatted() {
        let names = Names::new("home/retinad", "pi");
        for spec in &TOPICS {
            let placeholders = spec.pattern.matches('<').count();
            let filled = [(0, "front"), (1, "drive"), (2, "person")]
                .map(|(i, text)| (i < placeholders).then(|| name(text)));
            let topic = Topic::filled(spec.kind, filled);
            let full = names.full(&topic);
            assert_eq!(names.parse(&full), Some(topic.clone()), "{full}");
            if !spec.pattern.starts_with('/') {
                assert_eq!(parse_of_any_node("home/retinad", &full), Some(("pi", topic)), "{full}");
            }
        }
    }

    #[test]
    fn a_word_of_the_contract_is_never_taken_for_a_label() {
        let names = Names::new("retinad", "n");
        assert_eq!(names.parse("retinad/n/front/all").map(|t| t.kind()), Some(Kind::All));
        assert_eq!(names.parse("retinad/n/front/person").map(|t| t.kind()), Some(Kind::Count));
        for other in [
            "retinad/n/front/detect",
            "retinad/n/front/motion/set",
            "retinad/n/bridge/person",
            "retinad/n",
            "retinad/m/front/status",
            "retinad/n//status",
            "other",
            "retinad/nn/status",
            "",
        ] {
            assert_eq!(names.parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_filter_has_a_plus_for_each_name() {
        assert_eq!(Names::new("r", "+").filter(Kind::Detections), "r/+/+/detections");
        assert_eq!(Names::new("r", "n").filter(Kind::HomeAssistantStatus), "homeassistant/status");
        let elsewhere = Names::new("r", "n").with_home_assistant("ha/disc");
        assert_eq!(elsewhere.filter(Kind::HomeAssistantStatus), "ha/disc/status");
        let device = Topic::device("retinad_n");
        assert_eq!(elsewhere.full(&device), "ha/disc/device/retinad_n/config");
        assert_eq!(elsewhere.parse("ha/disc/device/retinad_n/config"), Some(device));
        assert_eq!(elsewhere.parse("homeassistant/status"), None);
    }

    #[test]
    fn a_verb_has_one_level_or_two_of_plain_letters() {
        let names = Names::new("r", "n");
        let verb_of = |full: &str| names.parse(full).and_then(|topic| topic.verb().map(ToString::to_string));
        for verb in ["feedback", "samples/list", "nobody_knows-it2"] {
            assert_eq!(verb_of(&format!("r/n/bridge/request/{verb}")).as_deref(), Some(verb));
            let request = Topic::of_verb(Kind::Request, &name(verb));
            assert_eq!(names.full(&request), format!("r/n/bridge/request/{verb}"));
            let answer = request.answer().map(|topic| names.full(&topic));
            assert_eq!(answer, Some(format!("r/n/bridge/response/{verb}")));
        }
        let long = "x".repeat(33);
        for verb in ["", "a/b/c", "samples/", "/list", "Info", "a b", "\u{7f}", "ü", long.as_str()] {
            assert_eq!(verb_of(&format!("r/n/bridge/request/{verb}")), None, "{verb}");
        }
        assert_eq!(names.request_filters(), ["r/n/bridge/request/+", "r/n/bridge/request/+/+"]);
    }

    #[test]
    fn a_set_is_answered_on_its_state() {
        let set = Topic::of_camera(Kind::ThresholdSet, &name("front"));
        assert_eq!(set.answer().map(|t| t.to_string()).as_deref(), Some("front/threshold/state"));
        assert_eq!(set.camera().map(|c| &**c), Some("front"));
    }
}
