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
    /// Whether events of objects are published.
    pub events: bool,
    /// Whether pictures of objects are published.
    pub pictures: bool,
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
        self.allow.iter().any(|name| name == verb.spec().name)
    }
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
    if facts.events {
        let events = camera
            .entity("event", "events", "events")
            .with("name", "Object")
            .with("event_types", EVENT_TYPES.to_vec())
            .with("stat_t", facts.full(Kind::Events));
        all.push(("events".to_owned(), events));
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
/// can never be switched on again.
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
        .with("name", shown(label))
        .with("content_type", "image/jpeg")
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
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn names() -> Names {
        Names::new("retinad", "pi-porch")
    }

    fn labels(labels: &[&str]) -> Vec<(String, Arc<str>)> {
        let owned: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let slugs = crate::contract::label_slugs(&owned).into_iter().map(Arc::from);
        owned.into_iter().zip(slugs).collect()
    }

    /// The device of `camera` on `node`, and how much was left out.
    fn device_of(
        node: &str,
        camera: &str,
        labels: &[(String, Arc<str>)],
        places: &[Topic],
    ) -> (Device, usize) {
        let (names, camera) = (Names::new("retinad", node), Arc::from(camera));
        let facts = CameraFacts {
            node,
            names: &names,
            camera: &camera,
            model: "m",
            labels,
            places,
            events: true,
            pictures: true,
        };
        camera_device(&facts)
    }

    fn entity_ids(device: &Device) -> Vec<&str> {
        device.cmps.values().filter_map(|component| component.rest["default_entity_id"].as_str()).collect()
    }

    #[test]
    fn the_promised_entities_are_announced_under_their_ids() {
        let (front, left_out) = device_of("pi-porch", "front", &labels(&["person", "traffic light"]), &[]);
        assert_eq!(left_out, 0);
        let mut ids = entity_ids(&front);
        ids.sort_unstable();
        assert_eq!(
            ids,
            [
                "binary_sensor.pi_porch_front_all",
                "binary_sensor.pi_porch_front_person",
                "binary_sensor.pi_porch_front_traffic_light",
                "event.pi_porch_front_events",
                "image.pi_porch_front_person",
                "image.pi_porch_front_traffic_light",
                "number.pi_porch_front_threshold",
                "sensor.pi_porch_front_all_count",
                "sensor.pi_porch_front_latency",
                "sensor.pi_porch_front_person_count",
                "sensor.pi_porch_front_traffic_light_count",
                "switch.pi_porch_front_detect",
            ]
        );
        assert_eq!(
            serde_json::to_value(&front.cmps["person_occupancy"]).expect("JSON"),
            json!({
                "p": "binary_sensor",
                "uniq_id": "retinad_pi-porch_front_person_occupancy",
                "default_entity_id": "binary_sensor.pi_porch_front_person",
                "name": "Person",
                "dev_cla": "occupancy",
                "stat_t": "retinad/pi-porch/front/person",
                "val_tpl": "{{ 'ON' if value | int(0) > 0 else 'OFF' }}",
            })
        );
    }

    #[test]
    fn a_button_is_there_only_for_what_may_be_asked() {
        let names = names();
        let device = |allow: &[String]| {
            node_device(&NodeFacts { node: "pi-porch", names: &names, board: Some("Pi"), allow })
        };
        let nothing = device(&[]);
        assert_eq!(nothing.cmps.keys().collect::<Vec<_>>(), ["cpu_temp", "model", "problem", "rss"]);
        assert!(!nothing.cmps["model"].rest.contains_key("cmd_t"));
        let all = device(&crate::verb::NAMES.map(str::to_owned));
        assert_eq!(all.cmps["rollback"].rest["pl_prs"], "{}");
        assert_eq!(all.cmps["tune_start"].rest["en"], false);
        assert_eq!(all.cmps["tune_start"].rest["cmd_t"], "retinad/pi-porch/bridge/request/tune/start");
        assert_eq!(all.cmps["model"].rest["payload_install"], "{}");
    }

    /// Home Assistant refuses a device for an unknown key in these places.
    #[test]
    fn root_device_origin_and_availability_have_only_keys_that_home_assistant_knows() {
        let names = names();
        let node = NodeFacts { node: "n", names: &names, board: None, allow: &[] };
        for device in [node_device(&node), device_of("n", "c", &[], &[]).0] {
            let value = serde_json::to_value(&device).expect("JSON");
            let keys =
                |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&value), ["avty", "avty_mode", "cmps", "dev", "o", "qos"]);
            assert_eq!(keys(&value["o"]), ["name", "sw"]);
            let known = ["ids", "mdl", "mf", "name", "sw", "via_device"];
            assert!(keys(&value["dev"]).iter().all(|key| known.contains(&key.as_str())), "{value}");
            let entries = value["avty"].as_array().expect("a list");
            assert!(entries.iter().flat_map(keys).all(|key| ["t", "val_tpl"].contains(&key.as_str())));
            for component in device.cmps.values() {
                assert!(component.rest.contains_key("uniq_id") && component.rest.contains_key("name"));
                let id = component.rest["default_entity_id"].as_str().expect("text");
                assert!(id.starts_with(&format!("{}.", component.p)), "{id}");
            }
        }
    }

    #[test]
    fn switch_and_threshold_hang_on_the_node_alone() {
        let (front, _) = device_of("n", "front", &[], &[]);
        for key in ["detect", "threshold"] {
            assert_eq!(front.cmps[key].rest["avty"], json!([{"t": "retinad/n/status"}]));
        }
        assert_eq!(front.avty.len(), 2);
        let threshold = &front.cmps["threshold"].rest;
        assert_eq!((&threshold["min"], &threshold["max"]), (&json!(0.05), &json!(0.99)));
    }

    #[test]
    fn zones_and_lines_have_entities_of_their_own() {
        let (camera, person) = (Arc::from("front"), Arc::from("person"));
        let places = [
            Topic::zone_count(&camera, &Arc::from("back-door"), &person),
            Topic::line_total(true, &camera, &Arc::from("gate"), &person),
        ];
        let (front, _) = device_of("n", "front", &labels(&["person"]), &places);
        let ids = entity_ids(&front);
        for id in [
            "binary_sensor.n_front_back_door_person",
            "sensor.n_front_back_door_person_count",
            "sensor.n_front_gate_person_right",
        ] {
            assert!(ids.contains(&id), "{id} is not among {ids:?}");
        }
        assert_eq!(front.cmps["zone-back-door-person"].rest["name"], "Back door Person");
    }

    #[test]
    fn no_two_entities_of_any_nodes_and_cameras_share_an_id() {
        let ids = ["a", "b", "a_b", "b_a", "a_", "a__b", "all", "a_all", "tune", "cpu"];
        let labels = labels(&["a", "b", "a b", "all", "count", "a count", "zone a", "b occupancy"]);
        let mut unique = std::collections::BTreeSet::new();
        let mut devices = std::collections::BTreeSet::new();
        for node in ids {
            let names = Names::new("retinad", node);
            let allow = crate::verb::NAMES.map(str::to_owned);
            let mut all = vec![node_device(&NodeFacts { node, names: &names, board: None, allow: &allow })];
            for camera in ids {
                let places: Vec<Topic> = ["a", "a-b", "b"]
                    .iter()
                    .map(|zone| Topic::zone_count(&Arc::from(camera), &Arc::from(*zone), &Arc::from("a")))
                    .collect();
                all.push(device_of(node, camera, &labels, &places).0);
            }
            for device in all {
                assert!(devices.insert(device.dev.ids.clone()), "{:?} twice", device.dev.ids);
                for component in device.cmps.values() {
                    let id = component.rest["uniq_id"].as_str().expect("text").to_owned();
                    assert!(unique.insert(id.clone()), "{id} twice");
                }
            }
        }
    }

    #[test]
    fn a_message_keeps_its_limit_and_says_what_it_left_out() {
        let long = "n".repeat(32);
        let many: Vec<String> = (0..2000).map(|i| format!("a label of some length, number {i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (device, left_out) = device_of(&long, &"c".repeat(32), &labels(&many), &[]);
        let limit = Kind::HomeAssistantDevice.spec().max_bytes;
        let bytes = encoded(&device).len();
        assert!(bytes <= limit && bytes > limit - 1000, "{bytes} bytes of {limit}");
        assert!(left_out > 5000 && device.cmps.contains_key("detect"), "{left_out} left out");
        let coco = vec!["a label of usual length"; 80];
        assert_eq!(device_of("pi-porch", "front", &labels(&coco), &[]).1, 0, "80 labels find room");
    }

    #[test]
    fn a_device_belongs_to_one_node() {
        let ids = ["a", "b", "a_b", "a_", "a__b", "a-b", "ab"];
        for owner in ids {
            for node in ids {
                let is_owner = owner == node;
                assert_eq!(is_of_node(&node_id(owner), node), is_owner, "{owner} {node}");
                for camera in ids {
                    assert_eq!(
                        is_of_node(&camera_id(owner, camera), node),
                        is_owner,
                        "{owner} {camera} {node}"
                    );
                }
            }
        }
    }

    #[test]
    fn names_are_for_people() {
        assert_eq!(camera_name("front"), "Front camera");
        assert_eq!(camera_name("back-door_cam"), "Back door cam");
        assert_eq!(shown("traffic light"), "Traffic light");
        assert_eq!(shown("\n\u{7}élan"), "Élan");
        assert_eq!(shown(&"x".repeat(500)).len(), MAX_SHOWN);
    }

    #[test]
    fn what_vanishes_is_told_once_more_and_then_only_by_its_platform() {
        let names = names();
        let gone = device_of("pi-porch", "front", &labels(&["person"]), &[]).0.entities();
        let (front, _) = device_of("pi-porch", "front", &labels(&["cat"]), &[]);
        let gone: Entities = gone.into_iter().filter(|(key, _)| !front.cmps.contains_key(key)).collect();
        assert_eq!(gone.keys().collect::<Vec<_>>(), ["person_count", "person_image", "person_occupancy"]);
        let told = front.clone().with_stand_ins(&gone, &names);
        assert_eq!(told.cmps.len(), front.cmps.len() + 3);
        assert_eq!(told.cmps["person_image"].rest["uniq_id"], "retinad_pi-porch_front_person_image");
        let switch = stand_in("retinad_pi-porch_front", "detect", "switch", &names);
        assert_eq!(switch.rest["stat_t"], "retinad/pi-porch/bridge/response/nothing");
        let taken = front.clone().without(&gone);
        assert_eq!(encoded(&taken.cmps["person_image"]), br#"{"p":"image"}"#);
        assert_eq!(taken.cmps["cat_count"], front.cmps["cat_count"]);
    }

    #[test]
    fn no_message_of_a_removal_is_larger_than_its_limit() {
        let many: Vec<String> = (0..2000).map(|i| format!("a label of some length, number {i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (full, _) = device_of("pi-porch", "front", &labels(&many), &[]);
        let gone: Entities =
            (0..400).map(|i| (format!("gone_{i}_occupancy"), "binary_sensor".to_owned())).collect();
        for device in [full.clone(), Device::vanished("retinad_pi-porch_front", &names())] {
            let told = device.clone().with_stand_ins(&gone, &names());
            assert!(encoded(&told).len() <= limit());
            assert!(told.cmps.keys().filter(|key| key.starts_with("gone_")).count() > 300);
            assert!(encoded(&device.without(&gone)).len() <= limit());
        }
    }
}
