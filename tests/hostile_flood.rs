//! A broker that sends nothing but what nobody asked for. In a program of its own, because its memory is
//! measured.

mod log_lines;
mod scripted_broker;

use retinad::publish::{Deadlines, Publisher, PublisherOptions};
use scripted_broker::ScriptedBroker;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TOPICS: u64 = 240_000;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn of_240_000_foreign_topics_neither_memory_nor_log_remembers_one() {
    log_lines::start();
    let broker = ScriptedBroker::start(|peer, _| {
        // As the tested broker of before: 3.1.1, so that nothing may be left unsent.
        if !peer.welcome_old() {
            return;
        }
        peer.serve_until_online();
        let mut acknowledgements = peer.stream.try_clone().expect("a socket");
        std::thread::spawn(move || std::io::copy(&mut acknowledgements, &mut std::io::sink()));
        let mut burst = Vec::new();
        for number in 0..TOPICS {
            // Foreign trees, cameras that there are not, our own state, and payloads that are no command.
            let topic = match number % 4 {
                0 => format!("elsewhere/{number}/x"),
                1 => format!("retinad/flood/cam{number}/threshold/set"),
                2 => format!("retinad/flood/front/label{number}"),
                _ => "retinad/flood/front/threshold/set".to_owned(),
            };
            let message =
                peer.message(&topic, format!("payload {number}").as_bytes(), number % 3 == 0, Some(1));
            burst.extend_from_slice(&message);
            if burst.len() > 60_000 {
                peer.write(&burst);
                burst.clear();
            }
        }
        peer.write(&burst);
        std::thread::sleep(Duration::from_secs(60));
    });
    let options = PublisherOptions {
        host: "127.0.0.1".into(),
        port: broker.port,
        credentials: None,
        base: "retinad".into(),
        node: "flood".into(),
        cameras: vec![Arc::from("front")],
        home_assistant: "homeassistant".into(),
        hears_home_assistant: false,
        tls: None,
        deadlines: Deadlines::default(),
    };
    let publisher = Publisher::start(options, &crossbeam_channel::unbounded().0).expect("starts");
    let end = Instant::now() + Duration::from_secs(60);
    while !publisher.status().connected {
        assert!(Instant::now() < end, "connected");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (begun, before) = (Instant::now(), resident_kib());
    let mut most = before;
    while publisher.status().counted.received < TOPICS {
        assert!(Instant::now() < end, "{} of {TOPICS}", publisher.status().counted.received);
        most = most.max(resident_kib());
        std::thread::sleep(Duration::from_millis(5));
    }
    let (more, lines) = ((most - before) / 1024, log_lines::logged(""));
    println!("{TOPICS} topics in {:?}: {more} MiB more, {lines} lines", begun.elapsed());
    assert!(more <= 5, "{more} MiB more");
    assert!(lines <= 100, "{lines} lines");
    assert_eq!(publisher.status().counted.connects, 1);
}
