//! The floors: a room may use only rooms on floors below its own. This table is the one place where they
//! are listed.

use std::path::{Path, PathBuf};

const FLOORS: [(&str, u8); 43] = [
    ("fuzzing", 8),
    ("main", 7),
    ("cli", 7),
    ("daemon", 6),
    ("pipeline", 5),
    ("tuning", 5),
    ("evaluation", 5),
    ("capture", 4),
    ("publish", 4),
    ("health", 4),
    ("scene", 4),
    ("detector", 3),
    ("engine", 2),
    ("generations", 2),
    ("metrics", 2),
    ("retinanet", 2),
    ("samples", 2),
    ("tracking", 2),
    ("zones", 2),
    ("contract", 1),
    ("kernels", 1),
    ("image", 1),
    ("model", 1),
    ("motion", 1),
    ("frame", 0),
    ("geometry", 0),
    ("npy", 0),
    ("detection", 0),
    ("dial", 0),
    ("atomic_file", 0),
    ("backoff", 0),
    ("caught", 0),
    ("coco", 0),
    ("memory", 0),
    ("one_line", 0),
    ("plot", 0),
    ("regular_file", 0),
    ("thread", 0),
    ("tls", 0),
    ("address", 0),
    ("secret", 0),
    ("splitmix", 0),
    ("verb", 0),
];
/// Vocabulary that everybody may use.
const GROUND: [&str; 3] = ["settings", "error", "lib"];
/// Neighbours that may know each other: `tuning` uses `pipeline`'s hook and `evaluation`'s AP.
const NEIGHBOURS: [(&str, &str); 2] = [("tuning", "pipeline"), ("tuning", "evaluation")];
/// Rooms that may not be known from these, although they lie below: only `daemon` joins them.
const STRANGERS: [(&str, &str); 6] = [
    ("pipeline", "scene"),
    ("pipeline", "publish"),
    ("tuning", "publish"),
    ("evaluation", "publish"),
    ("evaluation", "scene"),
    ("cli", "scene"),
];
/// The only files that may read a clock, outside tests: where frames are taken, the shell's clock, waits of
/// the daemon's end, durations that are reported or compared, and whoever keeps deadlines of a socket or a child
/// process, or asks how old a file is.
const CLOCKS: [&str; 17] = [
    "capture/replay.rs",
    "capture/child.rs",
    "capture/http/",
    "capture/watched.rs",
    "cli/bench.rs",
    "cli/tune/",
    "daemon/clock.rs",
    "daemon/mod.rs",
    "detector/mod.rs",
    "detector/parts.rs",
    "engine/measured.rs",
    "kernels/mod.rs",
    "pipeline/worker.rs",
    "publish/link/",
    "publish/broker",
    "samples/store.rs",
    "tuning/judging.rs",
];
const CLOCK_READS: [&str; 4] = ["Instant::now(", "SystemTime::now(", "clock_gettime(", ".elapsed()"];
/// The only file that may spell a topic, outside tests, and how topics are recognised in a string.
const TOPIC_SPELLING: &str = "contract/topic.rs";
const TOPIC_PARTS: [&str; 7] =
    ["/status", "/detections", "bridge/", "/set\"", "/state\"", "/events", "/snapshot"];
/// A library and the only places that may name it. `model` reads the protobuf types that tract brings.
const LIBRARIES: [(&str, &[&str]); 7] = [
    ("tract_", &["engine/", "model/"]),
    ("nokhwa::", &["capture/v4l2.rs"]),
    ("rumqttc::", &["publish/link/"]),
    ("config::", &["settings/"]),
    ("plotters::", &["plot/"]),
    ("sd_notify::", &["daemon/service.rs"]),
    ("pathfinding::", &["tracking/"]),
];

fn floor(room: &str) -> Option<u8> {
    if GROUND.contains(&room) {
        Some(0)
    } else {
        FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
    }
}

/// What is wrong in the text of `file` (its path within `src/`), as `file:line: arrow`.
fn violations(file: &str, text: &str) -> Vec<String> {
    let room = file.split('/').next().unwrap_or(file).trim_end_matches(".rs");
    let mut found = Vec::new();
    // Unit tests stand at the foot of a file, or in files of their own.
    let mut in_tests =
        file.ends_with("tests.rs") || file.contains("/tests/") || file.starts_with("contract/documents");
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        let at = format!("{file}:{}", number + 1);
        in_tests |= line.starts_with("#[cfg(test)]")
            && text.lines().nth(number + 1).is_some_and(|next| next.starts_with("mod tests {"));
        if !in_tests {
            if CLOCK_READS.iter().any(|read| code.contains(read))
                && !CLOCKS.iter().any(|place| file.starts_with(place))
            {
                found.push(format!("{at}: reads a clock (only {CLOCKS:?})"));
            }
            let spells = code.contains('"')
                && !code.contains("/proc/")
                && TOPIC_PARTS.iter().any(|part| code.contains(part));
            if spells && file != TOPIC_SPELLING {
                found.push(format!("{at}: spells a topic (only {TOPIC_SPELLING})"));
            }
        }
        for piece in code.split("crate::").skip(1) {
            let other: String =
                piece.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            match (floor(room), floor(&other)) {
                (Some(_), Some(_))
                    if room == other || room == "lib" || NEIGHBOURS.contains(&(room, other.as_str())) => {}
                (Some(own), Some(its))
                    if (its < own || own == 0 && its == 0)
                        && !STRANGERS.contains(&(room, other.as_str())) => {}
                _ => found.push(format!("{at}: {room} -> {other}")),
            }
        }
        if code.contains("super::super") {
            found.push(format!("{at}: {room} climbs with super::super; name the room with crate::"));
        }
        for (library, places) in LIBRARIES {
            let named = code
                .match_indices(library)
                .any(|(i, _)| !code[..i].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
            if named && !places.iter().any(|place| file.starts_with(place)) {
                found.push(format!("{at}: {room} -> {library} (only {places:?})"));
            }
        }
    }
    found
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn no_room_uses_a_floor_above_or_beside_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 10, "only {} sources found", files.len());
    let mut found = Vec::new();
    for path in files {
        let name = path.strip_prefix(&root).expect("under src").to_string_lossy().into_owned();
        found.extend(violations(&name, &std::fs::read_to_string(&path).expect("source")));
    }
    assert!(found.is_empty(), "forbidden arrows:\n{}", found.join("\n"));
}

#[test]
fn planted_arrows_are_caught() {
    assert_eq!(
        violations("engine/mod.rs", "use crate::retinanet::nms;"),
        ["engine/mod.rs:1: engine -> retinanet"]
    );
    assert_eq!(violations("image/mod.rs", "\nlet x = crate::cli::run();"), ["image/mod.rs:2: image -> cli"]);
    assert_eq!(violations("cli/mod.rs", "use tract_onnx::prelude;").len(), 1);
    assert_eq!(violations("publish/broker/mod.rs", "use rumqttc::Packet;").len(), 1);
    assert_eq!(violations("cli/detect/a.rs", "use super::super::x;").len(), 1);
    assert_eq!(violations("publish/mod.rs", "use crate::scene::Scene;").len(), 1);
    assert_eq!(
        violations("pipeline/tap.rs", "use crate::scene::Scene;"),
        ["pipeline/tap.rs:1: pipeline -> scene"]
    );
    assert_eq!(violations("scene/mod.rs", "let now = Instant::now();").len(), 1);
    assert!(
        violations("scene/mod.rs", "#[cfg(test)]\nmod tests {\n    let now = Instant::now();").is_empty()
    );
    assert_eq!(violations("daemon/shell.rs", "let topic = format!(\"{base}/status\");").len(), 1);
    assert!(violations("cli/mod.rs", "// crate::nowhere\nuse crate::engine::Engine;").is_empty());
}
