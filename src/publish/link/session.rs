//! One session with the broker, from CONNECT to its end.
//!
//! Order on every connect: CONNACK, SUBSCRIBE to exact filters, SUBACK (or its deadline), retained topics,
//! `status` = `online`, then what waits.

use super::clients::{CLEAR_PASSWORD, says_password_in_clear};
use super::connection::{Connection, Event, Failure, Next, REQUESTS, Target};
use super::culprit::Mark;
use super::wire::{Message, Oversize, Welcome};
use super::{Known, STEADY};
use crate::contract::{Command, CommandError, Incoming, Kind, Names, Topic};
use crate::publish::gate::Gate;
use crate::publish::outbox::Address;
use crate::publish::{LinkNews, PublisherOptions, Shared, Wanted};
use crate::verb::Verb;
use crossbeam_channel::Sender;
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The loop turns at least so often, which is how the watchdog sees that it is alive.
pub(super) const TURN: Duration = Duration::from_secs(1);
/// Why a request has no answer.
const TOO_MANY: &str = "more than 10 a second on one topic";
/// Longest goodbye at the end of the daemon.
const GOODBYE: Duration = Duration::from_secs(1);
/// Bytes of a PUBLISH beside topic and payload, at most: header, length, two lengths, packet id, properties.
const MOST_BYTES_AROUND: usize = 16;

/// Why a session ended.
pub(super) enum End {
    /// Everything was sent, as asked.
    Closed,
    /// Another broker, or other names, are wanted.
    Replaced,
    /// It broke, or never came about.
    Failed(Failure),
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

/// A SUBSCRIBE that is not acknowledged yet.
struct Asked {
    id: u16,
    filters: Vec<String>,
    since: Instant,
    /// Its deadline has passed; the answer may still come.
    overdue: bool,
}

/// A message of QoS 1 that is not acknowledged yet.
struct Sent {
    id: u16,
    /// None for one that the outbox does not know.
    token: Option<u64>,
    mark: Mark,
    since: Instant,
}

/// One connection and what it remembers.
pub(super) struct Session<'a> {
    /// As asked for last.
    wanted: Arc<PublisherOptions>,
    names: Names,
    shared: &'a Shared,
    news: &'a Sender<LinkNews>,
    known: &'a mut Known,
    connection: Connection,
    phase: Phase,
    /// What the broker grants, once it took us.
    welcome: Option<Welcome>,
    /// When the connection stood, until that was logged; short sessions are told only now and then.
    untold_since: Option<Instant>,
    asked: Vec<Asked>,
    /// Filters that the broker refused, or did not acknowledge in time.
    refused: BTreeSet<Arc<str>>,
    /// In the order in which they were sent.
    sent: VecDeque<Sent>,
    last_id: u16,
    /// The outbox has more than the connection takes now.
    is_full: bool,
    gate: Gate,
}

/// Runs a session until it ends. `Ok`: as asked.
pub(super) async fn run(
    wanted: &Arc<PublisherOptions>,
    shared: &Arc<Shared>,
    news: &Sender<LinkNews>,
    orders: &mut watch::Receiver<Wanted>,
    known: &mut Known,
) -> End {
    let mut session = Session::start(Arc::clone(wanted), shared, news, known);
    loop {
        shared.turns.fetch_add(1, Ordering::Relaxed);
        let pause = session.next_wait();
        let is_full = session.is_full;
        let end = tokio::select! {
            next = session.connection.next(is_full) => match next {
                Next::Event(event) => session.take_event(event),
                Next::Room => None,
            },
            changed = orders.changed() => match changed {
                Ok(()) => session.take_order(&orders.borrow_and_update().clone()),
                // The daemon has dropped its side without a goodbye.
                Err(_) => Some(End::Closed),
            },
            () = shared.wake.notified() => None,
            () = tokio::time::sleep(pause) => None,
        };
        let end = end.or_else(|| session.look_at_deadlines()).or_else(|| session.feed());
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
    fn start(
        wanted: Arc<PublisherOptions>,
        shared: &'a Shared,
        news: &'a Sender<LinkNews>,
        known: &'a mut Known,
    ) -> Self {
        let names = wanted.names();
        let mut target = Target::new(&wanted.host, wanted.port, wanted.tls.as_ref(), wanted.client_id());
        (target.version, target.avoid) = (known.version, known.avoid);
        target.hello.credentials.clone_from(&wanted.credentials);
        target.hello.set_keep_alive(wanted.deadlines.keep_alive);
        target.hello.will = Some(names.full(&Topic::of_node(Kind::Status)));
        Self {
            wanted,
            names,
            shared,
            news,
            known,
            connection: Connection::start(target),
            phase: Phase::Greeting,
            welcome: None,
            untold_since: None,
            asked: Vec::new(),
            refused: BTreeSet::new(),
            sent: VecDeque::new(),
            last_id: 0,
            is_full: false,
            gate: Gate::default(),
        }
    }

    fn next_wait(&self) -> Duration {
        let due = self.gate.next_deadline().map(|due| due.saturating_duration_since(Instant::now()));
        due.unwrap_or(TURN).min(TURN)
    }

    fn take_event(&mut self, event: Option<Result<Event, Failure>>) -> Option<End> {
        let event = match event {
            None => return Some(failed("connection ended")),
            Some(Err(_)) if self.phase == Phase::Disconnecting => return Some(End::Closed),
            Some(Err(failure)) => {
                self.known.not_acknowledged = self.sent.pop_front().map(|sent| sent.mark);
                return Some(End::Failed(failure));
            }
            Some(Ok(event)) => event,
        };
        match event {
            Event::Reached(peer) => {
                self.known.reached = Some(peer);
                self.warn_of_clear_password(peer);
            }
            Event::Welcome(welcome) => return self.greet(welcome),
            Event::Subscribed { id, refused, reason } => {
                self.take_subscribed(id, &refused, reason.as_deref());
            }
            Event::Acknowledged { id, refusal } => self.take_acknowledged(id, refusal.as_deref()),
            Event::Message(message) => self.receive(&message),
            Event::Oversize(message) => self.receive_oversize(&message),
            Event::Closed => return Some(End::Closed),
        }
        None
    }

    /// A password that goes over a network in clear is said once, before it is sent the first time.
    fn warn_of_clear_password(&mut self, peer: SocketAddr) {
        let (credentials, tls) = (self.wanted.credentials.as_ref(), self.wanted.tls.as_ref());
        if says_password_in_clear(credentials, tls, peer)
            && !std::mem::replace(&mut self.known.notices.clear_password, true)
        {
            tracing::warn!(broker = self.wanted.broker(), "{CLEAR_PASSWORD}");
        }
    }

    fn greet(&mut self, welcome: Welcome) -> Option<End> {
        self.known.version = Some(welcome.version);
        self.welcome = Some(welcome);
        self.subscribe(self.wanted.filters())
    }

    /// Goes on without a broker's answer, or without the broker.
    fn look_at_deadlines(&mut self) -> Option<End> {
        let now = Instant::now();
        let deadlines = self.wanted.deadlines;
        let late = |asked: &Asked| !asked.overdue && now - asked.since >= deadlines.subscribed;
        if self.asked.iter().any(late) {
            for asked in self.asked.iter_mut().filter(|asked| late(asked)) {
                asked.overdue = true;
                self.refused.extend(asked.filters.iter().map(|filter| Arc::from(filter.as_str())));
            }
            self.known.notices.no_subscription(deadlines.subscribed);
            self.publish_refused();
            self.become_ready();
        }
        if self.untold_since.is_some_and(|since| now - since >= STEADY) {
            self.untold_since = None;
            tracing::info!(broker = self.wanted.broker(), "connected to the broker");
        }
        let oldest = self.sent.front().map(|sent| now - sent.since);
        oldest.is_some_and(|waited| waited >= deadlines.acknowledged).then(|| {
            let seconds = deadlines.acknowledged.as_secs_f32();
            failed(&format!("the broker acknowledged a message not within {seconds} s"))
        })
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            if !self.sent.iter().any(|sent| sent.id == id) && !self.asked.iter().any(|asked| asked.id == id) {
                return id;
            }
        }
    }

    fn subscribe(&mut self, filters: Vec<String>) -> Option<End> {
        let id = self.next_id();
        let taken = self.connection.subscribe(id, filters.clone(), false);
        self.asked.push(Asked { id, filters, since: Instant::now(), overdue: false });
        (!taken).then(far_behind)
    }

    fn take_subscribed(&mut self, id: u16, refused: &[bool], reason: Option<&str>) {
        let Some(index) = self.asked.iter().position(|asked| asked.id == id) else { return };
        let Asked { filters, .. } = self.asked.remove(index);
        for filter in &filters {
            self.refused.remove(filter.as_str());
        }
        // A broker that answers fewer filters than were asked has refused the others.
        let codes = refused.iter().copied().chain(std::iter::repeat(true));
        let refused: Vec<String> = filters
            .into_iter()
            .zip(codes)
            .filter_map(|(filter, refused)| refused.then_some(filter))
            .collect();
        if !refused.is_empty() {
            self.known.notices.refused_filters(&refused, reason);
        }
        self.refused.extend(refused.into_iter().map(Arc::from));
        self.publish_refused();
        self.become_ready();
    }

    fn publish_refused(&self) {
        self.shared.set_refused_filters(self.refused.iter().cloned().collect());
    }

    fn take_acknowledged(&mut self, id: u16, refusal: Option<&str>) {
        let Some(index) = self.sent.iter().position(|sent| sent.id == id) else { return };
        let Some(sent) = self.sent.remove(index) else { return };
        if let Some(reason) = refusal {
            self.known.notices.not_taken(&sent.mark.topic, reason);
        } else if sent.mark.topic == self.names.full(&Topic::of_node(Kind::Info)) {
            self.known.info_stands = true;
        }
        // What the broker will not have is not offered again.
        self.acknowledge(sent.token);
    }

    /// Subscribes to the commands of cameras that came, and ends the subscriptions of those that went.
    fn change_cameras(&mut self, now: &Arc<PublisherOptions>) -> Option<End> {
        let before = std::mem::replace(&mut self.wanted, Arc::clone(now));
        // Without a welcome the subscriptions are still to be asked for.
        self.welcome?;
        let only_in = |these: &PublisherOptions, others: &PublisherOptions| -> Vec<Arc<str>> {
            these.cameras.iter().filter(|camera| !others.cameras.contains(camera)).cloned().collect()
        };
        for filter in now.command_filters(&only_in(&before, now)) {
            self.refused.remove(filter.as_str());
            let id = self.next_id();
            if !self.connection.unsubscribe(id, filter) {
                return Some(far_behind());
            }
        }
        self.publish_refused();
        let new = now.command_filters(&only_in(now, &before));
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
        let now = Instant::now();
        match self.known.notices.connections.admits(now) {
            Some(_) => tracing::info!(broker = self.wanted.broker(), "connected to the broker"),
            None => self.untold_since = Some(now),
        }
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
        let (id, retain) = (self.next_id(), self.welcome.is_none_or(|welcome| welcome.retains));
        // The broker reads both in this order.
        let taken = self.connection.publish(status, b"offline".to_vec(), retain, Some(id))
            && self.connection.disconnect();
        (!taken).then(far_behind)
    }

    /// Hands messages to the connection while it has room, and ends a session that has said everything.
    fn feed(&mut self) -> Option<End> {
        self.deliver_waiting_commands();
        self.is_full = false;
        while let (Phase::Feeding | Phase::Leaving(_), Some(welcome)) = (self.phase, self.welcome) {
            if self.sent.len() >= welcome.receive_max {
                break;
            }
            if self.connection.room() < REQUESTS / 2 {
                self.is_full = true;
                break;
            }
            let Some(message) = self.shared.outbox().take() else { break };
            let name = match &message.address {
                Address::Topic(topic) => self.names.full(topic),
                Address::Full(full) => full.clone(),
            };
            if let Some(end) = self.send(welcome, name, message.payload, message.retain, message.token) {
                return Some(end);
            }
        }
        let Phase::Leaving(until) = self.phase else { return None };
        if self.shared.outbox().is_empty() {
            self.phase = Phase::Disconnecting;
            return (!self.connection.disconnect()).then(far_behind);
        }
        (Instant::now() >= until).then_some(End::Closed)
    }

    /// Sends a message within what the broker grants. With a `token` it is to be acknowledged.
    fn send(
        &mut self,
        welcome: Welcome,
        topic: String,
        payload: Vec<u8>,
        retain: bool,
        token: Option<u64>,
    ) -> Option<End> {
        let bytes = topic.len() + payload.len() + MOST_BYTES_AROUND;
        if bytes > welcome.max_packet {
            self.shared.counters.oversize.fetch_add(1, Ordering::Relaxed);
            self.known.notices.too_large_for_broker(&topic, bytes, welcome.max_packet);
            self.acknowledge(token);
            return None;
        }
        let mark = Mark::new(&topic, &payload, retain);
        if self.known.culprits.leave_out(&mark) {
            self.acknowledge(token);
            return None;
        }
        if retain && !welcome.retains {
            self.known.notices.no_retain();
        }
        let id = (token.is_some() && welcome.acknowledges).then(|| self.next_id());
        if !self.connection.publish(topic, payload, retain && welcome.retains, id) {
            return Some(far_behind());
        }
        match id {
            Some(id) => self.sent.push_back(Sent { id, token, mark, since: Instant::now() }),
            // Nobody will ever acknowledge it.
            None => self.acknowledge(token),
        }
        self.shared.counters.published.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// A message is done with, whether it was sent or not.
    fn acknowledge(&self, token: Option<u64>) {
        if let Some(token) = token {
            let is_waited_for = self.shared.outbox().acknowledge(token);
            if is_waited_for {
                // Where there is no room for it, the daemon looks once a second anyway.
                let _ = self.news.try_send(LinkNews::Changed);
            }
        }
    }

    fn deliver_waiting_commands(&mut self) {
        while let Some(command) = self.gate.next_due(Instant::now()) {
            // A full channel means that the daemon is far behind; the next command will be answered.
            if self.news.try_send(LinkNews::Command(command)).is_err() {
                self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The topic of a message that may be ours to obey: checked before anything of it is remembered.
    fn commanded(&mut self, full: &str) -> Option<Topic> {
        self.shared.counters.received.fetch_add(1, Ordering::Relaxed);
        let ours = |topic: &Topic| {
            topic.kind() == Kind::Request
                || topic.camera().is_some_and(|camera| self.wanted.cameras.contains(camera))
        };
        let topic = self.names.parse(full).filter(|topic| topic.answer().is_some() && ours(topic));
        if topic.is_none() {
            self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
            self.known.notices.foreign_topic();
        }
        topic
    }

    fn receive(&mut self, message: &Message) {
        if self.is_home_assistants(&message.topic) {
            return self.receive_birth(message);
        }
        let Some(topic) = self.commanded(&message.topic) else { return };
        if let Some(verb) = topic.verb() {
            let read = || Incoming::read(verb, &message.payload);
            return self.receive_request(&topic, &message.topic, message.retained, read);
        }
        let admitted = self.gate.admits(&topic, Instant::now());
        match Command::read(&topic, &message.topic, &message.payload, message.retained) {
            Ok(command) if !admitted => self.gate.wait(&topic, command),
            Ok(command) => {
                if self.news.try_send(LinkNews::Command(command.clone())).is_err() {
                    self.gate.wait(&topic, command);
                }
            }
            Err(error) => self.refuse(topic, &error, admitted),
        }
    }

    fn is_home_assistants(&self, full: &str) -> bool {
        let listens = self.wanted.hears_home_assistant;
        listens && self.names.parse(full).is_some_and(|topic| topic.kind() == Kind::HomeAssistantStatus)
    }

    /// Home Assistant says that it is there, or the broker that it is gone. What the broker had kept is no news.
    fn receive_birth(&mut self, message: &Message) {
        self.shared.counters.received.fetch_add(1, Ordering::Relaxed);
        if message.retained {
            return;
        }
        let online = match message.payload.as_slice() {
            b"online" => Some(true),
            b"offline" => Some(false),
            _ => None,
        };
        let topic = Topic::of_node(Kind::HomeAssistantStatus);
        let news = online.filter(|_| self.gate.admits(&topic, Instant::now()));
        let is_passed_on =
            news.is_some_and(|online| self.news.try_send(LinkNews::HomeAssistant { online }).is_ok());
        if !is_passed_on {
            self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn receive_oversize(&mut self, message: &Oversize) {
        let Some(topic) = self.commanded(&message.topic) else { return };
        if let Some(verb) = topic.verb() {
            let read = || Incoming::too_large(verb, message.bytes);
            return self.receive_request(&topic, &message.topic, message.retained, read);
        }
        let admitted = self.gate.admits(&topic, Instant::now());
        let error = if message.retained {
            CommandError::Retained { topic: message.topic.clone() }
        } else {
            CommandError::TooLarge { bytes: message.bytes, limit: topic.spec().max_bytes }
        };
        self.refuse(topic, &error, admitted);
    }

    /// Passes a request on. One that was kept by the broker is nobody's wish of now, and of more than a
    /// person asks for the rest is lost: neither has an answer.
    fn receive_request(
        &mut self,
        topic: &Topic,
        full: &str,
        retained: bool,
        read: impl FnOnce() -> Incoming,
    ) {
        let counted = bounded(topic);
        let reason = if retained {
            CommandError::Retained { topic: full.to_owned() }.to_string()
        } else if !self.gate.admits(&counted, Instant::now()) {
            TOO_MANY.to_owned()
        } else if self.news.try_send(LinkNews::Request(Box::new(read()))).is_err() {
            "the daemon is far behind".to_owned()
        } else {
            return;
        };
        self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
        self.known.notices.refused_request(&counted, full, &reason);
    }

    /// Counts and logs a refused command; the sender's switch snaps back, unless that is what a flood would
    /// ask for.
    fn refuse(&mut self, topic: Topic, error: &CommandError, answered: bool) {
        self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
        let full = self.names.full(&topic);
        self.known.notices.refused_command(&topic, &full, &error.to_string());
        if let (true, Some(answer)) = (answered, topic.answer()) {
            self.shared.outbox().repeat_state(answer);
        }
    }
}

/// The topic under which a request is remembered: its own where the verb is known, else one for all others,
/// because anybody can make verbs up.
fn bounded(topic: &Topic) -> Topic {
    let is_known = topic.verb().is_some_and(|verb| Verb::named(verb).is_some());
    if is_known { topic.clone() } else { Topic::of_verb(Kind::Request, &Arc::from("unknown")) }
}

fn failed(reason: &str) -> End {
    End::Failed(Failure::Lost(reason.to_owned()))
}

/// The connection takes no order: it has ended, or its end is about to be told.
fn far_behind() -> End {
    failed("the broker takes messages too slowly")
}
