//! MQTT out: the outbox and the link to the broker. The pipeline never waits for it.

#[cfg(feature = "embedded-broker")]
pub mod broker;
mod gate;
mod link;
#[cfg(any(test, fuzzing))]
pub use {broker::fuzzing::client_packets, link::fuzzing::broker_packets};
mod outbox;

pub use link::{
    Answer, Cleaned, Heard, Leftovers, Rehearsal, SubscribeOptions, Tls, TlsFiles, clean, rehearse, request,
    subscribe,
};
pub use outbox::{Address, Message, Outbox};

use crate::contract::{Command, EventKey, Incoming, Kind, MqttHealth, Names, TOPICS, Topic, Way};
use crate::secret::Secret;
use crate::thread::{self, EndNotice};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Largest message that is sent, bytes: Mosquitto 2.1 closes the connection of a client that sends more
/// than 2,000,000.
pub const MAX_MESSAGE: usize = 1_900_000;
/// News of the link that may wait for the daemon. Commands arrive at the speed of a person's finger; 64 is
/// a burst.
const NEWS: usize = 64;

/// Why publishing cannot start. One line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The embedded broker.
    #[error(
        "embedded broker on 127.0.0.1:{port}: {reason}; set mqtt.port to a free one, or mqtt.host to your broker"
    )]
    Broker {
        /// Its port.
        port: u16,
        /// Why.
        reason: String,
    },
    /// A thread or the runtime.
    #[error("mqtt thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A file that TLS needs.
    #[error("{key} {path}: {reason}")]
    Tls {
        /// The key of the settings.
        key: &'static str,
        /// The file; empty where the key names none.
        path: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The broker refused (only where nothing is retried).
    #[error("broker {host}:{port}: {reason}")]
    Refused {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// Its word.
        reason: String,
    },
}

/// How to reach the broker, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherOptions {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name and password.
    pub credentials: Option<(String, Secret)>,
    /// First levels of each topic.
    pub base: String,
    /// This machine's name in topics.
    pub node: String,
    /// Ids of the cameras, whose commands are subscribed to.
    pub cameras: Vec<Arc<str>>,
    /// First levels of Home Assistant's topics.
    pub home_assistant: String,
    /// Whether it is listened to what Home Assistant says of itself.
    pub hears_home_assistant: bool,
    /// How TLS is spoken; none: in clear.
    pub tls: Option<Tls>,
    /// How long the broker's answers are waited for.
    pub deadlines: Deadlines,
}

/// How long the broker's answers are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// SUBACK; after it messages are published all the same.
    pub subscribed: Duration,
    /// PUBACK; after it the connection is made anew.
    pub acknowledged: Duration,
    /// Time between two signs of life, whole seconds from 1; after one and a half times that, and 5 s, a
    /// silent broker is left.
    pub keep_alive: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            subscribed: Duration::from_secs(10),
            acknowledged: Duration::from_secs(60),
            keep_alive: Duration::from_secs(30),
        }
    }
}

impl PublisherOptions {
    /// How topics are spelled there.
    #[must_use]
    pub fn names(&self) -> Names {
        Names::new(&self.base, &self.node).with_home_assistant(&self.home_assistant)
    }

    /// Whether the same connection serves both; which cameras' commands are subscribed to can change on it.
    fn same_connection(&self, other: &Self) -> bool {
        Self { cameras: self.cameras.clone(), ..other.clone() } == *self
    }

    /// Filters of the commands of these cameras, one for each topic.
    fn command_filters(&self, cameras: &[Arc<str>]) -> Vec<String> {
        let commands = TOPICS
            .iter()
            .filter(|spec| spec.built && matches!(spec.way, Way::In(_)) && spec.pattern.starts_with("<cam>"));
        let topics = cameras
            .iter()
            .flat_map(|camera| commands.clone().map(|spec| Topic::of_camera(spec.kind, camera)));
        topics.map(|topic| self.names().full(&topic)).collect()
    }

    /// Filters of all that is subscribed to on a connect: the cameras' commands first, then requests, then what
    /// Home Assistant says of itself.
    fn filters(&self) -> Vec<String> {
        let mut filters = self.command_filters(&self.cameras);
        filters.extend(self.names().request_filters());
        filters.extend(self.hears_home_assistant.then(|| self.names().filter(Kind::HomeAssistantStatus)));
        filters
    }

    fn client_id(&self) -> String {
        format!("retinad-{}", self.node)
    }

    fn broker(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What the link is asked to do.
#[derive(Debug, Clone)]
enum Wanted {
    /// Keep this connection.
    Link(Arc<PublisherOptions>),
    /// Say `offline` and end.
    Nothing,
}

/// What the link reports.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkNews {
    /// A command arrived.
    Command(Command),
    /// A request arrived, well formed or not.
    Request(Box<Incoming>),
    /// Home Assistant is there, or gone.
    HomeAssistant {
        /// Whether it is there.
        online: bool,
    },
    /// The connection came or went, or events were settled: see [`Publisher::status`] and
    /// [`Publisher::take_settled`].
    Changed,
}

/// What the link counts.
#[derive(Debug, Default)]
struct Counters {
    connected: AtomicBool,
    suspect_duplicate: AtomicBool,
    connects: AtomicU64,
    published: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
    oversize: AtomicU64,
}

/// How the link is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether a connection stands.
    pub connected: bool,
    /// What was counted.
    pub counted: MqttHealth,
    /// Subscriptions that the broker refused.
    pub refused_filters: Vec<Arc<str>>,
}

/// What the link's thread and the daemon share.
pub(crate) struct Shared {
    outbox: Mutex<Outbox>,
    refused_filters: Mutex<Vec<Arc<str>>>,
    counters: Counters,
    wake: tokio::sync::Notify,
    /// Counts the turns of the link's loop: its sign of life.
    turns: AtomicU64,
}

impl Shared {
    // Bounded work under the lock and no I/O: the pipeline waits at most for a map insertion.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_refused_filters(&self, refused: Vec<Arc<str>>) {
        *self.refused_filters.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }
}

/// The link to the broker, on a thread of its own. No method but [`Publisher::shutdown`] waits for anything.
pub struct Publisher {
    shared: Arc<Shared>,
    /// Closed, by dropping the publisher, it ends the thread.
    orders: watch::Sender<Wanted>,
    news: Receiver<LinkNews>,
    /// Closes when the thread ends.
    ended: Receiver<()>,
}

impl Publisher {
    /// Starts the link. It keeps trying for as long as it lives; the broker need not be there. Its end is
    /// told to `ends`.
    ///
    /// # Errors
    /// [`PublishError::Thread`].
    pub fn start(options: PublisherOptions, ends: &Sender<EndNotice>) -> Result<Self, PublishError> {
        let shared = Arc::new(Shared {
            outbox: Mutex::new(Outbox::new(Topic::of_node(Kind::Status))),
            refused_filters: Mutex::default(),
            counters: Counters::default(),
            wake: tokio::sync::Notify::new(),
            turns: AtomicU64::new(0),
        });
        let (news_in, news) = bounded(NEWS);
        let (ended_in, ended) = bounded::<()>(0);
        let (orders, wanted) = watch::channel(Wanted::Link(Arc::new(options)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let theirs = Arc::clone(&shared);
        thread::spawn("mqtt", ends, move || {
            runtime.block_on(link::keep(theirs, news_in, wanted));
            drop(ended_in);
        })?;
        Ok(Self { shared, orders, news, ended })
    }

    /// Connects elsewhere, or under other names, or for other cameras; what waits is sent there.
    pub fn reconnect(&self, options: PublisherOptions) {
        let known = match &*self.orders.borrow() {
            Wanted::Link(known) => Arc::clone(known),
            Wanted::Nothing => return,
        };
        if *known == options {
            return;
        }
        if !known.same_connection(&options) {
            // What is published from now on is spelled by the new names, so the old connection gets none of
            // it.
            self.shared.outbox().hold();
        }
        self.orders.send_replace(Wanted::Link(Arc::new(options)));
    }

    /// Queues a message in the class of its topic. Too large ones are counted and not sent.
    pub fn publish(&self, topic: Topic, payload: Vec<u8>) {
        let limit = topic.spec().max_bytes.min(MAX_MESSAGE);
        if payload.len() > limit {
            if self.shared.counters.oversize.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(%topic, bytes = payload.len(), limit, "message too large, not sent");
            }
            return;
        }
        self.shared.outbox().publish(topic, payload);
        self.shared.wake.notify_one();
    }

    /// Queues an event of which [`Publisher::take_settled`] says when the broker has it, or that it was given up.
    /// The picture is sent before it, if a connection stands.
    pub fn publish_event(
        &self,
        topic: Topic,
        payload: Vec<u8>,
        key: EventKey,
        picture: Option<(Topic, Vec<u8>)>,
    ) {
        self.shared.outbox().push_event(topic, payload, Some(key), picture);
        self.shared.wake.notify_one();
    }

    /// Events that the broker acknowledged, or that were dropped, since the last call.
    #[must_use]
    pub fn take_settled(&self) -> Vec<EventKey> {
        self.shared.outbox().take_settled()
    }

    /// Sends a retained topic again though it did not change.
    pub fn repeat(&self, topic: Topic) {
        self.shared.outbox().repeat_state(topic);
        self.shared.wake.notify_one();
    }

    /// A retained topic is not published any more.
    pub fn forget(&self, topic: &Topic) {
        self.shared.outbox().forget(topic);
    }

    /// Clears what stands on the broker under this full name.
    pub fn clear(&self, full: String) {
        self.shared.outbox().clear(full);
        self.shared.wake.notify_one();
    }

    /// Full names that were to be cleared and are not yet, as far as the broker has acknowledged.
    #[must_use]
    pub fn not_cleared(&self) -> BTreeSet<String> {
        self.shared.outbox().not_cleared().clone()
    }

    /// What the link reports.
    #[must_use]
    pub fn news(&self) -> &Receiver<LinkNews> {
        &self.news
    }

    /// Turns of the link's loop so far; it turns at least once a second, connected or not.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.shared.turns.load(Ordering::Relaxed)
    }

    /// How the link is now.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        let counters = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let refused_filters =
            self.shared.refused_filters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let outbox = self.shared.outbox();
        let counted = MqttHealth {
            connects: get(&counters.connects),
            outbox: outbox.waiting(),
            published: get(&counters.published),
            received: get(&counters.received),
            refused: get(&counters.refused),
            oversize: get(&counters.oversize),
            dropped: outbox.dropped(),
            suspect_duplicate: counters.suspect_duplicate.load(Ordering::Relaxed),
        };
        LinkStatus { connected: counters.connected.load(Ordering::Relaxed), counted, refused_filters }
    }

    /// Sends what waits, then `offline`, waits for the acknowledgements and disconnects. Returns how many
    /// messages were left when `budget` ran out.
    pub fn shutdown(self, budget: Duration) -> usize {
        self.orders.send_replace(Wanted::Nothing);
        let _ = self.ended.recv_timeout(budget);
        self.shared.outbox().waiting()
    }
}
