//! What a detector does at one threshold: precision, recall, false alarms a picture.

use super::Evaluation;
use super::matching::Class;
use serde::Serialize;

/// Hits and errors of the detections whose score is above a threshold, as the daemon publishes them. A hit
/// has the class of its truth and an IoU of at least 0.50; ignored truths, and detections that match them,
/// do not count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OperatingPoint {
    /// Detections above it count.
    pub threshold: f64,
    /// Truths that were found.
    pub hits: u64,
    /// Detections that are no truth, or one that was found already.
    pub false_alarms: u64,
    /// Truths that were not found.
    pub missed: u64,
    /// Share of the detections that are hits; none without detections.
    pub precision: Option<f64>,
    /// Share of the truths that were found; none without truths.
    pub recall: Option<f64>,
    /// Harmonic mean of both; none where neither has anything to count.
    pub f1: Option<f64>,
    /// False alarms a picture; none without pictures.
    pub false_alarms_per_picture: Option<f64>,
}

impl Evaluation {
    /// All classes together.
    #[must_use]
    pub fn at(&self, threshold: f64) -> OperatingPoint {
        self.point(&self.classes, threshold)
    }

    /// Each class.
    #[must_use]
    pub fn classes_at(&self, threshold: f64) -> Vec<OperatingPoint> {
        self.classes.iter().map(|class| self.point(std::slice::from_ref(class), threshold)).collect()
    }

    fn point(&self, classes: &[Class], threshold: f64) -> OperatingPoint {
        let truths: u64 =
            classes.iter().flat_map(|class| &class.truths).map(|(_, counted)| u64::from(counted[0])).sum();
        let (mut hits, mut false_alarms) = (0, 0);
        // In f32, as the detector compares.
        let above = |score: f64| score as f32 > threshold as f32;
        let rows = classes.iter().flat_map(|class| &class.rows);
        for row in rows.filter(|row| above(row.score) && row.ignored[0] & 1 == 0) {
            if row.matched[0] & 1 == 1 { hits += 1 } else { false_alarms += 1 }
        }
        let missed = truths - hits;
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        OperatingPoint {
            threshold,
            hits,
            false_alarms,
            missed,
            precision: share(hits, hits + false_alarms),
            recall: share(hits, truths),
            f1: share(2 * hits, 2 * hits + false_alarms + missed),
            false_alarms_per_picture: share(false_alarms, self.pictures as u64),
        }
    }
}
