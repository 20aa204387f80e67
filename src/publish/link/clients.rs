//! Clients beside the daemon's own link: `watch` listens; `check` has its own (`rehearsal`).

use super::connection::{Connection, Event, Failure, Next, Target};
use super::tls::Tls;
use crate::backoff::Backoff;
use crate::publish::{Deadlines, PublishError};
use crate::secret::Secret;
use std::net::SocketAddr;
use std::time::Duration;

/// Waits of a listener between two attempts.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The packet id of a listener's one subscription.
const SUBSCRIPTION: u16 = 1;

/// What is said once, of the daemon's link and of a listener.
pub(super) const CLEAR_PASSWORD: &str =
    "the password crosses the network in clear; mqtt.tls = true encrypts it";

/// What to listen to, for people.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name and password.
    pub credentials: Option<(String, Secret)>,
    /// How TLS is spoken; none: in clear.
    pub tls: Option<Tls>,
    /// Topic filters.
    pub filters: Vec<String>,
}

/// What a listener hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The subscriptions stand; messages come from now on.
    Connected,
    /// A message.
    Message {
        /// Its topic.
        topic: &'a str,
        /// Its payload.
        payload: &'a [u8],
    },
}

impl SubscribeOptions {
    fn refused(&self, reason: String) -> PublishError {
        PublishError::Refused { host: self.host.clone(), port: self.port, reason }
    }

    fn target(&self) -> Target {
        let id = format!("retinad-watch-{}", std::process::id());
        let mut target = Target::new(&self.host, self.port, self.tls.as_ref(), id);
        target.hello.credentials.clone_from(&self.credentials);
        target
    }
}

/// Listens and hands on what is heard, until `on_heard` returns false. Waits for a broker that is not there yet.
///
/// # Errors
/// [`PublishError::Refused`] if the broker refuses the client or a filter.
pub fn subscribe(
    wanted: &SubscribeOptions,
    on_heard: impl FnMut(Heard<'_>) -> bool,
) -> Result<(), PublishError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let target = wanted.target();
    let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let listener = Listener { wanted, on_heard, target, backoff, told: false, warned: false };
    let result = runtime.block_on(listener.listen());
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    result
}

/// One that listens over any number of connections.
struct Listener<'a, F> {
    wanted: &'a SubscribeOptions,
    on_heard: F,
    target: Target,
    backoff: Backoff,
    /// Why there is no connection was said.
    told: bool,
    /// That the password crosses the network in clear was said.
    warned: bool,
}

impl<F: FnMut(Heard<'_>) -> bool> Listener<'_, F> {
    async fn listen(mut self) -> Result<(), PublishError> {
        while self.listen_once().await? {
            tokio::time::sleep(self.backoff.next_wait()).await;
        }
        Ok(())
    }

    /// Listens over one connection; whether another one is wanted after it.
    async fn listen_once(&mut self) -> Result<bool, PublishError> {
        let mut connection = Connection::start(self.target.clone());
        let patience = Deadlines::default().subscribed;
        let mut deadline = std::pin::pin!(tokio::time::sleep(patience));
        let mut waits = false;
        loop {
            let event = tokio::select! {
                next = connection.next(false) => match next {
                    Next::Event(Some(event)) => event,
                    Next::Event(None) => return Ok(true),
                    Next::Room => continue,
                },
                () = &mut deadline, if waits => {
                    let filter = self.wanted.filters.join(" ");
                    tracing::warn!(filter, "the broker does not acknowledge the subscription");
                    waits = false;
                    continue;
                }
            };
            match event {
                Ok(Event::Welcome(welcome)) => {
                    self.target.version = Some(welcome.version);
                    connection.subscribe(SUBSCRIPTION, self.wanted.filters.clone(), true);
                    deadline.as_mut().reset(tokio::time::Instant::now() + patience);
                    waits = true;
                }
                Ok(Event::Subscribed { refused, reason, .. }) => {
                    waits = false;
                    self.check_subscription(&refused, reason.as_deref())?;
                    if !(self.on_heard)(Heard::Connected) {
                        return Ok(false);
                    }
                }
                Ok(Event::Message(message)) => {
                    let heard = Heard::Message { topic: &message.topic, payload: &message.payload };
                    if !(self.on_heard)(heard) {
                        return Ok(false);
                    }
                }
                Ok(event) => self.warn(&event),
                Err(failure @ Failure::Refused(_)) => return Err(self.wanted.refused(failure.to_string())),
                Err(failure) => {
                    self.say_once(&failure);
                    return Ok(true);
                }
            }
        }
    }

    fn check_subscription(&mut self, refused: &[bool], reason: Option<&str>) -> Result<(), PublishError> {
        if !refused.contains(&true) {
            self.backoff.reset();
            self.told = false;
            return Ok(());
        }
        let words = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let filters = self.wanted.filters.iter().zip(refused).filter(|(_, refused)| **refused);
        let filters: Vec<&str> = filters.map(|(filter, _)| filter.as_str()).collect();
        Err(self.wanted.refused(format!("subscription to {} refused{words}", filters.join(" "))))
    }

    fn warn(&mut self, event: &Event) {
        match event {
            Event::Reached(peer) => {
                let (credentials, tls) = (self.wanted.credentials.as_ref(), self.wanted.tls.as_ref());
                if says_password_in_clear(credentials, tls, *peer)
                    && !std::mem::replace(&mut self.warned, true)
                {
                    tracing::warn!("{CLEAR_PASSWORD}");
                }
            }
            Event::Oversize(message) => {
                let topic = super::wire::cleaned(&message.topic);
                tracing::warn!(topic, bytes = message.bytes, "message too large, not shown");
            }
            _ => {}
        }
    }

    fn say_once(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.told, true) {
            let broker = format!("{}:{}", self.wanted.host, self.wanted.port);
            tracing::warn!(broker, reason = failure.to_string(), "waiting for the broker");
        }
    }
}

/// Whether a password goes to this address for everybody on the way to read.
pub(super) fn says_password_in_clear(
    credentials: Option<&(String, Secret)>,
    tls: Option<&Tls>,
    peer: SocketAddr,
) -> bool {
    tls.is_none() && !peer.ip().is_loopback() && credentials.is_some_and(|(_, word)| !word.is_empty())
}
