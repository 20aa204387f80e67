//! The embedded broker: for those who have none. Loopback only, no password, no TLS.

use super::PublishError;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Starts the broker on 127.0.0.1:`port`, on threads of its own; it ends with the process.
///
/// # Errors
/// [`PublishError::Broker`] if the port is taken or a thread cannot be started.
pub fn start(port: u16) -> Result<(), PublishError> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |reason: String| PublishError::Broker { port, reason };
    // The broker only logs that its port is taken, so the port is tried first.
    drop(TcpListener::bind(listen).map_err(|e| failed(e.to_string()))?);
    let connections = ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: 16 << 20,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings { name: "retinad".into(), listen, tls: None, next_connection_delay_ms: 1, connections };
    let router = RouterConfig {
        max_connections: 64,
        max_outgoing_packet_count: 200,
        max_segment_size: 1 << 20,
        max_segment_count: 4,
        ..RouterConfig::default()
    };
    let config = Config { router, v4: Some(HashMap::from([("v4".to_owned(), server)])), ..Config::default() };
    let body = move || {
        if let Err(error) = Broker::new(config).start() {
            tracing::error!(port, %error, "embedded broker ended");
        }
    };
    std::thread::Builder::new().name("broker".into()).spawn(body).map_err(|e| failed(e.to_string()))?;
    // Else the first connection would be refused, and the first thing a new user reads would be a warning.
    for _ in 0..200 {
        if TcpStream::connect(listen).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(failed("does not listen after 2 s".into()))
}
