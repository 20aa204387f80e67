//! Which objects are in a zone, and for how long: one that loiters counts, one that passes does not.

use super::ObjectId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The stays in one zone.
#[derive(Debug, Clone, Default)]
pub struct Presence {
    /// Since when each object is in it.
    stays: BTreeMap<ObjectId, Instant>,
}

/// Most stays that are remembered: more than any picture shows objects.
const MOST: usize = 1024;

impl Presence {
    /// Takes where an object is, and says whether it counts: it has been in the zone for `loiter`. One that was
    /// seen outside begins anew.
    pub fn see(&mut self, object: ObjectId, inside: bool, now: Instant, loiter: Duration) -> bool {
        if !inside {
            self.stays.remove(&object);
            return false;
        }
        if self.stays.len() >= MOST && !self.stays.contains_key(&object) {
            return loiter.is_zero();
        }
        let since = *self.stays.entry(object).or_insert(now);
        now.saturating_duration_since(since) >= loiter
    }

    /// The object is gone.
    pub fn forget(&mut self, object: ObjectId) {
        self.stays.remove(&object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOITER: Duration = Duration::from_secs(3);

    struct Zone {
        presence: Presence,
        start: Instant,
    }

    impl Zone {
        fn new() -> Self {
            Self { presence: Presence::default(), start: Instant::now() }
        }

        fn see(&mut self, ms: u64, object: ObjectId, inside: bool) -> bool {
            let now = self.start + Duration::from_millis(ms);
            self.presence.see(object, inside, now, LOITER)
        }
    }

    #[test]
    fn who_stays_counts_after_the_time_and_who_leaves_begins_anew() {
        let mut zone = Zone::new();
        let at = [0, 1000, 2000, 2999, 3000, 4000].map(|ms| zone.see(ms, 1, true));
        assert_eq!(at, [false, false, false, false, true, true]);
        assert!(!zone.see(4500, 1, false));
        assert!(!zone.see(5000, 1, true) && zone.see(5500, 1, true) == zone.see(7999, 2, true));
        assert!(!zone.see(5600, 1, true));
    }

    #[test]
    fn each_object_has_its_own_time_a_gap_does_not_end_it_and_who_is_gone_begins_anew() {
        let mut zone = Zone::new();
        zone.see(0, 1, true);
        zone.see(1900, 2, true);
        assert!(zone.see(3400, 1, true), "unseen for 3.4 s");
        assert!(!zone.see(3400, 2, true));
        zone.presence.forget(1);
        assert!(!zone.see(6000, 1, true) && zone.see(6000, 2, true));
    }

    #[test]
    fn without_a_time_everything_inside_counts_at_once_however_much_it_is() {
        let (mut presence, now) = (Presence::default(), Instant::now());
        for object in 0..10_000 {
            assert!(presence.see(object, true, now, Duration::ZERO));
            assert!(!presence.see(object + 20_000, false, now, Duration::ZERO));
        }
        assert!(presence.stays.len() <= MOST);
    }

    #[test]
    fn a_clock_that_steps_back_counts_nothing_early() {
        let (mut presence, now) = (Presence::default(), Instant::now() + Duration::from_secs(60));
        assert!(!presence.see(1, true, now, LOITER));
        assert!(!presence.see(1, true, now - Duration::from_secs(30), LOITER));
        assert!(presence.see(1, true, now + LOITER, LOITER));
    }
}
