//! Writing a file whole or not at all.

use rustix::fs::{Mode, OFlags, open};
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the names of temporary files begin and end with; a random number of 16 digits stands between.
const PREFIX: &str = ".retinad-";
const SUFFIX: &str = ".new";

/// Writes `bytes` beside `path` and renames, so that whoever reads sees the old file or the new one, also
/// after a power cut.
///
/// The temporary file is opened anew (`O_EXCL`) and never through a link (`O_NOFOLLOW`), because somebody
/// else may be able to write into the folder. File and folder are synchronised before this returns.
///
/// # Errors
/// What the system says; the file at `path` is then as it was.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    replace(path, bytes, mode, true)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Like [`write()`], but leaves it to the system when the disk is written to: what is written often costs a card
/// little, and a process that is killed loses nothing. A power cut may lose the last seconds; whoever reads sees
/// the old file, the new one, or one that is cut short.
///
/// # Errors
/// What the system says; the file at `path` is then as it was.
pub fn write_unsynchronised(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    replace(path, bytes, mode, false)
}

fn replace(path: &Path, bytes: &[u8], mode: u32, synchronise: bool) -> std::io::Result<()> {
    let temporary = beside(path);
    write_new(&temporary, bytes, mode, synchronise)?;
    std::fs::rename(&temporary, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

/// Gives `path` to the owner of `folder` where root has made it: the service runs as a user of its own, and
/// root's files would be closed to it.
///
/// # Errors
/// What the system says.
pub fn give_to_owner_of(folder: &Path, path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = std::fs::metadata(folder)?;
    std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))
}

/// Removes what processes that were killed while they wrote have left in a folder. Nobody may be writing
/// there now.
pub fn remove_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_leftover(&entry.file_name()) {
            // What cannot be removed does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether a file of this name is what a process left that was killed while it wrote.
#[must_use]
pub fn is_leftover(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let number = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    number.is_some_and(|number| number.len() == 16 && number.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn write_new(temporary: &Path, bytes: &[u8], mode: u32, synchronise: bool) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(open(temporary, flags, Mode::from_raw_mode(mode))?);
    let written = file.write_all(bytes).and_then(|()| if synchronise { file.sync_all() } else { Ok(()) });
    if written.is_err() {
        // It is ours: it was made anew above.
        let _ = std::fs::remove_file(temporary);
    }
    written
}

/// A name in the same folder that nobody else has, whatever their names are.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!("{PREFIX}{:016x}{SUFFIX}", RandomState::new().build_hasher().finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("state.json");
        write(&path, b"one", 0o600).expect("written");
        write(&path, b"two", 0o600).expect("written");
        assert_eq!(std::fs::read(&path).expect("there"), b"two");
        write_unsynchronised(&path, b"three", 0o600).expect("written");
        assert_eq!(std::fs::read(&path).expect("there"), b"three");
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let make = |path: &Path| std::fs::write(path, "x").expect("written");
        let state = folder.path().join("state.json");
        make(&beside(&state));
        for name in ["state.json", ".retinad-mine.new", ".retinad-0123456789abcdef.old"] {
            make(&folder.path().join(name));
        }
        remove_leftovers(folder.path());
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).expect("folder").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, [".retinad-0123456789abcdef.old", ".retinad-mine.new", "state.json"]);
    }

    #[test]
    fn a_temporary_file_takes_nobody_elses_place_and_follows_no_link() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (other, victim) = (folder.path().join("other"), folder.path().join("victim"));
        std::fs::write(&victim, "precious").expect("written");
        std::os::unix::fs::symlink(&victim, &other).expect("a link");
        for taken in [&victim, &other] {
            assert!(write_new(taken, b"ours", 0o600, true).is_err());
            assert_eq!(std::fs::read(taken).expect("there"), b"precious");
        }
        let path = folder.path().join("state.json");
        assert_ne!(beside(&path), beside(&path));
    }

    #[test]
    fn an_error_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("occupied");
        std::fs::create_dir(&path).expect("a folder in its place");
        assert!(write(&path, b"x", 0o600).is_err());
        assert!(write(&folder.path().join("no/such/folder"), b"x", 0o600).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1);
    }
}
