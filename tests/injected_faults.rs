//! The n-th call of the system fails, n = 1, 2, … to the end, while the program starts, works and stops: it
//! goes on or says in one line why not, topics tell no lie afterwards, and no file is half written. With
//! real strace and Mosquitto.

mod mosquitto;
mod program;

use mosquitto::Broker;
use program::{ROOT, config, folder};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// What the program may end with: well, or a code that says what failed.
const CODES: [i32; 4] = [0, 69, 70, 71];
/// What fails, how, and whether only for the state folder and its lock.
const FAULTS: [(&str, &str, bool); 10] = [
    ("clone3", "EAGAIN", false),
    ("socket", "EMFILE", false),
    ("connect", "ENETUNREACH", false),
    ("eventfd2,epoll_create1,pipe2,socketpair", "EMFILE", false),
    ("fsync", "EIO", false),
    ("rename,renameat,renameat2", "EIO", false),
    ("mkdir", "EACCES", false),
    ("flock", "ENOLCK", false),
    ("sched_getaffinity", "EPERM", false),
    ("openat", "EACCES", true),
];
/// No kind of call is made more often than this in so short a life, beyond what the n-th can show.
const MOST: usize = 40;

/// One life with a fault: the output, and whether the fault happened at all.
fn live(
    settings: &Path,
    state: &Path,
    (calls, error, in_state): (&str, &str, bool),
    nth: usize,
) -> (Output, bool) {
    let trace = settings.with_file_name("trace");
    let mut command = Command::new("strace");
    command.current_dir(ROOT).args(["-f", "-qq", "-o", &trace.display().to_string()]);
    command.args([
        "-e",
        &format!("trace={calls}"),
        "-e",
        &format!("inject={calls}:error={error}:when={nth}"),
    ]);
    if in_state {
        // strace looks for the files of these names when it starts.
        std::fs::create_dir(state).expect("made");
        std::fs::write(state.join("lock"), "").expect("written");
        for path in [state, &state.join("lock")] {
            command.args(["-P", &path.display().to_string()]);
        }
    }
    command.arg(env!("CARGO_BIN_EXE_retinad"));
    let output = command
        .args(["run", "--once", "--config", &settings.display().to_string()])
        .output()
        .expect("strace");
    let happened = std::fs::read_to_string(&trace).unwrap_or_default().contains("(INJECTED)");
    (output, happened)
}

/// Each file of the state folder is whole JSON, and nothing lies beside them.
fn assert_state_is_whole(state: &Path, what: &str) {
    for entry in std::fs::read_dir(state).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        match name.as_str() {
            "lock" => {}
            "overrides.json" | "retained.json" | "events.json" | "homeassistant.json" => {
                let whole = serde_json::from_str::<serde_json::Value>(&text);
                assert!(whole.is_ok(), "{what}: {name} is {text:?}");
            }
            // A temporary file may stay where removing it failed as well, which is not injected here.
            _ => panic!("{what}: {name} is left in the state folder"),
        }
    }
}

#[test]
fn the_nth_failing_call_is_lived_with_or_named() {
    let Some(broker) = Broker::start("") else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        println!("SKIPPED: strace is not installed (apt-get install strace)");
        return;
    }
    let begun = Instant::now();
    let mut lives = 0;
    for fault in FAULTS {
        for nth in 1..=MOST {
            let folder = folder();
            let state = folder.path().join("state");
            let node = format!("n{lives}");
            let cameras = "[cameras.album]\nkind = \"replay\"\npath = \"examples/pictures\"\nfps = 20\nrepeat = false\n";
            let settings = config(folder.path(), broker.port, cameras);
            let text = std::fs::read_to_string(&settings)
                .expect("written")
                .replace("node = \"n\"", &format!("node = \"{node}\""));
            std::fs::write(&settings, text).expect("written");
            let (output, happened) = live(&settings, &state, fault, nth);
            let what = format!("{} number {nth} fails with {}", fault.0, fault.1);
            let stderr = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code();
            assert!(code.is_some_and(|code| CODES.contains(&code)), "{what}: {:?}\n{stderr}", output.status);
            assert!(!stderr.contains("panic in thread"), "{what}: {stderr}");
            if code != Some(0) {
                assert!(!stderr.trim().is_empty(), "{what}: {code:?} without a word");
            }
            assert_state_is_whole(&state, &what);
            lives += 1;
            println!(
                "{what}: {}, {code:?} {}",
                if happened { "happened" } else { "came no more" },
                stderr.lines().last().unwrap_or_default()
            );
            if !happened {
                break;
            }
        }
    }
    // A will is published a moment after its connection ends.
    std::thread::sleep(Duration::from_millis(300));
    for line in broker.retained() {
        assert!(!line.ends_with("/status online"), "a topic lies after the program's end: {line}");
    }
    println!("{lives} lives in {:?}", begun.elapsed());
    assert!(lives > 25, "only {lives} lives");
}
