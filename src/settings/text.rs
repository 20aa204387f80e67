//! The effective settings as TOML, with secrets masked, for `retinad check`.

use super::{Settings, Source};

/// The settings as TOML. Addresses lose their user part; passwords are never in the settings, only the name
/// of their file.
#[must_use]
pub fn masked_toml(settings: &Settings) -> String {
    let mut shown = settings.clone();
    for camera in shown.cameras.values_mut() {
        if let Source::Stream(stream) = &mut camera.source {
            stream.url = mask(&stream.url);
            for word in &mut stream.command {
                *word = mask(word);
            }
        }
    }
    toml::to_string_pretty(&shown).unwrap_or_else(|error| format!("# cannot be shown: {error}"))
}

/// `scheme://user:secret@host` to `scheme://***@host`.
fn mask(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split('/').next().unwrap_or(rest);
            match authority.rfind('@') {
                Some(at) => format!("{scheme}://***@{}", &rest[at + 1..]),
                None => text.to_owned(),
            }
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::{Settings, masked_toml};

    #[test]
    fn user_and_password_are_masked() {
        assert_eq!(super::mask("rtsp://me:p@ss@cam/live"), "rtsp://***@cam/live");
        assert_eq!(super::mask("http://cam/a@b"), "http://cam/a@b");
    }

    #[test]
    fn the_effective_settings_are_toml_that_reads_back() {
        let text = "[cameras.a]\nkind = \"stream\"\nurl = \"http://me:secret@host/\"\n[cameras.b]\nkind = \"v4l2\"\n";
        let settings: Settings = toml::from_str(text).expect("valid");
        let shown = masked_toml(&settings);
        assert!(!shown.contains("secret"), "{shown}");
        let again: Settings = toml::from_str(&shown).expect("valid");
        assert_eq!(again.cameras["b"], settings.cameras["b"]);
        assert_eq!(again.detector, settings.detector);
    }
}
