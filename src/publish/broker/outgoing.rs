//! What waits to be sent to one client, within bounds.
//!
//! Answers go first, then messages in the order of their publication. A client that reads too slowly loses
//! messages of QoS 0, the oldest first; one that leaves more than that unread is disconnected. Pure.

use super::message::{Message, Qos};
use super::packet::{self, Acknowledge};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// Messages that wait for one client, at most: twice as many as can be retained, which all come at once on
/// subscribing.
pub(super) const MESSAGES: usize = 2 * super::retained::TOPICS;
/// And their bytes, at most. More than may be retained altogether.
pub(super) const BYTES: usize = super::retained::BYTES + (2 << 20);
/// Bytes of answers that a client may leave unread: 16,000 acknowledgements.
pub(super) const ANSWERS: usize = 64 << 10;
/// Messages of QoS 1 on their way to a client that it has not acknowledged yet; as many as in Mosquitto.
pub(super) const IN_FLIGHT: usize = 20;
/// Payloads beyond this are not copied to be written together with others, bytes.
const BATCH: usize = 16 << 10;

/// The client leaves too much unread.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

#[derive(Debug)]
struct Delivery {
    message: Rc<Message>,
    qos: Qos,
    retained: bool,
}

/// What waits to be sent to one client. It goes with the client.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    answers: Vec<u8>,
    waiting: VecDeque<Delivery>,
    /// Bytes of what waits and of what is being written.
    bytes: usize,
    /// Bytes of the large message that is being written.
    writing: usize,
    in_flight: BTreeSet<u16>,
    last_id: u16,
    /// Messages of QoS 0 that were dropped.
    dropped: u64,
}

impl Outgoing {
    /// Queues an answer that `write` adds to a buffer.
    ///
    /// # Errors
    /// [`TooSlow`] if more than [`ANSWERS`] bytes of them wait.
    pub(super) fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), TooSlow> {
        write(&mut self.answers);
        if self.answers.len() > ANSWERS { Err(TooSlow) } else { Ok(()) }
    }

    /// Queues the first answer to a message that the client published.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub(super) fn acknowledge(&mut self, acknowledge: Acknowledge) -> Result<(), TooSlow> {
        self.answer(|buffer| packet::write_acknowledge(buffer, acknowledge))
    }

    /// Queues a message, at most with `granted`, what the client subscribed with.
    ///
    /// # Errors
    /// [`TooSlow`] if there is no room for a message of QoS 1, even without all of QoS 0.
    pub(super) fn push(
        &mut self,
        message: &Rc<Message>,
        granted: Qos,
        retained: bool,
    ) -> Result<(), TooSlow> {
        let delivery = Delivery { message: Rc::clone(message), qos: granted.min(message.qos()), retained };
        let size = message.size();
        while !self.has_room(size) {
            if let Some(oldest) = self.waiting.iter().position(|waiting| waiting.qos == Qos::AtMostOnce) {
                self.bytes -= self.waiting.remove(oldest).map_or(0, |waiting| waiting.message.size());
                self.dropped += 1;
            } else if delivery.qos == Qos::AtMostOnce {
                self.dropped += 1;
                return Ok(());
            } else {
                return Err(TooSlow);
            }
        }
        self.bytes += size;
        self.waiting.push_back(delivery);
        Ok(())
    }

    fn has_room(&self, size: usize) -> bool {
        self.waiting.len() < MESSAGES && self.bytes + size <= BYTES
    }

    /// The client acknowledged a message. An id that is not in flight is ignored.
    pub(super) fn acknowledged(&mut self, id: u16) {
        self.in_flight.remove(&id);
    }

    /// Adds to `buffer` what is to be written next. A large payload is not copied but given back, to be
    /// written after the buffer; it counts as waiting until the next call. Nothing is added if nothing
    /// waits, or only for acknowledgements.
    pub(super) fn fill(&mut self, buffer: &mut Vec<u8>) -> Option<Rc<Message>> {
        self.bytes -= std::mem::take(&mut self.writing);
        buffer.append(&mut self.answers);
        while buffer.len() < BATCH {
            let reliable = self.waiting.front()?.qos == Qos::AtLeastOnce;
            if reliable && self.in_flight.len() >= IN_FLIGHT {
                return None;
            }
            let id = reliable.then(|| self.next_id());
            let Delivery { message, retained, .. } = self.waiting.pop_front()?;
            packet::write_publish_header(buffer, &message, id, retained);
            if message.payload().len() > BATCH {
                self.writing = message.size();
                return Some(message);
            }
            buffer.extend(message.payload());
            self.bytes -= message.size();
        }
        None
    }

    /// An id that is not in flight; there are far more ids than may be in flight.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.in_flight.insert(self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Bytes of messages that wait or are being written.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages of QoS 0 that this client lost.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::broker::message::Memory;

    fn message(memory: &Memory, qos: Qos, bytes: usize) -> Rc<Message> {
        Rc::new(Message::new("t", vec![b'x'; bytes], 0, qos, memory))
    }

    #[test]
    fn a_slow_reader_loses_qos_0_first_and_the_oldest() {
        let memory = Memory::default();
        let mut outgoing = Outgoing::default();
        let (samples, event) = (message(&memory, Qos::AtMostOnce, 1), message(&memory, Qos::AtLeastOnce, 1));
        outgoing.push(&event, Qos::AtLeastOnce, false).expect("room");
        for _ in 1..MESSAGES {
            outgoing.push(&samples, Qos::AtLeastOnce, false).expect("room");
        }
        for lost in 1..MESSAGES as u64 {
            outgoing.push(&event, Qos::AtLeastOnce, false).expect("samples make room");
            assert_eq!(outgoing.dropped(), lost);
        }
        assert!(outgoing.waiting.iter().all(|waiting| waiting.qos == Qos::AtLeastOnce));
        outgoing.push(&samples, Qos::AtLeastOnce, false).expect("it is the one that is lost");
        assert_eq!(outgoing.dropped(), MESSAGES as u64);
        assert_eq!(outgoing.push(&event, Qos::AtLeastOnce, false), Err(TooSlow));
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let memory = Memory::default();
        let mut outgoing = Outgoing::default();
        let large = message(&memory, Qos::AtMostOnce, 1 << 20);
        for _ in 0..50 {
            outgoing.push(&large, Qos::AtMostOnce, false).expect("QoS 0 never disconnects");
            assert!(outgoing.bytes() <= BYTES);
        }
        assert_eq!(outgoing.waiting.len(), (BYTES >> 20) - 1, "a megabyte each, and a little for the rest");
    }

    #[test]
    fn a_large_payload_is_given_back_and_counts_until_it_is_written() {
        let memory = Memory::default();
        let mut outgoing = Outgoing::default();
        outgoing.push(&message(&memory, Qos::AtMostOnce, BATCH + 1), Qos::AtMostOnce, false).expect("room");
        outgoing.push(&message(&memory, Qos::AtMostOnce, 10), Qos::AtMostOnce, false).expect("room");
        let mut buffer = Vec::new();
        let large = outgoing.fill(&mut buffer).expect("a large one");
        assert!(outgoing.bytes() > large.size(), "both");
        buffer.clear();
        assert!(outgoing.fill(&mut buffer).is_none());
        assert_eq!((outgoing.bytes(), buffer.len()), (0, 2 + 2 + 1 + 10));
    }

    #[test]
    fn qos_1_waits_for_acknowledgements() {
        let memory = Memory::default();
        let mut outgoing = Outgoing::default();
        for _ in 0..IN_FLIGHT + 5 {
            outgoing.push(&message(&memory, Qos::AtLeastOnce, 1), Qos::AtLeastOnce, false).expect("room");
        }
        let mut buffer = Vec::new();
        outgoing.fill(&mut buffer);
        assert_eq!((outgoing.waiting.len(), outgoing.in_flight.len()), (5, IN_FLIGHT));
        outgoing.acknowledged(1);
        outgoing.acknowledged(999);
        outgoing.fill(&mut buffer);
        assert_eq!(outgoing.waiting.len(), 4);
        assert!(!outgoing.in_flight.contains(&1), "an id is not used again at once");
    }

    #[test]
    fn ids_go_round_past_those_in_flight_and_0() {
        let mut outgoing = Outgoing { last_id: u16::MAX - 1, ..Outgoing::default() };
        outgoing.in_flight.insert(1);
        assert_eq!([outgoing.next_id(), outgoing.next_id()], [u16::MAX, 2]);
    }

    #[test]
    fn answers_that_nobody_reads_end_the_connection() {
        let mut outgoing = Outgoing::default();
        let answered = (0..ANSWERS).take_while(|_| outgoing.answer(packet::write_pingresp).is_ok()).count();
        assert_eq!(answered, ANSWERS / 2);
    }
}
