//! What is done with a stream of frames: slots, dispatch, workers, results in each camera's order, and taps
//! on them.
//!
//! Workers pull; nobody pushes. Capture never waits for inference, inference never waits for the broker.
//! Each thread ends by its channel being closed.

mod dispatch;
mod generation_slot;
mod motion_gate;
mod sequence;
mod tap;
mod worker;

pub use dispatch::{Dispatcher, Taken, WorkerLimits};
pub use generation_slot::{Found, GenerationSlot, IsWorth, Judge, Offer};
pub use motion_gate::MotionGate;
pub use sequence::Sequencer;
pub use tap::FrameTap;
pub use worker::{WorkerCounts, WorkerNews, Workers, start_workers};
