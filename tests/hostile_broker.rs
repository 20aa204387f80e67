//! The link against brokers that are hostile or merely odd: one test for each behaviour.

mod log_lines;
mod scripted_broker;

use log_lines::logged;
use retinad::contract::{Change, Kind, Topic};
use retinad::publish::{Deadlines, LinkNews, Publisher, PublisherOptions};
use scripted_broker::{PUBLISH, Peer, SUBSCRIBE, ScriptedBroker, packet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Deadlines of a test: long enough for a loaded machine.
const SUBSCRIBED: Duration = Duration::from_millis(700);
const ACKNOWLEDGED: Duration = Duration::from_millis(1500);

fn publisher(broker: &ScriptedBroker, node: &str) -> Publisher {
    log_lines::start();
    let options = PublisherOptions {
        host: "127.0.0.1".into(),
        port: broker.port,
        credentials: None,
        base: "retinad".into(),
        node: node.into(),
        cameras: vec![Arc::from("front")],
        home_assistant: "homeassistant".into(),
        hears_home_assistant: false,
        tls: None,
        deadlines: Deadlines {
            subscribed: SUBSCRIBED,
            acknowledged: ACKNOWLEDGED,
            keep_alive: Duration::from_secs(1),
        },
    };
    let publisher = Publisher::start(options, &crossbeam_channel::unbounded().0).expect("starts");
    publisher.publish(front(Kind::ThresholdState), b"0.50".to_vec());
    publisher
}

fn front(kind: Kind) -> Topic {
    Topic::of_camera(kind, &Arc::from("front"))
}

fn wait_for(seconds: u64, what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !ready() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn command(publisher: &Publisher, seconds: u64) -> Option<Change> {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        match publisher.news().recv_deadline(until).ok()? {
            LinkNews::Command(command) => return Some(command.change),
            LinkNews::Request(_) | LinkNews::HomeAssistant { .. } | LinkNews::Changed => {}
        }
    }
}

#[test]
fn never_answers_subscribe_and_is_published_to_all_the_same() {
    let broker = ScriptedBroker::start(|peer, _| {
        peer.welcome();
        peer.serve_while(|_, packet| packet.kind() != SUBSCRIBE);
    });
    let publisher = publisher(&broker, "mute");
    wait_for(5, "online", || broker.seen.count("publish retinad/mute/status online") == 1);
    let status = publisher.status();
    assert!(status.connected);
    assert!(status.refused_filters.iter().any(|filter| &**filter == "retinad/mute/front/detect/set"));
    assert!(logged("does not acknowledge subscriptions") >= 1);
}

#[test]
fn answers_subscribe_late_and_commands_count_as_subscribed_then() {
    let broker = ScriptedBroker::start(|peer, _| {
        peer.welcome();
        peer.serve_while(|_, packet| {
            if packet.kind() == SUBSCRIBE {
                std::thread::sleep(2 * SUBSCRIBED);
            }
            true
        });
    });
    let publisher = publisher(&broker, "late");
    wait_for(5, "connected", || publisher.status().connected);
    wait_for(5, "subscribed", || publisher.status().refused_filters.is_empty());
    assert_eq!(publisher.status().counted.connects, 1);
}

#[test]
fn never_answers_publish_and_is_left_for_a_new_connection_without_a_loss() {
    let broker = ScriptedBroker::start(|peer, number| {
        peer.welcome();
        peer.serve_while(move |_, packet| number > 0 || packet.kind() != PUBLISH);
    });
    let publisher = publisher(&broker, "deaf");
    publisher.publish(front(Kind::Events), b"kept".to_vec());
    wait_for(15, "acknowledged", || {
        publisher.status().counted.connects == 2 && publisher.status().counted.outbox == 0
    });
    assert!(broker.seen.count("events kept") >= 2, "{:#?}", broker.seen.lines());
    assert!(logged("the broker acknowledged a message not within") >= 1);
}

#[test]
fn refuses_some_filters_and_commands_on_the_others_arrive() {
    for old in [false, true] {
        let broker = ScriptedBroker::start(move |peer, _| {
            if !(if old { peer.welcome_old() } else { peer.welcome() }) {
                return;
            }
            while let Some(packet) = peer.read() {
                if packet.kind() == SUBSCRIBE {
                    peer.acknowledge_subscription(
                        &packet,
                        |filter| if filter.contains("detect") { 0x80 } else { 1 },
                    );
                    let set = peer.message("retinad/some/front/threshold/set", b"0.7", false, Some(1));
                    peer.write(&set);
                } else {
                    peer.answer(&packet);
                }
            }
        });
        let publisher = publisher(&broker, "some");
        assert_eq!(command(&publisher, 5), Some(Change::Threshold(0.7)));
        wait_for(5, "connected", || publisher.status().connected);
        let refused: Vec<String> = publisher.status().refused_filters.iter().map(|f| f.to_string()).collect();
        assert_eq!(refused, ["retinad/some/front/detect/set"]);
    }
}

#[test]
fn closes_at_once_after_connack_thrice_and_is_no_duplicate() {
    for old in [false, true] {
        let broker = ScriptedBroker::start(move |peer, number| {
            let welcome = if old { peer.welcome_old() } else { peer.welcome() };
            // The first connection of an old broker only ends in the other version.
            if welcome && number >= 3 + usize::from(old) {
                peer.serve();
            }
        });
        let begun = Instant::now();
        let publisher = publisher(&broker, "thrice");
        wait_for(12, "online", || publisher.status().connected);
        assert!(!publisher.status().counted.suspect_duplicate, "after {:?}", begun.elapsed());
    }
    assert_eq!(logged("client id in use") - logged("twice-taken"), 0);
}

#[test]
fn closes_once_online_five_times_and_is_back_each_time_within_five_seconds() {
    let broker = ScriptedBroker::start(|peer, number| {
        peer.welcome();
        if number < 5 { peer.serve_until_online() } else { peer.serve() }
    });
    let publisher = publisher(&broker, "five");
    let mut last = Instant::now();
    for session in 1..=6 {
        wait_for(5, "online again", || publisher.status().counted.connects == session);
        println!("session {session} after {:?}", last.elapsed());
        last = Instant::now();
    }
    assert!(!publisher.status().counted.suspect_duplicate);
}

#[test]
fn closes_on_large_messages_which_are_named_and_left_out() {
    let broker = ScriptedBroker::start(|peer, _| {
        if !peer.welcome_old() {
            return;
        }
        while let Some(packet) = peer.read() {
            if packet.body.len() > 2000 {
                return;
            }
            peer.note(&packet);
            peer.answer(&packet);
        }
    });
    let publisher = publisher(&broker, "large");
    publisher.publish(Topic::of_node(Kind::Info), vec![b'i'; 3000]);
    publisher.publish(front(Kind::Events), b"before".to_vec());
    publisher.publish(front(Kind::Events), vec![b'x'; 3000]);
    publisher.publish(front(Kind::Events), b"after".to_vec());
    // Neither the topic nor the event that it will not have keeps the others back.
    wait_for(30, "online and what came after", || {
        broker.seen.count("publish retinad/large/status online") >= 1
            && broker.seen.count("events after") >= 1
    });
    assert!(broker.seen.count("events before") >= 1);
    assert!(!publisher.status().counted.suspect_duplicate);
    assert_eq!(logged("retinad/large/bridge/info"), 1);
    assert_eq!(logged("retinad/large/front/events"), 1);
}

#[test]
fn names_its_largest_packet_and_gets_none_that_is_larger() {
    // Maximum packet size 1000, receive maximum 1.
    let broker = ScriptedBroker::start(|peer, _| {
        peer.welcome_with(&[0x27, 0, 0, 3, 0xe8, 0x21, 0, 1]);
        while let Some(packet) = peer.read() {
            assert!(packet.body.len() < 1000);
            peer.note(&packet);
            if packet.kind() == PUBLISH {
                // Whoever sends a second one before the first is acknowledged breaks the protocol.
                std::thread::sleep(Duration::from_millis(50));
                let _ = peer.stream.set_nonblocking(true);
                let second = std::io::Read::read(&mut peer.stream, &mut [0]);
                let _ = peer.stream.set_nonblocking(false);
                if second.is_ok() {
                    return;
                }
            }
            peer.answer(&packet);
        }
    });
    let publisher = publisher(&broker, "small");
    publisher.publish(front(Kind::Events), vec![b'x'; 3000]);
    publisher.publish(front(Kind::Events), b"after".to_vec());
    wait_for(8, "the small one", || broker.seen.count("events after") == 1);
    wait_for(5, "all acknowledged", || publisher.status().counted.outbox == 0);
    let counted = publisher.status().counted;
    assert_eq!((counted.connects, counted.oversize), (1, 1));
    assert!(logged("message larger than the broker takes") >= 1);
}

#[test]
fn keeps_nothing_and_acknowledges_nothing_by_its_own_word_and_is_lived_with() {
    // Retain not available, maximum QoS 0.
    let broker = ScriptedBroker::start(|peer, _| {
        peer.welcome_with(&[0x25, 0, 0x24, 0]);
        while let Some(packet) = peer.read() {
            if packet.kind() == PUBLISH && packet.first & 7 != 0 {
                return;
            }
            peer.note(&packet);
            peer.answer(&packet);
        }
    });
    let publisher = publisher(&broker, "poor");
    publisher.publish(front(Kind::Events), b"event".to_vec());
    wait_for(5, "event", || broker.seen.count("events event") == 1);
    wait_for(5, "nothing waits", || publisher.status().counted.outbox == 0);
    assert_eq!(publisher.status().counted.connects, 1);
}

#[test]
fn sends_a_retained_message_of_13_megabytes_on_a_command_topic_and_silences_nobody() {
    for old in [false, true] {
        let broker = ScriptedBroker::start(move |peer, _| {
            if !(if old { peer.welcome_old() } else { peer.welcome() }) {
                return;
            }
            while let Some(packet) = peer.read() {
                peer.note(&packet);
                peer.answer(&packet);
                if packet.kind() == SUBSCRIBE {
                    // Sent though MQTT 5 said that neither kept nor such large messages are wanted.
                    let topic = "retinad/huge/front/threshold/set";
                    let large = peer.message(topic, &vec![b'9'; 13 << 20], true, Some(7));
                    let small = peer.message(topic, b"0.66", false, Some(8));
                    peer.write(&large);
                    peer.write(&small);
                }
            }
        });
        let publisher = publisher(&broker, "huge");
        assert_eq!(command(&publisher, 10), Some(Change::Threshold(0.66)));
        wait_for(5, "online", || broker.seen.count("publish retinad/huge/status online") == 1);
        let counted = publisher.status().counted;
        assert_eq!((counted.connects, counted.refused), (1, 1));
    }
    assert_eq!(logged("retinad/huge/front/threshold/set"), 2, "one line each");
}

#[test]
fn speaks_only_3_1_1_in_three_ways_and_is_asked_in_it_at_once_the_next_time() {
    type Refusal = fn(&mut Peer) -> bool;
    let ways: [(&str, Refusal); 3] = [
        ("says-1", |peer| peer.write(&packet(0x20, &[0, 1]))),
        ("says-84", |peer| peer.write(&packet(0x20, &[0, 0x84, 0]))),
        ("closes", |_| true),
    ];
    for (node, refuse) in ways {
        let broker = ScriptedBroker::start(move |peer, number| {
            peer.read_connect();
            if peer.version == 5 {
                refuse(peer);
                return;
            }
            peer.write(&packet(0x20, &[0, 0]));
            if number < 2 { peer.serve_until_online() } else { peer.serve() }
        });
        let publisher = publisher(&broker, node);
        wait_for(10, "online twice", || publisher.status().counted.connects == 2);
        let connects: Vec<String> =
            broker.seen.lines().into_iter().filter(|line| line.starts_with("connect")).collect();
        assert_eq!(connects, ["connect 5", "connect 4", "connect 4"], "{node}");
    }
}

#[test]
fn says_twice_that_another_client_came_and_only_then_is_it_a_duplicate() {
    // DISCONNECT, session taken over, with a reason string.
    let bye = packet(0xe0, b"\x8e\x0e\x1f\x00\x0btwice-taken");
    let broker = ScriptedBroker::start(move |peer, _| {
        peer.welcome();
        peer.serve_until_online();
        peer.write(&bye);
    });
    let publisher = publisher(&broker, "taken");
    wait_for(5, "first session", || publisher.status().counted.connects == 1);
    std::thread::sleep(Duration::from_millis(400));
    assert!(!publisher.status().counted.suspect_duplicate, "once may be somebody who looked in");
    wait_for(10, "suspected", || publisher.status().counted.suspect_duplicate);
    assert_eq!(publisher.status().counted.connects, 2);
    assert!(logged("SessionTakenOver (twice-taken)") >= 1);
}

#[test]
fn ends_the_session_with_a_reason_that_the_log_quotes_without_its_control_characters() {
    let bye = packet(0xe0, b"\x8b\x0c\x1f\x00\x09moon\x1b[2Jx");
    let broker = ScriptedBroker::start(move |peer, number| {
        peer.welcome();
        if number > 0 {
            return peer.serve();
        }
        peer.serve_until_online();
        peer.write(&bye);
    });
    let publisher = publisher(&broker, "bye");
    wait_for(10, "again", || publisher.status().counted.connects == 2);
    assert!(logged("ServerShuttingDown (moon?[2Jx)") >= 1);
}

#[test]
fn refuses_a_message_and_the_next_ones_are_sent() {
    let broker = ScriptedBroker::start(|peer, _| {
        peer.welcome();
        peer.serve_while(|peer, asked| {
            if asked.kind() != PUBLISH {
                return true;
            }
            let (topic, id, _) = peer.published(asked);
            if !topic.ends_with("threshold/state") {
                return true;
            }
            // PUBACK: not authorised.
            let [high, low] = id.expect("QoS 1");
            peer.write(&packet(0x40, &[high, low, 0x87, 0]));
            false
        });
    });
    let publisher = publisher(&broker, "acl");
    wait_for(5, "online", || broker.seen.count("publish retinad/acl/status online") == 1);
    wait_for(5, "nothing waits", || publisher.status().counted.outbox == 0);
    assert_eq!(publisher.status().counted.connects, 1);
    assert_eq!(logged("retinad/acl/front/threshold/state"), 1);
}

/// What a broker may send after CONNACK that is no MQTT, or none for a client.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("length", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("type-0", vec![0x00, 0x00]),
        ("type-15", vec![0xf0, 0x02, 0, 0]),
        ("http", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("connect", packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x0a\x00\x01x")),
        ("second-connack", packet(0x20, &[0, 0, 0])),
        ("huge-suback", packet(0x90, &vec![1; 300_000])),
        ("qos-2", packet(0x34, b"\x00\x01a\x00\x01\x00x")),
        ("qos-3", packet(0x36, b"\x00\x01a\x00\x01\x00x")),
        ("short-publish", packet(0x30, &[0xff, 0xff, b'a'])),
        ("zeros", vec![0; 5000]),
        ("ones", vec![0xff; 5000]),
    ]
}

#[test]
fn sends_nonsense_and_is_left_and_met_again() {
    let publishers: Vec<_> = nonsense()
        .into_iter()
        .map(|(node, bytes)| {
            let broker = ScriptedBroker::start(move |peer, number| {
                peer.welcome();
                if number > 0 {
                    return peer.serve();
                }
                peer.write(&bytes);
                // The connection stays open: it is for the client to leave.
                while peer.read().is_some() {}
            });
            let publisher = publisher(&broker, node);
            (node, broker, publisher)
        })
        .collect();
    for (node, broker, publisher) in &publishers {
        wait_for(15, node, || broker.seen.count("status online") >= 1 && publisher.status().connected);
    }
}

#[test]
fn answers_connect_with_nonsense_and_is_said_to_be_no_broker() {
    for (node, bytes) in
        nonsense().into_iter().filter(|(name, _)| !["second-connack", "zeros"].contains(name))
    {
        let broker = ScriptedBroker::start(move |peer, number| {
            peer.read_connect();
            if number == 0 {
                peer.write(&bytes);
                while peer.read().is_some() {}
                return;
            }
            peer.write(&packet(0x20, &[0, 0, 0]));
            peer.serve();
        });
        let publisher = publisher(&broker, node);
        wait_for(10, node, || publisher.status().connected);
        assert_eq!(publisher.status().counted.connects, 1, "{node}");
    }
}

#[test]
fn sends_half_a_packet_and_then_nothing_and_is_left() {
    let broker = ScriptedBroker::start(|peer, number| {
        peer.welcome();
        if number > 0 {
            return peer.serve();
        }
        let half = peer.message("retinad/half/front/detect/set", &[b'x'; 500], false, None);
        peer.write(&half[..200]);
        while peer.read().is_some() {}
    });
    let publisher = publisher(&broker, "half");
    wait_for(15, "again", || broker.seen.count("status online") == 1);
    drop(publisher);
}

#[test]
fn trickles_good_packets_byte_by_byte_and_is_understood() {
    let broker = ScriptedBroker::start(|peer, _| {
        peer.welcome();
        let set = peer.message("retinad/slow/front/threshold/set", b"0.61", false, Some(3));
        let mut sent = false;
        while let Some(packet) = peer.read() {
            peer.note(&packet);
            peer.answer(&packet);
            if packet.kind() == SUBSCRIBE && !std::mem::replace(&mut sent, true) {
                for byte in &set {
                    peer.write(&[*byte]);
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    });
    let publisher = publisher(&broker, "slow");
    assert_eq!(command(&publisher, 10), Some(Change::Threshold(0.61)));
    assert_eq!(publisher.status().counted.connects, 1);
}

#[test]
fn acknowledges_what_nobody_sent_and_is_ignored() {
    let broker = ScriptedBroker::start(|peer, _| {
        peer.welcome();
        for id in [0u16, 1, 77, u16::MAX] {
            peer.write(&packet(0x40, &id.to_be_bytes()));
            let [high, low] = id.to_be_bytes();
            peer.write(&packet(0x90, &[high, low.wrapping_add(9), 0, 1]));
        }
        peer.serve();
    });
    let publisher = publisher(&broker, "ghost");
    wait_for(5, "online", || broker.seen.count("status online") == 1);
    wait_for(5, "nothing waits", || publisher.status().counted.outbox == 0);
}

#[test]
fn never_answers_connect_and_the_next_attempt_comes_after_ten_seconds() {
    let broker = ScriptedBroker::start(|peer, number| {
        if number > 0 {
            peer.welcome();
            return peer.serve();
        }
        while peer.read().is_some() {}
    });
    let publisher = publisher(&broker, "silent");
    wait_for(20, "online", || publisher.status().connected);
    assert!(logged("no answer in 10 s") >= 1);
}
