//! A message after which the broker ends the session, each time: too large for it, or on a topic that its
//! rules forbid. MQTT 3.1.1 has no words for that; what is seen is that the same message is the oldest one
//! not acknowledged whenever the connection ends. It is left out then, so that the others arrive.
//!
//! Pure: neither clock nor I/O.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Sessions in a row that end at the same message before it is left out.
const TIMES: u32 = 3;
/// Most messages that are left out; where that many do not help, it is none of them.
const MOST: usize = 8;

/// What tells messages apart: of a retained topic the topic, since its value is sent again and again; of an
/// event the payload, too, because the next event may be well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub topic: String,
    payload: Option<u64>,
}

impl Mark {
    pub fn new(topic: &str, payload: &[u8], retain: bool) -> Self {
        let digest = || {
            let mut hasher = DefaultHasher::new();
            payload.hash(&mut hasher);
            hasher.finish()
        };
        Self { topic: topic.to_owned(), payload: (!retain).then(digest) }
    }
}

/// What the ends of sessions taught so far.
#[derive(Debug, Default)]
pub(super) struct Culprits {
    suspect: Option<(Mark, u32)>,
    left_out: Vec<Mark>,
    /// Leaving out has not helped; nothing is left out until a session was steady.
    given_up: bool,
}

impl Culprits {
    /// Whether a message is not to be sent.
    pub fn leave_out(&self, mark: &Mark) -> bool {
        self.left_out.contains(mark)
    }

    /// A session was steady: whatever was wrong may be well again.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// A short session was lost; `oldest` was not acknowledged. Returns it if it is left out from now on.
    pub fn lost(&mut self, oldest: Option<Mark>) -> Option<Mark> {
        let Some(oldest) = oldest.filter(|_| !self.given_up) else {
            self.suspect = None;
            return None;
        };
        let times = match &self.suspect {
            Some((mark, times)) if *mark == oldest => times + 1,
            _ => 1,
        };
        if times < TIMES {
            self.suspect = Some((oldest, times));
            return None;
        }
        self.suspect = None;
        if self.left_out.len() == MOST {
            self.left_out.clear();
            self.given_up = true;
            return None;
        }
        self.left_out.push(oldest.clone());
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(payload: &[u8]) -> Mark {
        Mark::new("n/events", payload, false)
    }

    #[test]
    fn the_message_at_which_three_sessions_in_a_row_end_is_left_out_until_one_was_steady() {
        let mut culprits = Culprits::default();
        assert_eq!(culprits.lost(Some(event(b"a"))), None);
        assert_eq!(culprits.lost(Some(event(b"b"))), None, "another one between them");
        assert_eq!(culprits.lost(Some(event(b"a"))), None);
        assert_eq!(culprits.lost(Some(event(b"a"))), None);
        assert_eq!(culprits.lost(Some(event(b"a"))), Some(event(b"a")));
        assert!(culprits.leave_out(&event(b"a")) && !culprits.leave_out(&event(b"b")));
        culprits.forget();
        assert!(!culprits.leave_out(&event(b"a")));
    }

    #[test]
    fn of_a_retained_topic_every_value_is_meant() {
        let mut culprits = Culprits::default();
        let state = |payload: &[u8]| Mark::new("n/all", payload, true);
        for value in [b"0", b"1", b"2"] {
            culprits.lost(Some(state(value)));
        }
        assert!(culprits.leave_out(&state(b"3")));
    }

    #[test]
    fn a_broker_that_ends_every_session_gets_everything_again() {
        let mut culprits = Culprits::default();
        let mut left_out = 0;
        for round in 0..100u8 {
            left_out += (0..3).filter(|_| culprits.lost(Some(event(&[round]))).is_some()).count();
        }
        assert_eq!(left_out, MOST);
        assert!((0..100u8).all(|round| !culprits.leave_out(&event(&[round]))));
        assert_eq!(culprits.lost(None), None);
    }
}
