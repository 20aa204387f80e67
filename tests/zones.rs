//! What is told: labels, zones and masks with the real program and a real Mosquitto, and the page that explains
//! them.

mod mosquitto;
mod program;

use mosquitto::{Broker, Listener, wait_for};
use program::{Daemon, PICTURES, ROOT, config, folder, output};
use retinad::frame::{Encoding, Picture, RawFrame, Turn};
use std::path::Path;

const BEFORE: &str = "labels = [\"person\"]\nmin_hits = 1\n\
    [cameras.album.zones.floor]\npoints = [[0, 0], [1, 0], [1, 1], [0, 1]]\n\
    [cameras.album.masks.left]\nhides = \"picture\"\nmin_overlap = 1.0\n\
    points = [[0, 0], [0.25, 0], [0.25, 1], [0, 1]]\n\
    [samples]\nenabled = true\nper_day = 10000\ninterval_s = 1\n";

fn decoded(file: &Path) -> Picture {
    let data = std::fs::read(file).expect("a picture");
    let raw = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data };
    let mut picture = Picture::default();
    retinad::image::decode(&raw, &mut picture).expect("a JPEG");
    picture
}

/// Topics below the node that stand on the broker.
fn retained(broker: &Broker, topic: &str) -> bool {
    broker.retained().iter().any(|line| line.contains(&format!("retinad/n/{topic} ")))
}

#[test]
fn labels_zones_and_masks_hold_in_a_daemon_that_runs_on() {
    let folder = folder();
    let Some(broker) = Broker::start("") else { return };
    let listener = Listener::start(broker.port);
    let path = config(folder.path(), broker.port, &format!("{PICTURES}fps = 5\n{BEFORE}"));
    let daemon = Daemon::start(&path);
    listener.until("n/album/zone/floor/person 1", 60);
    assert!(retained(&broker, "album/person") && !retained(&broker, "album/cat"));
    let state = folder.path().join("state/samples");
    let pictures = || {
        let entries = std::fs::read_dir(&state).into_iter().flatten().flatten();
        let pictures = entries.map(|entry| entry.path());
        pictures.filter(|path| path.extension().is_some_and(|end| end == "jpg")).collect::<Vec<_>>()
    };
    wait_for(180, "a sample", || !pictures().is_empty());
    for path in pictures() {
        let picture = decoded(&path);
        let width = picture.width as usize;
        let left = |row: &[u8]| row[..3 * (width / 4 - 16)].iter().all(|&code| code < 8);
        assert!(picture.rgb.chunks_exact(3 * width).all(left), "{} is not black", path.display());
        assert!(picture.rgb.iter().any(|&code| code > 60), "{} is black all over", path.display());
    }
    // A slip of the pen changes nothing and is told.
    let text = |camera: &str| format!("{PICTURES}fps = 5\n{camera}");
    config(folder.path(), broker.port, &text("labels = [\"persn\"]\n"));
    daemon.signal("-HUP");
    daemon.logged("cameras.album.labels: the model has no label \"persn\"; the nearest is \"person\"", 20);
    assert!(retained(&broker, "album/person"));
    config(folder.path(), broker.port, &text("labels = [\"cat\"]\n"));
    daemon.signal("-HUP");
    wait_for(30, "the topics of what is told no more to be cleared", || {
        !retained(&broker, "album/person") && !retained(&broker, "album/zone/floor/person")
    });
    wait_for(30, "a count of cats", || retained(&broker, "album/cat"));
    let log = daemon.log();
    assert_eq!(log.matches("camera gives frames").count(), 1, "the camera ran on: {log}");
    daemon.terminate();
}

#[test]
fn a_label_that_the_model_lacks_ends_run_and_check_with_78_and_one_line() {
    let folder = folder();
    for (camera, says) in [
        (
            "labels = [\"Katze\"]\n",
            "cameras.album.labels: the model has no label \"Katze\"; the nearest is \"cat\"",
        ),
        (
            "[cameras.album.rules.persons]\nmin_size = 0.1\n",
            "cameras.album.rules.persons: the model has no label \"persons\"",
        ),
        (
            "[cameras.album.zones.person]\npoints = [[0, 0], [1, 0], [1, 1]]\n",
            "cameras.album.zones.person: \"person\" is a label of the model",
        ),
    ] {
        let path = config(folder.path(), mosquitto::free_port(), &format!("{PICTURES}{camera}"));
        for command in ["run", "check"] {
            let (code, _, stderr) = output(&[command, "--config", &path.display().to_string()]);
            assert_eq!(code, Some(78), "{command}: {stderr}");
            let told: Vec<&str> = stderr.lines().filter(|line| line.contains("album")).collect();
            assert!(told.len() == 1 && told[0].contains(says), "{command}: {stderr}");
        }
    }
}

#[test]
fn the_example_of_the_page_is_well_and_check_draws_it() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/zones.md")).expect("docs/zones.md");
    let example: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("    ["))
        .take_while(|line| line.starts_with("    ") || line.is_empty())
        .map(str::trim_start)
        .collect();
    let folder = folder();
    let path = folder.path().join("example.toml");
    let text = format!("[mqtt]\nport = {}\n{}\n", mosquitto::free_port(), example.join("\n"));
    std::fs::write(&path, text).expect("written");
    let drawings = folder.path().join("new/drawings");
    let at = |path: &Path| path.display().to_string();
    let (code, stdout, stderr) = output(&["check", "--config", &at(&path), "--draw", &at(&drawings)]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let drawing = drawings.join("front.jpg");
    assert!(stdout.contains(&format!("drawn: {}", at(&drawing))), "{stdout}");
    let picture = decoded(&drawing);
    // The middle of the mask is black.
    let (x, y) = (picture.width as usize * 86 / 100, picture.height as usize * 15 / 100);
    let at_mask = 3 * (y * picture.width as usize + x);
    assert!(picture.rgb[at_mask..at_mask + 3].iter().all(|&code| code < 8));
    std::fs::write(folder.path().join("file"), "").expect("written");
    let (code, _, stderr) =
        output(&["check", "--config", &at(&path), "--draw", &at(&folder.path().join("file"))]);
    assert!(
        code == Some(71) && stderr.lines().last().is_some_and(|line| line.contains("file: ")),
        "{stderr}"
    );
}
