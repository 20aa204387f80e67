//! Zones and lines of one camera: how many objects stand where, and how many crossed.

use super::counts::Counts;
use crate::contract::Topic;
use crate::geometry::{Crossing, Point, Polygon};
use crate::settings::CameraSettings;
use crate::zones::{Crossings, ObjectId, Presence, Totals, is_wanted};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A label as the model names it and as it stands in topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub label: String,
    pub slug: Arc<str>,
}

/// An object that is there, and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing<'a> {
    pub object: ObjectId,
    pub name: &'a Name,
    pub at: Point,
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

/// What a frame changed.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Topics that change, with their texts.
    pub texts: Vec<(Topic, String)>,
    /// The zones that each object counts in, of those that count in any.
    pub zones: BTreeMap<ObjectId, Vec<Arc<str>>>,
}

/// The zones and lines of one camera.
pub(super) struct Areas {
    zones: Vec<Zone>,
    lines: Vec<Line>,
}

impl Areas {
    /// Nobody was seen so far; which labels are counted is said by [`Areas::set_labels`].
    pub fn new(settings: &CameraSettings, off_delay: Duration, now: Instant) -> Self {
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
        Self { zones: zones.collect(), lines: lines.collect() }
    }

    /// Takes over counts, stays and totals under the settings before, where they still mean the same.
    pub fn go_on_from(&mut self, known: Self, old: &CameraSettings, new: &CameraSettings) {
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
    }

    /// The labels that are told; those that stay keep their counts.
    pub fn set_labels(&mut self, told: &[Name]) {
        let slugs = |meant: &[String]| -> Vec<Arc<str>> {
            let meant = told.iter().filter(|name| is_wanted(meant, &name.label, &name.slug));
            meant.map(|name| Arc::clone(&name.slug)).collect()
        };
        for zone in &mut self.zones {
            zone.counts.set_labels(&slugs(&zone.labels));
        }
        for line in &mut self.lines {
            let totals = slugs(&line.labels).into_iter();
            let totals = totals.map(|slug| (line.totals.get(&slug).copied().unwrap_or_default(), slug));
            line.totals = totals.map(|(totals, slug)| (slug, totals)).collect();
        }
    }

    /// Takes where the objects of a frame stand.
    pub fn place(&mut self, now: Instant, standing: &[Standing<'_>], camera: &Arc<str>) -> Placed {
        let mut placed = Placed::default();
        for zone in &mut self.zones {
            let mut seen: BTreeMap<Arc<str>, usize> = BTreeMap::new();
            for Standing { object, name, at } in standing {
                if !is_wanted(&zone.labels, &name.label, &name.slug) {
                    continue;
                }
                if zone.presence.see(*object, zone.area.contains(*at), now, zone.loiter) {
                    *seen.entry(Arc::clone(&name.slug)).or_default() += 1;
                    placed.zones.entry(*object).or_default().push(Arc::clone(&zone.name));
                }
            }
            let labels = zone.counts.see(&seen, now);
            placed.texts.extend(zone.texts(&labels, camera));
        }
        for line in &mut self.lines {
            for Standing { object, name, at } in standing {
                if !is_wanted(&line.labels, &name.label, &name.slug) {
                    continue;
                }
                let Some(crossing) = line.crossings.see(*object, *at) else { continue };
                if let Some(totals) = line.totals.get_mut(&name.slug) {
                    totals.add(crossing);
                    placed.texts.push(line.text(&name.slug, crossing, camera));
                }
            }
        }
        placed
    }

    /// These objects are gone for good.
    pub fn forget(&mut self, gone: impl Iterator<Item = ObjectId> + Clone) {
        for zone in &mut self.zones {
            gone.clone().for_each(|object| zone.presence.forget(object));
        }
        for line in &mut self.lines {
            gone.clone().for_each(|object| line.crossings.forget(object));
        }
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
