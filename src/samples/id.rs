//! Names of samples.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

/// Longest id: date, time, milliseconds, a number that tells equal ones apart, and a camera's id.
const LONGEST: usize = 64;

/// A sample's name, also that of its files: `20261126-152301-123-front`. Sorted by name they are sorted by
/// time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId(String);

impl SampleId {
    /// Of a frame that `camera` took at this time. Two frames of one camera in one millisecond would have the
    /// same id; [`super::Store::add`] then takes the next free millisecond.
    #[must_use]
    pub fn of(captured: SystemTime, camera: &str) -> Self {
        // 2026-11-26T15:23:01.123Z
        let digits: String =
            crate::contract::rfc3339(captured).chars().filter(char::is_ascii_digit).collect();
        Self(format!("{}-{}-{}-{camera}", &digits[..8], &digits[8..14], &digits[14..17]))
    }

    /// The id of the millisecond after, of the same camera. One that does not begin with a time gets a number.
    #[must_use]
    pub(super) fn next_millisecond(&self) -> Self {
        let parts: Vec<&str> = self.0.splitn(4, '-').collect();
        match (parts.as_slice(), parts.get(2).and_then(|ms| ms.parse::<u32>().ok())) {
            ([date, time, _, camera], Some(ms)) if ms < 999 => {
                Self(format!("{date}-{time}-{:03}-{camera}", ms + 1))
            }
            _ => {
                let (stem, number) = self.0.rsplit_once("--").unwrap_or((&self.0, "1"));
                Self(format!("{stem}--{}", number.parse::<u32>().unwrap_or(1) + 1))
            }
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SampleId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for SampleId {
    type Err = String;

    /// Refuses whatever could lead out of the samples' folder.
    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if begins && text.len() <= LONGEST && text.bytes().all(fits) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "`{}` is no sample: an id has 1 to {LONGEST} characters of a-z, 0-9, - and _; \
             `retinad samples list` shows them",
            crate::one_line::one_line(text)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn an_id_tells_time_and_camera_and_sorts_by_time() {
        let at = |ms| SampleId::of(UNIX_EPOCH + Duration::from_millis(ms), "front");
        assert_eq!(at(1_795_706_581_123).as_str(), "20261126-152301-123-front");
        assert!(at(1_795_706_581_123) < at(1_795_706_581_124));
        let id = at(0);
        assert_eq!(id.as_str().parse(), Ok(id));
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_id() {
        let long = "x".repeat(LONGEST + 1);
        for text in ["", "..", "../state", "a/b", "a.jpg", "-x", "A", "a\nb", long.as_str()] {
            let error = text.parse::<SampleId>().expect_err(text);
            assert!(error.contains("is no sample") && !error.contains('\n'), "{error}");
        }
    }
}
