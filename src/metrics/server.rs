//! The answer over HTTP, on loopback: `GET /metrics` and nothing else.
//!
//! Whoever can reach the port may be hostile, so all of it is bounded: connections at the same time, the bytes
//! and the time of a request's head, the time of the whole. One connection gets one answer. A request's body is
//! not read. All of it runs on one thread; the text is written once for all who ask within a second.

use super::text::CONTENT_TYPE;
use super::{Figures, render};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE as CONTENT_TYPE_NAME, HeaderValue};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Connections at the same time. The next one ends the oldest: who asks has the answer within milliseconds, so the
/// oldest is one that does not ask, or does not read.
const CONNECTIONS: usize = 8;
/// Time for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// Time for a whole connection: what Prometheus itself waits.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Most bytes of a request's head, which is the least that hyper allows.
const HEAD_BYTES: usize = 8 << 10;
/// Pause before what failed is tried again: an address that is taken, a connection that cannot be accepted.
const PAUSE: Duration = Duration::from_secs(10);
/// Where the metrics are.
const PATH: &str = "/metrics";

/// The server's thread. It ends when this is dropped.
pub struct Server {
    address: watch::Sender<Option<SocketAddr>>,
    latest: Arc<Latest>,
}

/// What is told.
struct Latest(Mutex<Told>);

struct Told {
    figures: Arc<Figures>,
    /// The figures as text, once somebody asked.
    text: Option<Bytes>,
}

impl Server {
    /// Starts the thread, which listens nowhere yet.
    ///
    /// # Errors
    /// If the thread or its runtime cannot be started.
    pub fn start(figures: Figures) -> io::Result<Self> {
        let latest = Arc::new(Latest(Mutex::new(Told { figures: Arc::new(figures), text: None })));
        let (address, wanted) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let theirs = Arc::clone(&latest);
        let body = move || runtime.block_on(serve(wanted, theirs));
        std::thread::Builder::new().name("metrics".into()).spawn(body)?;
        Ok(Self { address, latest })
    }

    /// Listens there from now on, or nowhere. An address that is taken is tried again until it is free.
    pub fn listen(&self, address: Option<SocketAddr>) {
        self.address.send_if_modified(|known| std::mem::replace(known, address) != address);
    }

    /// Whether it is to listen anywhere.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.address.borrow().is_some()
    }

    /// Tells these figures from now on.
    pub fn put(&self, figures: Figures) {
        *self.latest.told() = Told { figures: Arc::new(figures), text: None };
    }
}

impl Latest {
    fn told(&self) -> MutexGuard<'_, Told> {
        // Every change under the lock is whole before anything could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text, written where nobody has asked since the figures came. Nobody waits for that.
    fn text(&self) -> Bytes {
        let figures = {
            let told = self.told();
            if let Some(text) = &told.text {
                return text.clone();
            }
            Arc::clone(&told.figures)
        };
        let text = Bytes::from(render(&figures));
        let mut told = self.told();
        if Arc::ptr_eq(&told.figures, &figures) {
            told.text = Some(text.clone());
        }
        text
    }
}

/// Listens where it is wanted, until nobody wants anything any more.
async fn serve(mut wanted: watch::Receiver<Option<SocketAddr>>, latest: Arc<Latest>) {
    loop {
        let address = *wanted.borrow_and_update();
        tokio::select! {
            () = listen(address, &latest) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// Answers at `address` for ever.
async fn listen(address: Option<SocketAddr>, latest: &Arc<Latest>) {
    let Some(address) = address else { return std::future::pending().await };
    let listener = bind(address).await;
    let mut connections = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.retain(|task: &JoinHandle<()>| !task.is_finished());
                if connections.len() == CONNECTIONS {
                    connections.pop_front().iter().for_each(JoinHandle::abort);
                }
                connections.push_back(tokio::spawn(converse(stream, Arc::clone(latest))));
            }
            Err(error) => {
                tracing::debug!(%error, "metrics: cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    let mut has_failed = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "metrics can be read by HTTP");
                return listener;
            }
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!(%address, %error, "metrics cannot be read: no listening there; trying again");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One request, one answer.
async fn converse(stream: TcpStream, latest: Arc<Latest>) {
    let respond = |request| {
        let response = answer(&request, &latest);
        async { Ok::<_, Infallible>(response) }
    };
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
    let connection = builder.keep_alive(false).serve_connection(TokioIo::new(stream), service_fn(respond));
    // A client that goes away, breaks the protocol or is too slow harms itself only.
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIME, connection).await {
        tracing::debug!(%error, "metrics: connection ended");
    }
}

fn answer(request: &Request<Incoming>, latest: &Latest) -> Response<Full<Bytes>> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match (is_read, request.uri().path() == PATH) {
        (true, true) => response(StatusCode::OK, CONTENT_TYPE, latest.text()),
        (_, false) => response(StatusCode::NOT_FOUND, PLAIN, Bytes::from_static(NOT_FOUND)),
        (false, true) => {
            let mut refused =
                response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, Bytes::from_static(NOT_ALLOWED));
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            refused
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
const NOT_FOUND: &[u8] = b"nothing here; the metrics of retinad are at /metrics\n";
const NOT_ALLOWED: &[u8] = b"metrics can only be read: GET or HEAD\n";

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE_NAME, HeaderValue::from_static(content_type));
    response
}
