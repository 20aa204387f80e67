//! `docs/troubleshooting.md` has every warning and error of the program's log, and none that is not there
//! any more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// A literal that goes over several lines as the one line that it is.
fn joined(literal: &str) -> String {
    literal.split("\\\n").map(str::trim_start).collect()
}

/// What `{NAME}` stands for, where a message is a constant.
fn constant(message: String, sources: &[String]) -> String {
    let Some(name) = message.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return message;
    };
    let declared = format!("const {name}: &str =");
    let after = sources.iter().find_map(|text| text.split_once(&declared)).expect(name).1;
    joined(after.split('"').nth(1).expect("a literal"))
}

/// The message of each `warn!` and `error!` call: its last literal that is not a field's value.
fn messages(text: &str) -> Vec<String> {
    let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    for macro_name in ["tracing::warn!(", "tracing::error!("] {
        for (at, _) in shipped.match_indices(macro_name) {
            let call = &shipped[at + macro_name.len()..];
            let end = call.find(");").expect("a call ends");
            let last = call[..end].trim().trim_end_matches(',').trim();
            let Some(literal) =
                last.strip_suffix('"').and_then(|rest| rest.rfind('"').map(|open| &rest[open + 1..]))
            else {
                panic!("no message at the end of {}", &call[..end]);
            };
            found.push(joined(literal));
        }
    }
    found
}

#[test]
fn every_warning_has_its_row_and_every_row_its_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let texts: Vec<String> =
        files.iter().map(|file| std::fs::read_to_string(file).expect("source")).collect();
    let in_source: BTreeSet<String> =
        texts.iter().flat_map(|text| messages(text)).map(|message| constant(message, &texts)).collect();
    assert!(in_source.len() > 20, "only {} messages found", in_source.len());
    let page = std::fs::read_to_string(root.join("docs/troubleshooting.md")).expect("the page");
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once("` |")?.0.to_owned());
    let in_page: BTreeSet<String> = page.lines().filter_map(row).collect();
    let missing: Vec<_> = in_source.difference(&in_page).collect();
    let outdated: Vec<_> = in_page.difference(&in_source).collect();
    assert!(missing.is_empty() && outdated.is_empty(), "missing: {missing:#?}\noutdated: {outdated:#?}");
}

#[test]
fn messages_are_found_in_each_form_of_a_call() {
    let text = "tracing::warn!(lines, \"log lines lost\");\ntracing::error!(%error, \"ended\");\n\
                tracing::warn!(\n    reason = words(&e),\n    \"not reachable\",\n);\n";
    assert_eq!(messages(text), ["log lines lost", "not reachable", "ended"]);
}
