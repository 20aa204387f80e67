use super::*;
use crate::contract::{Availability, Dropped, HealthState, Machine, MqttHealth, Problem, WorkerHealth};
use crate::metrics::{CameraFigures, Counters, FrameTimes, LabelFigures, MetricType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A node of which everything is known, with a name that has each sign that must be escaped.
fn figures() -> Figures {
    let mut times = FrameTimes::default();
    for ms in [40, 60, 7000] {
        times.age.take(Duration::from_millis(ms));
    }
    Figures {
        node: "pi".into(),
        model: "my \"best\" model\\\nsecond line".into(),
        model_sha256: "0123456789ab".into(),
        generation: 2,
        uptime: Duration::from_millis(90_500),
        clock_synced: true,
        state: HealthState::Degraded,
        problems: vec![Problem::CameraOffline(Arc::from("yard")), Problem::DiskLow],
        machine: Machine {
            cpu_temp_c: Some(48.3),
            throttled: Some(false),
            rss_mb: Some(45.5),
            load1: Some(0.25),
            disk_free_mb: Some(100_000),
        },
        workers: WorkerHealth { total: 3, allowed: 2, busy: 1, restarts: 4 },
        connected: true,
        mqtt: MqttHealth {
            connects: 1,
            outbox: 2,
            published: 3,
            received: 4,
            refused: 5,
            oversize: 6,
            dropped: Dropped { detections: 7, snapshots: 8, events: 9, responses: 10 },
            suspect_duplicate: true,
        },
        cameras: ["front", "yard"].map(|id| camera(id, &times)).into(),
    }
}

fn camera(id: &str, times: &FrameTimes) -> CameraFigures {
    CameraFigures {
        id: Arc::from(id),
        status: Availability::Online,
        moving: Some(true),
        counters: Counters {
            frames: 100,
            looked_at: 3,
            unchanged: 40,
            stale: 11,
            paced: 12,
            damaged: 13,
            failed: 14,
            reopens: 15,
            events: [5, 6, 4],
        },
        times: times.clone(),
        last_frame: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250)),
        labels: vec![LabelFigures { label: "dining table".into(), objects: Some(2), started: 5 }],
    }
}

#[test]
fn values_stand_under_their_names_and_labels() {
    let text = render(&figures());
    let wanted = [
        "# HELP retinad_camera_frames_total Frames that the camera gave.\n\
         # TYPE retinad_camera_frames_total counter\n\
         retinad_camera_frames_total{camera=\"front\"} 100\n\
         retinad_camera_frames_total{camera=\"yard\"} 100\n",
        "retinad_model_info{name=\"my \\\"best\\\" model\\\\\\nsecond line\",sha256=\"0123456789ab\",generation=\"2\"} 1\n",
        "retinad_uptime_seconds 90.5\n",
        "retinad_state{state=\"ok\"} 0\nretinad_state{state=\"degraded\"} 1\nretinad_state{state=\"failed\"} 0\n",
        "retinad_problem{code=\"camera_offline\",subject=\"yard\"} 1\nretinad_problem{code=\"disk_low\",subject=\"\"} 1\n",
        "retinad_resident_memory_bytes 47710208\n",
        "retinad_disk_free_bytes 104857600000\n",
        "retinad_mqtt_dropped_messages_total{class=\"events\"} 9\n",
        "retinad_camera_frames_dropped_total{camera=\"front\",reason=\"stale\"} 11\n",
        "retinad_camera_last_frame_timestamp_seconds{camera=\"front\"} 1700000000.25\n",
        "retinad_camera_objects{camera=\"front\",label=\"dining table\"} 2\n",
        "retinad_camera_events_total{camera=\"yard\",type=\"end\"} 4\n",
        "# TYPE retinad_frame_age_seconds histogram\n\
         retinad_frame_age_seconds_bucket{camera=\"front\",le=\"0.005\"} 0\n",
        "retinad_frame_age_seconds_bucket{camera=\"front\",le=\"0.05\"} 1\n\
         retinad_frame_age_seconds_bucket{camera=\"front\",le=\"0.075\"} 2\n",
        "retinad_frame_age_seconds_bucket{camera=\"front\",le=\"5\"} 2\n\
         retinad_frame_age_seconds_bucket{camera=\"front\",le=\"+Inf\"} 3\n\
         retinad_frame_age_seconds_sum{camera=\"front\"} 7.1\n\
         retinad_frame_age_seconds_count{camera=\"front\"} 3\n",
    ];
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted}\nis missing in\n{text}");
    }
}

#[test]
fn what_is_not_known_is_left_out_with_its_heading() {
    let mut figures = figures();
    figures.machine = Machine::default();
    figures.problems.clear();
    figures.cameras[0].last_frame = None;
    figures.cameras[0].moving = None;
    let text = render(&figures);
    for absent in ["retinad_cpu", "retinad_load1", "retinad_problem", "motion{camera=\"front\"}"] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
    assert!(text.contains("retinad_camera_motion{camera=\"yard\"} 1\n"));
}

/// Whether a name obeys Prometheus' rules for one of this kind.
fn is_well_named(metric: &Metric) -> bool {
    let is_plain = metric.name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    let has_base_unit = !["_ms", "_mb", "_minutes", "_kelvin", "_percent", "_milliseconds"]
        .iter()
        .any(|unit| metric.name.trim_end_matches("_total").ends_with(unit));
    let is_total = metric.name.ends_with("_total");
    is_plain
        && has_base_unit
        && metric.name.starts_with("retinad_")
        && is_total == (metric.metric_type == MetricType::Counter)
}

#[test]
fn every_row_of_the_table_is_written_once_and_named_by_the_rules() {
    let text = render(&figures());
    let mut series = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(series.insert(name), "{name} twice");
        value.parse::<f64>().expect(line);
    }
    let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let rows: Vec<String> =
        METRICS.iter().map(|metric| format!("{} {}", metric.name, metric.metric_type.word())).collect();
    assert_eq!(headings, rows);
    let wrong: Vec<&str> = METRICS.iter().filter(|row| !is_well_named(row)).map(|row| row.name).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    for metric in METRICS {
        assert!(metric.help.ends_with('.') && !metric.labels.contains(&"le"), "{}", metric.name);
    }
}

/// The highest number of a series that a hundred cameras and eighty labels make, in bytes.
#[test]
fn hundreds_of_cameras_make_a_text_of_bounded_size() {
    let mut figures = figures();
    let one = render(&figures).len();
    let labels = (0..80).map(|i| LabelFigures { label: format!("label {i}"), objects: Some(0), started: 0 });
    figures.cameras[0].labels = labels.collect();
    figures.cameras = vec![figures.cameras[0].clone(); 100];
    let bytes = render(&figures).len();
    assert!(bytes < one + 100 * 24_000, "{bytes} bytes");
}

#[test]
fn labels_of_a_series_are_those_of_the_table() {
    let text = render(&figures());
    let rows: BTreeMap<&str, &Metric> = METRICS.iter().map(|metric| (metric.name, metric)).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let metric = rows.get(name).or_else(|| rows.get(histogram?)).expect(line);
        for label in metric.labels {
            assert!(line.contains(&format!("{label}=\"")), "{line} lacks {label}");
        }
    }
}
