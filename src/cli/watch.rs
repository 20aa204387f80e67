//! `retinad watch`: detections or events as they arrive over MQTT, one readable line each.

use super::exit::Failure;
use super::print::{complain, say};
use crate::contract::{
    Detections, EndReason, EventType, Health, Kind, Names, ObjectEvent, Topic, parse_of_any_node,
};
use crate::daemon;
use crate::publish::{Heard, SubscribeOptions, subscribe};
use crate::settings::Settings;
use clap::Args;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

/// Arguments of `retinad watch`.
#[derive(Args)]
pub struct WatchArguments {
    /// Only this node; without it all nodes on the broker
    #[arg(long)]
    node: Option<String>,
    /// What happens to objects, instead of what each frame shows: they appear, come to rest, leave
    #[arg(long)]
    events: bool,
    /// Print each message as it came, one JSON object a line
    #[arg(long)]
    json: bool,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Prints detections or events, and who is online, until Ctrl-C.
pub fn watch(settings: &Settings, arguments: &WatchArguments) -> Result<(), Failure> {
    let credentials = daemon::credentials(settings)?;
    let names = Names::new(&settings.mqtt.base, arguments.node.as_deref().unwrap_or("+"));
    let wanted = if arguments.events { Kind::Events } else { Kind::Detections };
    // Programs that read the JSON lines want nothing else.
    let kinds = match (arguments.json, arguments.events) {
        (true, _) => vec![wanted],
        (false, true) => vec![wanted, Kind::Status, Kind::CameraStatus],
        (false, false) => vec![wanted, Kind::Status, Kind::CameraStatus, Kind::Health],
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
        print_header(arguments.events);
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
                Some((_, topic)) if topic.kind() == Kind::Events => {
                    print_event(&topic, payload, arguments.json);
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

fn print_header(events: bool) {
    let (box_px, time) = ("box x1,y1,x2,y2 in pixels", "capture to MQTT");
    let rest = if events { "what happened".into() } else { format!("{box_px:<26} {time}") };
    say!("{:<8}  {:<10} {:<14} score   {rest}", "UTC", "camera", "label");
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
    let message = read(topic, payload, "a message of detections")?;
    if json {
        say!("{}", String::from_utf8_lossy(payload));
    } else {
        print_lines(&message);
    }
    Some(message)
}

/// Reads the payload as `what`, and says so where it is not.
fn read<T: DeserializeOwned>(topic: &Topic, payload: &[u8], what: &str) -> Option<T> {
    let said = |error| complain(format_args!("retinad: {topic}: not {what}: {error}"));
    serde_json::from_slice(payload).map_err(said).ok()
}

/// Prints the event.
fn print_event(topic: &Topic, payload: &[u8], json: bool) {
    let Some(event) = read::<ObjectEvent>(topic, payload, "an event") else { return };
    if json {
        return say!("{}", String::from_utf8_lossy(payload));
    }
    let (clock, camera, label) = (time_of_day(&event.time), &event.camera, &event.label);
    say!(
        "{clock}  {camera:<10} {label:<14} {:>5.2}   {} ({})",
        event.top_score,
        what_happened(&event),
        event.id
    );
}

/// What the event tells, in words.
fn what_happened(event: &ObjectEvent) -> String {
    let place = match event.zones.as_slice() {
        [] => String::new(),
        zones => format!(" in {}", zones.join(", ")),
    };
    match event.event_type {
        EventType::Start => format!("appears{place}"),
        EventType::Update if event.stationary => format!("stays where it is{place}"),
        EventType::Update => format!("is there{place}"),
        EventType::End => format!("{} after {:.1} s", reason(event.end_reason), event.duration_s),
    }
}

fn reason(reason: Option<EndReason>) -> &'static str {
    match reason {
        Some(EndReason::Gone) | None => "is gone",
        Some(EndReason::CameraOffline) => "is seen no more, its camera being offline,",
        Some(EndReason::Disabled) => "is seen no more, detection being off,",
        Some(EndReason::Shutdown) => "is seen no more, the daemon having ended,",
        Some(EndReason::Restart) => "was seen last before the daemon started again,",
    }
}

/// The time of day within `2026-11-26T08:15:00.000Z`.
fn time_of_day(time: &str) -> &str {
    time.get(11..19).unwrap_or("?")
}

/// One line a detection: time, camera, label, score, box, time for the frame.
fn print_lines(message: &Detections) {
    let clock = time_of_day(&message.captured_at);
    let (camera, total) = (&message.camera, message.latency_ms.total);
    if message.detections.is_empty() {
        say!("{clock}  {camera:<10} nothing                                         {total:>6.0} ms");
    }
    for found in &message.detections {
        let px = found.box_px.map(|side| side.to_string()).join(",");
        say!("{clock}  {camera:<10} {:<14} {:>5.2}   box {px:<22} {total:>6.0} ms", found.label, found.score);
    }
}
