//! Text of others on one line.

/// Longest text that [`one_line`] lets through, bytes.
const MAX_LINE: usize = 400;

/// Text on one line of at most 400 bytes: names in a model file and words of a library may hold anything, and
/// an error is printed as one line.
pub(crate) fn one_line(text: &str) -> String {
    let clean = text.replace(char::is_control, " ");
    let mut line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > MAX_LINE {
        let cut = (0..=MAX_LINE).rev().find(|&i| line.is_char_boundary(i)).unwrap_or(0);
        line.truncate(cut);
        line.push_str(" ...");
    }
    line
}
