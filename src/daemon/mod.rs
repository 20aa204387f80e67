//! Composition: builds the parts from the settings, joins them, and takes them down again.
//!
//! Shutdown order: slots closed, workers drain, cameras `offline`, outbox flushed with `status` = `offline` last; 2 s in all.

mod cameras;
mod desk;
mod overrides;
mod progress;
mod service;

use crate::detector::Generation;
use crate::health;
use crate::pipeline::{Dispatcher, Sequencer, start_workers};
use crate::publish::{PublishError, Publisher, PublisherOptions, topics};
use crate::settings::{Settings, SettingsError, is_id};
use crossbeam_channel::{bounded, select, tick, unbounded};
use desk::Desk;
use overrides::Overrides;
use service::Service;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why the daemon cannot start or go on. One line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// No camera in the settings.
    #[error("no camera in the settings: add a section [cameras.<name>], see config/retinad.toml")]
    NoCamera,
    /// The password file.
    #[error("mqtt.password_file {path}: {reason}")]
    Password {
        /// The file.
        path: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The broker's side.
    #[error("{0}")]
    Publish(#[from] PublishError),
    /// A thread or signal handler.
    #[error("cannot start a thread or signal handler: {0}")]
    Thread(#[from] std::io::Error),
}

/// Time for workers to finish their frame, and for the outbox to be flushed: 2 s together.
const DRAIN: Duration = Duration::from_millis(900);
const FLUSH: Duration = Duration::from_millis(1000);
/// Start-up is over after this time, though no camera has answered.
const LONGEST_START: Duration = Duration::from_secs(15);
/// Least time between two health messages.
const HEALTH_GAP: Duration = Duration::from_secs(5);

/// The node's name: as set, else from the host name, with the board's serial where the host name is everybody's.
#[must_use]
pub fn node_name(settings: &Settings) -> String {
    if !settings.node.is_empty() {
        return settings.node.clone();
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut name = topics::slug(read("/proc/sys/kernel/hostname").trim()).replace('_', "-");
    if name == "raspberrypi" || name == "localhost" {
        let serial: String = read("/proc/device-tree/serial-number").chars().filter(char::is_ascii_hexdigit).collect();
        if serial.len() >= 6 {
            name = format!("{name}-{}", &serial[serial.len() - 6..].to_ascii_lowercase());
        }
    }
    if is_id(&name) { name } else { "retinad".into() }
}

/// User name and password, if any: from `mqtt.password_file`, or the systemd credential `mqtt-password`.
///
/// # Errors
/// [`DaemonError::Password`] if the file cannot be read or others may read it.
pub fn credentials(settings: &Settings) -> Result<Option<(String, String)>, DaemonError> {
    let mqtt = &settings.mqtt;
    if mqtt.username.is_empty() {
        return Ok(None);
    }
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join("mqtt-password"));
    let (path, ours) = match (mqtt.password_file.as_os_str().is_empty(), credential) {
        (false, _) => (mqtt.password_file.clone(), true),
        (true, Some(path)) if path.exists() => (path, false),
        _ => return Ok(Some((mqtt.username.clone(), String::new()))),
    };
    let failed = |reason: String| DaemonError::Password { path: path.display().to_string(), reason };
    let mode = std::fs::metadata(&path).map_err(|e| failed(unreadable(&e)))?.permissions().mode() & 0o777;
    if ours && mode & 0o077 != 0 {
        return Err(failed(format!("mode {mode:04o} lets others read it; 0600 or stricter is allowed (chmod 600)")));
    }
    let password = std::fs::read_to_string(&path).map_err(|e| failed(unreadable(&e)))?;
    Ok(Some((mqtt.username.clone(), password.trim_end_matches(['\r', '\n']).to_owned())))
}

/// The error, and the way out where the service's own user may not read the file.
fn unreadable(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        format!("{error}; for the service leave it empty and put the password into /etc/retinad/mqtt-password")
    } else {
        error.to_string()
    }
}

/// Where sets are kept: the settings' folder, else systemd's.
fn state_folder(settings: &Settings) -> Option<PathBuf> {
    let set = Some(settings.state_dir.clone()).filter(|path| !path.as_os_str().is_empty());
    set.or_else(|| std::env::var_os("STATE_DIRECTORY").map(PathBuf::from))
}

/// Host of the broker: the settings', or loopback for the embedded one.
#[must_use]
pub fn broker_host(settings: &Settings) -> String {
    if settings.mqtt.host.is_empty() { "127.0.0.1".into() } else { settings.mqtt.host.clone() }
}

/// Runs until SIGTERM or SIGINT, or with `once` until every replay is over. `reload` reads the settings anew on SIGHUP.
///
/// # Errors
/// [`DaemonError`]; nothing was published then.
pub fn run(
    settings: &Settings,
    model: &Arc<Generation>,
    reload: impl Fn() -> Result<Settings, SettingsError>,
    once: bool,
) -> Result<(), DaemonError> {
    if settings.cameras.is_empty() {
        return Err(DaemonError::NoCamera);
    }
    let credentials = credentials(settings)?;
    let mut arriving = signal_hook::iterator::Signals::new([signals::TERM, signals::INT, signals::HUP])?;
    let (signal_in, signal) = unbounded();
    let forward = move || arriving.forever().try_for_each(|number| signal_in.send(number).map_err(|_| ()));
    std::thread::Builder::new().name("signals".into()).spawn(forward)?;
    if settings.mqtt.host.is_empty() {
        start_embedded_broker(settings.mqtt.port)?;
    }
    let node = node_name(settings);
    let ids: Vec<String> = settings.cameras.keys().cloned().collect();
    let publisher = Publisher::start(PublisherOptions {
        host: broker_host(settings),
        port: settings.mqtt.port,
        credentials,
        base: settings.mqtt.base.clone(),
        node: node.clone(),
        cameras: ids.clone(),
    })?;
    let dispatcher = Arc::new(Dispatcher::new(ids.len()));
    let threads = settings.detector.threads(settings.detector.workers);
    let workers = start_workers(settings.detector.workers, threads, model, &dispatcher)?;
    let overrides = Overrides::load(state_folder(settings));
    let mut desk = Desk::new(node.clone(), settings.clone(), Arc::clone(model), publisher.outbox(), overrides, Arc::clone(&workers.state));
    let mut sequencer = Sequencer::new(ids.len());
    let (news_in, news) = bounded(64);
    let (stop_cameras, stop) = bounded::<()>(0);
    let mut supervisors = Vec::new();
    let shared = desk.switches().into_iter().zip(desk.counters());
    for (index, ((id, camera), (enabled, counted))) in settings.cameras.iter().zip(shared).enumerate() {
        let (id, settings, news, stop) = (id.clone(), camera.clone(), news_in.clone(), stop.clone());
        let supervisor = cameras::Supervisor { index, id, settings, enabled, counted, dispatcher: Arc::clone(&dispatcher), news, stop };
        supervisors.push(supervisor.start()?);
    }
    tracing::info!(node, cameras = ids.len(), workers = settings.detector.workers, threads, model = model.manifest.name, "started");
    let clock = tick(Duration::from_secs(1));
    let (mut last_health, mut health_due) = (Instant::now(), true);
    let (mut connected, started) = (false, Instant::now());
    let (mut service, mut rate) = (Service::default(), Rate { since: started, detected: 0, fps: 0.0 });
    let mut stuck = false;
    loop {
        select! {
            recv(workers.outcomes) -> message => match message {
                Ok((place, outcome)) => sequencer.accept(place, outcome, |outcome| desk.accept(&outcome)),
                Err(_) => break,
            },
            recv(news) -> message => if let Ok((index, news)) = message {
                let changed = desk.camera_news(index, news);
                service.ready();
                service.status(Instant::now(), changed, || desk.status_line(rate.fps, connected));
                health_due |= changed;
                if once && desk.all_ended() {
                    break;
                }
            },
            recv(publisher.commands()) -> message => if let Ok(command) = message {
                desk.command(command);
            },
            recv(signal) -> message => match message {
                Ok(signals::HUP) => {
                    service.reloading();
                    match reload() {
                        Ok(new) => desk.reload(new),
                        Err(error) => tracing::error!(%error, "settings not reloaded; the old ones stay"),
                    }
                    service.reloaded();
                }
                _ => break,
            },
            recv(clock) -> _ => {
                let now = Instant::now();
                // A camera whose driver does not even answer an open must not hold up what waits for us.
                if now.saturating_duration_since(started) > LONGEST_START {
                    service.ready();
                }
                desk.hold_workers(health::throttled() == Some(true));
                let moves = desk.moves(now);
                if moves {
                    service.alive();
                } else if !stuck {
                    tracing::error!("frames are taken and do not come out; under systemd the watchdog restarts the service");
                }
                stuck = !moves;
                service.status(now, false, || {
                    rate.look(now, desk.detected());
                    desk.status_line(rate.fps, connected)
                });
            }
        }
        let stats = publisher.stats();
        if stats.connected != connected {
            service.status(Instant::now(), true, || desk.status_line(rate.fps, stats.connected));
        }
        health_due |= stats.connected != connected || last_health.elapsed() >= desk.health_interval();
        connected = stats.connected;
        if health_due && (last_health.elapsed() >= HEALTH_GAP || stats.connects <= 1) {
            desk.say_health(&stats);
            (last_health, health_due) = (Instant::now(), false);
        }
    }
    tracing::info!("stopping");
    service.stopping();
    drop((stop_cameras, news));
    dispatcher.close();
    let until = Instant::now() + DRAIN;
    while let Ok((place, outcome)) = workers.outcomes.recv_deadline(until) {
        sequencer.accept(place, outcome, |outcome| desk.accept(&outcome));
    }
    // They end their child processes; a thread that hangs in a driver is not theirs to wait for.
    for supervisor in supervisors {
        let _ = supervisor.join();
    }
    desk.say_offline();
    let left = publisher.shutdown(FLUSH);
    if left > 0 {
        tracing::warn!(left, "messages not acknowledged by the broker");
    }
    Ok(())
}

/// Frames detected on, a second.
struct Rate {
    since: Instant,
    detected: u64,
    fps: f64,
}

impl Rate {
    /// Takes the frames detected on since the start and sets the rate since the last look.
    fn look(&mut self, now: Instant, detected: u64) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        if seconds > 0.5 {
            self.fps = (detected - self.detected) as f64 / seconds;
            (self.since, self.detected) = (now, detected);
        }
    }
}

/// Numbers of the signals that are handled (POSIX; the same on every Linux).
mod signals {
    pub const HUP: i32 = signal_hook::consts::SIGHUP;
    pub const INT: i32 = signal_hook::consts::SIGINT;
    pub const TERM: i32 = signal_hook::consts::SIGTERM;
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
