//! What is true of cameras and objects now, and what to tell about it: pure state machines.
//!
//! [`Scene::handle`] takes one input with the time at which it came and appends effects;
//! [`Scene::next_deadline`] says when time alone will change something. Nothing here reads a clock, starts
//! a thread, opens a file or a socket, so hours of a house's life are tested in milliseconds. The thin
//! shell in `daemon/` brings the inputs and carries the effects out. Modelled after `quinn-proto`, where
//! the protocol is such a machine and the sockets stand outside.

mod areas;
mod camera;
mod commands;
mod counts;
mod detections;
mod discovery;
mod events;
mod feedback;
mod figures;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod generations;
mod ledger;
mod motion;
mod overrides;
mod pictures;
mod progress;
mod recent;
mod report;
mod requests;
mod sampling;
mod tally;
#[cfg(test)]
mod tests;
mod tuning;
mod view;

pub use camera::CameraNews;
pub use discovery::{Announced, HomeAssistantNews, LONGEST_DELAY};
pub use generations::{GenerationFacts, Stored};
pub use ledger::Ledger;
pub use overrides::Overrides;
pub use pictures::{PictureOf, PictureOrder};
pub use report::{Facts, Identity};
pub use requests::{Errand, Labelling, Ticket};
pub use sampling::NewSample;
pub use tuning::TuneNews;

use crate::contract::{
    Availability, Command, Data, EventKey, Incoming, Info, Kind, MqttHealth, Names, Problem, Refusal, Topic,
};
use crate::detection::Outcome;
use crate::geometry::Polygon;
use crate::settings::Settings;
use crate::zones::check_labels;
use camera::Camera;
use discovery::Announcing;
use events::{Scenery, Ulids};
use generations::Generations;
use pictures::Pictures;
use recent::Recent;
use report::Report;
use requests::Requests;
use sampling::Sampling;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tuning::Tuning;
use view::Sighting;

/// The time at which an input came. The shell takes it; nobody else asks a clock.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic time, for durations.
    pub mono: Instant,
    /// Wall time, for people; may jump.
    pub wall: SystemTime,
    /// Time since the machine started (CLOCK_BOOTTIME).
    pub boot: Duration,
    /// Whether the wall clock is set by the network.
    pub synced: bool,
}

/// The state of the link to the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Whether a connection stands.
    pub connected: bool,
    /// What the link counted.
    pub counted: MqttHealth,
    /// Subscriptions that the broker refused.
    pub refused_filters: Vec<Arc<str>>,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A frame came out of the pipeline, in its camera's order.
    Outcome(&'a Outcome),
    /// The supervisor of the camera with this number reports.
    Camera(usize, CameraNews),
    /// A command arrived over MQTT and was found well formed.
    Command(Command),
    /// A request arrived over MQTT, well formed or not.
    Request(Box<Incoming>),
    /// The account of events with this number stands on the disk, or cannot be written.
    Written(u64),
    /// The picture with this number, or why there is none.
    Picture(u64, Result<Vec<u8>, String>),
    /// The broker has these events, or they were given up.
    Settled(Vec<EventKey>),
    /// What came of an errand on the disk.
    Done(Ticket, Result<Data, Refusal>),
    /// What is heard of a tuning that was started.
    Tune(TuneNews),
    /// What came of reading the settings again: whether they and their model were taken.
    Reloaded(bool),
    /// Other settings are in force from now on.
    Settings(Box<NewSettings>),
    /// The link to the broker changed, or its counts were looked at.
    Link(LinkState),
    /// Home Assistant says of itself that it is there, or not.
    HomeAssistant(HomeAssistantNews),
    /// What the machine and the process say of themselves.
    Machine(Box<Facts>),
    /// Frames are judged by this generation from now on.
    Generation(Box<GenerationFacts>),
    /// The model in use stays, and may have another place among the tuned ones.
    Stored(Stored),
    /// A worker failed three times in a row on the generation with this number.
    Unfit {
        /// The generation's number.
        generation: u64,
        /// What the last failure was.
        reason: String,
    },
    /// A deadline has passed, or a second.
    Tick,
    /// The daemon ends; nothing else follows.
    Stop,
}

/// Settings with the numbers under which the pipeline knows the cameras.
#[derive(Debug)]
pub struct NewSettings {
    /// All of them.
    pub settings: Settings,
    /// By camera id the camera's number; another number for an id that is known stands for a camera that
    /// was restarted.
    pub numbers: BTreeMap<String, usize>,
    /// Changed settings that wait for the next start, by name.
    pub restart_required: Vec<String>,
}

/// A file of the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateFile {
    /// Events whose objects have not ended, or of which the broker may not know.
    Events,
    /// What was set over MQTT.
    Overrides,
    /// Retained topics that this node may have left on a broker.
    RetainedTopics,
    /// What Home Assistant may have of this node.
    Announced,
}

impl StateFile {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Events, Self::Overrides, Self::RetainedTopics, Self::Announced];
}

/// What is ordered of `retinad tune`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TuneOrder {
    /// Start it.
    Start {
        /// After so long it ends.
        max_minutes: Option<u32>,
        /// Nothing is kept of it.
        dry_run: bool,
    },
    /// End the one that runs.
    Cancel,
}

/// Something to be done by the shell.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Publish this; class, quality of service and retention follow from the topic.
    Publish(Topic, Vec<u8>),
    /// Send a retained topic again although it did not change: the answer to a set.
    Repeat(Topic),
    /// Take a retained topic off the broker: it will not be published any more.
    Forget(Topic),
    /// Publish this event, and say when the broker has it.
    PublishEvent {
        /// Of the camera.
        topic: Topic,
        /// JSON.
        payload: Vec<u8>,
        /// Which event it is.
        key: EventKey,
        /// A picture that is sent before it, with its topic.
        picture: Option<(Topic, Vec<u8>)>,
    },
    /// Make this picture, and give it back.
    Picture(Box<PictureOrder>),
    /// Write down the account of events, and say so.
    Record {
        /// What to say.
        revision: u64,
        /// The file's contents.
        bytes: Vec<u8>,
    },
    /// Keep this over a restart.
    Persist(StateFile, Vec<u8>),
    /// Keep this frame to learn from.
    Keep(Box<NewSample>),
    /// Do this on the disk for a request, and say what came of it.
    Run(Ticket, Errand),
    /// Start or end a tuning, and say what is heard of it.
    Tune(TuneOrder),
    /// Read the settings again, and say what came of it.
    Reload,
    /// End, and be started again.
    Restart,
    /// Let the camera's frames reach the workers, or not.
    Switch {
        /// The camera's number.
        camera: usize,
        /// Whether its frames are detected on.
        on: bool,
    },
    /// Look at the next frame of this camera, whether or not anything moved in it.
    LookAgain {
        /// The camera's number.
        camera: usize,
    },
    /// Hold the workers to this.
    Limit {
        /// Workers that may take frames, at least 1.
        workers: usize,
        /// Share of the time that each may work, percent.
        share_percent: u32,
    },
    /// Look at this model file, and swap to it if it is another one than the one in use.
    Load(PathBuf),
    /// Go back to the generation before the one in use.
    RollBack,
    /// End the daemon: there is no model left that works.
    GiveUp {
        /// What failed last.
        reason: String,
    },
    /// Write a line to the log.
    Tell(Log),
    /// Every camera's share of the pipeline makes progress.
    Alive,
}

/// What is worth a line in the log: once per change of state, not per frame.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the log line")]
pub enum Log {
    CameraOnline { camera: Arc<str> },
    CameraOffline { camera: Arc<str>, reason: String },
    CameraDamaged { camera: Arc<str>, reason: String },
    ReplayOver { camera: Arc<str> },
    FrameDamaged { camera: Arc<str>, reason: String },
    FrameFailed { camera: Arc<str>, reason: String },
    DetectionSwitched { camera: Arc<str>, on: bool },
    ThresholdSet { camera: Arc<str>, value: f32 },
    SnapshotsSwitched { camera: Arc<str>, on: bool },
    SnapshotsForbidden { camera: Arc<str> },
    UnknownCamera { camera: Arc<str> },
    Throttled { workers: usize, share_percent: u32, temperature_c: Option<f64> },
    ThrottledNoMore { share_percent: u32 },
    RolledBack { generation: u64, reason: String },
    LabelUnknown { reason: String },
    EntitiesLeftOut { camera: Arc<str>, left_out: usize },
    Stuck,
}

/// Everything that is true of the node now.
pub struct Scene {
    identity: Identity,
    settings: Settings,
    generations: Generations,
    overrides: Overrides,
    report: Report,
    /// By number. A camera that was restarted has another number.
    cameras: BTreeMap<usize, Camera>,
    sampling: Sampling,
    recent: Recent,
    requests: Requests,
    tuning: Tuning,
    announcing: Announcing,
    ledger: Ledger,
    pictures: Pictures,
    ulids: Ulids,
    stuck: bool,
}

/// What outlived the daemon before.
#[derive(Debug, Default)]
pub struct Remembered {
    /// What was set over MQTT.
    pub overrides: Overrides,
    /// What Home Assistant may have of this node.
    pub announced: Announced,
    /// Events whose objects had not ended, or of which the broker may not know.
    pub ledger: Ledger,
}

impl Scene {
    /// The scene of a daemon that starts, and what it has to say first.
    #[must_use]
    pub fn new(
        now: Now,
        identity: Identity,
        new: NewSettings,
        generation: GenerationFacts,
        remembered: Remembered,
        effects: &mut Vec<Effect>,
    ) -> Self {
        let Remembered { overrides, announced, ledger } = remembered;
        let names = Names::new(&new.settings.mqtt.base, &identity.node);
        let mut scene = Self {
            ulids: Ulids::new(&identity.instance_id),
            report: Report::new(now, &new.settings, new.restart_required.clone()),
            identity,
            settings: new.settings.clone(),
            generations: Generations::new(generation),
            overrides,
            cameras: BTreeMap::new(),
            sampling: Sampling::default(),
            recent: Recent::default(),
            requests: Requests::default(),
            tuning: Tuning::default(),
            announcing: Announcing::new(announced, names),
            ledger,
            pictures: Pictures::default(),
            stuck: false,
        };
        scene.ledger.close_what_was_left(now);
        scene.take_settings(now, new, effects);
        scene.publish_model(effects);
        scene.tuning.publish(now, effects);
        scene.write_events(now, effects);
        scene
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        match input {
            Input::Outcome(outcome) => self.take_outcome(now, outcome, effects),
            Input::Camera(number, news) => self.take_camera_news(now, number, news, effects),
            Input::Command(command) => self.take_command(now, &command, effects),
            Input::Request(incoming) => self.take_request(now, *incoming, effects),
            Input::Written(revision) => self.ledger.take_written(revision, effects),
            Input::Picture(number, picture) => self.take_picture(now, number, picture, effects),
            Input::Settled(keys) => self.ledger.settle(&keys),
            Input::Done(ticket, result) => self.requests.finish(now, ticket, result, effects),
            Input::Tune(news) => self.take_tune_news(now, news, effects),
            Input::Reloaded(taken) => self.take_reloaded(now, taken, effects),
            Input::Settings(new) => {
                let model = new.settings.detector.model_file();
                self.take_settings(now, *new, effects);
                effects.push(Effect::Load(model));
            }
            Input::Link(link) => {
                self.announcing.take_link(now, link.connected, effects);
                self.report.take_link(link);
            }
            Input::HomeAssistant(news) => self.announcing.take_news(now, news),
            Input::Machine(facts) => self.take_facts(now, *facts, effects),
            Input::Generation(facts) => self.take_generation(now, *facts, effects),
            Input::Stored(stored) => {
                if self.generations.place(stored) {
                    self.publish_model(effects);
                }
            }
            Input::Unfit { generation, reason } => self.generations.unfit(generation, reason, effects),
            Input::Tick => self.check_progress(now, effects),
            Input::Stop => return self.stop(now, effects),
        }
        self.pass_time(now, effects);
        self.write_events(now, effects);
    }

    /// How topics are spelled for this node.
    fn names(&self) -> Names {
        Names::new(&self.settings.mqtt.base, &self.identity.node)
    }

    /// Has new events written down, which are published once they are.
    fn write_events(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for number in self.cameras.keys().copied().collect::<Vec<_>>() {
            self.take_events(now, number, effects);
        }
        self.ledger.write(effects);
    }

    /// Whether events wait until they are written down.
    #[must_use]
    pub fn has_unwritten_events(&self) -> bool {
        self.ledger.waits()
    }

    /// When time alone will change something, so that [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let cameras = self.cameras.values().filter_map(Camera::next_deadline);
        let others = [
            self.report.next_deadline(),
            self.requests.next_deadline(),
            self.tuning.next_deadline(),
            self.announcing.next_deadline(),
        ];
        cameras.chain(others.into_iter().flatten()).min()
    }

    /// Every retained topic that this node may have on the broker now.
    #[must_use]
    pub fn retained_topics(&self) -> Vec<Topic> {
        let node = [Kind::Status, Kind::Info, Kind::Health, Kind::Model, Kind::Tune].map(Topic::of_node);
        let of_camera = |camera: &Camera| {
            let kinds = [
                Kind::CameraStatus,
                Kind::DetectState,
                Kind::ThresholdState,
                Kind::SnapshotsState,
                Kind::All,
            ];
            let of_kinds = kinds.map(|kind| Topic::of_camera(kind, &camera.id));
            of_kinds.into_iter().chain(camera.topics()).collect::<Vec<_>>()
        };
        let states = node.into_iter().chain(self.cameras.values().flat_map(of_camera));
        self.announcing.topics().into_iter().chain(states).collect()
    }

    /// Whether every camera is a replay that is over.
    #[must_use]
    pub fn all_ended(&self) -> bool {
        self.cameras.values().all(Camera::has_ended)
    }

    /// One line on how it goes, for `systemctl status`.
    #[must_use]
    pub fn status_line(&self, frames_per_s: f64) -> String {
        let online = self.cameras.values().filter(|camera| camera.status() == Availability::Online).count();
        let broker = if self.report.link().connected { "connected" } else { "not reachable" };
        let throttled = if self.report.throttled() { ", CPU throttled" } else { "" };
        format!(
            "{frames_per_s:.1} frames a second, {online} of {} cameras online, broker {broker}{throttled}",
            self.cameras.len()
        )
    }

    fn take_outcome(&mut self, now: Now, outcome: &Outcome, effects: &mut Vec<Effect>) {
        let Some(camera) = self.cameras.get_mut(&outcome.camera) else { return };
        let before = camera.status();
        camera.take_outcome(now, outcome, effects);
        if let (Some(found), true) = (outcome.detections(), camera.is_enabled()) {
            // One that nobody knows any more is older than two swaps: what its classes meant is forgotten.
            if let Some(judge) = self.generations.find(outcome.generation) {
                let id = Arc::clone(&camera.id);
                let of =
                    Scenery { now, node: &self.identity.node, camera: &id, outcome, judge: &judge.facts };
                let ulids = &mut self.ulids;
                let sightings = camera.look(of, found, judge, &mut || ulids.next(now.wall), effects);
                let told: Vec<Sighting> =
                    sightings.iter().filter(|sighting| sighting.told).copied().collect();
                let sender = detections::Sender { node: &self.identity.node, judge: &judge.facts };
                let is_told =
                    camera.publish_sample(now, outcome, &told, &sender, &self.settings.mqtt, effects);
                let looked_at = sampling::LookedAt {
                    outcome,
                    sightings: &sightings,
                    camera: &camera.id,
                    threshold: camera.threshold,
                    judge: &judge.facts,
                };
                if (is_told || camera.has_events()) && self.settings.samples.enabled {
                    self.recent.remember(&looked_at, self.settings.samples.threshold);
                }
                self.sampling.look(now, &looked_at, camera.hidden(), effects);
                camera.remember(outcome, &told, &judge.facts);
            }
        }
        self.after_camera_change(outcome.camera, before, effects);
    }

    /// Areas that are black in every picture of the camera with this id.
    fn hidden_areas(&self, camera: &str) -> Arc<[Polygon]> {
        let camera = self.cameras.values().find(|known| &*known.id == camera);
        camera.map_or_else(|| Arc::from([]), |camera| Arc::clone(camera.hidden()))
    }

    fn take_camera_news(&mut self, now: Now, number: usize, news: CameraNews, effects: &mut Vec<Effect>) {
        let Some(camera) = self.cameras.get_mut(&number) else { return };
        let before = camera.status();
        camera.take_news(now, news, effects);
        self.after_camera_change(number, before, effects);
    }

    /// Publishes a status that changed, and lets health know.
    fn after_camera_change(&mut self, number: usize, before: Availability, effects: &mut Vec<Effect>) {
        let Some(camera) = self.cameras.get(&number) else { return };
        if camera.status() != before {
            camera.publish_status(effects);
            self.report.state_changed();
        }
    }

    /// Takes settings: cameras that are gone are forgotten, those that were restarted begin anew, the
    /// others go on.
    fn take_settings(&mut self, now: Now, new: NewSettings, effects: &mut Vec<Effect>) {
        let before = self.retained_topics();
        self.settings = new.settings;
        self.overrides.keep_only(|id| self.settings.cameras.contains_key(id), effects);
        let mut old: BTreeMap<Arc<str>, Camera> = std::mem::take(&mut self.cameras)
            .into_values()
            .map(|camera| (Arc::clone(&camera.id), camera))
            .collect();
        for (id, settings) in &self.settings.cameras {
            let Some(&number) = new.numbers.get(id) else { continue };
            let id: Arc<str> = Arc::from(id.as_str());
            let in_force = self.overrides.of(&id, self.settings.detector.min_score);
            let judge = self.generations.current();
            let mut camera = Camera::new(now, number, &id, settings, &self.settings, in_force, judge);
            if let Some(known) = old.remove(&id) {
                camera.go_on_from(now, known);
            }
            effects.push(Effect::Switch { camera: number, on: camera.is_enabled() });
            camera.publish_status(effects);
            camera.publish_settings(effects);
            camera.publish_sums(effects);
            self.cameras.insert(number, camera);
        }
        for mut gone in old.into_values() {
            gone.leave(now);
            gone.take_events().into_iter().for_each(|event| self.ledger.add(event, None));
        }
        self.forget_what_vanished(before, effects);
        let in_use = if self.settings.samples.enabled { self.cameras.values() } else { Default::default() };
        self.recent.keep_only(in_use.map(|camera| (&camera.id, camera.number())));
        self.pictures
            .keep_only(|topic| topic.camera().is_some_and(|id| self.settings.cameras.contains_key(&**id)));
        self.sampling.take_settings(&self.settings.samples, |id| self.settings.cameras.contains_key(id));
        self.report.take_settings(&self.settings, new.restart_required);
        self.limit_workers(effects);
        self.announce(now, effects);
        self.publish_info(effects);
    }

    fn forget_what_vanished(&self, before: Vec<Topic>, effects: &mut Vec<Effect>) {
        let kept = self.retained_topics();
        effects.extend(before.into_iter().filter(|topic| !kept.contains(topic)).map(Effect::Forget));
    }

    /// Takes another generation: counts of labels that it lacks vanish, those of its own begin unknown.
    fn take_generation(&mut self, now: Now, facts: GenerationFacts, effects: &mut Vec<Effect>) {
        let before = self.retained_topics();
        if let Err(error) = check_labels(&self.settings, &facts.labels) {
            effects.push(Effect::Tell(Log::LabelUnknown { reason: error.to_string() }));
        }
        self.generations.take(facts);
        for camera in self.cameras.values_mut() {
            camera.take_generation(self.generations.current(), effects);
        }
        self.forget_what_vanished(before, effects);
        self.report.state_changed();
        self.announce(now, effects);
        self.publish_info(effects);
        self.publish_model(effects);
    }

    fn take_facts(&mut self, now: Now, facts: Facts, effects: &mut Vec<Effect>) {
        for (number, flow) in &facts.flows {
            if let Some(camera) = self.cameras.get_mut(number) {
                camera.take_flow(now, *flow);
            }
        }
        let was_throttled = self.report.throttled();
        self.report.take_facts(facts);
        if self.report.throttled() != was_throttled {
            self.limit_workers(effects);
            effects.push(Effect::Tell(self.report.throttling(&self.settings.detector)));
        }
    }

    fn limit_workers(&self, effects: &mut Vec<Effect>) {
        let detector = &self.settings.detector;
        let (workers, share_percent) =
            report::worker_limits(detector.workers, detector.cpu_quota, self.report.throttled());
        effects.push(Effect::Limit { workers, share_percent });
    }

    /// Says that all is well if every camera makes progress, and says once if one does not.
    fn check_progress(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let stuck = self.cameras.values().any(|camera| camera.is_stuck(now));
        if !stuck {
            effects.push(Effect::Alive);
        } else if !self.stuck {
            effects.push(Effect::Tell(Log::Stuck));
        }
        self.stuck = stuck;
    }

    /// What time alone changes: counts fall, a damaged camera goes offline, health is due.
    fn pass_time(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for number in self.cameras.keys().copied().collect::<Vec<_>>() {
            let Some(camera) = self.cameras.get_mut(&number) else { continue };
            let before = camera.status();
            camera.pass_time(now, effects);
            self.after_camera_change(number, before, effects);
        }
        self.requests.pass_time(now, effects);
        self.tuning.pass_time(now, effects);
        self.pass_time_of_home_assistant(now, effects);
        if self.report.is_due(now) {
            self.publish_health(now, effects);
        }
    }

    fn publish_health(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let problems = self.problems(now);
        let statuses: Vec<_> = self.cameras.values_mut().map(|camera| camera.report(now)).collect();
        effects.push(self.report.health(now, problems, statuses));
    }

    fn problems(&self, now: Now) -> Vec<Problem> {
        let cameras = self.cameras.values().flat_map(Camera::problems);
        let model = self.generations.fell_back().then_some(Problem::ModelFallback);
        // Those of the node first: with hundreds of cameras the end of the list is cut.
        self.report.problems(now).into_iter().chain(model).chain(cameras).collect()
    }

    fn publish_info(&self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Publish(Topic::of_node(Kind::Info), self.info().encode_fitting()));
    }

    fn info(&self) -> Info {
        let labels = |camera: &Camera| -> BTreeMap<String, String> {
            camera.told().iter().map(|name| (name.label.clone(), name.slug.to_string())).collect()
        };
        let labels = self.cameras.values().map(|camera| (Arc::clone(&camera.id), labels(camera))).collect();
        let overrides = self.overrides.in_force(self.settings.detector.min_score);
        let model = self.generations.current().info();
        self.report.info(&self.identity, &self.settings, model, labels, overrides)
    }

    fn publish_model(&self, effects: &mut Vec<Effect>) {
        let bytes = serde_json::to_vec(&self.generations.state()).unwrap_or_default();
        effects.push(Effect::Publish(Topic::of_node(Kind::Model), bytes));
    }

    /// The last words before `status` = `offline`: nothing is in view and no camera gives frames.
    fn stop(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for camera in self.cameras.values_mut() {
            camera.stop(now, effects);
        }
        self.write_events(now, effects);
    }
}
