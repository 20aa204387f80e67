//! Packets as the session sees them, and their bytes in MQTT 5 and 3.1.1.
//!
//! The codecs are the library's. What is ours is the frame around them: only packets of bounded size reach
//! a codec, a message beyond that is read over without being kept, and a codec that panics has met a broken
//! packet. Pure: bytes in, bytes out.
//!
//! Source: OASIS MQTT 3.1.1 and MQTT 5.0, section 2.1 (fixed header) and 3.3 (PUBLISH).

use crate::caught::caught;
use crate::secret::{Secret, redacted};
use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes as five;
use rumqttc::v5::mqttbytes::v5;
use std::time::Duration;

/// Largest packet that is kept, bytes. The largest message that a client of ours waits for has 24 KiB
/// (`detections`); MQTT 5 brokers are told this limit and keep larger ones back.
pub(super) const MAX_INCOMING: usize = 256 << 10;
/// Largest packet of MQTT; the library asks for a limit, and the caller has checked the broker's.
const MAX_OUTGOING: usize = 268_435_455;
/// Packet types, by number.
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const DISCONNECT: u8 = 14;
/// Most letters of a broker's own words that are shown.
const MAX_REASON: usize = 200;

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// 3.1.1.
    Three,
    /// 5.
    Five,
}

/// Who we are, as CONNECT says it. It holds a password, so it is not for `Debug`.
#[derive(Clone)]
pub(super) struct Hello {
    pub client_id: String,
    pub credentials: Option<(String, Secret)>,
    /// Topic on which the broker says `offline` for us when the connection breaks.
    pub will: Option<String>,
    /// Seconds.
    pub keep_alive: u16,
}

impl Hello {
    /// Whole seconds, at least one.
    pub fn set_keep_alive(&mut self, every: Duration) {
        self.keep_alive = u16::try_from(every.as_secs()).unwrap_or(u16::MAX).max(1);
    }
}

/// What a broker that took us grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Welcome {
    pub version: Version,
    /// Largest packet that it takes, bytes.
    pub max_packet: usize,
    /// Most QoS 1 messages that may await its acknowledgement.
    pub receive_max: usize,
    /// Whether it keeps retained messages.
    pub retains: bool,
    /// Whether it takes QoS 1.
    pub acknowledges: bool,
    /// Whether it takes QoS 2, and says why a message is not taken.
    pub holds: bool,
    /// Seconds that it asks for in place of ours.
    pub keep_alive: Option<u16>,
}

/// A message that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retained: bool,
    /// To be acknowledged under this packet id.
    pub id: Option<u16>,
}

/// A message that is too large to be kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Oversize {
    pub topic: String,
    /// Its payload's, about.
    pub bytes: usize,
    pub retained: bool,
    pub id: Option<u16>,
}

/// What a broker sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Welcome(Welcome),
    /// It does not take us, in its words.
    Refused(String),
    /// It does not speak this version.
    OtherVersion,
    /// Subscriptions, in order: whether each was refused; and its own words.
    Subscribed {
        id: u16,
        refused: Vec<bool>,
        reason: Option<String>,
    },
    /// A message of ours arrived; `refusal` if it was not taken all the same.
    Acknowledged {
        id: u16,
        refusal: Option<String>,
    },
    Message(Message),
    Oversize(Oversize),
    /// It ends the session; `taken_over`: because another client came with our id.
    Goodbye {
        taken_over: bool,
        reason: String,
    },
    /// Any other sign of life.
    Other,
}

/// How a broker broke the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("length of a packet in more than four bytes")]
    Length,
    #[error("packet of type {kind} with {bytes} bytes; at most {MAX_INCOMING} are read")]
    TooLarge { kind: u8, bytes: usize },
    #[error("packet of type {kind} that cannot be read: {reason}")]
    Broken { kind: u8, reason: String },
    #[error("packet of type {kind}, which a broker does not send here")]
    Unexpected { kind: u8 },
}

/// The fixed header of a packet.
#[derive(Clone, Copy)]
struct Header {
    first: u8,
    /// Its own bytes.
    bytes: usize,
    /// Bytes after it.
    rest: usize,
}

impl Header {
    fn kind(self) -> u8 {
        self.first >> 4
    }

    /// The header at the begin of `bytes`, if it is all there.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let Some((&first, lengths)) = bytes.split_first() else { return Ok(None) };
        let mut rest = 0;
        for (index, byte) in lengths.iter().take(4).enumerate() {
            rest |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(Some(Self { first, bytes: index + 2, rest }));
            }
        }
        if lengths.len() >= 4 { Err(Violation::Length) } else { Ok(None) }
    }
}

/// Takes packets out of a stream of bytes.
pub(super) struct Reader {
    /// Bytes that arrived; whoever reads the socket appends here.
    pub buffer: BytesMut,
    pub version: Version,
    /// Bytes of a message that are still to be read over.
    skip: usize,
}

impl Reader {
    pub fn new(version: Version) -> Self {
        Self { buffer: BytesMut::new(), version, skip: 0 }
    }

    /// The next packet, if it is all there.
    pub fn next(&mut self) -> Result<Option<Packet>, Violation> {
        let skipped = self.skip.min(self.buffer.len());
        self.buffer.advance(skipped);
        self.skip -= skipped;
        if self.skip > 0 {
            return Ok(None);
        }
        let Some(header) = Header::read(&self.buffer)? else { return Ok(None) };
        let length = header.bytes + header.rest;
        if length > MAX_INCOMING {
            return self.pass_over(header, length);
        }
        if self.buffer.len() < length {
            return Ok(None);
        }
        let frame = self.buffer.split_to(length);
        self.read(header, frame).map(Some)
    }

    /// Begins to read over a message once its topic is there.
    fn pass_over(&mut self, header: Header, length: usize) -> Result<Option<Packet>, Violation> {
        let kind = header.kind();
        if kind != PUBLISH {
            return Err(Violation::TooLarge { kind, bytes: length });
        }
        let body = &self.buffer[header.bytes..];
        let Some((&[high, low], after)) = body.split_first_chunk() else { return Ok(None) };
        let letters = usize::from(u16::from_be_bytes([high, low]));
        let qos = (header.first >> 1) & 3;
        let id_bytes = if qos > 0 { 2 } else { 0 };
        if after.len() < letters + id_bytes {
            return Ok(None);
        }
        let topic = String::from_utf8_lossy(&after[..letters]).into_owned();
        let id = (qos > 0).then(|| u16::from_be_bytes([after[letters], after[letters + 1]]));
        let bytes = header.rest.saturating_sub(2 + letters + id_bytes);
        self.skip = length;
        Ok(Some(Packet::Oversize(Oversize { topic, bytes, retained: header.first & 1 != 0, id })))
    }

    /// Reads one whole packet.
    fn read(&self, header: Header, mut frame: BytesMut) -> Result<Packet, Violation> {
        let kind = header.kind();
        match (kind, header.rest) {
            // A broker of another version answers in its own.
            (CONNACK, 2) if self.version == Version::Five => return Ok(old_connack(frame[header.bytes + 1])),
            (DISCONNECT, 0) if self.version == Version::Five => {
                return Ok(Packet::Goodbye { taken_over: false, reason: "without a reason".into() });
            }
            // Of an acknowledgement from 3.1.1's codec only the id would be left, of a code that it does not
            // know nothing.
            _ => {}
        }
        let version = self.version;
        let read = caught(move || match version {
            Version::Three => {
                v4::Packet::read(&mut frame, MAX_INCOMING).map(of_three).map_err(|e| e.to_string())
            }
            Version::Five => v5::Packet::read(&mut frame, None).map(of_five).map_err(|e| e.to_string()),
        });
        let broken = |reason: String| Violation::Broken { kind, reason };
        let packet = read
            .map_err(|_| broken("the codec gave up".into()))?
            .map_err(|reason| broken(cleaned(&reason)))?;
        packet.ok_or(Violation::Unexpected { kind })
    }
}

/// The answer to CONNECT in the form of 3.1.1, given to a client of MQTT 5.
fn old_connack(code: u8) -> Packet {
    match code {
        4 => Packet::Refused("BadUserNamePassword".into()),
        5 => Packet::Refused("NotAuthorized".into()),
        // 1: unacceptable protocol version; a broker that means something else will say it in 3.1.1.
        _ => Packet::OtherVersion,
    }
}

fn of_three(packet: v4::Packet) -> Option<Packet> {
    Some(match packet {
        v4::Packet::ConnAck(v4::ConnAck { code: v4::ConnectReturnCode::Success, .. }) => {
            Packet::Welcome(Welcome {
                version: Version::Three,
                max_packet: MAX_OUTGOING,
                receive_max: usize::from(u16::MAX),
                retains: true,
                acknowledges: true,
                holds: false,
                keep_alive: None,
            })
        }
        v4::Packet::ConnAck(ack) => Packet::Refused(format!("{:?}", ack.code)),
        v4::Packet::SubAck(ack) => Packet::Subscribed {
            id: ack.pkid,
            refused: ack.return_codes.iter().map(|code| *code == v4::SubscribeReasonCode::Failure).collect(),
            reason: None,
        },
        v4::Packet::PubAck(ack) => Packet::Acknowledged { id: ack.pkid, refusal: None },
        v4::Packet::Publish(message) if message.qos != rumqttc::mqttbytes::QoS::ExactlyOnce => {
            Packet::Message(Message {
                topic: message.topic,
                payload: message.payload.to_vec(),
                retained: message.retain,
                id: (message.pkid != 0).then_some(message.pkid),
            })
        }
        v4::Packet::UnsubAck(_) | v4::Packet::PingResp => Packet::Other,
        _ => return None,
    })
}

fn of_five(packet: v5::Packet) -> Option<Packet> {
    Some(match packet {
        v5::Packet::ConnAck(ack) => of_connack(ack),
        v5::Packet::SubAck(ack) => Packet::Subscribed {
            id: ack.pkid,
            refused: ack
                .return_codes
                .iter()
                .map(|code| !matches!(code, v5::SubscribeReasonCode::Success(_)))
                .collect(),
            reason: ack.properties.and_then(|of| of.reason_string).map(|reason| cleaned(&reason)),
        },
        v5::Packet::PubAck(ack) => {
            let taken =
                matches!(ack.reason, v5::PubAckReason::Success | v5::PubAckReason::NoMatchingSubscribers);
            let reason = ack.properties.and_then(|of| of.reason_string);
            let refusal = (!taken).then(|| with_words(&format!("{:?}", ack.reason), reason));
            Packet::Acknowledged { id: ack.pkid, refusal }
        }
        // Of a message of QoS 2: it is held until it is released.
        v5::Packet::PubRec(ack) => {
            let taken =
                matches!(ack.reason, v5::PubRecReason::Success | v5::PubRecReason::NoMatchingSubscribers);
            let reason = ack.properties.and_then(|of| of.reason_string);
            let refusal = (!taken).then(|| with_words(&format!("{:?}", ack.reason), reason));
            Packet::Acknowledged { id: ack.pkid, refusal }
        }
        v5::Packet::Publish(message) if message.qos != five::QoS::ExactlyOnce => Packet::Message(Message {
            topic: String::from_utf8_lossy(&message.topic).into_owned(),
            payload: message.payload.to_vec(),
            retained: message.retain,
            id: (message.pkid != 0).then_some(message.pkid),
        }),
        v5::Packet::Disconnect(bye) => Packet::Goodbye {
            taken_over: bye.reason_code == v5::DisconnectReasonCode::SessionTakenOver,
            reason: with_words(
                &format!("{:?}", bye.reason_code),
                bye.properties.and_then(|of| of.reason_string),
            ),
        },
        v5::Packet::UnsubAck(_) | v5::Packet::PingResp(_) => Packet::Other,
        _ => return None,
    })
}

fn of_connack(ack: v5::ConnAck) -> Packet {
    let of = ack.properties;
    match ack.code {
        v5::ConnectReturnCode::Success => {
            let of = of.as_ref();
            let max_packet = of.and_then(|of| of.max_packet_size).map_or(MAX_OUTGOING, |max| max as usize);
            let receive_max = of.and_then(|of| of.receive_max).unwrap_or(u16::MAX);
            Packet::Welcome(Welcome {
                version: Version::Five,
                max_packet: max_packet.min(MAX_OUTGOING),
                receive_max: usize::from(receive_max.max(1)),
                retains: of.and_then(|of| of.retain_available) != Some(0),
                acknowledges: of.and_then(|of| of.max_qos) != Some(0),
                holds: of.and_then(|of| of.max_qos).is_none_or(|most| most > 1),
                keep_alive: of.and_then(|of| of.server_keep_alive),
            })
        }
        v5::ConnectReturnCode::UnsupportedProtocolVersion | v5::ConnectReturnCode::RefusedProtocolVersion => {
            Packet::OtherVersion
        }
        code => Packet::Refused(with_words(&format!("{code:?}"), of.and_then(|of| of.reason_string))),
    }
}

/// A reason with the broker's own words, if it gave any.
fn with_words(reason: &str, words: Option<String>) -> String {
    match words {
        Some(words) if !words.trim().is_empty() => format!("{reason} ({})", cleaned(&words)),
        _ => reason.to_owned(),
    }
}

/// Words of a stranger: without characters that a terminal or a log would obey, and of bounded length. Secrets
/// are taken out first: of one that is cut nobody would see that it is one.
pub(super) fn cleaned(words: &str) -> String {
    let words = redacted(words);
    let visible = |letter: char| if letter.is_control() { '?' } else { letter };
    let mut shown: String = words.chars().take(MAX_REASON).map(visible).collect();
    if words.chars().nth(MAX_REASON).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Appends packets to a stream of bytes.
pub(super) struct Writer {
    pub version: Version,
}

impl Writer {
    pub fn connect(&self, hello: &Hello, into: &mut BytesMut) {
        let login = hello.credentials.as_ref().map(|(user, password)| (user, password.expose()));
        self.write(
            || {
                let mut connect = v4::Connect::new(&hello.client_id);
                connect.keep_alive = hello.keep_alive;
                connect.login = login.map(|(user, password)| v4::Login::new(user, password));
                connect.last_will = hello.will.as_ref().map(|topic| {
                    v4::LastWill::new(topic, "offline", rumqttc::mqttbytes::QoS::AtLeastOnce, true)
                });
                v4::Packet::Connect(connect)
            },
            || {
                let mut properties = v5::ConnectProperties::new();
                properties.max_packet_size = u32::try_from(MAX_INCOMING).ok();
                let connect = v5::Connect {
                    keep_alive: hello.keep_alive,
                    client_id: hello.client_id.clone(),
                    clean_start: true,
                    properties: Some(properties),
                };
                let will = hello
                    .will
                    .as_ref()
                    .map(|topic| v5::LastWill::new(topic, "offline", five::QoS::AtLeastOnce, true, None));
                v5::Packet::Connect(connect, will, login.map(|(user, word)| v5::Login::new(user, word)))
            },
            into,
        );
    }

    /// Subscribes; commands that the broker kept are not asked for where MQTT 5 lets us say so.
    pub fn subscribe(&self, id: u16, filters: &[String], kept_too: bool, into: &mut BytesMut) {
        use rumqttc::mqttbytes::QoS;
        self.write(
            || {
                let wanted = filters.iter().map(|f| v4::SubscribeFilter::new(f.clone(), QoS::AtLeastOnce));
                v4::Packet::Subscribe(v4::Subscribe { pkid: id, filters: wanted.collect() })
            },
            || {
                let rule = if kept_too {
                    v5::RetainForwardRule::OnEverySubscribe
                } else {
                    v5::RetainForwardRule::Never
                };
                let wanted = filters.iter().map(|path| v5::Filter {
                    retain_forward_rule: rule.clone(),
                    ..v5::Filter::new(path, five::QoS::AtLeastOnce)
                });
                let mut subscribe = v5::Subscribe::new_many(wanted, None);
                subscribe.pkid = id;
                v5::Packet::Subscribe(subscribe)
            },
            into,
        );
    }

    pub fn unsubscribe(&self, id: u16, filter: &str, into: &mut BytesMut) {
        self.write(
            || v4::Packet::Unsubscribe(v4::Unsubscribe { pkid: id, topics: vec![filter.to_owned()] }),
            || {
                let mut unsubscribe = v5::Unsubscribe::new(filter, None);
                unsubscribe.pkid = id;
                v5::Packet::Unsubscribe(unsubscribe)
            },
            into,
        );
    }

    /// Publishes, with QoS 1 where there is a packet id.
    pub fn publish(&self, topic: &str, payload: Vec<u8>, retain: bool, id: Option<u16>, into: &mut BytesMut) {
        match self.version {
            Version::Three => {
                use rumqttc::mqttbytes::QoS;
                let qos = if id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
                let mut message = v4::Publish::new(topic, qos, payload);
                (message.retain, message.pkid) = (retain, id.unwrap_or(0));
                put(v4::Packet::Publish(message).write(into, MAX_OUTGOING).is_ok());
            }
            Version::Five => {
                let qos = if id.is_some() { five::QoS::AtLeastOnce } else { five::QoS::AtMostOnce };
                let mut message = v5::Publish::new(topic, qos, payload, None);
                (message.retain, message.pkid) = (retain, id.unwrap_or(0));
                put(v5::Packet::Publish(message).write(into, None).is_ok());
            }
        }
    }

    /// Hands over an empty message of QoS 2, not retained. The broker answers whether it takes it, and a broker
    /// that sends it on no earlier than it must never does: nobody releases it, and the session ends with the
    /// connection. For a broker of MQTT 5 that [holds](Welcome::holds) messages.
    pub fn propose(&self, topic: &str, id: u16, into: &mut BytesMut) {
        let mut message = v5::Publish::new(topic, five::QoS::ExactlyOnce, Vec::new(), None);
        message.pkid = id;
        put(v5::Packet::Publish(message).write(into, None).is_ok());
    }

    pub fn acknowledge(&self, id: u16, into: &mut BytesMut) {
        self.write(
            || v4::Packet::PubAck(v4::PubAck::new(id)),
            || v5::Packet::PubAck(v5::PubAck::new(id, None)),
            into,
        );
    }

    pub fn ping(&self, into: &mut BytesMut) {
        self.write(|| v4::Packet::PingReq, || v5::Packet::PingReq(v5::PingReq), into);
    }

    pub fn disconnect(&self, into: &mut BytesMut) {
        let normal = v5::DisconnectReasonCode::NormalDisconnection;
        self.write(|| v4::Packet::Disconnect, || v5::Packet::Disconnect(v5::Disconnect::new(normal)), into);
    }

    fn write(
        &self,
        three: impl FnOnce() -> v4::Packet,
        five: impl FnOnce() -> v5::Packet,
        into: &mut BytesMut,
    ) {
        put(match self.version {
            Version::Three => three().write(into, MAX_OUTGOING).is_ok(),
            Version::Five => five().write(into, None).is_ok(),
        });
    }
}

/// Packets of ours have ids other than 0 and bounded sizes, which is all that the codecs ask for.
fn put(written: bool) {
    debug_assert!(written, "a packet of ours was refused by the codec");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(version: Version, bytes: &[u8]) -> Reader {
        Reader { buffer: BytesMut::from(bytes), ..Reader::new(version) }
    }

    fn message(version: Version, payload: usize, id: Option<u16>) -> BytesMut {
        let mut bytes = BytesMut::new();
        Writer { version }.publish("a/b", vec![b'x'; payload], true, id, &mut bytes);
        bytes
    }

    #[test]
    fn a_message_arrives_as_it_was_written_in_both_versions_however_it_is_cut() {
        for version in [Version::Three, Version::Five] {
            for id in [None, Some(7)] {
                let bytes = message(version, 300, id);
                let mut reader = Reader::new(version);
                let mut found = None;
                for byte in &bytes {
                    assert_eq!(found, None);
                    reader.buffer.extend_from_slice(&[*byte]);
                    found = reader.next().expect("no violation");
                }
                let wanted = Message { topic: "a/b".into(), payload: vec![b'x'; 300], retained: true, id };
                assert_eq!(found, Some(Packet::Message(wanted)));
            }
        }
    }

    #[test]
    fn of_a_message_that_is_too_large_only_the_topic_is_kept_and_the_next_one_is_read() {
        for version in [Version::Three, Version::Five] {
            let mut reader = Reader::new(version);
            let mut seen = Vec::new();
            let mut bytes = message(version, 13 << 20, Some(9));
            bytes.extend_from_slice(&message(version, 1, None));
            for piece in bytes.chunks(10_000) {
                reader.buffer.extend_from_slice(piece);
                while let Some(packet) = reader.next().expect("no violation") {
                    seen.push(packet);
                }
                assert!(reader.buffer.capacity() <= 64 << 10, "{} bytes kept", reader.buffer.capacity());
            }
            let [Packet::Oversize(large), Packet::Message(small)] = &seen[..] else { panic!("{seen:?}") };
            assert_eq!((large.topic.as_str(), large.id, large.retained), ("a/b", Some(9), true));
            assert!(large.bytes >= 13 << 20);
            assert_eq!(small.payload, b"x");
        }
    }

    #[test]
    fn any_bytes_are_packets_or_violations() {
        // Every kind of packet with small bodies, and random ones from a fixed seed.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..200_000u32 {
            let length = (random() % 24) as usize;
            let mut bytes = vec![(round % 256) as u8, length as u8];
            bytes.extend((0..length).map(|_| if random() % 3 == 0 { 0 } else { random() as u8 }));
            for version in [Version::Three, Version::Five] {
                if let Err(violation) = reader(version, &bytes).next() {
                    assert!(!violation.to_string().contains("gave up"), "{bytes:02x?} panics");
                }
            }
        }
        assert_eq!(reader(Version::Three, &[0x30, 0xff, 0xff, 0xff, 0xff]).next(), Err(Violation::Length));
    }

    #[test]
    fn the_limits_that_a_broker_of_mqtt_5_names_are_taken() {
        // CONNACK with receive maximum 3, maximum packet size 1000, retain not available.
        let connack = [0x20, 13, 0, 0, 10, 0x21, 0, 3, 0x27, 0, 0, 3, 0xe8, 0x25, 0];
        let Ok(Some(Packet::Welcome(welcome))) = reader(Version::Five, &connack).next() else {
            panic!("no welcome")
        };
        assert_eq!((welcome.receive_max, welcome.max_packet, welcome.retains), (3, 1000, false));
    }

    #[test]
    fn a_broker_of_another_version_is_told_apart_from_one_that_refuses_us() {
        let packet = |bytes: &[u8]| reader(Version::Five, bytes).next().expect("no violation");
        assert_eq!(packet(&[0x20, 2, 0, 1]), Some(Packet::OtherVersion));
        assert_eq!(packet(&[0x20, 3, 0, 0x84, 0]), Some(Packet::OtherVersion));
        assert_eq!(packet(&[0x20, 2, 0, 5]), Some(Packet::Refused("NotAuthorized".into())));
        crate::secret::remember("word-of-the-day-4711");
        let quoted = cleaned(&format!("{}word-of-the-day-4711", "x".repeat(MAX_REASON - 10)));
        assert!(!quoted.contains("word"), "a secret is cut: {quoted}");
        let with_words = [0x20, 11, 0, 0x87, 8, 0x1f, 0, 5, b'n', b'o', 0x1b, b'[', b'm'];
        assert_eq!(packet(&with_words), Some(Packet::Refused("NotAuthorized (no?[m)".into())));
    }
}
