//! `{secret:NAME}` in a camera's address or command: what it stands for is kept outside of the settings.

use super::Secret;
use crate::regular_file::{self, ReadError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const OPEN: &str = "{secret:";
/// Where a file of each secret may stand. The service cannot read it; systemd hands it a copy of each.
const FOLDER: &str = "/etc/retinad/secrets";
/// Longest name of a secret.
const LONGEST_NAME: usize = 64;
/// Most bytes of a secret.
const MOST_BYTES: u64 = 4096;
/// What must be written otherwise in an address.
const IN_ADDRESS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a text cannot be completed. One line, without the secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretError {
    /// The braces hold something else, or do not close.
    #[error(
        "{{secret:...}} is not complete: a name of 1 to 64 letters, digits, `_`, `-` and `.` belongs between : and }}"
    )]
    Name,
    /// Nobody keeps a secret of that name.
    #[error(
        "secret {name} is not there: put it into {FOLDER}/{name} (mode 0600; for the service as root, then restart it), or into the variable {variable}"
    )]
    Absent {
        /// Its name.
        name: String,
        /// The variable in which it may stand.
        variable: String,
    },
    /// It is there and cannot be used.
    #[error("secret {name}: {}: {reason}", path.display())]
    Unusable {
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Whether each `{secret:NAME}` of a text is complete.
///
/// # Errors
/// [`SecretError::Name`].
pub fn check_placeholders(text: &str) -> Result<(), SecretError> {
    replaced(text, |_, _| Ok("x".to_owned())).map(|_| ())
}

/// The text with `***` in place of each complete `{secret:NAME}`.
#[must_use]
pub fn masked_placeholders(text: &str) -> String {
    replaced(text, |_, _| Ok("***".to_owned())).unwrap_or_else(|_| text.to_owned())
}

/// The text with each `{secret:NAME}` replaced by what it stands for: from the systemd credential `NAME` or
/// `secrets_NAME`, else the file `/etc/retinad/secrets/NAME`, else the variable `RETINAD_SECRET_NAME`.
/// Within an address (behind `://`) it is written as an address needs it.
///
/// # Errors
/// [`SecretError`].
pub fn resolve(text: &str) -> Result<String, SecretError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    replaced(text, |name, in_address| {
        let secret = look_up(name, credentials.as_deref(), Path::new(FOLDER))?;
        Ok(if in_address {
            utf8_percent_encode(secret.expose(), IN_ADDRESS).to_string()
        } else {
            secret.expose().to_owned()
        })
    })
}

/// Replaces each placeholder by what `value` gives for its name and whether it stands within an address.
fn replaced(
    text: &str,
    value: impl Fn(&str, bool) -> Result<String, SecretError>,
) -> Result<String, SecretError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        let (before, after) = (&rest[..at], &rest[at + OPEN.len()..]);
        let (name, behind) = after.split_once('}').ok_or(SecretError::Name)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        // `.` and `..` are folders, and a hidden file is nobody's secret.
        if name.is_empty() || name.len() > LONGEST_NAME || name.starts_with('.') || !name.chars().all(fits) {
            return Err(SecretError::Name);
        }
        out.push_str(before);
        let word = &out[out.rfind(char::is_whitespace).map_or(0, |space| space + 1)..];
        let in_address = word.contains("://");
        out.push_str(&value(name, in_address)?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn look_up(name: &str, credentials: Option<&Path>, folder: &Path) -> Result<Secret, SecretError> {
    let handed = [name.to_owned(), format!("secrets_{name}")];
    let handed = handed.iter().filter_map(|file| credentials.map(|folder| (folder.join(file), false)));
    for (path, ours) in handed.chain([(folder.join(name), true)]) {
        let unusable =
            |reason: String| SecretError::Unusable { name: name.to_owned(), path: path.clone(), reason };
        match read(&path, ours) {
            Ok(text) => return Ok(Secret::new(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // The folder is root's: for anybody else the variable is the way.
            Err(error) if ours && error.kind() == std::io::ErrorKind::PermissionDenied => {
                if let Some(secret) = of_variable(name) {
                    return Ok(secret);
                }
                // The service is never let into the folder: it gets what systemd finds there when it starts.
                if credentials.is_none() {
                    return Err(unusable(format!("{error}; run as root, or set {}", variable(name))));
                }
            }
            Err(error) => return Err(unusable(error.to_string())),
        }
    }
    of_variable(name).ok_or_else(|| SecretError::Absent { name: name.to_owned(), variable: variable(name) })
}

fn variable(name: &str) -> String {
    format!("RETINAD_SECRET_{}", name.to_ascii_uppercase().replace(['-', '.'], "_"))
}

fn of_variable(name: &str) -> Option<Secret> {
    std::env::var(variable(name)).ok().map(Secret::new)
}

/// A regular file of bounded size, without the newline at its end. `ours`: nobody else may read it.
fn read(path: &Path, ours: bool) -> std::io::Result<String> {
    let other = |reason: String| std::io::Error::other(reason);
    let bytes = regular_file::read(path, MOST_BYTES).map_err(|error| match error {
        ReadError::System(error) => error,
        error => other(error.to_string()),
    })?;
    let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
    if ours && mode & 0o077 != 0 {
        return Err(other(format!(
            "mode {mode:04o} lets others read it; 0600 or stricter is allowed (chmod 600)"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| other("is not UTF-8 text".into()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.contains(char::is_control) {
        return Err(other("holds no secret: one line of text is wanted".into()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(folder: &Path, name: &str, text: &str, mode: u32) {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
    }

    #[test]
    fn a_credential_wins_over_a_file_and_either_is_one_line() {
        let (credentials, folder) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        keep(folder.path(), "cam", "of-the-file\n", 0o600);
        let find = |with: bool| look_up("cam", with.then(|| credentials.path()), folder.path());
        assert_eq!(find(true).expect("the file").expose(), "of-the-file");
        keep(credentials.path(), "secrets_cam", "of-the-folder", 0o440);
        assert_eq!(find(true).expect("handed").expose(), "of-the-folder");
        keep(credentials.path(), "cam", "of-its-own", 0o440);
        assert_eq!(find(true).expect("handed").expose(), "of-its-own");
        assert_eq!(find(false).expect("the file").expose(), "of-the-file");
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_content() {
        let folder = tempfile::tempdir().expect("made");
        keep(folder.path(), "open", "hush-hush", 0o644);
        keep(folder.path(), "empty", "\n", 0o600);
        keep(folder.path(), "two", "a\nb", 0o600);
        keep(folder.path(), "large", &"x".repeat(5000), 0o600);
        std::fs::create_dir(folder.path().join("folder")).expect("made");
        for (name, word) in [
            ("open", "0644"),
            ("empty", "one line"),
            ("two", "one line"),
            ("large", "4096"),
            ("folder", "regular file"),
        ] {
            let error = look_up(name, None, folder.path()).expect_err(name).to_string();
            assert!(error.contains(word) && error.contains(name) && !error.contains("hush-hush"), "{error}");
        }
        let error = look_up("absent", None, folder.path()).expect_err("absent").to_string();
        assert!(
            error.contains("/etc/retinad/secrets/absent") && error.contains("RETINAD_SECRET_ABSENT"),
            "{error}"
        );
    }

    #[test]
    fn within_an_address_it_is_written_as_that_needs_it() {
        let value = |_: &str, in_address: bool| {
            Ok(if in_address { utf8_percent_encode("p@/1", IN_ADDRESS).to_string() } else { "p@/1".into() })
        };
        let full = |text| replaced(text, value).expect("complete");
        assert_eq!(full("rtsp://me:{secret:cam}@host/"), "rtsp://me:p%40%2F1@host/");
        assert_eq!(full("me:{secret:cam}"), "me:p@/1");
        assert_eq!(
            full("curl -u me:{secret:cam} http://me:{secret:cam}@h/"),
            "curl -u me:p@/1 http://me:p%40%2F1@h/"
        );
        for bad in [
            "{secret:}",
            "{secret:a",
            "{secret:a b}",
            "{secret:../x}",
            "{secret:..}",
            &format!("{{secret:{}}}", "x".repeat(65)),
        ] {
            assert_eq!(check_placeholders(bad), Err(SecretError::Name), "{bad}");
        }
        assert_eq!(check_placeholders("{secret:front.door-1} {other}"), Ok(()));
    }
}
