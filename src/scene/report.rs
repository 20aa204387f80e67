//! `bridge/info` and `bridge/health`: what the node says of itself, and when.

use super::{Effect, GenerationFacts, LinkState, Log, Now};
use crate::contract::{
    Availability, CameraHealth, CameraInfo, Health, HealthState, Host, Info, Kind, Limits, Machine,
    ModelInfo, Overridden, Problem, SCHEMA_VERSION, Topic, WorkerHealth, rfc3339,
};
use crate::frame::Flow;
use crate::metrics::{CameraFigures, Figures};
use crate::settings::{CameraSettings, DetectorSettings, Settings};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Least time between two health messages.
const HEALTH_GAP: Duration = Duration::from_secs(5);

/// Who this node is; the same for the daemon's life.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// The machine's name in topics.
    pub node: String,
    /// Another one at each start of the daemon.
    pub instance_id: String,
    /// Another one at each start of the machine.
    pub boot_id: String,
    /// The machine.
    pub host: Host,
}

/// What the machine and the process say of themselves.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// For `bridge/health`.
    pub machine: Machine,
    /// What is wrong with machine, disk and state folder.
    pub problems: Vec<Problem>,
    /// The workers.
    pub workers: WorkerHealth,
    /// By camera number, the frames that came.
    pub flows: Vec<(usize, Flow)>,
}

/// When health is due, and what it is made of.
pub(super) struct Report {
    started_mono: Instant,
    started_wall: SystemTime,
    interval: Duration,
    last_health: Option<Instant>,
    /// What was said then.
    told: Option<Box<Health>>,
    /// Something changed since the last health message.
    changed: bool,
    link: LinkState,
    facts: Facts,
    restart_required: Vec<String>,
}

impl Report {
    pub fn new(now: Now, settings: &Settings, restart_required: Vec<String>) -> Self {
        Self {
            started_mono: now.mono,
            started_wall: now.wall,
            interval: interval(settings),
            last_health: None,
            told: None,
            changed: true,
            link: LinkState::default(),
            facts: Facts::default(),
            restart_required,
        }
    }

    pub fn take_settings(&mut self, settings: &Settings, restart_required: Vec<String>) {
        self.interval = interval(settings);
        self.restart_required = restart_required;
    }

    pub fn take_link(&mut self, link: LinkState) {
        if link.connected && !self.link.connected {
            // The broker may have lost what it kept, and whoever waits for the node wants to know how it is.
            self.last_health = None;
        }
        self.changed |=
            link.connected != self.link.connected || link.refused_filters != self.link.refused_filters;
        self.link = link;
    }

    pub fn take_facts(&mut self, facts: Facts) {
        self.changed |= facts.problems != self.facts.problems;
        self.facts = facts;
    }

    /// Health is due soon, and not only after its interval.
    pub fn state_changed(&mut self) {
        self.changed = true;
    }

    pub fn link(&self) -> &LinkState {
        &self.link
    }

    /// Whether the firmware holds the CPU below its speed.
    pub fn throttled(&self) -> bool {
        self.facts.machine.throttled == Some(true)
    }

    /// The log's line on a change of [`Report::throttled`].
    pub fn throttling(&self, detector: &DetectorSettings) -> Log {
        let (workers, share_percent) = worker_limits(detector.workers, detector.cpu_quota, self.throttled());
        if self.throttled() {
            Log::Throttled { workers, share_percent, temperature_c: self.facts.machine.cpu_temp_c }
        } else {
            Log::ThrottledNoMore { share_percent }
        }
    }

    pub fn problems(&self, now: Now) -> Vec<Problem> {
        let clock = (!now.synced).then_some(Problem::ClockUnsynced);
        let refused = self.link.refused_filters.iter().cloned().map(Problem::SubscribeRefused);
        clock.into_iter().chain(self.facts.problems.iter().cloned()).chain(refused).collect()
    }

    pub fn is_due(&self, now: Now) -> bool {
        self.next_deadline().is_none_or(|due| now.mono >= due)
    }

    /// `None`: at once.
    pub fn next_deadline(&self) -> Option<Instant> {
        let last = self.last_health?;
        Some(last + if self.changed { HEALTH_GAP } else { self.interval })
    }

    /// `bridge/health`, and it is not due again before its time.
    pub fn health(
        &mut self,
        now: Now,
        problems: Vec<Problem>,
        cameras: Vec<(String, CameraHealth)>,
    ) -> Effect {
        (self.last_health, self.changed) = (Some(now.mono), false);
        let state = state(&problems, cameras.iter().map(|(_, camera)| camera.status));
        let health = Health {
            v: SCHEMA_VERSION,
            time: rfc3339(now.wall),
            clock_synced: now.synced,
            uptime_s: self.uptime(now).as_secs(),
            state,
            problems: problems.iter().map(ToString::to_string).collect(),
            machine: self.facts.machine.clone(),
            workers: self.facts.workers,
            mqtt: self.link.counted,
            cameras: cameras.into_iter().collect(),
        };
        let health = health.fitting();
        let bytes = serde_json::to_vec(&health).unwrap_or_default();
        self.told = Some(Box::new(health));
        Effect::Publish(Topic::of_node(Kind::Health), bytes)
    }

    fn uptime(&self, now: Now) -> Duration {
        now.mono.saturating_duration_since(self.started_mono)
    }

    /// The same as metrics.
    pub fn figures(
        &self,
        now: Now,
        node: &str,
        judge: &GenerationFacts,
        problems: Vec<Problem>,
        cameras: Vec<CameraFigures>,
    ) -> Figures {
        Figures {
            node: node.to_owned(),
            model: judge.name.clone(),
            model_sha256: judge.short_sha256(),
            generation: judge.number,
            uptime: self.uptime(now),
            clock_synced: now.synced,
            state: state(&problems, cameras.iter().map(|camera| camera.status)),
            problems,
            machine: self.facts.machine.clone(),
            workers: self.facts.workers,
            connected: self.link.connected,
            mqtt: self.link.counted,
            cameras,
        }
    }

    /// The last health message, unless it is so old that another one may be made.
    pub fn fresh_health(&self, now: Now) -> Option<Box<Health>> {
        let last = self.last_health.filter(|last| now.mono.saturating_duration_since(*last) < HEALTH_GAP)?;
        self.told.clone().filter(|_| last <= now.mono)
    }

    /// Whether settings wait for a restart.
    pub fn restart_required(&self) -> bool {
        !self.restart_required.is_empty()
    }

    /// `bridge/info`; `labels` leads by camera from each label that it tells to its topic's name.
    pub fn info(
        &self,
        identity: &Identity,
        settings: &Settings,
        model: ModelInfo,
        mut labels: BTreeMap<Arc<str>, BTreeMap<String, String>>,
        overrides: BTreeMap<String, Overridden>,
    ) -> Info {
        let cameras = settings.cameras.iter().map(|(id, camera)| {
            let labels = labels.remove(id.as_str()).unwrap_or_default();
            (id.clone(), camera_info(camera, labels))
        });
        Info {
            v: SCHEMA_VERSION,
            node: identity.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: SCHEMA_VERSION,
            instance_id: identity.instance_id.clone(),
            boot_id: identity.boot_id.clone(),
            started_at: rfc3339(self.started_wall),
            host: identity.host.clone(),
            model,
            cameras: cameras.collect(),
            cameras_left_out: 0,
            limits: Limits::default(),
            allow: settings.mqtt.allow.clone(),
            overrides,
            restart_required: self.restart_required.clone(),
        }
    }
}

/// How the node is on the whole.
fn state(problems: &[Problem], mut cameras: impl ExactSizeIterator<Item = Availability>) -> HealthState {
    if cameras.len() > 0 && cameras.all(|status| status == Availability::Offline) {
        HealthState::Failed
    } else if problems.is_empty() {
        HealthState::Ok
    } else {
        HealthState::Degraded
    }
}

fn interval(settings: &Settings) -> Duration {
    Duration::from_secs(u64::from(settings.health.interval_s))
}

fn camera_info(camera: &CameraSettings, labels: BTreeMap<String, String>) -> CameraInfo {
    let source = &camera.source;
    CameraInfo {
        source: source.kind().as_str().to_owned(),
        format: source.format().map(str::to_owned),
        width: camera.turned_size().map(|(width, _)| width),
        height: camera.turned_size().map(|(_, height)| height),
        fps: source.fps(),
        labels,
        zones: camera.zones.keys().cloned().collect(),
        lines: camera.lines.keys().cloned().collect(),
    }
}

/// Workers that may take frames, and the percentage of the time that each may work: half of what the
/// settings allow while the firmware throttles the CPU.
pub(super) fn worker_limits(workers: usize, quota: u32, throttled: bool) -> (usize, u32) {
    match (throttled, workers) {
        (false, _) => (workers, quota),
        (true, 0 | 1) => (1, quota.div_ceil(2)),
        (true, _) => (workers / 2, quota),
    }
}

#[cfg(test)]
mod tests {
    use super::worker_limits;

    #[test]
    fn throttling_halves_the_work() {
        assert_eq!(
            (worker_limits(4, 80, false), worker_limits(4, 80, true), worker_limits(3, 100, true)),
            ((4, 80), (2, 80), (1, 100))
        );
        assert_eq!((worker_limits(1, 100, true), worker_limits(1, 5, true)), ((1, 50), (1, 3)));
    }
}
