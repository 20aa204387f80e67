//! Which pictures are detected in: files, folders, or those of COCO annotations.

use crate::cli::labels;
use crate::coco::Annotations;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One picture.
pub struct Work {
    /// Its file.
    pub path: PathBuf,
    /// Its number in the annotations; 0 without annotations.
    pub image_id: u64,
}

/// All that is to be done.
pub struct Inputs {
    /// The pictures, in order.
    pub work: Vec<Work>,
    /// What was given and holds no picture: a line each.
    pub refused: Vec<String>,
    /// Category ids of the annotations by label.
    pub categories: HashMap<String, u64>,
    /// The files of the pictures.
    pub files: HashSet<FileId>,
}

impl Inputs {
    /// Lists files, and the pictures of folders by name.
    pub fn of_paths(paths: &[PathBuf]) -> Self {
        let (mut work, mut refused) = (Vec::new(), Vec::new());
        for path in paths {
            let files = if path.is_dir() { pictures_in(path) } else { Ok(vec![path.clone()]) };
            match files {
                Ok(files) => work.extend(files.into_iter().map(|path| Work { path, image_id: 0 })),
                Err(reason) => refused.push(format!("{}: {reason}", path.display())),
            }
        }
        Self { files: files(&work), work, refused, categories: HashMap::new() }
    }

    /// Reads COCO annotations whose pictures lie in the folder `images`.
    ///
    /// # Errors
    /// What is wrong with them, in a line that names the file.
    pub fn of_annotations(annotations: &Path, images: &Path, labels: &[String]) -> Result<Self, String> {
        let name = annotations.display();
        let listed = Annotations::read_pictures(annotations).map_err(|e| e.to_string())?;
        let work: Vec<Work> = listed
            .images
            .iter()
            .map(|image| Work { path: images.join(&image.file_name), image_id: image.id })
            .collect();
        if work.is_empty() {
            return Err(format!("{name}: no picture in `images`"));
        }
        let categories: HashMap<String, u64> =
            listed.categories.into_iter().map(|category| (category.name, category.id)).collect();
        if !labels.iter().any(|label| categories.contains_key(label)) {
            return Err(format!(
                "{name}: {}",
                labels::none_in_common(categories.keys().map(String::as_str), labels)
            ));
        }
        Ok(Self { files: files(&work), work, refused: Vec::new(), categories })
    }
}

fn files(work: &[Work]) -> HashSet<FileId> {
    work.iter().filter_map(|work| FileId::of(&work.path)).collect()
}

/// A file by device and inode: one that goes by several names is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId(u64, u64);

impl FileId {
    /// Of the file at `path`, or that it links to; none if there is no such file.
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|found| Self(found.dev(), found.ino()))
    }
}

fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let is_picture = |path: &PathBuf| {
        path.extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| ["jpg", "jpeg", "png", "webp"].contains(&e.to_ascii_lowercase().as_str()))
    };
    let entries = std::fs::read_dir(folder).map_err(|e| e.to_string())?;
    let mut inside: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_picture).collect();
    if inside.is_empty() {
        return Err("no picture in it; .jpg, .jpeg, .png and .webp are read".into());
    }
    inside.sort();
    Ok(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("val.json");
        let labels = ["person".to_owned(), String::new(), "cat".to_owned()];
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            Inputs::of_annotations(&path, folder.path(), &labels)
        };
        let images = r#""images": [{"id": 7, "file_name": "a.jpg"}]"#;
        let categories = r#""categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "sheep"}]"#;
        let inputs = read(&format!("{{{images}, {categories}}}")).expect("used");
        assert_eq!((inputs.work.len(), inputs.categories["cat"]), (1, 3));
        for (text, words) in [
            (format!("{{{images}}}"), "no array `categories`"),
            (format!("{{\"images\": [], {categories}}}"), "no picture in `images`"),
            (format!("{{{images}, \"categories\": []}}"), "none of its categories () is a label"),
            (
                format!(r#"{{{images}, "categories": [{{"id": 1, "name": "Cat"}}]}}"#),
                "none of its categories (Cat) is a label of the model (person, cat)",
            ),
        ] {
            let error = read(&text).err().expect("refused");
            assert!(error.contains("val.json: ") && error.contains(words), "{error}");
        }
        let error = Inputs::of_annotations(folder.path(), folder.path(), &labels).err().expect("refused");
        assert!(error.ends_with("a folder, must be a regular file"), "{error}");
    }
}
