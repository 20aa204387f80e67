//! What systemd is told, where it started us: the only file that names the notification library. Elsewhere
//! every call does nothing.

use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// Least time between two status texts that differ only in figures.
const STATUS_GAP: Duration = Duration::from_secs(5);

/// Start-up is over after this time, though no camera has answered: one whose driver does not even answer
/// an open must not hold up what waits for us.
const LONGEST_START: Duration = Duration::from_secs(15);

/// The daemon's side of the notification socket.
pub(super) struct Service {
    started: Instant,
    ready: bool,
    /// A notification failed and was logged.
    failed: bool,
    /// The status line that systemd has.
    status: String,
    status_sent: Option<Instant>,
}

impl Service {
    /// Nothing is told yet.
    pub fn new(started: Instant) -> Self {
        Self { started, ready: false, failed: false, status: String::new(), status_sent: None }
    }

    /// Start-up is over, since the cameras have had their time.
    pub fn ready_after_longest_start(&mut self, now: Instant) {
        if now.saturating_duration_since(self.started) > LONGEST_START {
            self.ready();
        }
    }

    /// Start-up is over; told once.
    pub fn ready(&mut self) {
        if !self.ready {
            self.ready = true;
            self.tell(&[NotifyState::Ready]);
        }
    }

    /// The settings are read anew; [`Service::reloaded`] must follow.
    pub fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// The reload is over, well or not. Before [`Service::ready`] that is not told, because start-up is not
    /// over.
    pub fn reloaded(&mut self) {
        if self.ready {
            self.tell(&[NotifyState::Ready]);
        }
    }

    /// The end has begun.
    pub fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// The daemon does its work. Only for that: a ping from a timer would hide what the watchdog is for.
    pub fn alive(&mut self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// One line for `systemctl status`; at once with `changed`, else at most every 5 s.
    pub fn status(&mut self, now: Instant, changed: bool, text: impl FnOnce() -> String) {
        // Before that there is nothing to say yet.
        if !self.ready
            || !changed
                && self.status_sent.is_some_and(|sent| now.saturating_duration_since(sent) < STATUS_GAP)
        {
            return;
        }
        let text = text();
        self.status_sent = Some(now);
        if text != self.status {
            self.tell(&[NotifyState::Status(&text)]);
            self.status = text;
        }
    }

    fn tell(&mut self, states: &[NotifyState]) {
        if let Err(error) = sd_notify::notify(states)
            && !std::mem::replace(&mut self.failed, true)
        {
            tracing::warn!(%error, "systemd cannot be told how the service is ($NOTIFY_SOCKET)");
        }
    }
}
