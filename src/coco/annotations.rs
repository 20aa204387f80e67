//! Annotations: pictures, categories, and the boxes that people drew.

use super::entries::{Entry, Field, KeySeed, List, Place};
use super::{CocoError, Faults, MOST_OUTSIDE, PUBLIC, checked_box, parse, read_bytes, shown};
use crate::atomic_file;
use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::collections::{HashMap, HashSet};
use std::fmt::{Formatter, Result as Written};
use std::path::{Component, Path};

/// A picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Image {
    /// Unique among the pictures.
    pub id: u64,
    /// Path relative to the folder of pictures; never out of it.
    pub file_name: String,
    /// Pixels across, at least 1; 0 if it was not needed and not there.
    pub width: u32,
    /// Pixels down, at least 1; 0 if it was not needed and not there.
    pub height: u32,
}

/// A kind of thing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Category {
    /// Unique among the categories.
    pub id: u64,
    /// Unique, too, because models know it by its name.
    pub name: String,
}

/// A box that somebody drew.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Annotation {
    /// Unique among the annotations.
    pub id: u64,
    /// The picture it is in.
    pub image_id: u64,
    /// What it is.
    pub category_id: u64,
    /// `[x, y, width, height]`, pixels of the picture.
    pub bbox: [f64; 4],
    /// Square pixels; of the object, which may be less than the box.
    pub area: f64,
    /// Whether it stands for a crowd that was not taken apart.
    #[serde(serialize_with = "as_number")]
    pub iscrowd: bool,
    /// Whether it counts neither as hit nor as miss.
    #[serde(serialize_with = "as_number")]
    pub ignore: bool,
    /// VOC's mark for what even people find hard to see.
    #[serde(serialize_with = "as_number")]
    pub difficult: bool,
}

fn as_number<S: serde::Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(u8::from(*flag))
}

/// A file of annotations.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Annotations {
    /// Pictures, in the file's order.
    pub images: Vec<Image>,
    /// Categories, in the file's order.
    pub categories: Vec<Category>,
    /// Boxes, in the file's order.
    pub annotations: Vec<Annotation>,
}

impl Annotations {
    /// Reads a file of annotations, `.json` or `.json.gz`.
    ///
    /// # Errors
    /// [`CocoError`]: the first thing that is wrong.
    pub fn read(path: &Path) -> Result<Self, CocoError> {
        Self::from_slice(&shown(path), &read_bytes(path)?)
    }

    /// As [`Annotations::read`], of bytes that messages call `file`.
    ///
    /// # Errors
    /// [`CocoError`].
    pub fn from_slice(file: &str, bytes: &[u8]) -> Result<Self, CocoError> {
        parse_all(file, bytes, true)?.checked(file)
    }

    /// Reads only pictures and categories; what `annotations` holds, or whether it is there, does not matter,
    /// and a picture may lack its size.
    ///
    /// # Errors
    /// [`CocoError`].
    pub fn read_pictures(path: &Path) -> Result<Self, CocoError> {
        let file = shown(path);
        parse_all(&file, &read_bytes(path)?, false)?.checked(&file)
    }

    /// Writes the file whole or not at all, one entry a line; the same annotations give the same bytes.
    ///
    /// # Errors
    /// [`CocoError::Entry`] for what [`Annotations::read`] would refuse, and what the system says.
    pub fn write(&self, path: &Path) -> Result<(), CocoError> {
        let file = shown(path);
        self.check(&file)?;
        atomic_file::write(path, self.to_text().as_bytes(), PUBLIC)
            .map_err(|e| CocoError::File { file, reason: e.to_string() })
    }

    fn to_text(&self) -> String {
        let (images, categories) = (lines(&self.images), lines(&self.categories));
        let annotations = lines(&self.annotations);
        format!(
            "{{\n\"images\": {images},\n\"categories\": {categories},\n\"annotations\": {annotations}\n}}\n"
        )
    }

    fn checked(self, file: &str) -> Result<Self, CocoError> {
        self.check(file)?;
        Ok(self)
    }

    /// Finds what is wrong with each entry, and between entries.
    fn check(&self, file: &str) -> Result<(), CocoError> {
        let mut faults = Faults::default();
        let images = self.check_images(&mut faults);
        let categories = self.check_categories(&mut faults);
        let mut ids = HashSet::with_capacity(self.annotations.len());
        for (index, annotation) in self.annotations.iter().enumerate() {
            let id = annotation.id;
            let checked = if !ids.insert(id) {
                Err("another annotation has the same id".to_owned())
            } else {
                annotation.check(&images, &categories)
            };
            if let Err(reason) = checked {
                faults.add(ARRAYS[2], index, Some(id), reason);
            }
        }
        faults.into_result(file)
    }

    /// Gives the pictures by id.
    fn check_images(&self, faults: &mut Faults) -> HashMap<u64, &Image> {
        let mut by_id = HashMap::with_capacity(self.images.len());
        for (index, image) in self.images.iter().enumerate() {
            if by_id.insert(image.id, image).is_some() {
                faults.add(ARRAYS[0], index, Some(image.id), "another picture has the same id".into());
            } else if let Err(reason) = checked_name(&image.file_name) {
                faults.add(ARRAYS[0], index, Some(image.id), reason);
            }
        }
        by_id
    }

    /// Gives the ids of the categories.
    fn check_categories(&self, faults: &mut Faults) -> HashSet<u64> {
        let (mut ids, mut names) = (HashSet::new(), HashSet::new());
        for (index, Category { id, name }) in self.categories.iter().enumerate() {
            if !ids.insert(*id) {
                faults.add(ARRAYS[1], index, Some(*id), "another category has the same id".into());
            } else if !names.insert(name) {
                faults.add(ARRAYS[1], index, Some(*id), format!("another category is called {name}, too"));
            }
        }
        ids
    }
}

impl Annotation {
    fn check(&self, images: &HashMap<u64, &Image>, categories: &HashSet<u64>) -> Result<(), String> {
        let Some(image) = images.get(&self.image_id) else {
            return Err(format!("image_id {} is not among the pictures", self.image_id));
        };
        if !categories.contains(&self.category_id) {
            return Err(format!("category_id {} is not among the categories", self.category_id));
        }
        let [x, y, width, height] = checked_box(self.bbox)?;
        if !self.area.is_finite() || self.area < 0.0 {
            return Err(format!("area is {:?}, must be finite and not negative", self.area));
        }
        let (across, down) = (f64::from(image.width), f64::from(image.height));
        let outside = (-x).max(-y).max(x + width - across).max(y + height - down);
        if outside > MOST_OUTSIDE {
            return Err(format!(
                "bbox {:?} juts out of picture {} ({across} x {down}) by {outside:.1} pixels, at most \
                 {MOST_OUTSIDE} is allowed",
                self.bbox, image.id
            ));
        }
        Ok(())
    }
}

/// A name that leads to a file below the folder of pictures, whatever that is.
fn checked_name(name: &str) -> Result<(), String> {
    let path = Path::new(name);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside || name.contains('\0') || path.file_name().is_none() {
        return Err(format!(
            "file_name {name:?} must be a name below the folder of pictures, without .. and no absolute path"
        ));
    }
    Ok(())
}

fn lines<T: Serialize>(entries: &[T]) -> String {
    let line = |entry| serde_json::to_string(entry).expect("numbers and texts are always written");
    format!("[\n{}\n]", entries.iter().map(line).collect::<Vec<_>>().join(",\n"))
}

/// The arrays of a file, each field of its type. What hangs together between entries is not looked at yet:
/// a bad picture would make its boxes bad, too.
fn parse_all(file: &str, bytes: &[u8], with_boxes: bool) -> Result<Annotations, CocoError> {
    let place = Place::default();
    let mut reading = Reading {
        place: &place,
        with_boxes,
        read: Annotations::default(),
        faults: Faults::default(),
        seen: [false; 3],
    };
    parse(file, bytes, &place, &mut reading)?;
    let needed = if with_boxes { ARRAYS.len() } else { ARRAYS.len() - 1 };
    if let Some(missing) = (0..needed).find(|&at| !reading.seen[at]) {
        return Err(CocoError::Form {
            file: file.to_owned(),
            place: String::new(),
            reason: format!("no array `{}`", ARRAYS[missing]),
        });
    }
    reading.faults.into_result(file)?;
    Ok(reading.read)
}

const ARRAYS: [&str; 3] = ["images", "categories", "annotations"];

struct Reading<'a> {
    place: &'a Place,
    with_boxes: bool,
    read: Annotations,
    faults: Faults,
    seen: [bool; 3],
}

impl<'de> DeserializeSeed<'de> for &mut Reading<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Reading<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> Written {
        f.write_str("an object with images, categories and annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(known) = map.next_key_seed(KeySeed { keys: &ARRAYS })? {
            if let Some(at) = known
                && std::mem::replace(&mut self.seen[at], true)
            {
                return Err(A::Error::custom(format_args!("`{}` stands twice", ARRAYS[at])));
            }
            match known {
                Some(0) => self.images(&mut map)?,
                Some(1) => self.categories(&mut map)?,
                Some(2) if self.with_boxes => self.annotations(&mut map)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

impl Reading<'_> {
    fn images<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let (into, faults, sized) = (&mut self.read.images, &mut self.faults, self.with_boxes);
        map.next_value_seed(List {
            name: ARRAYS[0],
            keys: ["id", "file_name", "width", "height"],
            place: self.place,
            take: |index, entry: &Entry<4>| match image(entry, sized) {
                Ok(image) => into.push(image),
                Err(reason) => faults.add(ARRAYS[0], index, entry.whole("id").ok(), reason),
            },
        })
    }

    fn categories<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let (into, faults) = (&mut self.read.categories, &mut self.faults);
        map.next_value_seed(List {
            name: ARRAYS[1],
            keys: ["id", "name"],
            place: self.place,
            take: |index, entry: &Entry<2>| match category(entry) {
                Ok(category) => into.push(category),
                Err(reason) => faults.add(ARRAYS[1], index, entry.whole("id").ok(), reason),
            },
        })
    }

    fn annotations<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let (into, faults) = (&mut self.read.annotations, &mut self.faults);
        map.next_value_seed(List {
            name: ARRAYS[2],
            keys: ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore", "difficult"],
            place: self.place,
            take: |index, entry: &Entry<8>| match annotation(entry) {
                Ok(annotation) => into.push(annotation),
                Err(reason) => faults.add(ARRAYS[2], index, entry.whole("id").ok(), reason),
            },
        })
    }
}

fn image(entry: &Entry<4>, sized: bool) -> Result<Image, String> {
    let side = |key: &str| match entry.field(key) {
        Field::Missing | Field::Null if !sized => Ok(0),
        _ => match u32::try_from(entry.whole(key)?) {
            Ok(side) if side > 0 => Ok(side),
            _ => Err(format!("{key} is {}, must be 1 to {}", entry.whole(key)?, u32::MAX)),
        },
    };
    let (id, file_name) = (entry.whole("id")?, entry.text("file_name")?);
    Ok(Image { id, file_name, width: side("width")?, height: side("height")? })
}

fn category(entry: &Entry<2>) -> Result<Category, String> {
    Ok(Category { id: entry.whole("id")?, name: entry.text("name")? })
}

fn annotation(entry: &Entry<8>) -> Result<Annotation, String> {
    let bbox = entry.four("bbox")?;
    let area = match entry.field("area") {
        Field::Missing => bbox[2] * bbox[3],
        _ => entry.number("area")?,
    };
    Ok(Annotation {
        id: entry.whole("id")?,
        image_id: entry.whole("image_id")?,
        category_id: entry.whole("category_id")?,
        bbox,
        area,
        iscrowd: entry.flag("iscrowd")?,
        ignore: entry.flag("ignore")?,
        difficult: entry.flag("difficult")?,
    })
}
