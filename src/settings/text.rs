//! The effective settings as TOML, with secrets masked, for `retinad check`.

use super::Settings;

/// The settings as TOML. Addresses lose their user part; passwords are never in the settings, only the name of their file.
#[must_use]
pub fn masked_toml(settings: &Settings) -> String {
    let mut shown = settings.clone();
    for camera in shown.cameras.values_mut() {
        camera.url = mask(&camera.url);
        for word in &mut camera.command {
            *word = mask(word);
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
    #[test]
    fn user_and_password_are_masked() {
        assert_eq!(super::mask("rtsp://me:p@ss@cam/live"), "rtsp://***@cam/live");
        assert_eq!(super::mask("http://cam/a@b"), "http://cam/a@b");
    }
}
