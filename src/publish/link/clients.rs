//! Clients beside the daemon's own link: `watch` listens, `check` knocks.

use super::connection::{Connection, Event, Failure, Next, Target};
use super::tls::Tls;
use crate::backoff::Backoff;
use crate::publish::{Deadlines, PublishError};
use crate::secret::Secret;
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
    /// Topic filter.
    pub filter: String,
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

/// Listens and hands each message on, until `on_message` returns false. Waits for a broker that is not
/// there yet.
///
/// # Errors
/// [`PublishError::Refused`] if the broker refuses the client or the filter.
pub fn subscribe(
    wanted: &SubscribeOptions,
    on_message: impl FnMut(&str, &[u8]) -> bool,
) -> Result<(), PublishError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(listen(wanted, on_message));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    result
}

async fn listen(
    wanted: &SubscribeOptions,
    mut on_message: impl FnMut(&str, &[u8]) -> bool,
) -> Result<(), PublishError> {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut target = wanted.target();
    let (mut told, mut warned) = (false, false);
    loop {
        let mut connection = Connection::start(target.clone());
        let mut deadline = None;
        loop {
            let event = tokio::select! {
                next = connection.next(false) => match next {
                    Next::Event(event) => event,
                    Next::Room => continue,
                },
                () = sleep_until(deadline), if deadline.is_some() => {
                    tracing::warn!(filter = wanted.filter, "the broker does not acknowledge the subscription");
                    deadline = None;
                    continue;
                }
            };
            match event {
                Some(Ok(Event::Reached(peer))) => {
                    let clear = wanted.tls.is_none() && !peer.ip().is_loopback();
                    if clear && wanted.credentials.is_some() && !std::mem::replace(&mut warned, true) {
                        tracing::warn!("{CLEAR_PASSWORD}");
                    }
                }
                Some(Ok(Event::Welcome(welcome))) => {
                    backoff.reset();
                    told = false;
                    target.version = Some(welcome.version);
                    if !connection.subscribe(SUBSCRIPTION, vec![wanted.filter.clone()], true) {
                        break;
                    }
                    deadline = Some(tokio::time::Instant::now() + Deadlines::default().subscribed);
                }
                Some(Ok(Event::Subscribed { refused, reason, .. })) => {
                    deadline = None;
                    if refused.contains(&true) {
                        let words = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                        return Err(
                            wanted.refused(format!("subscription to {} refused{words}", wanted.filter))
                        );
                    }
                }
                Some(Ok(Event::Message(message))) => {
                    if !on_message(&message.topic, &message.payload) {
                        return Ok(());
                    }
                }
                Some(Ok(Event::Oversize(message))) => {
                    tracing::warn!(
                        topic = message.topic,
                        bytes = message.bytes,
                        "message too large, not shown"
                    );
                }
                Some(Ok(Event::Acknowledged { .. } | Event::Closed)) => {}
                Some(Err(failure @ Failure::Refused(_))) => return Err(wanted.refused(failure.to_string())),
                Some(Err(failure)) => {
                    if !std::mem::replace(&mut told, true) {
                        let broker = format!("{}:{}", wanted.host, wanted.port);
                        tracing::warn!(broker, reason = failure.to_string(), "waiting for the broker");
                    }
                    break;
                }
                None => break,
            }
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}

/// Connects once and says why not, where it cannot. Nothing is published.
///
/// # Errors
/// [`PublishError::Refused`] with the broker's, or the network's, word.
pub fn probe(
    host: &str,
    port: u16,
    credentials: Option<&(String, Secret)>,
    tls: Option<&Tls>,
) -> Result<(), PublishError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut target = Target::new(host, port, tls, format!("retinad-check-{}", std::process::id()));
        target.hello.credentials = credentials.cloned();
        let mut connection = Connection::start(target);
        loop {
            match connection.next(false).await {
                Next::Event(Some(Ok(Event::Welcome(_)))) => {
                    connection.disconnect();
                }
                Next::Event(Some(Ok(Event::Closed))) => return Ok(()),
                Next::Event(Some(Err(failure))) => return Err(failure.to_string()),
                Next::Event(None) => return Err("connection ended".into()),
                Next::Event(Some(Ok(_))) | Next::Room => {}
            }
        }
    });
    runtime.shutdown_background();
    result.map_err(|reason| PublishError::Refused { host: host.to_owned(), port, reason })
}
