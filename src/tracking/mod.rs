//! Tracking: which detections of one camera's frames are the same object.
//!
//! One [`Tracker`] per camera. It is a state machine without clocks, threads, files or globals: the time
//! comes with each call, ids come from a source that the caller passes in. Made for 1 to 10 irregular frames
//! a second, where a walker's boxes hardly overlap from one frame to the next.
//!
//! A frame goes this way ([`Tracker::update`]):
//!
//! 1. Tracks whose time is over end; the filters of the others are led to now (`kalman.rs`).
//! 2. If most objects moved by the same distance, the camera did: all tracks are carried there (`shake.rs`).
//! 3. Strong sightings are assigned to tracks, then weak ones to told tracks that are left (`gain.rs` says
//!    what a pair is worth, `assignment.rs` finds the best pairs). A pair's gain is the logarithm of how much
//!    likelier it is that the sighting shows this object than something new; it comes from the filter's
//!    covariance, so a track unseen for long accepts a sighting farther away, but loses it to a track that
//!    expected it there. It needs no overlap.
//! 4. A strong sighting that is left founds a tentative track. After `min_hits` sightings it is told as
//!    started, under a new id, and from then on has one end.
//!
//! A track has one class. Sightings of another class at the same place are votes: where a detector wavers
//! between two labels, one object stays one (`votes.rs`). An object whose box has hardly moved for some
//! seconds is stationary and outlives longer gaps; one that was on its way out of the picture ends sooner
//! (`track.rs`). If all objects vanish at once, the light changed and not the scene: all get more time.
//!
//! Sources: SORT (Bewley et al. 2016) for filter and assignment; ByteTrack (Zhang et al. 2022) for the second
//! pass with weak detections; OC-SORT (Cao et al. 2023) for the warning not to trust a filter's speed over
//! gaps, here by a rate that decays. What it achieves is measured by `benches/tracking.py`:
//! `benches/TRACKING.md`.

mod assignment;
mod gain;
mod geometry;
mod kalman;
mod shake;
mod track;
mod tracker;
mod votes;

#[cfg(test)]
mod tests;

pub use track::{State, Track, TrackId};
pub use tracker::{Changes, EndReason, Picture, Sighting, Tracker, TrackingOptions};
