//! What systemd is told, where it started us: the only file that names the notification library. Elsewhere every call does nothing.

use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// Least time between two status texts that differ only in figures.
const STATUS_GAP: Duration = Duration::from_secs(5);

/// See the module's words.
#[derive(Default)]
pub struct Service {
    ready: bool,
    failed: bool,
    status: String,
    said: Option<Instant>,
}

impl Service {
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

    /// The reload is over, well or not. Before [`Service::ready`] that is not told, because start-up is not over.
    pub fn reloaded(&mut self) {
        if self.ready {
            self.tell(&[NotifyState::Ready]);
        }
    }

    /// The end has begun.
    pub fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// The pipeline has moved. Only for that: a ping from a timer would hide what the watchdog is for.
    pub fn alive(&mut self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// One line for `systemctl status`; at once with `changed`, else at most every 5 s.
    pub fn status(&mut self, now: Instant, changed: bool, text: impl FnOnce() -> String) {
        if !changed && self.said.is_some_and(|said| now.saturating_duration_since(said) < STATUS_GAP) {
            return;
        }
        let text = text();
        self.said = Some(now);
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
