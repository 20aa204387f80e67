//! The study: parts of Lin et al., *Focal Loss for Dense Object Detection*, computed anew from this program's
//! own losses, matching and trainer (`retinanet.md`, section 10). No files and no clocks; the same seed gives
//! the same numbers. `retinad study` writes them.

pub mod cumulative;
pub mod curves;
pub mod held_out;
pub mod imbalance;
pub mod trials;
