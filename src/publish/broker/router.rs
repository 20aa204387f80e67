//! Who is connected, who subscribed to what, what is retained: a state machine without sockets and clocks.
//!
//! A connection gives it the client's packets and fetches what is to be written. A session lives exactly as
//! long as its connection: a client that asks for more (`clean_session` = false) is told in CONNACK that
//! there was none before.

use super::message::{Memory, Message, Qos};
use super::outgoing::{Outgoing, TooSlow};
use super::packet::{self, Acknowledge, Connect, Packet, Publish, Refusal, Violation, Will};
use super::retained::{self, Retained};
use super::topic;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use tokio::sync::Notify;

/// Clients at the same time, at most.
pub(super) const CLIENTS: usize = 64;
/// Topic filters of one client, at most.
pub(super) const FILTERS: usize = 100;
/// Messages of QoS 2 that a client may publish without releasing their ids.
pub(super) const NOT_RELEASED: usize = 100;
/// Bytes of all messages, retained, waiting or being written. Beyond it the client for which most is
/// waiting is disconnected.
pub(super) const MESSAGE_BYTES: usize = 16 << 20;

/// Why a client's session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum End {
    #[error("disconnected")]
    Disconnected,
    #[error("connection closed")]
    Closed,
    #[error("no packet for one and a half times its keep-alive")]
    Silent,
    #[error("takes or gives no bytes in the middle of a packet")]
    Stalled,
    #[error("reads too slowly")]
    TooSlow,
    #[error("another client has its id")]
    TakenOver,
    #[error("{0}")]
    Violation(#[from] Violation),
}

impl From<TooSlow> for End {
    fn from(_: TooSlow) -> Self {
        Self::TooSlow
    }
}

/// Names a session; never used twice.
pub(super) type Key = u64;

/// How the router calls on the task of a connection.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// There is something to write.
    pub write: Notify,
    /// The session was ended from elsewhere.
    pub ended: Notify,
}

#[derive(Debug)]
struct Client {
    id: String,
    will: Option<Will>,
    /// Filters with the QoS granted; no filter twice.
    filters: Vec<(String, Qos)>,
    outgoing: Outgoing,
    /// Ids of QoS 2 that came and are not released: what comes again under them is not passed on again.
    not_released: BTreeSet<u16>,
    calls: Rc<Calls>,
}

impl Client {
    /// The highest QoS granted by a filter that matches: overlapping filters deliver once [MQTT-3.3.5-1].
    fn granted(&self, topic: &str) -> Option<Qos> {
        self.filters.iter().filter(|(filter, _)| topic::matches(filter, topic)).map(|(_, qos)| *qos).max()
    }
}

/// The broker's state. One for all connections, on their thread; it ends with the process.
#[derive(Debug, Default)]
pub(super) struct Router {
    clients: BTreeMap<Key, Client>,
    by_id: HashMap<String, Key>,
    last_key: Key,
    retained: Retained,
    memory: Memory,
    /// Messages that are to be passed on, with their retain flag: one may end sessions, whose wills then
    /// follow it.
    due: VecDeque<(Rc<Message>, bool)>,
    warned: Warned,
}

/// What was logged already: each limit is once for as long as the broker runs, because a client may hit it
/// at any rate.
#[derive(Debug, Default)]
struct Warned {
    clients: bool,
    retained: bool,
    packet: bool,
}

impl Router {
    /// Begins a session and queues CONNACK. One with the same client id ends [MQTT-3.1.4-2].
    ///
    /// # Errors
    /// [`Refusal`], to be answered before the connection is closed.
    pub(super) fn connect(&mut self, connect: Connect, calls: Rc<Calls>) -> Result<Key, Refusal> {
        let Connect { client_id, clean_session, will, .. } = connect;
        if client_id.is_empty() && !clean_session {
            return Err(Refusal::IdRejected);
        }
        if let Some(&before) = self.by_id.get(&client_id) {
            self.end(before, End::TakenOver);
        }
        if self.clients.len() >= CLIENTS {
            if !std::mem::replace(&mut self.warned.clients, true) {
                tracing::warn!(limit = CLIENTS, "embedded broker: too many clients; more are refused");
            }
            return Err(Refusal::Unavailable);
        }
        self.last_key += 1;
        let key = self.last_key;
        // A client without an id gets one that nobody else can have: ids hold no zero byte.
        let id = if client_id.is_empty() { format!("\0{key}") } else { client_id };
        let mut outgoing = Outgoing::default();
        // An empty queue has room for four bytes.
        let _ = outgoing.answer(|buffer| packet::write_connack(buffer, None));
        calls.write.notify_one();
        self.by_id.insert(id.clone(), key);
        let client = Client { id, will, filters: Vec::new(), outgoing, not_released: BTreeSet::new(), calls };
        self.clients.insert(key, client);
        Ok(key)
    }

    /// Does what a client's packet asks for.
    ///
    /// # Errors
    /// Why the session must end; the caller then calls [`Self::end`].
    pub(super) fn handle(&mut self, key: Key, packet: Packet) -> Result<(), End> {
        // It may have been ended a moment ago, on another client's account.
        let client = self.clients.get_mut(&key).ok_or(End::Closed)?;
        match packet {
            Packet::Publish(publish) => return self.publish(key, publish),
            Packet::PubAck(id) => client.outgoing.acknowledged(id),
            Packet::PubRel(id) => {
                client.not_released.remove(&id);
                client.outgoing.answer(|buffer| packet::write_pubcomp(buffer, id))?;
            }
            Packet::Subscribe(id, filters) => return self.subscribe(key, id, filters),
            Packet::Unsubscribe(id, filters) => {
                client.filters.retain(|(filter, _)| !filters.contains(filter));
                client.outgoing.answer(|buffer| packet::write_unsuback(buffer, id))?;
            }
            Packet::PingReq => client.outgoing.answer(packet::write_pingresp)?,
            Packet::Disconnect => return Err(End::Disconnected),
        }
        client.calls.write.notify_one();
        Ok(())
    }

    /// Ends a session: its will is published unless the client took leave, and nothing of it is left. Ended
    /// already: nothing.
    pub(super) fn end(&mut self, key: Key, why: End) {
        self.remove(key, why);
        self.pass_on_due();
    }

    /// What the connection writes next, as [`Outgoing::fill`].
    pub(super) fn fill(&mut self, key: Key, buffer: &mut Vec<u8>) -> Option<Rc<Message>> {
        self.clients.get_mut(&key)?.outgoing.fill(buffer)
    }

    fn publish(&mut self, key: Key, publish: Publish) -> Result<(), End> {
        let Publish { topic, body, payload_at, retain, acknowledge } = publish;
        let client = self.clients.get_mut(&key).ok_or(End::Closed)?;
        client.outgoing.acknowledge(acknowledge)?;
        client.calls.write.notify_one();
        if let Acknowledge::PubRec(id) = acknowledge {
            if !client.not_released.insert(id) {
                return Ok(());
            }
            if client.not_released.len() > NOT_RELEASED {
                return Err(Violation::NotReleased { limit: NOT_RELEASED }.into());
            }
        }
        let qos = if acknowledge == Acknowledge::Nothing { Qos::AtMostOnce } else { Qos::AtLeastOnce };
        let message = Message::new(&topic, body, payload_at, qos, &self.memory);
        self.due.push_back((Rc::new(message), retain));
        self.pass_on_due();
        Ok(())
    }

    fn subscribe(&mut self, key: Key, id: u16, filters: Vec<(String, Qos)>) -> Result<(), End> {
        let client = self.clients.get_mut(&key).ok_or(End::Closed)?;
        let mut granted = Vec::with_capacity(filters.len());
        let mut accepted = Vec::new();
        for (filter, qos) in filters {
            let known = client.filters.iter().position(|(other, _)| *other == filter);
            if !topic::is_filter(&filter) || known.is_none() && client.filters.len() >= FILTERS {
                granted.push(None);
                continue;
            }
            granted.push(Some(qos));
            accepted.push((filter.clone(), qos));
            match known {
                Some(place) => client.filters[place].1 = qos,
                None => client.filters.push((filter, qos)),
            }
        }
        client.outgoing.answer(|buffer| packet::write_suback(buffer, id, &granted))?;
        for (filter, qos) in &accepted {
            for message in self.retained.matching(filter) {
                client.outgoing.push(message, *qos, true)?;
            }
        }
        client.calls.write.notify_one();
        Ok(())
    }

    /// Passes on what is due. Each session that this ends may add a will, and there are at most [`CLIENTS`]
    /// of them.
    fn pass_on_due(&mut self) {
        while let Some((message, retain)) = self.due.pop_front() {
            if retain {
                self.retain(&message);
            }
            let mut slow = Vec::new();
            for (key, client) in &mut self.clients {
                let Some(qos) = client.granted(message.topic()) else { continue };
                match client.outgoing.push(&message, qos, false) {
                    Ok(()) => client.calls.write.notify_one(),
                    Err(TooSlow) => slow.push(*key),
                }
            }
            drop(message);
            for key in slow {
                self.remove(key, End::TooSlow);
            }
            self.shed();
        }
    }

    fn retain(&mut self, message: &Rc<Message>) {
        if self.retained.set(message) == Err(retained::Full)
            && !std::mem::replace(&mut self.warned.retained, true)
        {
            let (topics, bytes) = (retained::TOPICS, retained::BYTES);
            tracing::warn!(
                topic = message.topic(),
                topics,
                bytes,
                "embedded broker: no room for more retained messages"
            );
        }
    }

    /// Ends the sessions for which most is waiting, until all messages together are within their bound.
    fn shed(&mut self) {
        while self.memory.bytes() > MESSAGE_BYTES {
            let most = self.clients.iter().max_by_key(|(_, client)| client.outgoing.bytes());
            let Some(key) = most.filter(|(_, client)| client.outgoing.bytes() > 0).map(|(key, _)| *key)
            else {
                return;
            };
            self.remove(key, End::TooSlow);
        }
    }

    fn remove(&mut self, key: Key, why: End) {
        let Some(client) = self.clients.remove(&key) else { return };
        self.by_id.remove(&client.id);
        client.calls.ended.notify_one();
        tracing::debug!(client = client.id, reason = %why, lost = client.outgoing.dropped(), "embedded broker: session ended");
        if let End::Violation(Violation::TooLarge { bytes, limit }) = why
            && !std::mem::replace(&mut self.warned.packet, true)
        {
            tracing::warn!(
                client = client.id,
                bytes,
                limit,
                "embedded broker: message too large; its client is disconnected"
            );
        }
        if let Some(Will { topic, payload, qos, retain }) = client.will.filter(|_| why != End::Disconnected) {
            let message = Message::new(&topic, payload, 0, qos, &self.memory);
            self.due.push_back((Rc::new(message), retain));
        }
    }
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
