use super::*;
use crate::publish::broker::packet::Acknowledge;

fn connect(router: &mut Router, id: &str, will: Option<(&str, &str)>) -> Key {
    let will = will.map(|(topic, payload)| Will {
        topic: topic.into(),
        payload: payload.into(),
        qos: Qos::AtLeastOnce,
        retain: true,
    });
    let connect = Connect { client_id: id.into(), clean_session: true, keep_alive: 0, will };
    let key = router.connect(connect, Rc::default()).expect("accepted");
    assert_eq!(sent(router, key), [0x20, 2, 0, 0], "CONNACK");
    key
}

/// What would be written to the client now, large payloads included.
fn sent(router: &mut Router, key: Key) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut buffer = Vec::new();
        let large = router.fill(key, &mut buffer);
        if buffer.is_empty() {
            return all;
        }
        all.extend(buffer);
        all.extend(large.iter().flat_map(|message| message.payload()));
    }
}

fn publish(
    router: &mut Router,
    key: Key,
    topic: &str,
    payload: &[u8],
    retain: bool,
    acknowledge: Acknowledge,
) {
    let publish = Publish { topic: topic.into(), body: payload.to_vec(), payload_at: 0, retain, acknowledge };
    router.handle(key, Packet::Publish(publish)).expect("allowed");
}

fn subscribe(router: &mut Router, key: Key, filter: &str, qos: Qos) -> Vec<u8> {
    router.handle(key, Packet::Subscribe(9, vec![(filter.into(), qos)])).expect("allowed");
    sent(router, key)
}

/// PUBLISH as a client gets it: first byte, topic, id of QoS 1, payload.
fn message(first: u8, topic: &str, id: &[u8], payload: &str) -> Vec<u8> {
    let length = u8::try_from(2 + topic.len() + id.len() + payload.len()).expect("short");
    let mut bytes = vec![first, length, 0, u8::try_from(topic.len()).expect("short")];
    bytes.extend(topic.as_bytes());
    bytes.extend(id);
    bytes.extend(payload.as_bytes());
    bytes
}

#[test]
fn a_subscriber_gets_at_most_the_qos_it_asked_for_and_that_was_sent() {
    let mut router = Router::default();
    let (from, low, high) =
        (connect(&mut router, "a", None), connect(&mut router, "b", None), connect(&mut router, "c", None));
    assert_eq!(subscribe(&mut router, low, "t/+", Qos::AtMostOnce), [0x90, 3, 0, 9, 0]);
    assert_eq!(subscribe(&mut router, high, "t/#", Qos::AtLeastOnce), [0x90, 3, 0, 9, 1]);
    publish(&mut router, from, "t/x", b"1", false, Acknowledge::PubAck(77));
    assert_eq!(sent(&mut router, from), [0x40, 2, 0, 77]);
    assert_eq!(sent(&mut router, low), message(0x30, "t/x", &[], "1"));
    assert_eq!(sent(&mut router, high), message(0x32, "t/x", &[0, 1], "1"));
    publish(&mut router, from, "t/x", b"2", false, Acknowledge::Nothing);
    assert_eq!(sent(&mut router, high), message(0x30, "t/x", &[], "2"));
    assert_eq!(sent(&mut router, from), [0_u8; 0], "not subscribed, nothing to acknowledge");
}

#[test]
fn overlapping_filters_deliver_once_with_the_higher_qos() {
    let mut router = Router::default();
    let key = connect(&mut router, "a", None);
    subscribe(&mut router, key, "t/#", Qos::AtMostOnce);
    subscribe(&mut router, key, "t/x", Qos::AtLeastOnce);
    publish(&mut router, key, "t/x", b"1", false, Acknowledge::PubAck(1));
    let expected = [&[0x40, 2, 0, 1][..], &message(0x32, "t/x", &[0, 1], "1")].concat();
    assert_eq!(sent(&mut router, key), expected);
    router.handle(key, Packet::Unsubscribe(2, vec!["t/x".into(), "t/#".into()])).expect("allowed");
    publish(&mut router, key, "t/x", b"2", false, Acknowledge::Nothing);
    assert_eq!(sent(&mut router, key), [0xb0, 2, 0, 2]);
}

#[test]
fn retained_messages_come_after_suback_with_the_flag_and_live_ones_without() {
    let mut router = Router::default();
    let (from, to) = (connect(&mut router, "a", None), connect(&mut router, "b", None));
    publish(&mut router, from, "t/x", b"old", true, Acknowledge::Nothing);
    let got = subscribe(&mut router, to, "t/x", Qos::AtLeastOnce);
    assert_eq!(got, [&[0x90, 3, 0, 9, 1][..], &message(0x31, "t/x", &[], "old")].concat());
    publish(&mut router, from, "t/x", b"new", true, Acknowledge::Nothing);
    assert_eq!(sent(&mut router, to), message(0x30, "t/x", &[], "new"));
    // Subscribing again is asking again.
    let got = subscribe(&mut router, to, "t/x", Qos::AtLeastOnce);
    assert_eq!(got, [&[0x90, 3, 0, 9, 1][..], &message(0x31, "t/x", &[], "new")].concat());
}

#[test]
fn a_will_is_published_unless_the_client_took_leave() {
    for (why, published) in [
        (End::Disconnected, false),
        (End::Closed, true),
        (End::Silent, true),
        (End::Violation(Violation::Length), true),
    ] {
        let mut router = Router::default();
        let (mortal, heir) =
            (connect(&mut router, "a", Some(("a/status", "gone"))), connect(&mut router, "b", None));
        subscribe(&mut router, heir, "#", Qos::AtMostOnce);
        router.end(mortal, why);
        let expected = if published { message(0x30, "a/status", &[], "gone") } else { Vec::new() };
        assert_eq!(sent(&mut router, heir), expected, "{why}");
        assert_eq!(router.handle(mortal, Packet::PingReq), Err(End::Closed), "{why}");
    }
}

#[test]
fn a_second_client_with_the_same_id_ends_the_first() {
    let mut router = Router::default();
    let calls: Rc<Calls> = Rc::default();
    let will =
        Will { topic: "a/status".into(), payload: b"gone".to_vec(), qos: Qos::AtMostOnce, retain: false };
    let hello = |will| Connect { client_id: "a".into(), clean_session: true, keep_alive: 0, will };
    let first = router.connect(hello(Some(will)), Rc::clone(&calls)).expect("accepted");
    let listener = connect(&mut router, "b", None);
    subscribe(&mut router, listener, "#", Qos::AtMostOnce);
    let second = router.connect(hello(None), Rc::default()).expect("accepted");
    assert_eq!(sent(&mut router, listener), message(0x30, "a/status", &[], "gone"));
    assert_eq!(router.handle(first, Packet::PingReq), Err(End::Closed));
    // The connection of the first hears of its own end late; that must not end the second.
    router.end(first, End::TakenOver);
    assert_eq!(router.handle(second, Packet::PingReq), Ok(()));
}

#[test]
fn qos_2_is_passed_on_once_until_its_id_is_released() {
    let mut router = Router::default();
    let key = connect(&mut router, "a", None);
    subscribe(&mut router, key, "t", Qos::AtLeastOnce);
    publish(&mut router, key, "t", b"1", false, Acknowledge::PubRec(5));
    publish(&mut router, key, "t", b"1", false, Acknowledge::PubRec(5));
    let expected = [&[0x50, 2, 0, 5, 0x50, 2, 0, 5][..], &message(0x32, "t", &[0, 1], "1")].concat();
    assert_eq!(sent(&mut router, key), expected, "acknowledged twice, delivered once");
    router.handle(key, Packet::PubRel(5)).expect("allowed");
    assert_eq!(sent(&mut router, key), [0x70, 2, 0, 5]);
    publish(&mut router, key, "t", b"2", false, Acknowledge::PubRec(5));
    let got = sent(&mut router, key);
    assert!(got.ends_with(b"2"), "{got:?}");
    let unreleased = (6..300).find_map(|id| {
        let publish = Publish {
            topic: "u".into(),
            body: vec![],
            payload_at: 0,
            retain: false,
            acknowledge: Acknowledge::PubRec(id),
        };
        router.handle(key, Packet::Publish(publish)).err()
    });
    assert_eq!(unreleased, Some(End::Violation(Violation::NotReleased { limit: NOT_RELEASED })));
}

#[test]
fn filters_that_cannot_be_served_are_refused_each_on_its_own() {
    let mut router = Router::default();
    let key = connect(&mut router, "a", None);
    let filters = [("t", Qos::AtLeastOnce), ("a#", Qos::AtMostOnce), ("$share/g/t", Qos::AtMostOnce)];
    let filters = filters.map(|(filter, qos)| (filter.to_owned(), qos)).to_vec();
    router.handle(key, Packet::Subscribe(1, filters)).expect("allowed");
    assert_eq!(sent(&mut router, key), [0x90, 5, 0, 1, 1, 0x80, 0x80]);
    let many = (0..FILTERS).map(|i| (format!("f/{i}"), Qos::AtMostOnce)).collect();
    router.handle(key, Packet::Subscribe(2, many)).expect("allowed");
    let got = sent(&mut router, key);
    assert_eq!((got[got.len() - 2], got[got.len() - 1]), (0, 0x80), "one was there before");
    assert_eq!(
        subscribe(&mut router, key, "t", Qos::AtMostOnce),
        [0x90, 3, 0, 9, 0],
        "one that is there may change"
    );
}

#[test]
fn clients_are_bounded_and_an_empty_id_needs_a_clean_session() {
    let mut router = Router::default();
    let hello =
        |id: &str, clean_session| Connect { client_id: id.into(), clean_session, keep_alive: 0, will: None };
    assert_eq!(router.connect(hello("", false), Rc::default()), Err(Refusal::IdRejected));
    let keys: Vec<Key> =
        (0..CLIENTS).map(|_| router.connect(hello("", true), Rc::default()).expect("accepted")).collect();
    assert_eq!(router.connect(hello("one more", true), Rc::default()), Err(Refusal::Unavailable));
    router.end(keys[0], End::Closed);
    assert!(router.connect(hello("one more", true), Rc::default()).is_ok());
    assert!(router.connect(hello("one more", true), Rc::default()).is_ok(), "who takes over needs no room");
}

#[test]
fn one_shot_clients_leave_nothing() {
    let mut router = Router::default();
    for i in 0..1000 {
        let key = connect(&mut router, &format!("shot-{i}"), None);
        subscribe(&mut router, key, "#", Qos::AtLeastOnce);
        publish(&mut router, key, "t", b"1", false, Acknowledge::PubAck(1));
        router.end(key, if i % 2 == 0 { End::Closed } else { End::Disconnected });
    }
    assert!(router.clients.is_empty() && router.by_id.is_empty() && router.due.is_empty());
    assert_eq!(router.memory.bytes(), 0);
}

#[test]
fn who_reads_nothing_is_disconnected_and_the_others_get_everything() {
    let mut router = Router::default();
    let (from, deaf, good) =
        (connect(&mut router, "a", None), connect(&mut router, "b", None), connect(&mut router, "c", None));
    subscribe(&mut router, deaf, "t", Qos::AtLeastOnce);
    subscribe(&mut router, good, "t", Qos::AtMostOnce);
    let payload = vec![b'x'; 1 << 20];
    let mut received = 0;
    for i in 1..40 {
        publish(&mut router, from, "t", &payload, false, Acknowledge::PubAck(i));
        received += sent(&mut router, good).len();
        assert!(router.memory.bytes() <= MESSAGE_BYTES);
    }
    assert!(received > 39 * payload.len());
    assert!(!router.clients.contains_key(&deaf) && router.clients.contains_key(&from));
    assert_eq!(router.memory.bytes(), 0);
}

/// Each queue is within its own bound, but all of them together would not be.
#[test]
fn all_messages_together_are_bounded() {
    let mut router = Router::default();
    let from = connect(&mut router, "from", None);
    let deaf: Vec<Key> = (0..8).map(|i| connect(&mut router, &format!("deaf-{i}"), None)).collect();
    for (i, key) in deaf.iter().enumerate() {
        subscribe(&mut router, *key, &format!("t/{i}"), Qos::AtLeastOnce);
    }
    for round in 0..5 {
        for i in 0..deaf.len() {
            let acknowledge = Acknowledge::PubAck(1 + round);
            publish(&mut router, from, &format!("t/{i}"), &vec![b'x'; 1 << 20], false, acknowledge);
            assert!(router.memory.bytes() <= MESSAGE_BYTES);
        }
    }
    assert!(router.clients.contains_key(&from), "the publisher reads");
    assert!(router.clients.len() < 1 + deaf.len());
}
