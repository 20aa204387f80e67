//! `retinad check`: all that `run` needs, tried once.

use super::exit::{Exit, Failure};
use super::print::{self, say};
use crate::capture::{CaptureError, Waited, Watched};
use crate::daemon;
use crate::detector::Generation;
use crate::health;
use crate::image;
use crate::publish;
use crate::settings::{self, CameraSettings, Settings};

/// Prints the effective settings, then one line each for model, cameras and broker.
pub fn check(settings: &Settings) -> Result<(), Failure> {
    print::write(format_args!("{}", settings::masked_toml(settings)));
    let model = Generation::load(&settings.detector.model_file(), super::FIRST_GENERATION)?;
    let manifest = &model.manifest;
    say!(
        "\nmodel   ok  {} {}: {} classes, sha256 {}",
        manifest.name,
        manifest.version,
        model.labels.len(),
        &model.sha256[..12]
    );
    say!("        runs in {}", model.arithmetic());
    for node in model.leftovers() {
        say!("        in float: {node}");
    }
    let credentials = daemon::credentials(settings)?;
    let mut failed = Vec::new();
    for (id, camera) in &settings.cameras {
        match first_frame(id, camera) {
            Ok(found) => say!("camera  ok  {id}: {found}"),
            Err(error) => {
                say!("camera  --  {id}: {error}");
                failed.push(format!("camera {id}"));
            }
        }
    }
    if settings.cameras.is_empty() {
        say!("camera  --  none: add a section [cameras.<name>], see config/retinad.toml");
        failed.push("cameras".into());
    }
    let (host, port) = (daemon::broker_host(settings), settings.mqtt.port);
    if settings.mqtt.host.is_empty() {
        say!("broker  ok  none set: `retinad run` starts one on 127.0.0.1:{port}");
    } else {
        match publish::probe(&host, port, credentials.as_ref()) {
            Ok(()) => say!("broker  ok  {host}:{port}"),
            Err(error) => {
                say!("broker  --  {error}");
                failed.push("broker".into());
            }
        }
    }
    let words = health::supply_and_heat();
    let temperature =
        health::temperature().map_or_else(|| "no temperature sensor".to_owned(), |t| format!("{t:.1} °C"));
    say!("machine {}  {temperature}", if words.is_empty() { "ok" } else { "--" });
    for word in words {
        say!("        {word}");
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(Exit::Unreachable, format!("not reachable: {}", failed.join(", "))))
    }
}

/// Opens the camera and decodes one frame.
fn first_frame(id: &str, settings: &CameraSettings) -> Result<String, CaptureError> {
    let what = settings.name();
    let failed = |reason: String| CaptureError::Open { what: what.clone(), reason };
    let camera = Watched::start(id, settings).map_err(|e| failed(e.to_string()))?;
    let Waited::Frame(grabbed) = camera.next_frame(None)? else { return Err(failed("stopped".into())) };
    let mut picture = crate::frame::Picture::default();
    image::decode(&grabbed.raw, &mut picture).map_err(|e| failed(e.to_string()))?;
    Ok(format!(
        "{what}: {} x {}, {} bytes as {:?}",
        picture.width,
        picture.height,
        grabbed.raw.data.len(),
        grabbed.raw.encoding
    ))
}
