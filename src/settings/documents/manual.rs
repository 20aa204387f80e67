//! The manual page retinad.toml(5), as roff (man(7) macros).

use super::{facts, sentence};
use crate::settings::keys::{self, CAMERA_ID, CAMERA_KIND, CAMERAS, Key, NAMED, SECTIONS, paragraph};
use crate::settings::value::ValueType;
use crate::settings::{CameraKind, DEFAULT_FILE, ENVIRONMENT_PREFIX};
use std::fmt::Write;

/// The text of `retinad.toml.5`.
#[must_use]
pub fn manual_page() -> String {
    let mut page = Page::default();
    page.macro_line(&format!(".TH RETINAD.TOML 5 \"\" \"retinad {}\"", env!("CARGO_PKG_VERSION")));
    page.heading("NAME");
    page.text("retinad.toml - settings of retinad");
    page.heading("SYNOPSIS");
    page.text(DEFAULT_FILE);
    page.heading("DESCRIPTION");
    page.text(
        "The file is TOML. Every key may be left out; its default is given below. Unknown keys are refused.",
    );
    page.paragraph(
        "A later source wins over an earlier one: the defaults, the file, the environment, the flags of the command line. \
         retinad reads the file again on SIGHUP (systemctl reload retinad); each key says when a change takes effect. \
         A file with an error leaves the old settings in force. retinad check names the first error with its line, and prints \
         the settings in force.",
    );
    for section in &SECTIONS {
        let title = if section.name.is_empty() {
            "ABOVE ALL SECTIONS".to_owned()
        } else {
            format!("[{}]", section.name)
        };
        page.heading(&title);
        if !section.name.is_empty() {
            page.text(&paragraph(section.about));
        }
        section.keys.iter().for_each(|key| page.key(key, key.default));
    }
    page.heading(&format!("[{CAMERAS}.<id>]"));
    page.text(&format!(
        "A camera. Its id is {CAMERA_ID}. A key that belongs to another kind of camera is refused."
    ));
    page.key(&CAMERA_KIND, CAMERA_KIND.default);
    keys::common_camera_keys().iter().for_each(|key| page.key(key, key.default));
    for kind in CameraKind::ALL {
        page.subheading(&format!("kind = \"{}\"", kind.as_str()));
        keys::camera_keys(*kind).iter().for_each(|key| page.key(key, key.default));
    }
    for named in &NAMED {
        page.heading(&format!("[{CAMERAS}.<id>.{}.<{}>]", named.name, named.of));
        page.text(&format!("{} The {} is {}.", paragraph(named.about), named.of, named.names.allowed()));
        named.keys.iter().for_each(|key| page.key(key, key.default));
    }
    page.heading("ENVIRONMENT");
    page.text(&format!(
        "{ENVIRONMENT_PREFIX}SECTION__KEY sets a key, in upper or lower case: {ENVIRONMENT_PREFIX}DETECTOR__WORKERS=2, \
         {ENVIRONMENT_PREFIX}CAMERAS__FRONT__FPS=5. A key for text takes the value as it is, without quotes."
    ));
    page.heading("FILES");
    page.text("/usr/share/doc/retinad/examples/retinad.toml has every key with its comment.");
    page.paragraph(
        "/usr/share/doc/retinad/schemas/retinad.schema.json is a JSON Schema of this file, for editors.",
    );
    page.heading("SEE ALSO");
    page.text("retinad(1), retinad-check(1), retinad-run(1)");
    page.0
}

/// A page that is being written. Each text is one line of the source; roff fills the lines itself.
#[derive(Default)]
struct Page(String);

impl Page {
    fn macro_line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn heading(&mut self, title: &str) {
        self.macro_line(&format!(".SH \"{}\"", escaped(title)));
    }

    fn subheading(&mut self, title: &str) {
        self.macro_line(&format!(".SS \"{}\"", escaped(title)));
    }

    fn text(&mut self, text: &str) {
        self.macro_line(&escaped(text));
    }

    fn paragraph(&mut self, text: &str) {
        self.macro_line(".PP");
        self.text(text);
    }

    fn key(&mut self, key: &Key, default: &str) {
        self.macro_line(".TP");
        let default = if key.must_be_given() { String::new() } else { format!(" = {}", escaped(default)) };
        self.macro_line(&format!("\\fB{}\\fR{default}", escaped(key.name)));
        self.text(&key.paragraph());
        if let ValueType::Word(words) = key.value {
            for word in words {
                let _ = writeln!(
                    self.0,
                    ".br\n\\fB\"{}\"\\fR: {}",
                    escaped(word.text),
                    escaped(&sentence(word.meaning))
                );
            }
            self.macro_line(".br");
        }
        self.text(&facts(key));
    }
}

/// Text that roff prints as it is: no escape sequences, hyphens that can be copied, and no line that begins
/// like a macro.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\(rs").replace('-', "\\-").replace('"', "\\(dq");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_in_the_page_with_its_meaning() {
        let page = manual_page();
        let cameras = CameraKind::ALL.iter().flat_map(|kind| keys::camera_keys(*kind));
        let all =
            SECTIONS.iter().flat_map(|section| section.keys).chain(keys::common_camera_keys()).chain(cameras);
        let all = all.chain(NAMED.iter().flat_map(|named| named.keys));
        for key in all {
            let term = format!("\n\\fB{}\\fR", escaped(key.name));
            assert!(page.contains(&term) && page.contains(&escaped(&key.paragraph())), "{}", key.name);
        }
    }

    #[test]
    fn no_text_becomes_a_macro() {
        assert_eq!(escaped(".y4m"), "\\&.y4m");
        assert_eq!(escaped("a \\ \"b\" -c"), "a \\(rs \\(dqb\\(dq \\-c");
    }
}
