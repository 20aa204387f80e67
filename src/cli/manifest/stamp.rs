//! `retinad manifest --stamp`: a model file with a manifest inside, written whole or not at all.

use super::ManifestArguments;
use super::check::checked;
use crate::atomic_file;
use crate::cli::exit::{Exit, Failure};
use crate::cli::print::{printable, say};
use crate::model::one_line;
use crate::regular_file;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Runs `retinad manifest --stamp`.
pub fn stamp(arguments: &ManifestArguments) -> Result<(), Failure> {
    let (Some(output), Some(json)) = (&arguments.output, &arguments.manifest) else {
        return Err(Failure::new(Exit::Usage, "--stamp needs --manifest and -o"));
    };
    let checked = checked(arguments)?;
    write(output, &checked.stamped, &[json])?;
    let manifest = &checked.manifest;
    say!(
        "{}: {} {}, anchors.sha256 {}",
        printable(&output.display().to_string()),
        printable(&manifest.name),
        printable(&manifest.version),
        manifest.anchors.sha256.as_deref().unwrap_or_default()
    );
    for key in manifest.unfilled() {
        super::complain(format_args!("{key}: still says FILL IN"));
    }
    Ok(())
}

/// Mode of a file that was not there.
const NEW_FILE: u32 = 0o644;

/// Writes `bytes` to `path`, or to what it links to, with the mode that was there; never over one of the files
/// to `spare`, nor over what is no regular file.
pub fn write(path: &Path, bytes: &[u8], spare: &[&PathBuf]) -> Result<(), Failure> {
    let name = one_line(&path.display().to_string());
    let failed = |exit, reason: String| Failure::new(exit, format!("{name}: {reason}"));
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if spare.iter().any(|spared| spared.canonicalize().is_ok_and(|spared| spared == target)) {
        let reason = "is read here and would be written; choose another file";
        return Err(failed(Exit::Usage, reason.into()));
    }
    let mode = match std::fs::metadata(&target) {
        Ok(found) if !found.is_file() => {
            let found = regular_file::kind(found.file_type());
            return Err(failed(Exit::Usage, format!("{found}, must be a regular file or a new one")));
        }
        Ok(found) => found.permissions().mode() & 0o777,
        Err(_) => NEW_FILE,
    };
    atomic_file::write(&target, bytes, mode).map_err(|e| failed(Exit::Refused, e.to_string()))
}
