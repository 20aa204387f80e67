//! Lines on stdout and stderr, without secrets and without control characters: file names, settings and
//! what comes over the network must not steer a terminal. A reader that has seen enough (`retinad bench |
//! head -3`) ends the command without a word, where `println!` panics.

use super::exit::Exit;
use crate::secret;
use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::exit;

/// What a shell says of a program that SIGPIPE ended; Rust programs ignore that signal.
const NOBODY_READS: i32 = 128 + 13;

/// Writes a document of our own making (a completion script) to stdout as it is; ends the program where
/// that fails.
pub fn write(document: &str) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(document.as_bytes()).and_then(|()| stdout.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            exit(NOBODY_READS);
        }
        complain(format_args!("retinad: stdout: {error}"));
        exit(i32::from(Exit::SomeFailed as u8));
    }
}

/// Writes a line to stdout.
pub fn line(words: Arguments<'_>) {
    write(&format!("{}\n", shown(&words.to_string())));
}

/// Writes a line about something that was tried: what, whether it is well, and in words how it is.
pub fn result(what: &str, well: bool, words: &str) {
    let mark = if well { "ok" } else { "--" };
    let mark = match std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        true if well => format!("\u{1b}[32m{mark}\u{1b}[0m"),
        true => format!("\u{1b}[31m{mark}\u{1b}[0m"),
        false => mark.to_owned(),
    };
    write(&format!("{what:<7} {mark}  {}\n", shown(words)));
}

/// Writes a line to stderr; where nobody reads that, there is nobody to tell.
pub fn complain(words: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", shown(&words.to_string()));
}

/// A text as it may be shown: secrets are masked, control characters but newlines and tabs are written as
/// `\u{1b}`.
pub fn shown(text: &str) -> Cow<'_, str> {
    let text = secret::redacted(text);
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(steers) {
        return text;
    }
    let escaped = text.chars().fold(String::new(), |mut out, c| {
        if steers(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    });
    Cow::Owned(escaped)
}

/// `println!` by [`line()`].
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::print::line(format_args!($($words)*)) };
}
pub(super) use say;

/// Text of others as a part of a line: as [`shown`] does, newlines and tabs as well.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() { safe.extend(letter.escape_default()) } else { safe.push(letter) }
    }
    safe
}

/// JSON on one line, of which the control characters that are left stand in texts only, where they may be escaped:
/// a file's name must not command a terminal.
pub fn safe_json(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut safe, letter| {
        if letter.is_control() {
            safe += &format!("\\u{:04x}", u32::from(letter));
        } else {
            safe.push(letter);
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use super::{printable, safe_json, shown};

    #[test]
    fn escaped_json_holds_the_same_text() {
        let json = serde_json::to_string("a\u{9b}2J\n\u{7f}é").expect("a text");
        let safe = safe_json(&json);
        assert!(!safe.contains(char::is_control), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).expect("JSON"), "a\u{9b}2J\n\u{7f}é");
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(printable("a\u{1b}]0;x\u{7}\n\u{9b}2J é"), "a\\u{1b}]0;x\\u{7}\\n\\u{9b}2J é");
    }

    #[test]
    fn a_text_does_not_steer_a_terminal() {
        assert_eq!(shown("a\u{1b}[2J\u{9b}0m\u{7f}\r\tb\n"), "a\\u{1b}[2J\\u{9b}0m\\u{7f}\\r\tb\n");
        assert_eq!(shown("Grüße 你好 1 °C"), "Grüße 你好 1 °C");
    }
}
