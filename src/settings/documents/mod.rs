//! What people and editors read about the settings, written from the table of keys so that it cannot differ
//! from the program.

mod commented;
mod manual;
mod schema;
#[cfg(test)]
mod shipped_files;

pub use commented::documented_toml;
pub use manual::manual_page;
pub use schema::json_schema;

use super::keys::Key;
use super::value::{TextRule, ValueType};

/// Columns of a line of text.
const WIDTH: usize = 110;

/// The sentences below a key's meaning: range and unit, where its type alone does not say them, and when a
/// change takes effect.
fn facts(key: &Key) -> String {
    let range = match &key.value {
        ValueType::Whole { .. }
        | ValueType::Choice(_)
        | ValueType::WholeOr { .. }
        | ValueType::Number { .. }
        | ValueType::Words(_) => Some(key.allowed()),
        ValueType::Text(TextRule::IdOrEmpty | TextRule::TopicLevels) => Some(key.allowed()),
        _ => None,
    };
    let range = range.map_or(String::new(), |range| sentence(&range) + " ");
    range + key.takes_effect.sentence()
}

/// The words as a sentence: first letter upper-case, a full stop at the end.
fn sentence(words: &str) -> String {
    let mut rest = words.trim().chars();
    rest.next().map_or(String::new(), |first| format!("{}{}.", first.to_uppercase(), rest.as_str()))
}

/// Appends the words of `text` in lines that begin with `prefix`.
fn wrap(into: &mut String, prefix: &str, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && prefix.len() + line.chars().count() + 1 + word.chars().count() > WIDTH {
            push_line(into, prefix, &line);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push_line(into, prefix, &line);
}

fn push_line(into: &mut String, prefix: &str, line: &str) {
    into.push_str(prefix);
    into.push_str(line);
    into.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_wrapped_at_the_width_and_keeps_its_words() {
        let text = "word ".repeat(60);
        let mut wrapped = String::new();
        wrap(&mut wrapped, "# ", &text);
        assert!(wrapped.lines().all(|line| line.starts_with("# word") && line.len() <= WIDTH), "{wrapped}");
        assert_eq!(wrapped.matches("word").count(), 60);
    }
}
