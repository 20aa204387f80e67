//! The connection to the broker: the only folder that names the MQTT library.
//!
//! One thread, one single-threaded runtime. A new connection gets a new client, so nothing that was kept for
//! the old one is sent twice or lost unseen.

mod asking;
mod cleaning;
mod clients;
mod connection;
mod culprit;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod notices;
mod rehearsal;
mod session;
mod tls;
mod twin;
mod wire;

pub use asking::{Answer, request};
pub use cleaning::{Cleaned, Leftovers, clean};
pub use clients::{Heard, SubscribeOptions, subscribe};
pub use rehearsal::{Rehearsal, rehearse};
pub use tls::{Tls, TlsFiles};

use super::{LinkNews, PublisherOptions, Shared, Wanted};
use crate::backoff::Backoff;
use crate::contract::{Kind, Topic};
use connection::Failure;
use crossbeam_channel::Sender;
use culprit::{Culprits, Mark};
use notices::Notices;
use session::End;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use wire::Version;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// A session that lived this long resets the back-off.
const STEADY: Duration = Duration::from_secs(30);
/// Longest wait for a broker that was there less than [`STEADY`] ago: it is being started again.
const RESTART_WAIT: Duration = Duration::from_secs(2);
/// Sessions in a row shorter than [`STEADY`], after which a broker is not taken for one that starts again.
const MOST_RESTARTS: u32 = 10;
/// Short sessions in a row, from which on it is looked whether another client has our id.
const SUSPICIOUS: u32 = 3;
/// Pause where another client has our id: each attempt throws the other out.
const DUPLICATE_WAIT: Duration = Duration::from_secs(60);

/// What is remembered from one session to the next.
struct Attempts {
    backoff: Backoff,
    /// Sessions in a row that were shorter than [`STEADY`].
    short_sessions: u32,
    /// When a connection stood last.
    last_online: Option<Instant>,
    /// Sessions in a row that ended because another client came with our id, says the broker.
    taken_over: u32,
    /// The reason that was logged last; the same is not logged again before a session was steady.
    last_logged_reason: Option<String>,
    known: Known,
}

/// What a session may know from those before.
#[derive(Default)]
struct Known {
    /// The version of MQTT that the broker speaks.
    version: Option<Version>,
    /// The address that the last connection reached.
    reached: Option<SocketAddr>,
    /// One that was reached and did not take us; the name's others go first.
    avoid: Option<SocketAddr>,
    /// The broker has acknowledged `bridge/info` of ours.
    info_stands: bool,
    /// The oldest message that was not acknowledged when the last session was lost.
    not_acknowledged: Option<Mark>,
    culprits: Culprits,
    notices: Notices,
}

/// Keeps a connection until the orders close and everything is sent.
pub(super) async fn keep(shared: Arc<Shared>, news: Sender<LinkNews>, mut orders: watch::Receiver<Wanted>) {
    let mut attempts = Attempts::new();
    loop {
        let Wanted::Link(options) = orders.borrow_and_update().clone() else { return };
        let begun = Instant::now();
        let end = session::run(&options, &shared, &news, &mut orders, &mut attempts.known).await;
        let was_connected = shared.counters.connected.swap(false, Ordering::Relaxed);
        shared.outbox().disconnect();
        let _ = news.try_send(LinkNews::Changed);
        let failure = match end {
            End::Closed => return,
            End::Replaced => {
                attempts = Attempts::new();
                continue;
            }
            End::Failed(failure) => failure,
        };
        let lived = was_connected.then(|| begun.elapsed());
        attempts.count(&options, &failure, lived);
        let ended = Instant::now();
        let pause = attempts.pause(ended);
        // The look is a part of the pause.
        let look = attempts.is_duplicate(&options, &shared, &failure);
        let Some(duplicate) = while_turning(&shared, &mut orders, look).await else { continue };
        shared.counters.suspect_duplicate.store(duplicate, Ordering::Relaxed);
        let pause = if duplicate { DUPLICATE_WAIT } else { pause.saturating_sub(ended.elapsed()) };
        attempts.log(&options, failure, duplicate, pause);
        while_turning(&shared, &mut orders, tokio::time::sleep(pause)).await;
    }
}

/// Waits for `what`, but not longer than until other orders come.
async fn while_turning<T>(
    shared: &Shared,
    orders: &mut watch::Receiver<Wanted>,
    what: impl Future<Output = T>,
) -> Option<T> {
    let mut what = std::pin::pin!(what);
    loop {
        shared.turns.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            done = &mut what => return Some(done),
            () = tokio::time::sleep(session::TURN) => {}
            _ = orders.changed() => return None,
        }
    }
}

impl Attempts {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            short_sessions: 0,
            last_online: None,
            taken_over: 0,
            last_logged_reason: None,
            known: Known::default(),
        }
    }

    /// Counts a session that failed; `connected_for` is how long its connection stood, if it did.
    fn count(&mut self, options: &PublisherOptions, failure: &Failure, connected_for: Option<Duration>) {
        let reached = self.known.reached.take();
        self.known.avoid = reached.filter(|_| connected_for.is_none());
        if let Some(lived) = connected_for {
            self.last_online = Some(Instant::now());
            self.short_sessions += 1;
            let oldest = self.known.not_acknowledged.take();
            if lived < STEADY {
                self.suspect(options, oldest);
            } else {
                self.known.culprits.forget();
                self.backoff.reset();
                (self.short_sessions, self.taken_over) = (0, 0);
                self.last_logged_reason = None;
            }
        }
        if matches!(failure, Failure::TakenOver(_)) {
            self.taken_over += 1;
        }
    }

    /// A message at which sessions end again and again is left out, but for `online` and `offline`.
    fn suspect(&mut self, options: &PublisherOptions, oldest: Option<Mark>) {
        let status = options.names().full(&Topic::of_node(Kind::Status));
        let left_out = self.known.culprits.lost(oldest.filter(|mark| mark.topic != status));
        if let Some(Mark { topic, .. }) = left_out {
            tracing::warn!(
                topic,
                "the broker ends the session whenever this message is sent; it is left out until a session lasts"
            );
        }
    }

    /// Whether another client has our id: the broker said so twice (once it may have been one that only
    /// looked in), or one that does not say so keeps what another daemon wrote in our name.
    async fn is_duplicate(&self, options: &PublisherOptions, shared: &Shared, failure: &Failure) -> bool {
        match failure {
            Failure::TakenOver(_) => self.taken_over >= 2,
            Failure::Lost(_) if self.known.info_stands && self.short_sessions >= SUSPICIOUS => {
                let ours = shared.outbox().state(&Topic::of_node(Kind::Info)).map(<[u8]>::to_vec);
                twin::is_proven(options, self.known.version, &ours.unwrap_or_default()).await
            }
            Failure::Lost(_) | Failure::Unreachable(_) | Failure::Refused(_) => false,
        }
    }

    fn pause(&mut self, now: Instant) -> Duration {
        let wait = self.backoff.next_wait();
        let starts_again = self.short_sessions <= MOST_RESTARTS
            && self.last_online.is_some_and(|at| now.saturating_duration_since(at) < STEADY);
        let wait = if starts_again { wait.min(RESTART_WAIT) } else { wait };
        wait.mul_f64(0.8 + 0.4 * jitter())
    }

    fn log(&mut self, options: &PublisherOptions, failure: Failure, duplicate: bool, pause: Duration) {
        let reason = failure.to_string();
        if self.last_logged_reason.as_ref() == Some(&reason) {
            return;
        }
        let Some(left_out) = self.known.notices.failures.admits(Instant::now()) else { return };
        let (broker, next_try_s) = (options.broker(), pause.as_secs_f32());
        let left_out = (left_out > 0).then_some(left_out);
        match failure {
            _ if duplicate => tracing::warn!(
                client_id = options.client_id(),
                reason,
                next_try_s,
                left_out,
                "client id in use: give each machine its own node"
            ),
            Failure::Lost(_) | Failure::TakenOver(_) => {
                tracing::warn!(broker, reason, next_try_s, left_out, "connection to the broker lost");
            }
            Failure::Unreachable(_) | Failure::Refused(_) => {
                tracing::warn!(broker, reason, next_try_s, left_out, "broker not reachable");
            }
        }
        self.last_logged_reason = Some(reason);
    }
}

/// 0 to 1, from the clock: enough to keep a house full of cameras from reconnecting in step.
fn jitter() -> f64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    f64::from(nanos % 1000) / 999.0
}
