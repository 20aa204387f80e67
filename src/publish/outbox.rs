//! The outbox: what waits for the broker, by class. A pure state machine: no I/O, no clock.
//!
//! | class | bound | when full or disconnected |
//! |---|---|---|
//! | state (retained) | newest value a topic | never dropped, merged |
//! | latest (retained, QoS 0) | newest value a topic | waits, merged |
//! | event | 1,000 or 1 MiB | updates dropped first, then the oldest start with its end, counted |
//! | response | 64 | oldest dropped, counted |
//! | sample (detections), picture | 2 a topic | newest wins; discarded while disconnected |
//!
//! A copy of each QoS 1 message is kept until the broker acknowledged it, and sent again on the next
//! connection: the MQTT library alone loses messages that it has accepted when the broker restarts
//! (measured, `crates.md`).
//!
//! Topics stand here without base and node, so that a change of either only changes how the link spells
//! them. Retained topics that are to vanish are kept by the full name that they have on the broker.

use crate::contract::{Class, Dropped, EventKey, EventType, Kind, Topic, Way};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Most QoS 1 messages sent and not yet acknowledged.
const MAX_IN_FLIGHT: usize = 20;
const MAX_EVENTS: usize = 1_000;
const MAX_EVENT_BYTES: usize = 1 << 20;
const MAX_RESPONSES: usize = 64;
const MAX_SAMPLES_A_TOPIC: usize = 2;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A topic of this node.
    Topic(Topic),
    /// A full name under which this node once left a retained message.
    Full(String),
}

/// A message ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub address: Address,
    /// Bytes.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// To be acknowledged under this token (QoS 1); `None`: QoS 0.
    pub token: Option<u64>,
}

/// A QoS 1 message that awaits its acknowledgement.
#[derive(Debug)]
struct InFlight {
    token: u64,
    message: Message,
    /// An event or an answer: sent again on the next connection, in order; retained topics are sent again
    /// anyway.
    is_event: bool,
    /// Which event it is, if whoever published it wants to know when it arrived.
    key: Option<EventKey>,
}

/// An event that waits.
#[derive(Debug)]
struct Event {
    topic: Topic,
    payload: Vec<u8>,
    key: Option<EventKey>,
    /// Sent before it.
    picture: Option<(Topic, Vec<u8>)>,
}

/// What is handed to the connection next, of the messages that are to be acknowledged.
struct Next {
    address: Address,
    payload: Vec<u8>,
    is_event: bool,
    key: Option<EventKey>,
}

/// What is to be said on `status` once everything that must come before is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announcement {
    Online,
    Offline,
}

/// All that waits for the broker.
#[derive(Debug)]
pub struct Outbox {
    /// The topic of `online` and `offline`, always sent last.
    status: Topic,
    /// Newest value of each retained topic, replayed on every connect.
    table: BTreeMap<Topic, Vec<u8>>,
    /// Retained topics to send, each once.
    dirty: VecDeque<Topic>,
    /// Full names to be cleared on the broker.
    stale: BTreeSet<String>,
    /// Of these, those to send on this connection.
    to_clear: VecDeque<String>,
    events: VecDeque<Event>,
    event_bytes: usize,
    /// Events that arrived or were dropped, for whoever keeps account of them.
    settled: Vec<EventKey>,
    responses: VecDeque<(Topic, Vec<u8>)>,
    samples: BTreeMap<Topic, VecDeque<Vec<u8>>>,
    latest: BTreeMap<Topic, Vec<u8>>,
    in_flight: VecDeque<InFlight>,
    next_token: u64,
    connected: bool,
    announce: Option<Announcement>,
    dropped: Dropped,
}

impl Outbox {
    /// An empty outbox; `status` is the topic of `online` and `offline`.
    #[must_use]
    pub fn new(status: Topic) -> Self {
        Self {
            status,
            table: BTreeMap::new(),
            dirty: VecDeque::new(),
            stale: BTreeSet::new(),
            to_clear: VecDeque::new(),
            events: VecDeque::new(),
            event_bytes: 0,
            settled: Vec::new(),
            responses: VecDeque::new(),
            samples: BTreeMap::new(),
            latest: BTreeMap::new(),
            in_flight: VecDeque::new(),
            next_token: 0,
            connected: false,
            announce: None,
            dropped: Dropped::default(),
        }
    }

    /// Takes a message in the class of its topic.
    pub fn publish(&mut self, topic: Topic, payload: Vec<u8>) {
        match topic.spec().way {
            Way::Out(Class::State) => self.set_state(topic, payload),
            Way::Out(Class::Latest) => drop(self.latest.insert(topic, payload)),
            Way::Out(Class::Event) => self.push_event(topic, payload, None, None),
            Way::Out(Class::Response) => self.push_response(topic, payload),
            Way::Out(Class::Sample | Class::Picture) => self.push_sample(topic, payload),
            // Others publish there; a message of ours would be taken for one of theirs.
            Way::In(_) => {}
        }
    }

    /// Sets a retained topic. Sent if it differs from what was set before.
    fn set_state(&mut self, topic: Topic, payload: Vec<u8>) {
        if self.table.get(&topic) != Some(&payload) {
            self.table.insert(topic.clone(), payload);
            self.mark(topic);
        }
    }

    /// Sends a retained topic again though it did not change (the answer to a set).
    pub fn repeat_state(&mut self, topic: Topic) {
        if topic == self.status && self.connected && self.announce.is_none() {
            self.announce = Some(Announcement::Online);
        } else if self.table.contains_key(&topic) {
            self.mark(topic);
        }
    }

    fn mark(&mut self, topic: Topic) {
        if !self.dirty.contains(&topic) {
            self.dirty.push_back(topic);
        }
    }

    /// The newest value of a retained topic.
    #[must_use]
    pub fn state(&self, topic: &Topic) -> Option<&[u8]> {
        self.table.get(topic).map(Vec::as_slice)
    }

    /// A retained topic is not published any more. Clearing it on the broker is asked for by
    /// [`Outbox::clear`].
    pub fn forget(&mut self, topic: &Topic) {
        self.table.remove(topic);
        self.dirty.retain(|waiting| waiting != topic);
        self.samples.remove(topic);
    }

    /// Clears a retained message that this node left on the broker under this full name.
    pub fn clear(&mut self, full: String) {
        if self.stale.insert(full.clone()) {
            self.to_clear.push_back(full);
        }
    }

    /// Full names that are not cleared yet.
    #[must_use]
    pub fn not_cleared(&self) -> &BTreeSet<String> {
        &self.stale
    }

    /// Queues an event: kept until acknowledged, also over a broker restart. With a `key`,
    /// [`Outbox::take_settled`] says when. A `picture` is sent before it, unless there is no connection now.
    pub fn push_event(
        &mut self,
        topic: Topic,
        payload: Vec<u8>,
        key: Option<EventKey>,
        picture: Option<(Topic, Vec<u8>)>,
    ) {
        self.event_bytes += payload.len();
        let (offered, connected) = (picture.is_some(), self.connected);
        let picture = picture.filter(|_| connected);
        self.dropped.snapshots += u64::from(offered && picture.is_none());
        self.events.push_back(Event { topic, payload, key, picture });
        while self.events.len() > MAX_EVENTS || (self.event_bytes > MAX_EVENT_BYTES && self.events.len() > 1)
        {
            self.drop_an_event();
        }
    }

    /// Drops what is missed least: an update, else the oldest start that waits together with its end, else the
    /// oldest event.
    fn drop_an_event(&mut self) {
        let is = |event: &Event, wanted| event.key.is_some_and(|key| key.event_type == wanted);
        if let Some(update) = self.events.iter().position(|event| is(event, EventType::Update)) {
            return self.drop_event(update);
        }
        let of = |wanted| {
            let places = self.events.iter().enumerate().filter(move |(_, event)| is(event, wanted));
            places.filter_map(|(place, event)| Some((event.key?.object, place)))
        };
        let ends: HashMap<u128, usize> = of(EventType::End).collect();
        match of(EventType::Start).find_map(|(object, start)| Some((start, *ends.get(&object)?))) {
            Some((start, end)) => {
                self.drop_event(start.max(end));
                self.drop_event(start.min(end));
            }
            None => self.drop_event(0),
        }
    }

    fn drop_event(&mut self, place: usize) {
        if let Some(event) = self.events.remove(place) {
            self.event_bytes -= event.payload.len();
            self.dropped.events += 1;
            self.settled.extend(event.key);
        }
    }

    /// Events with a key that were acknowledged or dropped since the last call.
    pub fn take_settled(&mut self) -> Vec<EventKey> {
        std::mem::take(&mut self.settled)
    }

    /// Queues an answer: kept until acknowledged; of too many the oldest go.
    fn push_response(&mut self, topic: Topic, payload: Vec<u8>) {
        self.responses.push_back((topic, payload));
        if self.responses.len() > MAX_RESPONSES {
            self.responses.pop_front();
            self.dropped.responses += 1;
        }
    }

    /// Queues a per-frame sample; discarded while disconnected.
    fn push_sample(&mut self, topic: Topic, payload: Vec<u8>) {
        let dropped = match topic.spec().way {
            Way::Out(Class::Picture) => &mut self.dropped.snapshots,
            _ => &mut self.dropped.detections,
        };
        if !self.connected {
            *dropped += 1;
            return;
        }
        let queue = self.samples.entry(topic).or_default();
        queue.push_back(payload);
        if queue.len() > MAX_SAMPLES_A_TOPIC {
            queue.pop_front();
            *dropped += 1;
        }
    }

    /// A connection stands and its subscriptions are acknowledged: what vanished is cleared, then retained
    /// topics, then `online`, then what waits.
    pub fn connect(&mut self) {
        self.connected = true;
        // Home Assistant is told what there is before what holds of it.
        let is_first = |topic: &&Topic| topic.kind() == Kind::HomeAssistantDevice;
        let (first, others): (Vec<&Topic>, Vec<&Topic>) = self.table.keys().partition(is_first);
        self.dirty = first.into_iter().chain(others).cloned().collect();
        self.to_clear = self.stale.iter().cloned().collect();
        self.announce = Some(Announcement::Online);
    }

    /// The connection is about to be left for another one: nothing more is handed out before
    /// [`Outbox::connect`].
    pub fn hold(&mut self) {
        self.connected = false;
    }

    /// The connection is gone: what was not acknowledged waits again, in order.
    pub fn disconnect(&mut self) {
        self.connected = false;
        for InFlight { message, is_event, key, .. } in self.in_flight.drain(..).rev() {
            let (true, Address::Topic(topic)) = (is_event, message.address) else { continue };
            if matches!(topic.spec().way, Way::Out(Class::Response)) {
                self.responses.push_front((topic, message.payload));
            } else {
                self.event_bytes += message.payload.len();
                self.events.push_front(Event { topic, payload: message.payload, key, picture: None });
            }
        }
        for event in &mut self.events {
            self.dropped.snapshots += u64::from(event.picture.take().is_some());
        }
        for queue in std::mem::take(&mut self.samples).into_values() {
            self.dropped.detections += queue.len() as u64;
        }
    }

    /// Says `offline` once everything else is out.
    pub fn close(&mut self) {
        self.announce = Some(Announcement::Offline);
    }

    /// The next message to hand to the connection, or `None` if there is none or 20 await their
    /// acknowledgement.
    pub fn take(&mut self) -> Option<Message> {
        if !self.connected {
            return None;
        }
        if self.in_flight.len() < MAX_IN_FLIGHT
            && self.is_eventful()
            && let Some((topic, payload)) = self.next_picture()
        {
            return Some(Message { address: Address::Topic(topic), payload, retain: false, token: None });
        }
        if self.in_flight.len() < MAX_IN_FLIGHT
            && let Some(next) = self.next_acknowledged()
        {
            return Some(self.hand_over(next));
        }
        if let Some((topic, payload)) = self.latest.pop_first() {
            return Some(Message { address: Address::Topic(topic), payload, retain: true, token: None });
        }
        let topic =
            self.samples.iter().find(|(_, queue)| !queue.is_empty()).map(|(topic, _)| topic.clone())?;
        let payload = self.samples.get_mut(&topic)?.pop_front()?;
        Some(Message { address: Address::Topic(topic), payload, retain: false, token: None })
    }

    /// A picture that was asked for, whose answer waits behind it, or that of the next event.
    fn next_picture(&mut self) -> Option<(Topic, Vec<u8>)> {
        let is_picture = |topic: &Topic| matches!(topic.spec().way, Way::Out(Class::Picture));
        let asked_for = self.samples.iter_mut().find(|(topic, queue)| is_picture(topic) && !queue.is_empty());
        if let Some((topic, queue)) = asked_for {
            return queue.pop_front().map(|payload| (topic.clone(), payload));
        }
        self.events.front_mut().and_then(|event| event.picture.take())
    }

    /// Whether an event or an answer is the next message of QoS 1.
    fn is_eventful(&self) -> bool {
        self.to_clear.is_empty() && self.dirty.is_empty() && self.announce != Some(Announcement::Online)
    }

    /// The next message of QoS 1.
    fn next_acknowledged(&mut self) -> Option<Next> {
        let plain = |address, payload| Next { address, payload, is_event: false, key: None };
        if let Some(full) = self.to_clear.pop_front() {
            return Some(plain(Address::Full(full), Vec::new()));
        }
        if let Some(topic) = self.dirty.pop_front() {
            let payload = self.table.get(&topic).cloned().unwrap_or_default();
            return Some(plain(Address::Topic(topic), payload));
        }
        if self.announce == Some(Announcement::Online) {
            self.announce = None;
            return Some(plain(Address::Topic(self.status.clone()), b"online".to_vec()));
        }
        if let Some(Event { topic, payload, key, .. }) = self.events.pop_front() {
            self.event_bytes -= payload.len();
            return Some(Next { address: Address::Topic(topic), payload, is_event: true, key });
        }
        if let Some((topic, payload)) = self.responses.pop_front() {
            return Some(Next { address: Address::Topic(topic), payload, is_event: true, key: None });
        }
        self.announce.take().map(|_| plain(Address::Topic(self.status.clone()), b"offline".to_vec()))
    }

    fn hand_over(&mut self, Next { address, payload, is_event, key }: Next) -> Message {
        let token = self.next_token;
        self.next_token += 1;
        let message = Message { address, payload, retain: !is_event, token: Some(token) };
        self.in_flight.push_back(InFlight { token, message: message.clone(), is_event, key });
        message
    }

    /// The broker acknowledged the message with this token; whether somebody waits to hear of it.
    pub fn acknowledge(&mut self, token: u64) -> bool {
        let index = self.in_flight.iter().position(|waiting| waiting.token == token);
        let Some(InFlight { message, key, .. }) = index.and_then(|index| self.in_flight.remove(index)) else {
            return false;
        };
        if let Address::Full(full) = message.address {
            self.stale.remove(&full);
        }
        self.settled.extend(key);
        key.is_some()
    }

    /// Whether everything was sent and acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting() == 0 && self.announce.is_none()
    }

    /// Messages that wait for the broker or for its acknowledgement, samples apart.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let queued = self.events.len() + self.responses.len();
        self.in_flight.len() + self.dirty.len() + self.to_clear.len() + queued
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
    use std::sync::Arc;

    fn topic(kind: Kind) -> Topic {
        Topic::of_camera(kind, &Arc::from("c"))
    }

    fn outbox() -> Outbox {
        Outbox::new(Topic::of_node(Kind::Status))
    }

    fn drain(outbox: &mut Outbox) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(message) = outbox.take() {
            if let Some(token) = message.token {
                outbox.acknowledge(token);
            }
            let name = match message.address {
                Address::Topic(topic) => topic.to_string(),
                Address::Full(full) => full,
            };
            seen.push(format!("{name}={}", String::from_utf8_lossy(&message.payload)));
        }
        seen
    }

    #[test]
    fn retained_topics_go_first_online_next_events_last() {
        let mut outbox = outbox();
        outbox.publish(topic(Kind::Events), b"1".to_vec());
        outbox.publish(topic(Kind::All), b"0".to_vec());
        outbox.publish(topic(Kind::All), b"1".to_vec());
        assert!(outbox.take().is_none());
        outbox.connect();
        assert_eq!(drain(&mut outbox), ["c/all=1", "status=online", "c/events=1"]);
        outbox.close();
        outbox.publish(topic(Kind::All), b"2".to_vec());
        assert_eq!(drain(&mut outbox), ["c/all=2", "status=offline"]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn unacknowledged_events_are_sent_again_in_order() {
        let mut outbox = outbox();
        outbox.connect();
        drain(&mut outbox);
        for i in 0..30 {
            outbox.publish(topic(Kind::Events), vec![i]);
        }
        let sent = std::iter::from_fn(|| outbox.take()).count();
        assert_eq!(sent, MAX_IN_FLIGHT);
        outbox.disconnect();
        outbox.connect();
        let mut again = Vec::new();
        while let Some(message) = outbox.take() {
            outbox.acknowledge(message.token.expect("QoS 1"));
            if message.address == Address::Topic(topic(Kind::Events)) {
                again.push(message.payload[0]);
            }
        }
        assert_eq!(again, (0..30).collect::<Vec<_>>());
    }

    #[test]
    fn answers_wait_for_their_acknowledgement_and_the_oldest_of_too_many_go() {
        let answer = Topic::of_verb(Kind::Response, &Arc::from("samples/list"));
        let mut outbox = outbox();
        for i in 0..70u8 {
            outbox.publish(answer.clone(), vec![i]);
        }
        assert_eq!((outbox.dropped().responses, outbox.dropped().events, outbox.waiting()), (6, 0, 64));
        outbox.connect();
        assert_eq!(outbox.take().map(|message| message.payload), Some(b"online".to_vec()));
        let first = outbox.take().expect("an answer");
        assert_eq!((first.payload, first.retain, first.token.is_some()), (vec![6], false, true));
        outbox.disconnect();
        outbox.connect();
        assert_eq!(drain(&mut outbox)[1], "bridge/response/samples/list=\u{6}", "sent again, in order");
        assert!(outbox.is_empty());
    }

    #[test]
    fn bounds_hold_and_drops_are_counted() {
        let mut outbox = outbox();
        for _ in 0..MAX_EVENTS + 5 {
            outbox.publish(topic(Kind::Events), b"x".to_vec());
        }
        outbox.publish(topic(Kind::Detections), b"x".to_vec());
        assert_eq!(
            (outbox.dropped().events, outbox.dropped().detections, outbox.waiting()),
            (5, 1, MAX_EVENTS)
        );
        outbox.connect();
        for i in 0..5 {
            outbox.publish(topic(Kind::Detections), vec![i]);
        }
        assert_eq!(outbox.dropped().detections, 4);
    }

    #[test]
    fn a_picture_goes_just_before_its_event_and_not_at_all_without_a_connection() {
        let mut outbox = outbox();
        let picture = |name: &str| Some((topic(Kind::Snapshot), name.as_bytes().to_vec()));
        outbox.push_event(topic(Kind::Events), b"0".to_vec(), None, picture("lost"));
        outbox.connect();
        outbox.publish(topic(Kind::All), b"1".to_vec());
        outbox.push_event(topic(Kind::Events), b"1".to_vec(), None, picture("a"));
        outbox.push_event(topic(Kind::Events), b"2".to_vec(), None, None);
        outbox.push_event(topic(Kind::Events), b"3".to_vec(), None, picture("b"));
        let sent = drain(&mut outbox);
        let wanted = ["c/all=1", "status=online", "c/events=0", "c/snapshot=a", "c/events=1", "c/events=2"];
        assert_eq!(sent[..6], wanted);
        assert_eq!(sent[6..], ["c/snapshot=b", "c/events=3"]);
        outbox.publish(topic(Kind::Snapshot), b"asked for".to_vec());
        outbox.publish(Topic::of_verb(Kind::Response, &Arc::from("snapshot")), b"sent".to_vec());
        assert_eq!(drain(&mut outbox), ["c/snapshot=asked for", "bridge/response/snapshot=sent"]);
        outbox.push_event(topic(Kind::Events), b"4".to_vec(), None, picture("c"));
        outbox.disconnect();
        outbox.connect();
        assert_eq!(drain(&mut outbox), ["c/all=1", "status=online", "c/events=4"]);
        assert_eq!(outbox.dropped().snapshots, 2);
    }

    #[test]
    fn whoever_keeps_account_of_events_hears_what_became_of_each() {
        let key = |object, event_type| EventKey { object, event_type };
        let mut outbox = outbox();
        let mut push = |object: usize, event_type| {
            outbox.push_event(topic(Kind::Events), vec![0; 10], Some(key(object as u128, event_type)), None);
        };
        push(0, EventType::Start);
        for object in 1..400 {
            for event_type in [EventType::Start, EventType::Update, EventType::End] {
                push(object, event_type);
            }
        }
        let dropped = outbox.take_settled();
        assert_eq!(dropped.len(), 198);
        assert!(dropped.iter().all(|key| key.event_type == EventType::Update), "updates first");
        for object in 400..601 {
            for event_type in [EventType::Start, EventType::End] {
                outbox.push_event(topic(Kind::Events), vec![0; 10], Some(key(object, event_type)), None);
            }
        }
        let dropped = outbox.take_settled();
        let of = |wanted| dropped.iter().filter(|key| key.event_type == wanted).count();
        assert_eq!(of(EventType::Update), 201, "the last of them");
        assert_eq!(of(EventType::Start), of(EventType::End), "a start goes with its end");
        assert!(
            of(EventType::Start) > 90 && !dropped.contains(&key(0, EventType::Start)),
            "this one is open"
        );
        outbox.connect();
        let (mut first, mut kept) = (Vec::new(), 0);
        while let Some(message) = outbox.take() {
            kept += usize::from(outbox.acknowledge(message.token.expect("QoS 1")));
            first.extend(outbox.take_settled().into_iter().take(1));
        }
        assert_eq!((kept, first[0]), (first.len(), key(0, EventType::Start)));
        assert!(kept <= MAX_EVENTS && kept > MAX_EVENTS - 3, "{kept}");
    }

    #[test]
    fn what_vanished_is_cleared_before_anything_else_until_the_broker_has_acknowledged() {
        let mut outbox = outbox();
        outbox.publish(topic(Kind::All), b"1".to_vec());
        outbox.clear("old/n/c/all".into());
        outbox.connect();
        let first = outbox.take().expect("a message");
        assert_eq!(
            (&first.address, first.payload.len(), first.retain),
            (&Address::Full("old/n/c/all".into()), 0, true)
        );
        outbox.disconnect();
        assert_eq!(outbox.not_cleared().len(), 1, "not acknowledged");
        outbox.connect();
        assert_eq!(drain(&mut outbox)[0], "old/n/c/all=");
        assert!(outbox.not_cleared().is_empty());
        outbox.forget(&topic(Kind::All));
        outbox.disconnect();
        outbox.connect();
        assert_eq!(drain(&mut outbox), ["status=online"]);
    }

    #[test]
    fn only_the_newest_health_waits() {
        let mut outbox = outbox();
        outbox.publish(Topic::of_node(Kind::Health), b"1".to_vec());
        outbox.publish(Topic::of_node(Kind::Health), b"2".to_vec());
        outbox.connect();
        assert_eq!(drain(&mut outbox), ["status=online", "bridge/health=2"]);
    }
}
