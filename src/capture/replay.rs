//! A recording as a camera: a folder of JPEG, PNG and WebP pictures by name, a `.y4m` or an `.mjpeg` file;
//! once or repeated, at a given rate or as fast as taken.

use super::framing::{Framer, FramingError};
use super::{Camera, CaptureError};
use crate::frame::{Encoding, RawFrame};
use crate::image;
use crate::regular_file;
use crate::settings::StreamFormat;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Largest picture that is read, bytes. Several may wait on their way through the daemon.
const MAX_FILE: u64 = 32 << 20;

const WHAT_IS_REPLAYED: &str = "a folder of pictures, a .y4m or an .mjpeg file is replayed";

/// A folder or recording replayed.
pub struct Replay {
    source: Source,
    repeat: bool,
    interval: Duration,
    due: Option<Instant>,
    what: String,
}

enum Source {
    Pictures { paths: Vec<PathBuf>, next: usize },
    Recording { file: File, format: StreamFormat, framer: Framer, frames: u64, is_over: bool },
}

/// What a source gives; `None` at its end.
type Next = Result<Option<RawFrame>, CaptureError>;

impl Replay {
    /// Lists the pictures of a folder, or opens a recording. `fps` frames a second; 0: as fast as taken.
    ///
    /// # Errors
    /// [`CaptureError::Open`] if it cannot be read, or holds nothing to replay.
    pub fn open(path: &Path, fps: f32, repeat: bool) -> Result<Self, CaptureError> {
        let what = path.display().to_string();
        let failed = |reason: String| CaptureError::Open { what: what.clone(), reason };
        let found = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.file_type();
        if !found.is_file() && !found.is_dir() {
            return Err(failed(format!("{}; {WHAT_IS_REPLAYED}", regular_file::kind(found))));
        }
        let source = if found.is_file() {
            let format = match extension(path).as_str() {
                "y4m" => StreamFormat::Y4m,
                "mjpeg" | "mjpg" => StreamFormat::Mjpeg,
                _ => return Err(failed(WHAT_IS_REPLAYED.into())),
            };
            let file = regular_file::open(path).map_err(|e| failed(e.to_string()))?;
            Source::Recording { file, format, framer: Framer::new(format, 0, 0), frames: 0, is_over: false }
        } else {
            let entries = std::fs::read_dir(path).map_err(|e| failed(e.to_string()))?;
            let is_picture =
                |path: &PathBuf| ["jpg", "jpeg", "png", "webp"].contains(&extension(path).as_str());
            let mut paths: Vec<PathBuf> =
                entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_picture).collect();
            if paths.is_empty() {
                return Err(failed("no picture in it; .jpg, .jpeg, .png and .webp are read".into()));
            }
            paths.sort();
            Source::Pictures { paths, next: 0 }
        };
        let interval = if fps > 0.0 { Duration::from_secs_f32(1.0 / fps) } else { Duration::ZERO };
        Ok(Self { source, repeat, interval, due: None, what })
    }
}

impl Camera for Replay {
    fn next_frame(&mut self) -> Result<RawFrame, CaptureError> {
        let now = Instant::now();
        let due = self.due.map_or(now, |due| due.max(now));
        std::thread::sleep(due - now);
        self.due = Some(due + self.interval);
        loop {
            if let Some(frame) = self.source.next(&self.what)? {
                return Ok(frame);
            }
            if !self.repeat {
                return Err(CaptureError::Ended { what: self.what.clone() });
            }
            self.source.rewind(&self.what)?;
        }
    }
}

impl Source {
    fn next(&mut self, what: &str) -> Next {
        match self {
            Self::Pictures { paths, next } => {
                let Some(path) = paths.get(*next) else { return Ok(None) };
                *next += 1;
                read_picture(path)
                    .map(Some)
                    .map_err(|reason| CaptureError::Damaged { what: path.display().to_string(), reason })
            }
            Self::Recording { file, framer, frames, is_over, .. } => {
                let stopped = |reason: String| CaptureError::Stopped { what: what.to_owned(), reason };
                if *is_over {
                    return Ok(None);
                }
                let mut piece = vec![0; 64 << 10];
                loop {
                    match framer.next_frame() {
                        Ok(Some(frame)) => {
                            *frames += 1;
                            return Ok(Some(frame));
                        }
                        Ok(None) => {}
                        Err(FramingError::Damaged(reason)) => {
                            return Err(CaptureError::Damaged { what: what.to_owned(), reason });
                        }
                        // Opened anew it would be the same: told once, and that was all of it.
                        Err(FramingError::Broken(reason)) => {
                            *is_over = true;
                            return Err(CaptureError::Damaged { what: what.to_owned(), reason });
                        }
                    }
                    let read = file.read(&mut piece).map_err(|e| stopped(e.to_string()))?;
                    framer.push(&piece[..read]);
                    if read == 0 && framer.take_rest() {
                        return Err(CaptureError::Damaged {
                            what: what.to_owned(),
                            reason: "its last frame is cut off".into(),
                        });
                    } else if read == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn rewind(&mut self, what: &str) -> Result<(), CaptureError> {
        match self {
            Self::Pictures { next, .. } => *next = 0,
            Self::Recording { file, format, framer, frames, is_over } => {
                let stopped = |reason: String| CaptureError::Stopped { what: what.to_owned(), reason };
                // Else an empty recording would be read round and round.
                if *frames == 0 {
                    return Err(stopped("no frame in it".into()));
                }
                file.rewind().map_err(|e| stopped(e.to_string()))?;
                (*framer, *frames, *is_over) = (Framer::new(*format, 0, 0), 0, false);
            }
        }
        Ok(())
    }
}

fn extension(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

/// A picture file as a frame: JPEG, PNG or WebP, told apart by its first bytes, and to be turned as its EXIF
/// orientation says. Frames of cameras are not: many write an orientation that means nothing, and
/// `cameras.<id>.rotate` turns them.
///
/// # Errors
/// Why it cannot be read: only regular files of at most 32 MB are.
pub fn read_picture(path: &Path) -> Result<RawFrame, String> {
    let data = regular_file::read(path, MAX_FILE).map_err(|e| e.to_string())?;
    let other = data.starts_with(b"\x89PNG") || data.starts_with(b"RIFF");
    let encoding = if other { Encoding::PngOrWebp } else { Encoding::Jpeg };
    Ok(RawFrame { width: 0, height: 0, encoding, turn: image::turn_of_file(&data), data })
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

    #[test]
    fn recordings_are_replayed_and_repeated() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let y4m = folder.path().join("a.y4m");
        std::fs::write(&y4m, b"YUV4MPEG2 W2 H2\nFRAME\naaaaaaFRAME\nbbbbbbFRAME\ncc").expect("written");
        let mut replay = Replay::open(&y4m, 0.0, true).expect("opens");
        for _ in 0..2 {
            assert_eq!(replay.next_frame().expect("a").data, b"aaaaaa");
            assert_eq!(replay.next_frame().expect("b").data, b"bbbbbb");
            assert!(matches!(replay.next_frame(), Err(CaptureError::Damaged { .. })));
        }
        let jpeg = include_bytes!("../../examples/pictures/coffee.jpg");
        let mjpeg = folder.path().join("a.mjpeg");
        std::fs::write(&mjpeg, [&jpeg[..], jpeg].concat()).expect("written");
        let mut replay = Replay::open(&mjpeg, 0.0, false).expect("opens");
        for _ in 0..2 {
            assert_eq!(replay.next_frame().expect("a picture").data, jpeg);
        }
        assert!(matches!(replay.next_frame(), Err(CaptureError::Ended { .. })));
    }

    #[test]
    fn a_cut_or_foreign_recording_is_told_and_ends() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let jpeg = include_bytes!("../../examples/pictures/coffee.jpg");
        let mjpeg = folder.path().join("a.mjpeg");
        let next = |path: &Path| {
            let mut replay = Replay::open(path, 0.0, false).expect("opens");
            let mut seen = Vec::new();
            loop {
                match replay.next_frame() {
                    Ok(_) => seen.push("frame".to_owned()),
                    Err(CaptureError::Ended { .. }) => return seen,
                    Err(CaptureError::Damaged { reason, .. }) => seen.push(reason),
                    Err(other) => panic!("{other}"),
                }
            }
        };
        for cut in [3, 100, 5000, jpeg.len() - 1] {
            std::fs::write(&mjpeg, [jpeg, &jpeg[..cut]].concat()).expect("written");
            assert_eq!(next(&mjpeg), ["frame", "its last frame is cut off"], "{cut} bytes");
        }
        std::fs::write(&mjpeg, [jpeg, &b"\r\n--end--\r\n"[..]].concat()).expect("written");
        assert_eq!(next(&mjpeg), ["frame"], "what follows the last picture is no frame");
        let y4m = folder.path().join("a.y4m");
        std::fs::write(&y4m, b"YUV4MPEG2 W2 H2\nFRAME\naaaaaaXRAME\nbbbbbb").expect("written");
        assert_eq!(next(&y4m), ["frame", "no FRAME where one must begin"]);
    }

    #[test]
    fn what_has_no_end_is_no_recording_and_no_picture() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, target) in [("a.jpg", "/dev/zero"), ("a.mjpeg", "/dev/zero"), ("b.jpg", "/")] {
            std::os::unix::fs::symlink(target, folder.path().join(name)).expect("linked");
        }
        let error = Replay::open(&folder.path().join("a.mjpeg"), 0.0, false).err().expect("refused");
        assert!(error.to_string().contains("a device; a folder of pictures"), "{error}");
        let mut replay = Replay::open(folder.path(), 0.0, false).expect("opens");
        for words in ["a device, must be a regular file", "a folder, must be a regular file"] {
            let error = replay.next_frame().expect_err("damaged");
            assert!(matches!(&error, CaptureError::Damaged { reason, .. } if reason == words), "{error}");
        }
    }

    #[test]
    fn a_recording_without_frames_or_of_another_kind_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let empty = folder.path().join("a.mjpeg");
        std::fs::write(&empty, b"").expect("written");
        let error =
            Replay::open(&empty, 0.0, true).expect("opens").next_frame().expect_err("empty").to_string();
        assert!(error.contains("no frame in it"), "{error}");
        let film = folder.path().join("a.mp4");
        std::fs::write(&film, b"").expect("written");
        assert!(
            Replay::open(&film, 0.0, true).err().expect("refused").to_string().contains(".y4m or an .mjpeg")
        );
    }
}
