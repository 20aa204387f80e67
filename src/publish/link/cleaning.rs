//! Takes off the broker what a node left there: first its devices, so that Home Assistant lets go of their
//! entities, then everything else.
//!
//! What there is to be cleared is known from two sides: the caller's list, and what the broker keeps, as far as it
//! lets us read.

use super::connection::Failure;
use super::rehearsal::{Client, as_command};
use crate::contract::discovery;
use crate::contract::{Kind, Topic};
use crate::publish::{PublishError, PublisherOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// After so long without a further message everything that is kept has come.
const SILENCE: Duration = Duration::from_millis(700);
/// Longest time that is listened, because somebody may talk without end.
const LONGEST: Duration = Duration::from_secs(10);
/// What Home Assistant is given for each step of a removal.
const SETTLE: Duration = Duration::from_secs(2);

/// What a node may have left on the broker, by full name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Topics that may be kept there.
    pub topics: BTreeSet<String>,
    /// Where Home Assistant is told of a device, with the message that tells it once more.
    pub devices: BTreeMap<String, Vec<u8>>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleaned {
    /// A daemon is connected as this node; it would publish everything again, so nothing was done.
    DaemonRuns,
    /// Done.
    Done {
        /// Topics that were cleared.
        topics: usize,
        /// Of these, how many told Home Assistant of a device.
        devices: usize,
        /// What the broker did not take, a line each.
        refused: Vec<String>,
    },
}

/// Clears what the node of these options left on the broker.
///
/// # Errors
/// [`PublishError::Refused`] with the broker's, or the network's, word.
pub fn clean(options: &PublisherOptions, leftovers: Leftovers) -> Result<Cleaned, PublishError> {
    as_command(options, clean_as_client(options, leftovers))
}

async fn clean_as_client(options: &PublisherOptions, leftovers: Leftovers) -> Result<Cleaned, Failure> {
    let names = options.names();
    let id = format!("{}-clean-{}", options.client_id(), std::process::id());
    let mut client = Client::connect(options, id, false).await?;
    if client.is_online(&names.full(&Topic::of_node(Kind::Status))).await? {
        client.leave().await;
        return Ok(Cleaned::DaemonRuns);
    }
    let Leftovers { mut topics, devices: known } = leftovers;
    // What may not be read is not heard; a refusal says nothing that would help.
    client.subscribe(&[names.of_node(), names.filter(Kind::HomeAssistantDevice)], true).await?;
    listen(&mut client).await?;
    topics.extend(client.kept.iter().filter(|name| names.is_of_node(name)).cloned());
    let is_ours = |name: &&String| match names.parse(name) {
        Some(topic) if topic.kind() == Kind::HomeAssistantDevice => {
            topic.names()[0].as_ref().is_some_and(|id| discovery::is_of_node(id, &options.node))
        }
        _ => false,
    };
    let devices: BTreeSet<String> = client.kept.iter().filter(is_ours).chain(known.keys()).cloned().collect();
    topics.retain(|name| !devices.contains(name));
    let mut refused = Vec::new();
    for (name, message) in &known {
        say(&mut client, name, message, &mut refused).await?;
    }
    if !known.is_empty() {
        tokio::time::sleep(SETTLE).await;
    }
    for name in &devices {
        say(&mut client, name, b"", &mut refused).await?;
    }
    if !devices.is_empty() {
        // An entity that still stands would complain of the empty state.
        tokio::time::sleep(SETTLE).await;
    }
    for name in &topics {
        say(&mut client, name, b"", &mut refused).await?;
    }
    client.leave().await;
    Ok(Cleaned::Done { topics: topics.len() + devices.len(), devices: devices.len(), refused })
}

/// Listens until nothing comes any more.
async fn listen(client: &mut Client) -> Result<(), Failure> {
    let until = Instant::now() + LONGEST;
    loop {
        let before = client.kept.len();
        let more = client.wait(SILENCE, |client| client.kept.len() > before).await?;
        if !more || Instant::now() > until {
            return Ok(());
        }
    }
}

/// Publishes something to be kept; an empty message clears.
async fn say(
    client: &mut Client,
    name: &str,
    message: &[u8],
    refused: &mut Vec<String>,
) -> Result<(), Failure> {
    match client.publish(name, message, true).await? {
        Some(None) => {}
        Some(Some(reason)) => refused.push(format!("{name} ({reason})")),
        None => refused.push(format!("{name} (not acknowledged)")),
    }
    Ok(())
}
