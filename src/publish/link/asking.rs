//! Asks a daemon for something over the broker, as `retinad request` does, and waits for its answer.

use super::connection::Failure;
use super::rehearsal::{Client, as_command};
use crate::contract::{Kind, Topic};
use crate::publish::{PublishError, PublisherOptions};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait for an answer: the daemon says after a minute that something was not done.
const ANSWER: Duration = Duration::from_secs(65);
/// For what the broker keeps to arrive after the acknowledgement.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The answer as it came, and whether it says `ok`.
    Came {
        /// One line of JSON.
        text: String,
        /// Whether it was done.
        ok: bool,
    },
    /// The broker says that no daemon is connected as this node.
    Offline,
    /// The broker does not take the request, or does not let us hear the answer; in its words.
    NotAllowed(String),
    /// Nothing came in time.
    Nothing,
}

/// Sends a request to the node of these options and waits for the answer with its transaction, which should be one
/// that nobody else has.
///
/// # Errors
/// [`PublishError::Refused`] with the broker's, or the network's, word.
pub fn request(
    options: &PublisherOptions,
    verb: &Arc<str>,
    fields: Map<String, Value>,
) -> Result<Answer, PublishError> {
    as_command(options, ask(options, verb, fields))
}

async fn ask(
    options: &PublisherOptions,
    verb: &Arc<str>,
    fields: Map<String, Value>,
) -> Result<Answer, Failure> {
    let names = options.names();
    let [request, response] =
        [Kind::Request, Kind::Response].map(|kind| names.full(&Topic::of_verb(kind, verb)));
    let status = names.full(&Topic::of_node(Kind::Status));
    let id = format!("{}-request-{}", options.client_id(), std::process::id());
    let transaction = fields.get("transaction").cloned().unwrap_or_default();
    let mut client = Client::connect(options, id, false).await?;
    client.heard_bytes = Kind::Response.spec().max_bytes;
    // Whoever may not read the status waits for the answer all the same.
    client.subscribe(std::slice::from_ref(&status), true).await?;
    client.wait(ON_ITS_WAY, |client| client.heard.contains_key(&status)).await?;
    if client.heard.get(&status).is_some_and(|word| word == b"offline") {
        client.leave().await;
        return Ok(Answer::Offline);
    }
    let answered = client.subscribe(std::slice::from_ref(&response), false).await?;
    let refused = answered.is_none_or(|(refused, _)| refused != [false]);
    if refused {
        client.leave().await;
        return Ok(Answer::NotAllowed(format!("subscription to {response} refused")));
    }
    let message = Value::Object(fields).to_string();
    if let Some(Some(reason)) = client.publish(&request, message.as_bytes(), false).await? {
        client.leave().await;
        return Ok(Answer::NotAllowed(format!("publishing to {request} ({reason})")));
    }
    let until = Instant::now() + ANSWER;
    let mut answer = Answer::Nothing;
    while client.wait(until - Instant::now(), |client| client.heard.contains_key(&response)).await? {
        let text = client.heard.remove(&response).unwrap_or_default();
        let Ok(text) = String::from_utf8(text) else { continue };
        // Answers to others come on the same topic.
        let Ok(read) = serde_json::from_str::<Value>(&text) else { continue };
        if read["transaction"] == transaction {
            answer = Answer::Came { ok: read["status"] == "ok", text };
            break;
        }
    }
    client.leave().await;
    Ok(answer)
}
