//! What the machine and the process say of themselves. Reads `/proc` and `/sys`; nothing here waits for a
//! disk.

use crate::contract::{Host, Machine, Problem, rounded};
use std::path::Path;

/// What the machine says of itself; unknown parts are empty.
#[must_use]
pub fn machine() -> Machine {
    let rss = read("/proc/self/status").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    });
    Machine {
        cpu_temp_c: temperature(),
        throttled: throttled(),
        rss_mb: rss.map(|kib| rounded(kib / 1024.0, 1)),
        load1: read("/proc/loadavg").and_then(|text| text.split_whitespace().next()?.parse().ok()),
        disk_free_mb: disk_free().map(|bytes| bytes >> 20),
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Free bytes where the daemon runs.
fn disk_free() -> Option<u64> {
    rustix::fs::statvfs(".").ok().map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// The hottest of the machine's sensors, degrees Celsius; `None` where there is none.
#[must_use]
pub fn temperature() -> Option<f64> {
    hottest(Path::new("/sys/class/thermal"))
}

fn hottest(folder: &Path) -> Option<f64> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let zones = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("thermal_zone"));
    let degrees = zones.filter_map(|zone| {
        std::fs::read_to_string(zone.path().join("temp")).ok()?.trim().parse::<f64>().ok()
    });
    degrees.map(|milli| rounded(milli / 1000.0, 1)).max_by(f64::total_cmp)
}

/// Whether the firmware holds the CPU below its speed now, for heat or for want of power; `None` where
/// there is no such firmware.
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
    let worded = |now: u32, now_text, since: u32, since_text| {
        if bits & now != 0 {
            Some(now_text)
        } else if bits & since != 0 {
            Some(since_text)
        } else {
            None
        }
    };
    let supply = "under-voltage now: the power supply or its cable is too weak";
    let supply_once = "under-voltage since the start: the power supply or its cable is too weak";
    let heat = "throttled now: the CPU is too hot or its supply too weak; cool it, or lower detector.cpu_quota or max_fps";
    let heat_once = "throttled since the start: too hot or supply too weak";
    let found = [
        worded(UNDERVOLTAGE_NOW, supply, UNDERVOLTAGE_NOW << 16, supply_once),
        worded(THROTTLED_NOW, heat, THROTTLED_NOW << 16, heat_once),
    ];
    found.into_iter().flatten().collect()
}

/// Bits of the Raspberry Pi firmware's word on its supply and heat (`get_throttled`); the same 16 higher:
/// since the start.
const UNDERVOLTAGE_NOW: u32 = 1;
const THROTTLED_NOW: u32 = 1 << 2 | 1 << 3;

/// The firmware's word; `None` where there is no such firmware.
fn throttle_bits() -> Option<u32> {
    let text = read("/sys/devices/platform/soc/soc:firmware/get_throttled")?;
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// What is wrong with the machine.
#[must_use]
pub fn machine_problems() -> Vec<Problem> {
    let bits = throttle_bits().unwrap_or(0);
    let found = [
        (bits & UNDERVOLTAGE_NOW != 0, Problem::Undervoltage),
        (bits & THROTTLED_NOW != 0, Problem::ThermalThrottle),
        (disk_free().is_some_and(|bytes| bytes < DISK_LOW), Problem::DiskLow),
    ];
    found.into_iter().filter_map(|(wrong, problem)| wrong.then_some(problem)).collect()
}

/// Least free space before the disk counts as low, bytes.
const DISK_LOW: u64 = 100 << 20;

/// The machine, for `bridge/info`.
#[must_use]
pub fn host() -> Host {
    let os = read("/etc/os-release").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=").map(str::to_owned))?;
        Some(line.trim_matches('"').to_owned())
    });
    let memory_kib = read("/proc/meminfo")
        .and_then(|text| text.lines().next()?.split_whitespace().nth(1)?.parse::<u64>().ok());
    Host {
        board: read("/proc/device-tree/model").map(|text| text.trim_end_matches('\0').to_owned()),
        os,
        arch: std::env::consts::ARCH.to_owned(),
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        mem_mb: memory_kib.map(|kib| kib >> 10),
    }
}

/// Whether the clock is synchronised, as systemd's time service marks it; true where nothing tells.
#[must_use]
pub fn clock_synced() -> bool {
    let folder = Path::new("/run/systemd/timesync");
    !folder.exists() || folder.join("synchronized").exists()
}

/// A number of the kernel's that stays the same until the machine, or with `uuid` anything at all, starts
/// anew.
#[must_use]
pub fn kernel_random(name: &str) -> String {
    read(&format!("/proc/sys/kernel/random/{name}")).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// A number from 0 to below 1, another one each time; 0 where the kernel gives none.
#[must_use]
pub fn chance() -> f64 {
    let digits = kernel_random("uuid");
    let drawn = digits.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    f64::from(drawn.unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_is_a_share_and_another_one_each_time() {
        let drawn: Vec<f64> = (0..4).map(|_| chance()).collect();
        assert!(drawn.iter().all(|share| (0.0..1.0).contains(share)), "{drawn:?}");
        assert!(drawn.windows(2).any(|pair| pair[0] != pair[1]), "{drawn:?}");
    }

    #[test]
    fn the_hottest_sensor_and_the_firmwares_word_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(hottest(folder.path()), None);
        let zones = [
            ("thermal_zone0", "48312\n"),
            ("thermal_zone1", "61900\n"),
            ("thermal_zone2", ""),
            ("cooling_device0", "99000"),
        ];
        for (zone, milli) in zones {
            std::fs::create_dir(folder.path().join(zone)).expect("a zone");
            std::fs::write(folder.path().join(zone).join("temp"), milli).expect("written");
        }
        assert_eq!(hottest(folder.path()), Some(61.9));
        assert!(in_words(0).is_empty());
        assert!(in_words(0x50005).iter().all(|word| word.contains(" now: ")), "{:?}", in_words(0x50005));
        assert!(
            in_words(0x50000).iter().all(|word| word.contains("since the start")),
            "{:?}",
            in_words(0x50000)
        );
        assert_eq!(in_words(0x4), [in_words(0x50005)[1]]);
    }

    #[test]
    fn this_machine_has_resident_memory() {
        assert!(machine().rss_mb.expect("Linux") > 0.5);
    }
}
