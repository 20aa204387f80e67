//! The tracker of one camera: who is there, who came, who went.

use super::assignment::assign;
use super::gain::{found_again, gain};
use super::geometry::{Place, iou};
use super::shake::shake;
use super::track::{Followed, Seen, State, Track, TrackId};

/// How patient the tracker is. Times are in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackingOptions {
    /// Sightings until a track is told, at least 1; more means fewer false starts, later. Where frames are far
    /// apart, 1 suffices.
    pub min_hits: u64,
    /// A track ends when it was not seen for this long, and at least one frame did not show it; longer bridges
    /// longer occlusions, and tells an end later.
    pub max_age_ms: u64,
    /// An object whose box has hardly moved for this long is stationary.
    pub stationary_after_ms: u64,
    /// The age of a stationary one, which does not leave without moving.
    pub stationary_max_age_ms: u64,
    /// Tracks at once, tentative ones too, at least 1; and detections of a frame that are looked at, the
    /// best.
    pub max_tracks: usize,
}

impl Default for TrackingOptions {
    fn default() -> Self {
        Self {
            min_hits: 2,
            max_age_ms: 5_000,
            stationary_after_ms: 4_000,
            stationary_max_age_ms: 30_000,
            max_tracks: 100,
        }
    }
}

/// Size of the picture that boxes refer to, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Across.
    pub width: u32,
    /// Down.
    pub height: u32,
}

/// A detection, and whether it may start a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sighting {
    /// Index of its class.
    pub class: usize,
    /// 0 to 1.
    pub score: f32,
    /// `[x1, y1, x2, y2]`, pixels of the picture.
    pub bbox: [f32; 4],
    /// Whether it is told of itself (its class's `min_score` and `min_size`). A weak one, between `off_score`
    /// and `min_score`, only keeps alive what is already there.
    pub strong: bool,
}

/// Why a track ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// It was not seen for its age.
    Gone,
    /// Its camera gives no frames.
    CameraOffline,
    /// Detection was switched off.
    Disabled,
    /// The daemon ends.
    Shutdown,
}

/// What a call changed. A track is told as started once and as ended once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Told for the first time.
    pub started: Vec<Track>,
    /// Told before, and seen in this frame or changed by it (class, state).
    pub updated: Vec<Track>,
    /// Told for the last time, in the order of their start.
    pub ended: Vec<(Track, EndReason)>,
    /// For each sighting, in the order given, the told track that it belongs to.
    pub of_sighting: Vec<Option<TrackId>>,
}

/// Follows the objects of one camera.
#[derive(Debug)]
pub struct Tracker {
    options: TrackingOptions,
    tracks: Vec<Followed>,
    picture: Option<Picture>,
    /// The latest time given.
    now: u64,
    /// Time of the frame that is looked at, that of the one before, and how far frames are apart on average,
    /// ms.
    frame: u64,
    last_frame: Option<u64>,
    interval: Option<f64>,
}

/// A frame was captured before the call that tells of it, so its time may lie this far before that of other
/// calls; what lies farther back is a clock that was set, ms.
const CLOCK_SLACK_MS: u64 = 60_000;
/// A tentative track ends after this, or after some frames at a low rate.
const TENTATIVE_AGE_MS: u64 = 1_000;
/// One that left the picture ends after this.
const LEFT_AGE_MS: u64 = 2_500;
/// No track ends of age before it could have been seen in this many frames.
const FRAMES_OF_AGE: f64 = 2.5;
/// Frames farther apart than this are an outage: they say nothing about the rate, and what was there before may
/// be anything by now, ms.
const LONGEST_INTERVAL: f64 = 60_000.0;
/// Weight of a new interval in the average.
const INTERVAL_WEIGHT: f64 = 0.2;
/// Frames a second is assumed to be 2 before it is known.
const FIRST_INTERVAL: f64 = 500.0;
/// Frames farther apart than this on average show most visitors once only, ms.
const ONE_LOOK_INTERVAL: f64 = 2_000.0;
/// A miss is a gap of the detector while there are at most this many in a row, or while it lasts at most as
/// long.
const GAP_MISSES: u32 = 2;
const GAP_MS: u64 = 1_000;
/// A stationary object is taken to be there for this share of its age.
const STATIONARY_GAP: u64 = 3;
/// Time that everybody gets if all vanish at once, ms; and how many are all.
const BLACKOUT_MS: u64 = 5_000;
const BLACKOUT_OBJECTS: usize = 2;
/// Detections of one object in one frame overlap by this: of two labels, or of one that NMS left.
const SAME_OBJECT_IOU: f64 = 0.8;

impl Tracker {
    /// A tracker that has seen nothing.
    #[must_use]
    pub fn new(options: TrackingOptions) -> Self {
        Self {
            options,
            tracks: Vec::new(),
            picture: None,
            now: 0,
            frame: 0,
            last_frame: None,
            interval: None,
        }
    }

    /// Takes other options, from the next call on.
    pub fn set_options(&mut self, options: TrackingOptions) {
        self.options = options;
    }

    /// A frame showed these, in any order. Boxes that are no boxes and scores that are no numbers are passed
    /// over.
    ///
    /// `now_ms` is monotonic and may be the time of capture, up to a second before the times of other calls.
    /// If it stands still nothing moves; if it steps back farther, all times kept are carried back with it.
    /// `next_id` is asked once for each track that starts.
    pub fn update(
        &mut self,
        now_ms: u64,
        picture: Picture,
        sightings: &[Sighting],
        next_id: &mut dyn FnMut() -> TrackId,
    ) -> Changes {
        let mut changes = self.expire(now_ms);
        self.frame = now_ms;
        self.fit_to(picture);
        self.predict();
        let (seen, given_as) = self.usable(sightings);
        if let Some(by) = shake(&self.tracks, &seen) {
            self.tracks.iter_mut().for_each(|track| track.shift(by));
        }
        let before: Vec<Option<Track>> = self.tracks.iter().map(Followed::told).collect();
        let mut partners = self.associate(&seen);
        self.take_in(&seen, &partners);
        self.found_new(&seen, &mut partners);
        self.start_ripe(next_id, &mut changes);
        self.tell_updates(&before, &mut changes);
        changes.of_sighting = vec![None; sightings.len()];
        for (partner, given) in partners.iter().zip(given_as) {
            changes.of_sighting[given] = partner.and_then(|track: usize| self.tracks[track].id);
        }
        changes
    }

    /// Time passed without a frame: ends the tracks whose age is over.
    pub fn expire(&mut self, now_ms: u64) -> Changes {
        self.turn_clock(now_ms);
        let (options, interval, now) = (self.options, self.interval(), self.now);
        self.end(EndReason::Gone, |track| deadline(track, &options, interval) <= now)
    }

    /// When time alone will end a told track, in the clock of the calls, ms.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let told = self.tracks.iter().filter(|track| track.id.is_some());
        told.map(|track| deadline(track, &self.options, self.interval())).min()
    }

    /// Nothing moved since the last frame that was looked at: who was seen in it is there still.
    pub fn stand_still(&mut self, now_ms: u64) {
        self.turn_clock(now_ms);
        for track in self.tracks.iter_mut().filter(|track| track.misses == 0) {
            track.last_seen = track.last_seen.max(now_ms);
        }
    }

    /// What is asked of a sighting changed: the next one of each track must be strong.
    pub fn doubt(&mut self) {
        self.tracks.iter_mut().for_each(Followed::doubt);
    }

    /// Ends everything, for this reason.
    pub fn finish(&mut self, reason: EndReason) -> Changes {
        self.last_frame = None;
        self.end(reason, |_| true)
    }

    /// The told tracks that have not ended, in the order of their start.
    pub fn tracks(&self) -> impl Iterator<Item = Track> + '_ {
        self.tracks.iter().filter_map(Followed::told)
    }

    fn end(&mut self, reason: EndReason, over: impl Fn(&Followed) -> bool) -> Changes {
        let mut changes = Changes::default();
        self.tracks.retain(|track| {
            let ends = over(track);
            if ends {
                changes.ended.extend(track.told().map(|told| (told, reason)));
            }
            !ends
        });
        changes
    }

    fn turn_clock(&mut self, now: u64) {
        let back = self.now.saturating_sub(now);
        if back > CLOCK_SLACK_MS {
            self.tracks.iter_mut().for_each(|track| track.set_back(back));
            self.last_frame = self.last_frame.map(|time| time.saturating_sub(back));
            self.now = now;
        }
        self.now = self.now.max(now);
    }

    fn fit_to(&mut self, picture: Picture) {
        let before = self.picture.replace(picture);
        let Some(before) = before.filter(|before| *before != picture && has_area(*before)) else { return };
        if has_area(picture) {
            let scale = [
                f64::from(picture.width) / f64::from(before.width),
                f64::from(picture.height) / f64::from(before.height),
            ];
            self.tracks.iter_mut().for_each(|track| track.carry(scale, [0.0, 0.0]));
        }
    }

    fn predict(&mut self) {
        let passed = self.last_frame.map_or(0, |last| self.frame.saturating_sub(last)) as f64;
        if passed > 0.0 && passed <= LONGEST_INTERVAL {
            let known = self.interval.unwrap_or(passed);
            self.interval = Some(known + INTERVAL_WEIGHT * (passed - known));
        }
        self.last_frame = Some(self.frame);
        self.tracks.iter_mut().for_each(|track| track.predict(passed / 1000.0));
    }

    /// The best sightings, best first, and where each was given.
    fn usable(&self, sightings: &[Sighting]) -> (Vec<Seen>, Vec<usize>) {
        let mut usable: Vec<(Seen, usize)> = sightings
            .iter()
            .enumerate()
            .filter(|(_, sighting)| sighting.score.is_finite())
            .filter_map(|(given, sighting)| {
                let Sighting { class, score, strong, .. } = *sighting;
                Some((Seen { class, score, strong, place: Place::of(sighting.bbox)? }, given))
            })
            .collect();
        usable.sort_by(|(a, _), (b, _)| b.score.total_cmp(&a.score));
        usable.truncate(self.options.max_tracks.max(1));
        usable.into_iter().unzip()
    }

    /// For each sighting the track it belongs to: strong ones first, then weak ones to told tracks that are
    /// left, then strong ones that nobody expected to told tracks that are missed.
    fn associate(&self, seen: &[Seen]) -> Vec<Option<usize>> {
        let mut partners = vec![None; seen.len()];
        let expected = |track: usize, i: usize| gain(&self.tracks[track], &seen[i]);
        self.pair(&mut partners, |_| true, |i| seen[i].strong, expected);
        let is_told = |track: usize| self.tracks[track].id.is_some();
        let is_trusted = |track: usize| is_told(track) && !self.tracks[track].doubted;
        self.pair(&mut partners, is_trusted, |i| !seen[i].strong, expected);
        let sides = self.sides().unwrap_or([f64::INFINITY; 2]);
        let unexpected =
            |track: usize, i: usize| found_again(&self.tracks[track], &seen[i], self.frame, sides);
        self.pair(&mut partners, is_told, |i| seen[i].strong, unexpected);
        partners
    }

    /// Assigns sightings to tracks, of those that are free and chosen.
    fn pair(
        &self,
        partners: &mut [Option<usize>],
        tracks: impl Fn(usize) -> bool,
        sightings: impl Fn(usize) -> bool,
        gain: impl Fn(usize, usize) -> f64,
    ) {
        let free = |track: &usize| tracks(*track) && !partners.contains(&Some(*track));
        let rows: Vec<usize> = (0..self.tracks.len()).filter(free).collect();
        let columns: Vec<usize> =
            (0..partners.len()).filter(|i| partners[*i].is_none() && sightings(*i)).collect();
        let pairs = assign(rows.len(), columns.len(), |r, c| gain(rows[r], columns[c]));
        for (row, column) in pairs.into_iter().enumerate() {
            if let Some(column) = column {
                partners[columns[column]] = Some(rows[row]);
            }
        }
    }

    /// Sides of the picture, where it is known to have any.
    fn sides(&self) -> Option<[f64; 2]> {
        self.picture.filter(|p| has_area(*p)).map(|p| [f64::from(p.width), f64::from(p.height)])
    }

    fn take_in(&mut self, seen: &[Seen], partners: &[Option<usize>]) {
        let in_sight = |track: &&Followed| track.id.is_some() && track.misses == 0;
        let were = self.tracks.iter().filter(in_sight).count();
        for track in &mut self.tracks {
            track.misses = track.misses.saturating_add(1);
        }
        for (seen, partner) in seen.iter().zip(partners) {
            if let Some(track) = partner {
                self.tracks[*track].see(seen, self.frame, self.options.stationary_after_ms);
            }
        }
        let are = self.tracks.iter().filter(in_sight).count();
        let blackout = were >= BLACKOUT_OBJECTS && are == 0;
        let sides = self.sides();
        for track in self.tracks.iter_mut().filter(|track| track.misses > 0) {
            if blackout && track.misses == 1 {
                track.grace = BLACKOUT_MS;
            }
            track.leaving = sides.is_some_and(|sides| track.is_leaving(sides));
            track.state = missed_state(track, self.frame, self.options.stationary_max_age_ms);
        }
    }

    /// Strong sightings that belong to nobody found tentative tracks, unless they show somebody a second
    /// time.
    fn found_new(&mut self, seen: &[Seen], partners: &mut [Option<usize>]) {
        for i in 0..seen.len() {
            if partners[i].is_some() {
                continue;
            }
            let twice = (0..seen.len()).find(|other| {
                partners[*other].is_some() && iou(&seen[i].place, &seen[*other].place) >= SAME_OBJECT_IOU
            });
            if let Some(track) = twice.and_then(|other| partners[other]) {
                self.tracks[track].votes.cast(seen[i].class, seen[i].score);
                partners[i] = Some(track);
            } else if seen[i].strong && self.tracks.len() < self.options.max_tracks.max(1) {
                partners[i] = Some(self.tracks.len());
                self.tracks.push(Followed::new(&seen[i], self.frame));
            }
        }
    }

    /// How far frames are apart on average, ms.
    fn interval(&self) -> f64 {
        self.interval.unwrap_or(FIRST_INTERVAL)
    }

    fn start_ripe(&mut self, next_id: &mut dyn FnMut() -> TrackId, changes: &mut Changes) {
        let enough = if self.interval() > ONE_LOOK_INTERVAL { 1 } else { self.options.min_hits };
        for track in &mut self.tracks {
            if track.id.is_none() && track.misses == 0 && track.hits >= enough {
                track.id = Some(next_id());
                changes.started.extend(track.told());
            }
        }
    }

    fn tell_updates(&self, before: &[Option<Track>], changes: &mut Changes) {
        for (track, before) in self.tracks.iter().zip(before) {
            let (Some(before), Some(told)) = (before, track.told()) else { continue };
            let changed = told.state != before.state || told.class != before.class;
            if track.misses == 0 || changed {
                changes.updated.push(told);
            }
        }
    }
}

/// When a track ends if it is not seen again; `interval` is how far frames are apart, ms.
fn deadline(track: &Followed, options: &TrackingOptions, interval: f64) -> u64 {
    let age = if track.id.is_none() {
        TENTATIVE_AGE_MS
    } else if track.leaving {
        LEFT_AGE_MS.min(options.max_age_ms)
    } else if track.stationary {
        options.stationary_max_age_ms.max(options.max_age_ms)
    } else {
        options.max_age_ms
    };
    let frames = (interval * FRAMES_OF_AGE) as u64;
    // Who was there in the last frame is not gone because no other came.
    let unlooked = if track.misses == 0 { LONGEST_INTERVAL as u64 } else { 0 };
    track.last_seen.saturating_add(age.max(frames).max(unlooked)).saturating_add(track.grace)
}

/// Whether a track that was not seen is still taken to be there.
fn missed_state(track: &Followed, now: u64, stationary_age: u64) -> State {
    let unseen = now.saturating_sub(track.last_seen);
    let gap = if track.stationary { stationary_age / STATIONARY_GAP } else { GAP_MS };
    let short = track.misses <= GAP_MISSES || unseen <= gap;
    if short && !track.leaving { State::Present } else { State::Lost }
}

fn has_area(picture: Picture) -> bool {
    picture.width > 0 && picture.height > 0
}
