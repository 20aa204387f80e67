//! Samples on the disk: for each a JPEG, and beside it the file that makes it a sample.
//!
//! The JPEG is written first and removed last, both files whole or not at all, so that whenever the power
//! fails each sample is there with its picture or is not there. A picture without its file belongs to nobody
//! and is removed when the daemon starts.

use super::SampleId;
use super::record::{RecordError, Sample};
use crate::atomic_file;
use crate::regular_file::{self, ReadError};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most bytes of a sample's file, and of its picture.
const MOST_RECORD: u64 = 1 << 20;
const MOST_PICTURE: u64 = 32 << 20;
/// Samples show a house from inside: nobody but their owner reads them.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// A picture without its file may be half of a sample that another process is writing now; after so long it
/// is not.
const ORPHAN: Duration = Duration::from_secs(3600);
/// Samples of one millisecond of one camera that find a name.
const MOST_ALIKE: u32 = 1000;

/// Why the store cannot do what it is asked to. One line that names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What the system says.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
    /// No sample has this id.
    #[error("{id}: no such sample in {}; `retinad samples list` shows them", folder.display())]
    Absent {
        /// The id.
        id: SampleId,
        /// The samples' folder.
        folder: PathBuf,
    },
    /// Its file cannot be read or says what cannot be.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Only labelled samples are left, which are not removed for others.
    #[error("{}: {used_mb} MB of labelled samples leave no room within {limit_mb} MB (samples.max_mb)", folder.display())]
    Full {
        /// The samples' folder.
        folder: PathBuf,
        /// What they take, megabytes.
        used_mb: u64,
        /// What is allowed, megabytes.
        limit_mb: u64,
    },
}

/// What is known of a sample without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: SampleId,
    /// Bytes on the disk, both files.
    pub bytes: u64,
    /// How long ago its file was written; 0 where the clock has gone back since.
    pub age: Duration,
}

/// What became of a sample that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name in the store.
    pub id: SampleId,
    /// Samples that had to go for it.
    pub removed: usize,
}

/// The samples' folder. Several processes may use it at the same time.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The samples in this folder, which need not be there yet.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The samples within a state folder.
    #[must_use]
    pub fn within(state_folder: &Path) -> Self {
        Self::at(state_folder.join("samples"))
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, id: &SampleId, extension: &str) -> PathBuf {
        self.folder.join(format!("{id}.{extension}"))
    }

    /// Every sample, the oldest first. A folder that is not there has none.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for (id, metadata) in self.files("json")? {
            let picture = std::fs::metadata(self.path(&id, "jpg")).map_or(0, |found| found.len());
            entries.push(Entry { bytes: metadata.len() + picture, age: age(&metadata), id });
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(entries)
    }

    /// The regular files with this extension whose name is an id.
    fn files(&self, extension: &str) -> Result<Vec<(SampleId, Metadata)>, StoreError> {
        let listing = match std::fs::read_dir(&self.folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::Io { path: self.folder.clone(), source }),
        };
        let named = listing.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let id = name.strip_suffix(extension)?.strip_suffix('.')?.parse().ok()?;
            // Not through a link, and not gone since.
            let metadata = entry.metadata().ok().filter(Metadata::is_file)?;
            Some((id, metadata))
        });
        Ok(named.collect())
    }

    /// Whether there is a sample of this name.
    #[must_use]
    pub fn has(&self, id: &SampleId) -> bool {
        self.path(id, "json").exists()
    }

    /// Reads what is known of a sample.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read(&self, id: &SampleId) -> Result<Sample, StoreError> {
        let path = self.path(id, "json");
        let text = self.bytes(id, &path, MOST_RECORD)?;
        Sample::from_json(id, &text).map_err(|RecordError(reason)| StoreError::Damaged { path, reason })
    }

    /// A sample's picture, JPEG.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn picture(&self, id: &SampleId) -> Result<Vec<u8>, StoreError> {
        self.bytes(id, &self.path(id, "jpg"), MOST_PICTURE)
    }

    fn bytes(&self, id: &SampleId, path: &Path, most: u64) -> Result<Vec<u8>, StoreError> {
        regular_file::read(path, most).map_err(|error| match error {
            ReadError::System(error) if error.kind() == std::io::ErrorKind::NotFound => {
                StoreError::Absent { id: id.clone(), folder: self.folder.clone() }
            }
            ReadError::System(source) => StoreError::Io { path: path.to_owned(), source },
            other => StoreError::Damaged { path: path.to_owned(), reason: other.to_string() },
        })
    }

    /// Adds a sample with its picture, and removes the oldest samples that nobody has labelled until all take
    /// at most `most_bytes`. Where its id is taken, it gets another one, that of a later millisecond.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the sample is there then.
    pub fn add(&self, mut sample: Sample, jpeg: &[u8], most_bytes: u64) -> Result<Kept, StoreError> {
        self.make_folder()?;
        sample.id = self.free_id(sample.id)?;
        let needed = jpeg.len() as u64 + sample.to_json().len() as u64;
        let removed = self.make_room(most_bytes.saturating_sub(needed), most_bytes)?;
        let picture = self.path(&sample.id, "jpg");
        self.put(&picture, jpeg)?;
        if let Err(error) = self.write(&sample) {
            let _ = std::fs::remove_file(&picture);
            return Err(error);
        }
        Ok(Kept { id: sample.id, removed })
    }

    fn free_id(&self, id: SampleId) -> Result<SampleId, StoreError> {
        let mut free = id;
        for _ in 0..MOST_ALIKE {
            // A picture alone was left by a process that was killed; the same frame or file comes again.
            if !self.has(&free) {
                return Ok(free);
            }
            free = free.next_millisecond();
        }
        let reason = "too many samples of one moment".to_owned();
        Err(StoreError::Damaged { path: self.path(&free, "json"), reason })
    }

    /// Writes what is known of a sample that is there: new labels.
    ///
    /// # Errors
    /// What the system says; the file is then as it was.
    pub fn write(&self, sample: &Sample) -> Result<(), StoreError> {
        self.put(&self.path(&sample.id, "json"), &sample.to_json())
    }

    /// Removes a sample. Whether it was there.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, id: &SampleId) -> Result<bool, StoreError> {
        let there = removed(&self.path(id, "json"))?;
        removed(&self.path(id, "jpg"))?;
        Ok(there)
    }

    /// Removes the oldest samples that nobody has labelled until all take at most `bytes`; how many. One that
    /// cannot be read is nobody's.
    fn make_room(&self, bytes: u64, limit: u64) -> Result<usize, StoreError> {
        let entries = self.entries()?;
        let mut used: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let mut gone = 0;
        for entry in entries {
            if used <= bytes {
                return Ok(gone);
            }
            if !self.read(&entry.id).is_ok_and(|sample| sample.is_labelled()) {
                self.remove(&entry.id)?;
                used -= entry.bytes;
                gone += 1;
            }
        }
        if used <= bytes {
            return Ok(gone);
        }
        Err(StoreError::Full { folder: self.folder.clone(), used_mb: used >> 20, limit_mb: limit >> 20 })
    }

    /// Removes what was left by processes that were killed while they wrote. For the daemon's start.
    pub fn remove_leftovers(&self) {
        atomic_file::remove_leftovers(&self.folder);
        for (id, metadata) in self.files("jpg").unwrap_or_default() {
            if age(&metadata) > ORPHAN && !self.path(&id, "json").exists() {
                let _ = std::fs::remove_file(self.path(&id, "jpg"));
            }
        }
    }

    fn make_folder(&self) -> Result<(), StoreError> {
        use std::os::unix::fs::DirBuilderExt;
        let failed = |source| StoreError::Io { path: self.folder.clone(), source };
        if self.folder.is_dir() {
            return Ok(());
        }
        std::fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.folder).map_err(failed)?;
        match self.folder.parent() {
            Some(parent) => atomic_file::give_to_owner_of(parent, &self.folder).map_err(failed),
            None => Ok(()),
        }
    }

    /// Writes a file that belongs to whom the folder belongs to: the service runs as a user of its own, and
    /// root's files would be closed to it.
    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        atomic_file::write(path, bytes, FILE_MODE).map_err(failed)?;
        atomic_file::give_to_owner_of(&self.folder, path).map_err(failed)
    }
}

fn age(file: &Metadata) -> Duration {
    file.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default()
}

/// Removes a file; whether it was there.
fn removed(path: &Path) -> Result<bool, StoreError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StoreError::Io { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::record::Verdicts;
    use crate::samples::record::tests::sample;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::within(folder.path());
        (folder, store)
    }

    #[test]
    fn a_sample_is_kept_read_relabelled_and_removed() {
        let (_folder, store) = store();
        assert_eq!(store.entries().expect("no folder yet"), []);
        let one = sample(0);
        let kept = store.add(one.clone(), b"picture", 1 << 20).expect("kept");
        assert_eq!((&kept.id, kept.removed), (&one.id, 0));
        assert_eq!(store.read(&one.id).expect("there"), one);
        assert_eq!(store.picture(&one.id).expect("there"), b"picture");
        let changed = Sample { labels: Vec::new(), verdicts: Verdicts::Whole, ..one.clone() };
        store.write(&changed).expect("written");
        assert_eq!(store.read(&one.id).expect("there"), changed);
        assert!(store.remove(&one.id).expect("removed"));
        assert!(!store.remove(&one.id).expect("gone already"));
        let error = store.read(&one.id).expect_err("gone").to_string();
        assert!(error.contains("no such sample"), "{error}");
        assert_eq!(std::fs::read_dir(store.folder()).expect("a folder").count(), 0);
    }

    #[test]
    fn two_frames_of_one_moment_are_two_samples() {
        let (_folder, store) = store();
        let ids: Vec<_> =
            (0..3).map(|_| store.add(sample(0), b"x", 1 << 20).expect("kept").id.to_string()).collect();
        assert_eq!(
            ids,
            ["20261126-152301-000-front", "20261126-152301-001-front", "20261126-152301-002-front"]
        );
        assert_eq!(store.read(&ids[2].parse().expect("an id")).expect("there").labels.len(), 2);
    }

    #[test]
    fn the_oldest_that_nobody_labelled_go_and_labelled_ones_never() {
        let (_folder, store) = store();
        let unlabelled = |second| Sample { labels: Vec::new(), verdicts: Verdicts::None, ..sample(second) };
        let picture = vec![0; 100_000];
        let limit = 320_000;
        store.add(sample(0), &picture, limit).expect("kept");
        for second in 1..5 {
            store.add(unlabelled(second), &picture, limit).expect("kept");
        }
        let left: Vec<_> = store.entries().expect("read").into_iter().map(|entry| entry.id).collect();
        assert_eq!(left, [sample(0).id, sample(3).id, sample(4).id]);
        assert!(store.entries().expect("read").iter().map(|entry| entry.bytes).sum::<u64>() <= limit);
        for second in 5..7 {
            store.add(sample(second), &picture, limit).expect("kept");
        }
        let error = store.add(sample(7), &picture, limit).expect_err("full").to_string();
        assert!(error.contains("labelled samples leave no room"), "{error}");
        assert_eq!(store.entries().expect("read").len(), 3);
    }

    #[test]
    fn what_is_half_there_is_no_sample_and_goes_at_the_next_start() {
        let (_folder, store) = store();
        store.add(sample(0), b"x", 1 << 20).expect("kept");
        let at = |name: &str| store.folder().join(name);
        std::fs::write(at("20200101-000000-000-old.jpg"), "x").expect("written");
        std::fs::write(at("20200101-000000-000-new.jpg"), "x").expect("written");
        std::fs::write(at("notes.txt"), "mine").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", at("20200101-000000-000-link.json")).expect("linked");
        let long_ago = std::time::SystemTime::now() - 2 * ORPHAN;
        let old =
            std::fs::File::options().write(true).open(at("20200101-000000-000-old.jpg")).expect("there");
        old.set_modified(long_ago).expect("set");
        assert_eq!(store.entries().expect("read").len(), 1);
        store.remove_leftovers();
        assert!(!at("20200101-000000-000-old.jpg").exists() && at("20200101-000000-000-new.jpg").exists());
        assert!(at("notes.txt").exists() && store.picture(&sample(0).id).is_ok());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let (_folder, store) = store();
        let id = store.add(sample(0), b"x", 1 << 20).expect("kept").id;
        let path = store.path(&id, "json");
        std::fs::write(&path, "{").expect("written");
        let error = store.read(&id).expect_err("damaged").to_string();
        assert!(error.starts_with(&path.display().to_string()) && !error.contains('\n'), "{error}");
        std::fs::write(&path, vec![b' '; 2 << 20]).expect("written");
        let error = store.read(&id).expect_err("too long").to_string();
        assert!(error.contains("at most"), "{error}");
    }
}
