//! Metrics, where the settings want them.

use crate::metrics::{Figures, Server};
use crate::settings::MetricsSettings;

/// The server of metrics, once it was wanted.
#[derive(Default)]
pub(super) struct Metrics {
    /// Ends by being dropped. Where it is not wanted any more it listens nowhere.
    server: Option<Server>,
}

impl Metrics {
    /// Starts, moves or stops the server. The daemon's work does not depend on it, so what fails costs a line in the
    /// log.
    pub fn follow(&mut self, settings: &MetricsSettings, figures: impl FnOnce() -> Figures) {
        match &self.server {
            // It may have listened nowhere for a while.
            Some(server) if settings.enabled => server.put(figures()),
            None if settings.enabled => match Server::start(figures()) {
                Ok(server) => self.server = Some(server),
                Err(error) => {
                    tracing::warn!(%error, "metrics cannot be read: no thread for them");
                }
            },
            _ => {}
        }
        if let Some(server) = &self.server {
            server.listen(settings.enabled.then_some(settings.listen));
        }
    }

    /// Tells these figures from now on, where anybody may ask.
    pub fn put(&self, figures: impl FnOnce() -> Figures) {
        if let Some(server) = self.server.as_ref().filter(|server| server.is_listening()) {
            server.put(figures());
        }
    }
}
