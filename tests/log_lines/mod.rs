//! The log of a test program, line by line.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::io::Write;
use std::sync::{Mutex, OnceLock};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        LINES.lock().expect("no panic").extend(text.lines().map(str::to_owned));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Begins to keep what is logged.
pub fn start() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        tracing_subscriber::fmt().with_ansi(false).with_writer(|| Lines).init();
    });
}

/// Lines so far that hold `text`.
pub fn logged(text: &str) -> usize {
    LINES.lock().expect("no panic").iter().filter(|line| line.contains(text)).count()
}
