//! The outbox: what waits for the broker, by class. A pure state machine: no I/O, no clock.
//!
//! | class | bound | when full or disconnected |
//! |---|---|---|
//! | state (retained) | newest value a topic | never dropped, merged |
//! | event | 1,000 or 1 MiB | oldest dropped, counted |
//! | sample (detections) | 2 a topic | newest wins; discarded while disconnected |
//!
//! A copy of each QoS 1 message is kept until the broker acknowledged it, and sent again on the next connection: the MQTT library
//! alone loses messages it has accepted when the broker restarts (measured, `crates.md`).

use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// Most QoS 1 messages sent and not yet acknowledged.
const MAX_IN_FLIGHT: usize = 20;
const MAX_EVENTS: usize = 1_000;
const MAX_EVENT_BYTES: usize = 1 << 20;
const MAX_SAMPLES_A_TOPIC: usize = 2;

/// A message ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Full topic.
    pub topic: String,
    /// Bytes.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// To be acknowledged under this token (QoS 1); `None`: QoS 0.
    pub token: Option<u64>,
}

/// Messages dropped, by class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Per-frame detections.
    pub detections: u64,
    /// Pictures.
    pub snapshots: u64,
    /// Events.
    pub events: u64,
    /// Answers to requests.
    pub responses: u64,
}

#[derive(Debug)]
enum Kind {
    State,
    Event,
}

/// See the module's words.
#[derive(Debug, Default)]
pub struct Outbox {
    status_topic: String,
    /// Newest value of each retained topic, replayed on every connect.
    table: BTreeMap<String, Vec<u8>>,
    /// Retained topics to send, each once.
    dirty: VecDeque<String>,
    events: VecDeque<(String, Vec<u8>)>,
    event_bytes: usize,
    samples: BTreeMap<String, VecDeque<Vec<u8>>>,
    /// Newest health message: QoS 0, kept over a reconnect.
    health: Option<(String, Vec<u8>)>,
    in_flight: VecDeque<(u64, Kind, String, Vec<u8>)>,
    next_token: u64,
    connected: bool,
    /// What `status` is to say once all retained topics are out.
    announce: Option<&'static str>,
    dropped: Dropped,
}

impl Outbox {
    /// An empty outbox; `status_topic` is the topic of `online` and `offline`, always sent last.
    #[must_use]
    pub fn new(status_topic: String) -> Self {
        Self { status_topic, ..Self::default() }
    }

    /// Sets a retained topic. Sent if it differs from what was set before.
    pub fn set_state(&mut self, topic: String, payload: Vec<u8>) {
        if self.table.get(&topic) != Some(&payload) {
            self.table.insert(topic.clone(), payload);
            self.mark(topic);
        }
    }

    /// Sends a retained topic again though it did not change (a refused `set`).
    pub fn repeat_state(&mut self, topic: &str) {
        if self.table.contains_key(topic) {
            self.mark(topic.to_owned());
        }
    }

    fn mark(&mut self, topic: String) {
        if !self.dirty.contains(&topic) {
            self.dirty.push_back(topic);
        }
    }

    /// Queues an event: kept until acknowledged, also over a broker restart.
    pub fn push_event(&mut self, topic: String, payload: Vec<u8>) {
        self.event_bytes += payload.len();
        self.events.push_back((topic, payload));
        while self.events.len() > MAX_EVENTS || (self.event_bytes > MAX_EVENT_BYTES && self.events.len() > 1) {
            if let Some((_, old)) = self.events.pop_front() {
                self.event_bytes -= old.len();
                self.dropped.events += 1;
            }
        }
    }

    /// Queues a per-frame sample; discarded while disconnected.
    pub fn push_sample(&mut self, topic: &str, payload: Vec<u8>) {
        if !self.connected {
            self.dropped.detections += 1;
            return;
        }
        let queue = self.samples.entry(topic.to_owned()).or_default();
        queue.push_back(payload);
        if queue.len() > MAX_SAMPLES_A_TOPIC {
            queue.pop_front();
            self.dropped.detections += 1;
        }
    }

    /// Sets the newest health message.
    pub fn set_health(&mut self, topic: String, payload: Vec<u8>) {
        self.health = Some((topic, payload));
    }

    /// A connection stands and its subscriptions are acknowledged: retained topics, then `online`, then what waits.
    pub fn connect(&mut self) {
        self.connected = true;
        self.dirty = self.table.keys().cloned().collect();
        self.announce = Some("online");
    }

    /// The connection is gone: what was not acknowledged waits again, in order.
    pub fn disconnect(&mut self) {
        self.connected = false;
        for (_, kind, topic, payload) in self.in_flight.drain(..).rev() {
            if matches!(kind, Kind::Event) {
                self.event_bytes += payload.len();
                self.events.push_front((topic, payload));
            }
        }
        for queue in std::mem::take(&mut self.samples).into_values() {
            self.dropped.detections += queue.len() as u64;
        }
    }

    /// Says `offline` once everything else is out.
    pub fn close(&mut self) {
        self.announce = Some("offline");
    }

    /// The next message to hand to the connection, or `None` if there is none or 20 await their acknowledgement.
    pub fn take(&mut self) -> Option<Message> {
        if !self.connected {
            return None;
        }
        let closing = self.announce == Some("offline");
        if self.in_flight.len() < MAX_IN_FLIGHT {
            if let Some(topic) = self.dirty.pop_front() {
                let payload = self.table.get(&topic).cloned().unwrap_or_default();
                return Some(self.hand_over(Kind::State, topic, payload, true));
            }
            if let (Some(word), false) = (self.announce, closing) {
                self.announce = None;
                return Some(self.hand_over(Kind::State, self.status_topic.clone(), word.into(), true));
            }
            if let Some((topic, payload)) = self.events.pop_front() {
                self.event_bytes -= payload.len();
                return Some(self.hand_over(Kind::Event, topic, payload, false));
            }
            if closing {
                self.announce = None;
                return Some(self.hand_over(Kind::State, self.status_topic.clone(), "offline".into(), true));
            }
        }
        if let Some((topic, payload)) = self.health.take() {
            return Some(Message { topic, payload, retain: true, token: None });
        }
        let topic = self.samples.iter().find(|(_, queue)| !queue.is_empty()).map(|(topic, _)| topic.clone())?;
        let payload = self.samples.get_mut(&topic)?.pop_front()?;
        Some(Message { topic, payload, retain: false, token: None })
    }

    fn hand_over(&mut self, kind: Kind, topic: String, payload: Vec<u8>, retain: bool) -> Message {
        let token = self.next_token;
        self.next_token += 1;
        self.in_flight.push_back((token, kind, topic.clone(), payload.clone()));
        Message { topic, payload, retain, token: Some(token) }
    }

    /// The broker acknowledged the message with this token.
    pub fn acknowledge(&mut self, token: u64) {
        self.in_flight.retain(|(own, ..)| *own != token);
    }

    /// Whether everything was sent and acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.dirty.is_empty() && self.events.is_empty() && self.announce.is_none()
    }

    /// Messages that wait for the broker or for its acknowledgement, samples apart.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.in_flight.len() + self.dirty.len() + self.events.len()
    }

    /// Messages dropped so far.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(message) = outbox.take() {
            if let Some(token) = message.token {
                outbox.acknowledge(token);
            }
            seen.push(format!("{}={}", message.topic, String::from_utf8_lossy(&message.payload)));
        }
        seen
    }

    #[test]
    fn retained_topics_go_first_online_next_events_last() {
        let mut outbox = Outbox::new("s".into());
        outbox.push_event("e".into(), b"1".to_vec());
        outbox.set_state("a".into(), b"0".to_vec());
        outbox.set_state("a".into(), b"1".to_vec());
        assert!(outbox.take().is_none());
        outbox.connect();
        assert_eq!(drain(&mut outbox), ["a=1", "s=online", "e=1"]);
        outbox.close();
        outbox.set_state("a".into(), b"2".to_vec());
        assert_eq!(drain(&mut outbox), ["a=2", "s=offline"]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn unacknowledged_events_are_sent_again_in_order() {
        let mut outbox = Outbox::new("s".into());
        outbox.connect();
        drain(&mut outbox);
        for i in 0..30 {
            outbox.push_event("e".into(), vec![i]);
        }
        let sent = std::iter::from_fn(|| outbox.take()).count();
        assert_eq!(sent, MAX_IN_FLIGHT);
        outbox.disconnect();
        outbox.connect();
        let mut again = Vec::new();
        while let Some(message) = outbox.take() {
            outbox.acknowledge(message.token.expect("QoS 1"));
            if message.topic == "e" {
                again.push(message.payload[0]);
            }
        }
        assert_eq!(again, (0..30).collect::<Vec<_>>());
    }

    #[test]
    fn bounds_hold_and_drops_are_counted() {
        let mut outbox = Outbox::new("s".into());
        for _ in 0..MAX_EVENTS + 5 {
            outbox.push_event("e".into(), b"x".to_vec());
        }
        outbox.push_sample("d", b"x".to_vec());
        assert_eq!((outbox.dropped().events, outbox.dropped().detections, outbox.waiting()), (5, 1, MAX_EVENTS));
        outbox.connect();
        for i in 0..5 {
            outbox.push_sample("d", vec![i]);
        }
        assert_eq!(outbox.dropped().detections, 4);
    }
}
