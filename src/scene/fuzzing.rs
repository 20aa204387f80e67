//! What the scene reads of the state folder, as the fuzzer gives it.

use super::overrides::Overrides;
use super::{Announced, Effect, Ledger, Now};
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

/// The text of `events.json`: what is written of it is read as the same, and what is told because of it fits its
/// topics.
pub fn ledger(now: Now, text: &str) {
    let mut read = match Ledger::parse(text) {
        Ok(read) => read,
        Err(error) => return assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    };
    let written = read.encode();
    let again = Ledger::parse(std::str::from_utf8(&written).expect("JSON")).expect("what we wrote");
    assert_eq!(again.encode(), written);
    read.close_what_was_left(now);
    let mut effects = Vec::new();
    read.write(&mut effects);
    read.take_written(u64::MAX, &mut effects);
    for effect in effects {
        if let Effect::PublishEvent { topic, payload, .. } = effect {
            assert!(payload.len() <= topic.spec().max_bytes, "{} bytes", payload.len());
        }
    }
    assert!(!read.waits());
}

/// The text of `homeassistant.json`: what is written of it is read as the same.
pub fn announced(text: &str) {
    match Announced::parse(text) {
        Ok(read) => {
            let written = read.encode();
            let again =
                Announced::parse(std::str::from_utf8(&written).expect("JSON")).expect("what we wrote");
            assert_eq!(again.encode(), written);
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
}
