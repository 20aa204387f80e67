//! MQTT out: topics and payloads of the contract, the outbox, and the link to the broker. The pipeline never waits for it.

#[cfg(feature = "embedded-broker")]
pub mod broker;
mod counts;
mod inbound;
mod link;
mod outbox;
pub mod payload;
pub mod topics;

pub use counts::Counts;
pub use inbound::{Change, Command};
pub use link::{SubscribeOptions, probe, subscribe};
pub use outbox::{Dropped, Outbox};

use crossbeam_channel::{Receiver, bounded};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Largest message that is sent, bytes: Mosquitto 2.1 closes the connection of a client that sends more than 2,000,000.
pub const MAX_MESSAGE: usize = 1_900_000;

/// Why publishing cannot start. One line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The embedded broker.
    #[error("embedded broker on 127.0.0.1:{port}: {reason}; set mqtt.port to a free one, or mqtt.host to your broker")]
    Broker {
        /// Its port.
        port: u16,
        /// Why.
        reason: String,
    },
    /// A thread or the runtime.
    #[error("mqtt thread: {0}")]
    Thread(#[from] std::io::Error),
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
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// First levels of each topic.
    pub base: String,
    /// This machine's name in topics.
    pub node: String,
    /// Camera ids, in the settings' order.
    pub cameras: Vec<String>,
}

/// What the link counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connected: AtomicBool,
    suspect_duplicate: AtomicBool,
    connects: AtomicU64,
    published: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
    oversize: AtomicU64,
}

/// A copy of the counters, as `bridge/health` shows them.
#[derive(Debug, Clone, Serialize)]
pub struct LinkStats {
    /// Whether a connection stands.
    #[serde(skip)]
    pub connected: bool,
    /// Connections made.
    pub connects: u64,
    /// Messages that wait for the broker.
    pub outbox: usize,
    /// Messages handed to the broker.
    pub published: u64,
    /// Messages received.
    pub received: u64,
    /// `set` messages refused.
    pub refused: u64,
    /// Messages that were too large to send.
    pub oversize: u64,
    /// Messages dropped, by class.
    pub dropped: Dropped,
    /// Whether another client seems to use our client id.
    pub suspect_duplicate: bool,
}

pub(crate) struct Shared {
    outbox: Mutex<Outbox>,
    counters: Counters,
    wake: tokio::sync::Notify,
    closing: AtomicBool,
}

impl Shared {
    // Bounded work under the lock and no I/O: the pipeline waits at most for a map insertion.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pipeline's side of the outbox. No method waits for the broker.
#[derive(Clone)]
pub struct OutboxHandle {
    shared: Arc<Shared>,
    prefix: Arc<str>,
}

impl OutboxHandle {
    /// Sets a retained topic, relative to `<base>/<node>/`.
    pub fn state(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.put(topic, payload.into(), |outbox, topic, payload| outbox.set_state(topic, payload));
    }

    /// Sends a retained topic again though it did not change.
    pub fn repeat(&self, topic: &str) {
        self.shared.outbox().repeat_state(&format!("{}/{topic}", self.prefix));
        self.shared.wake.notify_one();
    }

    /// Queues an event (QoS 1, kept over a broker restart).
    pub fn event(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.put(topic, payload.into(), |outbox, topic, payload| outbox.push_event(topic, payload));
    }

    /// Queues a per-frame sample (QoS 0).
    pub fn sample(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.put(topic, payload.into(), |outbox, topic, payload| outbox.push_sample(&topic, payload));
    }

    /// Sets `bridge/health`.
    pub fn health(&self, payload: impl Into<Vec<u8>>) {
        self.put("bridge/health", payload.into(), |outbox, topic, payload| outbox.set_health(topic, payload));
    }

    fn put(&self, topic: &str, payload: Vec<u8>, into: impl FnOnce(&mut Outbox, String, Vec<u8>)) {
        let topic = format!("{}/{topic}", self.prefix);
        if topic.len() + payload.len() > MAX_MESSAGE {
            if self.shared.counters.oversize.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(topic, bytes = payload.len(), limit = MAX_MESSAGE, "message too large, not sent");
            }
            return;
        }
        into(&mut self.shared.outbox(), topic, payload);
        self.shared.wake.notify_one();
    }
}

/// The link to the broker, on a thread of its own.
pub struct Publisher {
    shared: Arc<Shared>,
    prefix: Arc<str>,
    commands: Receiver<Command>,
    ended: Receiver<()>,
}

impl Publisher {
    /// Starts the link. It keeps trying for as long as it lives; the broker need not be there.
    ///
    /// # Errors
    /// [`PublishError::Thread`].
    pub fn start(options: PublisherOptions) -> Result<Self, PublishError> {
        let prefix: Arc<str> = format!("{}/{}", options.base, options.node).into();
        let shared = Arc::new(Shared {
            outbox: Mutex::new(Outbox::new(format!("{prefix}/status"))),
            counters: Counters::default(),
            wake: tokio::sync::Notify::new(),
            closing: AtomicBool::new(false),
        });
        // Sets arrive at the speed of a person's finger; 64 is a burst, the rest is refused and counted.
        let (commands_in, commands) = bounded(64);
        let (end, ended) = bounded::<()>(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let theirs = Arc::clone(&shared);
        let body = move || {
            runtime.block_on(link::keep(options, theirs, commands_in));
            drop(end);
        };
        std::thread::Builder::new().name("mqtt".into()).spawn(body)?;
        Ok(Self { shared, prefix, commands, ended })
    }

    /// The pipeline's side.
    #[must_use]
    pub fn outbox(&self) -> OutboxHandle {
        OutboxHandle { shared: Arc::clone(&self.shared), prefix: Arc::clone(&self.prefix) }
    }

    /// Accepted `set` messages.
    #[must_use]
    pub fn commands(&self) -> &Receiver<Command> {
        &self.commands
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        let c = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let outbox = self.shared.outbox();
        LinkStats {
            connected: c.connected.load(Ordering::Relaxed),
            connects: get(&c.connects),
            outbox: outbox.waiting(),
            published: get(&c.published),
            received: get(&c.received),
            refused: get(&c.refused),
            oversize: get(&c.oversize),
            dropped: outbox.dropped(),
            suspect_duplicate: c.suspect_duplicate.load(Ordering::Relaxed),
        }
    }

    /// Sends what waits, then `offline`, waits for the acknowledgements and disconnects. Returns how many messages were left
    /// when `budget` ran out.
    pub fn shutdown(self, budget: Duration) -> usize {
        self.shared.outbox().close();
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        let _ = self.ended.recv_timeout(budget);
        self.shared.outbox().waiting()
    }
}
