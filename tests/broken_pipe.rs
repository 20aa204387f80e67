//! Who pipes a command into `head` sees no panic: the real program, with nobody reading what it prints.

use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a command whose stdout nobody reads, and stderr neither where `deaf`.
fn unread(arguments: &[&str], deaf: bool) -> Output {
    let closed = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        writer
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_retinad"));
    command
        .current_dir(ROOT)
        .env_remove("JOURNAL_STREAM")
        .args(arguments)
        .stdout(closed())
        .stderr(std::process::Stdio::piped());
    if deaf {
        command.stderr(closed());
    }
    command.spawn().expect("starts").wait_with_output().expect("ends")
}

#[test]
fn every_command_that_prints_ends_without_a_word() {
    let commands: [&[&str]; 6] = [
        &["bench", "--runs", "1", "--model", "models/retinad-m-320-int8.onnx"],
        &["bench", "--runs", "1", "--threads", "1", "--json", "--model", "models/retinad-m-320-int8.onnx"],
        &[
            "detect",
            "--config",
            "config/retinad.toml",
            "examples/pictures/chelsea.jpg",
            "examples/pictures/coffee.jpg",
        ],
        &["check", "--config", "config/retinad.toml"],
        &["watch", "--config", "config/retinad.toml"],
        &["completions", "bash"],
    ];
    for arguments in commands {
        let ended = unread(arguments, false);
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{arguments:?}");
        // As a program that SIGPIPE ended: what was asked for was not printed.
        assert_eq!(ended.status.code(), Some(141), "{arguments:?}");
    }
}

#[test]
fn a_fault_that_nobody_reads_is_still_in_the_exit_code() {
    for (arguments, code) in
        [(&["bench", "--model", "missing.onnx"], 78), (&["detect", "--config", "missing.toml"], 78)]
    {
        assert_eq!(unread(arguments, true).status.code(), Some(code), "{arguments:?}");
    }
    let failed = unread(&["detect", "--config", "config/retinad.toml", "missing.jpg"], true);
    assert_eq!(failed.status.code(), Some(1));
}
