//! The daemon's own source of labels: the samples that it kept, with what people said about them.
//!
//! Of the samples about which everything is known a quarter is held out: the tuned model is judged by
//! pictures that it has not learned from. Which ones follows from camera and time alone, so that they are
//! the same ones in each tuning, and frames that follow each other within five seconds stand on the same
//! side.

use super::TuningError;
use super::features::MAX_TRUTHS;
use super::hooks::{FalseAlarm, LabelSource, LabelledPicture, Rest, Truth};
use crate::frame::{Encoding, RawFrame};
use crate::image::turn_of_file;
use crate::retinanet::nms::iou;
use crate::samples::{BACKGROUND, Found, Sample, SampleId, Store, Verdicts};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Of 256 groups of samples this many are held out: a quarter.
const HELD_OUT: u8 = 64;
/// Frames of one camera within this many seconds are of one group.
const GROUP_SECONDS: u32 = 5;
/// From this overlap a box of a person speaks about a box that was found.
pub(super) const SAME: f32 = 0.5;

/// What people say about a label, over some samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spoken {
    /// Boxes of it.
    pub boxes: usize,
    /// Detections told as it that people say are none.
    pub false_alarms: usize,
}

/// Labelled samples of a store; pictures are read one by one.
#[derive(Debug)]
pub struct KeptSamples {
    store: Store,
    /// The oldest first.
    samples: Vec<Sample>,
}

impl KeptSamples {
    /// Reads what is known of every labelled sample, and gives it with a line for each one that cannot be
    /// read, which is left out.
    ///
    /// # Errors
    /// [`TuningError::Nothing`] if the folder cannot be read.
    pub fn read(store: &Store) -> Result<(Self, Vec<String>), TuningError> {
        let entries = store.entries().map_err(|error| TuningError::Nothing(error.to_string()))?;
        let (mut samples, mut refused) = (Vec::new(), Vec::new());
        for entry in entries {
            match store.read(&entry.id) {
                Ok(sample) if sample.is_labelled() => samples.push(sample),
                Ok(_) => {}
                Err(error) => refused.push(error.to_string()),
            }
        }
        Ok((Self { store: store.clone(), samples }, refused))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Their names.
    pub fn ids(&self) -> impl Iterator<Item = &SampleId> {
        self.samples.iter().map(|sample| &sample.id)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Parts them into those to learn from and those to judge by. Of each the newest `most` stay.
    #[must_use]
    pub fn part(self, most: usize) -> (Self, Self) {
        let (held_out, learned): (Vec<_>, Vec<_>) = self.samples.into_iter().partition(is_held_out);
        let newest = |mut samples: Vec<Sample>| samples.split_off(samples.len().saturating_sub(most));
        let of = |samples| Self { store: self.store.clone(), samples: newest(samples) };
        (of(learned), of(held_out))
    }

    /// What is said about each label; [`BACKGROUND`] is none.
    #[must_use]
    pub fn spoken(&self) -> BTreeMap<String, Spoken> {
        let mut spoken = BTreeMap::<String, Spoken>::new();
        for sample in &self.samples {
            for label in sample.labels.iter().filter(|label| label.label != BACKGROUND && !label.ignore) {
                spoken.entry(label.label.clone()).or_default().boxes += 1;
            }
            for found in false_alarms(sample) {
                spoken.entry(found.label.clone()).or_default().false_alarms += 1;
            }
        }
        spoken
    }

    /// The times of the first and the last sample, RFC 3339, where one is known.
    #[must_use]
    pub fn times(&self) -> [Option<String>; 2] {
        let known = || self.samples.iter().map(|sample| &sample.captured).filter(|time| !time.is_empty());
        [known().min().cloned(), known().max().cloned()]
    }

    /// The pictures with their boxes of `classes`; boxes of other labels are background for these.
    #[must_use]
    pub fn source<'a>(&'a self, classes: &'a [String]) -> KeptSource<'a> {
        KeptSource { kept: self, classes, next: 0 }
    }
}

/// Whether the sample judges and is not learned from. About a sample with single verdicts too little is known
/// to judge by it.
fn is_held_out(sample: &Sample) -> bool {
    let id = sample.id.as_str();
    let mut parts = id.splitn(4, '-');
    let group = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(date), Some(time), Some(_), Some(camera)) if sample.camera == camera && time.len() == 6 => {
            let seconds: u32 = time[4..].parse().unwrap_or(0);
            format!("{camera} {date} {} {}", &time[..4], seconds / GROUP_SECONDS)
        }
        _ => id.to_owned(),
    };
    sample.verdicts == Verdicts::Whole && Sha256::digest(group)[0] < HELD_OUT
}

/// What was told of a sample and is not there.
fn false_alarms(sample: &Sample) -> impl Iterator<Item = &Found> {
    sample.told().filter(|found| {
        let over: Vec<_> =
            sample.labels.iter().filter(|label| iou(&label.bbox, &found.bbox) >= SAME).collect();
        let spoken_of = sample.verdicts == Verdicts::Whole || !over.is_empty();
        let right = over.iter().any(|label| label.label == found.label || label.ignore);
        spoken_of && !right
    })
}

/// What was found as surely as what is told, and was passed over: a mask hides it, or it is too small. Who says of
/// the told that they are right, and that nothing else is there, does not speak of these.
fn passed_over(sample: &Sample) -> impl Iterator<Item = &Found> {
    sample.found.iter().filter(|found| {
        let labelled = || sample.labels.iter().any(|label| iou(&label.bbox, &found.bbox) >= SAME);
        !found.told && found.score >= sample.threshold && !labelled()
    })
}

/// Pictures of samples.
#[derive(Debug)]
pub struct KeptSource<'a> {
    kept: &'a KeptSamples,
    classes: &'a [String],
    next: usize,
}

impl LabelSource for KeptSource<'_> {
    /// A sample that was removed since, or whose picture cannot be read, is passed over.
    fn next(&mut self) -> Result<Option<LabelledPicture>, TuningError> {
        while let Some(sample) = self.kept.samples.get(self.next) {
            self.next += 1;
            if let Ok(jpeg) = self.kept.store.picture(&sample.id) {
                return Ok(Some(labelled(sample, jpeg, self.classes)));
            }
        }
        Ok(None)
    }
}

fn labelled(sample: &Sample, jpeg: Vec<u8>, classes: &[String]) -> LabelledPicture {
    let named = |label: &&crate::samples::Label| label.label != BACKGROUND;
    let truth = |label: &crate::samples::Label| {
        let class = classes.iter().position(|class| *class == label.label)?;
        Some(Truth { class, bbox: label.bbox, ignore: label.ignore })
    };
    let mut truths: Vec<Truth> =
        sample.labels.iter().filter(named).filter_map(truth).take(MAX_TRUTHS).collect();
    truths.extend(passed_over(sample).filter_map(|found| {
        let class = classes.iter().position(|class| *class == found.label)?;
        Some(Truth { class, bbox: found.bbox, ignore: true })
    }));
    truths.truncate(MAX_TRUTHS);
    let rest = match sample.verdicts {
        Verdicts::Whole => Rest::Background,
        Verdicts::None | Verdicts::Part => {
            let denied = sample.labels.iter().filter(|label| label.label == BACKGROUND);
            let most = MAX_TRUTHS - truths.len();
            Rest::Unknown { nothing: denied.map(|label| label.bbox).take(most).collect() }
        }
    };
    let alarm = |found: &Found| {
        let class = classes.iter().position(|class| *class == found.label)?;
        Some(FalseAlarm { class, bbox: found.bbox })
    };
    let false_alarms = false_alarms(sample).filter_map(alarm).take(MAX_TRUTHS).collect();
    let turn = turn_of_file(&jpeg);
    let picture = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn, data: jpeg };
    LabelledPicture { name: sample.id.to_string(), picture, truths, rest, false_alarms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Label, Model, Origin};

    fn sample(id: &str, verdicts: Verdicts) -> Sample {
        Sample {
            id: id.parse().expect("an id"),
            camera: id.splitn(4, '-').nth(3).unwrap_or_default().to_owned(),
            captured: "2026-11-26T15:23:01.123Z".into(),
            width: 100,
            height: 100,
            reasons: Default::default(),
            threshold: 0.5,
            model: Model::default(),
            found: Vec::new(),
            labels: Vec::new(),
            verdicts,
        }
    }

    fn label(label: &str, bbox: [f32; 4]) -> Label {
        Label { label: label.into(), bbox, origin: Origin::Person, ignore: false }
    }

    #[test]
    fn a_quarter_is_held_out_and_frames_of_a_moment_stay_together() {
        let mut held_out = 0;
        for minute in 0..60 {
            for moment in 0..12 {
                let id = |second: u32| format!("20261126-15{minute:02}{:02}-123-front", 5 * moment + second);
                let sides: Vec<bool> =
                    (0..5).map(|second| is_held_out(&sample(&id(second), Verdicts::Whole))).collect();
                assert!(sides.iter().all(|side| *side == sides[0]), "{minute}:{moment}");
                held_out += usize::from(sides[0]);
                assert!(!is_held_out(&sample(&id(0), Verdicts::Part)), "too little is known to judge by");
            }
        }
        assert!((140..=220).contains(&held_out), "{held_out} of 720");
    }

    #[test]
    fn false_alarms_are_counted_where_people_spoke() {
        let found =
            |label: &str, score: f32, bbox| Found { label: label.into(), score, bbox, told: score > 0.5 };
        let mut whole = sample("20261126-152301-123-front", Verdicts::Whole);
        whole.found = vec![
            found("cat", 0.9, [0.0, 0.0, 40.0, 40.0]),
            found("dog", 0.8, [50.0, 50.0, 90.0, 90.0]),
            found("dog", 0.3, [0.0, 50.0, 40.0, 90.0]),
        ];
        whole.labels = vec![label("cat", [1.0, 0.0, 41.0, 40.0])];
        let false_alarms =
            |sample: &Sample| false_alarms(sample).map(|found| found.label.clone()).collect::<Vec<_>>();
        assert_eq!(false_alarms(&whole), ["dog"], "below the threshold nothing was told");
        let mut part = Sample { verdicts: Verdicts::Part, ..whole.clone() };
        assert_eq!(false_alarms(&part).len(), 0, "nobody spoke about the dog");
        part.labels = vec![label(BACKGROUND, [0.0, 0.0, 40.0, 40.0])];
        assert_eq!(false_alarms(&part), ["cat"]);
        part.labels = vec![label("horse", [50.0, 50.0, 90.0, 90.0])];
        assert_eq!(false_alarms(&part), ["dog"], "a wrong label is one, too");
    }

    #[test]
    fn what_a_mask_hides_is_neither_an_object_nor_background() {
        let mut whole = sample("20261126-152301-123-front", Verdicts::Whole);
        let found = |score: f32, told: bool, bbox| Found { label: "cat".into(), score, bbox, told };
        let hidden = [50.0, 0.0, 90.0, 40.0];
        whole.found = vec![
            found(0.9, true, [0.0, 0.0, 40.0, 40.0]),
            found(0.8, false, hidden),
            found(0.7, false, [2.0, 0.0, 40.0, 40.0]),
            found(0.3, false, [0.0, 50.0, 40.0, 90.0]),
        ];
        whole.labels = vec![label("cat", [0.0, 0.0, 40.0, 40.0])];
        let truths = labelled(&whole, Vec::new(), &["cat".to_owned()]).truths;
        let ignored: Vec<[f32; 4]> =
            truths.iter().filter(|truth| truth.ignore).map(|truth| truth.bbox).collect();
        assert_eq!((truths.len(), ignored), (2, vec![hidden]));
    }

    #[test]
    fn a_verdict_teaches_its_box_and_nothing_else() {
        let mut part = sample("20261126-152301-123-front", Verdicts::Part);
        part.labels = vec![label("cat", [0.0, 0.0, 40.0, 40.0]), label(BACKGROUND, [50.0, 50.0, 90.0, 90.0])];
        let classes = ["dog".to_owned(), "cat".to_owned()];
        let picture = labelled(&part, Vec::new(), &classes);
        assert_eq!((picture.truths.len(), picture.truths[0].class), (1, 1));
        assert_eq!(picture.rest, Rest::Unknown { nothing: vec![[50.0, 50.0, 90.0, 90.0]] });
        part.verdicts = Verdicts::Whole;
        assert_eq!(labelled(&part, Vec::new(), &classes).rest, Rest::Background);
    }
}
