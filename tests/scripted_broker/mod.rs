//! A broker that does what a script says: hostile, or merely odd. It speaks just enough MQTT for that, by
//! hand, so that it shares no code with what it tries.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const CONNECT: u8 = 1;
pub const PUBLISH: u8 = 3;
pub const SUBSCRIBE: u8 = 8;
pub const PINGREQ: u8 = 12;
pub const DISCONNECT: u8 = 14;

/// What the broker saw, in order: `connect 5`, `subscribe <filter>`, `publish <topic> <payload>`.
#[derive(Default)]
pub struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn push(&self, line: String) {
        self.0.lock().expect("no panic").push(line);
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }

    pub fn count(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(text)).count()
    }
}

/// A broker on a port of its own; `script` plays one connection, whose number counts from 0.
pub struct ScriptedBroker {
    pub port: u16,
    pub seen: Arc<Seen>,
    ended: Arc<AtomicBool>,
}

impl ScriptedBroker {
    pub fn start(script: impl Fn(&mut Peer, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (seen, ended) = (Arc::<Seen>::default(), Arc::new(AtomicBool::new(false)));
        let (script, number) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        let (seen_there, ended_there) = (Arc::clone(&seen), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended_there.load(Ordering::SeqCst) {
                    return;
                }
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen_there));
                let number = number.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let _ = stream.set_nodelay(true);
                    script(&mut Peer { stream, version: 0, seen }, number);
                });
            }
        });
        Self { port, seen, ended }
    }
}

impl Drop for ScriptedBroker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// The other end of a connection.
pub struct Peer {
    pub stream: TcpStream,
    /// 4 or 5, once CONNECT was read.
    pub version: u8,
    seen: Arc<Seen>,
}

/// A packet: its first byte, and what follows its length.
pub struct Packet {
    pub first: u8,
    pub body: Vec<u8>,
}

impl Packet {
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    fn number(&self, at: usize) -> usize {
        usize::from(self.body[at]) << 8 | usize::from(self.body[at + 1])
    }

    fn text(&self, at: usize) -> (String, usize) {
        let end = at + 2 + self.number(at);
        (String::from_utf8_lossy(&self.body[at + 2..end]).into_owned(), end)
    }
}

/// The bytes of a packet.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let digit = (left % 128) as u8;
        left /= 128;
        bytes.push(if left > 0 { digit | 0x80 } else { digit });
        if left == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

impl Peer {
    /// The next packet; none where the other side has gone.
    pub fn read(&mut self) -> Option<Packet> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok()?;
        let first = byte[0];
        let (mut length, mut shift) = (0usize, 0);
        loop {
            self.stream.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(Packet { first, body })
    }

    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Reads CONNECT.
    pub fn read_connect(&mut self) -> bool {
        let Some(packet) = self.read().filter(|packet| packet.kind() == CONNECT) else { return false };
        self.version = packet.body[6];
        self.seen.push(format!("connect {}", self.version));
        true
    }

    /// Reads CONNECT and takes the client, in MQTT 5 with these properties.
    pub fn welcome_with(&mut self, properties: &[u8]) -> bool {
        if !self.read_connect() {
            return false;
        }
        let mut body = vec![0, 0];
        if self.version == 5 {
            body.push(properties.len() as u8);
            body.extend_from_slice(properties);
        }
        self.write(&packet(0x20, &body))
    }

    pub fn welcome(&mut self) -> bool {
        self.welcome_with(&[])
    }

    /// As `welcome`, for a broker of 3.1.1 that answers MQTT 5 as the standard says. False: the client has to
    /// come again.
    pub fn welcome_old(&mut self) -> bool {
        if !self.read_connect() {
            return false;
        }
        let code = u8::from(self.version == 5);
        self.write(&packet(0x20, &[0, code])) && code == 0
    }

    /// Acknowledges a SUBSCRIBE; `code` of each filter.
    pub fn acknowledge_subscription(&mut self, asked: &Packet, code: impl Fn(&str) -> u8) {
        let mut body = asked.body[..2].to_vec();
        let mut at = 2;
        if self.version == 5 {
            body.push(0);
            at += 1;
        }
        while at < asked.body.len() {
            let (filter, end) = asked.text(at);
            body.push(code(&filter));
            at = end + 1;
        }
        self.write(&packet(0x90, &body));
    }

    /// What a PUBLISH holds: topic, packet id (QoS 1), payload.
    pub fn published(&self, message: &Packet) -> (String, Option<[u8; 2]>, Vec<u8>) {
        let (topic, mut at) = message.text(0);
        let id = (message.first & 6 != 0).then(|| [message.body[at], message.body[at + 1]]);
        at += if id.is_some() { 2 } else { 0 };
        if self.version == 5 {
            at += 1 + usize::from(message.body[at]);
        }
        (topic, id, message.body[at..].to_vec())
    }

    /// Notes a packet as any broker would see it.
    pub fn note(&self, packet: &Packet) {
        match packet.kind() {
            SUBSCRIBE => {
                let mut at = if self.version == 5 { 3 } else { 2 };
                while at < packet.body.len() {
                    let (filter, end) = packet.text(at);
                    self.seen.push(format!("subscribe {filter}"));
                    at = end + 1;
                }
            }
            PUBLISH => {
                let (topic, _, payload) = self.published(packet);
                self.seen.push(format!("publish {topic} {}", String::from_utf8_lossy(&payload)));
            }
            _ => {}
        }
    }

    /// Answers a packet as a good broker does.
    pub fn answer(&mut self, asked: &Packet) {
        match asked.kind() {
            SUBSCRIBE => self.acknowledge_subscription(asked, |_| 1),
            PUBLISH => {
                if let (_, Some(id), _) = self.published(asked) {
                    self.write(&packet(0x40, &id));
                }
            }
            PINGREQ => drop(self.write(&[0xd0, 0])),
            _ => {}
        }
    }

    /// A good broker from now on, until the client goes.
    pub fn serve(&mut self) {
        self.serve_while(|_, _| true);
    }

    /// A good broker for each packet of which `wanted` is true; others are noted and not answered.
    pub fn serve_while(&mut self, mut wanted: impl FnMut(&mut Self, &Packet) -> bool) {
        while let Some(packet) = self.read() {
            self.note(&packet);
            if wanted(self, &packet) {
                self.answer(&packet);
            }
        }
    }

    /// A good broker until `online` came and a moment passed.
    pub fn serve_until_online(&mut self) {
        while let Some(packet) = self.read() {
            self.note(&packet);
            self.answer(&packet);
            if packet.kind() == PUBLISH && self.published(&packet).2 == b"online" {
                std::thread::sleep(Duration::from_millis(100));
                return;
            }
        }
    }

    /// A message, with QoS 1 where there is an id.
    pub fn message(&self, topic: &str, payload: &[u8], retain: bool, id: Option<u16>) -> Vec<u8> {
        let mut body = (topic.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(topic.as_bytes());
        if let Some(id) = id {
            body.extend_from_slice(&id.to_be_bytes());
        }
        if self.version == 5 {
            body.push(0);
        }
        body.extend_from_slice(payload);
        packet(0x30 | u8::from(retain) | if id.is_some() { 2 } else { 0 }, &body)
    }
}
