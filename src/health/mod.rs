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
            "dropped_stale": self.superseded, "decode_errors": self.decode_errors, "failed": self.failed, "reopens": self.reopens,
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
    let temperature = read("/sys/class/thermal/thermal_zone0/temp").and_then(|text| text.trim().parse::<f64>().ok());
    let disk = rustix::fs::statvfs(".").ok().map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) >> 20);
    json!({"disk_free_mb": disk, "throttled": throttle_bits().map(|bits| bits & THROTTLED_NOW != 0), "rss_mb": rss.map(|kb| (kb / 102.4).round() / 10.0), "load1": load, "cpu_temp_c": temperature.map(|t| (t / 100.0).round() / 10.0)})
}

/// Bits of the Raspberry Pi firmware's word on its supply and heat (`get_throttled`).
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
    fn this_machine_has_resident_memory() {
        assert!(machine()["rss_mb"].as_f64().expect("Linux") > 0.5);
    }
}
