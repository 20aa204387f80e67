//! `retinad check` against a real Mosquitto: what `run` would be refused is told, and no daemon is disturbed;
//! and what `watch` says where nothing passes the threshold.

mod mosquitto;
mod program;

use mosquitto::{Broker, Listener};
use program::{Daemon, PICTURES, ROOT, config, folder, output, retinad, with_home_assistant};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// What `check` says of the broker, with the line after it, and its exit code.
fn checked(config: &std::path::Path) -> (Option<i32>, String) {
    let (code, said, _) = output(&["check", "--config", &config.display().to_string()]);
    let lines: Vec<&str> = said.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("broker")).unwrap_or_else(|| panic!("{said}"));
    (code, lines[at..].iter().take(3).copied().collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_broker_that_grants_all_is_well_and_nothing_is_left_behind() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let (code, said) = checked(&config(folder.path(), broker.port, PICTURES));
    assert!(
        said.contains("ok") && said.contains("as retinad-n: publishing and 5 subscriptions granted"),
        "{said}"
    );
    assert_eq!(code, Some(0), "{said}");
    broker.publish(&["-t", "end", "-m", "of test"]);
    let heard = listener.until("end", 5);
    let lies: Vec<_> = heard.iter().filter(|line| line.contains("online")).collect();
    assert!(lies.is_empty(), "{heard:?}");
    // Whether other topics are granted is asked without a message there.
    let known = ["/status", "/set", "/request/info", "end"];
    let topic = |line: &str| line.split(' ').nth(1).unwrap_or_default().to_owned();
    let others: Vec<_> =
        heard.iter().filter(|line| !known.iter().any(|end| topic(line).ends_with(end))).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(broker.retained(), Vec::<String>::new());
}

#[test]
fn rights_that_are_missing_are_named() {
    let topics = "retinad/n";
    for (rights, wanted) in [
        ("topic read retinad/#", format!("publishing to {topics}/status (NotAuthorized)")),
        (
            "topic write retinad/#",
            format!("reading {topics}/album/detect/set (subscription granted, but nothing"),
        ),
        ("topic readwrite other/#", format!("publishing to {topics}/status (NotAuthorized)")),
        ("topic readwrite retinad/n/+", format!("publishing to {topics}/album/status (NotAuthorized)")),
        ("topic readwrite retinad/n/+", format!("publishing to {topics}/bridge/info (NotAuthorized)")),
        (
            "topic readwrite retinad/n/#\ntopic write homeassistant/device/+/config\ntopic deny retinad/n/bridge/info",
            format!("does not grant retinad-n: publishing to {topics}/bridge/info (NotAuthorized)\n"),
        ),
        (
            "topic readwrite retinad/n/#\ntopic write homeassistant/device/+/config\ntopic deny retinad/n/+/detections",
            format!("does not grant retinad-n: publishing to {topics}/album/detections (NotAuthorized)\n"),
        ),
        (
            "topic readwrite retinad/n/#",
            "does not grant retinad-n: publishing to homeassistant/device/retinad_n/config (NotAuthorized)\n"
                .into(),
        ),
    ] {
        let folder = folder();
        let acl = folder.path().join("acl");
        std::fs::write(&acl, format!("{rights}\n")).expect("written");
        let Some(broker) = Broker::start(&format!("acl_file {}", acl.display())) else { return };
        let path = with_home_assistant(config(folder.path(), broker.port, PICTURES));
        let (code, said) = checked(&path);
        assert!(said.contains(&wanted), "{rights}: {said}");
        assert!(
            said.contains("does not grant retinad-n") && said.contains("topic readwrite retinad/n/#"),
            "{said}"
        );
        assert_eq!(code, Some(69), "{said}");
    }
}

#[test]
fn a_daemon_that_runs_stays_connected() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let config = config(folder.path(), broker.port, PICTURES);
    let daemon = Daemon::start(&config);
    let listener = Listener::start(broker.port);
    listener.until("retinad/n/album/detections", 20);
    for known_by in ["state folder", "status"] {
        let (code, said) = checked(&config);
        assert!(said.contains("as retinad-n-check-"), "{known_by}: {said}");
        assert!(said.contains("a retinad runs as this node"), "{known_by}: {said}");
        assert_eq!(code, Some(0), "{known_by}: {said}");
        // Another state folder: as seen from another machine.
        let text = std::fs::read_to_string(&config).expect("settings");
        std::fs::write(&config, text.replace("/state\"", "/elsewhere\"")).expect("written");
    }
    broker.publish(&["-t", "end", "-m", "of test"]);
    let heard = listener.until("end", 5);
    assert!(!heard.iter().any(|line| line.contains("offline")), "{heard:?}");
    let log = daemon.log();
    assert_eq!(log.matches("connected to the broker").count(), 1, "{log}");
    assert!(!log.contains("WARN"), "{log}");
    daemon.terminate();
}

#[test]
fn watch_says_the_best_score_where_none_passes() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let more = format!("[detector]\nmin_score = 0.99\n[health]\ninterval_s = 10\n{PICTURES}");
    let config = config(folder.path(), broker.port, &more);
    let daemon = Daemon::start(&config);
    let mut command = retinad(&["watch", "--config", &config.display().to_string()]);
    let mut watch = command.stdout(Stdio::piped()).spawn().expect("starts");
    let lines = BufReader::new(watch.stdout.take().expect("piped")).lines().map_while(Result::ok);
    // Detections come without end, health every ten seconds.
    let seen: Vec<String> =
        lines.take(3000).take_while(|line| !line.contains("the best score below")).collect();
    let _ = watch.kill();
    let _ = watch.wait();
    assert!(seen.len() < 3000, "{seen:#?}");
    assert!(seen.iter().any(|line| line.contains("album") && line.contains("nothing  ")), "{seen:#?}");
    daemon.terminate();
}

#[test]
fn check_shows_where_the_time_of_a_frame_goes() {
    let folder = folder();
    let config = config(folder.path(), 1, PICTURES);
    let (_, said, _) = output(&["check", "--config", &config.display().to_string()]);
    let line = said.lines().find(|line| line.contains(" a frame on ")).unwrap_or_else(|| panic!("{said}"));
    let (all, parts) = line.split_once(" a frame on ").expect("found by it");
    let all: f64 = all.trim().trim_end_matches(" ms").parse().expect("milliseconds");
    let parts: Vec<(&str, f64)> = parts
        .split_once(": ")
        .expect("parts")
        .1
        .split(", ")
        .map(|part| part.trim_end_matches(" ms").rsplit_once(' ').expect("a name and a time"))
        .map(|(name, time)| (name, time.parse().expect("milliseconds")))
        .collect();
    assert_eq!(parts[0].0, "convolutions", "the largest part comes first: {line}");
    assert!(parts[0].1 > 0.0 && parts.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{line}");
    // Each is rounded to a tenth of a millisecond.
    let sum: f64 = parts.iter().map(|(_, time)| time).sum();
    assert!((sum - all).abs() <= 0.05 * (parts.len() + 2) as f64, "{line}");
}

/// The access list of docs/mqtt.md.
fn documented_access_list() -> String {
    let pages = std::fs::read_to_string(format!("{ROOT}/docs/mqtt.md")).expect("docs/mqtt.md");
    let chapter = pages.split("## Access list for Mosquitto").nth(1).expect("the chapter");
    chapter.split("```").nth(1).expect("the list").trim().to_owned() + "\n"
}

#[test]
fn the_access_list_of_the_manual_is_enough_for_check_and_run() {
    let folder = folder();
    let (acl, users) = (folder.path().join("acl"), folder.path().join("users"));
    std::fs::write(&users, "").expect("written");
    let password = folder.path().join("password");
    std::fs::write(&password, "geheim\n").expect("written");
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).expect("set");
    for user in ["pi-porch", "homeassistant"] {
        let made = Command::new("mosquitto_passwd").arg("-b").arg(&users).args([user, "geheim"]).output();
        let Ok(made) = made else {
            println!("SKIPPED: mosquitto_passwd is not installed (apt-get install mosquitto)");
            return;
        };
        assert!(made.status.success(), "{made:?}");
    }
    let list = documented_access_list();
    let start = |list: &str| {
        std::fs::write(&acl, list).expect("written");
        Broker::start(&format!("password_file {}\nacl_file {}", users.display(), acl.display()))
    };
    let settings = |port| {
        let login = format!("username = \"pi-porch\"\npassword_file = \"{}\"\n", password.display());
        let path = config(folder.path(), port, &(login + PICTURES));
        let text =
            std::fs::read_to_string(&path).expect("settings").replace("node = \"n\"", "node = \"pi-porch\"");
        std::fs::write(&path, text).expect("written");
        path
    };
    // `bridge/info` is read only where another node seems to have our name, so nothing misses it here.
    for (left_out, missing) in [
        ("topic write retinad/pi-porch/#", "publishing to retinad/pi-porch/status (NotAuthorized)"),
        ("topic read retinad/pi-porch/+/+/set", "reading retinad/pi-porch/album/detect/set"),
        ("topic read retinad/pi-porch/bridge/request/#", "reading retinad/pi-porch/bridge/request/info"),
    ] {
        let Some(broker) = start(&list.replacen(&format!("{left_out}\n"), "", 1)) else { return };
        let (code, said) = checked(&settings(broker.port));
        assert!(list.contains(left_out) && said.contains(missing), "without {left_out}: {said}");
        assert_eq!(code, Some(69), "without {left_out}: {said}");
    }
    let Some(broker) = start(&list) else { return };
    let settings = settings(broker.port);
    let (code, said) = checked(&settings);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("publishing and 5 subscriptions granted"), "{said}");
    // What is tried is what runs: the daemon is online, and another user's command reaches it.
    let daemon = Daemon::start(&settings);
    daemon.logged("connected to the broker", 20);
    let as_home = ["-u", "homeassistant", "-P", "geheim", "-q", "1"];
    broker.publish(&[&as_home[..], &["-t", "retinad/pi-porch/album/threshold/set", "-m", "0.7"]].concat());
    daemon.logged("threshold set", 10);
    assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
    daemon.terminate();
}
