//! Counters of cameras and of the machine, for `bridge/health`.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

/// Frames whose times are kept for percentiles.
const WINDOW: usize = 256;

/// One camera's counters, owned by the sequencing thread.
#[derive(Debug, Default)]
pub struct CameraHealth {
    /// Frames the camera gave, taken or superseded.
    pub frames_in: u64,
    /// Frames detected on.
    pub detected: u64,
    /// Frames superseded before a worker took them.
    pub superseded: u64,
    /// Frames that could not be decoded.
    pub decode_errors: u64,
    /// Frames left out to keep to `max_fps`.
    pub paced: u64,
    /// Frames a worker failed on.
    pub failed: u64,
    /// Times the camera was opened after the first.
    pub reopens: u64,
    /// When the last frame that was detected on was captured.
    pub last_frame: Option<SystemTime>,
    infer: VecDeque<Duration>,
    age: VecDeque<Duration>,
    since: Option<(Instant, u64, u64)>,
}

impl CameraHealth {
    /// Takes one frame's inference time and its age at the end of the pipeline.
    pub fn record(&mut self, infer: Duration, age: Duration) {
        for (window, value) in [(&mut self.infer, infer), (&mut self.age, age)] {
            if window.len() == WINDOW {
                window.pop_front();
            }
            window.push_back(value);
        }
    }

    /// This camera's part of `bridge/health`; rates are over the time since the last call.
    pub fn report(&mut self, status: &str, now: Instant) -> Value {
        let (since, frames, detected) = self.since.replace((now, self.frames_in, self.detected)).unwrap_or((now, 0, 0));
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        let rate = |count: u64| if seconds > 0.0 { (count as f64 / seconds * 10.0).round() / 10.0 } else { 0.0 };
        json!({"status": status, "fps_in": rate(self.frames_in - frames), "fps_detect": rate(self.detected - detected),
            "dropped_stale": self.superseded, "dropped_paced": self.paced, "decode_errors": self.decode_errors, "failed": self.failed, "reopens": self.reopens,
            "age_ms_p50": percentile(&self.age, 0.5), "age_ms_p95": percentile(&self.age, 0.95),
            "infer_ms_p50": percentile(&self.infer, 0.5), "infer_ms_p95": percentile(&self.infer, 0.95)})
    }
}

/// Milliseconds, or null without a value.
fn percentile(window: &VecDeque<Duration>, share: f64) -> Value {
    let mut sorted: Vec<Duration> = window.iter().copied().collect();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).map_or(Value::Null, |d| json!((d.as_secs_f64() * 1e4).round() / 10.0))
}

/// What the machine says of itself: resident memory in MB, load, temperature in degrees Celsius; null where unknown.
#[must_use]
pub fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let rss = read("/proc/self/status").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    });
    let load = read("/proc/loadavg").and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    let disk = rustix::fs::statvfs(".").ok().map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) >> 20);
    json!({"disk_free_mb": disk, "throttled": throttled(), "rss_mb": rss.map(|kb| (kb / 102.4).round() / 10.0), "load1": load, "cpu_temp_c": temperature()})
}

/// The hottest of the machine's sensors, degrees Celsius; `None` where there is none.
#[must_use]
pub fn temperature() -> Option<f64> {
    hottest(std::path::Path::new("/sys/class/thermal"))
}

fn hottest(folder: &std::path::Path) -> Option<f64> {
    let zones = std::fs::read_dir(folder).ok()?.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("thermal_zone"));
    let degrees = zones.filter_map(|zone| std::fs::read_to_string(zone.path().join("temp")).ok()?.trim().parse::<f64>().ok());
    degrees.map(|milli| (milli / 100.0).round() / 10.0).max_by(f64::total_cmp)
}

/// Whether the firmware holds the CPU below its speed now, for heat or for want of power; `None` where there is no such firmware.
#[must_use]
pub fn throttled() -> Option<bool> {
    throttle_bits().map(|bits| bits & THROTTLED_NOW != 0)
}

/// What is or was wrong with supply and heat since the machine started, for people.
#[must_use]
pub fn supply_and_heat() -> Vec<&'static str> {
    in_words(throttle_bits().unwrap_or(0))
}

fn in_words(bits: u32) -> Vec<&'static str> {
    let told = |now: u32, now_text, since: u32, since_text| {
        if bits & now != 0 {
            Some(now_text)
        } else if bits & since != 0 {
            Some(since_text)
        } else {
            None
        }
    };
    let supply = "under-voltage now: the power supply or its cable is too weak";
    let heat = "throttled now: the CPU is too hot or its supply too weak; cool it, or lower detector.cpu_quota or max_fps";
    [
        told(UNDERVOLTAGE_NOW, supply, UNDERVOLTAGE_NOW << 16, "under-voltage since the start: the power supply or its cable is too weak"),
        told(THROTTLED_NOW, heat, THROTTLED_NOW << 16, "throttled since the start: too hot or supply too weak"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Bits of the Raspberry Pi firmware's word on its supply and heat (`get_throttled`); the same 16 higher: since the start.
const UNDERVOLTAGE_NOW: u32 = 1;
const THROTTLED_NOW: u32 = 1 << 2 | 1 << 3;

/// The firmware's word; `None` where there is no such firmware.
fn throttle_bits() -> Option<u32> {
    let text = std::fs::read_to_string("/sys/devices/platform/soc/soc:firmware/get_throttled").ok()?;
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// Codes of what is wrong with the machine (mqtt.md 3.2).
#[must_use]
pub fn machine_problems() -> Vec<String> {
    let bits = throttle_bits().unwrap_or(0);
    let disk_low = rustix::fs::statvfs(".").is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) < DISK_LOW);
    [(bits & UNDERVOLTAGE_NOW != 0, "undervoltage"), (bits & THROTTLED_NOW != 0, "thermal_throttle"), (disk_low, "disk_low")]
        .into_iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, code)| code.to_owned())
        .collect()
}

/// Least free space before `disk_low` is told, bytes.
const DISK_LOW: u64 = 100 << 20;

/// The machine, for `bridge/info`; null where unknown.
#[must_use]
pub fn host() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let board = read("/proc/device-tree/model").map(|text| text.trim_end_matches('\0').to_owned());
    let os = read("/etc/os-release").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=").map(str::to_owned))?;
        Some(line.trim_matches('"').to_owned())
    });
    let memory = read("/proc/meminfo").and_then(|text| text.lines().next()?.split_whitespace().nth(1)?.parse::<u64>().ok());
    json!({"board": board, "os": os, "arch": std::env::consts::ARCH, "mem_mb": memory.map(|kb| kb >> 10),
        "cpus": std::thread::available_parallelism().map_or(1, std::num::NonZero::get)})
}

/// CLOCK_BOOTTIME, milliseconds.
#[must_use]
pub fn boot_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Whether the clock is synchronised, as systemd's time service marks it; true where nothing tells.
#[must_use]
pub fn clock_synced() -> bool {
    let folder = std::path::Path::new("/run/systemd/timesync");
    !folder.exists() || folder.join("synchronized").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_percentiles_come_from_what_was_recorded() {
        let start = Instant::now();
        let mut camera = CameraHealth::default();
        camera.report("online", start);
        for ms in 1..=100 {
            camera.frames_in += 2;
            camera.detected += 1;
            camera.record(Duration::from_millis(ms), Duration::from_millis(2 * ms));
        }
        let report = camera.report("online", start + Duration::from_secs(10));
        assert_eq!((report["fps_in"].as_f64(), report["fps_detect"].as_f64()), (Some(20.0), Some(10.0)));
        assert_eq!((report["infer_ms_p50"].as_f64(), report["age_ms_p95"].as_f64()), (Some(50.0), Some(190.0)));
    }

    #[test]
    fn the_hottest_sensor_and_the_firmwares_word_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(hottest(folder.path()), None);
        for (zone, milli) in
            [("thermal_zone0", "48312\n"), ("thermal_zone1", "61900\n"), ("thermal_zone2", ""), ("cooling_device0", "99000")]
        {
            std::fs::create_dir(folder.path().join(zone)).expect("a zone");
            std::fs::write(folder.path().join(zone).join("temp"), milli).expect("written");
        }
        assert_eq!(hottest(folder.path()), Some(61.9));
        assert!(in_words(0).is_empty());
        assert!(in_words(0x50005).iter().all(|word| word.contains(" now: ")), "{:?}", in_words(0x50005));
        assert!(in_words(0x50000).iter().all(|word| word.contains("since the start")), "{:?}", in_words(0x50000));
        assert_eq!(in_words(0x4), [in_words(0x50005)[1]]);
    }

    #[test]
    fn this_machine_has_resident_memory() {
        assert!(machine()["rss_mb"].as_f64().expect("Linux") > 0.5);
    }
}
