//! The study: parts of Lin et al., *Focal Loss for Dense Object Detection*, computed anew from this program's
//! own losses (`retinanet.md`, section 10). Pure functions; the same seed gives the same numbers.

pub mod curves;
pub mod imbalance;
