//! The one place where the daemon reads a clock for the scene.

use crate::health;
use crate::scene::Now;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant, SystemTime};

/// The time now.
pub(super) fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(boot.tv_nsec).unwrap_or(0);
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
        boot: Duration::new(seconds, nanos),
        synced: health::clock_synced(),
    }
}
