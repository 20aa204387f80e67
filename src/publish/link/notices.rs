//! What the log was told of a broker, so that no cause fills it: neither a hostile broker nor one that lets
//! us go again and again. Pure: time is an argument.

use crate::contract::Topic;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Lines of one cause at once, and the time after which one more may come.
const AT_ONCE: u32 = 10;
const ONE_MORE: Duration = Duration::from_secs(600);
/// Names that a broker can make up are remembered up to here.
const MAX_NAMES: usize = 32;

/// Lets a number of lines through, then one now and then.
#[derive(Debug)]
pub(super) struct LineLimit {
    left: u32,
    since: Option<Instant>,
    left_out: u64,
}

impl Default for LineLimit {
    fn default() -> Self {
        Self { left: AT_ONCE, since: None, left_out: 0 }
    }
}

impl LineLimit {
    /// Whether a line may be written now; if so, how many were left out before it.
    pub fn admits(&mut self, now: Instant) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        let earned = now.saturating_duration_since(since).as_secs() / ONE_MORE.as_secs();
        if earned > 0 {
            self.left = self.left.saturating_add(u32::try_from(earned).unwrap_or(AT_ONCE)).min(AT_ONCE);
            self.since = Some(now);
        }
        if self.left == 0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// What was said once, for as long as the link's settings stay the same.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Commands and requests that were refused; as many as there are commands and verbs.
    refused: BTreeSet<Topic>,
    /// Messages that the broker did not take, by name.
    not_taken: BTreeSet<String>,
    foreign_topic: bool,
    too_large: bool,
    no_retain: bool,
    no_subscription: bool,
    refused_filters: Vec<String>,
    pub clear_password: bool,
    pub connections: LineLimit,
    pub failures: LineLimit,
}

impl Notices {
    /// A command was refused.
    pub fn refused_command(&mut self, topic: &Topic, full: &str, reason: &str) {
        if self.refused.insert(topic.clone()) {
            tracing::warn!(topic = full, reason, "command refused; the setting keeps its value");
        }
    }

    /// A request was not looked at.
    pub fn refused_request(&mut self, topic: &Topic, full: &str, reason: &str) {
        if self.refused.insert(topic.clone()) {
            tracing::warn!(topic = full, reason, "request not looked at");
        }
    }

    /// The broker sends what nobody asked for.
    pub fn foreign_topic(&mut self) {
        if !std::mem::replace(&mut self.foreign_topic, true) {
            tracing::warn!("the broker sends topics that were not subscribed; they are ignored");
        }
    }

    /// The broker did not take a message, in its words.
    pub fn not_taken(&mut self, topic: &str, reason: &str) {
        if self.not_taken.len() < MAX_NAMES && self.not_taken.insert(topic.to_owned()) {
            tracing::warn!(topic, reason, "the broker does not take this message");
        }
    }

    /// A message is larger than the broker says it takes.
    pub fn too_large_for_broker(&mut self, topic: &str, bytes: usize, limit: usize) {
        if !std::mem::replace(&mut self.too_large, true) {
            tracing::warn!(topic, bytes, limit, "message larger than the broker takes, not sent");
        }
    }

    /// The broker keeps no messages.
    pub fn no_retain(&mut self) {
        if !std::mem::replace(&mut self.no_retain, true) {
            tracing::warn!("the broker keeps no retained messages; whoever subscribes later sees no state");
        }
    }

    /// Subscriptions were not acknowledged in time.
    pub fn no_subscription(&mut self, waited: Duration) {
        if !std::mem::replace(&mut self.no_subscription, true) {
            tracing::warn!(
                waited_s = waited.as_secs_f32(),
                "the broker does not acknowledge subscriptions; publishing all the same, \
                 commands may not arrive"
            );
        }
    }

    /// Subscriptions were refused; said again only of others.
    pub fn refused_filters(&mut self, filters: &[String], reason: Option<&str>) {
        if self.refused_filters != filters {
            self.refused_filters = filters.to_vec();
            tracing::warn!(
                filters = filters.join(" "),
                reason = reason.unwrap_or("none given"),
                "broker refused subscriptions; commands on them will not arrive"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_pass_and_then_one_every_ten_minutes_with_the_number_left_out() {
        let (mut limit, start) = (LineLimit::default(), Instant::now());
        let passed = (0..1000u32).filter(|_| limit.admits(start).is_some()).count();
        assert_eq!(passed, 10);
        assert_eq!(limit.admits(start + ONE_MORE), Some(990));
        assert_eq!(limit.admits(start + ONE_MORE), None);
        assert_eq!(limit.admits(start + 100 * ONE_MORE), Some(1));
    }
}
