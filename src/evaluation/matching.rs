//! Which detection is which truth, by pycocotools' rules.

use super::{Found, Picture, Truth};
use std::collections::BTreeMap;

/// IoU thresholds of COCO's AP, 0.50 to 0.95.
pub(super) const THRESHOLDS: usize = 10;
/// Areas: all, small, medium, large.
pub(super) const AREAS: usize = 4;
/// Detections of a class in a picture that count.
pub(super) const MOST_FOUND: usize = 100;
/// Least and largest area, square pixels, both included.
const AREA_RANGES: [[f64; 2]; AREAS] =
    [[0.0, 1e5 * 1e5], [0.0, 32.0 * 32.0], [32.0 * 32.0, 96.0 * 96.0], [96.0 * 96.0, 1e5 * 1e5]];

/// The threshold at `index`, to the last bit as numpy's `linspace(0.5, 0.95, 10)`: truths whose IoU is one
/// of them must fall on the same side.
fn threshold(index: usize) -> f64 {
    const STEP: f64 = (0.95 - 0.5) / (THRESHOLDS - 1) as f64;
    if index == THRESHOLDS - 1 { 0.95 } else { index as f64 * STEP + 0.5 }
}

/// What became of a detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub(super) score: f64,
    /// Number of its picture.
    pub(super) picture: u32,
    /// Its place among the detections of its class in its picture, best first.
    pub(super) rank: u8,
    /// For each area: bit `t` is set if it matches a truth at threshold `t`.
    pub(super) matched: [u16; AREAS],
    /// For each area: bit `t` is set if it counts neither as hit nor as false alarm.
    pub(super) ignored: [u16; AREAS],
}

/// All of one class.
#[derive(Debug, Clone, Default)]
pub(super) struct Class {
    /// Detections, best first; equal scores by picture, then by place.
    pub(super) rows: Vec<Row>,
    /// Truths that count, for each area, of each picture that has some.
    pub(super) truths: Vec<(u32, [u32; AREAS])>,
}

impl Class {
    pub(super) fn sort(&mut self) {
        // Stable, and rows were added by picture and place.
        self.rows.sort_by(|a, b| best_first(a.score, b.score));
    }
}

/// Best first; 0 and -0 are equal, and there is no NaN.
pub(super) fn best_first(a: f64, b: f64) -> std::cmp::Ordering {
    b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal)
}

/// Adds a picture's detections and truths to their classes.
pub(super) fn match_picture(number: u32, picture: &Picture, classes: &mut [Class]) {
    for (class, OfClass { truths, found }) in by_class(picture) {
        match_class(number, &truths, &found, &mut classes[class]);
    }
}

/// What of a picture belongs to one class.
#[derive(Default)]
pub(super) struct OfClass<'a> {
    pub(super) truths: Vec<&'a Truth>,
    /// Those that count, best first.
    pub(super) found: Vec<&'a Found>,
}

/// The classes of which there is something in a picture.
pub(super) fn by_class(picture: &Picture) -> BTreeMap<usize, OfClass<'_>> {
    let mut classes = BTreeMap::<usize, OfClass<'_>>::new();
    for truth in &picture.truths {
        classes.entry(truth.class).or_default().truths.push(truth);
    }
    for found in &picture.found {
        classes.entry(found.class).or_default().found.push(found);
    }
    for OfClass { found, .. } in classes.values_mut() {
        found.sort_by(|a, b| best_first(a.score, b.score));
        found.truncate(MOST_FOUND);
    }
    classes
}

fn match_class(picture: u32, truths: &[&Truth], found: &[&Found], class: &mut Class) {
    let start = class.rows.len();
    let row = |(rank, found): (usize, &&Found)| Row {
        score: found.score,
        picture,
        rank: rank as u8,
        matched: [0; AREAS],
        ignored: [0; AREAS],
    };
    class.rows.extend(found.iter().enumerate().map(row));
    let overlaps = Overlaps::new(truths, found);
    let mut counted = [0; AREAS];
    for (area, range) in AREA_RANGES.iter().enumerate() {
        let outside = |area: f64| area < range[0] || area > range[1];
        let ignored: Vec<bool> = truths.iter().map(|truth| truth.ignored || outside(truth.area)).collect();
        counted[area] = ignored.iter().filter(|ignored| !**ignored).count() as u32;
        let rows = &mut class.rows[start..];
        for t in 0..THRESHOLDS {
            let matches = overlaps.matches(truths, &ignored, threshold(t));
            for ((row, found), matched) in rows.iter_mut().zip(found).zip(matches) {
                let is_ignored = match matched {
                    Some(truth) => ignored[truth],
                    None => outside(found.bbox[2] * found.bbox[3]),
                };
                row.matched[area] |= u16::from(matched.is_some()) << t;
                row.ignored[area] |= u16::from(is_ignored) << t;
            }
        }
    }
    if !truths.is_empty() && counted != [0; AREAS] {
        class.truths.push((picture, counted));
    }
}

/// IoU of each detection with each truth.
pub(super) struct Overlaps {
    values: Vec<f64>,
    found: usize,
}

impl Overlaps {
    pub(super) fn new(truths: &[&Truth], found: &[&Found]) -> Self {
        let row = |found: &&Found| {
            let bbox = found.bbox;
            truths.iter().map(move |truth| overlap(bbox, truth.bbox, truth.crowd))
        };
        Self { values: found.iter().flat_map(row).collect(), found: found.len() }
    }

    /// The truth that each detection matches, best detection first: the free one with the largest overlap
    /// of at least `least`, one that counts before one that is ignored; of equal overlaps the last.
    pub(super) fn matches(&self, truths: &[&Truth], ignored: &[bool], least: f64) -> Vec<Option<usize>> {
        let mut order: Vec<usize> = (0..truths.len()).collect();
        order.sort_by_key(|&truth| ignored[truth]);
        let mut taken = vec![false; truths.len()];
        let mut matches = vec![None; self.found];
        if truths.is_empty() {
            return matches;
        }
        for (matched, overlaps) in matches.iter_mut().zip(self.values.chunks_exact(truths.len())) {
            // An exact match must pass a threshold of 1, too.
            let mut best = least.min(1.0 - 1e-10);
            for &truth in &order {
                if taken[truth] && !truths[truth].crowd {
                    continue;
                }
                if matched.is_some_and(|matched: usize| !ignored[matched]) && ignored[truth] {
                    break;
                }
                if overlaps[truth] >= best {
                    best = overlaps[truth];
                    *matched = Some(truth);
                }
            }
            if let Some(truth) = *matched {
                taken[truth] = true;
            }
        }
        matches
    }
}

/// Intersection over union; with a crowd, the share of the detection that lies in it.
pub(super) fn overlap(found: [f64; 4], truth: [f64; 4], crowd: bool) -> f64 {
    let side = |axis: usize| {
        (found[axis] + found[axis + 2]).min(truth[axis] + truth[axis + 2]) - found[axis].max(truth[axis])
    };
    let (width, height) = (side(0), side(1));
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let (intersection, area) = (width * height, found[2] * found[3]);
    intersection / if crowd { area } else { area + truth[2] * truth[3] - intersection }
}
