//! Clients beside the daemon's own link: `watch` listens, `check` knocks.

use super::connection::{CONNECT_TIMEOUT, Connection, options, words};
use crate::backoff::Backoff;
use crate::publish::PublishError;
use rumqttc::{ConnectionError, Event, Packet, QoS, SubscribeReasonCode};
use std::time::Duration;

/// Waits of a listener between two attempts.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

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

impl SubscribeOptions {
    fn refused(&self, reason: String) -> PublishError {
        PublishError::Refused { host: self.host.clone(), port: self.port, reason }
    }
}

/// Listens and hands each message on, until `on_message` returns false. Waits for a broker that is not
/// there yet.
///
/// # Errors
/// [`PublishError::Refused`] if the broker refuses the client or the filter.
pub fn subscribe(
    wanted: &SubscribeOptions,
    mut on_message: impl FnMut(&str, &[u8]) -> bool,
) -> Result<(), PublishError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut told = false;
        loop {
            let id = format!("retinad-watch-{}", std::process::id());
            let mqtt = options(id, &wanted.host, wanted.port, wanted.credentials.as_ref());
            let mut connection = Connection::start(mqtt);
            while let Some(event) = connection.events.recv().await {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        backoff.reset();
                        told = false;
                        let asked = connection.client.try_subscribe(&wanted.filter, QoS::AtMostOnce);
                        asked.map_err(|e| wanted.refused(e.to_string()))?;
                    }
                    Ok(Event::Incoming(Packet::SubAck(ack)))
                        if ack.return_codes.contains(&SubscribeReasonCode::Failure) =>
                    {
                        return Err(wanted.refused(format!("subscription to {} refused", wanted.filter)));
                    }
                    Ok(Event::Incoming(Packet::Publish(message)))
                        if !on_message(&message.topic, &message.payload) =>
                    {
                        return Ok(());
                    }
                    Err(ConnectionError::ConnectionRefused(code)) => {
                        return Err(wanted.refused(format!("{code:?}")));
                    }
                    Err(error) if !std::mem::replace(&mut told, true) => {
                        let broker = format!("{}:{}", wanted.host, wanted.port);
                        tracing::warn!(broker, reason = words(&error), "waiting for the broker");
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(backoff.next_wait()).await;
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
        let mqtt = options(format!("retinad-check-{}", std::process::id()), host, port, credentials);
        let mut connection = Connection::start(mqtt);
        let answer = tokio::time::timeout(CONNECT_TIMEOUT, connection.events.recv()).await;
        match answer.map_err(|_| refused(format!("no answer in {} s", CONNECT_TIMEOUT.as_secs())))? {
            Some(Ok(_)) => {
                let _ = connection.client.try_disconnect();
                Ok(())
            }
            Some(Err(error)) => Err(refused(words(&error))),
            None => Err(refused("connection ended".into())),
        }
    })
}
