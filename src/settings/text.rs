//! The effective settings as TOML, with secrets masked, for `retinad check`.

use super::{Settings, Source};
use crate::secret;

/// The settings as TOML. Addresses and commands lose logins and queries; the broker's password is never in
/// them, only the name of its file.
#[must_use]
pub fn masked_toml(settings: &Settings) -> String {
    let mut shown = settings.clone();
    for camera in shown.cameras.values_mut() {
        if let Source::Stream(stream) = &mut camera.source {
            stream.url = secret::redacted(&stream.url).into_owned();
            stream.command = secret::redacted_arguments(&stream.command);
        }
    }
    toml::to_string_pretty(&shown).unwrap_or_else(|error| format!("# cannot be shown: {error}"))
}

#[cfg(test)]
mod tests {
    use crate::settings::{Settings, masked_toml};

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
