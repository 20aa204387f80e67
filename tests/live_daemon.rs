//! The program itself: started, signalled, fed with good and bad things, heard through a real Mosquitto.

mod mosquitto;
mod program;

use mosquitto::{Broker, Listener, wait_for};
use program::{Daemon, PICTURES, ROOT, coming_and_going, config, folder, output};
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn a_person_and_a_cat_are_found_and_the_end_is_quick_and_told() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let more = coming_and_going(folder.path(), "album");
    let daemon = Daemon::start(&config(folder.path(), broker.port, &more));
    let mut seen = listener.until("n/album/cat 1", 30);
    seen.extend(listener.until("\"label\":\"person\"", 30));
    assert!(
        seen.iter().any(|l| l.contains("n/album/detections") && l.contains("\"label\":\"cat\"")),
        "{seen:#?}"
    );
    assert!(seen.iter().any(|l| l.contains("n/bridge/info") && l.contains("\"album\"")), "{seen:#?}");
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let last = listener.until("retinad/n/status offline", 5);
    assert!(last.iter().any(|line| line.contains("n/album/status offline")), "{last:#?}");
}

#[test]
fn a_bad_camera_takes_no_other_down() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let more = format!(
        "{PICTURES}fps = 5\n[cameras.gone]\nkind = \"v4l2\"\ndevice = \"4242\"\n[cameras.mute]\nkind = \"stream\"\ntimeout_s = 1\ncommand = [\"sleep\", \"600\"]\n"
    );
    let daemon = Daemon::start(&config(folder.path(), broker.port, &more));
    listener.until("n/album/detections", 30);
    daemon.logged("/dev/video4242: no such device", 10);
    daemon.logged("no frame for 1 s", 10);
    for (camera, status) in [("album", "online"), ("gone", "offline"), ("mute", "offline")] {
        // A listener each: retained messages come in no order.
        Listener::start(broker.port).until(&format!("1 retinad/n/{camera}/status {status}"), 5);
    }
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn reload_takes_good_settings_and_leaves_bad_ones() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let path = config(folder.path(), broker.port, &format!("{PICTURES}fps = 2\n"));
    let daemon = Daemon::start(&path);
    listener.until("album/threshold/state 0.50", 30);
    let text = std::fs::read_to_string(&path).expect("settings");
    std::fs::write(&path, format!("{text}[detector]\nmin_score = 7\n")).expect("written");
    daemon.signal("-HUP");
    daemon.logged("detector.min_score = 7 is not allowed: 0.05 to 0.99", 5);
    std::fs::write(&path, format!("{text}[detector]\nmin_score = 0.7\n")).expect("written");
    daemon.signal("-HUP");
    listener.until("album/threshold/state 0.70", 5);
    daemon.terminate();
}

#[test]
fn sets_outlive_a_restart() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let path = config(folder.path(), broker.port, &format!("{PICTURES}fps = 2\n"));
    let first = Daemon::start(&path);
    let listener = Listener::start(broker.port);
    listener.until("n/status online", 30);
    broker.publish(&["-t", "retinad/n/album/threshold/set", "-m", "0.66"]);
    listener.until("album/threshold/state 0.66", 5);
    first.terminate();
    let listener = Listener::start(broker.port);
    let second = Daemon::start(&path);
    // Not the broker's retained copy (1), but the new daemon's own word (0).
    listener.until("0 retinad/n/album/threshold/state 0.66", 30);
    second.terminate();
}

#[test]
fn the_embedded_broker_serves_watch() {
    let folder = folder();
    let port = mosquitto::free_port();
    let path = folder.path().join("retinad.toml");
    let camera = coming_and_going(folder.path(), "album");
    std::fs::write(&path, format!("[mqtt]\nport = {port}\n{camera}")).expect("written");
    let (daemon, from) = (Daemon::start(&path), Instant::now());
    let (code, out, error) = output(&["watch", "--config", &path.display().to_string(), "--count", "8"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("person") && out.contains("cat"), "{out}");
    assert!(out.contains(&format!("connected to 127.0.0.1:{port}")), "{out}");
    assert!(out.contains(" is online") && out.contains("album      is online"), "{out}");
    let events = ["watch", "--events", "--config", &path.display().to_string(), "--count", "12"];
    let (code, out, error) = output(&events);
    assert_eq!(code, Some(0), "{error}");
    let event = |words: &str| out.lines().any(|line| line.contains("album") && line.contains(words));
    assert!(event(" appears (0") && event(" is gone after "), "{out}");
    let (code, out, error) = output(&[&events[..4], &["--json", "--count", "1"]].concat());
    let json: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}"));
    assert_eq!((code, json["node"].is_string(), json["id"].is_string()), (Some(0), true, true), "{out}");
    // Without a state folder, too, it rests between frames.
    let (used, passed) = (daemon.cpu_time(), from.elapsed());
    assert!(used < passed / 2, "{used:?} of CPU time in {passed:?}");
    daemon.terminate();
}

#[test]
fn a_replay_run_once_ends_by_itself() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let path = config(folder.path(), broker.port, &format!("{PICTURES}fps = 2\nrepeat = false\n"));
    let (code, _, error) = output(&["run", "--once", "--config", &path.display().to_string()]);
    assert_eq!(code, Some(0), "{error}");
    let seen = listener.until("retinad/n/status offline", 10);
    let frames = seen.iter().filter(|line| line.contains("n/album/detections")).count();
    assert_eq!(frames, 4, "{seen:#?}");
}

#[test]
fn model_files_that_cannot_be_used_end_with_78_and_one_line() {
    let folder = folder();
    let good =
        std::fs::read(Path::new(ROOT).join("models/retinad-m-320-int8.onnx")).expect("the shipped model");
    let tampered = |from: &str, to: &str| {
        let mut bytes = good.clone();
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect(from);
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    let cases: [(&str, Option<Vec<u8>>, &str); 6] = [
        ("absent.onnx", None, "No such file"),
        ("text.onnx", Some(b"this is no model".to_vec()), "ONNX"),
        ("empty.onnx", Some(Vec::new()), "ONNX"),
        ("half.onnx", Some(good[..good.len() / 2].to_vec()), "ONNX"),
        ("bare.onnx", Some(tampered("retinad.manifest", "retinad.manifesX")), "manifest"),
        ("moved.onnx", Some(tampered("\"offset\":0.0", "\"offset\":0.5")), "anchors"),
    ];
    for (name, bytes, word) in cases {
        let path = folder.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).expect("written");
        }
        // A camera that would be noticed if it were opened.
        let mark = folder.path().join("opened");
        let settings = folder.path().join("retinad.toml");
        let camera =
            format!("[cameras.a]\nkind = \"stream\"\ncommand = [\"touch\", \"{}\"]\n", mark.display());
        std::fs::write(&settings, camera).expect("written");
        let (code, _, error) = output(&[
            "run",
            "--config",
            &settings.display().to_string(),
            "--model",
            &path.display().to_string(),
        ]);
        assert_eq!(code, Some(78), "{name}: {error}");
        assert!(error.contains(name) && error.contains(word), "{name}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{name}: {error}");
        assert!(!mark.exists(), "{name}: a camera was opened");
    }
}

#[test]
fn pictures_that_are_none_are_named_and_the_others_done() {
    let folder = folder();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path.display().to_string()
    };
    let png = |width: u32, height: u32| {
        // Header only: no decoder should get as far as the missing pixels of a picture that is too large.
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
        bytes.extend([8, 2, 0, 0, 0]);
        bytes.extend(crc(&bytes[12..29]).to_be_bytes());
        bytes.extend(b"\0\0\0\0IEND\xae\x42\x60\x82");
        bytes
    };
    let good = std::fs::read(Path::new(ROOT).join("examples/pictures/chelsea.jpg")).expect("a picture");
    let bad = [
        write("text.jpg", b"no picture"),
        write("huge.png", &png(20_000, 20_000)),
        write("tiny.png", &png(1, 1)),
        write("cut.jpg", &good[..good.len() / 2]),
        folder.path().join("absent.jpg").display().to_string(),
        // The decoder panics on it.
        format!("{ROOT}/tests/faults/pictures/progressive_two_components.jpg"),
    ];
    let fine = write("cat.jpg", &good);
    let mut arguments = vec!["detect"];
    arguments.extend(bad.iter().map(String::as_str));
    arguments.push(&fine);
    let (code, out, error) = output(&arguments);
    assert_eq!(code, Some(1), "{error}");
    for name in &bad {
        assert!(error.lines().any(|line| line.contains(name)), "{name}: {error}");
    }
    assert!(out.contains("\"cat\"") && out.lines().count() == 1, "{out}");
}

#[test]
fn check_tries_cameras_and_broker() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let path = config(folder.path(), broker.port, PICTURES);
    let (code, out, error) = output(&["check", "--config", &path.display().to_string()]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("camera  ok  album") && out.contains("broker  ok"), "{out}");
    let port = broker.kill();
    wait_for(5, "broker gone", || std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    let path = config(folder.path(), port, "[cameras.gone]\ndevice = \"4242\"\n");
    let (code, out, error) = output(&["check", "--config", &path.display().to_string()]);
    assert_eq!(code, Some(69), "{out}");
    assert!(
        out.contains("/dev/video4242: no such device") && error.contains("camera gone, broker"),
        "{out}{error}"
    );
}

#[test]
fn children_do_not_outlive_a_daemon_that_is_killed() {
    let folder = folder();
    let pid = folder.path().join("pid");
    let more = format!(
        "[cameras.a]\nkind = \"stream\"\ncommand = [\"sh\", \"-c\", \"echo $$ > {}; exec sleep 600\"]\n",
        pid.display()
    );
    let daemon = Daemon::start(&config(folder.path(), mosquitto::free_port(), &more));
    let number = || std::fs::read_to_string(&pid).ok().filter(|text| text.ends_with('\n'));
    wait_for(20, "the child", || number().is_some());
    let child = Path::new("/proc").join(number().expect("written").trim());
    assert!(child.exists());
    daemon.signal("-KILL");
    wait_for(5, "the child's end", || !child.exists());
}

#[test]
fn check_tells_of_a_taken_port_and_a_state_folder_that_cannot_be() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let path = folder.path().join("retinad.toml");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let text = format!(
        "state_dir = \"{}\"\n[mqtt]\nport = {}\n{PICTURES}",
        file.join("state").display(),
        taken.local_addr().expect("bound").port()
    );
    std::fs::write(&path, text).expect("written");
    let (code, out, error) = output(&["check", "--config", &path.display().to_string()]);
    assert_eq!(code, Some(71), "{out}{error}");
    assert!(out.contains("broker  --") && out.contains("is not free") && out.contains("mqtt.host"), "{out}");
    assert!(out.contains("state   --") && error.contains("broker, state"), "{out}{error}");
    assert!(!out.contains("[mqtt]"), "settings are shown only where they are asked for: {out}");
}

/// CRC-32 of a PNG chunk (ISO 3309).
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}
