use super::*;
use crate::publish::broker::message::Memory;

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// CONNECT's body: protocol name and level, flags, keep-alive of 60 s, then `fields`.
fn connect_body(protocol: &str, level: u8, flags: u8, fields: &[&str]) -> Vec<u8> {
    let mut body = text(protocol);
    body.extend([level, flags, 0, 60]);
    body.extend(fields.iter().flat_map(|field| text(field)));
    body
}

#[test]
fn connect_is_read_with_will_and_credentials() {
    let body = connect_body("MQTT", 4, 0b1110_1110, &["id", "n/status", "offline", "user", "password"]);
    let Ok(Hello::Connect(connect)) = hello(0x10, &body) else { panic!("{:?}", hello(0x10, &body)) };
    let will =
        Will { topic: "n/status".into(), payload: b"offline".to_vec(), qos: Qos::AtLeastOnce, retain: true };
    assert_eq!(
        connect,
        Connect { client_id: "id".into(), clean_session: true, keep_alive: 60, will: Some(will) }
    );
}

#[test]
fn other_versions_get_an_answer_in_their_own_form() {
    // MQTT 5 has properties after the keep-alive: nothing beyond the level may be read.
    for (protocol, level, answer) in [
        ("MQTT", 5, &[0x20, 3, 0, 0x84, 0][..]),
        ("MQTT", 6, &[0x20, 2, 0, 1]),
        ("MQTT", 3, &[0x20, 2, 0, 1]),
        ("MQIsdp", 3, &[0x20, 2, 0, 1]),
    ] {
        let body = connect_body(protocol, level, 2, &[]);
        assert_eq!(hello(0x10, &body), Ok(Hello::OtherVersion { level, answer }), "{protocol} {level}");
    }
}

#[test]
fn malformed_connects_are_refused() {
    let good = ["id"];
    for (case, body, expected) in [
        ("reserved flag", connect_body("MQTT", 4, 3, &good), Violation::Flags { kind: 1 }),
        ("will QoS without will", connect_body("MQTT", 4, 0b1010, &good), Violation::Flags { kind: 1 }),
        (
            "password without user",
            connect_body("MQTT", 4, 0b0100_0010, &["id", "pw"]),
            Violation::Flags { kind: 1 },
        ),
        ("will QoS 3", connect_body("MQTT", 4, 0b1_1110, &["id", "t", "m"]), Violation::Qos),
        ("will topic with wildcard", connect_body("MQTT", 4, 0b110, &["id", "a/#", "m"]), Violation::Topic),
        ("zero byte in id", connect_body("MQTT", 4, 2, &["a\0b"]), Violation::Text),
        ("no id", connect_body("MQTT", 4, 2, &[]), Violation::Short),
        ("more than it says", connect_body("MQTT", 4, 2, &["id", "more"]), Violation::Long),
        ("HTTP", b"T / HTTP/1.1\r\n".to_vec(), Violation::Short),
    ] {
        assert_eq!(hello(0x10, &body), Err(expected), "{case}");
    }
    assert_eq!(hello(0x30, &[]), Err(Violation::Unexpected { kind: 3 }));
    assert_eq!(hello(0x11, &connect_body("MQTT", 4, 2, &good)), Err(Violation::Flags { kind: 1 }));
}

#[test]
fn publish_is_read_for_each_qos() {
    let with_id = [&text("a/b")[..], &[0, 7], b"payload"].concat();
    let without = [&text("a/b")[..], b"payload"].concat();
    for (first, body, acknowledge, retain) in [
        (0x30, &without, Acknowledge::Nothing, false),
        (0x31, &without, Acknowledge::Nothing, true),
        (0x32, &with_id, Acknowledge::PubAck(7), false),
        (0x3a, &with_id, Acknowledge::PubAck(7), false),
        (0x34, &with_id, Acknowledge::PubRec(7), false),
    ] {
        let Ok(Packet::Publish(publish)) = read(first, body.clone()) else { panic!("{first:#x}") };
        assert_eq!((publish.acknowledge, publish.retain), (acknowledge, retain), "{first:#x}");
        assert_eq!(&publish.body[publish.payload_at..], b"payload", "{first:#x}");
    }
    let empty = read(0x30, text("a"));
    assert!(matches!(&empty, Ok(Packet::Publish(p)) if p.payload_at == p.body.len()), "{empty:?}");
}

#[test]
fn malformed_packets_are_refused() {
    let subscribe = |qos: u8| [&[0, 1][..], &text("a"), &[qos]].concat();
    for (case, first, body, expected) in [
        ("QoS 3", 0x36, [&text("a")[..], &[0, 1]].concat(), Violation::Qos),
        ("id 0", 0x32, [&text("a")[..], &[0, 0]].concat(), Violation::PacketId),
        ("no id", 0x32, text("a"), Violation::Short),
        ("again at QoS 0", 0x38, text("a"), Violation::Flags { kind: 3 }),
        ("wildcard", 0x30, text("a/+"), Violation::Topic),
        ("no topic", 0x30, text(""), Violation::Topic),
        ("topic beyond the end", 0x30, vec![0, 9, b'a'], Violation::Short),
        ("not UTF-8", 0x30, vec![0, 1, 0xff], Violation::Text),
        ("SUBSCRIBE without flags", 0x80, subscribe(0), Violation::Flags { kind: 8 }),
        ("subscription to QoS 3", 0x82, subscribe(3), Violation::Qos),
        ("reserved bits of the options", 0x82, subscribe(4), Violation::Qos),
        ("no filter", 0x82, vec![0, 1], Violation::NoFilter),
        ("no filter", 0xa2, vec![0, 1], Violation::NoFilter),
        ("PINGREQ with a body", 0xc0, vec![0], Violation::Long),
        ("second CONNECT", 0x10, connect_body("MQTT", 4, 2, &["id"]), Violation::Unexpected { kind: 1 }),
        ("CONNACK", 0x20, vec![0, 0], Violation::Unexpected { kind: 2 }),
        ("PUBREC, which answers QoS 2", 0x50, vec![0, 1], Violation::Unexpected { kind: 5 }),
        ("type 15", 0xf0, vec![], Violation::Unexpected { kind: 15 }),
    ] {
        assert_eq!(read(first, body), Err(expected), "{case}");
    }
}

#[test]
fn the_other_packets_are_read() {
    let filters = [&[0, 1][..], &text("a/#"), &[1], &text("b"), &[2]].concat();
    let subscribe =
        Packet::Subscribe(1, vec![("a/#".into(), Qos::AtLeastOnce), ("b".into(), Qos::AtLeastOnce)]);
    assert_eq!(read(0x82, filters), Ok(subscribe));
    assert_eq!(read(0xa2, [&[0, 2][..], &text("a")].concat()), Ok(Packet::Unsubscribe(2, vec!["a".into()])));
    assert_eq!(read(0x40, vec![0, 3]), Ok(Packet::PubAck(3)));
    assert_eq!(read(0x62, vec![0, 4]), Ok(Packet::PubRel(4)));
    assert_eq!(read(0xc0, vec![]), Ok(Packet::PingReq));
    assert_eq!(read(0xe0, vec![]), Ok(Packet::Disconnect));
}

#[test]
fn random_bytes_never_panic() {
    // xorshift64; any seed does.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut understood = 0;
    for _ in 0..200_000 {
        let first = next() as u8;
        // Mostly small values, so that lengths often fit.
        let body: Vec<u8> = (0..next() % 24)
            .map(|_| if next() % 4 == 0 { next() as u8 } else { (next() % 4) as u8 })
            .collect();
        let _ = hello(first, &body);
        understood += usize::from(read(first, body).is_ok());
    }
    assert!(understood > 100, "only {understood} were packets at all");
}

#[test]
fn written_packets_have_the_bytes_of_the_standard() {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut buffer = Vec::new();
        write(&mut buffer);
        buffer
    };
    assert_eq!(written(&|b| write_connack(b, None)), [0x20, 2, 0, 0]);
    assert_eq!(written(&|b| write_connack(b, Some(Refusal::Unavailable))), [0x20, 2, 0, 3]);
    assert_eq!(written(&|b| write_acknowledge(b, Acknowledge::PubAck(0x102))), [0x40, 2, 1, 2]);
    assert_eq!(written(&|b| write_acknowledge(b, Acknowledge::PubRec(1))), [0x50, 2, 0, 1]);
    assert_eq!(written(&|b| write_acknowledge(b, Acknowledge::Nothing)), [0_u8; 0]);
    assert_eq!(written(&|b| write_pubcomp(b, 1)), [0x70, 2, 0, 1]);
    assert_eq!(written(&|b| write_suback(b, 1, &[Some(Qos::AtLeastOnce), None])), [0x90, 4, 0, 1, 1, 0x80]);
    assert_eq!(written(&|b| write_unsuback(b, 1)), [0xb0, 2, 0, 1]);
    assert_eq!(written(&write_pingresp), [0xd0, 0]);
    // Lengths around the borders of the encoding (table 2.4).
    for (length, bytes) in [
        (0, &[0][..]),
        (127, &[0x7f]),
        (128, &[0x80, 1]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 1]),
        (2_097_151, &[0xff, 0xff, 0x7f]),
        (2_097_152, &[0x80, 0x80, 0x80, 1]),
    ] {
        assert_eq!(written(&|b| write_length(b, length)), bytes, "{length}");
    }
}

#[test]
fn a_message_is_written_with_its_id_and_flags() {
    let memory = Memory::default();
    let message = Message::new("a/b", b"xyz".to_vec(), 0, Qos::AtLeastOnce, &memory);
    let mut buffer = Vec::new();
    write_publish_header(&mut buffer, &message, Some(5), true);
    assert_eq!(buffer, [0x33, 10, 0, 3, b'a', b'/', b'b', 0, 5]);
    buffer.clear();
    write_publish_header(&mut buffer, &message, None, false);
    assert_eq!(buffer, [0x30, 8, 0, 3, b'a', b'/', b'b']);
}
