//! `retinad`: camera frames in, INT8 RetinaNet in between, MQTT messages out.
//!
//! The rooms stand in the order in which a frame meets them; `ARCHITECTURE.md` has the floors and
//! `tests/floors.rs` holds them.

// Floor 0: the vocabulary.
pub mod address;
pub mod atomic_file;
pub mod backoff;
mod caught;
pub mod coco;
pub mod detection;
mod dial;
pub mod frame;
pub mod geometry;
mod memory;
pub mod npy;
mod one_line;
pub mod plot;
mod regular_file;
pub mod secret;
pub mod settings;
mod splitmix;
pub mod thread;
mod tls;
pub mod verb;
// Floor 1: the public interface, pictures, model files, INT8 arithmetic.
pub mod contract;
pub mod image;
pub mod kernels;
pub mod metrics;
pub mod model;
pub mod motion;
// Floor 2: a runnable session; the arithmetic of RetinaNet; frames that are kept to learn from; tuned models;
// objects over time; what is asked of zones, lines, masks and labels.
pub mod engine;
pub mod generations;
pub mod retinanet;
pub mod samples;
pub mod tracking;
pub mod zones;
// Floor 3: one picture in, detections out.
pub mod detector;
// Floor 4: the ends, and what is true between them.
pub mod capture;
pub mod health;
pub mod publish;
pub mod scene;
// Floor 5: a stream of frames; how good detections are; learning from frames.
pub mod evaluation;
pub mod pipeline;
pub mod tuning;
// Floor 6: composition.
pub mod daemon;
// Floor 7: what a person types and reads.
pub mod cli;
// Above them all: what fuzzing runs.
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
