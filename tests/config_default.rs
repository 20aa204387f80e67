//! `config/retinad.toml` is the documented default, and every file beside it is a valid example.

use retinad::settings::{Settings, load};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn documented() -> String {
    std::fs::read_to_string(folder().join("retinad.toml")).expect("config/retinad.toml is readable")
}

#[test]
fn the_documented_default_is_the_default() {
    assert_eq!(toml::from_str::<Settings>(&documented()).expect("valid"), Settings::default());
}

#[test]
fn every_key_stands_in_the_file_at_its_default() {
    let given: toml::Table = toml::from_str(&documented()).expect("valid");
    let mut wanted = toml::Table::try_from(Settings::default()).expect("plain data");
    wanted.remove("cameras");
    assert_eq!(given, wanted);
}

#[test]
fn every_example_passes_the_checks() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).expect("readable").map(|entry| entry.expect("entry").path()).collect();
    // What the Debian package starts with.
    files.push(folder().with_file_name("packaging").join("retinad.toml"));
    let mut read = 0;
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "toml")) {
        load(Some(path), &[], &[]).unwrap_or_else(|error| panic!("{error}"));
        read += 1;
    }
    assert!(read >= 7, "only {read} files found");
}
