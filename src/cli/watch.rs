//! `retinad watch`: detections as they arrive over MQTT, one readable line each.

use super::print::{complain, say};
use crate::daemon;
use crate::publish::{SubscribeOptions, subscribe};
use crate::settings::Settings;
use clap::Args;
use serde_json::Value;

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

/// Subscribes to `<base>/<node>/+/detections` and prints until Ctrl-C.
pub fn watch(settings: &Settings, arguments: &WatchArguments) -> Result<(), (u8, String)> {
    let credentials = daemon::credentials(settings).map_err(|e| (super::BAD_SETTINGS, e.to_string()))?;
    let node = arguments.node.as_deref().unwrap_or("+");
    let options = SubscribeOptions {
        host: daemon::broker_host(settings),
        port: settings.mqtt.port,
        credentials,
        filter: format!("{}/{node}/+/detections", settings.mqtt.base),
    };
    let mut left = arguments.count.unwrap_or(u64::MAX);
    if !arguments.json {
        say!("{:<8}  {:<10} {:<14} score   {:<26} capture to MQTT", "UTC", "camera", "label", "box x1,y1,x2,y2 in pixels");
    }
    subscribe(&options, |topic, payload| {
        match serde_json::from_slice::<Value>(payload) {
            Ok(message) if arguments.json => say!("{message}"),
            Ok(message) => print_lines(&message),
            Err(error) => complain(format_args!("retinad: {topic}: not JSON: {error}")),
        }
        left = left.saturating_sub(1);
        left > 0
    })
    .map_err(|e| (super::UNREACHABLE, e.to_string()))
}

/// One line a detection: time, camera, label, score, box, time for the frame.
fn print_lines(message: &Value) {
    let text = |key: &str| message[key].as_str().unwrap_or("?").to_owned();
    let time = text("captured_at");
    let clock = time.get(11..19).unwrap_or("?");
    let camera = text("camera");
    let total = message["latency_ms"]["total"].as_f64().unwrap_or(f64::NAN);
    let found = message["detections"].as_array().map_or(&[][..], Vec::as_slice);
    if found.is_empty() {
        say!("{clock}  {camera:<10} nothing                                         {total:>6.0} ms");
    }
    for detection in found {
        let px: Vec<String> = detection["box_px"].as_array().map_or(&[][..], Vec::as_slice).iter().map(Value::to_string).collect();
        let (label, score) = (detection["label"].as_str().unwrap_or("?"), detection["score"].as_f64().unwrap_or(f64::NAN));
        say!("{clock}  {camera:<10} {label:<14} {score:>5.2}   box {:<22} {total:>6.0} ms", px.join(","));
    }
}
