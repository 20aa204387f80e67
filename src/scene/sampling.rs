//! Which frames are kept to learn from: one selection a camera, by the settings and the thresholds in force.

use super::generations::GenerationFacts;
use super::view::Sighting;
use super::{Effect, Now};
use crate::contract::rfc3339;
use crate::detection::{Detection, Outcome};
use crate::frame::RawFrame;
use crate::geometry::Polygon;
use crate::samples::{Found, Limits, Model, Reason, Sample, SampleId, Seen, Selection, Verdicts};
use crate::settings::SamplesSettings;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// A frame that is to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSample {
    /// What is known of it.
    pub sample: Sample,
    /// As its camera gave it.
    pub raw: Arc<RawFrame>,
    /// Areas that are black in the picture that is kept.
    pub hidden: Arc<[Polygon]>,
    /// Most bytes that all samples may take.
    pub most_bytes: u64,
}

/// The selections of all cameras; none while nothing is to be kept.
#[derive(Default)]
pub(super) struct Sampling {
    settings: Option<SamplesSettings>,
    /// By camera id, so that a camera that restarts has no second day's worth.
    cameras: BTreeMap<Arc<str>, Selection>,
}

impl Sampling {
    /// Takes the settings, and forgets cameras that are not in them any more.
    pub fn take_settings(&mut self, settings: &SamplesSettings, is_camera: impl Fn(&str) -> bool) {
        self.settings = settings.enabled.then(|| settings.clone());
        match &self.settings {
            None => self.cameras.clear(),
            Some(settings) => {
                self.cameras.retain(|id, _| is_camera(id));
                self.cameras.values_mut().for_each(|selection| selection.limit(limits(settings)));
            }
        }
    }

    /// Looks at a frame, and has it kept if it is worth it.
    pub fn look(
        &mut self,
        now: Now,
        frame: &LookedAt<'_>,
        hidden: &Arc<[Polygon]>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(settings) = &self.settings else { return };
        let (camera, threshold) = (frame.camera, frame.threshold);
        // What is not told whatever it scores teaches nobody anything by coming and going.
        let found: Vec<Detection> =
            frame.sightings.iter().filter(|s| s.wanted).map(|sighting| sighting.detection).collect();
        let counts = |all: &[Detection]| all.iter().filter(|found| found.score >= settings.threshold).count();
        let others = frame.outcome.detections().is_some_and(|all| counts(all) > counts(&found));
        let new = || Selection::new(limits(settings), now.mono, seed(now, camera));
        let selection = self.cameras.entry(Arc::clone(camera)).or_insert_with(new);
        let reasons = selection.look(now.mono, Seen { found: &found, threshold, others });
        if !reasons.is_empty() {
            let sample = sample(frame, reasons, settings.threshold);
            let most_bytes = u64::from(settings.max_mb) << 20;
            let (raw, hidden) = (Arc::clone(&frame.outcome.raw), Arc::clone(hidden));
            effects.push(Effect::Keep(Box::new(NewSample { sample, raw, hidden, most_bytes })));
        }
    }
}

/// A frame that was looked at.
pub(super) struct LookedAt<'a> {
    pub outcome: &'a Outcome,
    /// What no mask hides, best first.
    pub sightings: &'a [Sighting],
    pub camera: &'a Arc<str>,
    pub threshold: f32,
    pub judge: &'a GenerationFacts,
}

/// A frame as a sample that nobody has labelled, with what scores at least `lowest`, or was told.
pub(super) fn sample(frame: &LookedAt<'_>, reasons: BTreeSet<Reason>, lowest: f32) -> Sample {
    let LookedAt { outcome, judge, camera, .. } = frame;
    let found = frame.sightings.iter().filter_map(|sighting| {
        let (detection, told) = (&sighting.detection, sighting.told);
        let label = judge.labels.get(detection.class).filter(|label| !label.is_empty())?;
        let found = Found { label: label.clone(), score: detection.score, bbox: detection.bbox, told };
        (told || detection.score >= lowest).then_some(found)
    });
    Sample {
        id: SampleId::of(outcome.captured_wall, camera),
        camera: camera.to_string(),
        captured: rfc3339(outcome.captured_wall),
        width: outcome.width,
        height: outcome.height,
        reasons,
        threshold: frame.threshold,
        model: Model { name: judge.name.clone(), sha256: judge.sha256.clone() },
        found: found.collect(),
        labels: Vec::new(),
        verdicts: Verdicts::None,
    }
}

fn limits(settings: &SamplesSettings) -> Limits {
    Limits {
        threshold: settings.threshold,
        per_day: settings.per_day,
        interval: Duration::from_secs(u64::from(settings.interval_s)),
    }
}

/// Differs between cameras and between starts.
fn seed(now: Now, camera: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (camera, now.boot).hash(&mut hasher);
    hasher.finish()
}
