//! What was set, before it is checked: one entry for each key in the file, the environment and the flags,
//! with its place.

use super::error::Place;
use super::keys::{self, CAMERAS, SECTIONS};
use super::value::{TextRule, ValueType};
use super::{ENVIRONMENT_PREFIX, SettingsError};
use crate::secret::redacted;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// A key that somebody set.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// `["detector", "workers"]`, `["cameras", "front", "fps"]`; nothing says yet that there is such a key.
    pub(super) path: Vec<String>,
    /// What it was set to.
    pub(super) given: Given<'a>,
    /// Where.
    pub(super) place: Place,
}

/// What a key was set to.
#[derive(Debug)]
pub(super) enum Given<'a> {
    /// A section began here; its keys are entries of their own.
    Section,
    /// A value in the file, and how it is written there.
    Toml(&'a DeValue<'a>, &'a str),
    /// A variable or flag.
    Text(&'a str),
}

/// Most characters of a value that an error shows.
const SHOWN: usize = 60;

impl Entry<'_> {
    /// The path as a person writes it: `cameras.front.fps`.
    pub(super) fn dotted(&self) -> String {
        dotted(&self.path)
    }

    /// The value in an error: as it was written, on one line, and not at all where it may hold a password.
    pub(super) fn shown(&self, key: &keys::Key) -> String {
        if !key.value.may_be_shown() {
            return "<not shown>".into();
        }
        if let (Given::Toml(DeValue::Array(_), _), false) =
            (&self.given, matches!(key.value, ValueType::Words(_) | ValueType::Labels))
        {
            // Somebody meant something else by it, and there is no telling what it holds.
            return "a list".into();
        }
        let (written, quoted) = match self.given {
            Given::Section | Given::Toml(DeValue::Table(_), _) => return "a section".into(),
            Given::Toml(_, written) => (written, false),
            Given::Text(text) => (text, text.is_empty() || key.value.is_text()),
        };
        // An address with user and password in place of a host.
        if matches!(key.value, ValueType::Text(TextRule::HostOrEmpty)) && written.contains(['@', '?']) {
            return "<not shown>".into();
        }
        let quote = if quoted { "\"" } else { "" };
        format!("{quote}{}{quote}", shortened(written))
    }
}

/// A dotted key; what could break a line of the log is escaped, and no part is longer than a value.
pub(super) fn dotted(path: &[String]) -> String {
    path.iter().map(|part| shortened(part)).collect::<Vec<_>>().join(".")
}

/// At most [`SHOWN`] characters, on one line. Secrets are taken out first: of an address that is cut before its
/// `@` nobody would see that it holds a password.
pub(super) fn shortened(text: &str) -> String {
    let text = redacted(text);
    let mut shown: String = text.chars().take(SHOWN).flat_map(escaped).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Control characters as `\n` and the like, all others as they are.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let control = character.is_control().then(|| character.escape_default());
    let plain = (!character.is_control()).then_some(character);
    control.into_iter().flatten().chain(plain)
}

/// The position of an offset in a text, found without counting its lines anew each time.
pub(super) struct Lines<'a> {
    text: &'a str,
    /// Offset of the first byte of each line.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Self { text, starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    /// Line, and column in characters, both from 1.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        (line, self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1)
    }
}

/// The entries of a parsed file, in the order in which they stand there.
pub(super) fn of_file<'a>(table: &'a DeTable<'a>, lines: &Lines<'a>, path: &Path) -> Vec<Entry<'a>> {
    let mut found = Found { lines, path, entries: Vec::new() };
    for (name, value) in table {
        let is_section = SECTIONS.iter().any(|section| section.name == name.get_ref());
        match value.get_ref() {
            DeValue::Table(keys) if is_section => found.section(&[], name, keys),
            DeValue::Table(cameras) if name.get_ref() == CAMERAS => {
                for (id, camera) in cameras {
                    match camera.get_ref() {
                        DeValue::Table(keys) => found.camera(id, keys),
                        _ => found.value(&[CAMERAS], id, camera),
                    }
                }
            }
            _ => found.value(&[], name, value),
        }
    }
    found.entries.sort_by_key(|(offset, _)| *offset);
    found.entries.into_iter().map(|(_, entry)| entry).collect()
}

/// Entries with the offset of their key.
struct Found<'a, 'l> {
    lines: &'l Lines<'a>,
    path: &'l Path,
    entries: Vec<(usize, Entry<'a>)>,
}

impl<'a> Found<'a, '_> {
    /// The section `name`, and each of its keys.
    fn section(&mut self, above: &[&str], name: &'a Spanned<DeString<'a>>, keys: &'a DeTable<'a>) {
        self.push(above, name, Given::Section);
        let above: Vec<&str> = above.iter().copied().chain([name.get_ref().as_ref()]).collect();
        for (key, value) in keys {
            match value.get_ref() {
                DeValue::Table(below) if keys::subsection(&above.join("."), key.get_ref()).is_some() => {
                    self.section(&above, key, below);
                }
                _ => self.value(&above, key, value),
            }
        }
    }

    /// The camera `id`: its keys, and what stands below it by name.
    fn camera(&mut self, id: &'a Spanned<DeString<'a>>, keys: &'a DeTable<'a>) {
        self.push(&[CAMERAS], id, Given::Section);
        for (key, value) in keys {
            let above = [CAMERAS, id.get_ref().as_ref()];
            match value.get_ref() {
                DeValue::Table(below) if keys::named(key.get_ref()).is_some() => {
                    let above = [CAMERAS, id.get_ref().as_ref(), key.get_ref().as_ref()];
                    for (name, value) in below {
                        match value.get_ref() {
                            DeValue::Table(keys) => self.section(&above, name, keys),
                            _ => self.value(&above, name, value),
                        }
                    }
                }
                _ => self.value(&above, key, value),
            }
        }
    }

    fn value(&mut self, above: &[&str], name: &'a Spanned<DeString<'a>>, value: &'a Spanned<DeValue<'a>>) {
        let written = self.lines.text.get(value.span()).unwrap_or_default();
        self.push(above, name, Given::Toml(value.get_ref(), written));
    }

    fn push(&mut self, above: &[&str], name: &Spanned<DeString<'_>>, given: Given<'a>) {
        let offset = name.span().start;
        let (line, _) = self.lines.position(offset);
        let path = above.iter().copied().chain([name.get_ref().as_ref()]).map(str::to_owned).collect();
        let place = Place::Line { path: self.path.to_path_buf(), line };
        self.entries.push((offset, Entry { path, given, place }));
    }
}

/// The entries of the variables `RETINAD__SECTION__KEY`.
pub(super) fn of_environment(environment: &[(String, String)]) -> impl Iterator<Item = Entry<'_>> {
    environment.iter().filter_map(|(name, value)| {
        let key = name.strip_prefix(ENVIRONMENT_PREFIX)?.to_ascii_lowercase();
        let place = Place::Variable(shortened(name));
        Some(Entry { path: split(&key, "__"), given: Given::Text(value), place })
    })
}

/// The entries of the flags, `dotted.key` and value.
pub(super) fn of_flags(flags: &[(String, String)]) -> impl Iterator<Item = Entry<'_>> {
    flags.iter().map(|(key, value)| {
        let place = Place::Flag(key.clone());
        Entry { path: split(key, "."), given: Given::Text(value), place }
    })
}

/// A key to its parts. A camera's id is what stands between `cameras` and the key, or the name of a group such as
/// `zones`, since it may hold `__` itself.
fn split(key: &str, separator: &str) -> Vec<String> {
    let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    let camera = key.strip_prefix(CAMERAS).and_then(|rest| rest.strip_prefix(separator));
    let Some((id, name)) = camera.and_then(|rest| rest.rsplit_once(separator)) else {
        return key.split(separator).map(str::to_owned).collect();
    };
    for named in &keys::NAMED {
        let within = id.split_once(&format!("{separator}{}{separator}", named.name));
        if let Some((id, below)) = within.filter(|(id, below)| !id.is_empty() && !below.is_empty()) {
            return owned(&[CAMERAS, id, named.name, below, name]);
        }
    }
    owned(&[CAMERAS, id, name])
}

/// The environment as text, for [`load()`](super::load()). Variables that are none of ours may be anything.
///
/// # Errors
/// [`SettingsError::VariableNotUtf8`] for one of ours.
pub fn environment() -> Result<Vec<(String, String)>, SettingsError> {
    let mut found = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) else { continue };
        let value =
            value.into_string().map_err(|_| SettingsError::VariableNotUtf8 { name: name.to_owned() })?;
        found.push((name.to_owned(), value));
    }
    Ok(found)
}
