//! What `retinad detect` writes, and what it must not write over.

use super::inputs::FileId;
use crate::atomic_file;
use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Mode of what is written for people, before the umask.
const PUBLIC: u32 = 0o666;

/// Gives each drawing a name of its own in one folder.
pub struct Names {
    folder: PathBuf,
    inputs: HashSet<FileId>,
    /// In lower case, because some file systems do not tell the cases apart.
    taken: HashSet<String>,
}

impl Names {
    /// For a folder, in which `inputs` are left alone.
    pub fn new(folder: PathBuf, inputs: HashSet<FileId>) -> Self {
        Self { folder, inputs, taken: HashSet::new() }
    }

    /// A path for the drawing of `picture`: its name as `.jpg`, with `-2` and so on where another drawing of
    /// this run, an input, or something that is no regular file has that name.
    pub fn next(&mut self, picture: &Path) -> PathBuf {
        let stem = picture.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut number = 1_u64;
        loop {
            let name = if number == 1 { format!("{stem}.jpg") } else { format!("{stem}-{number}.jpg") };
            let path = self.folder.join(&name);
            if self.is_free(&path) && self.taken.insert(name.to_lowercase()) {
                return path;
            }
            number += 1;
        }
    }

    fn is_free(&self, path: &Path) -> bool {
        match path.symlink_metadata() {
            Err(_) => true,
            Ok(found) => found.is_file() && FileId::of(path).is_none_or(|id| !self.inputs.contains(&id)),
        }
    }
}

/// Writes a drawing whole, or not at all.
///
/// # Errors
/// What the system says.
pub fn write_drawing(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    atomic_file::write(path, bytes, PUBLIC)
}

/// Refuses a file for the results that is one of the inputs, by whatever name.
///
/// # Errors
/// A line that names it.
pub fn check_results_file(path: &Path, inputs: &HashSet<FileId>) -> Result<(), String> {
    match FileId::of(path) {
        Some(id) if inputs.contains(&id) => {
            Err(format!("{}: one of the inputs; results need a file of their own", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes results to `path`: a regular file is replaced whole, also at the end of a link. What else there is,
/// or has several names, is written to as it stands: a device, a pipe, a descriptor.
///
/// # Errors
/// What the system says.
pub fn write_results(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    match file_to_replace(path)? {
        Some(target) => atomic_file::write(&target, bytes, PUBLIC),
        None => {
            let mut file = File::options().write(true).truncate(true).open(path)?;
            file.write_all(bytes)?;
            file.flush()
        }
    }
}

/// Where a file can be put in place of what `path` names; none if that must stay what it is.
fn file_to_replace(path: &Path) -> std::io::Result<Option<PathBuf>> {
    let Ok(named) = path.symlink_metadata() else { return Ok(Some(path.to_owned())) };
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        // A link to what is not there yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let target = std::fs::read_link(path)?;
            return Ok(Some(path.parent().unwrap_or(Path::new("")).join(target)));
        }
        Err(error) => return Err(error),
    };
    if !found.is_file() || found.nlink() > 1 {
        return Ok(None);
    }
    if !named.is_symlink() {
        return Ok(Some(path.to_owned()));
    }
    // /dev/stdout leads to a file that somebody holds open: that one is meant.
    let is_descriptor = ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder));
    if is_descriptor { Ok(None) } else { std::fs::canonicalize(path).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn drawings_have_names_of_their_own_and_spare_the_inputs() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["a.jpg", "other", "plain.jpg"] {
            std::fs::write(at(name), name).expect("written");
        }
        symlink(at("a.jpg"), at("b.jpg")).expect("linked");
        std::fs::hard_link(at("a.jpg"), at("c.jpg")).expect("linked");
        symlink("/dev/full", at("d.jpg")).expect("linked");
        std::fs::create_dir(at("e.jpg")).expect("a folder");
        let inputs = [FileId::of(&at("a.jpg")).expect("there")].into();
        let mut names = Names::new(folder.path().to_owned(), inputs);
        for (picture, name) in [
            ("a.jpg", "a-2.jpg"),
            ("x/a.png", "a-3.jpg"),
            ("b.png", "b-2.jpg"),
            ("c.png", "c-2.jpg"),
            ("d.png", "d-2.jpg"),
            ("e.png", "e-2.jpg"),
            ("plain.png", "plain.jpg"),
            ("new.png", "new.jpg"),
            ("NEW.png", "NEW-2.jpg"),
        ] {
            assert_eq!(names.next(Path::new(picture)), at(name), "{picture}");
        }
    }

    #[test]
    fn what_is_no_plain_file_is_written_through() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("target"), "a longer text than the new one").expect("written");
        symlink("target", at("link")).expect("linked");
        symlink("later", at("dangling")).expect("linked");
        std::fs::write(at("one"), "old").expect("written");
        std::fs::hard_link(at("one"), at("two")).expect("linked");
        for name in ["link", "dangling", "one", "new"] {
            write_results(&at(name), b"results").expect("written");
        }
        for name in ["target", "later", "two", "new"] {
            assert_eq!(std::fs::read(at(name)).expect("there"), b"results", "{name}");
        }
        for name in ["link", "dangling"] {
            assert!(at(name).symlink_metadata().expect("there").is_symlink(), "{name}");
        }
        write_results(Path::new("/dev/null"), b"results").expect("written");
        assert!(!Path::new("/dev/null").metadata().expect("there").is_file());
        let fifo = at("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::read(fifo)
        });
        write_results(&fifo, b"results").expect("written");
        assert_eq!(reader.join().expect("ends").expect("read"), b"results");
    }

    #[test]
    fn an_input_is_no_file_for_results_by_any_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a.jpg"), "picture").expect("written");
        symlink("a.jpg", at("link")).expect("linked");
        std::fs::hard_link(at("a.jpg"), at("hard")).expect("linked");
        let inputs = [FileId::of(&at("a.jpg")).expect("there")].into();
        for name in ["a.jpg", "link", "hard"] {
            let error = check_results_file(&at(name), &inputs).expect_err("refused");
            assert!(error.contains("one of the inputs"), "{error}");
        }
        check_results_file(&at("new"), &inputs).expect("a file of its own");
    }
}
