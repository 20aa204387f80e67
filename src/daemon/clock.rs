//! The one place where the daemon reads clocks for the scene.

use crate::health;
use crate::scene::Now;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant, SystemTime};

/// The clocks, and whether the wall clock is set by the network as of the last look.
pub(super) struct Clock {
    synced: bool,
}

impl Clock {
    pub fn new() -> Self {
        Self { synced: health::clock_synced() }
    }

    /// Looks whether the wall clock is set by the network. That asks the file system, so it is not done for
    /// each frame.
    pub fn look(&mut self) {
        self.synced = health::clock_synced();
    }

    /// The time now.
    pub fn now(&self) -> Now {
        let boot = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(boot.tv_nsec).unwrap_or(0);
        Now {
            mono: Instant::now(),
            wall: SystemTime::now(),
            boot: Duration::new(seconds, nanos),
            synced: self.synced,
        }
    }
}
