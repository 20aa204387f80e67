//! Lines on stdout. A reader that has seen enough (`retinad bench | head -3`) ends the command without a
//! word, where `println!` panics.

use super::exit::Exit;
use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::process::exit;

/// What a shell says of a program that SIGPIPE ended; Rust programs ignore that signal.
const NOBODY_READS: i32 = 128 + 13;

/// Writes to stdout; ends the program where that fails.
pub fn write(words: Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_fmt(words).and_then(|()| stdout.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            exit(NOBODY_READS);
        }
        complain(format_args!("retinad: stdout: {error}"));
        exit(i32::from(Exit::SomeFailed as u8));
    }
}

/// Writes a line to stderr; where nobody reads that, there is nobody to tell.
pub fn complain(words: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{words}");
}

/// `println!` by [`write()`].
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::print::write(format_args!("{}\n", format_args!($($words)*))) };
}
pub(super) use say;
