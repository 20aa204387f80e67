//! Who this node is, and by which name and password it comes to the broker.

use super::shell::publisher_options;
use super::{DaemonError, recorder};
use crate::contract::slug;
use crate::health;
use crate::publish::{PublishError, PublisherOptions, Tls, TlsFiles};
use crate::regular_file::{self, ReadError};
use crate::scene::Identity;
use crate::secret::Secret;
use crate::settings::{Settings, is_id};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Names that every fresh system has, so that they tell no two nodes apart.
const EVERYBODYS_NAMES: [&str; 2] = ["raspberrypi", "localhost"];
/// Digits of the board's serial number that are added to such a name.
const SERIAL_DIGITS: usize = 6;

/// The node's name: as set, else from the host name, with the board's serial where the host name is
/// everybody's.
#[must_use]
pub fn node_name(settings: &Settings) -> String {
    if !settings.node.is_empty() {
        return settings.node.clone();
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut name = slug(read("/proc/sys/kernel/hostname").trim()).replace('_', "-");
    if EVERYBODYS_NAMES.contains(&name.as_str()) {
        let serial: String =
            read("/proc/device-tree/serial-number").chars().filter(char::is_ascii_hexdigit).collect();
        if serial.len() >= SERIAL_DIGITS {
            name = format!("{name}-{}", &serial[serial.len() - SERIAL_DIGITS..].to_ascii_lowercase());
        }
    }
    if is_id(&name) { name } else { "retinad".into() }
}

/// What `bridge/info` says of this node for as long as the daemon runs.
pub(super) fn identity(node: String) -> Identity {
    let boot_id = health::kernel_random("boot_id");
    Identity {
        node,
        instance_id: health::kernel_random("uuid"),
        boot_id: boot_id.get(..8).unwrap_or_default().to_owned(),
        host: health::host(),
    }
}

/// Most bytes of a password's file.
const MOST_PASSWORD_BYTES: u64 = 4096;
/// From where the unit hands the password to the service. Whoever may read it there is asked by the broker
/// for the same password as the service.
const SERVICE_PASSWORD: &str = "/etc/retinad/mqtt-password";

/// Where the unit's StateDirectory lies.
const SERVICE_STATE: &str = "/var/lib/retinad";

/// User name and password, if any: from `mqtt.password_file`, or the systemd credential `mqtt-password`,
/// or, for a command outside of the service, from the file that the service gets it from.
///
/// # Errors
/// [`DaemonError::Password`] if the file cannot be read or others may read it.
pub fn credentials(settings: &Settings) -> Result<Option<(String, Secret)>, DaemonError> {
    let mqtt = &settings.mqtt;
    if mqtt.username.is_empty() {
        return Ok(None);
    }
    let credential =
        std::env::var_os("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join("mqtt-password"));
    let of_service = PathBuf::from(SERVICE_PASSWORD);
    let (path, ours) = match (mqtt.password_file.as_os_str().is_empty(), credential) {
        (false, _) => (mqtt.password_file.clone(), true),
        (true, Some(path)) if path.exists() => (path, false),
        (true, None) if of_service.exists() => (of_service, false),
        _ => return Ok(Some((mqtt.username.clone(), Secret::new(String::new())))),
    };
    let failed = |reason: String| DaemonError::Password { path: path.display().to_string(), reason };
    let mode =
        std::fs::metadata(&path).map_err(|e| failed(unreadable(&e, &path)))?.permissions().mode() & 0o777;
    if ours && mode & 0o077 != 0 {
        return Err(failed(format!(
            "mode {mode:04o} lets others read it; 0600 or stricter is allowed (chmod 600)"
        )));
    }
    let bytes = regular_file::read(&path, MOST_PASSWORD_BYTES).map_err(|error| match error {
        ReadError::System(error) => failed(unreadable(&error, &path)),
        error => failed(error.to_string()),
    })?;
    let password = String::from_utf8(bytes).map_err(|_| failed("is not UTF-8 text".into()))?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    Ok(Some((mqtt.username.clone(), Secret::new(password))))
}

/// How TLS to the broker is spoken, if it is: its files are read now.
///
/// # Errors
/// [`PublishError::Tls`](crate::publish::PublishError::Tls) names the key and the file.
pub fn tls(settings: &Settings) -> Result<Option<Tls>, PublishError> {
    let mqtt = &settings.mqtt;
    let files = TlsFiles {
        ca: &mqtt.ca_file,
        client_cert: &mqtt.client_cert_file,
        client_key: &mqtt.client_key_file,
    };
    mqtt.tls.then(|| Tls::load(files)).transpose()
}

/// The error, and the way out where the service's own user may not read the file.
fn unreadable(error: &std::io::Error, path: &Path) -> String {
    if error.kind() == ErrorKind::PermissionDenied && path == Path::new(SERVICE_PASSWORD) {
        format!("{error}; it is the service's, for which this is to be run as root (sudo)")
    } else if error.kind() == ErrorKind::PermissionDenied {
        format!(
            "{error}; for the service leave it empty and put the password into /etc/retinad/mqtt-password"
        )
    } else {
        error.to_string()
    }
}

/// Where state is kept: the settings' folder, else systemd's.
pub(super) fn state_folder(settings: &Settings) -> Option<PathBuf> {
    let set = Some(settings.state_dir.clone()).filter(|path| !path.as_os_str().is_empty());
    set.or_else(|| std::env::var_os("STATE_DIRECTORY").map(PathBuf::from))
}

/// The state folder as a command sees it: that of the settings, else the service's, if there is one.
#[must_use]
pub fn state_folder_of_command(settings: &Settings) -> Option<PathBuf> {
    state_folder(settings).or_else(|| Some(PathBuf::from(SERVICE_STATE)).filter(|path| path.exists()))
}

/// Whether state can be kept where the settings say, in words.
///
/// # Errors
/// In words, naming the folder.
pub fn try_state_folder(settings: &Settings) -> Result<String, String> {
    match state_folder(settings) {
        Some(folder) => recorder::try_folder(&folder),
        None if Path::new(SERVICE_STATE).exists() => Ok(format!("the service keeps it in {SERVICE_STATE}")),
        None => {
            Ok("none set: what is set over MQTT is forgotten at the end; the service has a folder".into())
        }
    }
}

/// How `run` would come to the broker, with the password and the files of TLS as they are now.
///
/// # Errors
/// [`DaemonError::Password`] and [`DaemonError::Publish`] name what cannot be read.
pub fn broker_options(settings: &Settings) -> Result<PublisherOptions, DaemonError> {
    let (credentials, tls) = (credentials(settings)?, tls(settings)?);
    Ok(publisher_options(settings, &node_name(settings), credentials, tls))
}

/// Whether a daemon runs on this machine that keeps its state where these settings say. Without a folder, or
/// without the right to look into it, nothing says so.
#[must_use]
pub fn runs_here(settings: &Settings) -> bool {
    let folder = state_folder(settings).unwrap_or_else(|| PathBuf::from(SERVICE_STATE));
    recorder::is_in_use(&folder)
}

/// Host of the broker: the settings', or loopback for the embedded one.
#[must_use]
pub fn broker_host(settings: &Settings) -> String {
    if settings.mqtt.host.is_empty() { "127.0.0.1".into() } else { settings.mqtt.host.clone() }
}
