//! MQTT 3.1.1 packets, as a broker reads and writes them.
//!
//! Pure: bytes in, bytes out. A client's packets are read strictly, because whoever breaks the protocol is
//! disconnected: each field is checked, and a packet must end where its last field ends. The codec in the
//! client library is more lenient (reserved bits, packet id 0, NUL in text pass), copies each payload, and
//! a payload it reads keeps a whole read buffer alive.
//!
//! Source: OASIS MQTT 3.1.1; its numbered statements are cited as [MQTT-n].

use super::message::{Message, Qos};
use super::topic;

/// How a client broke the protocol. It is disconnected, and its will is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("packet of {bytes} bytes; at most {limit} are read")]
    TooLarge { bytes: usize, limit: usize },
    #[error("length of a packet in more than four bytes")]
    Length,
    #[error("packet of type {kind}, which a client does not send here")]
    Unexpected { kind: u8 },
    #[error("reserved bits are set in a packet of type {kind}")]
    Flags { kind: u8 },
    #[error("packet ends within a field")]
    Short,
    #[error("bytes after the last field")]
    Long,
    #[error("text that is not UTF-8, or holds a zero byte")]
    Text,
    #[error("packet id 0")]
    PacketId,
    #[error("QoS 3")]
    Qos,
    #[error("topic name that is empty or holds a wildcard")]
    Topic,
    #[error("protocol other than MQTT")]
    Protocol,
    #[error("SUBSCRIBE or UNSUBSCRIBE without a topic filter")]
    NoFilter,
    #[error("more than {limit} messages of QoS 2 that are not released")]
    NotReleased { limit: usize },
}

/// Packet types that a client sends, by number.
pub(super) mod kind {
    pub const CONNECT: u8 = 1;
    pub const PUBLISH: u8 = 3;
    pub const PUBACK: u8 = 4;
    pub const PUBREL: u8 = 6;
    pub const SUBSCRIBE: u8 = 8;
    pub const UNSUBSCRIBE: u8 = 10;
    pub const PINGREQ: u8 = 12;
    pub const DISCONNECT: u8 = 14;
}

/// A client's first packet. User name and password are read over: the broker is open to everyone on this
/// machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connect {
    /// May be empty.
    pub client_id: String,
    pub clean_session: bool,
    /// Seconds; 0: none.
    pub keep_alive: u16,
    pub will: Option<Will>,
}

/// What is published in a client's name when its connection ends without DISCONNECT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: Qos,
    pub retain: bool,
}

/// What a first packet is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hello {
    Connect(Connect),
    /// MQTT, but of a version that is not spoken here; the answer to send before the connection is closed.
    OtherVersion {
        level: u8,
        answer: &'static [u8],
    },
}

/// What a connected client sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Publish(Publish),
    PubAck(u16),
    PubRel(u16),
    /// Packet id, filters with the QoS asked for; the filters' form is not checked yet, because each is
    /// answered on its own.
    Subscribe(u16, Vec<(String, Qos)>),
    Unsubscribe(u16, Vec<String>),
    PingReq,
    Disconnect,
}

/// A message on its way in. The payload is the end of `body`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub topic: String,
    pub body: Vec<u8>,
    pub payload_at: usize,
    pub retain: bool,
    pub acknowledge: Acknowledge,
}

/// What the publisher of a message waits for, with its packet id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acknowledge {
    Nothing,
    PubAck(u16),
    PubRec(u16),
}

/// Why CONNECT is refused, as CONNACK says it (table 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    IdRejected = 2,
    Unavailable = 3,
}

/// CONNACK of MQTT 5: no session, reason 0x84 (unsupported protocol version), no properties.
const OTHER_VERSION_5: &[u8] = &[0x20, 3, 0, 0x84, 0];
/// CONNACK of MQTT 3: return code 1 (unacceptable protocol version).
const OTHER_VERSION_3: &[u8] = &[0x20, 2, 0, 1];
/// MQTT 3.1.1.
const LEVEL: u8 = 4;

/// Reads a first packet: `first` is its first byte, `body` what follows the length.
///
/// # Errors
/// [`Violation`] if it is not a CONNECT, or one that is malformed.
pub(super) fn hello(first: u8, body: &[u8]) -> Result<Hello, Violation> {
    if first >> 4 != kind::CONNECT {
        return Err(Violation::Unexpected { kind: first >> 4 });
    }
    let mut fields = Fields(body);
    let protocol = fields.text()?;
    let level = fields.byte()?;
    // "MQIsdp" is the protocol name of MQTT 3.1.
    match (protocol, level) {
        ("MQTT", LEVEL) => {}
        ("MQTT", 5) => return Ok(Hello::OtherVersion { level, answer: OTHER_VERSION_5 }),
        ("MQTT" | "MQIsdp", _) => return Ok(Hello::OtherVersion { level, answer: OTHER_VERSION_3 }),
        _ => return Err(Violation::Protocol),
    }
    if first & 15 != 0 {
        return Err(Violation::Flags { kind: kind::CONNECT });
    }
    connect(fields).map(Hello::Connect)
}

fn connect(mut fields: Fields<'_>) -> Result<Connect, Violation> {
    const RESERVED: u8 = 1;
    const CLEAN: u8 = 1 << 1;
    const WILL: u8 = 1 << 2;
    const WILL_RETAIN: u8 = 1 << 5;
    const PASSWORD: u8 = 1 << 6;
    const USER: u8 = 1 << 7;
    let flags = fields.byte()?;
    let will_bits = flags >> 3 & 7;
    let lonely_password = flags & (PASSWORD | USER) == PASSWORD;
    if flags & RESERVED != 0 || flags & WILL == 0 && will_bits != 0 || lonely_password {
        return Err(Violation::Flags { kind: kind::CONNECT });
    }
    let keep_alive = fields.number()?;
    let client_id = fields.text()?.to_owned();
    let mut will = None;
    if flags & WILL != 0 {
        let qos = qos(flags >> 3 & 3)?;
        let topic = name(fields.text()?)?.to_owned();
        let payload = fields.bytes()?.to_vec();
        will = Some(Will { topic, payload, qos, retain: flags & WILL_RETAIN != 0 });
    }
    if flags & USER != 0 {
        fields.text()?;
    }
    if flags & PASSWORD != 0 {
        fields.bytes()?;
    }
    fields.end()?;
    Ok(Connect { client_id, clean_session: flags & CLEAN != 0, keep_alive, will })
}

/// Reads a packet after the first: `first` is its first byte, `body` what follows the length.
///
/// # Errors
/// [`Violation`] if no client may send it, or if it is malformed.
pub(super) fn read(first: u8, body: Vec<u8>) -> Result<Packet, Violation> {
    let (kind, flags) = (first >> 4, first & 15);
    // PUBREL, SUBSCRIBE and UNSUBSCRIBE have flags 0b0010, the others none [MQTT-2.2.2-2].
    let expected = if [kind::PUBREL, kind::SUBSCRIBE, kind::UNSUBSCRIBE].contains(&kind) { 2 } else { 0 };
    if kind == kind::PUBLISH {
        return publish(flags, body).map(Packet::Publish);
    }
    if flags != expected {
        return Err(Violation::Flags { kind });
    }
    let mut fields = Fields(&body);
    let packet = match kind {
        kind::PUBACK => Packet::PubAck(fields.id()?),
        kind::PUBREL => Packet::PubRel(fields.id()?),
        kind::SUBSCRIBE => {
            Packet::Subscribe(fields.id()?, fields.list(|f| Ok((f.text()?.to_owned(), qos(f.byte()?)?)))?)
        }
        kind::UNSUBSCRIBE => Packet::Unsubscribe(fields.id()?, fields.list(|f| Ok(f.text()?.to_owned()))?),
        kind::PINGREQ => Packet::PingReq,
        kind::DISCONNECT => Packet::Disconnect,
        _ => return Err(Violation::Unexpected { kind }),
    };
    fields.end()?;
    Ok(packet)
}

fn publish(flags: u8, body: Vec<u8>) -> Result<Publish, Violation> {
    let mut fields = Fields(&body);
    let topic = name(fields.text()?)?.to_owned();
    let acknowledge = match flags >> 1 & 3 {
        // A message that is never acknowledged is never sent again [MQTT-3.3.1-2].
        0 if flags & 8 != 0 => return Err(Violation::Flags { kind: kind::PUBLISH }),
        0 => Acknowledge::Nothing,
        1 => Acknowledge::PubAck(fields.id()?),
        2 => Acknowledge::PubRec(fields.id()?),
        _ => return Err(Violation::Qos),
    };
    let payload_at = body.len() - fields.0.len();
    Ok(Publish { topic, body, payload_at, retain: flags & 1 != 0, acknowledge })
}

/// QoS by number; 2 is granted and passed on as 1.
fn qos(number: u8) -> Result<Qos, Violation> {
    match number {
        0 => Ok(Qos::AtMostOnce),
        1 | 2 => Ok(Qos::AtLeastOnce),
        _ => Err(Violation::Qos),
    }
}

fn name(topic: &str) -> Result<&str, Violation> {
    if topic::is_name(topic) { Ok(topic) } else { Err(Violation::Topic) }
}

/// What of a packet is not read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Violation::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Violation> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u16, Violation> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn id(&mut self) -> Result<u16, Violation> {
        match self.number()? {
            0 => Err(Violation::PacketId),
            id => Ok(id),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Violation> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Result<&'a str, Violation> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| Violation::Text)?;
        if text.contains('\0') { Err(Violation::Text) } else { Ok(text) }
    }

    /// Reads one item after the other until nothing is left; at least one.
    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Violation>,
    ) -> Result<Vec<T>, Violation> {
        let mut items = Vec::new();
        while !self.0.is_empty() {
            items.push(item(self)?);
        }
        if items.is_empty() { Err(Violation::NoFilter) } else { Ok(items) }
    }

    fn end(&self) -> Result<(), Violation> {
        if self.0.is_empty() { Ok(()) } else { Err(Violation::Long) }
    }
}

/// Adds CONNACK. The session is always a new one: none outlives its connection.
pub(super) fn write_connack(buffer: &mut Vec<u8>, refused: Option<Refusal>) {
    buffer.extend([0x20, 2, 0, refused.map_or(0, |reason| reason as u8)]);
}

/// Adds the first answer to a message that was published.
pub(super) fn write_acknowledge(buffer: &mut Vec<u8>, acknowledge: Acknowledge) {
    match acknowledge {
        Acknowledge::Nothing => {}
        Acknowledge::PubAck(id) => write_id(buffer, 0x40, id),
        Acknowledge::PubRec(id) => write_id(buffer, 0x50, id),
    }
}

/// Adds PUBCOMP, the answer to PUBREL.
pub(super) fn write_pubcomp(buffer: &mut Vec<u8>, id: u16) {
    write_id(buffer, 0x70, id);
}

/// Adds SUBACK: for each filter the QoS granted, or that it is refused.
pub(super) fn write_suback(buffer: &mut Vec<u8>, id: u16, granted: &[Option<Qos>]) {
    const FAILURE: u8 = 0x80;
    buffer.push(0x90);
    write_length(buffer, 2 + granted.len());
    buffer.extend(id.to_be_bytes());
    buffer.extend(granted.iter().map(|qos| qos.map_or(FAILURE, |qos| qos as u8)));
}

/// Adds UNSUBACK.
pub(super) fn write_unsuback(buffer: &mut Vec<u8>, id: u16) {
    write_id(buffer, 0xb0, id);
}

/// Adds PINGRESP.
pub(super) fn write_pingresp(buffer: &mut Vec<u8>) {
    buffer.extend([0xd0, 0]);
}

/// Adds PUBLISH but for the payload, which must follow. `id`: packet id of QoS 1; `None`: QoS 0. `retain`:
/// the message was stored before the client subscribed.
pub(super) fn write_publish_header(buffer: &mut Vec<u8>, message: &Message, id: Option<u16>, retain: bool) {
    let topic = message.topic().as_bytes();
    // A topic came out of a field with a length in two bytes.
    let topic_length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    buffer.push(0x30 | u8::from(id.is_some()) << 1 | u8::from(retain));
    let id_length = if id.is_some() { 2 } else { 0 };
    write_length(buffer, 2 + topic.len() + id_length + message.payload().len());
    buffer.extend(topic_length.to_be_bytes());
    buffer.extend(topic);
    buffer.extend(id.into_iter().flat_map(u16::to_be_bytes));
}

fn write_id(buffer: &mut Vec<u8>, first: u8, id: u16) {
    buffer.extend([first, 2]);
    buffer.extend(id.to_be_bytes());
}

/// Seven bits a byte, the lowest first; the eighth says that more follow (section 2.2.3).
fn write_length(buffer: &mut Vec<u8>, mut length: usize) {
    while length > 127 {
        buffer.push((length % 128) as u8 | 128);
        length /= 128;
    }
    buffer.push(length as u8);
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
