//! The motion gate in the real program, with a real Mosquitto: a still scene costs little and its objects stay, and
//! a change is seen at once.

mod mosquitto;
mod program;

use mosquitto::{Broker, Listener, wait_for};
use program::{Daemon, ROOT, config, folder};
use serde_json::Value;
use std::path::Path;

/// The gate of a camera that shows one picture over and over. No look is due by itself within this test.
const GATE: &str = "timeout_s = 5\nmotion = true\nmotion_force_s = 60\nmin_hits = 1\n";

/// Puts this demo picture before the camera, as a whole file at once.
fn show(scene: &Path, picture: &str) {
    let from = Path::new(ROOT).join("examples/pictures").join(picture);
    std::fs::copy(from, scene.join("next.jpg")).expect("copied");
    std::fs::rename(scene.join("next.jpg"), scene.join("scene.jpg")).expect("renamed");
}

/// The share of frames that were not looked at, as the next health message has it.
fn unchanged_share(listener: &Listener, seen: &mut Vec<String>) -> Option<f64> {
    seen.extend(listener.until("n/bridge/health {", 30));
    let (_, payload) = seen.last()?.split_once("health ")?;
    let health: Value = serde_json::from_str(payload).expect("JSON");
    health["cameras"]["still"]["unchanged_share"].as_f64()
}

#[test]
fn a_still_scene_is_hardly_looked_at_its_objects_stay_and_a_change_is_seen_at_once() {
    let folder = folder();
    let Some(broker) = Broker::start("") else { return };
    let listener = Listener::start(broker.port);
    show(folder.path(), "astronaut.jpg");
    let script = format!("while :; do cat {}/scene.jpg; sleep 0.1; done", folder.path().display());
    let camera =
        format!("[cameras.still]\nkind = \"stream\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\n{GATE}");
    let daemon =
        Daemon::start(&config(folder.path(), broker.port, &format!("{camera}[health]\ninterval_s = 10\n")));
    listener.until("n/still/person 1", 60);
    let mut seen = Vec::new();
    // The first message still counts the frames before the gate knew the scene.
    unchanged_share(&listener, &mut seen);
    let shares = [(); 2].map(|()| unchanged_share(&listener, &mut seen).expect("a share"));
    assert!(shares.iter().all(|share| *share > 0.9), "{shares:?}");
    assert!(!seen.iter().any(|line| line.contains("n/still/person 0")), "the person stays: {seen:#?}");
    show(folder.path(), "chelsea.jpg");
    // All of the picture is another one, as when a light is switched: it is looked at, and nothing moved.
    listener.until("n/still/cat 1", 20);
    wait_for(10, "the person to be gone", || {
        broker.retained().iter().any(|line| line.contains("n/still/person 0"))
    });
    daemon.terminate();
}
