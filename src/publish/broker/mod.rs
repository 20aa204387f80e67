//! The embedded broker: for those who have none. Loopback only, no password, no TLS.
//!
//! MQTT 3.1.1 with QoS 0 and 1, retained messages, wills and wildcards; QoS 2 is taken from publishers and
//! passed on as 1. A session ends with its connection, and all is in memory. It is made for the daemon and
//! a handful of clients on the same machine; where more is needed, `mqtt.host` names a real broker.
//!
//! Everything is bounded: connections and clients, a packet, what is read at once, retained messages, what
//! waits for a client and for all of them, filters. Whoever goes beyond is refused or disconnected, and
//! nobody else notices; the limits are the constants of this folder. One thread with a runtime of its own
//! serves all connections, so that the state (`router.rs`) needs no locks; `connection.rs` alone reads and
//! writes sockets.

mod connection;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod message;
mod outgoing;
mod packet;
mod retained;
mod router;
mod topic;

use super::PublishError;
use connection::Shared;
use router::Router;
use std::cell::RefCell;
use std::net::{Ipv4Addr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

/// Connections at the same time: the clients, and as many whose first packet is awaited. More are closed at
/// once.
const CONNECTIONS: usize = 2 * router::CLIENTS;
/// Pause where no connection can be accepted, usually because the process may not open more files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Starts the broker on 127.0.0.1:`port`, on a thread of its own; it ends with the process. It listens on
/// return.
///
/// # Errors
/// [`PublishError::Broker`] if the port is taken or a thread cannot be started.
pub fn start(port: u16) -> Result<(), PublishError> {
    let failed = |error: std::io::Error| PublishError::Broker { port, reason: error.to_string() };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let body = move || LocalSet::new().block_on(&runtime, serve(listener));
    std::thread::Builder::new().name("broker".into()).spawn(body).map_err(failed)?;
    Ok(())
}

/// Accepts connections for ever.
async fn serve(listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "embedded broker ended");
            return;
        }
    };
    let shared = Rc::new(Shared {
        router: RefCell::new(Router::default()),
        reading: Semaphore::new(connection::READING),
    });
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let mut accepting = true;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                accepting = true;
                let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
                let shared = Rc::clone(&shared);
                tokio::task::spawn_local(async move {
                    connection::serve(stream, shared).await;
                    drop(permit);
                });
            }
            Err(error) => {
                if std::mem::replace(&mut accepting, false) {
                    tracing::warn!(%error, "embedded broker: cannot accept a connection; trying again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
