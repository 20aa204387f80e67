//! Bytes of brokers, as the fuzzer gives them.

use super::wire::{MAX_INCOMING, Packet, Reader, Version, Violation};
use crate::contract::{Command, Names, parse_of_any_node};

/// What a broker sends: version of MQTT and length of the pieces, then its bytes.
pub fn broker_packets(bytes: &[u8]) {
    let Some((&how, stream)) = bytes.split_first() else { return };
    let version = if how & 1 == 0 { Version::Three } else { Version::Five };
    let whole = packets(version, stream, stream.len().max(1));
    let step = usize::from(how >> 1).max(1);
    assert_eq!(packets(version, stream, step), whole, "pieces of {step}");
    let names = Names::new("base", "node");
    for packet in whole.iter().flatten() {
        take(&names, packet);
    }
}

/// What our own broker sends, which can be read whole.
pub(in crate::publish) fn assert_readable(bytes: &[u8]) {
    for packet in packets(Version::Three, bytes, bytes.len().max(1)) {
        assert!(packet.is_ok(), "{packet:?} in {bytes:?}");
    }
}

fn packets(version: Version, stream: &[u8], step: usize) -> Vec<Result<Packet, Violation>> {
    let mut reader = Reader::new(version);
    let mut found = Vec::new();
    for piece in stream.chunks(step) {
        reader.buffer.extend_from_slice(piece);
        loop {
            assert!(reader.buffer.len() <= MAX_INCOMING + step && found.len() <= stream.len());
            match reader.next() {
                Ok(Some(packet)) => found.push(Ok(packet)),
                Ok(None) => break,
                Err(violation) => {
                    let words = violation.to_string();
                    assert!(words.lines().count() == 1 && words.len() < 1000, "{words:?}");
                    found.push(Err(violation));
                    return found;
                }
            }
        }
    }
    found
}

/// Goes on as a session and `watch` do.
fn take(names: &Names, packet: &Packet) {
    match packet {
        Packet::Message(message) => {
            let _ = parse_of_any_node("base", &message.topic);
            let Some(topic) = names.parse(&message.topic) else { return };
            match Command::read(&topic, &message.topic, &message.payload, message.retained) {
                Ok(command) => assert_eq!(topic.camera(), Some(&command.camera)),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        Packet::Refused(words) | Packet::Goodbye { reason: words, .. } => assert_shown(words),
        Packet::Subscribed { reason: Some(words), .. }
        | Packet::Acknowledged { refusal: Some(words), .. } => {
            assert_shown(words);
        }
        _ => {}
    }
}

fn assert_shown(words: &str) {
    assert!(!words.chars().any(char::is_control) && words.chars().count() < 300, "{words:?}");
}
