//! Tuned models on the disk: which one is in use, which ones it may go back to.
//!
//! The folder `models` of the state folder holds each generation as `000004.onnx`, its lineage in its
//! manifest, and `generations.json`, which says which one is in use. Generation 0 is the model of the
//! settings. Files are written whole or not at all, a model before the file that names it, so that a power
//! cut at any moment leaves a model that loads. Several processes may use the folder; changes wait for each
//! other.

use crate::atomic_file;
use crate::model::{ModelError, ModelFile};
use crate::one_line::one_line;
use crate::regular_file::{self, ReadError};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Tuned models that stay beside the one in use.
pub const KEPT: usize = 3;
/// Name of the file that says which one is in use.
const STATE: &str = "generations.json";
/// Longest such file.
const MOST_STATE: u64 = 64 << 10;
/// Version of its form.
const VERSION: u32 = 1;
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// Why generations cannot be changed. One line that names the file or number.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationsError {
    /// What the system says.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
    /// The file that says which one is in use cannot be understood.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no such generation.
    #[error("generation {number}: there is none; {present}")]
    Absent {
        /// What was asked for.
        number: u64,
        /// Which ones there are, in words.
        present: String,
    },
    /// No generation was named, and none waits.
    #[error("no tuned model waits to be used; name one of `retinad models`")]
    NoCandidate,
    /// Nothing is there to go back to.
    #[error("the model of the settings is in use: there is nothing to go back to")]
    First,
    /// A model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What `generations.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    v: u32,
    /// SHA-256 of the model of the settings from which all come.
    base_sha256: String,
    /// In use; 0: the model of the settings.
    active: u64,
    /// In use before, the last one first.
    #[serde(default)]
    earlier: Vec<u64>,
    /// Made, judged better, and not in use yet.
    #[serde(default)]
    candidate: Option<u64>,
    /// Numbers are never used twice.
    next: u64,
}

impl State {
    fn new(base_sha256: String) -> Self {
        Self { v: VERSION, base_sha256, active: 0, earlier: Vec::new(), candidate: None, next: 1 }
    }
}

/// Which model is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// Its number; 0 is the model of the settings.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// Numbers in use before, the last one first.
    pub earlier: Vec<u64>,
    /// Judged better, and not in use yet.
    pub candidate: Option<u64>,
    /// A line for people: why it is not the one that was in use last.
    pub note: Option<String>,
}

impl InUse {
    fn base(base: &Path, note: Option<String>) -> Self {
        Self { number: 0, path: base.to_owned(), earlier: Vec::new(), candidate: None, note }
    }
}

/// A change of the model in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// In use now.
    pub generation: u64,
    /// In use before.
    pub previous: u64,
}

/// One generation on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// Whether it is in use.
    pub in_use: bool,
    /// Whether it waits to be used.
    pub candidate: bool,
}

/// Which file says what is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp([u64; 4]);

/// The folder of the tuned models.
#[derive(Debug, Clone)]
pub struct Generations {
    folder: PathBuf,
}

impl Generations {
    /// Those of a state folder, which need not have any.
    #[must_use]
    pub fn within(state_folder: &Path) -> Self {
        Self { folder: state_folder.join("models") }
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The model to use where the settings name the file `base`. Never fails: whatever is wrong with a tuned
    /// model, the one before is used, in the end the settings' own, and a note says so.
    #[must_use]
    pub fn in_use(&self, base: &Path) -> InUse {
        let state = match self.read() {
            Ok(Some(state)) => state,
            Ok(None) => return InUse::base(base, None),
            Err(error) => {
                return InUse::base(base, Some(format!("{error}; the model of the settings is used")));
            }
        };
        if state.active == 0 && state.candidate.is_none() {
            return InUse::base(base, None);
        }
        // Where the base cannot be read, whoever loads it says why.
        match sha256_of(base) {
            Some(sha256) if sha256 != state.base_sha256 => {
                let note = (state.active != 0).then(|| {
                    let (number, base) = (state.active, base.display());
                    format!(
                        "{base} is used: the tuned generation {number} was made from another model; tune anew"
                    )
                });
                return InUse::base(base, note);
            }
            _ => {}
        }
        let mut note = None;
        let order = std::iter::once(state.active).chain(state.earlier.iter().copied());
        for (skipped, number) in order.chain([0]).enumerate() {
            let path = if number == 0 { base.to_owned() } else { self.file(number) };
            let unusable = match number {
                0 => None,
                _ => ModelFile::read(&path).and_then(|file| file.manifest().map(|_| ())).err(),
            };
            match unusable {
                None => {
                    let earlier = state.earlier.iter().copied().skip(skipped).collect();
                    return InUse { number, path, earlier, candidate: state.candidate, note };
                }
                Some(error) => {
                    note.get_or_insert_with(|| format!("{error}; an earlier model is used"));
                }
            }
        }
        InUse::base(base, note)
    }

    /// Keeps a tuned model made from the settings' model `base`: the candidate until it is activated. Its
    /// number.
    ///
    /// # Errors
    /// [`GenerationsError`]; nothing has changed then.
    pub fn add(&self, base: &Path, bytes: &[u8]) -> Result<u64, GenerationsError> {
        let _lock = self.lock()?;
        let mut state = self.state_for(base)?;
        let number = state.next;
        self.put(&self.file(number), bytes)?;
        state.next += 1;
        state.candidate = Some(number);
        self.write(&state)?;
        self.prune(&state);
        Ok(number)
    }

    /// Uses a generation from now on: `number`, or the candidate.
    ///
    /// # Errors
    /// [`GenerationsError`]; nothing has changed then.
    pub fn activate(&self, base: &Path, number: Option<u64>) -> Result<Change, GenerationsError> {
        let _lock = self.lock()?;
        let mut state = self.state_for(base)?;
        let number = match number.or(state.candidate) {
            Some(number) => number,
            None => return Err(GenerationsError::NoCandidate),
        };
        if number != 0 && !self.file(number).exists() {
            return Err(self.absent(number));
        }
        let previous = state.active;
        if number != previous {
            state.earlier.retain(|earlier| *earlier != number && *earlier != previous);
            state.earlier.insert(0, previous);
            state.earlier.truncate(KEPT);
        }
        state.active = number;
        state.candidate = state.candidate.filter(|candidate| *candidate != number);
        self.write(&state)?;
        self.prune(&state);
        Ok(Change { generation: number, previous })
    }

    /// Goes back to the generation before the one in use, or to `number`. The one that is left is not gone
    /// back to again.
    ///
    /// # Errors
    /// [`GenerationsError`]; nothing has changed then.
    pub fn roll_back(&self, base: &Path, number: Option<u64>) -> Result<Change, GenerationsError> {
        let _lock = self.lock()?;
        let mut state = self.state_for(base)?;
        let previous = state.active;
        if previous == 0 && number.is_none_or(|number| number == 0) {
            return Err(GenerationsError::First);
        }
        let number = number.or(state.earlier.first().copied()).unwrap_or(0);
        if number != 0 && (number == previous || !self.file(number).exists()) {
            return Err(self.absent(number));
        }
        state.active = number;
        let from = state.earlier.iter().position(|earlier| *earlier == number);
        state.earlier = state.earlier.split_off(from.map_or(state.earlier.len(), |at| at + 1));
        self.write(&state)?;
        Ok(Change { generation: number, previous })
    }

    /// Every generation on the disk, the settings' own first, with which one is in use.
    #[must_use]
    pub fn entries(&self, base: &Path) -> Vec<Entry> {
        let in_use = self.in_use(base);
        let candidate = in_use.candidate;
        let mut numbers = self.numbers();
        numbers.insert(0, 0);
        let entry = |number: u64| Entry {
            number,
            path: if number == 0 { base.to_owned() } else { self.file(number) },
            in_use: number == in_use.number,
            candidate: candidate == Some(number),
        };
        numbers.into_iter().map(entry).collect()
    }

    /// Tells whether [`Generations::in_use`] may say something else than before: it differs after each
    /// change.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt;
        // A file that replaces another one is another file.
        let found = std::fs::metadata(self.folder.join(STATE)).ok()?;
        Some(Stamp([found.ino(), found.len(), found.mtime() as u64, found.mtime_nsec() as u64]))
    }

    /// Removes what processes that were killed while they wrote have left. For the daemon's start.
    pub fn remove_leftovers(&self) {
        atomic_file::remove_leftovers(&self.folder);
    }

    /// The file of a tuned generation, whether it is there or not.
    #[must_use]
    pub fn file(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:06}.onnx"))
    }

    /// Numbers of the files that are there, rising.
    fn numbers(&self) -> Vec<u64> {
        let name = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(".onnx")?.parse::<u64>().ok().filter(|number| *number > 0)
        };
        let listing = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut numbers: Vec<u64> = listing.filter_map(name).collect();
        numbers.sort_unstable();
        numbers
    }

    fn absent(&self, number: u64) -> GenerationsError {
        let numbers: Vec<String> = self.numbers().iter().map(u64::to_string).collect();
        let present = match numbers.len() {
            0 => "only 0, the model of the settings".to_owned(),
            _ => format!("0, the model of the settings, and {}", numbers.join(", ")),
        };
        GenerationsError::Absent { number, present }
    }

    fn read(&self) -> Result<Option<State>, GenerationsError> {
        let path = self.folder.join(STATE);
        let text = match regular_file::read(&path, MOST_STATE) {
            Ok(text) => text,
            Err(ReadError::System(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(ReadError::System(source)) => return Err(GenerationsError::Io { path, source }),
            Err(other) => return Err(GenerationsError::Damaged { path, reason: other.to_string() }),
        };
        match serde_json::from_slice::<State>(&text) {
            Ok(state) if state.v == VERSION => Ok(Some(state)),
            Ok(state) => {
                let reason = format!("of version {}, this retinad reads {VERSION}", state.v);
                Err(GenerationsError::Damaged { path, reason })
            }
            Err(error) => Err(GenerationsError::Damaged { path, reason: one_line(&error.to_string()) }),
        }
    }

    /// The state as it is to be changed: a new one where there is none, where it is damaged, and where the
    /// settings name another model than the one it is about.
    fn state_for(&self, base: &Path) -> Result<State, GenerationsError> {
        let sha256 = ModelFile::read(base)?.sha256;
        let next = self.numbers().last().map_or(1, |last| last + 1);
        match self.read() {
            Ok(Some(state)) if state.base_sha256 == sha256 => {
                Ok(State { next: state.next.max(next), ..state })
            }
            Ok(Some(state)) => Ok(State { next: state.next.max(next), ..State::new(sha256) }),
            Ok(None) | Err(GenerationsError::Damaged { .. }) => Ok(State { next, ..State::new(sha256) }),
            Err(error) => Err(error),
        }
    }

    fn write(&self, state: &State) -> Result<(), GenerationsError> {
        let mut bytes = serde_json::to_vec_pretty(state).unwrap_or_default();
        bytes.push(b'\n');
        self.put(&self.folder.join(STATE), &bytes)
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), GenerationsError> {
        let failed = |source| GenerationsError::Io { path: path.to_owned(), source };
        atomic_file::write(path, bytes, FILE_MODE).map_err(failed)?;
        atomic_file::give_to_owner_of(&self.folder, path).map_err(failed)
    }

    /// Removes what is neither in use nor a candidate nor among those to go back to.
    fn prune(&self, state: &State) {
        let wanted = |number: &u64| {
            *number == state.active || state.candidate == Some(*number) || state.earlier.contains(number)
        };
        for number in self.numbers().into_iter().filter(|number| !wanted(number)) {
            // One that stays takes room and does no harm.
            let _ = std::fs::remove_file(self.file(number));
        }
    }

    /// Changes wait for each other until this is dropped.
    fn lock(&self) -> Result<File, GenerationsError> {
        use std::os::unix::fs::DirBuilderExt;
        let failed =
            |path: &Path, source: std::io::Error| GenerationsError::Io { path: path.to_owned(), source };
        if !self.folder.is_dir() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.folder);
            made.map_err(|source| failed(&self.folder, source))?;
            if let Some(parent) = self.folder.parent() {
                let given = atomic_file::give_to_owner_of(parent, &self.folder);
                given.map_err(|source| failed(&self.folder, source))?;
            }
        }
        let path = self.folder.join(".lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(
            open(&path, flags, Mode::from_raw_mode(0o600)).map_err(|source| failed(&path, source.into()))?,
        );
        let given = atomic_file::give_to_owner_of(&self.folder, &path);
        given.map_err(|source| failed(&path, source))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|source| failed(&path, source.into()))?;
        Ok(file)
    }
}

/// SHA-256 of a file, hex; none where it cannot be read.
fn sha256_of(path: &Path) -> Option<String> {
    let bytes = regular_file::read(path, crate::model::MAX_BYTES).ok()?;
    Some(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Manifest;

    struct Place {
        folder: tempfile::TempDir,
        base: PathBuf,
        generations: Generations,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path().join("base.onnx");
        std::fs::write(&base, model("base")).expect("written");
        let generations = Generations::within(folder.path());
        Place { folder, base, generations }
    }

    /// The shipped model with another version.
    fn model(version: &str) -> Vec<u8> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/retinad-m-320-int8.onnx");
        let file = ModelFile::read(&path).expect("the shipped model");
        let manifest = Manifest { version: version.into(), ..file.manifest().expect("a manifest").clone() };
        file.with_manifest(&manifest).expect("written")
    }

    impl Place {
        fn in_use(&self) -> (u64, Vec<u64>) {
            let in_use = self.generations.in_use(&self.base);
            assert_eq!(in_use.note, None);
            (in_use.number, in_use.earlier)
        }

        fn add_and_use(&self, version: &str) -> u64 {
            let number = self.generations.add(&self.base, &model(version)).expect("added");
            self.generations.activate(&self.base, None).expect("in use").generation.min(number)
        }
    }

    #[test]
    fn a_tuned_model_waits_is_used_and_is_gone_back_from() {
        let place = place();
        assert_eq!(place.in_use(), (0, Vec::new()));
        let stamp = place.generations.stamp();
        assert_eq!(place.generations.add(&place.base, &model("one")).expect("added"), 1);
        assert_eq!(place.in_use(), (0, Vec::new()), "a candidate waits");
        assert_eq!(place.generations.in_use(&place.base).candidate, Some(1));
        let change = place.generations.activate(&place.base, None).expect("in use");
        assert_eq!(change, Change { generation: 1, previous: 0 });
        assert_ne!(place.generations.stamp(), stamp);
        assert_eq!(place.in_use(), (1, vec![0]));
        assert_eq!(place.add_and_use("two"), 2);
        assert_eq!(place.in_use(), (2, vec![1, 0]));
        let change = place.generations.roll_back(&place.base, None).expect("gone back");
        assert_eq!((change, place.in_use()), (Change { generation: 1, previous: 2 }, (1, vec![0])));
        place.generations.roll_back(&place.base, None).expect("gone back");
        assert_eq!(place.in_use(), (0, Vec::new()));
        let error = place.generations.roll_back(&place.base, None).expect_err("the first").to_string();
        assert!(error.contains("nothing to go back to"), "{error}");
        let error = place.generations.activate(&place.base, Some(9)).expect_err("absent").to_string();
        assert_eq!(error, "generation 9: there is none; 0, the model of the settings, and 1, 2");
        assert_eq!(place.add_and_use("three"), 3, "a number is never used twice");
    }

    #[test]
    fn the_last_few_are_kept_and_older_ones_removed() {
        let place = place();
        for number in 1..=6 {
            assert_eq!(place.add_and_use(&format!("{number}")), number);
        }
        assert_eq!(place.in_use(), (6, vec![5, 4, 3]));
        let numbers: Vec<u64> =
            place.generations.entries(&place.base).iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [0, 3, 4, 5, 6]);
        assert_eq!(place.generations.roll_back(&place.base, Some(0)).expect("gone back").generation, 0);
    }

    #[test]
    fn whatever_is_damaged_a_model_that_loads_is_used_and_a_note_says_so() {
        let place = place();
        place.add_and_use("one");
        place.add_and_use("two");
        let two = place.generations.file(2);
        let whole = std::fs::read(&two).expect("there");
        std::fs::write(&two, &whole[..whole.len() / 2]).expect("cut");
        let in_use = place.generations.in_use(&place.base);
        assert_eq!((in_use.number, in_use.earlier), (1, vec![0]));
        assert!(in_use.note.expect("a note").contains("000002.onnx"));
        std::fs::remove_file(place.generations.file(1)).expect("removed");
        assert_eq!(place.generations.in_use(&place.base).number, 0);
        let state = place.folder.path().join("models/generations.json");
        for text in ["", "{", "{\"v\":9,\"base_sha256\":\"\",\"active\":2,\"next\":3}", "[1]"] {
            std::fs::write(&state, text).expect("written");
            let in_use = place.generations.in_use(&place.base);
            let note = in_use.note.expect("a note");
            assert!(
                in_use.number == 0 && note.contains("generations.json") && note.lines().count() == 1,
                "{note}"
            );
        }
        assert_eq!(place.add_and_use("three"), 3, "a damaged file is no end, and 2 is taken");
    }

    #[test]
    fn a_tuned_model_of_another_base_is_not_used() {
        let place = place();
        place.add_and_use("one");
        std::fs::write(&place.base, model("newer base")).expect("written");
        let in_use = place.generations.in_use(&place.base);
        assert_eq!(in_use.number, 0);
        let note = in_use.note.expect("a note");
        assert!(note.contains("generation 1 was made from another model; tune anew"), "{note}");
        assert_eq!(place.add_and_use("two"), 2);
        assert_eq!(place.in_use(), (2, vec![0]));
    }
}
