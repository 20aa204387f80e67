//! Bytes of the embedded broker's clients, as the fuzzer gives them.

use super::connection::{READING, Shared, read_packet};
use super::message::Qos;
use super::packet::{self, Connect, Hello, Packet};
use super::router::{Calls, End, Key, Router};
use crate::publish::link::fuzzing::assert_readable;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::Semaphore;

/// What two clients send, one after the other: length of what the first one sends, then both. Someone who
/// hears everything must be able to read what comes of it.
pub fn client_packets(bytes: &[u8]) {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let (first, second) = rest.split_at(usize::from(length).min(rest.len()));
    let shared = Shared { router: RefCell::new(Router::default()), reading: Semaphore::new(READING) };
    let listener = listen(&shared);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        for stream in [first, second] {
            let mut client = None;
            let end = converse(stream, &shared, listener, &mut client).await;
            assert_eq!(end.to_string().lines().count(), 1, "{end}");
            if let Some(key) = client {
                written_to(&shared, key);
                shared.router.borrow_mut().end(key, end);
            }
            assert_readable(&written_to(&shared, listener));
        }
    });
    assert_eq!(shared.reading.available_permits(), READING);
}

/// A client that subscribes to everything.
fn listen(shared: &Shared) -> Key {
    let hello = Connect { client_id: "listener".into(), clean_session: true, keep_alive: 0, will: None };
    let mut router = shared.router.borrow_mut();
    let key = router.connect(hello, Rc::new(Calls::default())).expect("the first client");
    router.handle(key, Packet::Subscribe(1, vec![("#".into(), Qos::AtMostOnce)])).expect("subscribes");
    key
}

/// Does with a client's bytes what a connection does, until it ends; `client` is then its session, if it
/// came to one.
async fn converse(mut stream: &[u8], shared: &Shared, listener: Key, client: &mut Option<Key>) -> End {
    let first = match read_packet(&mut stream, shared, None).await {
        Ok(first) => first,
        Err(end) => return end,
    };
    let connect = match packet::hello(first.kind_and_flags, &first.body) {
        Ok(Hello::Connect(connect)) => connect,
        Ok(Hello::OtherVersion { answer, .. }) => {
            assert_eq!(usize::from(answer[1]), answer.len() - 2, "CONNACK");
            return End::Closed;
        }
        Err(violation) => return violation.into(),
    };
    let begun = shared.router.borrow_mut().connect(connect, Rc::new(Calls::default()));
    let Ok(key) = begun else { return End::Closed };
    *client = Some(key);
    loop {
        let incoming = match read_packet(&mut stream, shared, None).await {
            Ok(incoming) => incoming,
            Err(end) => return end,
        };
        let packet = packet::read(incoming.kind_and_flags, incoming.body).map_err(End::from);
        if let Err(end) = packet.and_then(|packet| shared.router.borrow_mut().handle(key, packet)) {
            return end;
        }
        written_to(shared, key);
        assert_readable(&written_to(shared, listener));
    }
}

/// Everything that waits for a client.
fn written_to(shared: &Shared, key: Key) -> Vec<u8> {
    let mut written = Vec::new();
    loop {
        let before = written.len();
        let large = shared.router.borrow_mut().fill(key, &mut written);
        written.extend(large.iter().flat_map(|message| message.payload()));
        if written.len() == before {
            return written;
        }
    }
}
