//! How a command ends: one exit code for each kind of failure, taken from the kind of the error and never
//! from its words.
//!
//! systemd starts the service again on every code but 0 and 78 (`systemd/retinad.service`), so 78 is only for
//! what a restart cannot mend. The numbers above 64 are those of sysexits(3).

use crate::daemon::{DaemonError, RecorderError};
use crate::detector::DetectError;
use crate::model::ModelError;
use crate::publish::PublishError;
use crate::settings::SettingsError;
use std::fmt::Display;

/// Why a command did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Some input failed; it is named on stderr.
    SomeFailed = 1,
    /// The command line does not make sense.
    Usage = 2,
    /// Something needed is not reachable: a camera, a broker.
    Unreachable = 69,
    /// The program failed: a thread ended, every model failed.
    Internal = 70,
    /// The system refused a thread, memory, a port, a folder that another daemon uses.
    Refused = 71,
    /// A child's program cannot be started: what a shell says of it.
    NotStarted = 127,
    /// Nothing failed: somebody asked for a restart, which is systemd's part (`RestartForceExitStatus`).
    Again = 75,
    /// Settings, model or password cannot be used, which a restart cannot mend.
    Unusable = 78,
}

/// A command's failure: code and one line; without words where everything was said already.
#[derive(Debug)]
pub struct Failure {
    /// Its kind.
    pub exit: Exit,
    /// One line that names the thing, what was wrong and what is allowed.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// For `map_err`: a failure of this kind, with the error's words.
    pub fn of<E: Display>(exit: Exit) -> impl Fn(E) -> Self {
        move |error| Self::new(exit, error)
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::new(Exit::Unusable, error)
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::new(Exit::Unusable, error)
    }
}

/// A session that cannot be built: the model is well, the system gave no thread or memory.
impl From<DetectError> for Failure {
    fn from(error: DetectError) -> Self {
        Self::new(Exit::Refused, error)
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Self::new(of_publishing(&error), error)
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        let exit = match &error {
            DaemonError::NoCamera | DaemonError::Labels(_) | DaemonError::Password { .. } => Exit::Unusable,
            DaemonError::Session { .. } | DaemonError::Thread(_) => Exit::Refused,
            DaemonError::Recorder(RecorderError::InUse { .. } | RecorderError::Thread(_)) => Exit::Refused,
            DaemonError::Publish(error) => of_publishing(error),
            DaemonError::ThreadEnded { .. } | DaemonError::NoModelLeft { .. } => Exit::Internal,
        };
        Self::new(exit, error)
    }
}

fn of_publishing(error: &PublishError) -> Exit {
    match error {
        PublishError::Broker { .. } | PublishError::Thread(_) => Exit::Refused,
        PublishError::Tls { .. } => Exit::Unusable,
        PublishError::Refused { .. } => Exit::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    #[test]
    fn only_what_a_restart_cannot_mend_ends_with_78() {
        let thread = || Error::from_raw_os_error(11);
        let port = PublishError::Broker { port: 1883, reason: "taken".into() };
        let tls = PublishError::Tls { key: "mqtt.ca_file", path: "p".into(), reason: "no PEM".into() };
        let cases = [
            (DaemonError::NoCamera, Exit::Unusable),
            (DaemonError::Password { path: "p".into(), reason: "mode".into() }, Exit::Unusable),
            (DaemonError::Publish(PublishError::Thread(thread())), Exit::Refused),
            (DaemonError::Publish(port), Exit::Refused),
            (DaemonError::Publish(tls), Exit::Unusable),
            (DaemonError::Thread(thread()), Exit::Refused),
            (DaemonError::Recorder(RecorderError::InUse { folder: "f".into() }), Exit::Refused),
            (DaemonError::Recorder(RecorderError::Thread(thread())), Exit::Refused),
            (DaemonError::ThreadEnded { thread: "mqtt".into(), how: "ended".into() }, Exit::Internal),
            (DaemonError::NoModelLeft { reason: "panicked".into() }, Exit::Internal),
        ];
        for (error, exit) in cases {
            assert_eq!(Failure::from(error).exit, exit);
        }
        assert_eq!(
            [Exit::SomeFailed as u8, Exit::Unreachable as u8, Exit::Internal as u8, Exit::Refused as u8],
            [1, 69, 70, 71]
        );
    }
}
