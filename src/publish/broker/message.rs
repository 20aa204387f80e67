//! A message as it lies in memory: once, however many clients it waits for.

use std::cell::Cell;
use std::rc::Rc;

/// How a message is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Qos {
    /// 0: not acknowledged; may be lost.
    AtMostOnce,
    /// 1: acknowledged; may come twice. What comes in as QoS 2 goes out as 1.
    AtLeastOnce,
}

/// Bytes that a message takes beside its topic and body: counters, table entries and what the allocator
/// adds, rounded up.
const OVERHEAD: usize = 200;

/// Sum of the bytes of all messages that exist. Clones share the count.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Rc<Cell<usize>>);

impl Memory {
    pub(super) fn bytes(&self) -> usize {
        self.0.get()
    }
}

/// A published message. It is never changed, and counted in its [`Memory`] until the last one who refers to
/// it lets go.
#[derive(Debug)]
pub(super) struct Message {
    topic: Box<str>,
    /// The packet it came in, of which the payload is the end: so that megabytes are not copied.
    body: Vec<u8>,
    payload_at: usize,
    qos: Qos,
    memory: Memory,
}

impl Message {
    /// `body[payload_at..]` is the payload; `payload_at` must not be beyond the end.
    pub(super) fn new(topic: &str, body: Vec<u8>, payload_at: usize, qos: Qos, memory: &Memory) -> Self {
        debug_assert!(payload_at <= body.len());
        let message = Self { topic: topic.into(), body, payload_at, qos, memory: memory.clone() };
        memory.0.set(memory.0.get() + message.size());
        message
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.body[self.payload_at..]
    }

    /// As its publisher sent it; a subscriber gets at most this.
    pub(super) fn qos(&self) -> Qos {
        self.qos
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        self.topic.len() + self.body.capacity() + OVERHEAD
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.memory.0.set(self.memory.0.get() - self.size());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_once_and_until_its_last_reader_is_done() {
        let memory = Memory::default();
        let first = Rc::new(Message::new("a/b", b"head, payload".to_vec(), 6, Qos::AtMostOnce, &memory));
        assert_eq!((first.topic(), first.payload()), ("a/b", &b"payload"[..]));
        let second = Rc::clone(&first);
        assert_eq!(memory.bytes(), first.size());
        drop(first);
        assert!(memory.bytes() > 0);
        drop(second);
        assert_eq!(memory.bytes(), 0);
    }
}
