//! What a verdict does to a sample, also where it contradicts what was said before.
//!
//! The rule: the newest wins. A box takes the place of those labelled before it that are the same box, or
//! that overlap it by half or more and either have the same label or say that nothing is there (or it says
//! so). Boxes of two labels that overlap otherwise are two objects, such as a person on a horse.

use super::record::{BACKGROUND, Label, MOST_BOXES, RecordError, Sample, Verdicts};
use crate::detection::overlap;

/// Boxes that overlap this much contradict each other where both cannot be true.
const SAME_OBJECT: f32 = 0.5;
/// Boxes that overlap this much are the same box: sides are rounded on their way.
const SAME_BOX: f32 = 0.95;

/// What somebody says of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Opinion {
    /// What is there, and where nothing is.
    pub labels: Vec<Label>,
    /// What is said of the rest of the picture.
    pub rest: Rest,
}

/// What an opinion says of the picture besides its boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Unsaid,
    /// Nothing else is there: it is background.
    Background,
    /// Something had been left out, so that more may be missing.
    Doubtful,
}

impl Sample {
    /// Takes an opinion; where it contradicts what was said before, it wins.
    ///
    /// # Errors
    /// If the sample would have more labels than its file can hold; it is then as it was.
    pub fn take_opinion(&mut self, opinion: &Opinion) -> Result<(), RecordError> {
        let stays = |old: &Label| {
            opinion.rest != Rest::Background && !opinion.labels.iter().any(|new| contradict(old, new))
        };
        let mut labels: Vec<Label> = self.labels.iter().filter(|old| stays(old)).cloned().collect();
        labels.extend(opinion.labels.iter().cloned());
        if labels.len() > MOST_BOXES {
            return Err(RecordError(format!("{}: more than {MOST_BOXES} labels", self.id)));
        }
        self.labels = labels;
        self.verdicts = match (opinion.rest, self.verdicts) {
            (Rest::Background, _) | (Rest::Unsaid, Verdicts::Whole) => Verdicts::Whole,
            (Rest::Doubtful, _) | (Rest::Unsaid, _) => Verdicts::Part,
        };
        Ok(())
    }
}

/// Whether both cannot be true.
fn contradict(old: &Label, new: &Label) -> bool {
    let both = overlap(&old.bbox, &new.bbox);
    let of_one_object = old.label == new.label || old.label == BACKGROUND || new.label == BACKGROUND;
    both >= SAME_BOX || (both >= SAME_OBJECT && of_one_object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::record::Origin;
    use crate::samples::record::tests::sample;

    const LEFT: [f32; 4] = [0.0, 0.0, 20.0, 20.0];
    const NEARLY_LEFT: [f32; 4] = [0.0, 0.0, 20.0, 25.0];
    const RIGHT: [f32; 4] = [40.0, 0.0, 60.0, 20.0];

    fn label(label: &str, bbox: [f32; 4]) -> Label {
        Label { label: label.into(), bbox, origin: Origin::Feedback, ignore: false }
    }

    /// The labels after each opinion in turn, and how much is known of the picture.
    fn after(opinions: &[(&[Label], Rest)]) -> (Vec<(String, [f32; 4])>, Verdicts) {
        let mut sample = Sample { labels: Vec::new(), verdicts: Verdicts::None, ..sample(0) };
        for (labels, rest) in opinions {
            sample.take_opinion(&Opinion { labels: labels.to_vec(), rest: *rest }).expect("few labels");
        }
        let labels = sample.labels.iter().map(|label| (label.label.clone(), label.bbox)).collect();
        // What is written can be read.
        let read = Sample::from_json(&sample.id, &sample.to_json()).expect("reads");
        assert_eq!(read.verdicts, sample.verdicts);
        (labels, sample.verdicts)
    }

    #[test]
    fn of_two_verdicts_on_one_box_the_newest_wins() {
        let (cat, nothing) = ([label("cat", LEFT)], [label(BACKGROUND, LEFT)]);
        let found = after(&[(&cat, Rest::Unsaid), (&nothing, Rest::Unsaid)]);
        assert_eq!(found, (vec![(BACKGROUND.into(), LEFT)], Verdicts::Part));
        let found = after(&[(&nothing, Rest::Unsaid), (&cat, Rest::Unsaid)]);
        assert_eq!(found, (vec![("cat".into(), LEFT)], Verdicts::Part));
        let dog = [label("dog", [0.0, 0.0, 20.0, 20.1])];
        assert_eq!(after(&[(&cat, Rest::Unsaid), (&dog, Rest::Unsaid)]).0.len(), 1, "nearly the same box");
        // A sloppier box of the same thing, and one of nothing.
        for other in ["cat", BACKGROUND] {
            let found = after(&[(&cat, Rest::Unsaid), (&[label(other, NEARLY_LEFT)], Rest::Doubtful)]);
            assert_eq!(found.0, [(other.to_owned(), NEARLY_LEFT)]);
        }
    }

    #[test]
    fn verdicts_on_other_boxes_add_up() {
        let found = after(&[
            (&[label("cat", LEFT)], Rest::Unsaid),
            (&[label("dog", NEARLY_LEFT)], Rest::Unsaid),
            (&[label("cat", RIGHT)], Rest::Unsaid),
        ]);
        assert_eq!(found.0.len(), 3);
        // Two objects of one verdict do not contradict each other.
        let both = [label("cat", LEFT), label("cat", NEARLY_LEFT)];
        assert_eq!(after(&[(&both, Rest::Unsaid)]).0.len(), 2);
    }

    #[test]
    fn what_is_said_of_the_whole_picture_holds_until_something_was_missed() {
        let cat = [label("cat", LEFT)];
        assert_eq!(after(&[(&cat, Rest::Doubtful), (&[], Rest::Background)]), (vec![], Verdicts::Whole));
        let kept = after(&[(&[], Rest::Background), (&cat, Rest::Unsaid)]);
        assert_eq!((kept.0.len(), kept.1), (1, Verdicts::Whole));
        assert_eq!(after(&[(&[], Rest::Background), (&cat, Rest::Doubtful)]).1, Verdicts::Part);
    }

    #[test]
    fn more_labels_than_a_file_holds_are_refused_and_change_nothing() {
        let mut full = sample(0);
        full.labels = vec![label("cat", LEFT); MOST_BOXES];
        let before = full.clone();
        let opinion = Opinion { labels: vec![label("cat", RIGHT)], rest: Rest::Unsaid };
        let error = full.take_opinion(&opinion).expect_err("full").to_string();
        assert!(error.contains("more than 1000 labels"), "{error}");
        assert_eq!(full, before);
    }
}
