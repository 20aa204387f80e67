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

    #[test]
    fn what_stands_below_a_camera_is_shown_as_it_would_be_written() {
        let text = "[cameras.a]\nkind = \"v4l2\"\nlabels = [\"cat\"]\n\
            [cameras.a.rules.cat]\nmin_size = 0.25\n\
            [cameras.a.zones.sofa]\npoints = [[0, 0.5], [1, 0.5], [1, 1]]\n\
            [cameras.a.masks.window]\nhides = \"picture\"\npoints = [[0, 0], [1, 0], [1, 0.25]]\n";
        let settings: Settings = toml::from_str(text).expect("valid");
        let shown = masked_toml(&settings);
        assert!(shown.contains("[cameras.a.zones.sofa]") && !shown.contains("lines"), "{shown}");
        assert_eq!(toml::from_str::<Settings>(&shown).expect("valid"), settings);
    }
}
