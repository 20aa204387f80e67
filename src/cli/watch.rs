//! `retinad watch`: detections as they arrive over MQTT, one readable line each.

use super::exit::Failure;
use super::print::{complain, say};
use crate::contract::{Detections, Kind, Names, Topic, parse_of_any_node};
use crate::daemon;
use crate::publish::{Heard, SubscribeOptions, subscribe};
use crate::settings::Settings;
use clap::Args;

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
        &[Kind::Detections, Kind::Status, Kind::CameraStatus]
    };
    let options = SubscribeOptions {
        host: daemon::broker_host(settings),
        port: settings.mqtt.port,
        credentials,
        tls: daemon::tls(settings)?,
        filters: kinds.iter().map(|kind| names.filter(*kind)).collect(),
    };
    let mut left = arguments.count.unwrap_or(u64::MAX);
    if !arguments.json {
        print_header();
    }
    subscribe(&options, |heard| {
        match heard {
            Heard::Connected if arguments.json => {}
            Heard::Connected => say!("          connected to {}:{}", options.host, options.port),
            Heard::Message { topic, payload } => match parse_of_any_node(&settings.mqtt.base, topic) {
                Some((_, topic)) if topic.kind() == Kind::Detections => {
                    print_detections(&topic, payload, arguments.json);
                    left = left.saturating_sub(1);
                }
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

fn print_detections(topic: &Topic, payload: &[u8], json: bool) {
    match serde_json::from_slice::<Detections>(payload) {
        Ok(_) if json => say!("{}", String::from_utf8_lossy(payload)),
        Ok(message) => print_lines(&message),
        Err(error) => complain(format_args!("retinad: {topic}: not a message of detections: {error}")),
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
