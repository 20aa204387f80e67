//! The documented settings file: every key at its default, below a comment that explains it.

use super::{facts, push_line, sentence, wrap};
use crate::settings::CameraKind;
use crate::settings::keys::{self, CAMERA_ID, CAMERA_KIND, CAMERAS, Key, NAMED, Named, SECTIONS, paragraph};
use crate::settings::value::ValueType;

/// First lines of the file. `#:schema` is how editors with a TOML language server find the schema; the
/// package keeps the two files in the same places to each other as the repository does.
const HEAD: &str = "\
#:schema ../schemas/retinad.schema.json
# retinad settings. Every key stands here at its default, so this file changes nothing until you edit it.
# Later wins: built-in defaults, this file, RETINAD__SECTION__KEY in the environment, flags.
# Unknown keys are refused.
# SIGHUP (systemctl reload retinad) reads this file again; each key says when a change takes effect.
# The text is the program's own (retinad.toml(5) has the same), written from the keys in src/settings/.
";

/// The text of `config/retinad.toml`.
#[must_use]
pub fn documented_toml() -> String {
    let mut text = HEAD.to_owned();
    for section in &SECTIONS {
        if !section.name.is_empty() {
            text.push('\n');
            wrap(&mut text, "# ", &paragraph(section.about));
            push_line(&mut text, "", &format!("[{}]", section.name));
        }
        for key in section.keys {
            // The keys above the sections have no header to stand close to.
            if section.name.is_empty() {
                text.push('\n');
            }
            push_key(&mut text, "", key);
        }
    }
    text.push('\n');
    wrap(&mut text, "# ", &cameras_about());
    for kind in CameraKind::ALL {
        push_line(&mut text, "#", "");
        push_camera(&mut text, *kind);
    }
    push_line(&mut text, "#", "");
    wrap(&mut text, "# # ", NAMED_ABOUT);
    for named in &NAMED {
        push_line(&mut text, "#", "");
        push_named(&mut text, named);
    }
    text
}

fn cameras_about() -> String {
    format!(
        "No camera is active. A camera is a section [{CAMERAS}.<id>]; an id is {CAMERA_ID}. Below stand the keys of each kind \
         at their defaults. A key of another kind is refused. {}",
        CAMERA_KIND.takes_effect.sentence()
    )
}

/// The keys of a kind, each line commented out.
fn push_camera(text: &mut String, kind: CameraKind) {
    const PREFIX: &str = "# ";
    push_line(text, PREFIX, &format!("[{CAMERAS}.my-{}]", kind.as_str()));
    let word = CameraKind::WORDS.iter().find(|word| word.text == kind.as_str());
    wrap(text, "# # ", &sentence(word.map_or("", |word| word.meaning)));
    push_line(text, PREFIX, &format!("{} = \"{}\"", CAMERA_KIND.name, kind.as_str()));
    for key in keys::camera_keys(kind).iter().chain(keys::common_camera_keys()) {
        push_key(text, PREFIX, key);
    }
}

/// Before the groups of keys below a camera.
const NAMED_ABOUT: &str = "\
    Below a camera may stand rules for single labels, and zones, lines and masks, as many as wanted, each under \
    a name: lower-case letters, digits, `_` and `-`. docs/zones.md has an example with a picture; \
    `retinad check --draw DIR` draws them on a frame of each camera. A change of any of these takes effect at \
    once.";

/// A group of keys below a camera, each line commented out.
fn push_named(text: &mut String, named: &Named) {
    wrap(text, "# # ", &paragraph(named.about));
    push_line(text, "# ", &format!("[{CAMERAS}.my-camera.{}.{}]", named.name, named.example));
    for key in named.keys {
        push_key(text, "# ", key);
    }
}

/// A key below its comment; each line begins with `prefix`.
fn push_key(text: &mut String, prefix: &str, key: &Key) {
    let comment = format!("{prefix}# ");
    let in_camera = !prefix.is_empty();
    let facts = facts(key);
    let facts = if in_camera { facts.replace(key.takes_effect.sentence(), "") } else { facts };
    wrap(text, &comment, &format!("{} {facts}", key.paragraph()));
    if let ValueType::Word(words) = key.value {
        for word in words {
            wrap(text, &format!("{comment}  "), &format!("\"{}\": {}", word.text, word.meaning));
        }
    }
    push_line(text, prefix, &format!("{} = {}", key.name, key.shown()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn the_file_holds_every_key_at_its_default() {
        let given: toml::Table = toml::from_str(&documented_toml()).expect("TOML");
        let mut wanted = toml::Table::try_from(Settings::default()).expect("plain data");
        wanted.remove(CAMERAS);
        assert_eq!(given, wanted);
    }

    #[test]
    fn each_kind_of_camera_stands_in_comments_with_all_its_keys() {
        let text = documented_toml();
        let cameras = &text[text.find("# [cameras.my-").expect("commented cameras")..];
        let lines = cameras.lines().map(|line| line.strip_prefix("# ").unwrap_or(""));
        let uncommented = lines.collect::<Vec<_>>().join("\n");
        let given: toml::Table = toml::from_str(&uncommented).expect("TOML");
        for kind in CameraKind::ALL {
            let camera = given[CAMERAS][&format!("my-{}", kind.as_str())].as_table().expect("a section");
            let wanted =
                keys::camera_keys(*kind).iter().chain(keys::common_camera_keys()).map(|key| key.name);
            let mut wanted: Vec<&str> = wanted.chain([CAMERA_KIND.name]).collect();
            wanted.sort_unstable();
            assert_eq!(camera.keys().map(String::as_str).collect::<Vec<_>>(), wanted);
        }
        // What stands below a camera would load as it stands there.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("r.toml");
        let from = uncommented.find("# An area in which").expect("zones");
        let from = from.min(uncommented.find("# What is asked of").expect("rules"));
        std::fs::write(&path, &uncommented[from..]).expect("written");
        let settings = crate::settings::load(Some(&path), &[], &[]).unwrap_or_else(|error| panic!("{error}"));
        let camera = &settings.cameras["my-camera"];
        let counts = [camera.rules.len(), camera.zones.len(), camera.lines.len(), camera.masks.len()];
        assert_eq!(counts, [1; 4]);
    }
}
