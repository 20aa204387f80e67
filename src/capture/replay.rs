//! Pictures of a folder as a camera: JPEG, PNG and WebP, by name, once or repeated, at a given rate or as fast as taken.

use super::{Camera, CaptureError};
use crate::frame::{Encoding, RawFrame};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Largest picture that is read.
const MAX_FILE: u64 = 64 << 20;

/// A folder replayed.
pub struct Replay {
    pictures: Vec<PathBuf>,
    next: usize,
    repeat: bool,
    interval: Duration,
    due: Option<Instant>,
    what: String,
}

impl Replay {
    /// Lists the pictures of `folder`. `fps` frames a second; 0: as fast as taken.
    ///
    /// # Errors
    /// [`CaptureError::Open`] if the folder cannot be listed or holds no picture.
    pub fn open(folder: &Path, fps: f32, repeat: bool) -> Result<Self, CaptureError> {
        let what = folder.display().to_string();
        let failed = |reason: String| CaptureError::Open { what: what.clone(), reason };
        let entries = std::fs::read_dir(folder).map_err(|e| failed(e.to_string()))?;
        let is_picture = |path: &PathBuf| {
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
            ["jpg", "jpeg", "png", "webp"].contains(&extension.as_str())
        };
        let mut pictures: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_picture).collect();
        if pictures.is_empty() {
            return Err(failed("no picture in it; .jpg, .jpeg, .png and .webp are read".into()));
        }
        pictures.sort();
        let interval = if fps > 0.0 { Duration::from_secs_f32(1.0 / fps) } else { Duration::ZERO };
        Ok(Self { pictures, next: 0, repeat, interval, due: None, what })
    }
}

impl Camera for Replay {
    fn next_frame(&mut self) -> Result<RawFrame, CaptureError> {
        if self.next == self.pictures.len() {
            if !self.repeat {
                return Err(CaptureError::Ended { what: self.what.clone() });
            }
            self.next = 0;
        }
        let path = &self.pictures[self.next];
        self.next += 1;
        let now = Instant::now();
        let due = self.due.map_or(now, |due| due.max(now));
        std::thread::sleep(due - now);
        self.due = Some(due + self.interval);
        let damaged = |reason: String| CaptureError::Damaged { what: path.display().to_string(), reason };
        let length = std::fs::metadata(path).map_err(|e| damaged(e.to_string()))?.len();
        if length > MAX_FILE {
            return Err(damaged(format!("{length} bytes, at most {MAX_FILE} are read")));
        }
        let data = std::fs::read(path).map_err(|e| damaged(e.to_string()))?;
        let other = data.starts_with(b"\x89PNG") || data.starts_with(b"RIFF");
        Ok(RawFrame { width: 0, height: 0, encoding: if other { Encoding::PngOrWebp } else { Encoding::Jpeg }, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in names {
            std::fs::write(folder.path().join(name), name.as_bytes()).expect("written");
        }
        folder
    }

    #[test]
    fn pictures_come_by_name_once() {
        let folder = folder(&["b.jpg", "a.JPG", "notes.txt"]);
        let mut replay = Replay::open(folder.path(), 0.0, false).expect("opens");
        assert_eq!(replay.next_frame().expect("a").data, b"a.JPG");
        assert_eq!(replay.next_frame().expect("b").data, b"b.jpg");
        assert!(matches!(replay.next_frame(), Err(CaptureError::Ended { .. })));
    }

    #[test]
    fn a_vanished_picture_is_damaged_and_the_rest_goes_on() {
        let folder = folder(&["a.jpg", "b.jpg"]);
        let mut replay = Replay::open(folder.path(), 0.0, true).expect("opens");
        std::fs::remove_file(folder.path().join("a.jpg")).expect("removed");
        assert!(matches!(replay.next_frame(), Err(CaptureError::Damaged { .. })));
        assert_eq!(replay.next_frame().expect("b").data, b"b.jpg");
    }

    #[test]
    fn an_empty_or_absent_folder_is_named() {
        let folder = folder(&[]);
        let error = |path: &Path| Replay::open(path, 1.0, true).err().expect("refused").to_string();
        assert!(error(folder.path()).contains("no picture in it"));
        assert!(error(Path::new("/nowhere")).starts_with("/nowhere: "));
    }
}
