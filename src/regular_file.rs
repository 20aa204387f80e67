//! Reading a file that somebody named: only a regular one, and only up to a bound.

use rustix::fs::OFlags;
use std::fs::{File, FileType};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Why a file is not read. One line, without the file's name.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system's reason.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// A folder, a FIFO, a device: nothing whose bytes have an end.
    #[error("{found}, must be a regular file")]
    NotRegular {
        /// What it is instead.
        found: &'static str,
    },
    /// More bytes than are read.
    #[error("{bytes} bytes, at most {most} are read")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// Bytes that are read at most.
        most: u64,
    },
}

/// Opens `path`, or what it links to, if that is a regular file.
///
/// It is asked what it is before it is opened, because to open a device can already have an effect
/// (/dev/watchdog starts to count), and afterwards again, because something else may have taken its place.
/// Opened without waiting, because a FIFO that nobody writes to would otherwise hold the caller for ever.
///
/// # Errors
/// [`ReadError`], but for its length.
pub fn open(path: &Path) -> Result<File, ReadError> {
    let regular = |found: FileType| {
        if found.is_file() { Ok(()) } else { Err(ReadError::NotRegular { found: kind(found) }) }
    };
    regular(std::fs::metadata(path)?.file_type())?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// The bytes of a regular file of at most `most` bytes.
///
/// # Errors
/// [`ReadError`].
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(ReadError::TooLarge { bytes: length, most });
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // The limit holds for a file that grows while it is read, too.
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(ReadError::TooLarge { bytes: bytes.len() as u64, most });
    }
    Ok(bytes)
}

/// What a file is that is no regular one.
#[must_use]
pub fn kind(found: FileType) -> &'static str {
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

    #[test]
    fn what_has_no_end_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (fifo, link) = (folder.path().join("fifo"), folder.path().join("link.jpg"));
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
        assert!(made.success());
        std::os::unix::fs::symlink("/dev/zero", &link).expect("linked");
        for (path, words) in [
            (fifo.as_path(), "a FIFO, must be a regular file"),
            (link.as_path(), "a device, must be a regular file"),
            (folder.path(), "a folder, must be a regular file"),
        ] {
            assert_eq!(read(path, 100).expect_err("refused").to_string(), words);
        }
    }

    #[test]
    fn a_file_is_read_through_a_link_and_up_to_the_bound() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, link) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&file, b"12345").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        assert_eq!(read(&link, 5).expect("read"), b"12345");
        assert_eq!(read(&link, 4).expect_err("too large").to_string(), "5 bytes, at most 4 are read");
    }
}
