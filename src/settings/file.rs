//! Reading the settings file: a regular file of bounded size, as text.

use super::SettingsError;
use crate::regular_file::{self, ReadError};
use std::path::Path;

/// Most bytes of a settings file.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// The text of the file.
///
/// # Errors
/// [`SettingsError::Read`], [`SettingsError::NotAFile`], [`SettingsError::TooLarge`] or
/// [`SettingsError::NotUtf8`].
pub(super) fn read(path: &Path) -> Result<String, SettingsError> {
    let file = || path.to_path_buf();
    let bytes = regular_file::read(path, MAX_BYTES).map_err(|error| match error {
        ReadError::System(source) => SettingsError::Read { path: file(), source },
        ReadError::NotRegular { found } => SettingsError::NotAFile { path: file(), found },
        ReadError::TooLarge { most, .. } => SettingsError::TooLarge { path: file(), limit: most },
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        SettingsError::NotUtf8 { path: file(), line }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;

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
