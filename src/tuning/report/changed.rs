//! Which pictures the tuned model sees differently, and how.

use crate::detection::Detection;
use crate::frame::RawFrame;
use crate::retinanet::nms::iou;
use crate::tuning::hooks::Truth;

/// Most pictures that a report shows.
pub(super) const MOST: usize = 10;
/// Boxes of one class that overlap by more than this show one object.
const SAME: f32 = 0.5;

/// A picture with what either model detects in it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedPicture {
    /// What people call it: the name of its sample or file.
    pub name: String,
    /// The picture as it was stored.
    pub picture: RawFrame,
    /// Detections of the model in use, classes as in the report's labels.
    pub before: Vec<Detection>,
    /// Detections of the tuned model. Those below the report's least score tell how much a score changed.
    pub after: Vec<Detection>,
    /// What it really shows; none where nobody has said it.
    pub truths: Option<Vec<Truth>>,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    pub before: Option<Detection>,
    pub after: Option<Detection>,
}

impl Change {
    /// By how much the score changed; something that was not found has the score 0.
    pub(super) fn amount(&self) -> f32 {
        let score = |detection: Option<Detection>| detection.map_or(0.0, |found| found.score);
        (score(self.after) - score(self.before)).abs()
    }

    fn best(&self) -> f32 {
        [self.before, self.after].into_iter().flatten().map(|found| found.score).fold(0.0, f32::max)
    }
}

impl ChangedPicture {
    /// What changed among objects that one of the models gives `min_score`, the largest change first.
    pub(super) fn changes(&self, min_score: f32) -> Vec<Change> {
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (i, before) in self.before.iter().enumerate() {
            for (j, after) in self.after.iter().enumerate() {
                let overlap = iou(&before.bbox, &after.bbox);
                if before.class == after.class && overlap > SAME {
                    pairs.push((overlap, i, j));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut of_before, mut of_after) = (vec![None; self.before.len()], vec![false; self.after.len()]);
        for (_, i, j) in pairs {
            if of_before[i].is_none() && !of_after[j] {
                (of_before[i], of_after[j]) = (Some(j), true);
            }
        }
        let kept = self.before.iter().zip(&of_before);
        let kept = kept.map(|(before, j)| Change { before: Some(*before), after: j.map(|j| self.after[j]) });
        let came = self.after.iter().zip(&of_after).filter(|(_, taken)| !**taken);
        let came = came.map(|(after, _)| Change { before: None, after: Some(*after) });
        let mut changes: Vec<Change> = kept.chain(came).filter(|change| change.best() >= min_score).collect();
        changes.sort_by(|a, b| b.amount().total_cmp(&a.amount()));
        changes
    }

    /// How much changed in all.
    fn amount(&self, min_score: f32) -> f32 {
        self.changes(min_score).iter().map(Change::amount).sum()
    }
}

/// Keeps the pictures that changed most, so that no more than a report shows are in memory at once.
#[derive(Debug, Clone)]
pub struct MostChanged {
    min_score: f32,
    /// The most changed first.
    kept: Vec<(f32, ChangedPicture)>,
}

impl MostChanged {
    /// For a report with this least score.
    #[must_use]
    pub fn new(min_score: f32) -> Self {
        Self { min_score, kept: Vec::new() }
    }

    /// Keeps `picture` if it is among those that changed most; one that did not change is never kept.
    pub fn offer(&mut self, picture: ChangedPicture) {
        let amount = picture.amount(self.min_score);
        if amount > 0.0 {
            let at = self.kept.partition_point(|(kept, _)| *kept >= amount);
            self.kept.insert(at, (amount, picture));
            self.kept.truncate(MOST);
        }
    }

    /// The pictures, the most changed first.
    #[must_use]
    pub fn into_pictures(self) -> Vec<ChangedPicture> {
        self.kept.into_iter().map(|(_, picture)| picture).collect()
    }
}

/// Those that changed most, as [`MostChanged`] keeps them.
pub(super) fn most_changed(pictures: &[ChangedPicture], min_score: f32) -> Vec<&ChangedPicture> {
    let mut all: Vec<(f32, &ChangedPicture)> =
        pictures.iter().map(|picture| (picture.amount(min_score), picture)).collect();
    all.retain(|(amount, _)| *amount > 0.0);
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.truncate(MOST);
    all.into_iter().map(|(_, picture)| picture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Encoding, Turn};

    fn found(class: usize, score: f32, x: f32) -> Detection {
        Detection { class, score, bbox: [x, 0.0, x + 10.0, 10.0] }
    }

    fn picture(name: &str, before: Vec<Detection>, after: Vec<Detection>) -> ChangedPicture {
        let picture =
            RawFrame { width: 1, height: 1, encoding: Encoding::Rgb, turn: Turn::NONE, data: vec![0; 3] };
        ChangedPicture { name: name.into(), picture, before, after, truths: None }
    }

    #[test]
    fn an_object_is_known_again_by_class_and_place() {
        let before = vec![found(0, 0.9, 0.0), found(1, 0.6, 50.0), found(0, 0.2, 80.0)];
        let after = vec![found(0, 0.5, 1.0), found(2, 0.7, 50.0), found(0, 0.1, 200.0)];
        let changes = picture("p", before.clone(), after.clone()).changes(0.5);
        let scores =
            |change: &Change| [change.before, change.after].map(|found| found.map(|found| found.score));
        assert_eq!(
            changes.iter().map(scores).collect::<Vec<_>>(),
            [[None, Some(0.7)], [Some(0.6), None], [Some(0.9), Some(0.5)]]
        );
        // Nothing that both find less likely than the least score.
        assert!(picture("p", vec![found(0, 0.4, 0.0)], vec![]).changes(0.5).is_empty());
        assert!(
            picture("p", before.clone(), before).changes(0.5).iter().all(|change| change.amount() == 0.0)
        );
    }

    #[test]
    fn ten_that_changed_most_are_kept_in_order() {
        let mut most = MostChanged::new(0.5);
        let all: Vec<ChangedPicture> = (0..30)
            .map(|i| picture(&i.to_string(), vec![], vec![found(0, 0.4 + 0.01 * ((i * 7) % 30) as f32, 0.0)]))
            .collect();
        all.iter().cloned().for_each(|picture| most.offer(picture));
        let kept = most.into_pictures();
        let names =
            |pictures: Vec<&ChangedPicture>| pictures.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        assert_eq!(kept.len(), MOST);
        assert_eq!(names(kept.iter().collect()), names(most_changed(&all, 0.5)));
        assert!(kept[0].after[0].score > kept[9].after[0].score);
    }
}
