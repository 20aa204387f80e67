//! Prometheus' text format, version 0.0.4: writes down what the table says.

use super::{Figures, Histogram, METRICS, Metric};
use std::fmt::Write;

/// What HTTP calls the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of the node as text. A metric without a value is left out with its heading.
#[must_use]
pub fn render(figures: &Figures) -> String {
    let mut text = String::new();
    for metric in METRICS {
        (metric.read)(figures, &mut Samples { metric, text: &mut text, has_heading: false });
    }
    text
}

/// Takes the values of one metric.
pub struct Samples<'a> {
    metric: &'a Metric,
    text: &'a mut String,
    has_heading: bool,
}

impl Samples<'_> {
    /// The value under these labels' values, in the order of the metric's labels.
    pub fn put(&mut self, labels: &[&str], value: f64) {
        self.line("", labels, None, value);
    }

    /// As [`Samples::put`] where there may be no value.
    pub fn put_known(&mut self, labels: &[&str], value: Option<f64>) {
        if let Some(value) = value {
            self.put(labels, value);
        }
    }

    /// The buckets, sum and count of a histogram.
    pub fn put_histogram(&mut self, labels: &[&str], histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            self.line("_bucket", labels, Some(&bound.to_string()), count as f64);
        }
        self.line("_bucket", labels, Some("+Inf"), histogram.count() as f64);
        self.line("_sum", labels, None, histogram.sum().as_secs_f64());
        self.line("_count", labels, None, histogram.count() as f64);
    }

    fn line(&mut self, suffix: &str, labels: &[&str], bound: Option<&str>, value: f64) {
        let Metric { name, metric_type, help, .. } = self.metric;
        debug_assert_eq!(labels.len(), self.metric.labels.len(), "{name}");
        if !std::mem::replace(&mut self.has_heading, true) {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing into a String cannot fail.
            let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {}\n", metric_type.word());
        }
        let _ = write!(self.text, "{name}{suffix}");
        let bound = bound.map(|bound| ("le", bound));
        let pairs = self.metric.labels.iter().copied().zip(labels.iter().copied()).chain(bound);
        let mut open = '{';
        for (label, value) in pairs {
            let _ = write!(self.text, "{open}{label}=\"{}\"", escaped(value));
            open = ',';
        }
        let close = if open == ',' { "}" } else { "" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

/// A label's value as it stands in quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
