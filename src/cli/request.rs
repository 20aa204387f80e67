//! `retinad request`: asks a daemon for something over the broker, and prints its answer.

use super::exit::{Exit, Failure};
use super::print::say;
use crate::contract::Kind;
use crate::daemon;
use crate::health;
use crate::publish::{self, Answer};
use crate::settings::Settings;
use crate::verb;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Longest text that tells requests apart, bytes.
const MAX_TRANSACTION: usize = 64;

/// Arguments of `retinad request`.
#[derive(Args)]
pub struct RequestArguments {
    /// What is asked for
    #[arg(value_parser = PossibleValuesParser::new(verb::NAMES))]
    verb: String,
    /// Fields of the request as one JSON object
    #[arg(value_name = "JSON", default_value = "{}", value_parser = fields)]
    fields: Map<String, Value>,
    /// The machine's name in topics, instead of this machine's
    #[arg(long, value_parser = super::mqtt::node)]
    node: Option<String>,
}

fn fields(text: &str) -> Result<Map<String, Value>, String> {
    let most = Kind::Request.spec().max_bytes;
    if text.len() > most {
        return Err(format!("{} bytes, at most {most} are allowed", text.len()));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(mut fields)) => {
            // Another one each time: the same one would get the answer of before again.
            let own = fields.entry("transaction").or_insert_with(|| health::kernel_random("uuid").into());
            let is_one = own.is_number() || own.as_str().is_some_and(|text| text.len() <= MAX_TRANSACTION);
            if is_one {
                Ok(fields)
            } else {
                Err("transaction: a number or a text of at most 64 bytes".to_owned())
            }
        }
        Ok(_) => Err("a JSON object is wanted, such as {\"camera\": \"front\"}".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Asks, and prints the answer as it comes.
pub fn request(settings: &Settings, arguments: RequestArguments) -> Result<(), Failure> {
    let mut options = daemon::broker_options(settings)?;
    if let Some(node) = arguments.node {
        options.node = node;
    }
    let (node, broker) = (options.node.clone(), format!("{}:{}", options.host, options.port));
    match publish::request(&options, &Arc::from(arguments.verb), arguments.fields)? {
        Answer::Came { text, ok } => {
            say!("{text}");
            // The answer says why.
            if ok { Ok(()) } else { Err(Failure::new(Exit::SomeFailed, "")) }
        }
        Answer::Offline => {
            Err(Failure::new(Exit::Unreachable, format!("no retinad is connected to {broker} as {node}")))
        }
        Answer::NotAllowed(what) => {
            Err(Failure::new(Exit::Unreachable, format!("broker {broker} does not allow it: {what}")))
        }
        Answer::Nothing => Err(Failure::new(
            Exit::Unreachable,
            format!(
                "no answer from {node} at {broker}; does it run there, and may this user write to {} and read {}?",
                Kind::Request.spec().pattern,
                Kind::Response.spec().pattern
            ),
        )),
    }
}
