//! Settings, as the fuzzer gives them.

use super::load::load_text;
use super::{ENVIRONMENT_PREFIX, masked_toml};
use std::path::Path;

/// A settings file; behind a zero byte lines `section__key=value`, as variables of the environment.
pub fn settings(bytes: &[u8]) {
    let (file, variables) = match bytes.iter().position(|&byte| byte == 0) {
        Some(zero) => (&bytes[..zero], &bytes[zero + 1..]),
        None => (bytes, &[][..]),
    };
    let (file, variables) = (String::from_utf8_lossy(file), String::from_utf8_lossy(variables));
    let variables: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (format!("{ENVIRONMENT_PREFIX}{}", name.to_uppercase()), value.to_owned()))
        .collect();
    match load_text(Path::new("fuzz.toml"), &file, &variables, &[]) {
        Ok(settings) => {
            let shown = masked_toml(&settings);
            assert!(toml::de::DeTable::parse(&shown).is_ok(), "{shown}");
            let same = settings.diff(&settings.clone());
            assert_eq!(format!("{same:?}"), format!("{:?}", super::SettingsDiff::default()));
        }
        Err(error) => {
            let words = error.to_string();
            assert!(words.lines().count() == 1 && words.len() < 4000, "{words:?}");
            assert!(!words.chars().any(char::is_control), "{words:?}");
        }
    }
}
