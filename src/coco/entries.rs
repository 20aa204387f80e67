//! The JSON beneath: an object of arrays whose entries are objects, read one entry at a time.
//!
//! An entry's fields are taken as whatever JSON they are, so that a wrong one can be told with the entry's
//! number and id, and what is not asked for is skipped without being kept. Memory grows with what is kept,
//! not with what the file holds beside it.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt::{Formatter, Result as Written};

/// Numbers of an array that are kept: one more than a box has.
const MOST_NUMBERS: usize = 5;

/// A field as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field {
    Missing,
    Null,
    Flag(bool),
    Whole(u64),
    Real(f64),
    Text(String),
    /// An array; its first numbers, with none for what is no number.
    Array(Vec<Option<f64>>),
    Object,
}

impl Field {
    /// What it is, for a message.
    fn described(&self) -> String {
        match self {
            Self::Missing => "missing".into(),
            Self::Null => "null".into(),
            Self::Flag(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Real(number) => format!("{number:?}"),
            Self::Text(_) => "a text".into(),
            Self::Array(_) => "an array".into(),
            Self::Object => "an object".into(),
        }
    }
}

/// The fields that were asked for of one object, by key.
pub(super) struct Entry<const N: usize> {
    keys: [&'static str; N],
    fields: [Field; N],
}

impl<const N: usize> Entry<N> {
    /// A field; missing where it is not there.
    pub(super) fn field(&self, key: &str) -> &Field {
        self.keys.iter().position(|known| *known == key).map_or(&Field::Missing, |at| &self.fields[at])
    }

    /// A whole number from 0.
    pub(super) fn whole(&self, key: &str) -> Result<u64, String> {
        match self.field(key) {
            Field::Whole(number) => Ok(*number),
            other => Err(wrong(key, other, "a whole number from 0")),
        }
    }

    /// A number; whether it is in range is for whoever asks.
    pub(super) fn number(&self, key: &str) -> Result<f64, String> {
        match self.field(key) {
            Field::Whole(number) => Ok(*number as f64),
            Field::Real(number) => Ok(*number),
            other => Err(wrong(key, other, "a number")),
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self, key: &str) -> Result<String, String> {
        match self.field(key) {
            Field::Text(text) if text.is_empty() => Err(format!("{key} is empty")),
            Field::Text(text) => Ok(text.clone()),
            other => Err(wrong(key, other, "a text")),
        }
    }

    /// `0`, `1`, `false` or `true`; 0 where it is missing.
    pub(super) fn flag(&self, key: &str) -> Result<bool, String> {
        match self.field(key) {
            Field::Missing | Field::Whole(0) => Ok(false),
            Field::Whole(1) => Ok(true),
            Field::Flag(flag) => Ok(*flag),
            other => Err(wrong(key, other, "0 or 1")),
        }
    }

    /// Four numbers.
    pub(super) fn four(&self, key: &str) -> Result<[f64; 4], String> {
        const WANTED: &str = "an array of four numbers";
        match self.field(key) {
            Field::Array(numbers) => match numbers[..] {
                [Some(a), Some(b), Some(c), Some(d)] => Ok([a, b, c, d]),
                _ if numbers.len() == 4 => Err(format!("{key} holds what is no number, must be {WANTED}")),
                _ => {
                    let count =
                        if numbers.len() < MOST_NUMBERS { numbers.len().to_string() } else { "more".into() };
                    Err(format!("{key} holds {count}, must be {WANTED}"))
                }
            },
            other => Err(wrong(key, other, WANTED)),
        }
    }
}

fn wrong(key: &str, found: &Field, wanted: &str) -> String {
    format!("{key} is {}, must be {wanted}", found.described())
}

/// Where the reader stands, for what is no JSON at all.
#[derive(Default)]
pub(super) struct Place {
    list: Cell<&'static str>,
    index: Cell<Option<usize>>,
}

impl Place {
    /// `annotations[12]: `, or nothing outside of the arrays.
    pub(super) fn prefix(&self) -> String {
        match (self.list.get(), self.index.get()) {
            (list, Some(index)) => format!("{list}[{index}]: "),
            ("", None) => String::new(),
            (list, None) => format!("{list}: "),
        }
    }
}

/// Reads an array of objects and hands over each entry with its number.
pub(super) struct List<'a, const N: usize, F> {
    pub(super) name: &'static str,
    pub(super) keys: [&'static str; N],
    pub(super) place: &'a Place,
    pub(super) take: F,
}

impl<'de, const N: usize, F: FnMut(usize, &Entry<N>)> DeserializeSeed<'de> for List<'_, N, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.place.list.set(self.name);
        deserializer.deserialize_seq(self)
    }
}

impl<'de, const N: usize, F: FnMut(usize, &Entry<N>)> Visitor<'de> for List<'_, N, F> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> Written {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        for index in 0.. {
            self.place.index.set(Some(index));
            let Some(entry) = entries.next_element_seed(EntrySeed { keys: self.keys })? else { break };
            (self.take)(index, &entry);
        }
        self.place.index.set(None);
        self.place.list.set("");
        Ok(())
    }
}

struct EntrySeed<const N: usize> {
    keys: [&'static str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for EntrySeed<N> {
    type Value = Entry<N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entry<N>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for EntrySeed<N> {
    type Value = Entry<N>;

    fn expecting(&self, f: &mut Formatter<'_>) -> Written {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry<N>, A::Error> {
        let mut fields = [const { Field::Missing }; N];
        while let Some(known) = map.next_key_seed(KeySeed { keys: &self.keys })? {
            match known {
                Some(at) if fields[at] != Field::Missing => {
                    return Err(A::Error::custom(format_args!("`{}` stands twice", self.keys[at])));
                }
                Some(at) => fields[at] = map.next_value_seed(FieldSeed)?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Entry { keys: self.keys, fields })
    }
}

/// Reads a key: which of the known ones it is.
pub(super) struct KeySeed<'a> {
    pub(super) keys: &'a [&'static str],
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut Formatter<'_>) -> Written {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.keys.iter().position(|known| *known == key))
    }
}

struct FieldSeed;

impl<'de> DeserializeSeed<'de> for FieldSeed {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed {
    type Value = Field;

    fn expecting(&self, f: &mut Formatter<'_>) -> Written {
        f.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Field, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Field, E> {
        Ok(Field::Flag(flag))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Field, E> {
        Ok(Field::Whole(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Field, E> {
        Ok(u64::try_from(number).map_or(Field::Real(number as f64), Field::Whole))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Field, E> {
        Ok(Field::Real(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Field, A::Error> {
        let mut numbers = Vec::new();
        while numbers.len() < MOST_NUMBERS {
            match array.next_element_seed(FieldSeed)? {
                Some(Field::Whole(number)) => numbers.push(Some(number as f64)),
                Some(Field::Real(number)) => numbers.push(Some(number)),
                Some(_) => numbers.push(None),
                None => return Ok(Field::Array(numbers)),
            }
        }
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Array(numbers))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Object)
    }
}
