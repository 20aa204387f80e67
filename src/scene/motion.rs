//! `<cam>/motion`: on as soon as something moves, off once nothing has for a while.

use std::time::{Duration, Instant};

/// Whether something moves before one camera.
#[derive(Debug)]
pub(super) struct Motion {
    /// It is over only after nothing moved for this long.
    off_delay: Duration,
    /// What was told last; `None`: not known yet.
    shown: Option<bool>,
    /// When something last moved, while that is told.
    moved: Option<Instant>,
}

impl Motion {
    /// Of a camera from which nothing was seen so far.
    pub fn new(off_delay: Duration) -> Self {
        Self { off_delay, shown: None, moved: None }
    }

    /// Takes whether something moved in a frame; returns whether what is shown changed.
    pub fn see(&mut self, moving: bool, now: Instant) -> bool {
        if moving {
            self.moved = Some(now);
            return self.show(true);
        }
        if self.moved.is_some() { self.pass_time(now) } else { self.show(false) }
    }

    /// Lets it end when its time has come; returns whether it did.
    pub fn pass_time(&mut self, now: Instant) -> bool {
        self.next_deadline().is_some_and(|at| now >= at) && self.end()
    }

    /// Nothing moves any more; returns whether that is news.
    pub fn end(&mut self) -> bool {
        self.moved = None;
        self.shown.is_some() && self.show(false)
    }

    /// When it ends if nothing else moves.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.moved.map(|at| at + self.off_delay)
    }

    /// What is shown; `None` before it is known.
    pub fn shown(&self) -> Option<bool> {
        self.shown
    }

    fn show(&mut self, moves: bool) -> bool {
        self.shown.replace(moves) != Some(moves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn motion_is_told_at_once_and_ends_after_the_delay_with_or_without_frames() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut motion = Motion::new(Duration::from_secs(2));
        assert!(!motion.end() && motion.shown().is_none(), "nothing is known");
        assert!(motion.see(false, at(0)) && motion.shown() == Some(false));
        assert!(motion.see(true, at(100)) && motion.shown() == Some(true));
        assert!(!motion.see(false, at(200)) && !motion.see(true, at(300)) && !motion.pass_time(at(2299)));
        assert_eq!(motion.next_deadline(), Some(at(2300)));
        assert!(motion.pass_time(at(2300)) && motion.shown() == Some(false));
        assert!(
            motion.next_deadline().is_none() && !motion.pass_time(at(9000)) && !motion.see(false, at(9000))
        );
        assert!(motion.see(true, at(9100)) && motion.see(false, at(11_100)));
        assert!(motion.see(true, at(12_000)) && motion.end() && !motion.end());
    }
}
