//! Metrics in Prometheus' text format (version 0.0.4), for charts and alarms over time: the numbers of
//! `bridge/health` as counters that never fall, and how long frames took as histograms.
//!
//! The table (`table.rs`) has a row for each metric: its name, type, labels and meaning, and how its value is
//! taken from [`Figures`]. `text.rs` writes the rows down and knows nothing of them; `server.rs` answers HTTP on
//! loopback and is the only file here with a socket. `docs/metrics.md` has the same table, written by a test.
//!
//! The text is written by our own few lines because the kept crate for it (`prometheus-client`) writes OpenMetrics,
//! which is another format, and wants to own the counters, which are the scene's.

mod figures;
mod histogram;
mod server;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use figures::{CameraFigures, Counters, Figures, FrameTimes, LabelFigures};
pub use histogram::{BOUNDS_S, Histogram};
pub use server::Server;
pub use table::{METRICS, Metric, MetricType};
pub use text::{CONTENT_TYPE, render};
