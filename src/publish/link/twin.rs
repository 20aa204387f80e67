//! Whether somebody else publishes under our name: the proof that our client id is in use, for brokers that
//! do not say so.
//!
//! `bridge/info` is retained and holds the number of the daemon that wrote it. Once the broker acknowledged
//! ours, another number there was written after it. A connection under another client id looks.

use super::connection::{Connection, Event, Next, Target};
use super::wire::Version;
use crate::contract::{Kind, Topic};
use crate::publish::PublisherOptions;
use std::time::Duration;

/// How long is looked: the other one, which has just thrown us out, may be about to write. Whoever has no twin
/// waits no longer for this than for the next attempt anyway.
const LOOK: Duration = Duration::from_millis(1500);
/// Longest goodbye.
const GOODBYE: Duration = Duration::from_millis(200);
const SUBSCRIPTION: u16 = 1;

#[derive(serde::Deserialize)]
struct Writer {
    instance_id: String,
}

/// The number in a message of `bridge/info`.
fn writer(info: &[u8]) -> Option<String> {
    serde_json::from_slice::<Writer>(info).ok().map(|writer| writer.instance_id)
}

/// Whether `bridge/info` of this node on the broker is another daemon's; `ours` is what we wrote.
pub(super) async fn is_proven(options: &PublisherOptions, version: Option<Version>, ours: &[u8]) -> bool {
    let Some(ours) = writer(ours) else { return false };
    let id = format!("{}-look-{}", options.client_id(), std::process::id());
    let mut target = Target::new(&options.host, options.port, options.tls.as_ref(), id);
    target.version = version;
    target.hello.credentials.clone_from(&options.credentials);
    let filter = options.names().full(&Topic::of_node(Kind::Info));
    let mut connection = Connection::start(target);
    let look = async {
        loop {
            match connection.next(false).await {
                Next::Event(Some(Ok(Event::Welcome(_)))) => {
                    connection.subscribe(SUBSCRIPTION, vec![filter.clone()], true);
                }
                Next::Event(Some(Ok(Event::Message(message)))) if message.topic == filter => {
                    if writer(&message.payload).is_some_and(|theirs| theirs != ours) {
                        return true;
                    }
                }
                Next::Event(None | Some(Err(_))) => return false,
                Next::Event(Some(Ok(_))) | Next::Room => {}
            }
        }
    };
    let found = tokio::time::timeout(LOOK, look).await.unwrap_or(false);
    connection.disconnect();
    // Goodbye is sent, or the connection has ended.
    let _ = tokio::time::timeout(GOODBYE, async {
        while !matches!(connection.next(false).await, Next::Event(None | Some(Err(_) | Ok(Event::Closed)))) {}
    })
    .await;
    found
}
