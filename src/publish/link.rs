//! The connection to the broker: the only file that names the MQTT library.
//!
//! One thread, one single-threaded runtime. The library's event loop runs in a task of its own and passes events on, so that it is
//! never cancelled half-way; a new connection gets a new client, so nothing the library may have kept is sent twice or lost unseen.
//! Order on every connect: CONNACK, SUBSCRIBE to exact filters, SUBACK, retained topics, `status` = `online`, then what waits.

use super::{Command, MAX_MESSAGE, PublishError, PublisherOptions, Shared, inbound};
use crossbeam_channel::Sender;
use rumqttc::{AsyncClient, ConnectionError, Event, LastWill, MqttOptions, Outgoing, Packet, QoS, SubscribeFilter, SubscribeReasonCode};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Largest packet that is read: a set of 10 MB is read and refused rather than ending the connection.
const MAX_INCOMING: usize = 12 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A session that lived this long resets the back-off.
const STEADY: Duration = Duration::from_secs(30);
/// Sessions shorter than this, three in a row, look like another client with our id.
const SHORT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Pause where another client seems to have our id: each attempt throws the other out.
const TWIN_WAIT: Duration = Duration::from_secs(60);
/// Requests the library may hold; more than the outbox lets be in flight, so `try_publish` fails only on a burst of samples.
const REQUESTS: usize = 64;

struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a connection until the outbox is closed and empty.
pub(super) async fn keep(options: PublisherOptions, shared: Arc<Shared>, commands: Sender<Command>) {
    let mut wait = Duration::from_secs(1);
    let mut short_sessions = 0;
    let mut told: Option<String> = None;
    loop {
        let begun = Instant::now();
        let end = session(&options, &shared, &commands, &mut told).await;
        let was_connected = shared.counters.connected.swap(false, Ordering::Relaxed);
        shared.outbox().disconnect();
        let reason = match end {
            Ok(()) => return,
            Err(reason) => reason,
        };
        let lived = begun.elapsed();
        short_sessions = if was_connected && lived < SHORT { short_sessions + 1 } else { 0 };
        if was_connected && lived >= STEADY {
            wait = Duration::from_secs(1);
        }
        let mut pause = wait.mul_f64(0.8 + 0.4 * jitter());
        if short_sessions >= 3 {
            shared.counters.suspect_duplicate.store(true, Ordering::Relaxed);
            tracing::warn!(client_id = client_id(&options), "client id in use? three sessions in a row ended within 5 s");
            (short_sessions, pause) = (0, TWIN_WAIT);
        } else if lived >= STEADY && was_connected {
            shared.counters.suspect_duplicate.store(false, Ordering::Relaxed);
        }
        // Once per change of state: the same reason is not told again.
        if told.as_ref() != Some(&reason) {
            tracing::warn!(
                broker = format!("{}:{}", options.host, options.port),
                reason,
                next_try_s = pause.as_secs_f32(),
                "broker not reachable"
            );
            told = Some(reason);
        }
        wait = (wait * 2).min(LONGEST_WAIT);
        let until = tokio::time::Instant::now() + pause;
        while tokio::time::Instant::now() < until {
            if shared.closing.load(Ordering::Acquire) {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = shared.wake.notified() => {}
            }
        }
    }
}

/// 0 to 1, from the clock: enough to keep a house full of cameras from reconnecting in step.
fn jitter() -> f64 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    f64::from(nanos % 1000) / 999.0
}

fn client_id(options: &PublisherOptions) -> String {
    format!("retinad-{}", options.node)
}

fn base_options(id: String, host: &str, port: u16, credentials: Option<&(String, String)>) -> MqttOptions {
    let mut mqtt = MqttOptions::new(id, host, port);
    mqtt.set_keep_alive(KEEP_ALIVE).set_clean_session(true).set_max_packet_size(MAX_INCOMING, MAX_MESSAGE + 1024);
    if let Some((user, password)) = credentials {
        mqtt.set_credentials(user, password);
    }
    mqtt
}

/// Starts the event loop in a task; events come through the channel, the last one may be an error.
fn spawn(mqtt: MqttOptions) -> (AsyncClient, mpsc::Receiver<Result<Event, ConnectionError>>, Task) {
    let (client, mut event_loop) = AsyncClient::new(mqtt, REQUESTS);
    let mut network = event_loop.network_options();
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    event_loop.set_network_options(network);
    let (to, events) = mpsc::channel(REQUESTS);
    let task = tokio::spawn(async move {
        loop {
            let event = event_loop.poll().await;
            let failed = event.is_err();
            if to.send(event).await.is_err() || failed {
                return;
            }
        }
    });
    (client, events, Task(task))
}

fn words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => format!("refused: {code:?}"),
        other => other.to_string(),
    }
}

/// One connection. `Ok`: closed as asked. `Err`: why it ended.
async fn session(
    options: &PublisherOptions,
    shared: &Arc<Shared>,
    commands: &Sender<Command>,
    told: &mut Option<String>,
) -> Result<(), String> {
    let prefix = format!("{}/{}", options.base, options.node);
    let mut mqtt = base_options(client_id(options), &options.host, options.port, options.credentials.as_ref());
    mqtt.set_last_will(LastWill::new(format!("{prefix}/status"), "offline", QoS::AtLeastOnce, true));
    let (client, mut events, _task) = spawn(mqtt);
    // Publishes handed to the library in order; it names their packet id when it sends them.
    let mut handed: VecDeque<Option<u64>> = VecDeque::new();
    let mut by_id: HashMap<u16, u64> = HashMap::new();
    let mut gate = Gate::default();
    let mut disconnecting = false;
    let mut feeding = false;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                None => return Err("connection ended".into()),
                Some(Err(_)) if disconnecting => return Ok(()),
                Some(Err(error)) => return Err(words(&error)),
                Some(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                    let filters: Vec<SubscribeFilter> = options.cameras.iter().flat_map(|camera| {
                        ["detect", "threshold"].map(|what| SubscribeFilter::new(format!("{prefix}/{camera}/{what}/set"), QoS::AtLeastOnce))
                    }).collect();
                    if filters.is_empty() {
                        ready(options, shared, told);
                        feeding = true;
                    } else {
                        client.try_subscribe_many(filters).map_err(|e| e.to_string())?;
                    }
                }
                Some(Ok(Event::Incoming(Packet::SubAck(ack)))) => {
                    if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                        tracing::warn!(filter = format!("{prefix}/<camera>/detect|threshold/set"), "broker refused a subscription; sets will not arrive");
                    }
                    ready(options, shared, told);
                    feeding = true;
                }
                Some(Ok(Event::Outgoing(Outgoing::Publish(id)))) => {
                    if let Some(Some(token)) = handed.pop_front() {
                        by_id.insert(id, token);
                    }
                }
                Some(Ok(Event::Incoming(Packet::PubAck(ack)))) => {
                    if let Some(token) = by_id.remove(&ack.pkid) {
                        shared.outbox().acknowledge(token);
                    }
                }
                Some(Ok(Event::Incoming(Packet::Publish(message)))) => {
                    receive(&message.topic, &message.payload, message.retain, &prefix, options, shared, commands, &mut gate);
                }
                Some(Ok(Event::Outgoing(Outgoing::Disconnect))) => return Ok(()),
                Some(Ok(_)) => {}
            },
            () = shared.wake.notified() => {}
        }
        if shared.closing.load(Ordering::Acquire) && !feeding {
            // Never connected: nobody to say goodbye to.
            return Ok(());
        }
        while feeding && !disconnecting && handed.len() < REQUESTS / 2 {
            let Some(message) = shared.outbox().take() else { break };
            let qos = if message.token.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            if let Err(error) = client.try_publish(message.topic, qos, message.retain, message.payload) {
                return Err(error.to_string());
            }
            handed.push_back(message.token);
            shared.counters.published.fetch_add(1, Ordering::Relaxed);
        }
        if feeding && !disconnecting && shared.closing.load(Ordering::Acquire) && shared.outbox().is_empty() {
            disconnecting = true;
            client.try_disconnect().map_err(|e| e.to_string())?;
        }
    }
}

fn ready(options: &PublisherOptions, shared: &Shared, told: &mut Option<String>) {
    shared.counters.connects.fetch_add(1, Ordering::Relaxed);
    shared.counters.connected.store(true, Ordering::Relaxed);
    shared.outbox().connect();
    *told = None;
    tracing::info!(broker = format!("{}:{}", options.host, options.port), "connected to the broker");
}

/// Sets a second and topic that are looked at, and how many at once.
const SETS_PER_SECOND: f64 = 10.0;
const SETS_AT_ONCE: f64 = 20.0;

/// What a session remembers of each incoming topic; there are as many as subscriptions.
#[derive(Default)]
struct Gate {
    warned: HashSet<String>,
    /// Tokens left, and when they were counted.
    buckets: HashMap<String, (f64, Instant)>,
}

impl Gate {
    fn pass(&mut self, topic: &str, now: Instant) -> bool {
        let (tokens, since) = self.buckets.entry(topic.to_owned()).or_insert((SETS_AT_ONCE, now));
        *tokens = (*tokens + now.saturating_duration_since(*since).as_secs_f64() * SETS_PER_SECOND).min(SETS_AT_ONCE);
        *since = now;
        let pass = *tokens >= 1.0;
        if pass {
            *tokens -= 1.0;
        }
        pass
    }
}

#[expect(clippy::too_many_arguments, reason = "one message and the session it came in")]
fn receive(
    topic: &str,
    payload: &[u8],
    retained: bool,
    prefix: &str,
    options: &PublisherOptions,
    shared: &Shared,
    commands: &Sender<Command>,
    gate: &mut Gate,
) {
    shared.counters.received.fetch_add(1, Ordering::Relaxed);
    if !gate.pass(topic, Instant::now()) {
        // Not answered either: an answer each is what a flood would ask for.
        shared.counters.refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let reason = match inbound::read(topic, payload, retained, prefix, &options.cameras) {
        Ok(command) if commands.try_send(command).is_ok() => return,
        Ok(_) => "too many at once".to_owned(),
        Err(reason) => reason,
    };
    shared.counters.refused.fetch_add(1, Ordering::Relaxed);
    if gate.warned.insert(topic.to_owned()) {
        tracing::warn!(topic, reason, "set refused; the setting keeps its value");
    }
    // The sender's switch snaps back.
    if let Some(stem) = topic.strip_suffix("/set") {
        shared.outbox().repeat_state(&format!("{stem}/state"));
    }
}

/// What to listen to, for people.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// Topic filter.
    pub filter: String,
}

/// Listens and hands each message on, until `on_message` returns false. Waits for a broker that is not there yet.
///
/// # Errors
/// [`PublishError::Refused`] if the broker refuses the client or the filter.
pub fn subscribe(options: &SubscribeOptions, mut on_message: impl FnMut(&str, &[u8]) -> bool) -> Result<(), PublishError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let refused = |reason: String| PublishError::Refused { host: options.host.clone(), port: options.port, reason };
    runtime.block_on(async {
        let mut wait = Duration::from_millis(250);
        let mut told = false;
        loop {
            let id = format!("retinad-watch-{}", std::process::id());
            let mqtt = base_options(id, &options.host, options.port, options.credentials.as_ref());
            let (client, mut events, _task) = spawn(mqtt);
            while let Some(event) = events.recv().await {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        (wait, told) = (Duration::from_millis(250), false);
                        client.try_subscribe(&options.filter, QoS::AtMostOnce).map_err(|e| refused(e.to_string()))?;
                    }
                    Ok(Event::Incoming(Packet::SubAck(ack))) if ack.return_codes.contains(&SubscribeReasonCode::Failure) => {
                        return Err(refused(format!("subscription to {} refused", options.filter)));
                    }
                    Ok(Event::Incoming(Packet::Publish(message))) if !on_message(&message.topic, &message.payload) => return Ok(()),
                    Err(ConnectionError::ConnectionRefused(code)) => return Err(refused(format!("{code:?}"))),
                    Err(error) if !told => {
                        tracing::warn!(
                            broker = format!("{}:{}", options.host, options.port),
                            reason = words(&error),
                            "waiting for the broker"
                        );
                        told = true;
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(10));
        }
    })
}

/// Connects once and says why not, where it cannot. Nothing is published.
///
/// # Errors
/// [`PublishError::Refused`] with the broker's, or the network's, word.
pub fn probe(host: &str, port: u16, credentials: Option<&(String, String)>) -> Result<(), PublishError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let refused = |reason: String| PublishError::Refused { host: host.to_owned(), port, reason };
    runtime.block_on(async {
        let mqtt = base_options(format!("retinad-check-{}", std::process::id()), host, port, credentials);
        let (client, mut events, _task) = spawn(mqtt);
        let answer = tokio::time::timeout(CONNECT_TIMEOUT, events.recv()).await;
        match answer.map_err(|_| refused(format!("no answer in {} s", CONNECT_TIMEOUT.as_secs())))? {
            Some(Ok(_)) => {
                let _ = client.try_disconnect();
                Ok(())
            }
            Some(Err(error)) => Err(refused(words(&error))),
            None => Err(refused("connection ended".into())),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_on_one_topic_is_cut_and_others_pass() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let passed = (0..100).filter(|_| gate.pass("a", start)).count();
        assert_eq!(passed, 20);
        assert!(gate.pass("b", start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| gate.pass("a", later)).count(), 10);
    }
}
