//! What was set over MQTT, as the fuzzer gives it.

use super::overrides::Overrides;
use crate::contract::THRESHOLD;

/// The text of `overrides.json`: what is written of it is read as the same.
pub fn overrides(text: &str) {
    let read = match Overrides::parse(text) {
        Ok(read) => read,
        Err(error) => return assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    };
    for min_score in [0.5, 0.05] {
        assert!(THRESHOLD.contains(&read.of("front", min_score).threshold));
        for (camera, shown) in read.in_force(min_score) {
            assert!(shown.threshold.is_none_or(|value| (0.0..=1.0).contains(&value)), "{camera}: {shown:?}");
        }
    }
    let written = String::from_utf8(read.encode()).expect("JSON");
    let again = Overrides::parse(&written).expect("what we wrote");
    assert_eq!(again.in_force(0.5), read.in_force(0.5));
    assert_eq!(String::from_utf8(again.encode()).expect("JSON"), written);
}
