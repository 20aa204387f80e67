//! The link and the outbox against a real Mosquitto.

mod mosquitto;

use mosquitto::{Broker, Listener, free_port, wait_for};
use retinad::publish::{Change, Publisher, PublisherOptions};
use std::time::Duration;

fn publisher(port: u16, node: &str, credentials: Option<(&str, &str)>) -> Publisher {
    Publisher::start(PublisherOptions {
        host: "127.0.0.1".into(),
        port,
        credentials: credentials.map(|(user, password)| (user.to_owned(), password.to_owned())),
        base: "retinad".into(),
        node: node.into(),
        cameras: vec!["front".into()],
    })
    .expect("starts")
}

fn connected(publisher: &Publisher, seconds: u64) {
    wait_for(seconds, "connected", || publisher.stats().connected);
}

#[test]
fn online_comes_last_and_offline_ends_it() {
    let Some(broker) = Broker::start("") else { return };
    let listener = Listener::start(broker.port);
    let publisher = publisher(broker.port, "n", None);
    let outbox = publisher.outbox();
    outbox.state("bridge/info", "{}");
    outbox.state("front/status", "online");
    outbox.state("front/person", "0");
    connected(&publisher, 5);
    outbox.event("front/events", "done");
    let lines = listener.until("front/events done", 5);
    let at = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {lines:#?}"));
    let online = at("retinad/n/status online");
    for before in ["bridge/info {}", "front/status online", "front/person 0"] {
        assert!(at(before) < online, "{before}: {lines:#?}");
    }
    assert_eq!(publisher.shutdown(Duration::from_secs(2)), 0);
    listener.until("retinad/n/status offline", 5);
    let retained = Listener::start(broker.port).until("n/status", 5);
    assert!(retained.contains(&"1 retinad/n/status offline".to_owned()), "{retained:#?}");
}

#[test]
fn a_killed_daemon_is_offline_by_its_will() {
    let Some(broker) = Broker::start("") else { return };
    let listener = Listener::start(broker.port);
    // A second session with the same id makes the broker drop the first, which is what a crash looks like from there.
    let first = publisher(broker.port, "n", None);
    connected(&first, 5);
    let second = publisher(broker.port, "n", None);
    listener.until("retinad/n/status offline", 5);
    drop((first, second));
}

#[test]
fn no_event_is_lost_when_the_broker_is_killed_and_restarted() {
    let Some(broker) = Broker::start("") else { return };
    let publisher = publisher(broker.port, "n", None);
    let outbox = publisher.outbox();
    outbox.state("front/person", "3");
    connected(&publisher, 5);
    // Some are on their way when the broker dies, the rest waits.
    for i in 0..100 {
        outbox.event("front/events", format!("before-{i}"));
    }
    wait_for(5, "acknowledged", || publisher.stats().outbox == 0);
    let port = broker.kill();
    for i in 0..200 {
        outbox.event("front/events", format!("event-{i:03}."));
    }
    wait_for(5, "noticed", || !publisher.stats().connected);
    let _broker = Broker::start_on(port, "").expect("again");
    let listener = Listener::start(port);
    let lines = listener.until("event-199.", 15);
    let arrived: Vec<&String> = lines.iter().filter(|line| line.contains("/events event-")).collect();
    let mut expected = 0;
    for line in &arrived {
        // At least once, in order.
        if line.contains(&format!("event-{expected:03}.")) {
            expected += 1;
        }
    }
    assert_eq!(expected, 200, "{arrived:#?}");
    assert!(lines.iter().any(|line| line.contains("front/person 3")), "retained state is replayed");
    assert_eq!(publisher.stats().dropped.events, 0);
}

#[test]
fn a_broker_absent_at_start_is_found_later() {
    let port = free_port();
    let publisher = publisher(port, "n", None);
    publisher.outbox().state("front/person", "1");
    publisher.outbox().event("front/events", "early");
    wait_for(5, "first attempt", || !publisher.stats().connected);
    let Some(_broker) = Broker::start_on(port, "") else { return };
    let listener = Listener::start(port);
    listener.until("front/events early", 10);
}

#[test]
fn a_wrong_password_is_retried_and_a_right_one_works() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("passwords");
    match std::process::Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args(["pi", "right"]).status() {
        Ok(status) if status.success() => {}
        _ => {
            println!("SKIPPED: mosquitto_passwd is not installed");
            return;
        }
    }
    let Some(broker) = Broker::start(&format!("password_file {}", file.display())) else { return };
    let wrong = publisher(broker.port, "wrong", Some(("pi", "wrong")));
    let right = publisher(broker.port, "right", Some(("pi", "right")));
    connected(&right, 5);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(wrong.stats().connects, 0);
    wrong.outbox().event("front/events", "kept");
    assert_eq!(wrong.stats().outbox, 1, "still alive, the event waits");
}

#[test]
fn an_oversize_message_is_refused_and_the_link_stays_up() {
    let Some(broker) = Broker::start("") else { return };
    let publisher = publisher(broker.port, "n", None);
    connected(&publisher, 5);
    let listener = Listener::start(broker.port);
    publisher.outbox().event("front/events", vec![b'x'; 2_000_000]);
    publisher.outbox().event("front/events", "after");
    listener.until("front/events after", 5);
    let stats = publisher.stats();
    assert_eq!((stats.oversize, stats.connects), (1, 1));
}

#[test]
fn sets_are_checked_and_answered() {
    let Some(broker) = Broker::start("") else { return };
    // Before the daemon comes: a retained command, the usual cause of ghost switching.
    broker.publish(&["-r", "-t", "retinad/n/front/detect/set", "-m", "OFF"]);
    let publisher = publisher(broker.port, "n", None);
    publisher.outbox().state("front/threshold/state", "0.50");
    connected(&publisher, 5);
    wait_for(5, "retained set refused", || publisher.stats().refused == 1);
    let listener = Listener::start(broker.port);
    listener.until("threshold/state 0.50", 5);
    for (payload, refused) in [("ten", 2), ("1.5", 3), ("nan", 4)] {
        broker.publish(&["-q", "1", "-t", "retinad/n/front/threshold/set", "-m", payload]);
        listener.until("0 retinad/n/front/threshold/state 0.50", 5);
        assert_eq!(publisher.stats().refused, refused, "{payload}");
    }
    let large = broker.file("large", &vec![b'9'; 10_000_000]);
    broker.publish(&["-q", "1", "-t", "retinad/n/front/threshold/set", "-f", &large.display().to_string()]);
    wait_for(10, "10 MB refused", || publisher.stats().refused == 5);
    assert!(publisher.commands().is_empty());
    broker.publish(&["-q", "1", "-t", "retinad/n/front/threshold/set", "-m", "0.55"]);
    let command = publisher.commands().recv_timeout(Duration::from_secs(5)).expect("accepted");
    assert_eq!((command.camera, command.change), (0, Change::Threshold(0.55)));
    assert_eq!(publisher.stats().connects, 1, "the link stayed up throughout");
}

#[test]
fn a_second_daemon_with_the_same_client_id_is_suspected() {
    let Some(broker) = Broker::start("") else { return };
    let first = publisher(broker.port, "twin", None);
    let second = publisher(broker.port, "twin", None);
    wait_for(40, "suspected", || first.stats().suspect_duplicate || second.stats().suspect_duplicate);
}
