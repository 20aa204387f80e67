//! One object over time: its filter, and what is told of it.

use super::geometry::{Place, iou};
use super::kalman::{Axis, Motion};
use super::votes::Votes;

/// Name of a track for its life. The tracker only hands it on; a daemon gives ULIDs, which are 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub u128);

/// Where a told track stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Seen in the last frame, or missed for so short that it is taken to be there.
    Present,
    /// Missed for longer; kept so that the object has its id when it comes back, until its age is over.
    Lost,
}

/// What is known of an object. Boxes are `[x1, y1, x2, y2]` in pixels of the picture last given; times are
/// those of the calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Track {
    /// Its name from start to end.
    pub id: TrackId,
    /// Index of the class that most of its detections have, weighted by score; may change.
    pub class: usize,
    /// Where it is taken to be now: filtered, and while it is missed where it went on to.
    pub bbox: [f32; 4],
    /// The box as last detected.
    pub last_bbox: [f32; 4],
    /// Score of the last detection.
    pub score: f32,
    /// Best score so far.
    pub top_score: f32,
    /// Time of the first detection, ms.
    pub first_seen_ms: u64,
    /// Time of the last one, ms.
    pub last_seen_ms: u64,
    /// Detections so far.
    pub hits: u64,
    /// Whether it has hardly moved for some seconds.
    pub stationary: bool,
    /// Seen or missed.
    pub state: State,
}

/// A centre moves: in sides of the box a second. A person walks past at 1.4 m/s, which is 1.5 times its side.
pub(super) const CENTRE_SPREAD: f64 = 0.5;
/// A size changes more slowly.
const SIZE_SPREAD: f64 = 0.2;
/// A stationary one drifts at this.
const STILL_SPREAD: f64 = 0.05;
/// Seconds.
const MEMORY: f64 = 1.0;
/// Standard deviation of a detected centre and size as a share of the box's side along that axis.
const CENTRE_NOISE: f64 = 0.06;
const SIZE_NOISE: f64 = 0.12;
/// Weak detections are less exact.
const WEAK_NOISE: f64 = 1.5;
/// Overlap with the box where it stopped, under which an object has moved.
const MOVED_IOU: f64 = 0.5;
/// Overlap above which it is at rest, while it has not been for long.
const REST_IOU: f64 = 0.7;
/// A centre that is off by more than this, in squared standard deviations of two coordinates, tells the
/// filter that it was wrong: it begins anew.
const UNEXPECTED: f64 = 9.0;
/// A box touches an edge of the picture within this share of the picture's side.
const EDGE: f64 = 0.02;
/// Slower than this, in sides of the box a second, an object at the edge stays there.
const LEAVING_RATE: f64 = 0.2;
/// A size never falls under this share of the last detected one, however long it is missed.
const LEAST_SIZE: f64 = 0.5;

/// A track as the tracker keeps it.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    /// None while it is tentative.
    pub id: Option<TrackId>,
    pub votes: Votes,
    axes: [Axis; 4],
    pub last: Place,
    pub score: f32,
    pub top_score: f32,
    pub first_seen: u64,
    pub last_seen: u64,
    pub hits: u64,
    pub stationary: bool,
    /// Where it came to rest, and since when.
    rest: (Place, u64),
    /// Updates in a row that did not see it.
    pub misses: u32,
    /// Time on top of its age, because it vanished together with all others, ms.
    pub grace: u64,
    pub state: State,
    /// Whether it was on its way out of the picture when it was missed.
    pub leaving: bool,
    /// Whether what is asked of a sighting changed since it was last seen: a weak one is not enough.
    pub doubted: bool,
}

/// A detection as a track takes it in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub class: usize,
    pub score: f32,
    pub place: Place,
    pub strong: bool,
}

impl Seen {
    /// Standard deviations of centre and size, each across and down.
    pub fn noise(&self) -> [f64; 4] {
        let factor = if self.strong { 1.0 } else { WEAK_NOISE };
        let [w, h] = self.place.size.map(|side| side * factor);
        [w * CENTRE_NOISE, h * CENTRE_NOISE, w * SIZE_NOISE, h * SIZE_NOISE]
    }

    fn coordinates(&self) -> [f64; 4] {
        let Place { centre, size } = self.place;
        [centre[0], centre[1], size[0], size[1]]
    }
}

impl Followed {
    /// A tentative track of one sighting.
    pub fn new(seen: &Seen, now: u64) -> Self {
        Self {
            id: None,
            votes: Votes::new(seen.class, seen.score),
            axes: axes(seen),
            last: seen.place,
            score: seen.score,
            top_score: seen.score,
            first_seen: now,
            last_seen: now,
            hits: 1,
            stationary: false,
            rest: (seen.place, now),
            misses: 0,
            grace: 0,
            state: State::Present,
            leaving: false,
            doubted: false,
        }
    }

    /// It must be seen by a strong sighting, and nothing is assumed of it before.
    pub fn doubt(&mut self) {
        self.doubted = true;
        self.stationary = false;
        self.rest.1 = self.last_seen;
    }

    /// Lets time pass.
    pub fn predict(&mut self, seconds: f64) {
        let [centre, size] = motions(self.last.side(), self.stationary);
        for (i, axis) in self.axes.iter_mut().enumerate() {
            axis.predict(seconds, if i < 2 { centre } else { size });
        }
        for (axis, last) in self.axes[2..].iter_mut().zip(self.last.size) {
            axis.value = axis.value.clamp(last * LEAST_SIZE, last / LEAST_SIZE);
        }
    }

    /// Where it is taken to be.
    pub fn place(&self) -> Place {
        let [x, y, w, h] = [0, 1, 2, 3].map(|i| self.axes[i].value);
        Place { centre: [x, y], size: [w.max(f64::MIN_POSITIVE), h.max(f64::MIN_POSITIVE)] }
    }

    /// Distances of a sighting from what was expected, squared, and the variances expected of them.
    pub fn innovation(&self, seen: &Seen) -> [(f64, f64); 4] {
        let (at, noise) = (seen.coordinates(), seen.noise());
        std::array::from_fn(|i| {
            let distance = at[i] - self.axes[i].value;
            (distance * distance, self.axes[i].innovation_variance(noise[i]))
        })
    }

    /// Takes a sighting in. `stationary_after` is in ms.
    pub fn see(&mut self, seen: &Seen, now: u64, stationary_after: u64) {
        let surprise: f64 =
            self.innovation(seen)[..2].iter().map(|(squared, variance)| squared / variance).sum();
        if surprise > UNEXPECTED {
            self.axes = axes(seen);
        } else {
            let (at, noise) = (seen.coordinates(), seen.noise());
            for (i, axis) in self.axes.iter_mut().enumerate() {
                axis.correct(at[i], noise[i]);
            }
        }
        self.votes.cast(seen.class, seen.score);
        self.last = seen.place;
        self.score = seen.score;
        self.top_score = self.top_score.max(seen.score);
        self.last_seen = now;
        self.hits = self.hits.saturating_add(1);
        self.misses = 0;
        self.grace = 0;
        self.state = State::Present;
        self.leaving = false;
        self.doubted &= !seen.strong;
        self.judge_rest(now, stationary_after);
    }

    fn judge_rest(&mut self, now: u64, stationary_after: u64) {
        let place = self.place();
        let overlap = iou(&place, &self.rest.0);
        if overlap < if self.stationary { MOVED_IOU } else { REST_IOU } {
            self.rest = (place, now);
            self.stationary = false;
        } else if now.saturating_sub(self.rest.1) >= stationary_after {
            self.stationary = true;
        }
    }

    /// Whether it moves towards an edge of a picture of these sides that it touches, or is beyond it.
    pub fn is_leaving(&self, sides: [f64; 2]) -> bool {
        let (place, least) = (self.place(), LEAVING_RATE * self.last.side());
        (0..2).any(|i| {
            let (low, high) = (
                self.last.centre[i] - self.last.size[i] / 2.0,
                self.last.centre[i] + self.last.size[i] / 2.0,
            );
            let margin = EDGE * sides[i];
            let outwards = (low <= margin && self.axes[i].rate < -least)
                || (high >= sides[i] - margin && self.axes[i].rate > least);
            outwards || place.centre[i] < 0.0 || place.centre[i] > sides[i]
        })
    }

    /// Moves everything it remembers of places by this distance: the camera turned.
    pub fn shift(&mut self, by: [f64; 2]) {
        self.carry([1.0, 1.0], by);
    }

    /// Stretches, then moves, everything it remembers of places: the picture has another size.
    pub fn carry(&mut self, scale: [f64; 2], offset: [f64; 2]) {
        for (i, axis) in self.axes.iter_mut().enumerate() {
            axis.carry(scale[i % 2], if i < 2 { offset[i] } else { 0.0 });
        }
        for place in [&mut self.last, &mut self.rest.0] {
            for i in 0..2 {
                place.centre[i] = place.centre[i] * scale[i] + offset[i];
                place.size[i] *= scale[i];
            }
        }
    }

    /// Carries all its times back by this: the clock did.
    pub fn set_back(&mut self, by: u64) {
        for time in [&mut self.first_seen, &mut self.last_seen, &mut self.rest.1] {
            *time = time.saturating_sub(by);
        }
    }

    /// What is told of it; none while it is tentative.
    pub fn told(&self) -> Option<Track> {
        Some(Track {
            id: self.id?,
            class: self.votes.class(),
            bbox: self.place().bbox(),
            last_bbox: self.last.bbox(),
            score: self.score,
            top_score: self.top_score,
            first_seen_ms: self.first_seen,
            last_seen_ms: self.last_seen,
            hits: self.hits,
            stationary: self.stationary,
            state: self.state,
        })
    }
}

/// A filter that knows this sighting and nothing else.
fn axes(seen: &Seen) -> [Axis; 4] {
    let [centre, size] = motions(seen.place.side(), false);
    let (at, noise) = (seen.coordinates(), seen.noise());
    let motion = [centre, centre, size, size];
    std::array::from_fn(|i| Axis::new(at[i], noise[i], motion[i]))
}

/// How centre and size may move, for a box of this side.
fn motions(side: f64, stationary: bool) -> [Motion; 2] {
    let spreads = if stationary { [STILL_SPREAD; 2] } else { [CENTRE_SPREAD, SIZE_SPREAD] };
    spreads.map(|spread| Motion { spread: spread * side, memory: MEMORY })
}
