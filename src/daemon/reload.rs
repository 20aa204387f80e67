//! SIGHUP: the settings are read and checked on a thread of their own, because a file may stand on a slow
//! disk.

use super::DaemonError;
use super::identity::{credentials, tls};
use super::models;
use crate::publish::{PublishError, Tls};
use crate::secret::Secret;
use crate::settings::{Settings, SettingsError};
use crate::zones::LabelError;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;

/// How the settings are read.
pub type ReadSettings = Arc<dyn Fn() -> Result<Settings, SettingsError> + Send + Sync>;

/// Why a reload leaves the old settings in force. One line.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error("{0}")]
    Settings(#[from] SettingsError),
    #[error("{0}")]
    Publish(#[from] PublishError),
    #[error("{0}")]
    Daemon(#[from] DaemonError),
    #[error("{0}")]
    Labels(#[from] LabelError),
    #[error("reload thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// New settings with what had to be read for them.
pub(super) struct Reloaded {
    pub settings: Settings,
    pub credentials: Option<(String, Secret)>,
    pub tls: Option<Tls>,
}

/// Reads settings, one reload at a time.
pub(super) struct Reload {
    read: ReadSettings,
    busy: bool,
    /// Another reload was asked for while one was under way; the file may have changed since it was read.
    again: bool,
    to: Sender<Result<Reloaded, ReloadError>>,
    results: Receiver<Result<Reloaded, ReloadError>>,
}

impl Reload {
    pub fn new(read: ReadSettings) -> Self {
        let (to, results) = bounded(1);
        Self { read, busy: false, again: false, to, results }
    }

    pub fn results(&self) -> &Receiver<Result<Reloaded, ReloadError>> {
        &self.results
    }

    /// Whether nothing is being read.
    pub fn is_idle(&self) -> bool {
        !self.busy
    }

    /// Reads the settings; the result comes on [`Reload::results`].
    pub fn begin(&mut self) {
        if std::mem::replace(&mut self.busy, true) {
            self.again = true;
            return;
        }
        let (read, to) = (Arc::clone(&self.read), self.to.clone());
        let started = std::thread::Builder::new().name("reload".into()).spawn(move || {
            let _ = to.send(read_all(&read));
        });
        if let Err(error) = started {
            let _ = self.to.try_send(Err(error.into()));
        }
    }

    /// A result was taken.
    pub fn done(&mut self) {
        self.busy = false;
        if std::mem::take(&mut self.again) {
            self.begin();
        }
    }
}

fn read_all(read: &ReadSettings) -> Result<Reloaded, ReloadError> {
    let settings = read()?;
    if settings.cameras.is_empty() {
        return Err(DaemonError::NoCamera.into());
    }
    models::check_labels_ahead(&settings)?;
    let (credentials, tls) = (credentials(&settings)?, tls(&settings)?);
    Ok(Reloaded { settings, credentials, tls })
}
