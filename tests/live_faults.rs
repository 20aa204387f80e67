//! Faults that happen without a frame, or after it: each was found on a running daemon once, and is tried
//! on one here.

mod mosquitto;
mod program;

use mosquitto::{Broker, Listener, free_port, wait_for};
use program::{Daemon, PICTURES, ROOT, config, folder, output, retinad};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Settings whose camera shows the person of the first demo picture again and again.
fn person(folder: &Path) -> String {
    let pictures = folder.join("person");
    std::fs::create_dir_all(&pictures).expect("a folder");
    std::fs::copy(Path::new(ROOT).join("examples/pictures/astronaut.jpg"), pictures.join("a.jpg"))
        .expect("copied");
    format!("[cameras.album]\nkind = \"replay\"\npath = \"{}\"\nfps = 5\nmin_hits = 1\n", pictures.display())
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("settings");
    assert!(text.contains(from), "{from:?} is not in {text}");
    std::fs::write(path, text.replace(from, to)).expect("written");
}

#[test]
fn a_person_is_not_in_view_any_more_once_detection_is_off() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let daemon = Daemon::start(&config(folder.path(), broker.port, &person(folder.path())));
    listener.until("n/album/person 1", 30);
    broker.publish(&["-t", "retinad/n/album/detect/set", "-m", "OFF"]);
    let from = Instant::now();
    listener.until("n/album/status disabled", 5);
    listener.until("n/album/person 0", 5);
    assert!(from.elapsed() > Duration::from_millis(1500), "not before off_delay_s: {:?}", from.elapsed());
    daemon.terminate();
}

#[test]
fn a_clean_stop_leaves_no_count_behind() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let daemon = Daemon::start(&config(folder.path(), broker.port, &person(folder.path())));
    let before = listener.until("n/album/person", 30);
    assert!(
        before.last().is_some_and(|line| line.ends_with("person 1")),
        "no count before it is known: {before:#?}"
    );
    daemon.terminate();
    let last = listener.until("retinad/n/status offline", 5);
    assert!(last.iter().any(|line| line.ends_with("n/album/person 0")), "{last:#?}");
}

#[test]
fn a_camera_of_truncated_or_huge_pictures_is_offline_with_the_reason() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let mut picture =
        std::fs::read(Path::new(ROOT).join("examples/pictures/astronaut.jpg")).expect("a picture");
    std::fs::write(folder.path().join("cut.jpg"), &picture[..picture.len() / 2]).expect("written");
    // Height and width stand five bytes after the start-of-frame marker.
    let frame = picture.windows(2).position(|marker| marker == [0xff, 0xc0]).expect("a baseline picture");
    picture[frame + 5..frame + 9]
        .copy_from_slice(&[60_000_u16.to_be_bytes(), 60_000_u16.to_be_bytes()].concat());
    std::fs::write(folder.path().join("huge.jpg"), picture).expect("written");
    let camera = |name: &str| {
        let script = format!("while :; do cat {}/{name}.jpg; sleep 0.1; done", folder.path().display());
        format!(
            "[cameras.{name}]\nkind = \"stream\"\ntimeout_s = 1\ncommand = [\"sh\", \"-c\", \"{script}\"]\n"
        )
    };
    let daemon = Daemon::start(&config(folder.path(), broker.port, &(camera("cut") + &camera("huge"))));
    for name in ["cut", "huge"] {
        daemon.logged(&format!("it counts as offline camera=\"{name}\""), 20);
    }
    let seen = listener.until("\"camera_damaged:cut\",\"camera_damaged:huge\"", 20);
    for name in ["cut", "huge"] {
        let last = seen.iter().rev().find(|line| line.contains(&format!("n/{name}/status")));
        assert!(last.is_some_and(|line| line.ends_with("offline")), "{seen:#?}");
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(daemon.log().matches("it counts as offline").count(), 2, "{}", daemon.log());
    daemon.terminate();
}

#[test]
fn a_slow_disk_delays_no_frame() {
    let Some(broker) = Broker::start("") else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        println!("SKIPPED: strace is not installed (apt-get install strace)");
        return;
    }
    let folder = folder();
    let listener = Listener::start(broker.port);
    let path = config(folder.path(), broker.port, &person(folder.path()));
    let mut command = Command::new("strace");
    command.current_dir(ROOT).args(["-D", "-f", "-qq", "-o", "/dev/null"]);
    command.args(["-e", "trace=fsync", "-e", "inject=fsync:delay_enter=3000000"]);
    command.arg(env!("CARGO_BIN_EXE_retinad")).args(["run", "--config", &path.display().to_string()]);
    let daemon = Daemon::of(command);
    listener.until("n/album/person 1", 60);
    let mut longest = Duration::ZERO;
    for set in 0..25 {
        if set % 5 == 0 {
            broker.publish(&["-t", "retinad/n/album/threshold/set", "-m", &format!("0.3{set}")]);
        }
        let from = Instant::now();
        listener.until("n/album/detections", 10);
        longest = longest.max(from.elapsed());
    }
    println!("longest gap between two frames: {longest:?}, frames come every 200 ms");
    // The disk takes 3 s for each file and each folder.
    assert!(longest < Duration::from_secs(1), "{longest:?} between two frames");
    let took = daemon.terminate();
    // One file and its folder take 6 s. Two are asked of the daemon; a process can only end once the kernel has
    // finished what it began on the real disk, which is busy while tests are built.
    assert!(took < Duration::from_secs(5), "{took:?} to the end, with a disk that takes longer");
}

#[test]
fn a_changed_base_is_in_force_at_once_and_the_old_topics_are_cleared() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let path = config(folder.path(), broker.port, &person(folder.path()));
    let daemon = Daemon::start(&path);
    listener.until("retinad/n/album/person 1", 30);
    replace(&path, "[mqtt]\n", "[mqtt]\nbase = \"house\"\n");
    daemon.signal("-HUP");
    daemon.signal("-HUP");
    listener.until("house/n/status online", 10);
    listener.until("house/n/album/detections", 10);
    wait_for(10, "old topics are gone", || {
        !broker.retained().iter().any(|line| line.starts_with("retinad/n/"))
    });
    assert!(broker.retained().contains(&"house/n/album/person 1".to_owned()));
    daemon.terminate();
}

#[test]
fn keys_that_need_a_restart_are_named_until_it_has_happened() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let path = config(folder.path(), broker.port, &person(folder.path()));
    let daemon = Daemon::start(&path);
    listener.until("\"restart_required\":[]", 30);
    replace(&path, "state\"", "other-state\"");
    for _ in 0..2 {
        daemon.signal("-HUP");
        daemon.logged("these keys need a restart keys=\"state_dir\"", 5);
    }
    listener.until("\"restart_required\":[\"state_dir\"]", 5);
    daemon.terminate();
    let daemon = Daemon::start(&path);
    listener.until("\"restart_required\":[]", 30);
    daemon.terminate();
}

#[test]
fn a_camera_that_vanished_while_the_daemon_was_dead_is_cleared() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let gone = person(folder.path()).replace("album", "gone");
    let path = config(folder.path(), broker.port, &format!("{}{gone}", person(folder.path())));
    let mut daemon = Daemon::start(&path);
    listener.until("n/gone/person 1", 30);
    wait_for(5, "the list is kept", || {
        std::fs::read_to_string(folder.path().join("state/retained.json"))
            .is_ok_and(|text| text.contains("n/gone/person"))
    });
    daemon.child.kill().expect("killed");
    daemon.child.wait().expect("dead");
    replace(&path, &gone, "");
    let daemon = Daemon::start(&path);
    assert!(broker.retained().contains(&"retinad/n/gone/person 1".to_owned()), "what a crash leaves behind");
    wait_for(20, "cleared", || !broker.retained().iter().any(|line| line.starts_with("retinad/n/gone/")));
    assert!(broker.retained().contains(&"retinad/n/album/person 1".to_owned()));
    daemon.terminate();
}

#[test]
fn cameras_are_added_removed_and_changed_while_the_others_go_on() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let stays = person(folder.path());
    let path = config(folder.path(), broker.port, &format!("{stays}{}", PICTURES.replace("album", "old")));
    let daemon = Daemon::start(&path);
    listener.until("n/old/all", 30);
    replace(&path, &PICTURES.replace("album", "old"), &PICTURES.replace("album", "new"));
    daemon.signal("-HUP");
    let seen = listener.until("n/new/all", 20);
    assert!(seen.iter().any(|line| line.ends_with("n/old/status ")), "cleared: {seen:#?}");
    assert!(!seen.iter().any(|line| line.contains("n/album/status")), "untouched: {seen:#?}");
    daemon.terminate();
}

#[test]
fn another_model_is_taken_without_a_restart_and_a_broken_one_is_not() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let model = folder.path().join("m.onnx");
    let shipped =
        std::fs::read(Path::new(ROOT).join("models/retinad-m-320-int8.onnx")).expect("the shipped model");
    std::fs::write(&model, &shipped).expect("written");
    let more = format!("[detector]\nmodel = \"{}\"\n{}", model.display(), person(folder.path()));
    let path = config(folder.path(), broker.port, &more);
    let daemon = Daemon::start(&path);
    listener.until("\"generation\":1}", 30);
    std::fs::write(&model, &shipped[..shipped.len() / 2]).expect("written");
    daemon.signal("-HUP");
    daemon.logged("model not changed; the one in use stays", 10);
    listener.until("\"generation\":1}", 5);
    // The same network under another name: another file, and so another generation.
    let mut other = shipped;
    let name = b"\"name\":\"retinad-m-320\"";
    let at = other.windows(name.len()).position(|window| window == name).expect("the manifest's name");
    other[at + 8..at + 15].copy_from_slice(b"another");
    std::fs::write(&model, &other).expect("written");
    daemon.signal("-HUP");
    daemon.logged("model changed", 10);
    listener.until("\"title\":\"another-m-320\"", 5);
    let judged = listener.until("\"generation\":2}", 10);
    assert!(judged.last().is_some_and(|line| line.contains("n/album/detections")), "{judged:#?}");
    daemon.terminate();
}

#[test]
fn settings_that_are_a_fifo_are_refused_and_the_daemon_goes_on() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let path = config(folder.path(), broker.port, &person(folder.path()));
    let daemon = Daemon::start(&path);
    listener.until("n/album/person 1", 30);
    std::fs::remove_file(&path).expect("removed");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    daemon.signal("-HUP");
    daemon.logged("settings not reloaded; the old ones stay", 5);
    listener.until("n/album/detections", 5);
    daemon.terminate();
}

#[test]
fn what_a_restart_may_mend_ends_with_a_code_that_systemd_tries_again() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("address").port();
    let path = folder.path().join("embedded.toml");
    std::fs::write(&path, format!("[mqtt]\nport = {port}\n{PICTURES}")).expect("written");
    let (code, _, error) = output(&["run", "--config", &path.display().to_string()]);
    assert_eq!(code, Some(71), "{error}");
    assert!(error.contains(&port.to_string()), "{error}");
}

#[test]
fn a_second_daemon_on_one_state_folder_says_so_and_ends() {
    let folder = folder();
    let path = config(folder.path(), free_port(), PICTURES);
    let daemon = Daemon::start(&path);
    daemon.logged("started", 20);
    let (code, _, error) = output(&["run", "--config", &path.display().to_string()]);
    assert_eq!(code, Some(71), "{error}");
    assert!(error.contains("another retinad uses it"), "{error}");
    daemon.terminate();
    let again = retinad(&["run", "--config", &path.display().to_string()]);
    let daemon = Daemon::of(again);
    daemon.logged("started", 20);
    daemon.terminate();
}

#[test]
fn a_changed_password_is_in_force_after_a_reload() {
    let folder = folder();
    let known = folder.path().join("passwords");
    let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&known).args(["pi", "right"]).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("SKIPPED: mosquitto_passwd is not installed (apt-get install mosquitto)");
        return;
    }
    let Some(broker) = Broker::start(&format!("password_file {}", known.display())) else { return };
    let secret = folder.path().join("secret");
    let keep = |password: &str| {
        std::fs::write(&secret, password).expect("written");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("0600");
    };
    keep("wrong");
    let path = config(folder.path(), broker.port, &person(folder.path()));
    let user = format!("[mqtt]\nusername = \"pi\"\npassword_file = \"{}\"\n", secret.display());
    replace(&path, "[mqtt]\n", &user);
    let daemon = Daemon::start(&path);
    daemon.logged("broker not reachable", 10);
    keep("right");
    daemon.signal("-HUP");
    daemon.logged("connected to the broker", 10);
    daemon.terminate();
}
