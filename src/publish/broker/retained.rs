//! Retained messages: the last one of each topic, within bounds. Pure.

use super::message::Message;
use super::topic;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Topics that are retained, at most.
pub(super) const TOPICS: usize = 4_000;
/// And their bytes, at most.
pub(super) const BYTES: usize = 8 << 20;

/// A message that is not retained because there is no room. An older one of the same topic is gone, too: it
/// is not true any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The last message of each topic that was published with the retain flag.
#[derive(Debug, Default)]
pub(super) struct Retained {
    messages: BTreeMap<Box<str>, Rc<Message>>,
    bytes: usize,
}

impl Retained {
    /// Keeps `message` in the place of its topic's last one; an empty payload clears the topic.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn set(&mut self, message: &Rc<Message>) -> Result<(), Full> {
        if let Some(last) = self.messages.remove(message.topic()) {
            self.bytes -= last.size();
        }
        if message.payload().is_empty() {
            return Ok(());
        }
        if self.messages.len() >= TOPICS || self.bytes + message.size() > BYTES {
            return Err(Full);
        }
        self.bytes += message.size();
        self.messages.insert(message.topic().into(), Rc::clone(message));
        Ok(())
    }

    /// What a new subscriber to `filter` gets, in the order of the topics.
    pub(super) fn matching<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = &'a Rc<Message>> {
        self.messages.values().filter(move |message| topic::matches(filter, message.topic()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::broker::message::{Memory, Qos};

    fn message(memory: &Memory, topic: &str, bytes: usize) -> Rc<Message> {
        Rc::new(Message::new(topic, vec![b'x'; bytes], 0, Qos::AtLeastOnce, memory))
    }

    #[test]
    fn the_last_message_of_a_topic_stays_and_an_empty_one_clears_it() {
        let (memory, mut retained) = (Memory::default(), Retained::default());
        for (topic, bytes) in [("a/b", 1), ("a/b", 2), ("a/c", 3), ("d", 4)] {
            retained.set(&message(&memory, topic, bytes)).expect("room");
        }
        let lengths = |retained: &Retained, filter| {
            retained.matching(filter).map(|m| m.payload().len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&retained, "a/+"), [2, 3]);
        retained.set(&message(&memory, "a/b", 0)).expect("room");
        assert_eq!(lengths(&retained, "#"), [3, 4]);
        for topic in ["a/c", "d"] {
            retained.set(&message(&memory, topic, 0)).expect("room");
        }
        assert_eq!((retained.bytes, memory.bytes()), (0, 0), "nothing is left");
    }

    #[test]
    fn topics_and_bytes_are_bounded() {
        let (memory, mut retained) = (Memory::default(), Retained::default());
        for i in 0..TOPICS {
            retained.set(&message(&memory, &format!("t/{i}"), 1)).expect("room");
        }
        assert_eq!(retained.set(&message(&memory, "one/more", 1)), Err(Full));
        retained.set(&message(&memory, "t/0", 2)).expect("a topic that is there may change");

        let (memory, mut retained) = (Memory::default(), Retained::default());
        let fit =
            (0..60).filter(|i| retained.set(&message(&memory, &format!("t/{i}"), 1 << 20)).is_ok()).count();
        assert_eq!(fit, (BYTES >> 20) - 1, "a megabyte each, and a little for the rest");
        assert!(memory.bytes() <= BYTES);
    }

    #[test]
    fn a_value_that_does_not_fit_leaves_no_stale_one() {
        let (memory, mut retained) = (Memory::default(), Retained::default());
        retained.set(&message(&memory, "a", 1)).expect("room");
        assert_eq!(retained.set(&message(&memory, "a", BYTES)), Err(Full));
        assert_eq!(retained.matching("#").count(), 0);
    }
}
