//! One connection to a broker: its way from the name to CONNACK, and its loop in a task of its own.
//!
//! MQTT 5 is spoken where the broker has it, else 3.1.1. The codecs are the library's (`wire`), its event
//! loop is not used: it tries a name's addresses one after the other without a limit, checks the host name
//! of TLS against whatever address it was given, ends the session over a message that is too large, and
//! loses what it had accepted. Here each wait has an end.

use super::tls::{Tls, in_words};
use super::wire::{Hello, Message, Oversize, Packet, Reader, Version, Violation, Welcome, Writer};
use crate::dial;
use crate::publish::Deadlines;
use crate::tls::{error_in, is_no_tls};
use bytes::BytesMut;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Longest wait for the broker's first answer, the way to it included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for one byte to be taken.
const STALL: Duration = Duration::from_secs(20);
/// Silence of a broker that is borne however often it wants to hear from us.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(5);
/// Longest look at what else the port may speak.
const GUESS: Duration = Duration::from_secs(3);
/// Bytes of one packet that count as a sign of life.
const STEP: usize = 64 << 10;
/// Orders and events that may wait.
pub(super) const REQUESTS: usize = 64;
/// Bytes that wait for the socket, above which neither orders nor messages are taken.
const MAX_WAITING: usize = 64 << 10;

/// Which broker, and who we are there. It holds a password, so it is not for `Debug`.
#[derive(Clone)]
pub(super) struct Target {
    pub host: String,
    pub port: u16,
    pub tls: Option<Tls>,
    pub hello: Hello,
    /// The version that was found before; without it 5 is tried first.
    pub version: Option<Version>,
    /// An address of the name that is tried last.
    pub avoid: Option<SocketAddr>,
}

impl Target {
    pub fn new(host: &str, port: u16, tls: Option<&Tls>, client_id: String) -> Self {
        let mut hello = Hello { client_id, credentials: None, will: None, keep_alive: 0 };
        hello.set_keep_alive(Deadlines::default().keep_alive);
        Self { host: host.to_owned(), port, tls: tls.cloned(), hello, version: None, avoid: None }
    }
}

/// What happens on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The way is open; nothing was said yet.
    Reached(SocketAddr),
    /// The broker took us.
    Welcome(Welcome),
    /// Subscriptions are acknowledged; whether each was refused, in order.
    Subscribed { id: u16, refused: Vec<bool>, reason: Option<String> },
    /// A message of ours arrived; `refusal` if it was not taken all the same.
    Acknowledged { id: u16, refusal: Option<String> },
    /// A message arrived.
    Message(Message),
    /// A message came that is too large to be kept.
    Oversize(Oversize),
    /// We said goodbye, and all of it is sent.
    Closed,
}

/// Why a connection ended, or never stood. In words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// There is no way to the broker, or TLS did not come about.
    #[error("{0}")]
    Unreachable(String),
    /// The broker does not take us.
    #[error("refused: {0}")]
    Refused(String),
    /// Another client came with our id, says the broker.
    #[error("another client came with our client id: {0}")]
    TakenOver(String),
    /// It stood, and broke.
    #[error("{0}")]
    Lost(String),
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Self::Lost(format!("the broker breaks the protocol: {violation}"))
    }
}

/// What the connection is asked to send.
enum Order {
    Subscribe { id: u16, filters: Vec<String>, kept_too: bool },
    Unsubscribe { id: u16, filter: String },
    Publish { topic: String, payload: Vec<u8>, retain: bool, id: Option<u16> },
    Propose { topic: String, id: u16 },
    Disconnect,
}

/// A connection; dropping it ends it without goodbye.
pub(super) struct Connection {
    orders: mpsc::Sender<Order>,
    /// In order; the last one may be a failure.
    events: mpsc::Receiver<Result<Event, Failure>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a connection has to say.
pub(super) enum Next {
    /// None after the last one.
    Event(Option<Result<Event, Failure>>),
    /// It takes orders again.
    Room,
}

/// Whether an order was taken; not where the connection has ended, or is far behind.
pub(super) type Taken = bool;

impl Connection {
    /// Starts to connect.
    pub fn start(target: Target) -> Self {
        let (orders, to_send) = mpsc::channel(REQUESTS);
        let (to, events) = mpsc::channel(REQUESTS);
        let task = tokio::spawn(async move {
            if let Err(failure) = run(&target, to_send, &to).await {
                let _ = to.send(Err(failure)).await;
            }
        });
        Self { orders, events, task }
    }

    /// Orders that are taken now.
    pub fn room(&self) -> usize {
        self.orders.capacity()
    }

    /// The next event, or with `wants_room` that half of the orders were sent.
    pub async fn next(&mut self, wants_room: bool) -> Next {
        tokio::select! {
            event = self.events.recv() => Next::Event(event),
            Ok(_) = self.orders.reserve_many(REQUESTS / 2), if wants_room => Next::Room,
        }
    }

    /// Subscribes; `kept_too`: also to what the broker keeps.
    pub fn subscribe(&self, id: u16, filters: Vec<String>, kept_too: bool) -> Taken {
        self.orders.try_send(Order::Subscribe { id, filters, kept_too }).is_ok()
    }

    pub fn unsubscribe(&self, id: u16, filter: String) -> Taken {
        self.orders.try_send(Order::Unsubscribe { id, filter }).is_ok()
    }

    /// Publishes, with QoS 1 where there is a packet id.
    pub fn publish(&self, topic: String, payload: Vec<u8>, retain: bool, id: Option<u16>) -> Taken {
        self.orders.try_send(Order::Publish { topic, payload, retain, id }).is_ok()
    }

    /// Asks whether an empty message would be taken, without sending one: [`Writer::propose`].
    pub fn propose(&self, topic: String, id: u16) -> Taken {
        self.orders.try_send(Order::Propose { topic, id }).is_ok()
    }

    /// Says goodbye once everything else is sent.
    pub fn disconnect(&self) -> Taken {
        self.orders.try_send(Order::Disconnect).is_ok()
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
type Stream = Box<dyn Duplex>;

type Events = mpsc::Sender<Result<Event, Failure>>;

async fn run(target: &Target, orders: mpsc::Receiver<Order>, to: &Events) -> Result<(), Failure> {
    let opened = open_in_any_version(target, to).await?;
    // A broker may want signs of life more often, and gets none more seldom.
    let ours = target.hello.keep_alive;
    let keep_alive =
        opened.welcome.keep_alive.filter(|asked| *asked > 0).map_or(ours, |asked| asked.min(ours));
    let version = opened.welcome.version;
    if to.send(Ok(Event::Welcome(opened.welcome))).await.is_err() {
        return Ok(());
    }
    let (input, output) = tokio::io::split(opened.stream);
    let now = Instant::now();
    Loop {
        to,
        orders,
        reader: opened.reader,
        writer: Writer { version },
        waiting: BytesMut::new(),
        flushed: true,
        leaving: false,
        keep_alive: Duration::from_secs(u64::from(keep_alive)),
        heard: now,
        unheard_bytes: 0,
        pinged: now,
        wrote: now,
    }
    .run(input, output)
    .await
}

/// A connection on which the broker took us.
struct Opened {
    stream: Stream,
    reader: Reader,
    welcome: Welcome,
}

/// Why a connection did not come about.
enum NotOpened {
    /// The broker does not speak this version.
    OtherVersion,
    /// It closed the connection without a word.
    ClosedEarly(String),
    Failed(Failure),
}

/// Connects in the version known, else in MQTT 5 and then in 3.1.1.
async fn open_in_any_version(target: &Target, to: &Events) -> Result<Opened, Failure> {
    let versions: &[Version] = match target.version {
        Some(Version::Three) => &[Version::Three],
        _ => &[Version::Five, Version::Three],
    };
    let mut closed = None;
    for &version in versions {
        let opened = timeout(CONNECT_TIMEOUT, open(target, version, to)).await;
        match opened {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(NotOpened::OtherVersion)) => {}
            // Old brokers close the connection of a client whose version they do not know.
            Ok(Err(NotOpened::ClosedEarly(reason))) => closed = Some(reason),
            Ok(Err(NotOpened::Failed(failure))) => return Err(failure),
            Err(_) => {
                let words = format!("no answer in {} s", CONNECT_TIMEOUT.as_secs());
                return Err(Failure::Unreachable(words));
            }
        }
    }
    let Some(reason) = closed else {
        return Err(Failure::Refused("the broker speaks neither MQTT 5 nor 3.1.1".into()));
    };
    if target.tls.is_none() && matches!(timeout(GUESS, speaks_tls(target)).await, Ok(true)) {
        return Err(met_tls());
    }
    Err(Failure::Unreachable(format!("the broker closed the connection before it answered: {reason}")))
}

fn met_tls() -> Failure {
    let words = "this port speaks TLS; set mqtt.tls = true, or mqtt.port to the broker's port without TLS";
    Failure::Unreachable(words.into())
}

async fn open(target: &Target, version: Version, to: &Events) -> Result<Opened, NotOpened> {
    let unreachable = |words: String| NotOpened::Failed(Failure::Unreachable(words));
    let tcp = dial::reach(&target.host, target.port, target.avoid).await.map_err(unreachable)?;
    if let Ok(peer) = tcp.peer_addr() {
        let _ = to.send(Ok(Event::Reached(peer))).await;
    }
    let mut stream: Stream = match &target.tls {
        None => Box::new(tcp),
        Some(tls) => Box::new(secure(tcp, target, tls).await.map_err(NotOpened::Failed)?),
    };
    let mut hello = BytesMut::new();
    Writer { version }.connect(&target.hello, &mut hello);
    // Where this fails the broker may have said why before it closed, so its words are read all the same.
    let sent = match stream.write_all(&hello).await {
        Ok(()) => stream.flush().await,
        failed => failed,
    };
    let mut reader = Reader::new(version);
    match first_packet(&mut *stream, &mut reader, target).await? {
        Some(Packet::Welcome(welcome)) => Ok(Opened { stream, reader, welcome }),
        Some(Packet::Refused(words)) => Err(NotOpened::Failed(Failure::Refused(words))),
        Some(Packet::OtherVersion) => Err(NotOpened::OtherVersion),
        Some(Packet::Goodbye { reason, .. }) => Err(NotOpened::Failed(Failure::Refused(reason))),
        Some(_) => Err(unreachable("the first answer is none to CONNECT; is this a broker?".into())),
        None => {
            let reason = sent.err().map_or_else(|| "without a word".into(), |error| error.to_string());
            Err(NotOpened::ClosedEarly(reason))
        }
    }
}

/// The first packet of the broker; none if it closed the connection without a word.
async fn first_packet(
    stream: &mut dyn Duplex,
    reader: &mut Reader,
    target: &Target,
) -> Result<Option<Packet>, NotOpened> {
    loop {
        let read = stream.read_buf(&mut reader.buffer).await;
        if let Err(error) = &read
            && let Some(tls) = error_in(error)
        {
            return Err(NotOpened::Failed(Failure::Unreachable(in_words(tls, &target.host))));
        }
        if read.is_err() || read.is_ok_and(|bytes| bytes == 0) {
            return Ok(None);
        }
        // A TLS alert: what a server of TLS answers to plain words.
        if target.tls.is_none() && reader.buffer.starts_with(&[0x15, 3]) {
            return Err(NotOpened::Failed(met_tls()));
        }
        // A broker's first packet is CONNACK or DISCONNECT; other services are not waited for.
        if reader.buffer.first().is_some_and(|first| !matches!(first >> 4, 2 | 14)) {
            let words = "what answers is no MQTT broker; is this the right port?";
            return Err(NotOpened::Failed(Failure::Unreachable(words.into())));
        }
        let broken = |violation: Violation| {
            let words = format!("what answers is no MQTT broker: {violation}");
            NotOpened::Failed(Failure::Unreachable(words))
        };
        if let Some(packet) = reader.next().map_err(broken)? {
            return Ok(Some(packet));
        }
    }
}

/// TLS on a connection that stands.
async fn secure(
    tcp: TcpStream,
    target: &Target,
    tls: &Tls,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    let name = ServerName::try_from(target.host.clone()).map_err(|_| {
        Failure::Unreachable(format!("{} is no name that a certificate can have", target.host))
    })?;
    let connector = TlsConnector::from(tls.config());
    let error = match connector.connect(name, tcp).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    if is_no_tls(&error) && matches!(timeout(GUESS, speaks_plain_mqtt(target)).await, Ok(true)) {
        let words = "this port speaks MQTT without TLS; set mqtt.port to the broker's port with TLS \
                     (often 8883), or mqtt.tls = false";
        return Err(Failure::Unreachable(words.into()));
    }
    let words = match error_in(&error) {
        _ if is_no_tls(&error) => {
            format!("no TLS handshake came about; is this a port with TLS? ({error})")
        }
        Some(tls) => in_words(tls, &target.host),
        None => error.to_string(),
    };
    Err(Failure::Unreachable(words))
}

/// Whether the port answers a TLS handshake. Nothing of ours is said there.
async fn speaks_tls(target: &Target) -> bool {
    let Ok(tcp) = dial::reach(&target.host, target.port, None).await else { return false };
    let (Some(tls), Ok(name)) = (Tls::of_a_sceptic(), ServerName::try_from(target.host.clone())) else {
        return false;
    };
    match TlsConnector::from(tls.config()).connect(name, tcp).await {
        Ok(_) => true,
        Err(error) => !is_no_tls(&error),
    }
}

/// Whether the port answers CONNECT without TLS. Neither user name nor password is said there.
async fn speaks_plain_mqtt(target: &Target) -> bool {
    let Ok(mut tcp) = dial::reach(&target.host, target.port, None).await else { return false };
    let client_id = format!("retinad-guess-{}", std::process::id());
    let hello = Hello { client_id, credentials: None, will: None, keep_alive: target.hello.keep_alive };
    let mut bytes = BytesMut::new();
    Writer { version: Version::Three }.connect(&hello, &mut bytes);
    let mut first = [0];
    tcp.write_all(&bytes).await.is_ok() && tcp.read_exact(&mut first).await.is_ok() && first[0] == 0x20
}

/// The loop of a connection on which the broker took us.
struct Loop<'a> {
    to: &'a Events,
    orders: mpsc::Receiver<Order>,
    reader: Reader,
    writer: Writer,
    /// Bytes for the socket.
    waiting: BytesMut,
    /// Whether the socket has sent all that it took.
    flushed: bool,
    /// DISCONNECT is among the bytes that wait.
    leaving: bool,
    keep_alive: Duration,
    /// When a whole packet, or a part of a large one, came last.
    heard: Instant,
    /// Bytes that came since.
    unheard_bytes: usize,
    pinged: Instant,
    /// When the socket took bytes last, or had to take none.
    wrote: Instant,
}

impl Loop<'_> {
    async fn run(
        mut self,
        mut input: impl AsyncRead + Unpin,
        mut output: impl AsyncWrite + Unpin,
    ) -> Result<(), Failure> {
        let mut turn = interval(Duration::from_secs(1));
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What came together with CONNACK.
        self.take_packets().await?;
        while !(self.leaving && self.waiting.is_empty() && self.flushed) {
            self.reader.buffer.reserve(16 << 10);
            let has_room = self.waiting.len() < MAX_WAITING;
            let has_to_write = !self.waiting.is_empty() || !self.flushed;
            tokio::select! {
                read = input.read_buf(&mut self.reader.buffer), if has_room => {
                    self.take_bytes(read.map_err(|error| lost(&error))?).await?;
                }
                flushed = write_some(&mut output, &mut self.waiting), if has_to_write => {
                    self.flushed = flushed.map_err(|error| lost(&error))?;
                    self.wrote = Instant::now();
                    self.give_memory_back();
                }
                order = self.orders.recv(), if has_room && !self.leaving => match order {
                    Some(order) => self.take_order(order),
                    // Nobody is interested any more.
                    None => return Ok(()),
                },
                _ = turn.tick() => self.look_at_clock()?,
            }
        }
        let _ = timeout(GUESS, output.shutdown()).await;
        let _ = self.to.send(Ok(Event::Closed)).await;
        Ok(())
    }

    async fn take_bytes(&mut self, bytes: usize) -> Result<(), Failure> {
        if bytes == 0 {
            return Err(Failure::Lost("the broker closed the connection".into()));
        }
        self.unheard_bytes += bytes;
        if self.unheard_bytes >= STEP {
            (self.heard, self.unheard_bytes) = (Instant::now(), 0);
        }
        self.take_packets().await
    }

    async fn take_packets(&mut self) -> Result<(), Failure> {
        while let Some(packet) = self.reader.next()? {
            (self.heard, self.unheard_bytes) = (Instant::now(), 0);
            let event = match packet {
                Packet::Subscribed { id, refused, reason } => Event::Subscribed { id, refused, reason },
                Packet::Acknowledged { id, refusal } => Event::Acknowledged { id, refusal },
                Packet::Message(message) => {
                    self.acknowledge(message.id);
                    Event::Message(message)
                }
                Packet::Oversize(message) => {
                    self.acknowledge(message.id);
                    Event::Oversize(message)
                }
                Packet::Goodbye { taken_over: true, reason } => return Err(Failure::TakenOver(reason)),
                Packet::Goodbye { reason, .. } => {
                    return Err(Failure::Lost(format!("the broker ended the session: {reason}")));
                }
                Packet::Other => continue,
                Packet::Welcome(_) | Packet::Refused(_) | Packet::OtherVersion => {
                    return Err(Failure::Lost("the broker breaks the protocol: a second CONNACK".into()));
                }
            };
            if self.to.send(Ok(event)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, id: Option<u16>) {
        if let Some(id) = id {
            self.begin_to_write();
            self.writer.acknowledge(id, &mut self.waiting);
        }
    }

    fn take_order(&mut self, order: Order) {
        self.begin_to_write();
        let waiting = &mut self.waiting;
        match order {
            Order::Subscribe { id, filters, kept_too } => {
                self.writer.subscribe(id, &filters, kept_too, waiting);
            }
            Order::Unsubscribe { id, filter } => self.writer.unsubscribe(id, &filter, waiting),
            Order::Publish { topic, payload, retain, id } => {
                self.writer.publish(&topic, payload, retain, id, waiting);
            }
            Order::Propose { topic, id } => self.writer.propose(&topic, id, waiting),
            Order::Disconnect => {
                self.writer.disconnect(waiting);
                self.leaving = true;
            }
        }
    }

    /// The socket's time runs from when it has something to take.
    fn begin_to_write(&mut self) {
        if self.waiting.is_empty() && self.flushed {
            self.wrote = Instant::now();
        }
    }

    /// A large picture leaves no large buffer behind.
    fn give_memory_back(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > MAX_WAITING {
            self.waiting = BytesMut::new();
        }
    }

    /// Pings, and ends a connection on which nothing moves.
    fn look_at_clock(&mut self) -> Result<(), Failure> {
        let patience = self.keep_alive.mul_f64(1.5).max(SHORTEST_PATIENCE);
        if self.heard.elapsed() > patience {
            return Err(Failure::Lost(format!("the broker was silent for {} s", patience.as_secs())));
        }
        if (!self.waiting.is_empty() || !self.flushed) && self.wrote.elapsed() > STALL {
            return Err(Failure::Lost(format!("the broker took no byte for {} s", STALL.as_secs())));
        }
        // A ping also where we speak ourselves, because only its answer shows that the broker still does.
        if self.pinged.elapsed() >= self.keep_alive * 2 / 3 {
            self.begin_to_write();
            self.writer.ping(&mut self.waiting);
            self.pinged = Instant::now();
        }
        Ok(())
    }
}

/// Writes what the socket takes, or lets it send what it took; whether nothing is left to be sent.
async fn write_some(output: &mut (impl AsyncWrite + Unpin), waiting: &mut BytesMut) -> std::io::Result<bool> {
    if waiting.is_empty() {
        output.flush().await.map(|()| true)
    } else if output.write_buf(waiting).await? == 0 {
        Err(std::io::ErrorKind::WriteZero.into())
    } else {
        Ok(false)
    }
}

fn lost(error: &std::io::Error) -> Failure {
    match error_in(error) {
        Some(tls) => Failure::Lost(in_words(tls, "the broker")),
        None => Failure::Lost(format!("connection lost: {error}")),
    }
}
