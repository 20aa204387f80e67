//! Reading the settings file: a regular file of bounded size, as text. Nothing that a path may name makes
//! this hang.

use super::SettingsError;
use rustix::fs::{Mode, OFlags};
use std::fs::{File, FileType, Metadata};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Most bytes of a settings file.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// The text of the file.
///
/// # Errors [`SettingsError::Read`], [`SettingsError::NotAFile`], [`SettingsError::TooLarge`] or
/// [`SettingsError::NotUtf8`].
pub(super) fn read(path: &Path) -> Result<String, SettingsError> {
    let failed = |source| SettingsError::Read { path: path.to_path_buf(), source };
    // Asked before opening, because to open a device can already have an effect (/dev/watchdog starts to
    // count).
    refuse_special(path, &std::fs::metadata(path).map_err(failed)?)?;
    // Without O_NONBLOCK the open of a FIFO that took the file's place since then would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file =
        File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?);
    refuse_special(path, &file.metadata().map_err(failed)?)?;
    let mut bytes = Vec::new();
    (&mut file).take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(SettingsError::TooLarge { path: path.to_path_buf(), limit: MAX_BYTES });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        SettingsError::NotUtf8 { path: path.to_path_buf(), line }
    })
}

fn refuse_special(path: &Path, metadata: &Metadata) -> Result<(), SettingsError> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(SettingsError::NotAFile { path: path.to_path_buf(), found: in_words(metadata.file_type()) })
}

fn in_words(found: FileType) -> &'static str {
    if found.is_dir() {
        "a folder"
    } else if found.is_fifo() {
        "a FIFO"
    } else if found.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> String {
        read(path).expect_err("refused").to_string()
    }

    #[test]
    fn fifos_folders_devices_and_sockets_are_refused_without_waiting() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fifo = folder.path().join("fifo");
        let (here, kind) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(here, &fifo, kind, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        let error = refused(&fifo);
        assert!(error.ends_with("fifo: is a FIFO; the settings must be a regular file"), "{error}");
        assert!(refused(folder.path()).contains("is a folder"));
        assert!(refused(Path::new("/dev/zero")).contains("is a device"));
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        assert!(refused(&socket).contains("is a socket"));
        assert!(refused(&folder.path().join("absent")).contains("No such file"));
    }

    #[test]
    fn a_file_of_one_mebibyte_is_read_and_one_byte_more_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut bytes = vec![b'#'; 1 << 20];
        std::fs::write(file.path(), &bytes).expect("written");
        assert_eq!(read(file.path()).expect("just small enough").len(), 1 << 20);
        bytes.push(b'#');
        std::fs::write(file.path(), &bytes).expect("written");
        assert!(refused(file.path()).contains("larger than 1048576 bytes"));
    }

    #[test]
    fn the_line_that_is_not_utf8_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), b"node = \"a\"\n# caf\xe9\n").expect("written");
        assert!(refused(file.path()).ends_with(":2: is not UTF-8 text"), "{}", refused(file.path()));
    }
}
