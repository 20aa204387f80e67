//! What Home Assistant is told, so that its entities appear by themselves: one device for the node and one for
//! each camera, each in one message. Pure functions from facts to payloads.
//!
//! The form is Home Assistant's own, with its abbreviations. It refuses a whole device for one key that it does
//! not know in the root, `dev`, `o` or `avty`, so nothing stands there beyond its need. `uniq_id` and
//! `default_entity_id` are a promise as topics are: automations hang on them. Both come from ids, never from
//! names that are shown.

use super::{Kind, Names, THRESHOLD, Topic};
use crate::verb::Verb;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest name of a device or an entity, bytes: more than the longest of ids and labels together.
const MAX_NAME: usize = 256;
/// Longest label that is shown in a name, characters.
const MAX_SHOWN: usize = 64;
/// An empty request: "the candidate", "the one before".
const EMPTY_REQUEST: &str = "{}";
/// Words of `event_type` on `<cam>/events`.
const EVENT_TYPES: [&str; 3] = ["start", "update", "end"];
const JPEG: &str = "image/jpeg";
const ORIGIN: &str = "retinad";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One device with its entities, as Home Assistant's MQTT discovery has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Device {
    dev: About,
    o: Origin,
    avty: Vec<Available>,
    avty_mode: String,
    qos: u8,
    /// Its entities, by a name within the device.
    pub cmps: BTreeMap<String, Component>,
}

/// The device itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct About {
    ids: [String; 1],
    name: String,
    mf: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mdl: Option<String>,
    sw: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    via_device: Option<String>,
}

/// Who made the message.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Origin {
    name: String,
    sw: String,
}

/// A topic that says whether entities are available.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Available {
    t: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    val_tpl: Option<String>,
}

/// One entity. With nothing but its platform it is one that Home Assistant shall remove.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Component {
    /// Its platform in Home Assistant, such as `binary_sensor`.
    pub p: String,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

impl Component {
    fn new(platform: &str) -> Self {
        Self { p: platform.to_owned(), rest: BTreeMap::new() }
    }

    fn with(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.rest.insert(key.to_owned(), value.into());
        self
    }
}

/// Entities of a device that Home Assistant may have: by name within the device, the platform.
pub type Entities = BTreeMap<String, String>;

impl Device {
    /// The device `id` without entities, for one that is to vanish.
    #[must_use]
    pub fn vanished(id: &str, names: &Names) -> Self {
        Self {
            dev: About {
                ids: [id.to_owned()],
                name: id.to_owned(),
                mf: ORIGIN.to_owned(),
                mdl: None,
                sw: VERSION.to_owned(),
                via_device: None,
            },
            o: origin(),
            avty: vec![node_available(names)],
            avty_mode: "all".to_owned(),
            qos: 1,
            cmps: BTreeMap::new(),
        }
    }

    /// Its entities by name.
    #[must_use]
    pub fn entities(&self) -> Entities {
        self.cmps.iter().map(|(key, component)| (key.clone(), component.p.clone())).collect()
    }

    /// The message that tells Home Assistant once more of entities that are to vanish, so that it knows them when
    /// they are taken away. Where both do not find room, only of these: what is left out stays as it is.
    #[must_use]
    pub fn with_stand_ins(mut self, gone: &Entities, names: &Names) -> Self {
        let [id] = self.dev.ids.clone();
        let stand_ins: Vec<(String, Component)> =
            gone.iter().map(|(key, platform)| (key.clone(), stand_in(&id, key, platform, names))).collect();
        let bytes: usize = stand_ins.iter().map(|(key, stand_in)| bytes_of(key, stand_in)).sum();
        if encoded(&self).len() + bytes > limit() {
            self.cmps.clear();
        }
        let mut room = limit() - encoded(&self).len();
        for (key, stand_in) in stand_ins {
            let bytes = bytes_of(&key, &stand_in);
            if bytes <= room {
                room -= bytes;
                self.cmps.insert(key, stand_in);
            }
        }
        self
    }

    /// The message that takes these entities away. What is left out for want of room stays as it is.
    #[must_use]
    pub fn without(mut self, gone: &Entities) -> Self {
        self.cmps.extend(gone.iter().map(|(key, platform)| (key.clone(), Component::new(platform))));
        if encoded(&self).len() > limit() {
            self.cmps.retain(|key, _| gone.contains_key(key));
        }
        self
    }
}

/// As much of an entity as Home Assistant needs to know it again.
fn stand_in(device: &str, key: &str, platform: &str, names: &Names) -> Component {
    // Nothing is ever said there.
    let silent = names.full(&Topic::of_verb(Kind::Response, &Arc::from("nothing")));
    let known = Component::new(platform).with("uniq_id", format!("{device}_{key}"));
    match platform {
        "button" => known.with("cmd_t", silent),
        // Without a topic for its state Home Assistant would keep the old subscription when the entity is gone.
        "number" | "switch" => known.with("cmd_t", &*silent).with("stat_t", &*silent),
        "event" => known.with("stat_t", silent).with("event_types", EVENT_TYPES.to_vec()),
        "image" => known.with("image_topic", silent),
        _ => known.with("stat_t", silent),
    }
}

/// Bytes of an entity in a message, with quotes, colon and comma.
fn bytes_of(key: &str, component: &Component) -> usize {
    key.len() + encoded(component).len() + 4
}

/// Largest message, bytes.
fn limit() -> usize {
    Kind::HomeAssistantDevice.spec().max_bytes
}

/// What is told of the node.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts<'a> {
    /// The machine's name in topics.
    pub node: &'a str,
    /// How topics are spelled.
    pub names: &'a Names,
    /// The board's name, if it is known.
    pub board: Option<&'a str>,
    /// Verbs that may be asked for: there is no button that would be refused.
    pub allow: &'a [String],
}

/// What is told of a camera.
#[derive(Debug, Clone, Copy)]
pub struct CameraFacts<'a> {
    /// The machine's name in topics.
    pub node: &'a str,
    /// How topics are spelled.
    pub names: &'a Names,
    /// The camera's id.
    pub camera: &'a Arc<str>,
    /// The model's name.
    pub model: &'a str,
    /// Each label that is told, with its slug.
    pub labels: &'a [(String, Arc<str>)],
    /// Topics of counts in zones and of totals of lines.
    pub places: &'a [Topic],
    /// Whether pictures are published.
    pub pictures: bool,
    /// Verbs that may be asked for: there is no button that would be refused.
    pub allow: &'a [String],
}

/// What discovery calls the node's device.
#[must_use]
pub fn node_id(node: &str) -> String {
    format!("{ORIGIN}_{}", unmistakable(node))
}

/// What discovery calls a camera's device.
#[must_use]
pub fn camera_id(node: &str, camera: &str) -> String {
    format!("{}_{}", node_id(node), unmistakable(camera))
}

/// Whether the device with this id is the node's or one of its cameras'.
#[must_use]
pub fn is_of_node(id: &str, node: &str) -> bool {
    let rest = id.strip_prefix(&node_id(node));
    // After a doubled `_` the node's name goes on.
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('_').is_some_and(|rest| !rest.starts_with('_'))
    })
}

/// Whether this may be the name of a device, an entity or a platform.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let may_be = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(may_be)
}

/// An id between two `_` of which none is taken for its own: `a` with `b_c` is another device than `a_b` with
/// `c`. No id begins with `_`.
fn unmistakable(id: &str) -> String {
    id.replace('_', "__")
}

/// The device of the node.
#[must_use]
pub fn node_device(facts: &NodeFacts<'_>) -> Device {
    let node = Of { device: node_id(facts.node), entity: entity_part(facts.node) };
    let health = facts.names.full(&Topic::of_node(Kind::Health));
    let of_health = |name: &str| node.entity("sensor", name, name).with("stat_t", &*health);
    let mut cmps = BTreeMap::new();
    let temperature = of_health("cpu_temp")
        .with("name", "CPU temperature")
        .with("ent_cat", "diagnostic")
        .with("dev_cla", "temperature")
        .with("unit_of_meas", "°C")
        .with("stat_cla", "measurement")
        .with("val_tpl", "{{ value_json.cpu_temp_c }}");
    cmps.insert("cpu_temp".to_owned(), temperature);
    let memory = of_health("rss")
        .with("name", "Memory")
        .with("ent_cat", "diagnostic")
        .with("dev_cla", "data_size")
        .with("unit_of_meas", "MB")
        .with("stat_cla", "measurement")
        .with("val_tpl", "{{ value_json.rss_mb }}");
    cmps.insert("rss".to_owned(), memory);
    let problem = node
        .entity("binary_sensor", "problem", "problem")
        .with("name", "Problem")
        .with("ent_cat", "diagnostic")
        .with("dev_cla", "problem")
        .with("stat_t", &*health)
        .with("val_tpl", "{{ 'OFF' if value_json.state == 'ok' else 'ON' }}")
        .with("json_attr_t", &*health)
        .with("json_attr_tpl", "{{ {'state': value_json.state, 'problems': value_json.problems} | tojson }}");
    cmps.insert("problem".to_owned(), problem);
    cmps.insert("model".to_owned(), model_component(&node, facts));
    if facts.allows(Verb::Rollback) {
        let button = node.button("rollback", "Roll back model", Verb::Rollback, facts.names);
        cmps.insert("rollback".to_owned(), button);
    }
    if facts.allows(Verb::TuneStart) {
        let button = node.button("tune_start", "Start tuning", Verb::TuneStart, facts.names);
        cmps.insert("tune_start".to_owned(), button.with("en", false));
    }
    Device {
        dev: About {
            ids: [node.device.clone()],
            name: facts.node.to_owned(),
            mf: ORIGIN.to_owned(),
            mdl: facts.board.map(str::to_owned),
            sw: VERSION.to_owned(),
            via_device: None,
        },
        o: origin(),
        avty: vec![node_available(facts.names)],
        avty_mode: "all".to_owned(),
        qos: 1,
        cmps,
    }
}

/// A tuned model is an update; it can be installed from Home Assistant where that may be asked for.
fn model_component(node: &Of, facts: &NodeFacts<'_>) -> Component {
    // Home Assistant refuses a state with a key that it does not know.
    const PASSED: [&str; 4] = ["installed_version", "latest_version", "title", "release_summary"];
    let passed: Vec<String> = PASSED.iter().map(|key| format!("'{key}': value_json.{key}")).collect();
    let update = node
        .entity("update", "model", "model")
        .with("name", "Model")
        .with("ent_cat", "config")
        .with("stat_t", facts.names.full(&Topic::of_node(Kind::Model)))
        .with("val_tpl", format!("{{{{ {{{}}} | tojson }}}}", passed.join(", ")));
    if !facts.allows(Verb::ModelActivate) {
        return update;
    }
    update.with("cmd_t", request(facts.names, Verb::ModelActivate)).with("payload_install", EMPTY_REQUEST)
}

impl NodeFacts<'_> {
    fn allows(&self, verb: Verb) -> bool {
        is_among(self.allow, verb)
    }
}

fn is_among(allow: &[String], verb: Verb) -> bool {
    allow.iter().any(|name| name == verb.spec().name)
}

/// The device of a camera, and how many of its entities found no room in the message; 0 but for models of
/// hundreds of labels.
#[must_use]
pub fn camera_device(facts: &CameraFacts<'_>) -> (Device, usize) {
    let camera = Of {
        device: camera_id(facts.node, facts.camera),
        entity: format!("{}_{}", entity_part(facts.node), entity_part(facts.camera)),
    };
    let mut device = Device {
        dev: About {
            ids: [camera.device.clone()],
            name: camera_name(facts.camera),
            mf: ORIGIN.to_owned(),
            mdl: Some(facts.model.to_owned()),
            sw: VERSION.to_owned(),
            via_device: Some(node_id(facts.node)),
        },
        o: origin(),
        avty: vec![
            node_available(facts.names),
            Available {
                t: facts.full(Kind::CameraStatus),
                val_tpl: Some("{{ 'online' if value == 'online' else 'offline' }}".to_owned()),
            },
        ],
        avty_mode: "all".to_owned(),
        qos: 1,
        cmps: BTreeMap::new(),
    };
    let mut room = limit() - encoded(&device).len();
    let mut left_out = 0;
    for (key, component) in camera_components(&camera, facts) {
        let bytes = bytes_of(&key, &component);
        if bytes > room {
            left_out += 1;
        } else {
            room -= bytes;
            device.cmps.insert(key, component);
        }
    }
    (device, left_out)
}

/// The message.
#[must_use]
pub fn encoded(part: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(part).unwrap_or_default()
}

/// Entities of a camera, the most wanted first.
fn camera_components(camera: &Of, facts: &CameraFacts<'_>) -> Vec<(String, Component)> {
    let mut all = vec![
        ("detect".to_owned(), detect_component(camera, facts)),
        ("threshold".to_owned(), threshold_component(camera, facts)),
        ("latency".to_owned(), latency_component(camera, facts)),
    ];
    let events = camera
        .entity("event", "events", "events")
        .with("name", "Object")
        .with("event_types", EVENT_TYPES.to_vec())
        .with("stat_t", facts.full(Kind::Events));
    all.push(("events".to_owned(), of_node_alone(events, facts.names)));
    if facts.pictures {
        all.push(("snapshots".to_owned(), snapshots_component(camera, facts)));
        if is_among(facts.allow, Verb::Snapshot) {
            all.extend(snapshot_components(camera, facts));
        }
    }
    let sum = (facts.full(Kind::All), Arc::from("all"), ["Any object", "Objects"].map(str::to_owned));
    let labels = facts.labels.iter().map(|(label, slug)| {
        let topic = facts.names.full(&Topic::count(facts.camera, slug));
        let shown = shown(label);
        (topic, Arc::clone(slug), [shown.clone(), format!("{shown} count")])
    });
    for (topic, slug, [occupancy, count]) in std::iter::once(sum).chain(labels) {
        let entity = camera.occupancy(&format!("{slug}_occupancy"), &slug, &topic).with("name", occupancy);
        all.push((format!("{slug}_occupancy"), entity));
        let key = format!("{slug}_count");
        let entity = camera.count(&key, &key, &topic).with("name", count);
        all.push((key, entity));
    }
    if facts.pictures {
        all.extend(facts.labels.iter().map(|(label, slug)| picture_component(camera, facts, label, slug)));
    }
    all.extend(facts.places.iter().flat_map(|topic| place_components(camera, facts, topic)));
    all
}

/// Available while the node is: with detection off the camera is `disabled`, and a switch that is unavailable
/// can never be switched on again; and the ends of objects are told when their camera goes.
fn of_node_alone(component: Component, names: &Names) -> Component {
    let available = serde_json::json!([{"t": names.full(&Topic::of_node(Kind::Status))}]);
    component.with("avty", available)
}

fn detect_component(camera: &Of, facts: &CameraFacts<'_>) -> Component {
    let switch = camera
        .entity("switch", "detect", "detect")
        .with("name", "Detection")
        .with("cmd_t", facts.full(Kind::DetectSet))
        .with("stat_t", facts.full(Kind::DetectState));
    of_node_alone(switch, facts.names)
}

/// Whether pictures leave the machine; it is there only where the settings let them.
fn snapshots_component(camera: &Of, facts: &CameraFacts<'_>) -> Component {
    let switch = camera
        .entity("switch", "snapshots", "snapshots")
        .with("name", "Pictures")
        .with("ent_cat", "config")
        .with("cmd_t", facts.full(Kind::SnapshotsSet))
        .with("stat_t", facts.full(Kind::SnapshotsState));
    of_node_alone(switch, facts.names)
}

/// The camera's whole picture, and the button that asks for a new one. No label is called `snapshot`.
fn snapshot_components(camera: &Of, facts: &CameraFacts<'_>) -> [(String, Component); 2] {
    let image = camera
        .entity("image", "snapshot", "snapshot")
        .with("name", "Picture")
        .with("content_type", JPEG)
        .with("image_topic", facts.full(Kind::Snapshot));
    // An id holds nothing that JSON would escape.
    let asks = format!("{{\"camera\": \"{}\"}}", facts.camera);
    let button = camera
        .entity("button", "take_snapshot", "take_snapshot")
        .with("name", "Take picture")
        .with("cmd_t", request(facts.names, Verb::Snapshot))
        .with("pl_prs", asks);
    [("snapshot".to_owned(), image), ("take_snapshot".to_owned(), button)]
}

fn threshold_component(camera: &Of, facts: &CameraFacts<'_>) -> Component {
    let number = camera
        .entity("number", "threshold", "threshold")
        .with("name", "Threshold")
        .with("ent_cat", "config")
        // As decimal text, because 0.05 as `f32` is 0.05000000074505806 as `f64`.
        .with("min", decimal(*THRESHOLD.start()))
        .with("max", decimal(*THRESHOLD.end()))
        .with("step", 0.01)
        .with("mode", "slider")
        .with("cmd_t", facts.full(Kind::ThresholdSet))
        .with("stat_t", facts.full(Kind::ThresholdState));
    of_node_alone(number, facts.names)
}

fn decimal(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

fn latency_component(camera: &Of, facts: &CameraFacts<'_>) -> Component {
    let health = facts.names.full(&Topic::of_node(Kind::Health));
    // Health may lack the camera, and the camera a figure; neither may be an error in Home Assistant's log.
    let value = format!(
        "{{{{ (value_json.cameras['{}'] | default({{}})).infer_ms_p50 | default(none) }}}}",
        facts.camera
    );
    camera
        .entity("sensor", "latency", "latency")
        .with("name", "Inference time")
        .with("ent_cat", "diagnostic")
        .with("dev_cla", "duration")
        .with("unit_of_meas", "ms")
        .with("stat_cla", "measurement")
        .with("stat_t", health)
        .with("val_tpl", value)
}

fn picture_component(
    camera: &Of,
    facts: &CameraFacts<'_>,
    label: &str,
    slug: &Arc<str>,
) -> (String, Component) {
    let key = format!("{slug}_image");
    let topic = facts.names.full(&Topic::label_snapshot(facts.camera, slug));
    let image = camera
        .entity("image", &key, slug)
        .with("name", format!("{} picture", shown(label)))
        .with("content_type", JPEG)
        .with("image_topic", topic);
    (key, image)
}

/// Entities of a zone's count, or the one of a line's total. A label's keys have no `-`, so none is taken twice.
fn place_components(camera: &Of, facts: &CameraFacts<'_>, topic: &Topic) -> Vec<(String, Component)> {
    let [_, Some(place), Some(slug)] = topic.names() else { return Vec::new() };
    let label = facts.labels.iter().find(|(_, known)| known == slug).map_or(&**slug, |(label, _)| label);
    let (place_shown, label) = (words(place), shown(label));
    let full = facts.names.full(topic);
    let entity_name = format!("{}_{slug}", entity_part(place));
    let total = |to: &str| {
        let key = format!("line-{place}-{slug}-{to}");
        let entity = camera
            .entity("sensor", &key, &format!("{entity_name}_{to}"))
            .with("name", format!("{place_shown} {label} to the {to}"))
            .with("stat_cla", "total_increasing")
            .with("stat_t", &*full);
        vec![(key, entity)]
    };
    match topic.kind() {
        Kind::LineRight => total("right"),
        Kind::LineLeft => total("left"),
        Kind::ZoneCount => {
            let key = format!("zone-{place}-{slug}");
            let name = format!("{place_shown} {label}");
            let occupancy = camera.occupancy(&key, &entity_name, &full).with("name", &*name);
            let count = camera
                .count(&format!("{key}-count"), &format!("{entity_name}_count"), &full)
                .with("name", format!("{name} count"));
            vec![(key.clone(), occupancy), (format!("{key}-count"), count)]
        }
        _ => Vec::new(),
    }
}

impl CameraFacts<'_> {
    fn full(&self, kind: Kind) -> String {
        self.names.full(&Topic::of_camera(kind, self.camera))
    }
}

/// A device as the first part of its entities' ids.
struct Of {
    /// For `uniq_id`.
    device: String,
    /// For `default_entity_id`.
    entity: String,
}

impl Of {
    /// An entity with both of its ids; without the domain the second one would be mixed with the name.
    fn entity(&self, platform: &str, key: &str, entity: &str) -> Component {
        Component::new(platform)
            .with("uniq_id", format!("{}_{key}", self.device))
            .with("default_entity_id", format!("{platform}.{}_{entity}", self.entity))
    }

    fn occupancy(&self, key: &str, entity: &str, topic: &str) -> Component {
        self.entity("binary_sensor", key, entity)
            .with("dev_cla", "occupancy")
            .with("stat_t", topic)
            .with("val_tpl", "{{ 'ON' if value | int(0) > 0 else 'OFF' }}")
    }

    fn count(&self, key: &str, entity: &str, topic: &str) -> Component {
        self.entity("sensor", key, entity).with("stat_cla", "measurement").with("stat_t", topic)
    }

    fn button(&self, key: &str, name: &str, verb: Verb, names: &Names) -> Component {
        self.entity("button", key, key)
            .with("name", name)
            .with("ent_cat", "config")
            .with("cmd_t", request(names, verb))
            .with("pl_prs", EMPTY_REQUEST)
    }
}

fn request(names: &Names, verb: Verb) -> String {
    names.full(&Topic::of_verb(Kind::Request, &Arc::from(verb.spec().name)))
}

fn origin() -> Origin {
    Origin { name: ORIGIN.to_owned(), sw: VERSION.to_owned() }
}

fn node_available(names: &Names) -> Available {
    Available { t: names.full(&Topic::of_node(Kind::Status)), val_tpl: None }
}

/// An id as a part of an entity's id, which has no `-`.
fn entity_part(id: &str) -> String {
    id.replace('-', "_")
}

/// An id as words: `back-door` is `Back door`.
fn words(id: &str) -> String {
    shown(&id.replace(['-', '_'], " "))
}

/// What a camera is called: its id as words, with `camera` behind them unless they say so themselves.
fn camera_name(id: &str) -> String {
    let name = words(id);
    let says_it = ["cam", "camera"].iter().any(|word| name.to_ascii_lowercase().ends_with(word));
    if says_it { name } else { format!("{name} camera") }
}

/// A label with a capital letter, on one line and of bounded length.
fn shown(label: &str) -> String {
    let mut letters = label.chars().filter(|letter| !letter.is_control()).take(MAX_SHOWN);
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

#[cfg(test)]
mod tests;
