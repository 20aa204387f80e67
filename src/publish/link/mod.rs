//! The connection to the broker: the only folder that names the MQTT library.
//!
//! One thread, one single-threaded runtime. A new connection gets a new client, so nothing that the library
//! may have kept is sent twice or lost unseen.

mod clients;
mod connection;
mod session;

pub use clients::{SubscribeOptions, probe, subscribe};

use super::{LinkNews, PublisherOptions, Shared, Wanted};
use crate::backoff::Backoff;
use crossbeam_channel::Sender;
use session::End;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// A session that lived this long resets the back-off.
const STEADY: Duration = Duration::from_secs(30);
/// Sessions shorter than this, three in a row, look like another client with our id.
const SHORT: Duration = Duration::from_secs(5);
/// Pause where another client seems to have our id: each attempt throws the other out.
const DUPLICATE_WAIT: Duration = Duration::from_secs(60);

/// What is remembered from one session to the next.
struct Attempts {
    backoff: Backoff,
    short_sessions: u32,
    /// The reason that was logged last; the same is not logged again before a connection stood.
    last_logged_reason: Option<String>,
}

/// Keeps a connection until the orders close and everything is sent.
pub(super) async fn keep(shared: Arc<Shared>, news: Sender<LinkNews>, mut orders: watch::Receiver<Wanted>) {
    let new = || Attempts {
        backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
        short_sessions: 0,
        last_logged_reason: None,
    };
    let mut attempts = new();
    loop {
        let Wanted::Link(options) = orders.borrow_and_update().clone() else { return };
        let begun = Instant::now();
        let end = session::run(&options, &shared, &news, &mut orders).await;
        let was_connected = shared.counters.connected.swap(false, Ordering::Relaxed);
        shared.outbox().disconnect();
        let _ = news.try_send(LinkNews::Changed);
        let reason = match end {
            End::Closed => return,
            End::Replaced => {
                attempts = new();
                continue;
            }
            End::Failed(reason) => reason,
        };
        let pause = attempts.after_failure(&options, &shared, reason, was_connected.then(|| begun.elapsed()));
        wait(&shared, &mut orders, pause).await;
    }
}

/// Waits, but not longer than until other orders come.
async fn wait(shared: &Shared, orders: &mut watch::Receiver<Wanted>, pause: Duration) {
    let until = tokio::time::Instant::now() + pause;
    while tokio::time::Instant::now() < until {
        shared.turns.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = tokio::time::sleep(session::TURN) => {}
            _ = orders.changed() => return,
        }
    }
}

impl Attempts {
    /// How long to wait after a session that failed; `connected_for` is how long its connection stood, if
    /// it did.
    fn after_failure(
        &mut self,
        options: &PublisherOptions,
        shared: &Shared,
        reason: String,
        connected_for: Option<Duration>,
    ) -> Duration {
        if connected_for.is_some() {
            self.last_logged_reason = None;
        }
        let short = connected_for.is_some_and(|lived| lived < SHORT);
        self.short_sessions = if short { self.short_sessions + 1 } else { 0 };
        if connected_for.is_some_and(|lived| lived >= STEADY) {
            self.backoff.reset();
            shared.counters.suspect_duplicate.store(false, Ordering::Relaxed);
        }
        let mut pause = self.backoff.next_wait().mul_f64(0.8 + 0.4 * jitter());
        if self.short_sessions >= 3 {
            shared.counters.suspect_duplicate.store(true, Ordering::Relaxed);
            tracing::warn!(
                client_id = options.client_id(),
                "client id in use? three sessions in a row ended within 5 s"
            );
            (self.short_sessions, pause) = (0, DUPLICATE_WAIT);
        }
        if self.last_logged_reason.as_ref() != Some(&reason) {
            tracing::warn!(
                broker = options.broker(),
                reason,
                next_try_s = pause.as_secs_f32(),
                "broker not reachable"
            );
            self.last_logged_reason = Some(reason);
        }
        pause
    }
}

/// 0 to 1, from the clock: enough to keep a house full of cameras from reconnecting in step.
fn jitter() -> f64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    f64::from(nanos % 1000) / 999.0
}
