//! One connection of the MQTT library: its options, and its event loop in a task of its own.

use crate::publish::MAX_MESSAGE;
use rumqttc::{AsyncClient, ConnectionError, Event, MqttOptions};
use std::time::Duration;
use tokio::sync::mpsc;

/// Largest packet that is read: a set of 10 MB is read and refused rather than ending the connection.
const MAX_INCOMING: usize = 12 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Longest wait for the broker's first answer.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that the library may hold; more than the outbox lets be in flight, so that `try_publish` fails
/// only on a burst of samples.
pub(super) const REQUESTS: usize = 64;

/// A connection's client, its events, and the task that runs it; dropping it ends the connection.
pub(super) struct Connection {
    pub client: AsyncClient,
    /// Events in order; the last one may be an error.
    pub events: mpsc::Receiver<Result<Event, ConnectionError>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Options that all our connections share.
pub(super) fn options(
    id: String,
    host: &str,
    port: u16,
    credentials: Option<&(String, String)>,
) -> MqttOptions {
    let mut mqtt = MqttOptions::new(id, host, port);
    mqtt.set_keep_alive(KEEP_ALIVE)
        .set_clean_session(true)
        .set_max_packet_size(MAX_INCOMING, MAX_MESSAGE + 1024);
    if let Some((user, password)) = credentials {
        mqtt.set_credentials(user, password);
    }
    mqtt
}

impl Connection {
    /// Starts to connect. The event loop is never cancelled half-way, because it runs by itself and only
    /// passes events on.
    pub fn start(mqtt: MqttOptions) -> Self {
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
        Self { client, events, task }
    }
}

/// Why a connection ended, for people.
pub(super) fn words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => format!("refused: {code:?}"),
        other => other.to_string(),
    }
}
