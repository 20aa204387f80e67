//! `retinad check`: all that `run` needs, tried once; what failed, and what to do about it.

mod drawing;

use super::exit::{Exit, Failure};
use super::print::{self, say};
use crate::capture::{CaptureError, Waited, Watched};
use crate::daemon::{self, Chosen};
use crate::frame::Picture;
use crate::health;
use crate::image;
use crate::publish::{self, Rehearsal};
use crate::settings::{self, CameraSettings, Settings, Source};
use crate::zones::check_labels;
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of `retinad check`.
#[derive(Args)]
pub struct CheckArguments {
    #[command(flatten)]
    pub(super) model: super::ModelArgument,
    /// Print the effective settings, too, with logins masked
    #[arg(long)]
    settings: bool,
    /// Write a frame of each camera as <camera>.jpg, with its zones, lines and masks drawn on it
    #[arg(long, value_name = "DIR")]
    draw: Option<PathBuf>,
}

/// Prints a line for each thing that was tried, and what to do where one failed.
pub fn check(settings: &Settings, arguments: &CheckArguments) -> Result<(), Failure> {
    check_model(settings)?;
    if let Some(folder) = &arguments.draw {
        let failed = |error| Failure::new(Exit::Refused, format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut failed = Failures::default();
    check_cameras(settings, arguments.draw.as_deref(), &mut failed);
    check_broker(settings, &mut failed)?;
    check_metrics(settings, &mut failed);
    check_state_folder(settings, &mut failed);
    check_machine();
    if arguments.settings {
        say!("\n{}", settings::masked_toml(settings).trim_end());
    }
    failed.into_result()
}

/// What did not work.
#[derive(Default)]
struct Failures {
    names: Vec<String>,
    exit: Option<Exit>,
}

impl Failures {
    /// Prints what failed and what to do next.
    fn add(&mut self, kind: &str, exit: Exit, name: &str, error: &str, next: &str) {
        print::result(kind, false, error);
        if !next.is_empty() {
            say!("            {next}");
        }
        self.names.push(if name.is_empty() { kind.to_owned() } else { format!("{kind} {name}") });
        self.exit.get_or_insert(exit);
    }

    fn into_result(self) -> Result<(), Failure> {
        match self.exit {
            None => Ok(()),
            Some(exit) => Err(Failure::new(exit, format!("not well: {}", self.names.join(", ")))),
        }
    }
}

fn check_model(settings: &Settings) -> Result<(), Failure> {
    let chosen = daemon::load_model_of_command(settings, super::FIRST_GENERATION)?;
    let labels = check_labels(settings, &chosen.generation.labels);
    let Chosen { generation: model, stored, note } = chosen;
    let manifest = &model.manifest;
    let words = format!(
        "{} {}: {} classes, sha256 {}",
        manifest.name,
        manifest.version,
        model.labels.len(),
        &model.sha256[..12]
    );
    print::result("model", true, &words);
    if stored.number > 0 {
        say!("            generation {}, tuned on this machine", stored.number);
    }
    if let Some(note) = note {
        say!("            {}", print::printable(&note));
    }
    say!("            runs in {}", model.arithmetic());
    for node in model.leftovers() {
        say!("            in float: {node}");
    }
    let threads = settings.detector.share(settings.detector.workers).threads;
    let unusable = |reason| Failure::new(Exit::Unusable, format!("{}: {reason}", manifest.name));
    let parts = model.time_by_part(threads).map_err(unusable)?;
    say!("            {}", in_words(&parts, threads));
    let told: Vec<&str> = model.labels.iter().map(String::as_str).filter(|label| !label.is_empty()).collect();
    say!("            tells {}", print::printable(&told.join(", ")));
    labels.map_err(Failure::of(Exit::Unusable))
}

/// Where the time of a frame goes.
fn in_words(parts: &[(&'static str, Duration)], threads: usize) -> String {
    let told: Vec<String> =
        parts.iter().map(|(part, time)| format!("{part} {}", milliseconds(*time))).collect();
    let all = milliseconds(parts.iter().map(|(_, time)| *time).sum());
    let on = if threads == 1 { "one thread".into() } else { format!("{threads} threads") };
    format!("{all} a frame on {on}: {}", told.join(", "))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn check_cameras(settings: &Settings, draw: Option<&Path>, failed: &mut Failures) {
    if settings.cameras.is_empty() {
        let next = "add a section [cameras.<name>]; config/retinad.toml shows every kind";
        failed.add("camera", Exit::Unusable, "", "none in the settings", next);
    }
    let picture_bytes = settings.detector.share(settings.detector.workers).picture_bytes;
    for (id, camera) in &settings.cameras {
        match first_frame(id, camera, picture_bytes) {
            Ok((found, picture)) => {
                print::result("camera", true, &format!("{id}: {found}"));
                match draw.map(|folder| drawing::write(folder, id, camera, picture)) {
                    None => {}
                    Some(Ok(path)) => say!("            drawn: {}", path.display()),
                    Some(Err(error)) => failed.add("drawing", Exit::Refused, id, &error, ""),
                }
            }
            Err(error) => {
                let next = next_for_camera(camera);
                failed.add("camera", Exit::Unreachable, id, &format!("{id}: {error}"), &next);
            }
        }
    }
}

/// Opens the camera and decodes one frame.
fn first_frame(
    id: &str,
    settings: &CameraSettings,
    picture_bytes: usize,
) -> Result<(String, Picture), CaptureError> {
    let what = settings.name();
    let failed = |reason: String| CaptureError::Open { what: what.clone(), reason };
    let camera = Watched::start(id, settings).map_err(|e| failed(e.to_string()))?;
    let Waited::Frame(grabbed) = camera.next_frame(None)? else { return Err(failed("stopped".into())) };
    let mut picture = Picture::default();
    image::decode_within(&grabbed.raw, &mut picture, picture_bytes).map_err(|e| failed(e.to_string()))?;
    let (width, height, bytes) = (picture.width, picture.height, grabbed.raw.data.len());
    Ok((format!("{what}: {width} x {height}, {bytes} bytes as {:?}", grabbed.raw.encoding), picture))
}

/// What a person can try by hand where a camera does not answer.
fn next_for_camera(settings: &CameraSettings) -> String {
    match &settings.source {
        Source::V4l2(_) => {
            "v4l2-ctl --list-devices (package v4l-utils) lists cameras; the Pi's own ribbon camera: \
                            pi-camera.toml among the examples"
                .into()
        }
        Source::Stream(stream) if stream.command.is_empty() => {
            format!("try the address by hand: curl -v {} | head -c 1000", settings.name())
        }
        Source::Stream(stream) => {
            format!(
                "try the command by hand, its output into a file: {} ... > /tmp/frames",
                stream.command[0]
            )
        }
        Source::Replay(_) => String::new(),
    }
}

fn check_broker(settings: &Settings, failed: &mut Failures) -> Result<(), Failure> {
    if settings.mqtt.host.is_empty() {
        check_own_broker(settings, failed);
        return Ok(());
    }
    let options = daemon::broker_options(settings)?;
    let (host, port) = (&options.host, options.port);
    let over = if options.tls.is_some() { " over TLS" } else { "" };
    match publish::rehearse(&options, daemon::runs_here(settings)) {
        Ok(found) if found.refused.is_empty() => {
            let words = format!(
                "{host}:{port}{over} as {}: publishing and {} subscriptions granted",
                found.client_id, found.commands
            );
            print::result("broker", true, &words);
            say_what_was_not_tried(&found);
        }
        Ok(found) => {
            let words = format!(
                "{host}:{port}{over} does not grant {}: {}",
                found.client_id,
                found.refused.join(", ")
            );
            let tree = format!("{}/{}/#", options.base, options.node);
            let mut next = format!(
                "let this user read and write there, in Mosquitto's acl_file: topic readwrite {tree}"
            );
            if options.hears_home_assistant {
                let prefix = &options.home_assistant;
                next += &format!(
                    ", topic write {prefix}/device/+/config (or mqtt.homeassistant.enabled = false)"
                );
            }
            failed.add("broker", Exit::Unreachable, "", &words, &next);
            say_what_was_not_tried(&found);
        }
        Err(error) => {
            let user =
                if settings.mqtt.username.is_empty() { String::new() } else { " -u USER -P PASSWORD".into() };
            let next = format!("try it by hand: mosquitto_sub -h {host} -p {port}{user} -t '#' -v -W 5");
            failed.add("broker", Exit::Unreachable, "", &error.to_string(), &next);
        }
    }
    Ok(())
}

/// What was not tried, and why.
fn say_what_was_not_tried(found: &Rehearsal) {
    if found.untold {
        say!(
            "            it cannot say whether it takes a message (that needs MQTT 5 with QoS 2), so only the"
        );
        say!("            status topics were tried; where an access list denies others, they stay empty");
    }
    if found.daemon_runs {
        say!("            a retinad runs as this node, and two clients with one id throw each other out;");
        say!("            so its own client id and last will were not tried");
    }
}

/// Whether the embedded broker could listen.
fn check_own_broker(settings: &Settings, failed: &mut Failures) {
    let port = settings.mqtt.port;
    match std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => {
            let words = format!("none set: `retinad run` starts one on 127.0.0.1:{port}");
            print::result("broker", true, &words);
        }
        Err(_) if daemon::runs_here(settings) => {
            let words = format!("none set: the retinad that runs has one on 127.0.0.1:{port}");
            print::result("broker", true, &words);
        }
        Err(error) => {
            let words = format!("none set, and 127.0.0.1:{port} is not free for our own: {error}");
            let next = "a broker that runs there: set mqtt.host = \"127.0.0.1\"; else set another mqtt.port; \
                        a retinad that runs holds it, too";
            failed.add("broker", Exit::Refused, "", &words, next);
        }
    }
}

/// Whether metrics could be told, where the settings want them.
fn check_metrics(settings: &Settings, failed: &mut Failures) {
    let address = settings.metrics.listen;
    if !settings.metrics.enabled {
        return;
    }
    match std::net::TcpListener::bind(address) {
        Ok(_) => {
            print::result("metrics", true, &format!("`retinad run` tells them at http://{address}/metrics"))
        }
        Err(_) if daemon::runs_here(settings) => {
            let words = format!("the retinad that runs tells them at http://{address}/metrics");
            print::result("metrics", true, &words);
        }
        Err(error) => {
            let next = "choose a free port in metrics.listen; a retinad that runs holds it, too";
            failed.add("metrics", Exit::Refused, "", &format!("{address} is not free: {error}"), next);
        }
    }
}

fn check_state_folder(settings: &Settings, failed: &mut Failures) {
    match daemon::try_state_folder(settings) {
        Ok(words) => print::result("state", true, &words),
        Err(error) => {
            let next = "give it to the user that runs the daemon, or set another state_dir";
            failed.add("state", Exit::Refused, "", &error, next);
        }
    }
}

fn check_machine() {
    let words = health::supply_and_heat();
    let temperature =
        health::temperature().map_or_else(|| "no temperature sensor".to_owned(), |t| format!("{t:.1} °C"));
    print::result("machine", words.is_empty(), &temperature);
    for word in words {
        say!("            {word}");
    }
}
