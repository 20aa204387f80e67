//! The shell around the scene: the one `select!` of the daemon. It takes inputs from channels, stamps them
//! with the time, hands them to the scene and carries its effects out. It does no work of its own and waits
//! for nobody.

use super::cameras::Cameras;
use super::clock::Clock;
use super::identity::broker_host;
use super::journal;
use super::metrics::Metrics;
use super::photographer::Photographer;
use super::rate::Rate;
use super::recorder::Recorder;
use super::reload::{Reload, Reloaded};
use super::retained::{RetainedTopics, Update};
use super::service::Service;
use super::swap::{Swap, Swapped};
use super::tuning::Tuning;
use super::watchdog::Watchdog;
use super::{DaemonError, Ending, signals};
use crate::contract::{Names, WorkerHealth};
use crate::detector::Generation;
use crate::health;
use crate::pipeline::{
    Dispatcher, FrameTap, GenerationSlot, MotionGate, Sequencer, WorkerLimits, WorkerNews, Workers,
};
use crate::publish::{Deadlines, LinkNews, LinkStatus, Publisher, PublisherOptions, Tls};
use crate::scene::{
    CameraNews, Effect, Facts, GenerationFacts, HomeAssistantNews, Input, LONGEST_DELAY, LinkState,
    NewSettings, Scene, StateFile, Stored,
};
use crate::secret::Secret;
use crate::settings::{MetricsSettings, Settings};
use crate::thread::EndNotice;
use crossbeam_channel::{Receiver, RecvError, at, never, select, tick};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often facts are looked at, the watchdog is fed, and what failed before is tried again.
const TICK: Duration = Duration::from_secs(1);

/// What the shell joins. Each part ends by being dropped in `daemon::stop`.
pub(super) struct Shell {
    pub scene: Scene,
    /// Effects that wait to be carried out, in order.
    pub effects: Vec<Effect>,
    /// As the daemon was started, for the keys that need a restart.
    pub started_with: Settings,
    pub node: String,
    pub names: Names,
    /// How TLS to the broker is spoken, as read last.
    pub tls: Option<Tls>,
    pub publisher: Publisher,
    pub recorder: Recorder,
    pub photographer: Photographer,
    pub retained: RetainedTopics,
    pub dispatcher: Arc<Dispatcher>,
    pub workers: Workers,
    pub sequencer: Sequencer,
    pub taps: Vec<Box<dyn FrameTap>>,
    pub cameras: Cameras,
    pub slot: Arc<GenerationSlot>,
    pub swap: Swap,
    pub tuning: Tuning,
    pub metrics: Metrics,
    pub reload: Reload,
    pub service: Service,
    pub rate: Rate,
    pub watchdog: Watchdog,
    pub clock: Clock,
    pub signal: Receiver<i32>,
    /// Threads that ended.
    pub ends: Receiver<EndNotice>,
    /// The daemon ends once every replay is over.
    pub once: bool,
    pub link: LinkStatus,
    /// The reload that is under way, of which systemd was told.
    pub reloading: Option<ReloadUnderWay>,
}

/// What has come of a reload so far.
#[derive(Default)]
pub(super) struct ReloadUnderWay {
    /// The settings, or the model that they name, cannot be used.
    failed: bool,
}

/// Whether the loop goes on.
type Turn = ControlFlow<Result<Ending, DaemonError>>;

impl Shell {
    /// Until a signal, a request to restart, the end of every replay where that was asked for, or a failure that
    /// a restart may mend.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub fn run(&mut self) -> Result<Ending, DaemonError> {
        let clock = tick(TICK);
        loop {
            let deadline = self.scene.next_deadline().map_or_else(never, at);
            let turn = select! {
                // A channel that closes says nothing of itself: the thread behind it is told of by `ends`.
                recv(self.workers.news) -> news => on(news, |news| self.take_worker_news(news)),
                recv(self.cameras.news()) -> news => on(news, |(number, news)| self.take_camera_news(number, news)),
                recv(self.publisher.news()) -> news => on(news, |news| self.take_link_news(news)),
                recv(self.signal) -> number => on(number, |number| self.take_signal(number)),
                recv(self.reload.results()) -> result => on(result, |result| self.take_reload(result)),
                recv(self.swap.results()) -> swapped => on(swapped, |swapped| self.take_swap(swapped)),
                recv(self.tuning.news()) -> news => on(news, |news| self.handle(Input::Tune(news))),
                recv(self.recorder.done()) -> done => on(done, |(ticket, result)| {
                    self.handle(Input::Done(ticket, result))
                }),
                recv(self.recorder.recorded()) -> revision => on(revision, |revision| {
                    self.handle(Input::Written(revision))
                }),
                recv(self.photographer.made()) -> made => on(made, |(number, picture)| {
                    self.handle(Input::Picture(number, picture))
                }),
                recv(self.recorder.answers()) -> well => on(well, |well| self.take_recorder_answer(well)),
                recv(self.recorder.models()) -> changed => on(changed, |()| self.load_model()),
                recv(self.ends) -> notice => on(notice, |notice| self.take_end(notice)),
                recv(clock) -> _ => self.take_tick(),
                recv(deadline) -> _ => self.handle(Input::Tick),
            };
            if let ControlFlow::Break(end) = turn {
                return end;
            }
        }
    }

    /// Hands one input to the scene and carries out what follows.
    pub fn handle(&mut self, input: Input<'_>) -> Turn {
        self.scene.handle(self.clock.now(), input, &mut self.effects);
        self.carry_out()
    }

    /// Carries out the effects that wait.
    pub fn carry_out(&mut self) -> Turn {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Publish(topic, payload) => self.publisher.publish(topic, payload),
                Effect::Repeat(topic) => self.publisher.repeat(topic),
                Effect::Forget(topic) => self.publisher.forget(&topic),
                Effect::PublishEvent { topic, payload, key, picture } => {
                    self.publisher.publish_event(topic, payload, key, picture);
                }
                Effect::Picture(order) => self.photographer.order(*order),
                Effect::Record { revision, bytes } => self.recorder.record(revision, bytes),
                Effect::Persist(file, bytes) => self.recorder.save(file, bytes),
                Effect::Keep(new) => self.recorder.keep(*new),
                Effect::Run(ticket, errand) => self.recorder.run(ticket, errand),
                Effect::Tune(order) => self.tuning.obey(order),
                Effect::Reload => self.begin_reload(),
                Effect::Restart => return ControlFlow::Break(Ok(Ending::Restart)),
                Effect::Switch { camera, on } => self.dispatcher.switch(camera, on),
                Effect::LookAgain { camera } => self.dispatcher.look_again(camera),
                Effect::Limit { workers, share_percent } => {
                    self.dispatcher.limit(WorkerLimits { workers, share_percent })
                }
                Effect::Load(path) => self.swap.load(path),
                Effect::RollBack => self.swap.roll_back(),
                Effect::GiveUp { reason } => {
                    return ControlFlow::Break(Err(DaemonError::NoModelLeft { reason }));
                }
                Effect::Tell(line) => journal::write(&line),
                Effect::Alive => self.watchdog.cameras_progress(),
            }
        }
        ControlFlow::Continue(())
    }

    fn take_worker_news(&mut self, news: WorkerNews) -> Turn {
        match news {
            WorkerNews::Unfit { generation, reason } => self.handle(Input::Unfit { generation, reason }),
            WorkerNews::Outcome { place, outcome } => {
                self.release(place, *outcome);
                self.carry_out()
            }
        }
    }

    /// Passes outcomes on that are in order now: first to the taps, then to the scene.
    pub fn release(&mut self, place: u64, outcome: crate::detection::Outcome) {
        let (scene, taps, effects) = (&mut self.scene, &mut self.taps, &mut self.effects);
        let clock = &self.clock;
        self.sequencer.accept(place, outcome, |outcome| {
            taps.iter_mut().for_each(|tap| tap.see(&outcome));
            scene.handle(clock.now(), Input::Outcome(&outcome), effects);
        });
    }

    fn take_camera_news(&mut self, number: usize, news: CameraNews) -> Turn {
        self.service.ready();
        self.handle(Input::Camera(number, news))?;
        self.show_status(true);
        if self.once && self.scene.all_ended() {
            return ControlFlow::Break(Ok(Ending::Stop));
        }
        ControlFlow::Continue(())
    }

    fn take_link_news(&mut self, news: LinkNews) -> Turn {
        match news {
            LinkNews::Command(command) => self.handle(Input::Command(command)),
            LinkNews::Request(incoming) => self.handle(Input::Request(incoming)),
            LinkNews::HomeAssistant { online: false } => {
                self.handle(Input::HomeAssistant(HomeAssistantNews::Offline))
            }
            LinkNews::HomeAssistant { online: true } => {
                let delay = LONGEST_DELAY.mul_f64(health::chance());
                self.handle(Input::HomeAssistant(HomeAssistantNews::Online { delay }))
            }
            LinkNews::Changed => self.look_at_link(),
        }
    }

    /// The daemon ends: waits until the last events are written down, and publishes them in any case.
    pub fn publish_last_events(&mut self, budget: Duration) {
        let until = self.clock.now().mono + budget;
        while self.scene.has_unwritten_events() {
            let revision = self.recorder.recorded().recv_deadline(until).unwrap_or(u64::MAX);
            // Nothing of this ends a daemon that ends.
            let _ = self.handle(Input::Written(revision));
        }
    }

    fn take_recorder_answer(&mut self, well: bool) -> Turn {
        self.watchdog.recorder_answered(well);
        ControlFlow::Continue(())
    }

    fn take_signal(&mut self, number: i32) -> Turn {
        if number != signals::HUP {
            return ControlFlow::Break(Ok(Ending::Stop));
        }
        self.begin_reload();
        ControlFlow::Continue(())
    }

    fn begin_reload(&mut self) {
        self.service.reloading();
        self.reloading.get_or_insert_default();
        self.reload.begin();
    }

    fn take_reload(&mut self, result: Result<Reloaded, super::reload::ReloadError>) -> Turn {
        let turn = match result {
            Ok(reloaded) => self.take_settings(reloaded),
            Err(error) => {
                tracing::error!(%error, "settings not reloaded; the old ones stay");
                self.note_failure();
                ControlFlow::Continue(())
            }
        };
        self.reload.done();
        turn?;
        self.tell_reloaded()
    }

    /// Puts new settings in force: what runs is compared with what is wanted, and only the difference is
    /// touched.
    fn take_settings(&mut self, reloaded: Reloaded) -> Turn {
        let waiting = self.started_with.diff(&reloaded.settings).restart_needed;
        let settings = in_force(&self.started_with, reloaded.settings, &waiting);
        let (removed, pending) = self.cameras.change(&settings.cameras);
        for number in removed {
            self.dispatcher.remove(number);
            self.sequencer.remove(number);
        }
        for camera in &pending {
            self.dispatcher.add(camera.number, MotionGate::of(&camera.settings));
            self.sequencer.add(camera.number);
        }
        if !keeps_broker(&waiting) {
            self.tls = reloaded.tls;
        }
        let mut options = publisher_options(&settings, &self.node, reloaded.credentials, self.tls.clone());
        options.hears_home_assistant |= !self.scene.announced().is_empty();
        self.names = options.names();
        self.publisher.reconnect(options);
        if waiting.is_empty() {
            tracing::info!("settings reloaded");
        } else {
            tracing::warn!(keys = waiting.join(" "), "settings reloaded; these keys need a restart");
        }
        let numbers = self.cameras.numbers_with(&pending);
        let metrics = settings.metrics.clone();
        self.handle(Input::Settings(Box::new(NewSettings { settings, numbers, restart_required: waiting })))?;
        for camera in pending {
            if let Err(error) = self.cameras.start_pending(camera) {
                return ControlFlow::Break(Err(error.into()));
            }
        }
        self.follow_metrics(&metrics);
        self.keep_retained_topics();
        ControlFlow::Continue(())
    }

    /// Starts, moves or stops what tells metrics.
    pub fn follow_metrics(&mut self, settings: &MetricsSettings) {
        let (scene, now) = (&self.scene, self.clock.now());
        self.metrics.follow(settings, || scene.figures(now));
    }

    /// Another process tuned a model, or went back to an earlier one.
    fn load_model(&mut self) -> Turn {
        self.swap.load_again();
        ControlFlow::Continue(())
    }

    fn take_swap(&mut self, swapped: Swapped) -> Turn {
        self.swap.take(&swapped);
        let turn = match swapped {
            Swapped::Same(stored) => self.handle(Input::Stored(stored)),
            Swapped::Failed(error) => {
                tracing::error!(%error, "model not changed; the one in use stays");
                self.note_failure();
                ControlFlow::Continue(())
            }
            Swapped::Ready { generation, stored, offer } => {
                self.slot.put(offer);
                tracing::info!(
                    model = generation.manifest.name,
                    generation = generation.number,
                    "model changed"
                );
                let turn = self.handle(Input::Generation(Box::new(facts_of(&generation, stored))));
                self.keep_retained_topics();
                turn
            }
        };
        turn?;
        self.tell_reloaded()
    }

    /// A reload that is under way does not put in force what it was to.
    fn note_failure(&mut self) {
        if let Some(reload) = &mut self.reloading {
            reload.failed = true;
        }
    }

    /// Tells systemd and whoever asked that a reload is over, once settings and model are both in force or
    /// refused. While they are being read again, for somebody who asked meanwhile, it is not.
    fn tell_reloaded(&mut self) -> Turn {
        if !self.reload.is_idle() || !self.swap.is_idle() {
            return ControlFlow::Continue(());
        }
        let Some(reload) = self.reloading.take() else { return ControlFlow::Continue(()) };
        self.service.reloaded();
        self.handle(Input::Reloaded(!reload.failed))
    }

    fn look_at_link(&mut self) -> Turn {
        let settled = self.publisher.take_settled();
        if !settled.is_empty() {
            self.handle(Input::Settled(settled))?;
        }
        let status = self.publisher.status();
        let changed = status.connected != self.link.connected;
        self.link = status.clone();
        let LinkStatus { connected, counted, refused_filters } = status;
        let turn = self.handle(Input::Link(LinkState { connected, counted, refused_filters }));
        self.show_status(changed);
        turn
    }

    fn take_end(&mut self, notice: EndNotice) -> Turn {
        // A supervisor ends by itself when its replay is over or its camera is not wanted any more.
        if notice.panic.is_none() && notice.thread.starts_with("sup-") {
            return ControlFlow::Continue(());
        }
        let how = notice.panic.unwrap_or_else(|| "ended".into());
        ControlFlow::Break(Err(DaemonError::ThreadEnded { thread: notice.thread, how }))
    }

    fn take_tick(&mut self) -> Turn {
        self.clock.look();
        let now = self.clock.now();
        self.look_at_link()?;
        self.look_at_machine()?;
        self.handle(Input::Tick)?;
        self.recorder.ping();
        self.keep_retained_topics();
        self.service.ready_after_longest_start(now.mono);
        if self.watchdog.is_well(now.mono, self.publisher.turns()) {
            self.service.alive();
        }
        self.show_status(false);
        self.metrics.put(|| self.scene.figures(now));
        ControlFlow::Continue(())
    }

    /// Tells the scene what the machine and the process say of themselves.
    pub fn look_at_machine(&mut self) -> Turn {
        let facts = self.facts();
        self.handle(Input::Machine(Box::new(facts)))
    }

    fn facts(&self) -> Facts {
        let limits = self.dispatcher.limits();
        let total = self.workers.threads.len();
        let workers = WorkerHealth {
            total,
            allowed: limits.workers.min(total),
            busy: self.workers.counted.busy.load(Ordering::Relaxed),
            restarts: self.workers.counted.restarts.load(Ordering::Relaxed),
        };
        let flows = self.dispatcher.flows();
        let problems = health::machine_problems().into_iter().chain(self.watchdog.problem()).collect();
        Facts { machine: health::machine(), problems, workers, flows }
    }

    fn show_status(&mut self, changed: bool) {
        let now = self.clock.now().mono;
        let (scene, rate) = (&self.scene, &mut self.rate);
        self.service.status(now, changed, || scene.status_line(rate.look(now)));
    }

    /// Full names of the retained topics that are published now.
    fn published(&self) -> BTreeSet<String> {
        self.scene.retained_topics().iter().map(|topic| self.names.full(topic)).collect()
    }

    /// Clears what vanished, and keeps the list of what may stand on the broker.
    pub fn keep_retained_topics(&mut self) {
        let published = self.published();
        let Update { clear, file } = self.retained.update(&published, &self.publisher.not_cleared());
        for full in clear {
            self.publisher.clear(full);
        }
        if let Some(bytes) = file {
            self.recorder.save(StateFile::RetainedTopics, bytes);
        }
    }
}

/// What `take` makes of a message; nothing where the channel has closed.
fn on<T>(message: Result<T, RecvError>, take: impl FnOnce(T) -> Turn) -> Turn {
    message.map_or(ControlFlow::Continue(()), take)
}

/// The new settings, with the keys that wait for a restart as they run.
fn in_force(started_with: &Settings, mut new: Settings, waiting: &[String]) -> Settings {
    let running = started_with;
    new.node.clone_from(&running.node);
    new.state_dir.clone_from(&running.state_dir);
    (new.detector.workers, new.detector.threads) = (running.detector.workers, running.detector.threads);
    new.detector.picture_memory = running.detector.picture_memory;
    if keeps_broker(waiting) {
        new.mqtt.host.clone_from(&running.mqtt.host);
        new.mqtt.port = running.mqtt.port;
        new.mqtt.tls = running.mqtt.tls;
    }
    new
}

/// Whether the broker stays as it is until a restart, because the old or the new one is the embedded one.
fn keeps_broker(waiting: &[String]) -> bool {
    waiting.iter().any(|key| key.starts_with("mqtt."))
}

/// How to reach the broker under these settings.
pub(super) fn publisher_options(
    settings: &Settings,
    node: &str,
    credentials: Option<(String, Secret)>,
    tls: Option<Tls>,
) -> PublisherOptions {
    PublisherOptions {
        host: broker_host(settings),
        port: settings.mqtt.port,
        credentials,
        base: settings.mqtt.base.clone(),
        node: node.to_owned(),
        cameras: settings.cameras.keys().map(|id| Arc::from(id.as_str())).collect(),
        home_assistant: settings.mqtt.homeassistant.prefix.clone(),
        hears_home_assistant: settings.mqtt.homeassistant.enabled,
        tls,
        deadlines: Deadlines::default(),
    }
}

/// What the scene must know of a loaded model.
pub(super) fn facts_of(generation: &Generation, stored: Stored) -> GenerationFacts {
    let input = &generation.manifest.input;
    GenerationFacts {
        number: generation.number,
        sha256: generation.sha256.clone(),
        name: generation.manifest.name.clone(),
        labels: generation.labels.clone(),
        input: [input.width, input.height],
        stored,
    }
}
