//! One camera: whether it gives frames that can be used, what it shows, and what is told about it.

use super::areas::{Areas, Name, Standing};
use super::counts::Counts;
use super::detections::{self, Origin, Sender};
use super::events::{Events, Scenery};
use super::generations::{Generation, GenerationFacts};
use super::motion::Motion;
use super::overrides::InForce;
use super::pictures::{LastFrame, Source};
use super::progress::Progress;
use super::tally::Tally;
use super::view::{Frame, Looked, Sighting, View};
use super::{Effect, Log, Now};
use crate::contract::{
    Availability, CameraHealth, Kind, ObjectEvent, Problem, Topic, on_off, threshold_text,
};
use crate::detection::{Detection, Outcome, Verdict};
use crate::frame::Flow;
use crate::geometry::Polygon;
use crate::metrics::{CameraFigures, LabelFigures};
use crate::settings::{CameraSettings, MqttSettings, Settings, SnapshotsSettings};
use crate::tracking::{Changes, EndReason, Track, TrackId};
use crate::zones::foot;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the supervisor of a camera reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CameraNews {
    /// The first frame after an open.
    Online,
    /// It cannot be opened, or it stopped; it will be tried again.
    Offline {
        /// Why.
        reason: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A frame was damaged before it became one.
    Damaged {
        /// Why.
        reason: String,
    },
    /// A replay is over.
    Ended,
}

/// Whether frames that come can be used.
#[derive(Debug, Default)]
struct Damage {
    /// When the first of the damaged frames came that no good one has followed.
    since: Option<Instant>,
    /// What was wrong with the last of them.
    reason: String,
    /// It lasted so long that the camera counts as offline.
    lasting: bool,
}

/// One camera of the [`Scene`](super::Scene).
pub(super) struct Camera {
    pub id: Arc<str>,
    /// Scores at or below this are not told.
    pub threshold: f32,
    number: usize,
    enabled: bool,
    /// Frames come, whatever they are worth.
    giving: bool,
    ended: bool,
    damage: Damage,
    /// Damaged frames, and nothing else, for so long are as good as none.
    timeout: Duration,
    last_logged_reason: Option<String>,
    progress: Progress,
    counts: Counts,
    view: View,
    areas: Areas,
    events: Events,
    tally: Tally,
    motion: Motion,
    last_sample: Option<Instant>,
    /// Whether the settings let its pictures leave the machine, and whether that was switched off.
    pictures: [bool; 2],
    /// None while nothing can be seen, or no picture may leave.
    last_frame: Option<LastFrame>,
}

impl Camera {
    /// A camera that is about to be opened for the first time.
    pub fn new(
        now: Now,
        number: usize,
        id: &Arc<str>,
        settings: &CameraSettings,
        all: &Settings,
        in_force: InForce,
        judge: &Generation,
    ) -> Self {
        let off_delay = Duration::from_secs_f32(all.mqtt.off_delay_s);
        let view = View::new(settings, judge, off_delay, now.mono);
        let mut areas = Areas::new(settings, off_delay, now.mono);
        areas.set_labels(view.told());
        Self {
            id: Arc::clone(id),
            threshold: in_force.threshold,
            number,
            enabled: in_force.detect,
            giving: false,
            ended: false,
            damage: Damage::default(),
            timeout: Duration::from_secs_f32(settings.timeout_s),
            last_logged_reason: None,
            progress: Progress::new(settings, all.cameras.len(), now.mono),
            counts: Counts::new(&slugs(view.told()), off_delay, now.mono),
            view,
            areas,
            events: Events::default(),
            tally: Tally::default(),
            motion: Motion::new(off_delay),
            last_sample: None,
            pictures: [all.snapshots.enabled, in_force.snapshots],
            last_frame: None,
        }
    }

    /// Takes over what is still true of the camera with the same id under the settings before.
    pub fn go_on_from(&mut self, now: Now, known: Self) {
        let off_delay = self.counts.off_delay;
        self.counts = known.counts;
        self.counts.off_delay = off_delay;
        self.counts.set_labels(&slugs(self.view.told()));
        self.areas.go_on_from(known.areas, known.view.settings(), self.view.settings());
        self.view.go_on_from(known.view, known.threshold != self.threshold);
        self.events = known.events;
        if known.number != self.number {
            // It was opened anew, perhaps with another picture.
            self.leave(now);
        }
        self.tally = known.tally;
        if known.number == self.number {
            // The same supervisor goes on.
            (self.giving, self.ended, self.damage) = (known.giving, known.ended, known.damage);
            (self.last_logged_reason, self.last_sample) = (known.last_logged_reason, known.last_sample);
            self.progress = known.progress;
            self.last_frame = known.last_frame.filter(|_| self.tells_pictures());
        }
        self.update_sight(now);
    }

    /// Keeps counts of labels that this generation has; new ones begin unknown.
    pub fn take_generation(&mut self, judge: &Generation, effects: &mut Vec<Effect>) {
        self.view.take_generation(judge);
        self.counts.set_labels(&slugs(self.view.told()));
        self.areas.set_labels(self.view.told());
        self.publish_sums(effects);
    }

    /// Every retained topic that tells what it shows.
    pub fn topics(&self) -> Vec<Topic> {
        let counts = self.view.told().iter().map(|name| Topic::count(&self.id, &name.slug));
        let motion = self.has_gate().then(|| Topic::of_camera(Kind::Motion, &self.id));
        counts.chain(self.areas.topics(&self.id)).chain(motion).collect()
    }

    /// Topics of counts in its zones and of totals of its lines.
    pub fn places(&self) -> Vec<Topic> {
        self.areas.topics(&self.id)
    }

    /// The labels that it tells.
    pub fn told(&self) -> &[Name] {
        self.view.told()
    }

    /// Areas that are black in every picture of it.
    pub fn hidden(&self) -> &Arc<[Polygon]> {
        self.view.hidden()
    }

    /// Another threshold, which what was told must reach anew.
    pub fn set_threshold(&mut self, threshold: f32) {
        self.threshold = threshold;
        self.view.doubt();
    }

    /// Whether its pictures may leave the machine.
    pub fn tells_pictures(&self) -> bool {
        self.pictures == [true; 2]
    }

    /// Switches its pictures; whether the settings allow what was asked for.
    pub fn switch_pictures(&mut self, on: bool) -> bool {
        self.pictures[1] = on;
        if !on {
            self.last_frame = None;
        }
        self.pictures[0] || !on
    }

    /// Remembers a frame of which a picture may be wanted.
    pub fn remember(&mut self, outcome: &Outcome, told: &[Sighting], judge: &GenerationFacts) {
        let text = |sighting: &Sighting| {
            let Detection { class, score, bbox } = sighting.detection;
            (bbox, format!("{} {score:.2}", judge.labels.get(class).map_or("", String::as_str)))
        };
        self.last_frame = self.tells_pictures().then(|| LastFrame {
            seq: outcome.seq,
            raw: Arc::clone(&outcome.raw),
            told: told.iter().map(text).collect(),
        });
    }

    /// What a picture of it can be made from now.
    pub fn picture_source<'a>(&'a self, settings: &'a SnapshotsSettings) -> Option<Source<'a>> {
        let frame = self.last_frame.as_ref().filter(|_| self.tells_pictures())?;
        Some(Source { frame, hidden: self.view.hidden(), settings })
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// As on `<cam>/status`.
    pub fn status(&self) -> Availability {
        match (self.enabled, self.giving && !self.damage.lasting) {
            (false, _) => Availability::Disabled,
            (true, true) => Availability::Online,
            (true, false) => Availability::Offline,
        }
    }

    /// Switches detection, and says so.
    pub fn switch(&mut self, now: Now, on: bool, effects: &mut Vec<Effect>) {
        self.enabled = on;
        effects.push(Effect::Switch { camera: self.number, on });
        if self.giving {
            // Frames that came while detection was off left no outcome.
            self.progress.came(now.mono);
        }
        self.update_sight(now);
        self.publish_status(effects);
    }

    /// Takes a frame that came out of the pipeline.
    pub fn take_outcome(&mut self, now: Now, outcome: &Outcome, effects: &mut Vec<Effect>) {
        self.progress.came(now.mono);
        self.tally.take_outcome(now, outcome);
        let moving = outcome.moving.filter(|_| self.enabled);
        if moving.is_some_and(|moving| self.motion.see(moving, now.mono)) {
            self.publish_motion(effects);
        }
        let camera = Arc::clone(&self.id);
        match &outcome.verdict {
            Verdict::Detected(_) => self.damage = Damage::default(),
            Verdict::Unchanged => {
                self.damage = Damage::default();
                self.view.stand_still(outcome.captured);
            }
            Verdict::Damaged(reason) => {
                effects.push(Effect::Tell(Log::FrameDamaged { camera, reason: reason.clone() }));
                self.take_damage(now, reason.clone());
            }
            Verdict::Failed(reason) => {
                self.damage = Damage::default();
                effects.push(Effect::Tell(Log::FrameFailed { camera, reason: reason.clone() }));
            }
        }
    }

    /// Whether frames in which nothing moved are not looked at.
    fn has_gate(&self) -> bool {
        self.view.settings().motion
    }

    /// Has the next frame looked at, whatever moves in it.
    pub fn look_again(&self, effects: &mut Vec<Effect>) {
        if self.has_gate() {
            effects.push(Effect::LookAgain { camera: self.number });
        }
    }

    fn take_damage(&mut self, now: Now, reason: String) {
        self.damage.since.get_or_insert(now.mono);
        self.damage.reason = reason;
        self.update_sight(now);
    }

    /// Takes what the supervisor reports.
    pub fn take_news(&mut self, now: Now, news: CameraNews, effects: &mut Vec<Effect>) {
        let camera = Arc::clone(&self.id);
        match news {
            CameraNews::Online => {
                self.progress.came(now.mono);
                self.tally.reopens += u64::from(self.last_logged_reason.is_some());
                self.giving = true;
                if !self.damage.lasting {
                    self.last_logged_reason = None;
                    effects.push(Effect::Tell(Log::CameraOnline { camera }));
                }
            }
            CameraNews::Offline { reason, retry_in } => {
                self.progress.will_be_tried_again(now.mono, retry_in);
                self.giving = false;
                self.damage.since = None;
                if self.last_logged_reason.as_ref() != Some(&reason) {
                    effects.push(Effect::Tell(Log::CameraOffline { camera, reason: reason.clone() }));
                    self.last_logged_reason = Some(reason);
                }
            }
            CameraNews::Damaged { reason } => {
                self.progress.came(now.mono);
                self.tally.damaged += 1;
                self.take_damage(now, reason);
            }
            CameraNews::Ended => {
                self.progress.ended();
                (self.giving, self.ended) = (false, true);
                effects.push(Effect::Tell(Log::ReplayOver { camera }));
            }
        }
        self.update_sight(now);
    }

    /// Counts fall while nothing can be seen.
    fn update_sight(&mut self, now: Now) {
        let sees = self.status() == Availability::Online && self.damage.since.is_none();
        if sees {
            self.counts.regain_sight()
        } else {
            self.counts.go_blind(now.mono)
        }
        self.areas.set_sight(sees, now.mono);
        if !sees {
            self.last_frame = None;
        }
        let blindness = if self.enabled { EndReason::CameraOffline } else { EndReason::Disabled };
        self.view.set_sight((!sees).then_some(blindness), now.mono);
    }

    /// Takes how many frames came so far. A camera that is switched off makes progress while it gives frames.
    pub fn take_flow(&mut self, now: Now, flow: Flow) {
        if self.tally.take_flow(flow) && !self.enabled {
            self.progress.came(now.mono);
        }
    }

    /// Looks at what was found in a frame, and tells what changed of the objects that are there. Each that starts
    /// asks `next_id` for its name. Gives what no mask hides, best first.
    pub fn look(
        &mut self,
        of: Scenery<'_>,
        found: &[Detection],
        judge: &Generation,
        next_id: &mut dyn FnMut() -> TrackId,
        effects: &mut Vec<Effect>,
    ) -> Vec<Sighting> {
        let (outcome, threshold) = (of.outcome, self.threshold);
        let frame =
            Frame { found, size: [outcome.width, outcome.height], captured: outcome.captured, threshold };
        let Looked { sightings, changes } = self.view.look(frame, judge, next_id);
        let below = sightings.iter().find(|sighting| sighting.wanted && !sighting.told);
        if let Some(best) = below {
            self.tally.take_below(best.detection.score);
        }
        let present: Vec<Track> = self.view.present().collect();
        let changed = self.counts.see(&self.counted(&present), of.now.mono);
        self.publish_counts(&changed, effects);
        self.tell_objects(of, &changes, &present, effects);
        if self.counts.is_falling() || self.view.misses_somebody() {
            // Who is gone is decided by looking, not by a frame that repeats the last one.
            self.look_again(effects);
        }
        sightings
    }

    /// Objects of each label, by slug.
    fn counted(&self, present: &[Track]) -> BTreeMap<Arc<str>, usize> {
        let mut seen = BTreeMap::new();
        for track in present {
            *seen.entry(Arc::clone(&self.view.name(track).slug)).or_default() += 1;
        }
        seen
    }

    /// Says which objects came, changed and went, and in which zones they stand.
    fn tell_objects(
        &mut self,
        of: Scenery<'_>,
        changes: &Changes,
        present: &[Track],
        effects: &mut Vec<Effect>,
    ) {
        self.end_objects(of.now, changes);
        let size = [of.outcome.width, of.outcome.height];
        let standing: Vec<Standing<'_>> = present
            .iter()
            .map(|track| Standing {
                object: track.id.0,
                name: self.view.name(track),
                at: foot(track.last_bbox, size),
            })
            .collect();
        let placed = self.areas.place(of.now.mono, &standing, &self.id);
        publish_texts(placed.texts, effects);
        for track in &changes.started {
            let seen = [track.first_seen_ms, track.last_seen_ms].map(|ms| self.view.instant(ms));
            self.events.start(&of, track, self.view.name(track), seen);
        }
        for track in &changes.updated {
            let last = self.view.instant(track.last_seen_ms);
            self.events.see(&of, track, self.view.name(track), last);
        }
        let ids: Vec<TrackId> = present.iter().map(|track| track.id).collect();
        self.events.place(&ids, &placed.zones);
        self.events.tell_starts(of.now, &changes.started);
        self.events.tell_updates(of.now);
    }

    fn end_objects(&mut self, now: Now, changes: &Changes) {
        self.events.end(now, &changes.ended);
        self.areas.forget(changes.ended.iter().map(|(track, _)| track.id.0));
    }

    /// Its picture is no more: nothing of what is there can be followed any further.
    pub fn leave(&mut self, now: Now) {
        let changes = self.view.finish(EndReason::CameraOffline);
        self.end_objects(now, &changes);
    }

    /// Whether something is to be said of its objects.
    pub fn has_events(&self) -> bool {
        self.events.has_outgoing()
    }

    /// Events that are to be sent, in order.
    pub fn take_events(&mut self) -> Vec<ObjectEvent> {
        let events = self.events.take_outgoing();
        events.iter().for_each(|event| self.tally.take_event(event));
        events
    }

    /// Number under which the pipeline knows it; another one after each start.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Tells what a frame showed, where the settings want it and the rate allows; whether it did.
    pub fn publish_sample(
        &mut self,
        now: Now,
        outcome: &Outcome,
        told: &[Sighting],
        sender: &Sender<'_>,
        mqtt: &MqttSettings,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let gap = Duration::from_secs_f32(1.0 / mqtt.max_rate);
        let early = self.last_sample.is_some_and(|last| now.mono.saturating_duration_since(last) < gap);
        if early || !detections::is_wanted(mqtt.detections, told) {
            return false;
        }
        self.last_sample = Some(now.mono);
        let origin = Origin { camera: &self.id, threshold: self.threshold };
        let topic = Topic::of_camera(Kind::Detections, &self.id);
        effects.push(Effect::Publish(topic, detections::encode(now, outcome, told, &origin, sender)));
        true
    }

    /// What time alone changes: counts fall, lasting damage becomes offline.
    pub fn pass_time(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due =
            self.damage.since.is_some_and(|since| now.mono.saturating_duration_since(since) >= self.timeout);
        if due && !self.damage.lasting {
            self.damage.lasting = true;
            let reason = self.damage.reason.clone();
            self.last_logged_reason = Some(reason.clone());
            effects.push(Effect::Tell(Log::CameraDamaged { camera: Arc::clone(&self.id), reason }));
            self.update_sight(now);
        }
        let changed = self.counts.pass_time(now.mono);
        self.publish_counts(&changed, effects);
        if self.motion.pass_time(now.mono) {
            self.publish_motion(effects);
        }
        publish_texts(self.areas.pass_time(now.mono, &self.id), effects);
        let changes = self.view.pass_time(now.mono);
        self.end_objects(now, &changes);
        self.events.tell_updates(now);
    }

    /// When time alone will change something.
    pub fn next_deadline(&self) -> Option<Instant> {
        let damage = self.damage.since.filter(|_| !self.damage.lasting).map(|since| since + self.timeout);
        let others =
            [self.counts.next_deadline(), self.areas.next_deadline(), self.view.next_deadline(), damage];
        others.into_iter().chain([self.events.next_deadline(), self.motion.next_deadline()]).flatten().min()
    }

    /// Whether a sign of life is overdue.
    pub fn is_stuck(&self, now: Now) -> bool {
        self.progress.is_overdue(now.mono)
    }

    /// What is wrong with this camera.
    pub fn problems(&self) -> Option<Problem> {
        match self.status() {
            _ if self.damage.lasting => Some(Problem::CameraDamaged(Arc::clone(&self.id))),
            Availability::Offline => Some(Problem::CameraOffline(Arc::clone(&self.id))),
            _ => None,
        }
    }

    /// Id and figures for `bridge/health`; rates are over the time since the last call.
    pub fn report(&mut self, now: Now) -> (String, CameraHealth) {
        (self.id.to_string(), self.tally.report(self.status(), self.has_gate(), now))
    }

    /// Figures for metrics, all since the start.
    pub fn figures(&self) -> CameraFigures {
        let started = self.tally.started();
        let told = self.view.told().iter().map(|name| LabelFigures {
            label: name.label.clone(),
            objects: self.counts.shown(&name.slug),
            started: started.get(&name.label).copied().unwrap_or(0),
        });
        // A counter that vanished would be a hole in a chart.
        let is_told = |label: &String| self.view.told().iter().any(|name| name.label == *label);
        let before = started
            .iter()
            .filter(|(label, _)| !is_told(label))
            .map(|(label, started)| LabelFigures { label: label.clone(), objects: None, started: *started });
        CameraFigures {
            id: Arc::clone(&self.id),
            status: self.status(),
            moving: self.motion.shown().filter(|_| self.has_gate()),
            counters: self.tally.counters(),
            times: self.tally.times().clone(),
            last_frame: self.tally.last_frame(),
            labels: told.chain(before).collect(),
        }
    }

    pub fn publish_status(&self, effects: &mut Vec<Effect>) {
        self.publish(Kind::CameraStatus, self.status().word(), effects);
    }

    /// Tells switch and threshold.
    pub fn publish_settings(&self, effects: &mut Vec<Effect>) {
        self.publish(Kind::DetectState, on_off(self.enabled), effects);
        self.publish(Kind::ThresholdState, &threshold_text(self.threshold), effects);
        self.publish(Kind::SnapshotsState, on_off(self.tells_pictures()), effects);
    }

    /// Tells the sums over what may have changed with settings or model: all labels, and each line.
    pub fn publish_sums(&self, effects: &mut Vec<Effect>) {
        if let Some(all) = self.counts.all() {
            self.publish(Kind::All, &all.to_string(), effects);
        }
        publish_texts(self.areas.totals(&self.id), effects);
    }

    fn publish_motion(&self, effects: &mut Vec<Effect>) {
        if let Some(on) = self.motion.shown() {
            self.publish(Kind::Motion, on_off(on), effects);
        }
    }

    fn publish_counts(&self, changed: &[Arc<str>], effects: &mut Vec<Effect>) {
        for label in changed {
            if let Some(count) = self.counts.shown(label) {
                effects.push(Effect::Publish(Topic::count(&self.id, label), count.to_string().into_bytes()));
            }
        }
        if let (false, Some(all)) = (changed.is_empty(), self.counts.all()) {
            self.publish(Kind::All, &all.to_string(), effects);
        }
    }

    fn publish(&self, kind: Kind, text: &str, effects: &mut Vec<Effect>) {
        effects.push(Effect::Publish(Topic::of_camera(kind, &self.id), text.as_bytes().to_vec()));
    }

    /// The daemon ends: nothing is in view, and no frames come.
    pub fn stop(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let changed = self.counts.clear();
        self.publish_counts(&changed, effects);
        if self.motion.end() {
            self.publish_motion(effects);
        }
        publish_texts(self.areas.clear(&self.id), effects);
        let changes = self.view.finish(EndReason::Shutdown);
        self.end_objects(now, &changes);
        self.publish(Kind::CameraStatus, Availability::Offline.word(), effects);
    }
}

fn slugs(names: &[Name]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::clone(&name.slug)).collect()
}

fn publish_texts(texts: Vec<(Topic, String)>, effects: &mut Vec<Effect>) {
    effects.extend(texts.into_iter().map(|(topic, text)| Effect::Publish(topic, text.into_bytes())));
}
