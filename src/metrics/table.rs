//! Every metric. Names and units follow Prometheus' rules: base units (seconds, bytes, degrees Celsius), `_total`
//! for counters, one meaning a name. A name is a promise: dashboards and alarms stand on it.

use super::text::Samples;
use super::{CameraFigures, Figures};
use crate::contract::{Availability, HealthState};
use std::time::{Duration, SystemTime};

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// Rises; begins at 0 with the daemon.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl MetricType {
    /// As the format calls it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What kind of number it is.
    pub metric_type: MetricType,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, one sentence.
    pub help: &'static str,
    /// Where the same number stands in `bridge/health`; empty where it does not.
    pub health: &'static str,
    /// Takes its values.
    pub(super) read: fn(&Figures, &mut Samples<'_>),
}

/// Rows of the table: name, labels, meaning, where it stands in `bridge/health`, and how it is taken.
macro_rules! metrics {
    ($($type:ident $name:literal [$($label:literal),*] $health:literal $help:literal $read:expr;)+) => {
        /// All metrics, in the order of the text.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            metric_type: MetricType::$type,
            labels: &[$($label),*],
            help: $help,
            health: $health,
            read: $read,
        }),+];
    };
}

metrics! {
    Gauge "retinad_build_info" ["version", "node", "arch"] ""
        "Always 1; the labels name the program and its node."
        |f, out| out.put(&[env!("CARGO_PKG_VERSION"), &f.node, std::env::consts::ARCH], 1.0);
    Gauge "retinad_model_info" ["name", "sha256", "generation"] ""
        "Always 1; the labels name the model in use."
        |f, out| out.put(&[&f.model, &f.model_sha256, &f.generation.to_string()], 1.0);
    Gauge "retinad_uptime_seconds" [] "uptime_s"
        "Time since the daemon was started."
        |f, out| out.put(&[], f.uptime.as_secs_f64());
    Gauge "retinad_state" ["state"] "state"
        "1 for the state that the node is in, 0 for the others."
        |f, out| for (state, word) in STATES { out.put(&[word], one_if(f.state == state)); };
    Gauge "retinad_problem" ["code", "subject"] "problems"
        "1 for each thing that is wrong now; subject is the camera or topic that it is about."
        read_problems;
    Gauge "retinad_clock_synchronized" [] "clock_synced"
        "1 if the machine's clock is set by the network."
        |f, out| out.put(&[], one_if(f.clock_synced));
    Gauge "retinad_resident_memory_bytes" [] "rss_mb"
        "Resident memory of the daemon."
        |f, out| out.put_known(&[], f.machine.rss_mb.map(|mib| (mib * MIB).round()));
    Gauge "retinad_cpu_temperature_celsius" [] "cpu_temp_c"
        "Temperature of the machine's hottest sensor."
        |f, out| out.put_known(&[], f.machine.cpu_temp_c);
    Gauge "retinad_cpu_throttled" [] "throttled"
        "1 if the Raspberry Pi's firmware holds the CPU below its speed now."
        |f, out| out.put_known(&[], f.machine.throttled.map(one_if));
    Gauge "retinad_load1" [] "load1"
        "Load average of the machine over the last minute."
        |f, out| out.put_known(&[], f.machine.load1);
    Gauge "retinad_disk_free_bytes" [] "disk_free_mb"
        "Free space where the daemon runs."
        |f, out| out.put_known(&[], f.machine.disk_free_mb.map(|mib| mib as f64 * MIB));
    Gauge "retinad_workers" [] "workers.total"
        "Workers that there are."
        |f, out| out.put(&[], f.workers.total as f64);
    Gauge "retinad_workers_allowed" [] "workers.allowed"
        "Workers that may take frames now."
        |f, out| out.put(&[], f.workers.allowed as f64);
    Gauge "retinad_workers_busy" [] "workers.busy"
        "Workers that work on a frame at this moment."
        |f, out| out.put(&[], f.workers.busy as f64);
    Counter "retinad_worker_restarts_total" [] "workers.restarts"
        "Times a worker failed so that its session was built anew."
        |f, out| out.put(&[], f.workers.restarts as f64);
    Gauge "retinad_mqtt_connected" [] ""
        "1 if a connection to the broker stands."
        |f, out| out.put(&[], one_if(f.connected));
    Counter "retinad_mqtt_connects_total" [] "mqtt.connects"
        "Connections made to the broker."
        |f, out| out.put(&[], f.mqtt.connects as f64);
    Gauge "retinad_mqtt_outbox_messages" [] "mqtt.outbox"
        "Messages that wait for the broker or for its acknowledgement."
        |f, out| out.put(&[], f.mqtt.outbox as f64);
    Counter "retinad_mqtt_published_messages_total" [] "mqtt.published"
        "Messages handed to the broker."
        |f, out| out.put(&[], f.mqtt.published as f64);
    Counter "retinad_mqtt_received_messages_total" [] "mqtt.received"
        "Messages received from the broker."
        |f, out| out.put(&[], f.mqtt.received as f64);
    Counter "retinad_mqtt_refused_messages_total" [] "mqtt.refused"
        "Received messages that were refused."
        |f, out| out.put(&[], f.mqtt.refused as f64);
    Counter "retinad_mqtt_oversize_messages_total" [] "mqtt.oversize"
        "Messages that were too large to send."
        |f, out| out.put(&[], f.mqtt.oversize as f64);
    Counter "retinad_mqtt_dropped_messages_total" ["class"] "mqtt.dropped"
        "Messages that were never sent, by class."
        read_dropped;
    Gauge "retinad_mqtt_duplicate_client" [] "mqtt.suspect_duplicate"
        "1 if another client seems to use the client id of this node."
        |f, out| out.put(&[], one_if(f.mqtt.suspect_duplicate));
    Gauge "retinad_camera_status" ["camera", "status"] "cameras.<id>.status"
        "1 for the status that the camera has, 0 for the others."
        |f, out| for camera in &f.cameras { for status in STATUSES {
            out.put(&[&camera.id, status.word()], one_if(camera.status == status));
        } };
    Counter "retinad_camera_frames_total" ["camera"] "cameras.<id>.fps_in (its rate)"
        "Frames that the camera gave."
        |f, out| each(f, out, |camera| camera.counters.frames as f64);
    Counter "retinad_camera_frames_looked_at_total" ["camera"] "cameras.<id>.fps_detect (its rate)"
        "Frames that the model looked at."
        |f, out| each(f, out, |camera| camera.counters.looked_at as f64);
    Counter "retinad_camera_frames_unchanged_total" ["camera"] "cameras.<id>.unchanged_share (as a share)"
        "Frames that were not looked at because nothing moved in them."
        |f, out| each(f, out, |camera| camera.counters.unchanged as f64);
    Counter "retinad_camera_frames_dropped_total" ["camera", "reason"]
        "cameras.<id>.dropped_stale, dropped_paced, decode_errors, failed"
        "Frames that came to nothing: superseded (stale), left out for max_fps (paced), undecodable (damaged), or a worker failed."
        read_frames_dropped;
    Counter "retinad_camera_reopens_total" ["camera"] "cameras.<id>.reopens"
        "Times the camera came back after it was away."
        |f, out| each(f, out, |camera| camera.counters.reopens as f64);
    Gauge "retinad_camera_last_frame_timestamp_seconds" ["camera"] "cameras.<id>.last_frame"
        "When the last frame that was looked at was taken, since 1970."
        |f, out| for camera in &f.cameras { out.put_known(&[&camera.id], camera.last_frame.map(since_1970)); };
    Gauge "retinad_camera_motion" ["camera"] ""
        "1 while something moves before the camera; only with motion = true."
        |f, out| for camera in &f.cameras { out.put_known(&[&camera.id], camera.moving.map(one_if)); };
    Gauge "retinad_camera_objects" ["camera", "label"] ""
        "Objects that are there now, as on the topics of counts."
        |f, out| for camera in &f.cameras { for label in &camera.labels {
            out.put_known(&[&camera.id, &label.label], label.objects.map(|objects| objects as f64));
        } };
    Counter "retinad_camera_objects_started_total" ["camera", "label"] ""
        "Objects that appeared: start events, by the label that they started with."
        |f, out| for camera in &f.cameras { for label in &camera.labels {
            out.put(&[&camera.id, &label.label], label.started as f64);
        } };
    Counter "retinad_camera_events_total" ["camera", "type"] ""
        "Events of objects: start, update, end."
        |f, out| for camera in &f.cameras { for (word, count) in EVENTS.into_iter().zip(camera.counters.events) {
            out.put(&[&camera.id, word], count as f64);
        } };
    Histogram "retinad_frame_age_seconds" ["camera"] "cameras.<id>.age_ms_p50, age_ms_p95"
        "Time from capture until what the frame showed was told, of frames that the model looked at."
        |f, out| for camera in &f.cameras { out.put_histogram(&[&camera.id], &camera.times.age); };
    Histogram "retinad_frame_inference_seconds" ["camera"] "cameras.<id>.infer_ms_p50, infer_ms_p95"
        "Time that the model's run took, of frames that it looked at."
        |f, out| for camera in &f.cameras { out.put_histogram(&[&camera.id], &camera.times.inference); };
    Histogram "retinad_frame_queue_seconds" ["camera"] ""
        "Time from capture until a worker began, of frames that the model looked at."
        |f, out| for camera in &f.cameras { out.put_histogram(&[&camera.id], &camera.times.queue); };
}

/// Bytes of a MiB.
const MIB: f64 = 1_048_576.0;
const STATES: [(HealthState, &str); 3] =
    [(HealthState::Ok, "ok"), (HealthState::Degraded, "degraded"), (HealthState::Failed, "failed")];
const STATUSES: [Availability; 3] = [Availability::Online, Availability::Offline, Availability::Disabled];
/// Types of events, in the order of [`super::Counters::events`].
const EVENTS: [&str; 3] = ["start", "update", "end"];

fn one_if(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn since_1970(time: SystemTime) -> f64 {
    // A clock that was never set may stand before 1970.
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since: Duration| since.as_secs_f64())
}

/// One value a camera.
fn each(figures: &Figures, out: &mut Samples<'_>, value: fn(&CameraFigures) -> f64) {
    for camera in &figures.cameras {
        out.put(&[&camera.id], value(camera));
    }
}

fn read_problems(figures: &Figures, out: &mut Samples<'_>) {
    for problem in &figures.problems {
        let text = problem.to_string();
        let (code, subject) = text.split_once(':').unwrap_or((&text, ""));
        out.put(&[code, subject], 1.0);
    }
}

fn read_dropped(figures: &Figures, out: &mut Samples<'_>) {
    let dropped = &figures.mqtt.dropped;
    let classes = [
        ("detections", dropped.detections),
        ("snapshots", dropped.snapshots),
        ("events", dropped.events),
        ("responses", dropped.responses),
    ];
    for (class, count) in classes {
        out.put(&[class], count as f64);
    }
}

fn read_frames_dropped(figures: &Figures, out: &mut Samples<'_>) {
    for camera in &figures.cameras {
        let counters = &camera.counters;
        let reasons = [
            ("stale", counters.stale),
            ("paced", counters.paced),
            ("damaged", counters.damaged),
            ("failed", counters.failed),
        ];
        for (reason, count) in reasons {
            out.put(&[&camera.id, reason], count as f64);
        }
    }
}
