//! Files of the repository that belong to the settings: the generated ones are as the program writes them,
//! and every shipped settings file loads.

use super::{documented_toml, json_schema};
use crate::settings::{Settings, load};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a file with the text that the program would write, or writes it where `REGENERATE` is set.
fn compare(file: &str, wanted: &str) {
    let path = root().join(file);
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(&path, wanted).expect("written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).position(|(found, wanted)| found != wanted);
    let line = differs.unwrap_or_else(|| found.lines().count().min(wanted.lines().count())) + 1;
    assert!(
        found == wanted,
        "{file}:{line}: is not what the keys in src/settings/ give; write it anew with \
         REGENERATE=1 cargo test --release --lib settings::documents"
    );
}

#[test]
fn the_documented_settings_are_as_the_table_gives_them() {
    compare("config/retinad.toml", &documented_toml());
}

#[test]
fn the_json_schema_is_as_the_table_gives_it() {
    compare("schemas/retinad.schema.json", &json_schema());
}

#[test]
fn the_documented_settings_change_nothing() {
    let path = root().join("config/retinad.toml");
    assert_eq!(load(Some(&path), &[], &[]).expect("valid"), Settings::default());
}

#[test]
fn every_shipped_config_file_loads() {
    let entries = std::fs::read_dir(root().join("config")).expect("readable");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    // What the Debian package starts with.
    files.push(root().join("packaging/retinad.toml"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(files.len() >= 7, "only {} files found", files.len());
    for path in files {
        load(Some(&path), &[], &[]).unwrap_or_else(|error| panic!("{error}"));
    }
}
