//! Writing a file whole or not at all.

use rustix::fs::{Mode, OFlags, open};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes `bytes` beside `path` and renames, so that whoever reads sees the old file or the new one, also
/// after a power cut.
///
/// The temporary file is opened anew (`O_EXCL`) and never through a link (`O_NOFOLLOW`), because somebody
/// else may be able to write into the folder. File and folder are synchronised before this returns.
///
/// # Errors
/// What the system says; the file at `path` is then as it was.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let temporary = beside(path);
    let written = write_new(&temporary, bytes, mode).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // It is ours: nobody else's file would have been opened.
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Removes what processes that were killed while they wrote `path` have left beside it. Nobody may be
/// writing it now.
pub fn remove_leftovers(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let prefix = format!(".{}.", name.to_string_lossy());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        let number = found.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".new"));
        if number
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
        {
            // What cannot be removed does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn write_new(temporary: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let opened = match open(temporary, flags, mode) {
        // Left by a process that was killed while it wrote; the name holds our process id, so no other one
        // writes it now.
        Err(rustix::io::Errno::EXIST) => {
            std::fs::remove_file(temporary)?;
            open(temporary, flags, mode)
        }
        opened => opened,
    };
    let mut file = File::from(opened?);
    file.write_all(bytes)?;
    file.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
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
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let make = |name: &str| std::fs::write(folder.path().join(name), "x").expect("written");
        for name in ["state.json", ".state.json.4711.new", ".state.json.mine.new", ".other.json.4711.new"] {
            make(name);
        }
        remove_leftovers(&folder.path().join("state.json"));
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).expect("folder").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, [".other.json.4711.new", ".state.json.mine.new", "state.json"]);
    }

    #[test]
    fn a_link_in_the_temporary_files_place_is_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, victim) = (folder.path().join("state.json"), folder.path().join("victim"));
        std::fs::write(&victim, "precious").expect("written");
        std::os::unix::fs::symlink(&victim, beside(&path)).expect("a link");
        write(&path, b"ours", 0o600).expect("written");
        assert_eq!(std::fs::read(&victim).expect("there"), b"precious");
        assert_eq!(std::fs::read(&path).expect("there"), b"ours");
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
