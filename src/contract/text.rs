//! How values stand in payloads: times, decimals, words.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::macros::format_description;

/// Last moment that RFC 3339 can write; a clock beyond it is shown as this.
const LAST_MOMENT: &str = "9999-12-31T23:59:59.999Z";
/// First moment that is shown; a clock before it is shown as this.
const FIRST_MOMENT: &str = "1970-01-01T00:00:00.000Z";

/// RFC 3339 in UTC with milliseconds and `Z`; clocks before 1970 or after 9999 are held at those bounds.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let Ok(since) = time.duration_since(UNIX_EPOCH) else { return FIRST_MOMENT.to_owned() };
    let Ok(nanos) = i128::try_from(since.as_nanos()) else { return LAST_MOMENT.to_owned() };
    // The conversion from `SystemTime` itself panics past the year 9999; this one says so.
    let text =
        OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().and_then(|time| time.format(&format).ok());
    text.unwrap_or_else(|| LAST_MOMENT.to_owned())
}

/// Milliseconds with one place.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3, 1)
}

/// A value with at most so many decimal places.
#[must_use]
pub fn rounded(value: f64, places: i32) -> f64 {
    let scale = 10f64.powi(places);
    (value * scale).round() / scale
}

/// A threshold as it stands on its topic: two places, a decimal point, no exponent.
#[must_use]
pub fn threshold_text(value: f32) -> String {
    format!("{value:.2}")
}

/// A switch as it stands on its topic.
#[must_use]
pub fn on_off(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

/// A ULID (github.com/ulid/spec) of this moment: names that sort by time. Of `random` the lower 80 bits are used.
#[must_use]
pub fn ulid(time: SystemTime, random: u128) -> u128 {
    let ms = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    ulid::Ulid::from_parts(u64::try_from(ms).unwrap_or(u64::MAX), random).0
}

/// A ULID as it stands in payloads, 26 letters and digits.
#[must_use]
pub fn ulid_text(id: u128) -> String {
    ulid::Ulid(id).to_string()
}

/// What [`ulid_text`] wrote; none for anything else.
#[must_use]
pub fn parse_ulid(text: &str) -> Option<u128> {
    ulid::Ulid::from_string(text).ok().map(|id| id.0)
}

/// Whether something is there, as Home Assistant expects it on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// It gives frames.
    Online,
    /// It gives none, or only damaged ones.
    Offline,
    /// Detection is switched off.
    Disabled,
}

impl Availability {
    /// The word on the topic.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_past_the_year_9999_or_before_1970_is_shown_at_the_bound() {
        assert_eq!(rfc3339(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), FIRST_MOMENT);
        assert_eq!(
            rfc3339(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)),
            "2023-11-14T22:13:20.123Z"
        );
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(253_402_300_800)), LAST_MOMENT);
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(u64::MAX >> 2)), LAST_MOMENT);
    }

    #[test]
    fn availability_is_the_same_word_in_json_and_on_a_topic() {
        for word in [Availability::Online, Availability::Offline, Availability::Disabled] {
            assert_eq!(serde_json::to_string(&word).expect("JSON"), format!("\"{word}\""));
        }
    }
}
