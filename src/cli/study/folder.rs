//! The study's folder: there whole, or not at all.

use crate::cli::eval::failed;
use crate::cli::exit::Failure;
use std::fs::{self, File, Metadata};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file of the study.
pub struct Document {
    /// Its name, without a folder.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// A folder that is to be made.
pub struct NewFolder {
    path: PathBuf,
    parent: PathBuf,
}

impl NewFolder {
    /// Finds out at once whether `path` can be made, so that nobody waits half an hour for a refusal.
    pub fn at(path: &Path) -> Result<Self, Failure> {
        let folder = match path.symlink_metadata() {
            Ok(_) => empty(path)?,
            Err(_) => path.to_owned(),
        };
        let parent = match folder.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) if folder.file_name().is_some() => parent.to_owned(),
            _ => return Err(refused(path, "is no name for a folder")),
        };
        fs::create_dir_all(&parent).map_err(|error| refused(&parent, &error.to_string()))?;
        let new = Self { path: folder, parent };
        let staging = new.staging();
        fs::create_dir(&staging)
            .and_then(|()| fs::remove_dir(&staging))
            .map_err(|e| refused(&new.parent, &e.to_string()))?;
        Ok(new)
    }

    /// Writes all of `documents` into a folder beside it, which then takes its place.
    pub fn write(&self, documents: &[Document]) -> Result<(), Failure> {
        let staging = self.staging();
        let written = self.write_into(&staging, documents);
        if written.is_err() {
            // It is ours; what cannot be removed is hidden, and told is what went wrong before.
            let _ = fs::remove_dir_all(&staging);
        }
        written
    }

    fn write_into(&self, staging: &Path, documents: &[Document]) -> Result<(), Failure> {
        fs::create_dir(staging).map_err(|error| refused(&self.parent, &error.to_string()))?;
        for document in documents {
            let write = || -> std::io::Result<()> {
                let mut file = File::create_new(staging.join(&document.name))?;
                file.write_all(document.text.as_bytes())?;
                file.sync_all()
            };
            write().map_err(|error| refused(&self.path.join(&document.name), &error.to_string()))?;
        }
        File::open(staging)
            .and_then(|folder| folder.sync_all())
            .and_then(|()| fs::rename(staging, &self.path))
            .and_then(|()| File::open(&self.parent)?.sync_all())
            .map_err(|error| refused(&self.path, &error.to_string()))
    }

    fn staging(&self) -> PathBuf {
        self.parent.join(format!(".retinad-study-{}.new", std::process::id()))
    }
}

/// The true path of a folder that is there, if another may take its place.
fn empty(path: &Path) -> Result<PathBuf, Failure> {
    let found = |error: std::io::Error| refused(path, &error.to_string());
    let real = path.canonicalize().map_err(found)?;
    let metadata = real.metadata().map_err(found)?;
    if !metadata.is_dir() {
        return Err(refused(path, "is no folder; name one that is new or empty"));
    }
    if real.read_dir().map_err(found)?.next().is_some() {
        return Err(refused(path, "is not empty; name a folder that is new or empty"));
    }
    let root = |parent: &Path| parent.metadata().is_ok_and(|parent: Metadata| parent.dev() != metadata.dev());
    if real.parent().is_none_or(root) {
        return Err(refused(path, "is the root of a file system; name a folder in it"));
    }
    if std::env::current_dir().is_ok_and(|current| current == real) {
        return Err(refused(path, "is the current folder; name one in it"));
    }
    Ok(real)
}

fn refused(path: &Path, reason: &str) -> Failure {
    failed(format!("{}: {reason}", path.display()))
}
