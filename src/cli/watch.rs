//! `retinad watch`: detections as they arrive over MQTT, one readable line each.

use super::exit::Failure;
use super::print::{complain, say};
use crate::contract::{Detections, Health, Kind, Names, Topic, parse_of_any_node};
use crate::daemon;
use crate::publish::{Heard, SubscribeOptions, subscribe};
use crate::settings::Settings;
use clap::Args;
use std::collections::BTreeSet;

/// Arguments of `retinad watch`.
#[derive(Args)]
pub struct WatchArguments {
    /// Only this node; without it all nodes on the broker
    #[arg(long)]
    node: Option<String>,
    /// Print each message as it came, one JSON object a line
    #[arg(long)]
    json: bool,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Prints detections, and who is online, until Ctrl-C.
pub fn watch(settings: &Settings, arguments: &WatchArguments) -> Result<(), Failure> {
    let credentials = daemon::credentials(settings)?;
    let names = Names::new(&settings.mqtt.base, arguments.node.as_deref().unwrap_or("+"));
    // Programs that read the JSON lines want nothing else.
    let kinds: &[Kind] = if arguments.json {
        &[Kind::Detections]
    } else {
        &[Kind::Detections, Kind::Status, Kind::CameraStatus, Kind::Health]
    };
    let options = SubscribeOptions {
        host: daemon::broker_host(settings),
        port: settings.mqtt.port,
        credentials,
        tls: daemon::tls(settings)?,
        filters: kinds.iter().map(|kind| names.filter(*kind)).collect(),
    };
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut seen = Seen::default();
    if !arguments.json {
        print_header();
    }
    subscribe(&options, |heard| {
        match heard {
            Heard::Connected if arguments.json => {}
            Heard::Connected => say!("          connected to {}:{}", options.host, options.port),
            Heard::Message { topic, payload } => match parse_of_any_node(&settings.mqtt.base, topic) {
                Some((_, topic)) if topic.kind() == Kind::Detections => {
                    if let Some(message) = print_detections(&topic, payload, arguments.json) {
                        seen.take(&message);
                    }
                    left = left.saturating_sub(1);
                }
                Some((node, topic)) if topic.kind() == Kind::Health => seen.print_best_below(node, payload),
                Some((node, topic)) => print_status(node, &topic, payload),
                None => {}
            },
        }
        left > 0
    })
    .map_err(Failure::from)
}

fn print_header() {
    say!(
        "{:<8}  {:<10} {:<14} score   {:<26} capture to MQTT",
        "UTC",
        "camera",
        "label",
        "box x1,y1,x2,y2 in pixels"
    );
}

/// Which node or camera is online, offline or disabled: what a person looks for where no detections come.
fn print_status(node: &str, topic: &Topic, payload: &[u8]) {
    let status = String::from_utf8_lossy(payload);
    match topic.camera() {
        Some(camera) => say!("          {camera:<10} is {status} (node {node})"),
        None => say!("          node {node} is {status}"),
    }
}

/// Nodes and cameras that showed an object since their last health message.
#[derive(Default)]
struct Seen(BTreeSet<(String, String)>);

impl Seen {
    fn take(&mut self, message: &Detections) {
        if !message.detections.is_empty() {
            self.0.insert((message.node.clone(), message.camera.clone()));
        }
    }

    /// Where no object passed the threshold, how near it the best one came: whether the threshold is too
    /// high is what a person wants to know then.
    fn print_best_below(&mut self, node: &str, payload: &[u8]) {
        // One of another version may lack it.
        let Ok(health) = serde_json::from_slice::<Health>(payload) else { return };
        for (camera, health) in health.cameras {
            let showed = self.0.remove(&(node.to_owned(), camera.clone()));
            if let (false, Some(score)) = (showed, health.best_below) {
                say!(
                    "          {camera:<10} nothing above its threshold; the best score below it: {score:.2}"
                );
            }
        }
    }
}

/// Prints the message, and gives it back where it is one.
fn print_detections(topic: &Topic, payload: &[u8], json: bool) -> Option<Detections> {
    match serde_json::from_slice::<Detections>(payload) {
        Ok(message) => {
            if json {
                say!("{}", String::from_utf8_lossy(payload));
            } else {
                print_lines(&message);
            }
            Some(message)
        }
        Err(error) => {
            complain(format_args!("retinad: {topic}: not a message of detections: {error}"));
            None
        }
    }
}

/// One line a detection: time, camera, label, score, box, time for the frame.
fn print_lines(message: &Detections) {
    // The time of day within `2026-11-26T08:15:00.000Z`.
    let clock = message.captured_at.get(11..19).unwrap_or("?");
    let (camera, total) = (&message.camera, message.latency_ms.total);
    if message.detections.is_empty() {
        say!("{clock}  {camera:<10} nothing                                         {total:>6.0} ms");
    }
    for found in &message.detections {
        let px = found.box_px.map(|side| side.to_string()).join(",");
        say!("{clock}  {camera:<10} {:<14} {:>5.2}   box {px:<22} {total:>6.0} ms", found.label, found.score);
    }
}
