//! The product's own source of labels: annotations in COCO form and a folder of pictures.

use super::TuningError;
use super::hooks::{LabelSource, LabelledPicture, Truth};
use crate::capture::read_picture;
use crate::regular_file;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Largest annotations file.
const MAX_JSON: u64 = 256 << 20;
#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u64,
    bbox: [f32; 4],
    #[serde(default)]
    iscrowd: u8,
    #[serde(default)]
    ignore: u8,
}

/// Pictures of a folder with labels from a file in COCO form.
///
/// Categories are matched to classes by name. Boxes that are crowds, or to be ignored, teach nothing.
#[derive(Debug)]
pub struct CocoFolder {
    folder: PathBuf,
    /// The next one last.
    pictures: Vec<(String, Vec<Truth>)>,
}

impl CocoFolder {
    /// Reads `annotations`. `classes` are the names of the model's classes, new ones included; boxes of other
    /// categories are left out.
    ///
    /// # Errors
    /// [`TuningError::Labels`] if the file is not of the form, an id is there twice, a box names a picture or
    /// a category that is not there, a picture's name leads out of the folder, or no category is a class.
    pub fn read(annotations: &Path, folder: &Path, classes: &[String]) -> Result<Self, TuningError> {
        let refuse = |reason: String| TuningError::Labels { path: annotations.display().to_string(), reason };
        let bytes = regular_file::read(annotations, MAX_JSON).map_err(|error| refuse(error.to_string()))?;
        let file: File = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        let mut class_of = HashMap::new();
        for category in &file.categories {
            let class = classes.iter().position(|label| *label == category.name);
            if class_of.insert(category.id, class).is_some() {
                return Err(refuse(format!("category {} is there twice", category.id)));
            }
        }
        if class_of.values().all(Option::is_none) {
            return Err(refuse(format!(
                "no category is one of the model's classes ({})",
                classes.join(", ")
            )));
        }
        let mut places = HashMap::new();
        let mut pictures = Vec::with_capacity(file.images.len());
        let mut names = HashSet::new();
        for image in file.images {
            let plain = Path::new(&image.file_name).components().count() == 1
                && Path::new(&image.file_name).file_name().is_some();
            if !plain {
                return Err(refuse(format!(
                    "image {}: file_name {:?} must be a plain name",
                    image.id, image.file_name
                )));
            }
            if places.insert(image.id, pictures.len()).is_some() || !names.insert(image.file_name.clone()) {
                return Err(refuse(format!("image {} ({:?}) is there twice", image.id, image.file_name)));
            }
            pictures.push((image.file_name, Vec::new()));
        }
        for (at, annotation) in file.annotations.iter().enumerate() {
            let entry = |what: &str, id: u64| refuse(format!("annotations[{at}]: no {what} has the id {id}"));
            let place =
                places.get(&annotation.image_id).ok_or_else(|| entry("image", annotation.image_id))?;
            let class = class_of.get(&annotation.category_id);
            let class = class.ok_or_else(|| entry("category", annotation.category_id))?;
            let Some(class) = *class else { continue };
            let [x, y, w, h] = annotation.bbox;
            let ignore = annotation.iscrowd != 0 || annotation.ignore != 0;
            pictures[*place].1.push(Truth { class, bbox: [x, y, x + w, y + h], ignore });
        }
        pictures.reverse();
        Ok(Self { folder: folder.to_owned(), pictures })
    }

    /// Keeps the pictures that `wanted` accepts by name and boxes.
    pub fn retain(&mut self, mut wanted: impl FnMut(&str, &[Truth]) -> bool) {
        self.pictures.retain(|(name, truths)| wanted(name, truths));
    }

    /// Pictures that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pictures.is_empty()
    }
}

impl LabelSource for CocoFolder {
    fn next(&mut self) -> Result<Option<LabelledPicture>, TuningError> {
        let Some((name, truths)) = self.pictures.pop() else { return Ok(None) };
        let path = self.folder.join(&name);
        let picture = read_picture(&path)
            .map_err(|reason| TuningError::Labels { path: path.display().to_string(), reason })?;
        Ok(Some(LabelledPicture { name, picture, truths }))
    }
}
