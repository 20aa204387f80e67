//! Composition: builds the parts from the settings, joins them, and takes them down again.
//!
//! Shutdown order: slots closed, workers drain, cameras end, counts at 0 and cameras `offline`, outbox
//! flushed with `status` = `offline` last, state written; 2 s in all.

mod cameras;
mod clock;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod identity;
mod journal;
mod leftovers;
mod metrics;
mod models;
mod photographer;
mod rate;
mod recorder;
mod reload;
mod retained;
mod service;
mod shell;
mod swap;
mod tuning;
mod watchdog;

pub use identity::{
    broker_host, broker_options, credentials, node_name, runs_here, state_folder_of_command, tls,
    try_state_folder,
};
pub use leftovers::leftovers;
pub use models::{Chosen, check_labels_of, load_model, load_model_of_command};
pub use recorder::{RecorderError, pid_of};
pub use reload::ReadSettings;

use crate::detector::DetectError;
use crate::pipeline::{Dispatcher, GenerationSlot, MotionGate, Offer, Sequencer, WorkerNews, start_workers};
use crate::publish::{PublishError, Publisher};
use crate::scene::{Announced, Input, Ledger, NewSettings, Overrides, Remembered, Scene, StateFile};
use crate::settings::Settings;
use crate::zones::LabelError;
use cameras::Cameras;
use clock::Clock;
use crossbeam_channel::{Receiver, Sender, unbounded};
use metrics::Metrics;
use photographer::Photographer;
use rate::{DetectedFrames, Rate};
use recorder::Recorder;
use reload::Reload;
use retained::RetainedTopics;
use service::Service;
use shell::Shell;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};
use swap::Swap;
use tuning::Tuning;
use watchdog::Watchdog;

/// Why the daemon cannot start or go on. One line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// No camera in the settings.
    #[error("no camera in the settings: add a section [cameras.<name>], see config/retinad.toml")]
    NoCamera,
    /// A label that the model lacks.
    #[error("{0}")]
    Labels(#[from] LabelError),
    /// The password file.
    #[error("mqtt.password_file {path}: {reason}")]
    Password {
        /// The file.
        path: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// A session of the model cannot be built.
    #[error("{path}: {source}")]
    Session {
        /// The model file.
        path: String,
        /// Why.
        source: DetectError,
    },
    /// The broker's side.
    #[error("{0}")]
    Publish(#[from] PublishError),
    /// The state folder.
    #[error("{0}")]
    Recorder(#[from] RecorderError),
    /// A thread or signal handler.
    #[error("cannot start a thread or signal handler: {0}")]
    Thread(#[from] std::io::Error),
    /// A thread without which the daemon does not do its work.
    #[error("thread {thread} {how}; ending, so that systemd starts the service again")]
    ThreadEnded {
        /// Its name.
        thread: String,
        /// By itself, or the panic's words.
        how: String,
    },
    /// Every model failed.
    #[error("the model failed three times in a row and there is none to go back to: {reason}")]
    NoModelLeft {
        /// What failed last.
        reason: String,
    },
}

/// Time for workers to finish their frame, and for the outbox to be flushed and state to be written: 2 s
/// together.
const DRAIN: Duration = Duration::from_millis(800);
const FLUSH: Duration = Duration::from_millis(900);
/// Of the time for the outbox, at most so long is waited until the last events are written down.
const LAST_EVENTS: Duration = Duration::from_millis(100);
/// The disk has at least so long, however long the broker took.
const LEAST_FOR_DISK: Duration = Duration::from_millis(150);

/// Numbers of the signals that are handled (POSIX; the same on every Linux).
mod signals {
    pub const HUP: i32 = signal_hook::consts::SIGHUP;
    pub const INT: i32 = signal_hook::consts::SIGINT;
    pub const TERM: i32 = signal_hook::consts::SIGTERM;
}

/// Why the daemon ended, where nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A signal, or every replay was over.
    Stop,
    /// Somebody asked that it be started again.
    Restart,
}

/// Runs until SIGTERM, SIGINT or a request to restart, or with `once` until every replay is over. `read_settings` reads them anew
/// on SIGHUP; `arguments` name settings and model on the command line of a `retinad` that is started.
///
/// # Errors
/// [`DaemonError`].
pub fn run(
    settings: &Settings,
    chosen: Chosen,
    read_settings: ReadSettings,
    once: bool,
    arguments: Vec<OsString>,
) -> Result<Ending, DaemonError> {
    if settings.cameras.is_empty() {
        return Err(DaemonError::NoCamera);
    }
    check_labels_of(settings, &chosen)?;
    let mut shell = start(settings, chosen, read_settings, once, arguments)?;
    let end = shell.run();
    stop(shell);
    end
}

/// Starts every part, the cameras last.
fn start(
    settings: &Settings,
    chosen: Chosen,
    read_settings: ReadSettings,
    once: bool,
    arguments: Vec<OsString>,
) -> Result<Shell, DaemonError> {
    let Chosen { generation, stored, note } = chosen;
    let generation = &generation;
    if let Some(note) = note {
        tracing::warn!(note, "another model than the one in use last");
    }
    let (credentials, tls) = (credentials(settings)?, tls(settings)?);
    let (to_ends, ends) = unbounded();
    let (recorder, loaded) = Recorder::open(identity::state_folder(settings), &to_ends)?;
    let signal = start_signals(&to_ends)?;
    if settings.mqtt.host.is_empty() {
        start_embedded_broker(settings.mqtt.port)?;
    }
    let node = node_name(settings);
    let remembered = Remembered {
        ledger: loaded.parse(StateFile::Events, Ledger::parse),
        overrides: loaded.parse(StateFile::Overrides, Overrides::parse),
        announced: loaded.parse(StateFile::Announced, Announced::parse),
    };
    let mut options = shell::publisher_options(settings, &node, credentials, tls.clone());
    // What it was told once is taken from it when it is there.
    options.hears_home_assistant |= !remembered.announced.is_empty();
    let names = options.names();
    let publisher = Publisher::start(options, &to_ends)?;
    let photographer = Photographer::start(&to_ends)?;
    let dispatcher = Arc::<Dispatcher>::default();
    let (count, share) = (settings.detector.workers, settings.detector.share(settings.detector.workers));
    let session = |source| DaemonError::Session { path: generation.path.clone(), source };
    let slot = Arc::new(GenerationSlot::new(Offer::of(generation, count, share).map_err(session)?));
    let workers = start_workers(count, &slot, &dispatcher, &to_ends)?;
    let mut cameras = Cameras::new(Arc::clone(&dispatcher), to_ends);
    let (_, pending) = cameras.change(&settings.cameras);
    let mut sequencer = Sequencer::default();
    for camera in &pending {
        dispatcher.add(camera.number, MotionGate::of(&camera.settings));
        sequencer.add(camera.number);
    }
    let clock = Clock::new();
    let now = clock.now();
    let new = NewSettings {
        settings: settings.clone(),
        numbers: cameras.numbers_with(&pending),
        restart_required: Vec::new(),
    };
    let mut effects = Vec::new();
    let facts = shell::facts_of(generation, stored.clone());
    let scene = Scene::new(now, identity::identity(node.clone()), new, facts, remembered, &mut effects);
    let detected = DetectedFrames::default();
    let model = &generation.manifest.name;
    tracing::info!(node, cameras = pending.len(), workers = count, threads = share.threads, model, "started");
    let mut shell = Shell {
        scene,
        effects,
        started_with: settings.clone(),
        node,
        names,
        tls,
        publisher,
        recorder,
        photographer,
        retained: loaded.parse(StateFile::RetainedTopics, RetainedTopics::parse),
        dispatcher,
        workers,
        sequencer,
        rate: Rate::new(detected.clone(), now.mono),
        taps: vec![Box::new(detected)],
        cameras,
        slot,
        swap: Swap::new(
            (Arc::clone(generation), stored),
            settings.detector.model_file(),
            models::generations(settings),
            count,
            (share, settings.detector.input),
        ),
        tuning: Tuning::new(arguments),
        metrics: Metrics::default(),
        reload: Reload::new(read_settings),
        service: Service::new(now.mono),
        watchdog: Watchdog::new(now.mono),
        clock,
        signal,
        ends,
        once,
        link: Default::default(),
        reloading: None,
    };
    // Nothing of this ends a daemon that begins.
    let _ = shell.look_at_machine();
    shell.keep_retained_topics();
    shell.follow_metrics(&settings.metrics);
    for camera in pending {
        shell.cameras.start_pending(camera)?;
    }
    Ok(shell)
}

/// Signals arrive on a thread of their own.
fn start_signals(ends: &Sender<crate::thread::EndNotice>) -> Result<Receiver<i32>, DaemonError> {
    let mut arriving = signal_hook::iterator::Signals::new([signals::TERM, signals::INT, signals::HUP])?;
    let (to, signal) = unbounded();
    crate::thread::spawn("signals", ends, move || {
        let _ = arriving.forever().try_for_each(|number| to.send(number));
    })?;
    Ok(signal)
}

/// Ends everything within 2 s, whatever hangs.
fn stop(mut shell: Shell) {
    tracing::info!("stopping");
    shell.service.stopping();
    shell.dispatcher.close();
    shell.recorder.hurry();
    // It has a moment to keep its checkpoint.
    shell.tuning.cancel();
    let until = Instant::now() + DRAIN;
    while let Ok(news) = shell.workers.news.recv_deadline(until) {
        if let WorkerNews::Outcome { place, outcome } = news {
            shell.release(place, *outcome);
        }
    }
    let _ = shell.handle(Input::Stop);
    shell.publish_last_events(LAST_EVENTS);
    let Shell { publisher, recorder, cameras, .. } = shell;
    cameras.end();
    let flush_until = Instant::now() + FLUSH;
    let left = publisher.shutdown(FLUSH);
    if left > 0 {
        tracing::warn!(left, "messages not acknowledged by the broker");
    } else {
        // Every end has arrived, so the next daemon has nothing to repeat.
        recorder.record(u64::MAX, Ledger::default().encode());
    }
    let recorder_ended = recorder.close();
    recorder::wait_for_end(
        &recorder_ended,
        flush_until.saturating_duration_since(Instant::now()).max(LEAST_FOR_DISK),
    );
}

#[cfg(feature = "embedded-broker")]
fn start_embedded_broker(port: u16) -> Result<(), PublishError> {
    crate::publish::broker::start(port)?;
    tracing::info!(port, "no broker in the settings: an embedded one listens on 127.0.0.1");
    Ok(())
}

#[cfg(not(feature = "embedded-broker"))]
fn start_embedded_broker(port: u16) -> Result<(), PublishError> {
    Err(PublishError::Broker { port, reason: "this build has none (feature embedded-broker)".into() })
}
