//! What is taken for what, background included.

use super::matching::{OfClass, Overlaps, best_first, by_class, overlap};
use super::{Found, Picture, Truth};
use serde::Serialize;

/// Least IoU with which a detection is about a truth.
const LEAST_OVERLAP: f64 = 0.5;

/// Counts at one threshold. Hits, false alarms and misses are those of
/// [`OperatingPoint`](super::OperatingPoint); here a false alarm that covers a truth which nothing else
/// found is named by that truth's class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confusion {
    /// Detections above it count.
    pub threshold: f64,
    /// `counts[truth][detection]`; the last row is background (false alarms), the last column what was
    /// missed.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Counts over `pictures` with `classes` classes.
    ///
    /// Detections match truths of their own class first. Then each one that is left, best first, takes the
    /// truth of another class that is left and overlaps it most, if their IoU is at least 0.50.
    ///
    /// # Panics
    /// If a class is not below `classes`.
    #[must_use]
    pub fn new(pictures: &[Picture], classes: usize, threshold: f64) -> Self {
        let mut counts = vec![vec![0; classes + 1]; classes + 1];
        for picture in pictures {
            let (mut truths, mut found) = (Vec::new(), Vec::new());
            for (class, of_class) in by_class(picture) {
                let left = match_own_class(of_class, threshold);
                counts[class][class] += left.hits;
                truths.extend(left.truths);
                found.extend(left.found);
            }
            found.sort_by(|a, b| best_first(a.score, b.score));
            for found in found {
                let taken = most_covered(found, &truths).map(|place| truths.remove(place));
                counts[taken.map_or(classes, |truth| truth.class)][found.class] += 1;
            }
            for truth in truths {
                counts[truth.class][classes] += 1;
            }
        }
        Self { threshold, counts }
    }

    /// What one class was taken for most often, background and misses left out: truth, detection, times;
    /// the most frequent first.
    #[must_use]
    pub fn most_frequent(&self, most: usize) -> Vec<(usize, usize, u64)> {
        let classes = self.counts.len() - 1;
        let pairs = (0..classes).flat_map(|t| (0..classes).map(move |d| (t, d)));
        let mut mixed: Vec<(usize, usize, u64)> = pairs
            .filter(|(t, d)| t != d && self.counts[*t][*d] > 0)
            .map(|(t, d)| (t, d, self.counts[t][d]))
            .collect();
        mixed.sort_by_key(|(_, _, times)| std::cmp::Reverse(*times));
        mixed.truncate(most);
        mixed
    }
}

/// What a class's own matches leave over.
struct Left<'a> {
    hits: u64,
    truths: Vec<&'a Truth>,
    found: Vec<&'a Found>,
}

fn match_own_class(of_class: OfClass<'_>, threshold: f64) -> Left<'_> {
    let OfClass { truths, mut found } = of_class;
    found.retain(|found| found.score as f32 > threshold as f32);
    let ignored: Vec<bool> = truths.iter().map(|truth| truth.ignored).collect();
    let matches = Overlaps::new(&truths, &found).matches(&truths, &ignored, LEAST_OVERLAP);
    let taken: Vec<usize> = matches.iter().flatten().copied().collect();
    let left = |(place, _): &(usize, &Truth)| !ignored[*place] && !taken.contains(place);
    Left {
        hits: taken.iter().filter(|place| !ignored[**place]).count() as u64,
        found: found.iter().zip(&matches).filter(|(_, matched)| matched.is_none()).map(|(f, _)| *f).collect(),
        truths: truths.iter().copied().enumerate().filter(left).map(|(_, truth)| truth).collect(),
    }
}

/// The place of the truth of another class that `found` overlaps most, if enough; of equal ones the first.
fn most_covered(found: &Found, truths: &[&Truth]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (place, truth) in truths.iter().enumerate().filter(|(_, truth)| truth.class != found.class) {
        let value = overlap(found.bbox, truth.bbox, false);
        if value >= LEAST_OVERLAP && best.is_none_or(|(_, so_far)| value > so_far) {
            best = Some((place, value));
        }
    }
    best.map(|(place, _)| place)
}
