//! `retinad mqtt`: what is done at the broker, beside the daemon.

use super::exit::{Exit, Failure};
use super::print::say;
use crate::daemon;
use crate::publish::{self, Cleaned};
use crate::settings::{Settings, is_id};
use clap::{Args, Subcommand};

/// Arguments of `retinad mqtt`.
#[derive(Args)]
pub struct MqttArguments {
    #[command(subcommand)]
    command: MqttCommand,
}

#[derive(Subcommand)]
enum MqttCommand {
    /// Clear every retained topic of a node, so that neither the broker nor Home Assistant remembers it
    #[command(after_help = "Examples:\n\
            \x20 sudo systemctl stop retinad && sudo retinad mqtt clean\n\
            \x20 retinad mqtt clean --node pi-shed     (a Pi that is gone for good)\n\n\
        A daemon that is connected as this node would publish everything again, so it must be stopped first.\n\
        Home Assistant must run, or it keeps the entities: run this again while it does.\n\n\
        Exit code: 0 all cleared; 1 a daemon runs, or the broker did not take some; 69 the broker does not answer.")]
    Clean(CleanArguments),
}

/// Arguments of `retinad mqtt clean`.
#[derive(Args)]
struct CleanArguments {
    /// The machine's name in topics, instead of this machine's
    #[arg(long, value_name = "NODE", value_parser = node)]
    node: Option<String>,
}

/// A machine's name in topics.
pub fn node(text: &str) -> Result<String, String> {
    let allowed = "lower-case letters, digits, `_` and `-`, at most 32, not starting with `_` or `-`";
    if is_id(text) { Ok(text.to_owned()) } else { Err(allowed.to_owned()) }
}

/// Does it.
pub fn mqtt(settings: &Settings, arguments: &MqttArguments) -> Result<(), Failure> {
    let MqttCommand::Clean(arguments) = &arguments.command;
    clean(settings, arguments)
}

fn clean(settings: &Settings, arguments: &CleanArguments) -> Result<(), Failure> {
    let own = daemon::node_name(settings);
    let mut options = daemon::broker_options(settings)?;
    if let Some(node) = &arguments.node {
        options.node.clone_from(node);
    }
    let runs = |node: &str| {
        let words = format!("a retinad runs as {node} and would publish everything again; stop it first");
        Failure::new(Exit::SomeFailed, words)
    };
    if options.node == own && daemon::runs_here(settings) {
        return Err(runs(&own));
    }
    let leftovers = daemon::leftovers(settings, &options.node, &options.names());
    let (node, broker) = (options.node.clone(), format!("{}:{}", options.host, options.port));
    match publish::clean(&options, leftovers)? {
        Cleaned::DaemonRuns => Err(runs(&node)),
        Cleaned::Done { topics, devices, refused } => {
            say!(
                "{topics} topics of {node} cleared at {broker}, {devices} of them devices of Home Assistant"
            );
            match refused.first() {
                None => Ok(()),
                Some(first) => Err(Failure::new(
                    Exit::SomeFailed,
                    format!(
                        "{broker} did not take {} of {topics}, the first: {first}; let this user write there",
                        refused.len()
                    ),
                )),
            }
        }
    }
}
