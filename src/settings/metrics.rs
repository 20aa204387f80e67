//! `[metrics]`: numbers for charts over time.

use super::keys::section;
use super::value::{TextRule, ValueType};
use std::net::SocketAddr;

section! {
    /// Metrics for Prometheus, at /metrics by HTTP: the numbers of health messages as counters and
    /// histograms.
    pub struct MetricsSettings {
        /// Whether they can be read.
        enabled: bool {
            value: ValueType::Switch,
            default: "false",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Address and port where they are read. Only programs on this machine reach it: nobody is asked for a
        /// password there.
        listen: SocketAddr {
            value: ValueType::Text(TextRule::Loopback),
            default: "\"127.0.0.1:9464\"",
            unit: "",
            takes_effect: AtOnce,
        }
    }
}
