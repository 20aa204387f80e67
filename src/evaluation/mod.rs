//! How good detections are, by the truths that people drew: COCO's twelve numbers, operating points,
//! calibration, confusion, and how far chance alone moves them.
//!
//! Pictures are matched once ([`Evaluation::new`]); every number comes from those matches, also for any
//! choice of pictures with repetition ([`Evaluation::ap_of`]), which makes bootstrap intervals cheap. AP
//! and AR are those of pycocotools 2.0 (`COCOeval`, `bbox`), with its rules for crowds, ignored truths,
//! ties and areas; one difference: truths with id 0 count like all others. Ignored is what is a crowd,
//! `difficult` or `ignore` ([`pictures`]). Golden: `tests/golden/coco_eval.json`.
//!
//! Classes are numbers from 0, boxes `[x, y, width, height]` in pixels. Pure: no files, threads or clocks.

mod calibration;
mod charts;
mod confusion;
mod matching;
mod operating;
mod precision;
mod resample;

pub use calibration::{Bin, Calibration};
pub use charts::{Chart, charts};
pub use confusion::Confusion;
pub use operating::OperatingPoint;
pub use precision::{Ap, ClassAp, Summary};
pub use resample::{Interval, Intervals, Resamples};

use crate::coco::{Annotations, ResultEntry};
use matching::{Class, match_picture};
use std::collections::HashMap;

/// Something that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// Number of its class.
    pub class: usize,
    /// `[x, y, width, height]`, pixels.
    pub bbox: [f64; 4],
    /// Square pixels; decides whether it is small, medium or large.
    pub area: f64,
    /// Whether it stands for many: any number of detections may match it, by their share that lies in it.
    pub crowd: bool,
    /// Whether it counts neither as hit nor as miss, as crowds always do.
    pub ignored: bool,
}

/// Something that a detector says is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Number of its class.
    pub class: usize,
    /// `[x, y, width, height]`, pixels.
    pub bbox: [f64; 4],
    /// How sure it is, 0 to 1.
    pub score: f64,
}

/// A picture with what is there and what was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    /// What is there.
    pub truths: Vec<Truth>,
    /// What was found; among equal scores the first goes first.
    pub found: Vec<Found>,
}

/// The pictures of annotations by rising id, as COCO's tools take them, with the results in them. Class `i`
/// is the category with the `i`-th smallest id.
///
/// A truth is ignored if it is a crowd, `difficult` or `ignore`. Results of other pictures or categories are
/// left out; [`coco::read_results`](crate::coco::read_results) has refused those.
#[must_use]
pub fn pictures(annotations: &Annotations, results: &[ResultEntry]) -> Vec<Picture> {
    let mut ids: Vec<u64> = annotations.images.iter().map(|image| image.id).collect();
    ids.sort_unstable();
    let places: HashMap<u64, usize> = ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let classes: HashMap<u64, usize> =
        classes(annotations).into_iter().enumerate().map(|(class, (id, _))| (id, class)).collect();
    let mut pictures = vec![Picture::default(); ids.len()];
    for a in &annotations.annotations {
        if let (Some(&place), Some(&class)) = (places.get(&a.image_id), classes.get(&a.category_id)) {
            let ignored = a.iscrowd || a.ignore || a.difficult;
            let truth = Truth { class, bbox: a.bbox, area: a.area, crowd: a.iscrowd, ignored };
            pictures[place].truths.push(truth);
        }
    }
    for r in results {
        if let (Some(&place), Some(&class)) = (places.get(&r.image_id), classes.get(&r.category_id)) {
            pictures[place].found.push(Found { class, bbox: r.bbox, score: r.score });
        }
    }
    pictures
}

/// Id and name of each class of [`pictures`].
#[must_use]
pub fn classes(annotations: &Annotations) -> Vec<(u64, &str)> {
    let mut classes: Vec<(u64, &str)> =
        annotations.categories.iter().map(|category| (category.id, category.name.as_str())).collect();
    classes.sort_unstable();
    classes
}

/// What became of each detection of each picture; all numbers come from here.
#[derive(Debug, Clone)]
pub struct Evaluation {
    classes: Vec<Class>,
    pictures: usize,
}

impl Evaluation {
    /// Matches detections and truths of all pictures. Of a class in a picture the 100 best detections count.
    ///
    /// # Panics
    /// If a class is not below `classes`, or with 2³² pictures.
    #[must_use]
    pub fn new(pictures: &[Picture], classes: usize) -> Self {
        let mut matched = vec![Class::default(); classes];
        for (number, picture) in pictures.iter().enumerate() {
            match_picture(u32::try_from(number).expect("less than 2^32 pictures"), picture, &mut matched);
        }
        matched.iter_mut().for_each(Class::sort);
        Self { classes: matched, pictures: pictures.len() }
    }

    /// How many pictures there are.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.pictures
    }

    /// How many detections count: ignored ones too.
    #[must_use]
    pub fn detections(&self) -> usize {
        self.classes.iter().map(|class| class.rows.len()).sum()
    }
}

#[cfg(test)]
mod tests;
