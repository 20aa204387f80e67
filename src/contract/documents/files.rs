//! The documents as files: reading one, and comparing it with what the types say.

use serde_json::Value;
use std::path::{Path, PathBuf};

/// Set to anything, it makes the tests write the documents instead of comparing them.
const WRITE: &str = "RETINAD_WRITE_DOCUMENTS";
const HOW_TO_WRITE: &str = "RETINAD_WRITE_DOCUMENTS=1 cargo test --release contract::documents";

/// A path within the repository.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The text of a document.
pub(super) fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Fails, and says where and how to mend it, unless the document is `wanted`.
pub(super) fn compare_text(name: &str, wanted: &str) {
    if std::env::var_os(WRITE).is_some() {
        return write(name, wanted);
    }
    let found = read(name);
    if found != wanted {
        let line = found.lines().zip(wanted.lines()).take_while(|(found, wanted)| found == wanted).count();
        let at_line = |text: &str| text.lines().nth(line).unwrap_or("(end)").to_owned();
        let (at, found, wanted) = (line + 1, at_line(&found), at_line(wanted));
        panic!("{name}:{at} differs\nfile: {found}\ncode: {wanted}\nwrite it anew with: {HOW_TO_WRITE}");
    }
}

/// As [`compare_text`] for JSON; order and white space do not matter.
pub(super) fn compare_json(name: &str, wanted: &Value) {
    if std::env::var_os(WRITE).is_some() {
        return write(name, &format!("{wanted:#}\n"));
    }
    let text = std::fs::read_to_string(path(name)).unwrap_or_default();
    let found: Value = serde_json::from_str(&text).unwrap_or_default();
    if found != *wanted {
        let at = first_difference(&found, wanted, String::new());
        panic!("{name} differs from the code at `{at}`; write it anew with: {HOW_TO_WRITE}");
    }
}

/// Writes beside the document and renames, because other tests read it meanwhile.
fn write(name: &str, text: &str) {
    let (file, new) = (path(name), path(&format!("{name}.new")));
    let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &file));
    written.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Where two values differ, such as `/properties/v/description`.
fn first_difference(found: &Value, wanted: &Value, at: String) -> String {
    let (Value::Object(found), Value::Object(wanted)) = (found, wanted) else { return at };
    for key in wanted.keys().chain(found.keys()) {
        let (ours, theirs) = (found.get(key), wanted.get(key));
        if ours != theirs {
            let at = format!("{at}/{key}");
            return first_difference(ours.unwrap_or(&Value::Null), theirs.unwrap_or(&Value::Null), at);
        }
    }
    at
}

#[test]
fn a_difference_is_named_by_its_place() {
    let found = serde_json::json!({"a": {"b": 1, "c": 2}});
    let wanted = serde_json::json!({"a": {"b": 1, "c": 3}});
    assert_eq!(first_difference(&found, &wanted, String::new()), "/a/c");
}
