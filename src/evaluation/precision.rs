//! Precision against recall, and what COCO makes of it: AP and AR.

use super::Evaluation;
use super::matching::{Class, MOST_FOUND, Row, THRESHOLDS};
use serde::Serialize;

/// Recalls at which precision is read, 0 to 1.
pub(super) const RECALLS: usize = 101;
/// Places of the areas in [`Row`]; all is the first.
const ALL: usize = 0;
const SMALL: usize = 1;
const MEDIUM: usize = 2;
const LARGE: usize = 3;

/// Mean average precision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ap {
    /// Over IoU 0.50 to 0.95; none where there is no truth.
    pub ap: Option<f64>,
    /// At IoU 0.50.
    pub ap50: Option<f64>,
}

/// COCO's twelve numbers, in its order; none where there is no truth, for which COCO writes -1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// AP over IoU 0.50 to 0.95.
    #[serde(rename = "AP")]
    pub ap: Option<f64>,
    /// At IoU 0.50.
    #[serde(rename = "AP50")]
    pub ap50: Option<f64>,
    /// At IoU 0.75.
    #[serde(rename = "AP75")]
    pub ap75: Option<f64>,
    /// Of things up to 32² pixels.
    #[serde(rename = "APs")]
    pub ap_small: Option<f64>,
    /// Of things from 32² to 96² pixels.
    #[serde(rename = "APm")]
    pub ap_medium: Option<f64>,
    /// Of things from 96² pixels.
    #[serde(rename = "APl")]
    pub ap_large: Option<f64>,
    /// Recall over IoU 0.50 to 0.95 with the best detection of a class in a picture.
    #[serde(rename = "AR1")]
    pub ar1: Option<f64>,
    /// With the 10 best.
    #[serde(rename = "AR10")]
    pub ar10: Option<f64>,
    /// With the 100 best.
    #[serde(rename = "AR100")]
    pub ar100: Option<f64>,
    /// Of things up to 32² pixels.
    #[serde(rename = "ARs")]
    pub ar_small: Option<f64>,
    /// Of things from 32² to 96² pixels.
    #[serde(rename = "ARm")]
    pub ar_medium: Option<f64>,
    /// Of things from 96² pixels.
    #[serde(rename = "ARl")]
    pub ar_large: Option<f64>,
}

impl Summary {
    /// COCO's names and the numbers.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Option<f64>); 12] {
        [
            ("AP", self.ap),
            ("AP50", self.ap50),
            ("AP75", self.ap75),
            ("APs", self.ap_small),
            ("APm", self.ap_medium),
            ("APl", self.ap_large),
            ("AR1", self.ar1),
            ("AR10", self.ar10),
            ("AR100", self.ar100),
            ("ARs", self.ar_small),
            ("ARm", self.ar_medium),
            ("ARl", self.ar_large),
        ]
    }
}

/// A class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassAp {
    /// Its AP.
    #[serde(flatten)]
    pub ap: Ap,
    /// Truths that count.
    pub truths: u64,
    /// Detections, ignored ones too.
    pub detections: u64,
}

impl Evaluation {
    /// COCO's twelve numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let curves = |area, most| -> Vec<Curves> {
            self.classes.iter().filter_map(|class| Curves::new(class, area, most, |_| 1)).collect()
        };
        let all = curves(ALL, MOST_FOUND);
        let [small, medium, large] = [SMALL, MEDIUM, LARGE].map(|area| curves(area, MOST_FOUND));
        let ap = |curves: &[Curves]| mean(curves.iter().map(Curves::ap));
        let ar = |curves: &[Curves]| mean(curves.iter().map(Curves::ar));
        Summary {
            ap: ap(&all),
            ap50: mean(all.iter().map(|curves| curves.ap_at(0))),
            ap75: mean(all.iter().map(|curves| curves.ap_at(AT_75))),
            ap_small: ap(&small),
            ap_medium: ap(&medium),
            ap_large: ap(&large),
            ar1: ar(&curves(ALL, 1)),
            ar10: ar(&curves(ALL, 10)),
            ar100: ar(&all),
            ar_small: ar(&small),
            ar_medium: ar(&medium),
            ar_large: ar(&large),
        }
    }

    /// AP of each class.
    #[must_use]
    pub fn class_ap(&self) -> Vec<ClassAp> {
        let one = |class: &Class| {
            let curves = Curves::new(class, ALL, MOST_FOUND, |_| 1);
            ClassAp {
                ap: Ap {
                    ap: curves.as_ref().map(Curves::ap),
                    ap50: curves.as_ref().map(|curves| curves.ap_at(0)),
                },
                truths: class.truths.iter().map(|(_, counted)| u64::from(counted[ALL])).sum(),
                detections: class.rows.len() as u64,
            }
        };
        self.classes.iter().map(one).collect()
    }

    /// AP over pictures of which each is taken `weights[number]` times: 0 leaves it out, 2 takes it twice,
    /// as if a copy with another id stood beside it. Equal scores stay together by picture.
    ///
    /// # Panics
    /// If there is not one weight for each picture.
    #[must_use]
    pub fn ap_of(&self, weights: &[u32]) -> Ap {
        assert_eq!(weights.len(), self.pictures, "one weight a picture");
        let weight = |picture: u32| weights[picture as usize];
        let curves: Vec<Curves> =
            self.classes.iter().filter_map(|class| Curves::new(class, ALL, MOST_FOUND, weight)).collect();
        Ap {
            ap: mean(curves.iter().map(Curves::ap)),
            ap50: mean(curves.iter().map(|curves| curves.ap_at(0))),
        }
    }

    /// `(recall, precision)` at 101 recalls and IoU 0.50, mean over the classes with truths; empty without one.
    #[must_use]
    pub fn mean_precision(&self) -> Vec<(f64, f64)> {
        let curves: Vec<_> = self.precision_curves().into_iter().flatten().collect();
        let point = |at: usize| {
            let recall = at as f64 / (RECALLS - 1) as f64;
            Some((recall, mean(curves.iter().map(|curve| curve[0][at]))?))
        };
        (0..RECALLS).filter_map(point).collect()
    }

    /// Precision at 101 recalls of each class at IoU 0.50 and 0.75; none where there is no truth.
    pub(super) fn precision_curves(&self) -> Vec<Option<[[f64; RECALLS]; 2]>> {
        let one = |class| {
            let curves = Curves::new(class, ALL, MOST_FOUND, |_| 1)?;
            Some([curves.precision[0], curves.precision[AT_75]])
        };
        self.classes.iter().map(one).collect()
    }
}

/// Place of IoU 0.75 among the thresholds.
const AT_75: usize = 5;

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Precision and recall of a class at each IoU threshold.
struct Curves {
    /// Precision at the recalls 0.00 to 1.00.
    precision: [[f64; RECALLS]; THRESHOLDS],
    /// Recall with all detections.
    recall: [f64; THRESHOLDS],
}

impl Curves {
    /// None where no truth counts. `most` detections a picture count, and picture `p` counts `weight(p)`
    /// times.
    fn new(class: &Class, area: usize, most: usize, weight: impl Fn(u32) -> u32) -> Option<Self> {
        let counted =
            |(picture, counted): &(u32, [u32; 4])| u64::from(counted[area]) * u64::from(weight(*picture));
        let truths: u64 = class.truths.iter().map(counted).sum();
        if truths == 0 {
            return None;
        }
        let mut hits: [Vec<Hit>; THRESHOLDS] = Default::default();
        let (mut totals, mut alarms) = ([0_u64; THRESHOLDS], FalseAlarms::default());
        for row in class.rows.iter().filter(|row| usize::from(row.rank) < most) {
            let times = u64::from(weight(row.picture));
            if times == 0 {
                continue;
            }
            alarms.add(row, area, times);
            let mut left = row.matched[area] & !row.ignored[area];
            while left != 0 {
                let t = left.trailing_zeros() as usize;
                left &= left - 1;
                totals[t] += times;
                hits[t].push(Hit { hits: totals[t], alarms: alarms.at(t) });
            }
        }
        Some(Self {
            precision: std::array::from_fn(|t| at_recalls(&hits[t], truths)),
            recall: std::array::from_fn(|t| totals[t] as f64 / truths as f64),
        })
    }

    fn ap_at(&self, t: usize) -> f64 {
        self.precision[t].iter().sum::<f64>() / RECALLS as f64
    }

    fn ap(&self) -> f64 {
        (0..THRESHOLDS).map(|t| self.ap_at(t)).sum::<f64>() / THRESHOLDS as f64
    }

    fn ar(&self) -> f64 {
        self.recall.iter().sum::<f64>() / THRESHOLDS as f64
    }
}

/// Hits and false alarms up to and with a hit.
struct Hit {
    hits: u64,
    alarms: u64,
}

/// False alarms so far. Most detections are one at every threshold, which costs one addition.
#[derive(Default)]
struct FalseAlarms {
    everywhere: u64,
    here: [u64; THRESHOLDS],
}

impl FalseAlarms {
    fn add(&mut self, row: &Row, area: usize, times: u64) {
        const EVERY: u16 = (1 << THRESHOLDS) - 1;
        let mut alarms = !row.matched[area] & !row.ignored[area] & EVERY;
        if alarms == EVERY {
            self.everywhere += times;
            return;
        }
        while alarms != 0 {
            self.here[alarms.trailing_zeros() as usize] += times;
            alarms &= alarms - 1;
        }
    }

    fn at(&self, t: usize) -> u64 {
        self.everywhere + self.here[t]
    }
}

/// The largest precision at each recall or a higher one; 0 beyond what is reached.
///
/// Only hits are looked at: a false alarm raises neither recall nor precision.
fn at_recalls(hits: &[Hit], truths: u64) -> [f64; RECALLS] {
    let mut read = [0.0; RECALLS];
    let (mut best, mut next) = (0.0_f64, RECALLS);
    // From the last hit to the first: those recalls that the hit before does not reach.
    for (i, hit) in hits.iter().enumerate().rev() {
        let all = (hit.hits + hit.alarms) as f64;
        best = best.max(hit.hits as f64 / (all + f64::EPSILON));
        let recall = hit.hits as f64 / truths as f64;
        while next > 0 && recall_at(next - 1) > recall {
            next -= 1;
        }
        let before = if i == 0 { None } else { Some(hits[i - 1].hits as f64 / truths as f64) };
        while next > 0 && before.is_none_or(|before| recall_at(next - 1) > before) {
            next -= 1;
            read[next] = best;
        }
    }
    read
}

/// The recall at `index`, to the last bit as numpy's `linspace(0, 1, 101)`.
fn recall_at(index: usize) -> f64 {
    if index == RECALLS - 1 { 1.0 } else { index as f64 * 0.01 }
}
