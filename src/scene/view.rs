//! What of a camera's picture is told: which detections the settings want, and which objects are there.

use super::areas::Name;
use super::generations::Generation;
use crate::detection::Detection;
use crate::geometry::Polygon;
use crate::settings::{CameraSettings, Hidden};
use crate::tracking::{self, Changes, EndReason, Picture, State, Track, TrackId, Tracker, TrackingOptions};
use crate::zones::{Mask, is_wanted, means, shares};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Without `off_score`, what was told stays while it scores this share of what it must score first. Measured on
/// perturbed stills: on at 0.5 and off at 0.35, objects vanish from 5 % of the frames in place of 18 %.
const OFF_SHARE: f32 = 0.7;

/// A frame may have been captured so long before the camera was known here.
const EARLIEST_FRAME: Duration = Duration::from_secs(60);

/// A detection that no mask hides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    pub detection: Detection,
    /// The camera tells this label, whatever it scores.
    pub wanted: bool,
    /// It scores enough, or shows an object that is told.
    pub told: bool,
    /// The object that it shows, if that is told.
    pub track: Option<TrackId>,
}

/// A frame that is to be looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub found: &'a [Detection],
    /// Width and height, pixels.
    pub size: [u32; 2],
    pub captured: Instant,
    /// Above this something is told that has no rule of its own.
    pub threshold: f32,
}

/// What a frame showed.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// What no mask hides, in the order it was found.
    pub sightings: Vec<Sighting>,
    /// Which objects came, changed and went.
    pub changes: Changes,
}

/// What the settings ask of one label.
#[derive(Debug, Clone)]
struct Rule {
    wanted: bool,
    /// In place of the camera's threshold.
    min_score: Option<f32>,
    /// Share of the picture.
    min_size: f64,
    /// Which masks are meant, in their order.
    masks: Vec<bool>,
}

/// The view of one camera.
pub(super) struct View {
    settings: CameraSettings,
    /// Every label that a model of this daemon had, in the order in which they came: the tracker's classes, so
    /// that another model with the same labels goes on with the same objects.
    names: Vec<Name>,
    /// What the settings ask of each.
    rules: Vec<Rule>,
    /// Of the generation with this number, the place of each class among the names; none for one without a label.
    classes: (u64, Vec<Option<usize>>),
    /// The labels that are told, of the model in use.
    told: Vec<Name>,
    /// With the labels that they are for, as the settings name them.
    masks: Vec<(Mask, Vec<String>)>,
    hidden: Arc<[Polygon]>,
    tracker: Tracker,
    /// Zero of the tracker's clock.
    epoch: Instant,
    /// When the last frame was captured, in that clock.
    last_frame: u64,
    /// Since when nothing can be seen, and why.
    blind: Option<(Instant, EndReason)>,
    /// Objects end after nothing was seen for this long.
    off_delay: Duration,
}

impl View {
    /// A camera from which nothing was seen so far.
    pub fn new(settings: &CameraSettings, judge: &Generation, off_delay: Duration, now: Instant) -> Self {
        let is_hidden =
            |mask: &&_| matches!(mask, crate::settings::MaskSettings { hides: Hidden::Picture, .. });
        let hidden: Vec<Polygon> =
            settings.masks.values().filter(is_hidden).filter_map(|mask| mask.polygon()).collect();
        let masks = settings.masks.values().filter_map(|mask| Some((Mask::of(mask)?, mask.labels.clone())));
        let mut view = Self {
            names: Vec::new(),
            rules: Vec::new(),
            classes: (0, Vec::new()),
            told: Vec::new(),
            masks: masks.collect(),
            hidden: hidden.into(),
            tracker: Tracker::new(options(settings)),
            epoch: now.checked_sub(EARLIEST_FRAME).unwrap_or(now),
            last_frame: 0,
            blind: None,
            off_delay,
            settings: settings.clone(),
        };
        view.take_generation(judge);
        view
    }

    /// Takes over the objects of the same camera under the settings before. If it is asked for other things now,
    /// or `threshold_changed`, what is there must prove itself anew.
    pub fn go_on_from(&mut self, known: Self, threshold_changed: bool) {
        let (old, new) = (&known.settings, &self.settings);
        let same = (old.off_score, &old.labels, &old.rules, &old.masks)
            == (new.off_score, &new.labels, &new.rules, &new.masks);
        (self.epoch, self.last_frame, self.blind) = (known.epoch, known.last_frame, known.blind);
        (self.names, self.classes) = (known.names, known.classes);
        self.rules = self.names.iter().map(|name| self.rule_of(name)).collect();
        self.tracker = known.tracker;
        self.tracker.set_options(options(&self.settings));
        if !same || threshold_changed {
            self.tracker.doubt();
        }
    }

    /// Takes another model's labels.
    pub fn take_generation(&mut self, judge: &Generation) {
        self.learn(judge);
        let wanted = self.classes.1.iter().flatten().filter(|place| self.rules[**place].wanted);
        self.told = wanted.map(|place| self.names[*place].clone()).collect();
    }

    /// Finds the place of each class of the generation among the names, and adds those that are new.
    fn learn(&mut self, judge: &Generation) {
        let classes = judge.facts.labels.iter().zip(&judge.slugs);
        let places = classes.map(|(label, slug)| {
            if label.is_empty() {
                return None;
            }
            let name = Name { label: label.clone(), slug: Arc::clone(slug) };
            Some(self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
                self.rules.push(self.rule_of(&name));
                self.names.push(name);
                self.names.len() - 1
            }))
        });
        self.classes = (judge.facts.number, places.collect());
    }

    fn rule_of(&self, Name { label, slug }: &Name) -> Rule {
        let wanted = |names: &[String]| is_wanted(names, label, slug);
        let mut rules = self.settings.rules.iter();
        let rule = rules.find(|(name, _)| means(name, label, slug)).map(|(_, rule)| rule);
        Rule {
            wanted: wanted(&self.settings.labels),
            min_score: rule.map(|rule| rule.min_score).filter(|score| *score > 0.0),
            min_size: rule.map_or(0.0, |rule| f64::from(rule.min_size)),
            masks: self.masks.iter().map(|(_, labels)| wanted(labels)).collect(),
        }
    }

    /// What it was made from.
    pub fn settings(&self) -> &CameraSettings {
        &self.settings
    }

    /// The labels that are told, of the model in use.
    pub fn told(&self) -> &[Name] {
        &self.told
    }

    /// Areas that are black in every picture.
    pub fn hidden(&self) -> &Arc<[Polygon]> {
        &self.hidden
    }

    /// The name of an object's class.
    pub fn name(&self, track: &Track) -> &Name {
        // The tracker gives back what `look` gave to it.
        &self.names[track.class]
    }

    /// Looks at a frame. Each object that starts asks `next_id` for its name.
    pub fn look(
        &mut self,
        frame: Frame<'_>,
        judge: &Generation,
        next_id: &mut dyn FnMut() -> TrackId,
    ) -> Looked {
        if self.classes.0 != judge.facts.number {
            self.learn(judge);
        }
        let visible = frame.found.iter().filter(|detection| !self.is_masked(detection, frame.size));
        let mut sightings: Vec<Sighting> = visible
            .map(|detection| Sighting {
                detection: *detection,
                wanted: self.rule(detection.class).is_some_and(|rule| rule.wanted),
                told: false,
                track: None,
            })
            .collect();
        let given: Vec<(usize, tracking::Sighting)> = sightings
            .iter()
            .enumerate()
            .filter_map(|(i, sighting)| Some((i, self.worth(&sighting.detection, &frame)?)))
            .collect();
        let to_tracker: Vec<tracking::Sighting> = given.iter().map(|(_, sighting)| *sighting).collect();
        let [width, height] = frame.size;
        self.last_frame = self.last_frame.max(self.clock(frame.captured));
        let changes = self.tracker.update(self.last_frame, Picture { width, height }, &to_tracker, next_id);
        let mut shown = BTreeSet::new();
        for ((i, worth), track) in given.iter().zip(&changes.of_sighting) {
            // Of an object that was found twice in one frame, the weaker detection adds nothing.
            let shows = track.filter(|track| shown.insert(*track) || worth.strong);
            (sightings[*i].told, sightings[*i].track) = (worth.strong || shows.is_some(), shows);
        }
        Looked { sightings, changes }
    }

    fn rule(&self, class: usize) -> Option<&Rule> {
        let place = self.classes.1.get(class).copied().flatten()?;
        self.rules.get(place)
    }

    fn is_masked(&self, detection: &Detection, size: [u32; 2]) -> bool {
        let rule = self.rule(detection.class);
        let mut meant = self.masks.iter().enumerate().filter(|(i, _)| rule.is_none_or(|rule| rule.masks[*i]));
        let bbox = shares(detection.bbox, size);
        meant.any(|(_, (mask, _))| mask.hides(bbox))
    }

    /// What a detection is worth: nothing at all, enough to keep an object that is there, or to start one.
    fn worth(&self, detection: &Detection, frame: &Frame<'_>) -> Option<tracking::Sighting> {
        let place = self.classes.1.get(detection.class).copied().flatten()?;
        let rule = &self.rules[place];
        let [x1, y1, x2, y2] = shares(detection.bbox, frame.size);
        if !rule.wanted || (x2 - x1) * (y2 - y1) < rule.min_size {
            return None;
        }
        let on = rule.min_score.unwrap_or(frame.threshold);
        let off = if self.settings.off_score > 0.0 { self.settings.off_score } else { on * OFF_SHARE };
        let Detection { score, bbox, .. } = *detection;
        (score > off.min(on)).then_some(tracking::Sighting { class: place, score, bbox, strong: score > on })
    }

    /// The objects that are there: seen in the last frame, or at rest and missed for a moment.
    pub fn present(&self) -> impl Iterator<Item = Track> + '_ {
        let is_there = |track: &Track| {
            track.last_seen_ms >= self.last_frame || (track.stationary && track.state == State::Present)
        };
        self.tracker.tracks().filter(is_there)
    }

    /// A frame was captured in which nothing moved since the last one that was looked at.
    pub fn stand_still(&mut self, captured: Instant) {
        self.last_frame = self.last_frame.max(self.clock(captured));
        self.tracker.stand_still(self.last_frame);
    }

    /// Whether an object that is taken to be there was not seen in the last frame.
    pub fn misses_somebody(&self) -> bool {
        self.tracker
            .tracks()
            .any(|track| track.state == State::Present && track.last_seen_ms < self.last_frame)
    }

    /// Another threshold: what is there must reach it.
    pub fn doubt(&mut self) {
        self.tracker.doubt();
    }

    /// Whether something can be seen from now on, or why not. Objects outlive a short gap.
    pub fn set_sight(&mut self, blindness: Option<EndReason>, now: Instant) {
        self.blind = blindness.map(|reason| (self.blind.map_or(now, |(since, _)| since), reason));
    }

    /// Ends the objects whose time is over, and all of them where nothing was seen for too long.
    pub fn pass_time(&mut self, now: Instant) -> Changes {
        let over = self.blind.filter(|(since, _)| now.saturating_duration_since(*since) >= self.off_delay);
        match over {
            Some((_, reason)) => self.tracker.finish(reason),
            None => self.tracker.expire(self.clock(now)),
        }
    }

    /// Ends every object.
    pub fn finish(&mut self, reason: EndReason) -> Changes {
        self.tracker.finish(reason)
    }

    /// When an object ends if nothing else happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let by_age = self.tracker.next_deadline().map(|ms| self.instant(ms));
        let by_blindness = self.blind.filter(|_| by_age.is_some()).map(|(since, _)| since + self.off_delay);
        by_age.into_iter().chain(by_blindness).min()
    }

    fn clock(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    /// The moment that the tracker's clock shows as this.
    pub fn instant(&self, ms: u64) -> Instant {
        self.epoch + Duration::from_millis(ms)
    }
}

/// How patient the tracker is to be.
fn options(settings: &CameraSettings) -> TrackingOptions {
    let ms = |seconds: f32| u64::try_from(Duration::from_secs_f32(seconds).as_millis()).unwrap_or(u64::MAX);
    TrackingOptions {
        min_hits: u64::from(settings.min_hits),
        max_age_ms: ms(settings.max_age_s),
        stationary_max_age_ms: ms(settings.stationary_max_age_s),
        ..TrackingOptions::default()
    }
}
