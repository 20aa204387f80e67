//! One client's connection: bytes in and out, and the deadlines.

use super::packet::{self, Hello, Refusal, Violation};
use super::router::{Calls, End, Key, Router};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Largest PUBLISH that is read, bytes after the length: a little more than the daemon sends, and as much
/// as Mosquitto 2.1 takes.
pub(super) const LARGEST_PUBLISH: usize = 2 << 20;
/// Largest packet of another kind, bytes.
const LARGEST_OTHER: usize = 64 << 10;
/// Bytes of large packets that are read at the same time, over all clients.
pub(super) const READING: usize = 4 << 20;
/// Packets up to this size do not count there, so that a client that stalls in a large one holds up no
/// small one.
const SMALL: usize = 16 << 10;
/// Time for the first packet, and for the rest of a packet that has begun.
const PACKET_TIME: Duration = Duration::from_secs(10);
/// Time in which a client must take some bytes of what waits for it.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// Bytes that are written within that time.
const CHUNK: usize = 64 << 10;

/// What all connections share. It ends with the broker's thread.
pub(super) struct Shared {
    pub router: RefCell<Router>,
    /// Bytes of large packets that may still be read now.
    pub reading: Semaphore,
}

/// Serves a client until one side ends the connection.
pub(super) async fn serve(mut stream: TcpStream, shared: Rc<Shared>) {
    // Small messages must not wait for the acknowledgement of others; without it they are only later.
    let _ = stream.set_nodelay(true);
    if let Err(end) = converse(&mut stream, &shared).await {
        tracing::debug!(reason = %end, "embedded broker: connection ended");
    }
}

async fn converse(stream: &mut TcpStream, shared: &Shared) -> Result<(), End> {
    let (input, mut output) = stream.split();
    let mut input = BufReader::with_capacity(4096, input);
    let first = read_packet(&mut input, shared, Some(PACKET_TIME)).await?;
    let connect = match packet::hello(first.kind_and_flags, &first.body)? {
        Hello::Connect(connect) => connect,
        Hello::OtherVersion { level, answer } => {
            tracing::debug!(level, "embedded broker: a client speaks another version of MQTT than 3.1.1");
            return write(&mut output, answer).await;
        }
    };
    drop(first);
    // One and a half times the keep-alive [MQTT-3.1.2-24].
    let patience =
        (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1500));
    let calls = Rc::new(Calls::default());
    let begun = shared.router.borrow_mut().connect(connect, Rc::clone(&calls));
    let mut session = match begun {
        Ok(key) => Session { shared, key, why: End::Closed },
        Err(refusal) => return refuse(&mut output, refusal).await,
    };
    let key = session.key;
    let end = tokio::select! {
        end = read_all(&mut input, shared, key, patience) => end,
        end = write_all(&mut output, shared, key, &calls) => end,
        () = calls.ended.notified() => End::Closed,
    };
    session.why = end;
    Ok(())
}

/// A session that has begun. It ends when this is dropped, also by a panic in the connection's task.
struct Session<'a> {
    shared: &'a Shared,
    key: Key,
    why: End,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // Nobody borrows the router across an await, so it is free here.
        if let Ok(mut router) = self.shared.router.try_borrow_mut() {
            router.end(self.key, self.why);
        }
    }
}

async fn refuse(output: &mut (impl AsyncWrite + Unpin), refusal: Refusal) -> Result<(), End> {
    let mut buffer = Vec::new();
    packet::write_connack(&mut buffer, Some(refusal));
    write(output, &buffer).await
}

/// Hands the client's packets to the router until the session ends, and says why it does.
async fn read_all(
    input: &mut (impl AsyncRead + Unpin),
    shared: &Shared,
    key: Key,
    patience: Option<Duration>,
) -> End {
    loop {
        match read_packet(input, shared, patience).await {
            Ok(incoming) => {
                let Incoming { kind_and_flags, body, reading } = incoming;
                let packet = packet::read(kind_and_flags, body).map_err(End::from);
                if let Err(end) = packet.and_then(|packet| shared.router.borrow_mut().handle(key, packet)) {
                    return end;
                }
                drop(reading);
            }
            Err(end) => return end,
        }
    }
}

/// Writes what the router has for the client, whenever it calls, and says why that ends.
async fn write_all(output: &mut (impl AsyncWrite + Unpin), shared: &Shared, key: Key, calls: &Calls) -> End {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let large = shared.router.borrow_mut().fill(key, &mut buffer);
        if buffer.is_empty() {
            calls.write.notified().await;
            continue;
        }
        let payload = large.iter().flat_map(|message| message.payload().chunks(CHUNK));
        for bytes in std::iter::once(&buffer[..]).chain(payload) {
            if let Err(end) = write(output, bytes).await {
                return end;
            }
        }
    }
}

async fn write(output: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), End> {
    let written = timeout(WRITE_TIME, output.write_all(bytes)).await;
    written.map_err(|_| End::Stalled)?.map_err(closed)
}

/// Whatever the system says of a socket, the client is gone.
fn closed(_: io::Error) -> End {
    End::Closed
}

/// A packet as it came: first byte, and what follows the length.
pub(super) struct Incoming<'a> {
    pub kind_and_flags: u8,
    pub body: Vec<u8>,
    /// Its share of [`READING`], given back once the packet is handled.
    reading: Option<SemaphorePermit<'a>>,
}

/// Waits for a packet to begin, at most for `patience` where there is one, then [`PACKET_TIME`] for its
/// rest.
pub(super) async fn read_packet<'a>(
    input: &mut (impl AsyncRead + Unpin),
    shared: &'a Shared,
    patience: Option<Duration>,
) -> Result<Incoming<'a>, End> {
    let kind_and_flags = match patience {
        Some(patience) => timeout(patience, input.read_u8()).await.map_err(|_| End::Silent)?,
        None => input.read_u8().await,
    };
    let kind_and_flags = kind_and_flags.map_err(closed)?;
    let length = timeout(PACKET_TIME, read_length(input)).await.map_err(|_| End::Stalled)??;
    let limit = if kind_and_flags >> 4 == packet::kind::PUBLISH { LARGEST_PUBLISH } else { LARGEST_OTHER };
    if length > limit {
        return Err(Violation::TooLarge { bytes: length, limit }.into());
    }
    let mut reading = None;
    if length > SMALL {
        // The length is within its limit, and the semaphore is never closed.
        let share = u32::try_from(length).unwrap_or(u32::MAX);
        reading = Some(shared.reading.acquire_many(share).await.map_err(|_| End::Closed)?);
    }
    let mut body = vec![0; length];
    timeout(PACKET_TIME, input.read_exact(&mut body)).await.map_err(|_| End::Stalled)?.map_err(closed)?;
    Ok(Incoming { kind_and_flags, body, reading })
}

/// The length of the rest of a packet: seven bits a byte, the lowest first, four bytes at most (section
/// 2.2.3).
async fn read_length(input: &mut (impl AsyncRead + Unpin)) -> Result<usize, End> {
    let mut length = 0;
    for place in 0..4 {
        let byte = input.read_u8().await.map_err(closed)?;
        length |= usize::from(byte & 127) << (7 * place);
        if byte & 128 == 0 {
            return Ok(length);
        }
    }
    Err(Violation::Length.into())
}
