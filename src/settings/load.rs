//! Loading: each entry is checked against the table, then the layers are merged.

use super::camera::CameraKind;
use super::entries::{self, Entry, Given, Lines};
use super::error::Place;
use super::keys::{self, CAMERA_KIND, CAMERAS, Key, NameRule, Named, SECTIONS};
use super::{MqttSettings, Settings, SettingsError, Source, file};
use config::{Map, Value, ValueKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Where the daemon looks when no `--config` is given.
pub const DEFAULT_FILE: &str = "/etc/retinad/retinad.toml";

/// What the names of the variables begin with.
pub const ENVIRONMENT_PREFIX: &str = "RETINAD__";

/// Loads the settings: defaults, `file` (or [`DEFAULT_FILE`] where it exists), environment, then `flags`
/// (`dotted.key` and value).
///
/// # Errors
/// The first thing wrong, see [`SettingsError`].
pub fn load(
    file: Option<&Path>,
    environment: &[(String, String)],
    flags: &[(String, String)],
) -> Result<Settings, SettingsError> {
    let path = match file {
        Some(path) => Some(path.to_path_buf()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()),
    };
    let text = path.as_deref().map_or_else(|| Ok(String::new()), file::read)?;
    load_text(&path.unwrap_or_default(), &text, environment, flags)
}

/// As [`load`], where the file at `path` holds `text`.
pub(super) fn load_text(
    path: &Path,
    text: &str,
    environment: &[(String, String)],
    flags: &[(String, String)],
) -> Result<Settings, SettingsError> {
    let lines = Lines::new(text);
    let document = DeTable::parse(text).map_err(|error| {
        let (line, column) = lines.position(error.span().map_or(0, |span| span.start));
        SettingsError::Parse { path: path.to_path_buf(), line, column, message: one_line(error.message()) }
    })?;
    let of_file = entries::of_file(document.get_ref(), &lines, path);
    let of_overrides = entries::of_environment(environment).chain(entries::of_flags(flags)).collect();
    merge(&[of_file, of_overrides])
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Checks the layers, the last of which wins, and merges them.
fn merge(layers: &[Vec<Entry<'_>>]) -> Result<Settings, SettingsError> {
    let cameras = Cameras::new(layers)?;
    let mut builder = config::Config::builder().add_source(cameras.as_layer());
    for entries in layers {
        let mut layer = Layer::default();
        for entry in entries {
            match entry.given {
                // It exists although no key may stand in it: the name of a rule is looked up in the model's labels.
                Given::Section => layer.insert_section(&entry.path),
                Given::Toml(..) | Given::Text(_) => layer.insert(&entry.path, check(entry, &cameras)?),
            }
        }
        builder = builder.add_source(layer);
    }
    let failed = |error: config::ConfigError| SettingsError::Merge(one_line(&error.to_string()));
    let settings: Settings = builder.build().map_err(failed)?.try_deserialize().map_err(failed)?;
    check_together(&settings, layers, &cameras)?;
    Ok(settings)
}

/// The value of an entry, if there is such a key and it allows that value.
fn check(entry: &Entry<'_>, cameras: &Cameras) -> Result<Value, SettingsError> {
    let key = find(entry, cameras)?;
    let read = match entry.given {
        Given::Toml(value, _) => key.value.read_toml(value),
        Given::Text(text) => key.value.read_text(text),
        Given::Section => None,
    };
    if let Some(source) = read.as_ref().and_then(|value| key.value.shape_error(value)) {
        return Err(SettingsError::Shape { place: entry.place.clone(), key: entry.dotted(), source });
    }
    match read.filter(|value| key.value.allows(value)) {
        Some(value) => Ok(Value::new(Some(&entry.place.to_string()), value)),
        None => Err(not_allowed(entry, key)),
    }
}

/// The key of the table that an entry names.
fn find(entry: &Entry<'_>, cameras: &Cameras) -> Result<&'static Key, SettingsError> {
    let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
    let (section, name) = match path[..] {
        [CAMERAS] | [CAMERAS, _] => return Err(not_a_section(entry)),
        [CAMERAS, id, name, ..] => match (keys::named(name), &path[3..]) {
            (None, []) => return find_camera_key(entry, cameras.get(id), name),
            (Some(_), [] | [_]) => return Err(not_a_section(entry)),
            (Some(named), [_, name]) => return find_named_key(entry, named, name),
            _ => return Err(unknown(entry, top_level())),
        },
        [name] if !name.is_empty() && SECTIONS.iter().any(|section| section.name == name) => {
            return Err(not_a_section(entry));
        }
        [name] => ("", name),
        [section, name] if keys::subsection(section, name).is_some() => return Err(not_a_section(entry)),
        [section, name] if !section.is_empty() => (section, name),
        [section, below, name] => match keys::subsection(section, below) {
            Some(section) => (section.name, name),
            None => return Err(unknown(entry, top_level())),
        },
        _ => return Err(unknown(entry, top_level())),
    };
    let Some(section) = SECTIONS.iter().find(|known| known.name == section) else {
        return Err(unknown(entry, top_level()));
    };
    section.keys.iter().find(|key| key.name == name).ok_or_else(|| {
        let header = format!("[{}]", section.name);
        unknown(entry, if section.name.is_empty() { top_level() } else { has(&header, section.keys.iter()) })
    })
}

fn find_camera_key(entry: &Entry<'_>, camera: &Camera, name: &str) -> Result<&'static Key, SettingsError> {
    if name == CAMERA_KIND.name {
        return Ok(&CAMERA_KIND);
    }
    let known = || keys::camera_keys(camera.kind).iter().chain(keys::common_camera_keys());
    if let Some(key) = known().find(|key| key.name == name) {
        return Ok(key);
    }
    let has_it = |kind: &CameraKind| keys::camera_keys(*kind).iter().any(|key| key.name == name);
    let belongs_to: Vec<CameraKind> = CameraKind::ALL.iter().copied().filter(has_it).collect();
    if belongs_to.is_empty() {
        let section = format!("a camera of kind \"{}\"", camera.kind.as_str());
        let groups =
            keys::NAMED.iter().map(|named| format!("[{CAMERAS}.<id>.{}.<{}>]", named.name, named.of));
        let groups = groups.collect::<Vec<_>>().join(", ");
        let has = has(&section, std::iter::once(&CAMERA_KIND).chain(known()));
        return Err(unknown(entry, format!("{has}, and below it {groups}")));
    }
    Err(SettingsError::OtherKind {
        place: entry.place.clone(),
        key: entry.dotted(),
        belongs_to,
        kind: camera.kind,
        kind_place: camera.kind_place.clone(),
    })
}

fn find_named_key(
    entry: &Entry<'_>,
    named: &'static Named,
    name: &str,
) -> Result<&'static Key, SettingsError> {
    let header = format!("[{CAMERAS}.<id>.{}.<{}>]", named.name, named.of);
    let found = named.keys.iter().find(|key| key.name == name);
    found.ok_or_else(|| unknown(entry, has(&header, named.keys.iter())))
}

fn not_allowed(entry: &Entry<'_>, key: &Key) -> SettingsError {
    let (place, name) = (entry.place.clone(), entry.dotted());
    SettingsError::Value { place, key: name, value: entry.shown(key), allowed: key.allowed() }
}

fn not_a_section(entry: &Entry<'_>) -> SettingsError {
    SettingsError::NotASection { place: entry.place.clone(), key: entry.dotted() }
}

fn unknown(entry: &Entry<'_>, known: String) -> SettingsError {
    SettingsError::UnknownKey { place: entry.place.clone(), key: entry.dotted(), known }
}

/// `[health] has interval_s`.
fn has(section: &str, keys: impl Iterator<Item = &'static Key>) -> String {
    format!("{section} has {}", keys.map(|key| key.name).collect::<Vec<_>>().join(", "))
}

/// What may stand above all sections.
fn top_level() -> String {
    let (above, sections): (Vec<_>, Vec<_>) = SECTIONS.iter().partition(|section| section.name.is_empty());
    let keys = above.iter().flat_map(|section| section.keys).map(|key| key.name.to_owned());
    let sections = sections.iter().map(|section| format!("[{}]", section.name));
    let all: Vec<String> = keys.chain(sections).chain([format!("[{CAMERAS}.<id>]")]).collect();
    format!("there are {}", all.join(", "))
}

/// The cameras that the layers name, known before their keys are checked: the kind decides which keys there
/// are.
struct Cameras(BTreeMap<String, Camera>);

/// What the layers say of one camera's kind.
struct Camera {
    /// Where the camera is first named.
    place: Place,
    kind: CameraKind,
    kind_place: Place,
}

impl Cameras {
    fn new(layers: &[Vec<Entry<'_>>]) -> Result<Self, SettingsError> {
        let mut cameras = BTreeMap::new();
        let mut groups = Groups::default();
        for entry in layers.iter().flatten() {
            let id = match (&entry.path[..], &entry.given) {
                ([section, id], Given::Section) | ([section, id, _, ..], _) if section == CAMERAS => id,
                _ => continue,
            };
            if !keys::is_camera_id(id) {
                return Err(SettingsError::CameraId {
                    place: entry.place.clone(),
                    id: entries::shortened(id),
                });
            }
            let camera = cameras.entry(id.clone()).or_insert_with(|| Camera {
                place: entry.place.clone(),
                kind: Source::default().kind(),
                kind_place: Place::Default,
            });
            check_name(id, entry)?;
            groups.check(entry)?;
            if entry.path.len() == 3 && entry.path[2] == CAMERA_KIND.name {
                camera.kind = kind(entry)?;
                camera.kind_place = entry.place.clone();
            }
        }
        Ok(Self(cameras))
    }

    fn get(&self, id: &str) -> &Camera {
        &self.0[id]
    }

    /// Every camera with its kind, so that a camera without keys is one, too, and serde finds the kind of
    /// each.
    fn as_layer(&self) -> Layer {
        let mut layer = Layer::default();
        for (id, camera) in &self.0 {
            let path = [CAMERAS, id, CAMERA_KIND.name].map(str::to_owned);
            layer.insert(&path, Value::new(None, camera.kind.as_str()));
        }
        layer
    }
}

/// Names that stand in the settings so far, by the dotted name of their group: cameras, and a camera's zones, lines
/// and masks. Rules are as many at most as the model has labels.
#[derive(Default)]
struct Groups<'a>(BTreeMap<String, BTreeSet<&'a str>>);

impl<'a> Groups<'a> {
    /// Refuses an entry that names one more than a group may have.
    fn check(&mut self, entry: &'a Entry<'_>) -> Result<(), SettingsError> {
        // Names stand at every second place: `cameras.front.zones.drive`.
        for at in (1..entry.path.len().min(4)).step_by(2) {
            let most = match keys::named(&entry.path[at - 1]) {
                _ if at == 1 => keys::MOST_CAMERAS,
                Some(named) if named.names == NameRule::Free => keys::MOST_NAMED,
                _ => continue,
            };
            let group = entry.path[..at].join(".");
            let names = self.0.entry(group.clone()).or_default();
            names.insert(&entry.path[at]);
            if names.len() > most {
                return Err(SettingsError::TooMany { place: entry.place.clone(), group, most });
            }
        }
        Ok(())
    }
}

/// Refuses a zone, line, mask or label that cannot have its name.
fn check_name(camera: &str, entry: &Entry<'_>) -> Result<(), SettingsError> {
    let [_, _, group, name, ..] = &entry.path[..] else { return Ok(()) };
    match keys::named(group) {
        Some(named) if !named.names.holds(name) => Err(SettingsError::Name {
            place: entry.place.clone(),
            camera: camera.to_owned(),
            of: named.of,
            name: entries::shortened(name),
            rule: named.names,
        }),
        _ => Ok(()),
    }
}

/// The kind that an entry for `kind` gives.
fn kind(entry: &Entry<'_>) -> Result<CameraKind, SettingsError> {
    let given = match entry.given {
        Given::Toml(toml::de::DeValue::String(text), _) => Some(text.as_ref()),
        Given::Text(text) => Some(text),
        Given::Toml(..) | Given::Section => None,
    };
    let found = CameraKind::ALL.iter().copied().find(|kind| given == Some(kind.as_str()));
    found.ok_or_else(|| not_allowed(entry, &CAMERA_KIND))
}

/// Checked values as a source for the `config` crate, which lays the layers over each other.
#[derive(Debug, Clone, Default)]
struct Layer(Map<String, Value>);

impl Layer {
    fn insert(&mut self, path: &[String], value: Value) {
        insert(&mut self.0, path, value);
    }

    /// An empty table at `path`, unless one is there.
    fn insert_section(&mut self, path: &[String]) {
        section(&mut self.0, path);
    }
}

fn insert(into: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((name, above)) = path.split_last() else { return };
    if let Some(table) = section(into, above) {
        table.insert(name.clone(), value);
    }
}

/// The table at `path`, made if need be; none where a value stands in its way.
fn section<'a>(within: &'a mut Map<String, Value>, path: &[String]) -> Option<&'a mut Map<String, Value>> {
    let Some((name, rest)) = path.split_first() else { return Some(within) };
    let below = within.entry(name.clone()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
    match &mut below.kind {
        ValueKind::Table(below) => section(below, rest),
        _ => None,
    }
}

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// What no key says alone: which keys must be given, and which exclude each other.
fn check_together(
    settings: &Settings,
    layers: &[Vec<Entry<'_>>],
    cameras: &Cameras,
) -> Result<(), SettingsError> {
    let places: BTreeMap<String, &Place> =
        layers.iter().flatten().map(|entry| (entry.dotted(), &entry.place)).collect();
    check_broker(&settings.mqtt, &places)?;
    check_given(layers, &places)?;
    for (id, camera) in &cameras.0 {
        let dotted = |name: &str| format!("{CAMERAS}.{id}.{name}");
        for key in keys::camera_keys(camera.kind) {
            if key.must_be_given() && !places.contains_key(&dotted(key.name)) {
                let (place, key, meaning) = (camera.place.clone(), dotted(key.name), key.paragraph());
                return Err(SettingsError::Missing { place, key, meaning });
            }
        }
        let Some(Source::Stream(stream)) = settings.cameras.get(id).map(|camera| &camera.source) else {
            continue;
        };
        match (stream.url.is_empty(), stream.command.is_empty()) {
            (true, true) => {
                let meaning = "a stream has exactly one of url and command".to_owned();
                return Err(SettingsError::Missing {
                    place: camera.place.clone(),
                    key: dotted("url"),
                    meaning,
                });
            }
            (false, false) => {
                let place = places.get(&dotted("command")).map_or(&camera.place, |place| *place).clone();
                return Err(SettingsError::Both { place, key: dotted("command"), other: dotted("url") });
            }
            (true, false) | (false, true) => {}
        }
    }
    Ok(())
}

/// Refuses a zone, line or mask whose corners nobody gave.
fn check_given(layers: &[Vec<Entry<'_>>], places: &BTreeMap<String, &Place>) -> Result<(), SettingsError> {
    for entry in layers.iter().flatten() {
        let [_, id, group, name, ..] = &entry.path[..] else { continue };
        let Some(named) = keys::named(group) else { continue };
        for key in named.keys.iter().filter(|key| key.must_be_given()) {
            let dotted = entries::dotted(&[CAMERAS, id, group, name, key.name].map(str::to_owned));
            if !places.contains_key(&dotted) {
                let (place, meaning) = (entry.place.clone(), key.paragraph());
                return Err(SettingsError::Missing { place, key: dotted, meaning });
            }
        }
    }
    Ok(())
}

/// Keys of the broker that have no meaning alone.
fn check_broker(mqtt: &MqttSettings, places: &BTreeMap<String, &Place>) -> Result<(), SettingsError> {
    let is_set = |path: &Path| !path.as_os_str().is_empty();
    let (cert, key) = (is_set(&mqtt.client_cert_file), is_set(&mqtt.client_key_file));
    let needed = [
        (
            is_set(&mqtt.password_file) && mqtt.username.is_empty(),
            "password_file",
            "username",
            "the user's name",
        ),
        (mqtt.tls && mqtt.host.is_empty(), "tls", "host", "the embedded broker speaks no TLS"),
        (is_set(&mqtt.ca_file) && !mqtt.tls, "ca_file", "tls", "true, or the file is of no use"),
        (cert && !mqtt.tls, "client_cert_file", "tls", "true, or the file is of no use"),
        (key && !mqtt.tls, "client_key_file", "tls", "true, or the file is of no use"),
        (cert && !key, "client_cert_file", "client_key_file", "the key of that certificate"),
        (key && !cert, "client_key_file", "client_cert_file", "the certificate of that key"),
        (
            is_below(&mqtt.homeassistant.prefix, &mqtt.base),
            "homeassistant.prefix",
            "base",
            "no first levels of that prefix, or the topics of the one are taken for the other's",
        ),
    ];
    let Some((_, key, other, meaning)) = needed.into_iter().find(|(is_wrong, ..)| *is_wrong) else {
        return Ok(());
    };
    let (key, other) = (format!("mqtt.{key}"), format!("mqtt.{other}"));
    let place = places.get(&key).map_or(Place::Default, |place| (*place).clone());
    Err(SettingsError::Needs { place, key, other, meaning })
}

/// Whether these levels of a topic begin with those and go on.
fn is_below(levels: &str, those: &str) -> bool {
    levels.strip_prefix(those).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
