//! What of a camera's picture is told: which detections the settings want, which objects are in which zone, and
//! who crossed which line.

use super::counts::Counts;
use super::generations::Generation;
use crate::contract::Topic;
use crate::detection::Detection;
use crate::geometry::{Crossing, Polygon};
use crate::settings::{CameraSettings, Hidden};
use crate::zones::{
    Candidate, Crossings, Following, Mask, ObjectId, Presence, Totals, foot, is_wanted, means, shares,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Without `off_score`, what was told stays while it scores this share of what it must score first. Measured on
/// perturbed stills: on at 0.5 and off at 0.35, objects vanish from 5 % of the frames in place of 18 %.
const OFF_SHARE: f32 = 0.7;

/// What was told is remembered for at least so long ...
const LEAST_MEMORY: Duration = Duration::from_secs(2);
/// ... and from one frame to the next, of a camera that gives one in a while, for at most so long.
const LONGEST_GAP: Duration = Duration::from_secs(60);

/// A detection that no mask hides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    pub detection: Detection,
    /// The camera tells this label, whatever it scores.
    pub wanted: bool,
    /// Its number, if it is told.
    pub object: Option<ObjectId>,
}

/// What the settings ask of one class of a model.
#[derive(Debug, Clone)]
struct ClassRule {
    slug: Arc<str>,
    wanted: bool,
    /// In place of the camera's threshold.
    min_score: Option<f32>,
    /// Share of the picture.
    min_size: f64,
    /// Which masks, zones and lines are meant, in their order.
    masks: Vec<bool>,
    zones: Vec<bool>,
    lines: Vec<bool>,
}

struct Zone {
    name: Arc<str>,
    /// Labels that are counted in it, as the settings name them.
    labels: Vec<String>,
    area: Polygon,
    loiter: Duration,
    presence: Presence,
    counts: Counts,
}

struct Line {
    name: Arc<str>,
    /// Labels whose crossings are counted, as the settings name them.
    labels: Vec<String>,
    crossings: Crossings,
    totals: BTreeMap<Arc<str>, Totals>,
}

/// The view of one camera.
pub(super) struct View {
    settings: CameraSettings,
    /// What was told is remembered for so long, or until the next frame where that takes longer.
    memory: Duration,
    last_look: Option<Instant>,
    /// The longer of the two, for the frame that was looked at last.
    bridged: Duration,
    /// Slugs of the labels that are told, of the model in use.
    told: Vec<Arc<str>>,
    /// What the settings ask of the classes of the generation with this number.
    rules: (u64, Vec<ClassRule>),
    following: Following,
    /// With the labels that they are for, as the settings name them.
    masks: Vec<(Mask, Vec<String>)>,
    hidden: Arc<[Polygon]>,
    zones: Vec<Zone>,
    lines: Vec<Line>,
}

impl View {
    /// A camera from which nothing was seen so far.
    pub fn new(settings: &CameraSettings, judge: &Generation, off_delay: Duration, now: Instant) -> Self {
        let zones = settings.zones.iter().filter_map(|(name, zone)| {
            Some(Zone {
                name: Arc::from(name.as_str()),
                labels: zone.labels.clone(),
                area: zone.polygon()?,
                loiter: Duration::from_secs_f32(zone.loiter_s),
                presence: Presence::default(),
                counts: Counts::new(&[], off_delay, now),
            })
        });
        let lines = settings.lines.iter().filter_map(|(name, line)| {
            let crossings = Crossings::new(line.line()?);
            let (name, labels) = (Arc::from(name.as_str()), line.labels.clone());
            Some(Line { name, labels, crossings, totals: BTreeMap::new() })
        });
        let is_hidden =
            |mask: &&_| matches!(mask, crate::settings::MaskSettings { hides: Hidden::Picture, .. });
        let hidden: Vec<Polygon> =
            settings.masks.values().filter(is_hidden).filter_map(|mask| mask.polygon()).collect();
        let masks = settings.masks.values().filter_map(|mask| Some((Mask::of(mask)?, mask.labels.clone())));
        let mut view = Self {
            memory: off_delay.max(LEAST_MEMORY),
            last_look: None,
            bridged: off_delay,
            told: Vec::new(),
            rules: (0, Vec::new()),
            following: Following::default(),
            masks: masks.collect(),
            hidden: hidden.into(),
            zones: zones.collect(),
            lines: lines.collect(),
            settings: settings.clone(),
        };
        view.take_generation(judge);
        view
    }

    /// Takes over what is still true of the same camera under the settings before. Whether an object is the
    /// same one is known only if it would have been told by the same rules, and if pictures and scores
    /// are comparable with those before.
    pub fn go_on_from(&mut self, known: Self, is_comparable: bool) {
        let (old, new) = (&known.settings, &self.settings);
        let same_rules = (old.off_score, &old.labels, &old.rules, &old.masks)
            == (new.off_score, &new.labels, &new.rules, &new.masks);
        for zone in known.zones {
            let same = old.zones.get(&*zone.name) == new.zones.get(&*zone.name);
            if let Some(own) = self.zones.iter_mut().find(|own| own.name == zone.name) {
                own.presence = if same { zone.presence } else { Presence::default() };
                let labels: Vec<_> = own.counts.labels().cloned().collect();
                let off_delay = own.counts.off_delay;
                own.counts = zone.counts;
                own.counts.off_delay = off_delay;
                own.counts.set_labels(&labels);
            }
        }
        for line in known.lines {
            let same = old.lines.get(&*line.name).map(|line| &line.points)
                == new.lines.get(&*line.name).map(|line| &line.points);
            if let Some(own) = self.lines.iter_mut().find(|own| own.name == line.name).filter(|_| same) {
                own.crossings = line.crossings;
                own.totals.iter_mut().for_each(|(label, totals)| {
                    *totals = line.totals.get(label).copied().unwrap_or_default();
                });
            }
        }
        (self.following, self.last_look) = (known.following, known.last_look);
        if !same_rules || !is_comparable {
            self.following.forget();
        }
    }

    /// Takes another model's labels; those that stay keep their counts.
    pub fn take_generation(&mut self, judge: &Generation) {
        let rules = self.rules_of(judge);
        let slugs = |meant: &dyn Fn(&ClassRule) -> bool| -> Vec<Arc<str>> {
            let told = rules.iter().filter(|rule| rule.wanted && meant(rule));
            told.map(|rule| Arc::clone(&rule.slug)).collect()
        };
        self.told = slugs(&|_| true);
        for (i, zone) in self.zones.iter_mut().enumerate() {
            zone.counts.set_labels(&slugs(&|rule| rule.zones[i]));
        }
        for (i, line) in self.lines.iter_mut().enumerate() {
            let totals = slugs(&|rule| rule.lines[i]).into_iter();
            let totals = totals.map(|slug| (line.totals.get(&slug).copied().unwrap_or_default(), slug));
            line.totals = totals.map(|(totals, slug)| (slug, totals)).collect();
        }
    }

    fn rules_of(&self, judge: &Generation) -> Vec<ClassRule> {
        let settings = &self.settings;
        let classes = judge.facts.labels.iter().zip(&judge.slugs);
        let rule_of = |(label, slug): (&String, &Arc<str>)| {
            let wanted = |names: &[String]| is_wanted(names, label, slug);
            let rule = settings.rules.iter().find(|(name, _)| means(name, label, slug)).map(|(_, rule)| rule);
            ClassRule {
                slug: Arc::clone(slug),
                wanted: !label.is_empty() && wanted(&settings.labels),
                min_score: rule.map(|rule| rule.min_score).filter(|score| *score > 0.0),
                min_size: rule.map_or(0.0, |rule| f64::from(rule.min_size)),
                masks: self.masks.iter().map(|(_, labels)| wanted(labels)).collect(),
                zones: self.zones.iter().map(|zone| wanted(&zone.labels)).collect(),
                lines: self.lines.iter().map(|line| wanted(&line.labels)).collect(),
            }
        };
        classes.map(rule_of).collect()
    }

    /// Slugs of the labels that are told, of the model in use.
    pub fn told(&self) -> &[Arc<str>] {
        &self.told
    }

    /// Areas that are black in every picture.
    pub fn hidden(&self) -> &Arc<[Polygon]> {
        &self.hidden
    }

    /// Looks at a frame of `size` pixels: what no mask hides of `found`, in its order. Above `threshold`
    /// something is told that has no rule of its own.
    pub fn look(
        &mut self,
        now: Instant,
        found: &[Detection],
        size: [u32; 2],
        threshold: f32,
        judge: &Generation,
    ) -> Vec<Sighting> {
        if self.rules.0 != judge.facts.number {
            // Classes of another model may be other ones.
            self.rules = (judge.facts.number, self.rules_of(judge));
            self.following.forget();
        }
        let gap = self.last_look.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last_look = Some(now);
        self.bridged = self.memory.max(gap.min(LONGEST_GAP));
        let rules = &self.rules.1;
        let is_masked = |detection: &Detection| {
            let rule = rules.get(detection.class);
            let meant = self.masks.iter().enumerate();
            let meant = meant.filter(|(i, _)| rule.is_none_or(|rule| rule.masks[*i]));
            let bbox = shares(detection.bbox, size);
            meant.into_iter().any(|(_, (mask, _))| mask.hides(bbox))
        };
        let visible: Vec<Detection> =
            found.iter().filter(|detection| !is_masked(detection)).copied().collect();
        let candidates: Vec<Candidate> =
            visible.iter().map(|detection| self.candidate(*detection, size, threshold)).collect();
        let objects = self.following.tell(now, &candidates, self.bridged);
        let wanted = |class: usize| self.rules.1.get(class).is_some_and(|rule| rule.wanted);
        let sightings = visible.into_iter().zip(objects).map(|(detection, object)| Sighting {
            wanted: wanted(detection.class),
            detection,
            object,
        });
        sightings.collect()
    }

    /// A detection with the scores above which it is told; no score is above those of one that never is.
    fn candidate(&self, detection: Detection, size: [u32; 2], threshold: f32) -> Candidate {
        let never = Candidate { detection, on: f32::INFINITY, off: f32::INFINITY };
        let Some(rule) = self.rules.1.get(detection.class).filter(|rule| rule.wanted) else { return never };
        let [x1, y1, x2, y2] = shares(detection.bbox, size);
        if (x2 - x1) * (y2 - y1) < rule.min_size {
            return never;
        }
        let on = rule.min_score.unwrap_or(threshold);
        let off = if self.settings.off_score > 0.0 { self.settings.off_score } else { on * OFF_SHARE };
        Candidate { detection, on, off }
    }

    /// Another threshold: what was told must reach it anew.
    pub fn forget(&mut self) {
        self.following.forget();
    }

    /// Objects of each label that a frame showed, by slug.
    pub fn counted(&self, told: &[Sighting]) -> BTreeMap<Arc<str>, usize> {
        let mut seen = BTreeMap::new();
        for sighting in told.iter().filter(|sighting| sighting.object.is_some()) {
            if let Some(rule) = self.rules.1.get(sighting.detection.class) {
                *seen.entry(Arc::clone(&rule.slug)).or_default() += 1;
            }
        }
        seen
    }

    /// Takes where the told objects of a frame stand, and gives the topics that change with their texts.
    pub fn place(
        &mut self,
        now: Instant,
        told: &[Sighting],
        size: [u32; 2],
        camera: &Arc<str>,
    ) -> Vec<(Topic, String)> {
        let rules = &self.rules.1;
        let standing: Vec<(ObjectId, &ClassRule, [f64; 2])> = told
            .iter()
            .filter_map(|s| Some((s.object?, rules.get(s.detection.class)?, foot(s.detection.bbox, size))))
            .collect();
        let mut changed = Vec::new();
        for (i, zone) in self.zones.iter_mut().enumerate() {
            zone.presence.forget(now, self.bridged);
            let mut seen: BTreeMap<Arc<str>, usize> = BTreeMap::new();
            for (object, rule, at) in standing.iter().filter(|(_, rule, _)| rule.zones[i]) {
                if zone.presence.see(*object, zone.area.contains(*at), now, zone.loiter) {
                    *seen.entry(Arc::clone(&rule.slug)).or_default() += 1;
                }
            }
            let labels = zone.counts.see(&seen, now);
            changed.extend(zone.texts(&labels, camera));
        }
        for (i, line) in self.lines.iter_mut().enumerate() {
            line.crossings.forget(now, self.bridged);
            for (object, rule, at) in standing.iter().filter(|(_, rule, _)| rule.lines[i]) {
                let Some(crossing) = line.crossings.see(*object, *at, now) else { continue };
                if let Some(totals) = line.totals.get_mut(&rule.slug) {
                    totals.add(crossing);
                    changed.push(line.text(&rule.slug, crossing, camera));
                }
            }
        }
        changed
    }

    /// Lets counts of zones fall whose time has come, and gives the topics that change with their texts.
    pub fn pass_time(&mut self, now: Instant, camera: &Arc<str>) -> Vec<(Topic, String)> {
        self.each_zone(camera, |counts| counts.pass_time(now))
    }

    /// Every zone at 0, where it is known: the end of the daemon.
    pub fn clear(&mut self, camera: &Arc<str>) -> Vec<(Topic, String)> {
        self.each_zone(camera, Counts::clear)
    }

    fn each_zone(
        &mut self,
        camera: &Arc<str>,
        change: impl Fn(&mut Counts) -> Vec<Arc<str>>,
    ) -> Vec<(Topic, String)> {
        let texts = self.zones.iter_mut().flat_map(|zone| {
            let labels = change(&mut zone.counts);
            zone.texts(&labels, camera)
        });
        texts.collect()
    }

    /// Counts of zones fall while nothing can be seen.
    pub fn set_sight(&mut self, sees: bool, now: Instant) {
        for zone in &mut self.zones {
            if sees { zone.counts.regain_sight() } else { zone.counts.go_blind(now) }
        }
    }

    /// When a zone's count falls if nothing else happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.zones.iter().filter_map(|zone| zone.counts.next_deadline()).min()
    }

    /// Totals of every line, with their topics.
    pub fn totals(&self, camera: &Arc<str>) -> Vec<(Topic, String)> {
        let both = [Crossing::ToRight, Crossing::ToLeft];
        let texts = self.lines.iter().flat_map(|line| {
            line.totals.keys().flat_map(move |slug| both.map(|crossing| line.text(slug, crossing, camera)))
        });
        texts.collect()
    }

    /// Every topic of zones and lines.
    pub fn topics(&self, camera: &Arc<str>) -> Vec<Topic> {
        let zones = self
            .zones
            .iter()
            .flat_map(|zone| zone.counts.labels().map(|label| Topic::zone_count(camera, &zone.name, label)));
        zones.chain(self.totals(camera).into_iter().map(|(topic, _)| topic)).collect()
    }
}

impl Zone {
    /// The counts of these labels, where they are known, with their topics.
    fn texts(&self, labels: &[Arc<str>], camera: &Arc<str>) -> Vec<(Topic, String)> {
        let known = labels.iter().filter_map(|label| Some((label, self.counts.shown(label)?)));
        known
            .map(|(label, count)| (Topic::zone_count(camera, &self.name, label), count.to_string()))
            .collect()
    }
}

impl Line {
    fn text(&self, label: &Arc<str>, crossing: Crossing, camera: &Arc<str>) -> (Topic, String) {
        let totals = self.totals.get(label).copied().unwrap_or_default();
        let total = match crossing {
            Crossing::ToRight => totals.to_right,
            Crossing::ToLeft => totals.to_left,
        };
        (Topic::line_total(crossing == Crossing::ToRight, camera, &self.name, label), total.to_string())
    }
}
