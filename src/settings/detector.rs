//! `[detector]`: the keys, and what follows from them on this machine.

use super::keys::section;
use super::value::{TextRule, ValueType};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

section! {
    /// What turns a frame into detections.
    pub struct DetectorSettings {
        /// The ONNX file with its manifest; relative to the working directory, else to /usr/share/retinad.
        /// "models/retinad-s-320-int8.onnx" is the other one of the package: half the work, and a little less
        /// sure, for the Pi 3 and Zero 2 W. docs/own-model.md is about one of your own.
        model: PathBuf {
            value: ValueType::GivenPath,
            default: "\"models/retinad-m-320-int8.onnx\"",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Pixels that a picture is brought to. "auto" takes, of the sizes that the model has, the one in the
        /// shape of the picture: all cost the same, and a wide picture loses less in a wide one. The shipped models
        /// have 320x320, 352x288 and 288x352; any of them, such as "320x320", is for pictures of every shape.
        input: InputSize {
            value: ValueType::Text(TextRule::InputSize),
            default: "\"auto\"",
            unit: "pixels",
            takes_effect: RestartNeeded,
        }
        /// Frames worked on at once. More give more frames a second and cost a core and a session's memory
        /// each.
        workers: usize {
            value: ValueType::Whole { min: 1, max: 64 },
            default: "1",
            unit: "",
            takes_effect: RestartNeeded,
        }
        /// Threads for one frame; "auto" is the cores divided by the workers. More shorten the wait for one
        /// frame and cost a core each; `retinad bench` shows what each setting gives on this machine. Models
        /// that run in float use one whatever this says.
        threads: Threads {
            value: ValueType::WholeOr { min: 1, max: 64, word: "auto" },
            default: "1",
            unit: "",
            takes_effect: RestartNeeded,
        }
        /// Memory that pictures may take in all while they are decoded, shared by the workers; a picture that
        /// would take more is damaged. A pixel takes 3 bytes, in a progressive JPEG up to 9. The default and
        /// the model stay within the service's 288 MB (MemoryMax in its unit).
        picture_memory: usize {
            value: ValueType::Whole { min: 8, max: 65536 },
            default: "128",
            unit: "MB",
            takes_effect: RestartNeeded,
        }
        /// Detections below this score are not published. Higher means fewer false alarms and more misses.
        min_score: f32 {
            value: ValueType::Number { min: 0.05, max: 0.99 },
            default: "0.5",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Share of the time that each worker may work. At 50 a worker rests after each frame for as long as
        /// it worked: cooler, fewer frames. While the Pi's firmware throttles the CPU, half of the workers
        /// rest (or the one worker half of the time) whatever this says.
        cpu_quota: u32 {
            value: ValueType::Whole { min: 5, max: 100 },
            default: "100",
            unit: "percent",
            takes_effect: AtOnce,
        }
    }
}

/// Where a package installs models: a relative `detector.model` that is not found is looked for there.
const SHARED_FOLDER: &str = "/usr/share/retinad";

/// `detector.threads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ThreadsText", into = "ThreadsText")]
pub enum Threads {
    /// The cores, shared evenly among the workers: the lowest latency that does not make workers wait for
    /// each other.
    Auto,
    /// This many, 1 to 64.
    Count(usize),
}

/// `detector.input`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum InputSize {
    /// For each picture the model's size that is nearest to its shape.
    Auto,
    /// This width and height, in pixels.
    Pixels([u32; 2]),
}

impl TryFrom<String> for InputSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let digits = |side: &str| side.len() <= 4 && !side.starts_with(['0', '+']);
        let side = |side: &str| side.parse().ok().filter(|_| digits(side));
        let sides = text.split_once('x').map(|(width, height)| (side(width), side(height)));
        match sides {
            Some((Some(width), Some(height))) => Ok(Self::Pixels([width, height])),
            _ => Err(format!("\"{text}\" is neither \"auto\" nor a width and a height such as \"320x320\"")),
        }
    }
}

impl std::fmt::Display for InputSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pixels([width, height]) => write!(f, "{width}x{height}"),
        }
    }
}

impl From<InputSize> for String {
    fn from(size: InputSize) -> Self {
        size.to_string()
    }
}

/// What one worker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerShare {
    /// Threads for one frame.
    pub threads: usize,
    /// Memory that one picture may take, bytes.
    pub picture_bytes: usize,
}

/// How [`Threads`] stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a number or \"auto\"")]
enum ThreadsText {
    Count(usize),
    Word(String),
}

impl TryFrom<ThreadsText> for Threads {
    type Error = String;

    fn try_from(text: ThreadsText) -> Result<Self, String> {
        match text {
            ThreadsText::Count(count) => Ok(Self::Count(count)),
            ThreadsText::Word(word) if word == "auto" => Ok(Self::Auto),
            ThreadsText::Word(word) => Err(format!("\"{word}\" is neither a number nor \"auto\"")),
        }
    }
}

impl From<Threads> for ThreadsText {
    fn from(threads: Threads) -> Self {
        match threads {
            Threads::Auto => Self::Word("auto".into()),
            Threads::Count(count) => Self::Count(count),
        }
    }
}

/// The path, or for a relative one that is not there, the same in `../share/retinad` beside the program, in a
/// checkout whose `target/` holds the program, or in the package's folder.
fn found_beside(path: &Path, program: Option<&Path>) -> PathBuf {
    if path.is_absolute() || path.exists() {
        return path.to_path_buf();
    }
    let above = |levels| program.and_then(|program| program.ancestors().nth(levels));
    let beside = above(2).map(|prefix| prefix.join("share/retinad"));
    let checkout = above(3).filter(|root| root.join("Cargo.toml").exists()).map(Path::to_path_buf);
    [beside, checkout, Some(PathBuf::from(SHARED_FOLDER))]
        .into_iter()
        .flatten()
        .map(|folder| folder.join(path))
        .find(|candidate| candidate.exists())
        .unwrap_or_else(|| path.to_path_buf())
}

impl DetectorSettings {
    /// The model's file: as set, or for a relative path that is not there, the one that came with the
    /// program.
    #[must_use]
    pub fn model_file(&self) -> PathBuf {
        found_beside(&self.model, std::env::current_exe().ok().as_deref())
    }

    /// What each of `workers` workers has.
    #[must_use]
    pub fn share(&self, workers: usize) -> WorkerShare {
        WorkerShare {
            threads: self.threads(workers),
            picture_bytes: (self.picture_memory << 20) / workers.max(1),
        }
    }

    /// Threads for one frame on this machine, with `workers` frames at once.
    #[must_use]
    pub fn threads(&self, workers: usize) -> usize {
        match self.threads {
            Threads::Auto => shared(std::thread::available_parallelism().map_or(1, usize::from), workers),
            Threads::Count(count) => count,
        }
    }
}

/// Threads a worker when `cores` are shared evenly: all of them for one worker, never fewer than one.
#[must_use]
pub fn shared(cores: usize, workers: usize) -> usize {
    (cores / workers.max(1)).clamp(1, 64)
}

#[cfg(test)]
mod tests {
    use super::{InputSize, found_beside, shared};
    use std::path::Path;

    #[test]
    fn a_model_is_found_beside_the_program() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let models = folder.path().join("share/retinad/models");
        std::fs::create_dir_all(&models).expect("made");
        std::fs::write(models.join("beside.onnx"), "").expect("written");
        let program = folder.path().join("bin/retinad");
        let find = |path: &str| found_beside(Path::new(path), Some(&program));
        assert_eq!(find("models/beside.onnx"), models.join("beside.onnx"));
        assert_eq!(find("models/absent.onnx"), Path::new("models/absent.onnx"));
        assert_eq!(find("/absent.onnx"), Path::new("/absent.onnx"));
    }

    #[test]
    fn an_input_size_is_a_word_or_two_sides_and_is_written_as_it_was_read() {
        for text in ["auto", "320x320", "2048x32"] {
            let size = InputSize::try_from(text.to_owned()).expect("a size");
            assert_eq!(String::from(size), text);
        }
        for text in [
            "",
            "Auto",
            "320",
            "320x",
            "x320",
            "320X320",
            "+320x320",
            "0320x320",
            "320x320x3",
            "99999x1",
            "-1x1",
        ] {
            let error = InputSize::try_from(text.to_owned()).expect_err(text);
            assert!(error.contains("neither \"auto\" nor a width and a height"), "{error}");
        }
    }

    #[test]
    fn cores_are_shared_evenly_and_each_worker_has_one() {
        assert_eq!((shared(4, 1), shared(4, 3), shared(2, 8)), (4, 1, 1));
    }
}
