//! Samples to and from one COCO file, which labelling tools read and write.

use super::SampleId;
use super::record::{Label, Origin, RecordError, Sample, checked_label};
use crate::coco::{Annotation, Annotations, Category, Image};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One file of all samples. `suggest`: where nobody has labelled a picture, what the model told there stands
/// as if somebody had, to be corrected.
#[must_use]
pub fn exported(samples: &[Sample], suggest: bool) -> Annotations {
    let boxes = |sample: &Sample| -> Vec<(String, [f32; 4], bool)> {
        if suggest && !sample.is_labelled() {
            return sample.told().map(|found| (found.label.clone(), found.bbox, false)).collect();
        }
        sample.labels.iter().map(|label| (label.label.clone(), label.bbox, label.ignore)).collect()
    };
    // Every label that a picture of these may get, not only those that one has already.
    let found = samples.iter().flat_map(|sample| sample.found.iter().map(|found| found.label.clone()));
    let labelled = samples.iter().flat_map(|sample| sample.labels.iter().map(|label| label.label.clone()));
    let names: BTreeSet<String> = found.chain(labelled).collect();
    let ids: BTreeMap<&str, u64> = names.iter().map(String::as_str).zip(1..).collect();
    let mut file = Annotations::default();
    for (sample, image_id) in samples.iter().zip(1..) {
        let (width, height) = (sample.width, sample.height);
        file.images.push(Image { id: image_id, file_name: format!("{}.jpg", sample.id), width, height });
        for (label, [x1, y1, x2, y2], ignore) in boxes(sample) {
            let bbox = [x1, y1, x2 - x1, y2 - y1].map(f64::from);
            file.annotations.push(Annotation {
                id: file.annotations.len() as u64 + 1,
                image_id,
                category_id: ids.get(label.as_str()).copied().unwrap_or(0),
                bbox,
                area: bbox[2] * bbox[3],
                iscrowd: false,
                ignore,
                difficult: false,
            });
        }
    }
    file.categories = ids.iter().map(|(name, id)| Category { id: *id, name: (*name).to_owned() }).collect();
    file
}

/// A picture of a file that is read, with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedPicture {
    /// Its number in the file.
    pub index: usize,
    /// As the file names it.
    pub file_name: String,
    /// The sample of that name, which may or may not be there.
    pub id: Option<SampleId>,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Everything in it.
    pub labels: Vec<Label>,
}

/// The pictures of a file with their labels.
///
/// # Errors
/// A line that names the category.
pub fn imported(file: &Annotations) -> Result<Vec<ImportedPicture>, RecordError> {
    let mut labels = BTreeMap::new();
    for (i, category) in file.categories.iter().enumerate() {
        let label = checked_label(&category.name)
            .map_err(|RecordError(reason)| RecordError(format!("categories[{i}]: {reason}")))?;
        labels.insert(category.id, label);
    }
    let mut boxes: BTreeMap<u64, Vec<Label>> = BTreeMap::new();
    for annotation in &file.annotations {
        let [x, y, width, height] = annotation.bbox;
        boxes.entry(annotation.image_id).or_default().push(Label {
            label: labels.get(&annotation.category_id).cloned().unwrap_or_default(),
            bbox: [x, y, x + width, y + height].map(|v| v as f32),
            origin: Origin::Import,
            ignore: annotation.iscrowd || annotation.ignore || annotation.difficult,
        });
    }
    let picture = |(index, image): (usize, &Image)| {
        let stem = Path::new(&image.file_name).file_stem().unwrap_or_default().to_string_lossy();
        ImportedPicture {
            index,
            file_name: image.file_name.clone(),
            id: stem.parse().ok(),
            width: image.width,
            height: image.height,
            labels: boxes.remove(&image.id).unwrap_or_default(),
        }
    };
    Ok(file.images.iter().enumerate().map(picture).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::record::Verdicts;
    use crate::samples::record::tests::sample;

    #[test]
    fn labels_come_back_as_they_went() {
        let samples = [sample(0), Sample { labels: Vec::new(), verdicts: Verdicts::Whole, ..sample(1) }];
        let pictures = imported(&exported(&samples, false)).expect("our own");
        assert_eq!(pictures.len(), 2);
        for (picture, sample) in pictures.iter().zip(&samples) {
            assert_eq!(picture.id.as_ref(), Some(&sample.id));
            let expected =
                sample.labels.iter().map(|label| Label { origin: Origin::Import, ..label.clone() });
            assert_eq!(picture.labels, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn suggestions_are_what_was_told_where_nobody_spoke() {
        let told = |score| {
            let mut one = Sample { labels: Vec::new(), verdicts: Verdicts::None, ..sample(0) };
            (one.found[0].score, one.found[0].told) = (score, score > one.threshold);
            exported(&[one], true).annotations.len()
        };
        assert_eq!([told(0.4), told(0.6)], [0, 1]);
        assert_eq!(exported(&[sample(0)], true).annotations.len(), 2, "labels stay");
        let names: Vec<_> = exported(&[sample(0)], false).categories.into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["background", "cat", "dog"]);
    }
}
