//! One session with the broker, from CONNECT to its end.
//!
//! Order on every connect: CONNACK, SUBSCRIBE to exact filters, SUBACK, retained topics, `status` =
//! `online`, then what waits.

use super::connection::{Connection, REQUESTS, options, words};
use crate::contract::{Command, Kind, Names, TOPICS, Topic, Way};
use crate::publish::gate::Gate;
use crate::publish::outbox::Address;
use crate::publish::{LinkNews, PublisherOptions, Shared, Wanted};
use crossbeam_channel::Sender;
use rumqttc::{
    ConnectionError, Event, LastWill, Outgoing, Packet, Publish, QoS, SubAck, SubscribeFilter,
    SubscribeReasonCode,
};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The loop turns at least so often, which is how the watchdog sees that it is alive.
pub(super) const TURN: Duration = Duration::from_secs(1);
/// Longest goodbye at the end of the daemon.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why a session ended.
pub(super) enum End {
    /// Everything was sent, as asked.
    Closed,
    /// Another broker, or other names, are wanted.
    Replaced,
    /// The reason in words.
    Failed(String),
}

/// What a session is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before the subscriptions are acknowledged.
    Greeting,
    /// Messages are sent.
    Feeding,
    /// `offline` and what comes before it are on their way; at the latest at this moment it is over.
    Leaving(Instant),
    /// DISCONNECT is on its way.
    Disconnecting,
}

/// One connection and what it remembers.
pub(super) struct Session<'a> {
    /// As asked for last.
    wanted: Arc<PublisherOptions>,
    names: Names,
    shared: &'a Shared,
    news: &'a Sender<LinkNews>,
    connection: Connection,
    phase: Phase,
    /// Filters that were asked for and are not acknowledged yet, one list for each SUBSCRIBE.
    asked: VecDeque<Vec<String>>,
    /// Filters that the broker refused.
    refused: BTreeSet<Arc<str>>,
    /// Publishes handed to the library in order, by token; it names their packet id when it sends them.
    handed: VecDeque<Option<u64>>,
    by_id: HashMap<u16, u64>,
    gate: Gate,
    /// Topics whose refusal was logged in this session, as many as there are subscriptions.
    warned: BTreeSet<Topic>,
    warned_of_foreign_topic: bool,
}

/// Runs a session until it ends. `Ok`: as asked.
pub(super) async fn run(
    wanted: &Arc<PublisherOptions>,
    shared: &Arc<Shared>,
    news: &Sender<LinkNews>,
    orders: &mut watch::Receiver<Wanted>,
) -> End {
    let mut session = Session::start(Arc::clone(wanted), shared, news);
    loop {
        shared.turns.fetch_add(1, Ordering::Relaxed);
        let pause = session.next_wait();
        let end = tokio::select! {
            event = session.connection.events.recv() => session.take_event(event),
            changed = orders.changed() => match changed {
                Ok(()) => session.take_order(&orders.borrow_and_update().clone()),
                // The daemon has dropped its side without a goodbye.
                Err(_) => Some(End::Closed),
            },
            () = shared.wake.notified() => None,
            () = tokio::time::sleep(pause) => None,
        };
        let end = end.or_else(|| session.feed());
        if let Some(end) = end {
            // However a session ends that was to be left, nobody waits for it.
            return match &*orders.borrow() {
                Wanted::Nothing => End::Closed,
                Wanted::Link(now) if !now.same_connection(&session.wanted) => End::Replaced,
                Wanted::Link(_) => end,
            };
        }
    }
}

impl<'a> Session<'a> {
    fn start(wanted: Arc<PublisherOptions>, shared: &'a Shared, news: &'a Sender<LinkNews>) -> Self {
        let names = wanted.names();
        let mut mqtt = options(wanted.client_id(), &wanted.host, wanted.port, wanted.credentials.as_ref());
        let will =
            LastWill::new(names.full(&Topic::of_node(Kind::Status)), "offline", QoS::AtLeastOnce, true);
        mqtt.set_last_will(will);
        Self {
            asked: VecDeque::new(),
            refused: BTreeSet::new(),
            wanted,
            names,
            shared,
            news,
            connection: Connection::start(mqtt),
            phase: Phase::Greeting,
            handed: VecDeque::new(),
            by_id: HashMap::new(),
            gate: Gate::default(),
            warned: BTreeSet::new(),
            warned_of_foreign_topic: false,
        }
    }

    fn next_wait(&self) -> Duration {
        let due = self.gate.next_deadline().map(|due| due.saturating_duration_since(Instant::now()));
        due.unwrap_or(TURN).min(TURN)
    }

    fn take_event(&mut self, event: Option<Result<Event, ConnectionError>>) -> Option<End> {
        match event {
            None => return Some(End::Failed("connection ended".into())),
            Some(Err(_)) if self.phase == Phase::Disconnecting => return Some(End::Closed),
            Some(Err(error)) => return Some(End::Failed(words(&error))),
            Some(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                let filters = self.command_filters(&self.wanted.cameras);
                if filters.is_empty() {
                    self.become_ready();
                    return None;
                }
                return self.subscribe(filters);
            }
            Some(Ok(Event::Incoming(Packet::SubAck(ack)))) => {
                self.take_refusals(&ack);
                self.become_ready();
            }
            Some(Ok(Event::Outgoing(Outgoing::Publish(id)))) => {
                if let Some(Some(token)) = self.handed.pop_front() {
                    self.by_id.insert(id, token);
                }
            }
            Some(Ok(Event::Incoming(Packet::PubAck(ack)))) => {
                if let Some(token) = self.by_id.remove(&ack.pkid) {
                    self.shared.outbox().acknowledge(token);
                }
            }
            Some(Ok(Event::Incoming(Packet::Publish(message)))) => self.receive(&message),
            Some(Ok(Event::Outgoing(Outgoing::Disconnect))) => return Some(End::Closed),
            Some(Ok(_)) => {}
        }
        None
    }

    /// Filters of the commands of these cameras, one for each topic.
    fn command_filters(&self, cameras: &[Arc<str>]) -> Vec<String> {
        let commands = TOPICS.iter().filter(|spec| spec.built && matches!(spec.way, Way::In(_)));
        let topics = cameras
            .iter()
            .flat_map(|camera| commands.clone().map(|spec| Topic::of_camera(spec.kind, camera)));
        topics.map(|topic| self.names.full(&topic)).collect()
    }

    fn subscribe(&mut self, filters: Vec<String>) -> Option<End> {
        let asked = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
        let sent = self.connection.client.try_subscribe_many(asked);
        self.asked.push_back(filters);
        sent.err().map(|error| End::Failed(error.to_string()))
    }

    fn take_refusals(&mut self, ack: &SubAck) {
        let asked = self.asked.pop_front().unwrap_or_default();
        let refused =
            asked.iter().zip(&ack.return_codes).filter(|(_, code)| **code == SubscribeReasonCode::Failure);
        let refused: Vec<&str> = refused.map(|(filter, _)| filter.as_str()).collect();
        if !refused.is_empty() {
            tracing::warn!(
                filters = refused.join(" "),
                "broker refused subscriptions; commands on them will not arrive"
            );
        }
        self.refused.extend(refused.into_iter().map(Arc::from));
        self.shared.set_refused_filters(self.refused.iter().cloned().collect());
    }

    /// Subscribes to the commands of cameras that came, and ends the subscriptions of those that went.
    fn change_cameras(&mut self, now: &Arc<PublisherOptions>) -> Option<End> {
        let before = std::mem::replace(&mut self.wanted, Arc::clone(now));
        if self.phase == Phase::Greeting && self.asked.is_empty() {
            // The subscriptions are still to be asked for.
            return None;
        }
        let only_in = |these: &PublisherOptions, others: &PublisherOptions| -> Vec<Arc<str>> {
            these.cameras.iter().filter(|camera| !others.cameras.contains(camera)).cloned().collect()
        };
        for filter in self.command_filters(&only_in(&before, now)) {
            self.refused.remove(filter.as_str());
            if let Err(error) = self.connection.client.try_unsubscribe(filter) {
                return Some(End::Failed(error.to_string()));
            }
        }
        let new = self.command_filters(&only_in(now, &before));
        if new.is_empty() { None } else { self.subscribe(new) }
    }

    fn become_ready(&mut self) {
        if self.phase != Phase::Greeting {
            return;
        }
        self.phase = Phase::Feeding;
        self.shared.counters.connects.fetch_add(1, Ordering::Relaxed);
        self.shared.counters.connected.store(true, Ordering::Relaxed);
        self.shared.outbox().connect();
        tracing::info!(broker = self.wanted.broker(), "connected to the broker");
        let _ = self.news.try_send(LinkNews::Changed);
    }

    /// Says goodbye where something else is wanted.
    fn take_order(&mut self, order: &Wanted) -> Option<End> {
        if let Wanted::Link(now) = order
            && now.same_connection(&self.wanted)
        {
            return self.change_cameras(now);
        }
        if self.phase == Phase::Greeting {
            // Never connected: nobody to say goodbye to.
            return Some(End::Closed);
        }
        if matches!(order, Wanted::Link(_)) {
            return self.leave_at_once();
        }
        self.shared.outbox().close();
        self.phase = Phase::Leaving(Instant::now() + GOODBYE);
        None
    }

    /// Says `offline` and disconnects: what waits goes over the next connection.
    fn leave_at_once(&mut self) -> Option<End> {
        self.phase = Phase::Disconnecting;
        let status = self.names.full(&Topic::of_node(Kind::Status));
        let client = &self.connection.client;
        // The broker reads both in this order.
        let left = client
            .try_publish(status, QoS::AtLeastOnce, true, "offline")
            .and_then(|()| client.try_disconnect());
        self.handed.push_back(None);
        left.err().map(|error| End::Failed(error.to_string()))
    }

    /// Hands messages to the library while it has room, and ends a session that has said everything.
    fn feed(&mut self) -> Option<End> {
        self.deliver_waiting_commands();
        while matches!(self.phase, Phase::Feeding | Phase::Leaving(_)) && self.handed.len() < REQUESTS / 2 {
            let Some(message) = self.shared.outbox().take() else { break };
            let name = match &message.address {
                Address::Topic(topic) => self.names.full(topic),
                Address::Full(full) => full.clone(),
            };
            let qos = if message.token.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            if let Err(error) = self.connection.client.try_publish(name, qos, message.retain, message.payload)
            {
                return Some(End::Failed(error.to_string()));
            }
            self.handed.push_back(message.token);
            self.shared.counters.published.fetch_add(1, Ordering::Relaxed);
        }
        let Phase::Leaving(until) = self.phase else { return None };
        if self.shared.outbox().is_empty() {
            self.phase = Phase::Disconnecting;
            return self.connection.client.try_disconnect().err().map(|error| End::Failed(error.to_string()));
        }
        (Instant::now() >= until).then_some(End::Closed)
    }

    fn deliver_waiting_commands(&mut self) {
        while let Some(command) = self.gate.next_due(Instant::now()) {
            // A full channel means that the daemon is far behind; the next command will be answered.
            if self.news.try_send(LinkNews::Command(command)).is_err() {
                self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes an incoming message: who may speak on this topic is checked before anything is remembered.
    fn receive(&mut self, message: &Publish) {
        self.shared.counters.received.fetch_add(1, Ordering::Relaxed);
        let ours = |topic: &Topic| topic.camera().is_some_and(|camera| self.wanted.cameras.contains(camera));
        let topic = self.names.parse(&message.topic).filter(|topic| topic.answer().is_some() && ours(topic));
        let Some(topic) = topic else {
            self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut self.warned_of_foreign_topic, true) {
                tracing::warn!("the broker sends topics that were not subscribed; they are ignored");
            }
            return;
        };
        let admitted = self.gate.admits(&topic, Instant::now());
        match Command::read(&topic, &message.topic, &message.payload, message.retain) {
            Ok(command) if !admitted => self.gate.wait(&topic, command),
            Ok(command) => {
                if self.news.try_send(LinkNews::Command(command.clone())).is_err() {
                    self.gate.wait(&topic, command);
                }
            }
            Err(error) => self.refuse(topic, &error.to_string(), admitted),
        }
    }

    /// Counts and logs a refused command; the sender's switch snaps back, unless that is what a flood would
    /// ask for.
    fn refuse(&mut self, topic: Topic, reason: &str, answered: bool) {
        self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
        if self.warned.insert(topic.clone()) {
            tracing::warn!(
                topic = self.names.full(&topic),
                reason,
                "command refused; the setting keeps its value"
            );
        }
        if let (true, Some(answer)) = (answered, topic.answer()) {
            self.shared.outbox().repeat_state(answer);
        }
    }
}
