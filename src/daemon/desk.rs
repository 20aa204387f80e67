//! The one place where a frame's outcome becomes messages: thresholds, counts, status and health of each camera.
//!
//! Runs on one thread; owns its state. It writes to the outbox and never waits for the broker.

use super::cameras::{Counted, News};
use super::overrides::{Overrides, Threshold};
use super::progress::Progress;
use crate::detection::{Outcome, Verdict};
use crate::detector::Generation;
use crate::health::{self, CameraHealth};
use crate::pipeline::WorkerState;
use crate::publish::{Change, Command, Counts, LinkStats, OutboxHandle, payload, topics};
use crate::settings::{DetectionsMode, DetectorSettings, Settings};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

struct CameraState {
    id: String,
    enabled: Arc<AtomicBool>,
    counted: Arc<Counted>,
    /// Frames counted at the last look.
    frames: u64,
    progress: Progress,
    online: bool,
    ended: bool,
    threshold: f32,
    counts: Counts,
    health: CameraHealth,
    last_sample: Option<Instant>,
    last_reason: String,
}

/// See the module's words.
pub struct Desk {
    node: String,
    settings: Settings,
    model: Arc<Generation>,
    slugs: Vec<String>,
    outbox: OutboxHandle,
    overrides: Overrides,
    workers: Arc<WorkerState>,
    restart_required: bool,
    throttled: bool,
    cameras: Vec<CameraState>,
    started: Instant,
    started_wall: SystemTime,
    instance: String,
    clock_synced: bool,
}

impl Desk {
    /// Sets every retained topic to its first value.
    pub fn new(
        node: String,
        settings: Settings,
        model: Arc<Generation>,
        outbox: OutboxHandle,
        overrides: Overrides,
        workers: Arc<WorkerState>,
    ) -> Self {
        let delay = Duration::from_secs_f32(settings.mqtt.off_delay_s);
        let now = Instant::now();
        let cameras = settings
            .cameras
            .iter()
            .map(|(id, camera)| {
                let set = overrides.of(id, settings.detector.min_score);
                CameraState {
                    id: id.clone(),
                    enabled: Arc::new(AtomicBool::new(set.detect.unwrap_or(true))),
                    counted: Arc::default(),
                    frames: 0,
                    progress: Progress::new(camera, settings.cameras.len(), now),
                    online: false,
                    ended: false,
                    threshold: set.threshold.map_or(settings.detector.min_score, |t| t.value),
                    counts: Counts::new(model.labels.len(), delay),
                    health: CameraHealth::default(),
                    last_sample: None,
                    last_reason: String::new(),
                }
            })
            .collect();
        let slugs = topics::label_slugs(&model.labels);
        let (started, started_wall, clock_synced) = (Instant::now(), SystemTime::now(), health::clock_synced());
        let (instance, restart_required) = (read("/proc/sys/kernel/random/uuid"), false);
        let desk = Self {
            node,
            settings,
            model,
            slugs,
            outbox,
            overrides,
            workers,
            restart_required,
            throttled: false,
            cameras,
            started,
            started_wall,
            instance,
            clock_synced,
        };
        desk.outbox.state("bridge/info", desk.info().to_string());
        for camera in &desk.cameras {
            desk.say_status(camera);
            desk.say_settings(camera);
            for label in 0..desk.slugs.len() {
                desk.say_count(camera, label);
            }
        }
        desk
    }

    /// Switches of the cameras, in the settings' order: a camera that is off gives no frames to the workers.
    pub fn switches(&self) -> Vec<Arc<AtomicBool>> {
        self.cameras.iter().map(|camera| Arc::clone(&camera.enabled)).collect()
    }

    /// What the cameras' supervisors count, in the settings' order.
    pub fn counters(&self) -> Vec<Arc<Counted>> {
        self.cameras.iter().map(|camera| Arc::clone(&camera.counted)).collect()
    }

    /// Whether every camera moves: its frames come out as outcomes, or it is away and tried again. A camera that is switched off moves
    /// while it gives frames.
    pub fn moves(&mut self, now: Instant) -> bool {
        let mut all = true;
        for camera in &mut self.cameras {
            let frames = camera.counted.frames.load(Ordering::Relaxed);
            if frames != camera.frames && !camera.enabled.load(Ordering::Relaxed) {
                camera.progress.moved(now);
            }
            camera.frames = frames;
            all &= !camera.progress.stuck(now);
        }
        all
    }

    /// Frames detected on since the start, over all cameras.
    pub fn detected(&self) -> u64 {
        self.cameras.iter().map(|camera| camera.health.detected).sum()
    }

    /// One line on how it goes, for `systemctl status`.
    pub fn status_line(&self, fps: f64, connected: bool) -> String {
        let online = self.cameras.iter().filter(|camera| camera.online).count();
        let broker = if connected { "connected" } else { "not reachable" };
        let mut line = format!("{fps:.1} frames a second, {online} of {} cameras online, broker {broker}", self.cameras.len());
        if self.throttled {
            line += ", CPU throttled";
        }
        line
    }

    /// Holds the workers to the settings' `cpu_quota`, and to half of what they may otherwise while the firmware throttles the CPU.
    pub fn hold_workers(&mut self, throttled: bool) {
        let detector = &self.settings.detector;
        let (workers, share) = held(detector.workers, detector.cpu_quota, throttled);
        self.workers.allowed.store(workers, Ordering::Relaxed);
        self.workers.share.store(share, Ordering::Relaxed);
        if throttled != std::mem::replace(&mut self.throttled, throttled) {
            if throttled {
                let temperature_c = health::temperature();
                tracing::warn!(workers, share_percent = share, temperature_c, "the firmware throttles the CPU; workers rest");
            } else {
                tracing::info!(workers, share_percent = share, "the CPU is throttled no more");
            }
        }
    }

    /// Whether every camera is a replay that is over.
    pub fn all_ended(&self) -> bool {
        self.cameras.iter().all(|camera| camera.ended)
    }

    fn say_status(&self, camera: &CameraState) {
        self.outbox.state(&format!("{}/status", camera.id), camera.status());
    }

    fn say_settings(&self, camera: &CameraState) {
        let on = camera.enabled.load(Ordering::Relaxed);
        self.outbox.state(&format!("{}/detect/state", camera.id), if on { "ON" } else { "OFF" });
        self.outbox.state(&format!("{}/threshold/state", camera.id), format!("{:.2}", camera.threshold));
    }

    fn say_count(&self, camera: &CameraState, label: usize) {
        if !self.model.labels[label].is_empty() {
            self.outbox.state(&format!("{}/{}", camera.id, self.slugs[label]), camera.counts.shown(label).to_string());
        }
        self.outbox.state(&format!("{}/all", camera.id), camera.counts.all().to_string());
    }

    /// Takes a frame's outcome, in its camera's order.
    pub fn accept(&mut self, outcome: &Outcome) {
        let now = Instant::now();
        let Some(camera) = self.cameras.get_mut(outcome.camera) else { return };
        camera.progress.moved(now);
        camera.health.frames_in += 1 + outcome.superseded_before;
        camera.health.superseded += outcome.superseded_before;
        let found = match &outcome.verdict {
            Verdict::Detected(found) => found,
            Verdict::Damaged(reason) => {
                camera.health.decode_errors += 1;
                tracing::debug!(camera = camera.id, seq = outcome.seq, reason, "damaged frame");
                return;
            }
            Verdict::Failed(reason) => {
                camera.health.failed += 1;
                tracing::error!(camera = camera.id, seq = outcome.seq, reason, "frame failed");
                return;
            }
        };
        camera.health.detected += 1;
        camera.health.last_frame = Some(outcome.captured_wall);
        camera.health.record(outcome.times.inference, outcome.captured.elapsed());
        if !camera.enabled.load(Ordering::Relaxed) {
            return;
        }
        let threshold = camera.threshold;
        // Best first, so those above the threshold are a prefix.
        let found = &found[..found.partition_point(|d| d.score > threshold)];
        let mut seen = vec![0; self.slugs.len()];
        for detection in found {
            seen[detection.class] += 1;
        }
        let mut changed = Vec::new();
        camera.counts.see(&seen, now, |label, _| changed.push(label));
        let mqtt = &self.settings.mqtt;
        let wanted = match mqtt.detections {
            DetectionsMode::Always => true,
            DetectionsMode::NonEmpty => !found.is_empty(),
            DetectionsMode::Off => false,
        };
        let gap = Duration::from_secs_f32(1.0 / mqtt.max_rate);
        let send = wanted && camera.last_sample.is_none_or(|last| now.saturating_duration_since(last) >= gap);
        if send {
            camera.last_sample = Some(now);
        }
        let camera = &self.cameras[outcome.camera];
        if send {
            let sender = payload::Sender {
                node: &self.node,
                camera: &camera.id,
                labels: &self.model.labels,
                model_sha256: &self.model.sha256,
                threshold,
                clock_synced: self.clock_synced,
            };
            let age = u64::try_from(outcome.captured.elapsed().as_millis()).unwrap_or(0);
            let bytes = payload::detections(sender, outcome, found, health::boot_ms().saturating_sub(age));
            self.outbox.sample(&format!("{}/detections", camera.id), bytes);
        }
        for label in changed {
            self.say_count(camera, label);
        }
    }

    /// Takes what a camera's thread reports. Returns whether its status changed.
    pub fn camera_news(&mut self, index: usize, news: News) -> bool {
        let Some(camera) = self.cameras.get_mut(index) else { return false };
        let (before, now) = (camera.status(), Instant::now());
        match news {
            News::Online => {
                camera.progress.moved(now);
                tracing::info!(camera = camera.id, "camera gives frames");
                camera.health.reopens += u64::from(!camera.last_reason.is_empty());
                camera.online = true;
            }
            News::Offline { reason, retry_in } => {
                camera.progress.away(now, retry_in);
                // Once per change of state.
                if camera.online || camera.last_reason != reason {
                    tracing::warn!(camera = camera.id, reason, "camera gives no frames; it will be opened again");
                }
                (camera.online, camera.last_reason) = (false, reason);
            }
            News::Damaged => {
                camera.health.decode_errors += 1;
                camera.progress.moved(now);
            }
            News::Ended => {
                tracing::info!(camera = camera.id, "replay is over");
                (camera.online, camera.ended) = (false, true);
                camera.progress.ended();
            }
        }
        let camera = &self.cameras[index];
        self.say_status(camera);
        camera.status() != before
    }

    /// Carries out an accepted `set`.
    pub fn command(&mut self, command: Command) {
        let Some(camera) = self.cameras.get_mut(command.camera) else { return };
        match command.change {
            Change::Detect(on) => {
                camera.enabled.store(on, Ordering::Relaxed);
                // Frames that came while it was off left no outcome.
                if camera.online {
                    camera.progress.moved(Instant::now());
                }
                // On is what the settings say.
                self.overrides.change(&camera.id, |o| o.detect = (!on).then_some(false));
                tracing::info!(camera = camera.id, on, "detection switched");
            }
            Change::Threshold(value) => {
                camera.threshold = value;
                self.overrides.change(&camera.id, |o| o.threshold = Some(Threshold { value, setting: self.settings.detector.min_score }));
                tracing::info!(camera = camera.id, value, "threshold set");
            }
        }
        let camera = &self.cameras[command.camera];
        self.say_settings(camera);
        self.say_status(camera);
        // A switch that was already there is answered too, so that the sender's screen is right.
        self.outbox.repeat(&format!(
            "{}/{}/state",
            camera.id,
            if matches!(command.change, Change::Detect(_)) { "detect" } else { "threshold" }
        ));
        self.outbox.state("bridge/info", self.info().to_string());
    }

    /// Takes new settings; what needs a restart is named in the log and stays as it was.
    pub fn reload(&mut self, new: Settings) {
        let old = &self.settings;
        let restart = new.cameras != old.cameras
            || new.node != old.node
            || (&new.mqtt.host, new.mqtt.port, &new.mqtt.base, &new.mqtt.username)
                != (&old.mqtt.host, old.mqtt.port, &old.mqtt.base, &old.mqtt.username)
            || (&new.detector.model, new.detector.workers, new.detector.threads)
                != (&old.detector.model, old.detector.workers, old.detector.threads);
        if restart {
            tracing::warn!("settings reloaded; changes to node, cameras, broker, model or workers need a restart");
        } else {
            tracing::info!("settings reloaded");
        }
        let threshold_changed = new.detector.min_score != old.detector.min_score;
        for camera in &mut self.cameras {
            camera.counts.set_off_delay(Duration::from_secs_f32(new.mqtt.off_delay_s));
            if threshold_changed {
                camera.threshold = new.detector.min_score;
                self.overrides.change(&camera.id, |o| o.threshold = None);
            }
        }
        // What needs a restart stays as it runs, so that health and info tell what is.
        let detector = DetectorSettings { min_score: new.detector.min_score, cpu_quota: new.detector.cpu_quota, ..old.detector.clone() };
        self.settings = Settings { node: old.node.clone(), cameras: old.cameras.clone(), detector, ..new };
        self.restart_required = restart;
        self.outbox.state("bridge/info", self.info().to_string());
        for camera in &self.cameras {
            self.say_settings(camera);
        }
    }

    /// Seconds between health messages.
    pub fn health_interval(&self) -> Duration {
        Duration::from_secs(u64::from(self.settings.health.interval_s))
    }

    /// Sends `bridge/health` (3.2).
    pub fn say_health(&mut self, link: &LinkStats) {
        self.clock_synced = health::clock_synced();
        let now = Instant::now();
        let mut problems: Vec<String> = Vec::new();
        let mut cameras = Map::new();
        for camera in &mut self.cameras {
            if camera.status() == "offline" {
                problems.push(format!("camera_offline:{}", camera.id));
            }
            let status = camera.status();
            let paced = camera.counted.paced.load(Ordering::Relaxed);
            camera.health.frames_in += paced - std::mem::replace(&mut camera.health.paced, paced);
            let mut report = camera.health.report(status, now);
            report["last_frame"] = camera.health.last_frame.map_or(Value::Null, |at| json!(payload::rfc3339(at)));
            cameras.insert(camera.id.clone(), report);
        }
        if !self.clock_synced {
            problems.push("clock_unsynced".into());
        }
        problems.extend(health::machine_problems());
        let all_offline = !self.cameras.is_empty() && self.cameras.iter().all(|camera| camera.status() == "offline");
        let state = if all_offline {
            "failed"
        } else if problems.is_empty() {
            "ok"
        } else {
            "degraded"
        };
        let mut body = json!({"v": 1, "time": payload::rfc3339(SystemTime::now()), "clock_synced": self.clock_synced,
            "uptime_s": self.started.elapsed().as_secs(), "state": state, "problems": problems,
            "workers": {"total": self.settings.detector.workers, "allowed": self.workers.allowed.load(Ordering::Relaxed), "busy": self.workers.busy.load(Ordering::Relaxed),
                "restarts": self.workers.restarts.load(Ordering::Relaxed)},
            "mqtt": link, "cameras": cameras});
        if let (Value::Object(body), Value::Object(machine)) = (&mut body, health::machine()) {
            body.extend(machine);
        }
        self.outbox.health(body.to_string());
    }

    /// Says that every camera is offline: the last words before `status`.
    pub fn say_offline(&mut self) {
        for camera in &mut self.cameras {
            camera.online = false;
            self.outbox.state(&format!("{}/status", camera.id), "offline");
        }
    }

    /// `bridge/info` (3.1): no paths, addresses, user names or secrets.
    fn info(&self) -> Value {
        let labels: Map<String, Value> =
            self.model.labels.iter().zip(&self.slugs).filter(|(label, _)| !label.is_empty()).map(|(l, s)| (l.clone(), json!(s))).collect();
        let cameras: Map<String, Value> = self
            .settings
            .cameras
            .iter()
            .map(|(id, camera)| {
                let (size, fps) = (camera.source.size(), camera.source.fps());
                let (width, height) = (size.map(|size| size.0), size.map(|size| size.1));
                (
                    id.clone(),
                    json!({"source": camera.source.kind(), "format": camera.source.format(),
                    "width": width, "height": height, "fps": fps, "labels": labels}),
                )
            })
            .collect();
        let manifest = &self.model.manifest;
        json!({"v": 1, "node": self.node, "version": env!("CARGO_PKG_VERSION"), "schema": 1,
            "instance_id": self.instance, "boot_id": read("/proc/sys/kernel/random/boot_id").get(..8),
            "started_at": payload::rfc3339(self.started_wall),
            "host": health::host(),
            "model": {"name": manifest.name, "sha256": self.model.sha256.get(..12), "generation": 0,
                "input": [manifest.input.width, manifest.input.height], "labels": self.model.labels},
            "cameras": cameras, "limits": {"detections": payload::MAX_DETECTIONS_BYTES}, "overrides": self.overrides.report(), "restart_required": self.restart_required})
    }
}

/// Workers that may take frames and the percentage of the time that each may work.
fn held(workers: usize, quota: u32, throttled: bool) -> (usize, u32) {
    match (throttled, workers) {
        (false, _) => (workers, quota),
        (true, 0 | 1) => (1, quota.div_ceil(2)),
        (true, _) => (workers / 2, quota),
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

impl CameraState {
    fn status(&self) -> &'static str {
        match (self.enabled.load(Ordering::Relaxed), self.online) {
            (false, _) => "disabled",
            (true, true) => "online",
            (true, false) => "offline",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::held;

    #[test]
    fn throttling_halves_the_work() {
        assert_eq!((held(4, 80, false), held(4, 80, true), held(3, 100, true)), ((4, 80), (2, 80), (1, 100)));
        assert_eq!((held(1, 100, true), held(1, 5, true)), ((1, 50), (1, 3)));
    }
}
