//! The product's own source of labels: annotations in COCO form and a folder of pictures.

use super::TuningError;
use super::hooks::{LabelSource, LabelledPicture, Rest, Truth};
use crate::capture::read_picture;
use crate::coco::Annotations;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

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
    /// [`TuningError::Coco`] if the file is refused, [`TuningError::Labels`] if no category is a class.
    pub fn read(annotations: &Path, folder: &Path, classes: &[String]) -> Result<Self, TuningError> {
        let file = Annotations::read(annotations)?;
        let class_of: HashMap<u64, usize> = file
            .categories
            .iter()
            .filter_map(|c| Some((c.id, classes.iter().position(|label| *label == c.name)?)))
            .collect();
        if class_of.is_empty() {
            let reason = format!("no category is one of the model's classes ({})", classes.join(", "));
            return Err(TuningError::Labels { path: annotations.display().to_string(), reason });
        }
        let mut truths: HashMap<u64, Vec<Truth>> = HashMap::new();
        for annotation in &file.annotations {
            let Some(&class) = class_of.get(&annotation.category_id) else { continue };
            let [x, y, w, h] = annotation.bbox;
            let ignore = annotation.iscrowd || annotation.ignore || annotation.difficult;
            let bbox = [x, y, x + w, y + h].map(|v| v as f32);
            truths.entry(annotation.image_id).or_default().push(Truth { class, bbox, ignore });
        }
        let with_truths =
            |image: crate::coco::Image| (image.file_name, truths.remove(&image.id).unwrap_or_default());
        Ok(Self {
            folder: folder.to_owned(),
            pictures: file.images.into_iter().rev().map(with_truths).collect(),
        })
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
        Ok(Some(LabelledPicture { name, picture, truths, rest: Rest::Background, false_alarms: Vec::new() }))
    }
}
