//! `retinad mqtt clean` against a real Mosquitto: nothing of a node is left, nothing of others is touched, and a
//! daemon that would publish it all again is named.

mod mosquitto;
mod program;

use mosquitto::{Broker, Listener};
use program::{Daemon, PICTURES, config, folder, output, with_home_assistant};
use std::path::Path;

fn clean(config: &Path, more: &[&str]) -> (Option<i32>, String) {
    let config = config.display().to_string();
    let (code, said, complained) = output(&[&["mqtt", "clean", "--config", config.as_str()], more].concat());
    (code, said + &complained)
}

#[test]
fn a_node_leaves_nothing_and_the_others_keep_theirs() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let config = with_home_assistant(config(folder.path(), broker.port, PICTURES));
    let listener = Listener::start(broker.port);
    let daemon = Daemon::start(&config);
    listener.until("retinad/n/album/person 1", 30);
    let others =
        ["retinad/n_2/status", "retinad/m/status", "homeassistant/device/retinad_n__2/config", "x/y"];
    for topic in others {
        broker.publish(&["-r", "-t", topic, "-m", "theirs"]);
    }
    let (code, said) = clean(&config, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a retinad runs as n and would publish everything again; stop it first"), "{said}");
    daemon.terminate();
    let devices = "homeassistant/device/retinad_n_album/config";
    assert!(broker.retained().iter().any(|topic| topic.starts_with(devices)), "{:?}", broker.retained());
    // A command that somebody retained is cleared as well.
    broker.publish(&["-r", "-t", "retinad/n/album/detect/set", "-m", "OFF"]);
    let (code, said) = clean(&config, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("of n cleared") && said.contains("2 of them devices of Home Assistant"), "{said}");
    let mut left: Vec<String> = broker.retained();
    left.sort();
    let mut wanted: Vec<String> = others.iter().map(|topic| format!("{topic} theirs")).collect();
    wanted.sort();
    assert_eq!(left, wanted);
}

#[test]
fn a_node_that_is_gone_for_good_is_cleaned_from_another_machine() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let config = config(folder.path(), broker.port, PICTURES);
    for (topic, text) in [
        ("retinad/shed/status", "offline"),
        ("retinad/shed/door/person", "1"),
        ("homeassistant/device/retinad_shed/config", "{}"),
        ("homeassistant/device/retinad_shed_door/config", "{}"),
        ("retinad/n/status", "offline"),
    ] {
        broker.publish(&["-r", "-t", topic, "-m", text]);
    }
    let (code, said) = clean(&config, &["--node", "shed"]);
    assert!(code == Some(0) && said.starts_with("4 topics of shed cleared"), "{said}");
    assert_eq!(broker.retained(), ["retinad/n/status offline"]);
    let (code, said) = clean(&config, &["--node", "shed"]);
    assert!(code == Some(0) && said.starts_with("0 topics of shed cleared"), "{said}");
    for wrong in ["", "+", "a/b", "#", "Shed"] {
        let (code, said) = clean(&config, &["--node", wrong]);
        assert!(code == Some(2) && said.contains("lower-case letters"), "{wrong}: {said}");
    }
}

#[test]
fn what_the_broker_does_not_take_and_a_broker_that_is_not_there_are_named() {
    let folder = folder();
    let acl = folder.path().join("acl");
    std::fs::write(&acl, "topic read retinad/#\ntopic write retinad/n/status\n").expect("written");
    let Some(broker) = Broker::start(&format!("acl_file {}", acl.display())) else { return };
    let config = config(folder.path(), broker.port, PICTURES);
    let (code, said) = clean(&config, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("did not take") && said.contains("(NotAuthorized)"), "{said}");
    let port = broker.kill();
    let (code, said) = clean(&config, &[]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.lines().count() == 1, "{said}");
}
