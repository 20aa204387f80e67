//! What is done with a stream of frames: slots, dispatch, workers, and results in each camera's order.
//!
//! Workers pull; nobody pushes. Capture never waits for inference, inference never waits for the broker. Each thread ends by its
//! channel being closed.

mod dispatch;
mod sequence;
mod worker;

pub use dispatch::{Dispatcher, Taken};
pub use sequence::Sequencer;
pub use worker::{WorkerState, Workers, start_workers};
