//! What `check` tries: a session as the daemon's, from CONNECT to its end, that leaves nothing behind.
//!
//! Two clients with one id throw each other out, so it is looked first whether a daemon has ours: its `status`
//! on the broker says `online`, or the caller knows. Then everything is tried under another id, without the
//! last will, and only what is true is published: `status` as it stands, not retained.

use super::clients::{CLEAR_PASSWORD, says_password_in_clear};
use super::connection::{Connection, Event, Failure, Next, Target};
use super::wire::{Message, Version, Welcome};
use crate::contract::discovery;
use crate::contract::{Kind, Topic};
use crate::publish::{PublishError, PublisherOptions};
use crate::verb::Verb;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest wait for an acknowledgement.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest wait for a message that is on its way when everything before it was answered.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// Longest wait for a message to come back.
const ECHO: Duration = Duration::from_secs(2);
/// Longest goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsal {
    /// The client id that was used.
    pub client_id: String,
    /// A daemon is connected, or runs here, under the id of these settings, so another one was used.
    pub daemon_runs: bool,
    /// What the broker does not grant, a line each.
    pub refused: Vec<String>,
    /// Filters of commands and requests whose subscription was granted.
    pub commands: usize,
    /// The broker has no word for a message that it does not take, so that of topics other than `status` nobody
    /// knows.
    pub untold: bool,
}

/// Connects, subscribes and publishes as the daemon does. `daemon_runs`: one is known to run under these
/// settings, whatever the broker says.
///
/// # Errors
/// [`PublishError::Refused`] with the broker's, or the network's, word.
pub fn rehearse(options: &PublisherOptions, daemon_runs: bool) -> Result<Rehearsal, PublishError> {
    as_command(options, rehearse_twice(options, daemon_runs))
}

/// Does a command's work at the broker of these options, on this thread.
///
/// # Errors
/// [`PublishError::Refused`] with the broker's, or the network's, word.
pub(super) fn as_command<T>(
    options: &PublisherOptions,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, PublishError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    result.map_err(|failure| PublishError::Refused {
        host: options.host.clone(),
        port: options.port,
        reason: failure.to_string(),
    })
}

async fn rehearse_twice(options: &PublisherOptions, daemon_runs: bool) -> Result<Rehearsal, Failure> {
    let status = options.names().full(&Topic::of_node(Kind::Status));
    let stand_in = format!("{}-check-{}", options.client_id(), std::process::id());
    let mut look = Client::connect(options, stand_in.clone(), false).await?;
    let is_online = look.is_online(&status).await?;
    if daemon_runs || is_online {
        let mut refused = Vec::new();
        let commands = look.try_subscriptions(options, &mut refused).await?;
        if is_online {
            look.try_publishing(&status, "online", &mut refused).await?;
        }
        look.leave().await;
        return Ok(Rehearsal { client_id: stand_in, daemon_runs: true, refused, commands, untold: false });
    }
    look.leave().await;
    let mut client = Client::connect(options, options.client_id(), true).await?;
    let mut refused = Vec::new();
    let commands = client.try_subscriptions(options, &mut refused).await?;
    for topic in options.statuses() {
        client.try_publishing(&topic, "offline", &mut refused).await?;
    }
    if refused.is_empty() {
        client.try_commands(options, &mut refused).await?;
    }
    let untold = !client.try_other_topics(options, &mut refused).await?;
    client.leave().await;
    Ok(Rehearsal { client_id: options.client_id(), daemon_runs: false, refused, commands, untold })
}

impl PublisherOptions {
    /// Full names of the topics that say who is there.
    fn statuses(&self) -> Vec<String> {
        let of_cameras = self.cameras.iter().map(|camera| Topic::of_camera(Kind::CameraStatus, camera));
        let topics = std::iter::once(Topic::of_node(Kind::Status)).chain(of_cameras);
        topics.map(|topic| self.names().full(&topic)).collect()
    }

    /// Full names of a topic of every other kind, of the first camera where it is a camera's.
    fn others(&self) -> Vec<String> {
        let statuses = self.statuses();
        let topics = Topic::of_each_kind_sent(self.cameras.first());
        let device = self.hears_home_assistant.then(|| Topic::device(&discovery::node_id(&self.node)));
        let named = topics.iter().chain(&device).map(|topic| self.names().full(topic));
        named.filter(|topic| !statuses.contains(topic)).collect()
    }
}

/// Names of messages that are remembered: more than any node has topics.
const MAX_HEARD: usize = 20_000;
/// As much of a message is remembered unless more is wanted: `offline`.
const HEARD_BYTES: usize = 7;

/// A client of the broker, and what it was answered.
pub(super) struct Client {
    connection: Connection,
    welcome: Welcome,
    last_id: u16,
    /// By packet id: whether each filter was refused, and the broker's words.
    subscribed: BTreeMap<u16, (Vec<bool>, Option<String>)>,
    /// By packet id: why it was not taken.
    acknowledged: BTreeMap<u16, Option<String>>,
    /// Payloads by topic, the first bytes of the last of each.
    pub heard: BTreeMap<String, Vec<u8>>,
    /// So many bytes of each.
    pub heard_bytes: usize,
    /// Topics of what the broker had kept.
    pub kept: BTreeSet<String>,
    is_closed: bool,
}

impl Client {
    pub async fn connect(options: &PublisherOptions, id: String, with_will: bool) -> Result<Self, Failure> {
        let mut target = Target::new(&options.host, options.port, options.tls.as_ref(), id);
        target.hello.credentials.clone_from(&options.credentials);
        if with_will {
            target.hello.will = Some(options.names().full(&Topic::of_node(Kind::Status)));
        }
        let mut connection = Connection::start(target);
        loop {
            match connection.next(false).await {
                Next::Event(Some(Ok(Event::Welcome(welcome)))) => {
                    return Ok(Self {
                        connection,
                        welcome,
                        last_id: 0,
                        subscribed: BTreeMap::new(),
                        acknowledged: BTreeMap::new(),
                        heard: BTreeMap::new(),
                        heard_bytes: HEARD_BYTES,
                        kept: BTreeSet::new(),
                        is_closed: false,
                    });
                }
                Next::Event(Some(Ok(Event::Reached(peer)))) => {
                    // The first of the two connections says it.
                    let clear =
                        says_password_in_clear(options.credentials.as_ref(), options.tls.as_ref(), peer);
                    if clear && !with_will {
                        tracing::warn!("{CLEAR_PASSWORD}");
                    }
                }
                Next::Event(Some(Err(failure))) => return Err(failure),
                Next::Event(None) => return Err(Failure::Lost("connection ended".into())),
                Next::Event(Some(Ok(_))) | Next::Room => {}
            }
        }
    }

    /// Waits until `done`; whether it came to that within `patience`.
    pub async fn wait(&mut self, patience: Duration, done: impl Fn(&Self) -> bool) -> Result<bool, Failure> {
        let until = Instant::now() + patience;
        while !done(self) {
            let Ok(next) = timeout_at(until, self.connection.next(false)).await else { return Ok(false) };
            match next {
                Next::Event(Some(Ok(Event::Subscribed { id, refused, reason }))) => {
                    self.subscribed.insert(id, (refused, reason));
                }
                Next::Event(Some(Ok(Event::Acknowledged { id, refusal }))) => {
                    self.acknowledged.insert(id, refusal);
                }
                Next::Event(Some(Ok(Event::Message(message)))) => {
                    self.hear(message);
                }
                Next::Event(Some(Ok(Event::Closed))) => self.is_closed = true,
                Next::Event(Some(Err(failure))) => return Err(failure),
                Next::Event(None) => return Err(Failure::Lost("connection ended".into())),
                Next::Event(Some(Ok(_))) | Next::Room => {}
            }
        }
        Ok(true)
    }

    fn hear(&mut self, mut message: Message) {
        if message.retained && !message.payload.is_empty() && self.kept.len() < MAX_HEARD {
            self.kept.insert(message.topic.clone());
        }
        if self.heard.len() < MAX_HEARD {
            message.payload.truncate(self.heard_bytes);
            self.heard.insert(message.topic, message.payload);
        }
    }

    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// Subscribes and waits for the answer: which filters were refused and why; none if there is no answer.
    pub async fn subscribe(
        &mut self,
        filters: &[String],
        kept_too: bool,
    ) -> Result<Option<(Vec<bool>, Option<String>)>, Failure> {
        let id = self.next_id();
        self.connection.subscribe(id, filters.to_vec(), kept_too);
        self.wait(ANSWER, |client| client.subscribed.contains_key(&id)).await?;
        Ok(self.subscribed.remove(&id))
    }

    /// Whether the broker keeps `online` under `status`.
    pub async fn is_online(&mut self, status: &str) -> Result<bool, Failure> {
        self.subscribe(&[status.to_owned()], true).await?;
        // What is kept comes behind the acknowledgement.
        self.wait(ON_ITS_WAY, |client| client.heard.contains_key(status)).await?;
        Ok(self.heard.remove(status).is_some_and(|payload| payload == b"online"))
    }

    /// Subscribes to the commands of all cameras and to requests. Returns how many filters were granted.
    async fn try_subscriptions(
        &mut self,
        options: &PublisherOptions,
        refused: &mut Vec<String>,
    ) -> Result<usize, Failure> {
        let filters = options.filters();
        let Some((codes, reason)) = self.subscribe(&filters, false).await? else {
            let seconds = ANSWER.as_secs();
            refused.push(format!("subscriptions are not acknowledged within {seconds} s"));
            return Ok(0);
        };
        let words = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        // A broker that answers fewer filters than were asked has refused the others.
        let codes = codes.into_iter().chain(std::iter::repeat(true));
        let not_granted: BTreeSet<&String> =
            filters.iter().zip(codes).filter_map(|(filter, refused)| refused.then_some(filter)).collect();
        refused.extend(not_granted.iter().map(|filter| format!("subscription to {filter}{words}")));
        Ok(filters.len() - not_granted.len())
    }

    /// Publishes, not retained, and waits for the acknowledgement. MQTT 3.1.1 cannot say no, so there the
    /// message must come back, if the topic may be read.
    async fn try_publishing(
        &mut self,
        topic: &str,
        payload: &str,
        refused: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let has_echo = self.welcome.version == Version::Three && self.listens_to(topic).await?;
        match self.publish(topic, payload.as_bytes(), false).await? {
            None => refused.push(format!("publishing to {topic} is not acknowledged")),
            Some(Some(reason)) => refused.push(format!("publishing to {topic} ({reason})")),
            Some(None) if has_echo => {
                if !self.wait(ECHO, |client| client.heard.contains_key(topic)).await? {
                    refused.push(format!("publishing to {topic} (accepted, but it does not come back)"));
                }
            }
            Some(None) => {}
        }
        self.heard.remove(topic);
        Ok(())
    }

    /// Publishes and waits for the acknowledgement: why it was not taken, if it was not; none if there is no
    /// answer.
    pub async fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
    ) -> Result<Option<Option<String>>, Failure> {
        let id = self.next_id();
        self.connection.publish(topic.to_owned(), payload.to_vec(), retain, Some(id));
        self.wait(ANSWER, |client| client.acknowledged.contains_key(&id)).await?;
        Ok(self.acknowledged.remove(&id))
    }

    async fn listens_to(&mut self, topic: &str) -> Result<bool, Failure> {
        let answer = self.subscribe(&[topic.to_owned()], false).await?;
        let granted = answer.is_some_and(|(refused, _)| refused == [false]);
        // What the broker kept there is no echo.
        self.wait(ON_ITS_WAY, |client| client.heard.contains_key(topic)).await?;
        self.heard.remove(topic);
        Ok(granted)
    }

    /// Whether the broker would take the messages of other topics: asked without sending any, since nothing that
    /// could be sent there would be true. False if it could not be asked about all of them.
    async fn try_other_topics(
        &mut self,
        options: &PublisherOptions,
        refused: &mut Vec<String>,
    ) -> Result<bool, Failure> {
        let topics = options.others();
        // Each one that is taken counts as under way until we leave.
        let most = if self.welcome.holds { self.welcome.receive_max } else { 0 };
        let all = topics.len() <= most;
        for topic in topics.into_iter().take(most) {
            let id = self.next_id();
            self.connection.propose(topic.clone(), id);
            self.wait(ANSWER, |client| client.acknowledged.contains_key(&id)).await?;
            match self.acknowledged.remove(&id) {
                Some(None) => {}
                Some(Some(reason)) => refused.push(format!("publishing to {topic} ({reason})")),
                None => refused.push(format!("publishing to {topic} is not acknowledged")),
            }
        }
        Ok(all)
    }

    /// Brokers may grant a subscription and deliver nothing, so an empty command and an empty request must
    /// come back where we may write one. No daemon is there to take them.
    async fn try_commands(
        &mut self,
        options: &PublisherOptions,
        refused: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let command = options.command_filters(&options.cameras).into_iter().next();
        let request = Topic::of_verb(Kind::Request, &Arc::from(Verb::Info.spec().name));
        for topic in command.into_iter().chain([options.names().full(&request)]) {
            if self.welcome.version == Version::Three || self.publish(&topic, b"", false).await? != Some(None)
            {
                continue;
            }
            if !self.wait(ECHO, |client| client.heard.contains_key(&topic)).await? {
                refused.push(format!("reading {topic} (subscription granted, but nothing is delivered)"));
            }
        }
        Ok(())
    }

    /// Says goodbye, so that the last will is not published.
    pub async fn leave(mut self) {
        self.connection.disconnect();
        // However it ends, it is over.
        let _ = self.wait(GOODBYE, |client| client.is_closed).await;
    }
}
