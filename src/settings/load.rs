//! Reading and checking: file, environment, flags; each error names file, line, key, value and what is allowed.

use super::{CameraKind, CameraSettings, Settings, Threads};
use std::path::{Path, PathBuf};

/// Where the daemon looks when no `--config` is given.
pub const DEFAULT_FILE: &str = "/etc/retinad/retinad.toml";

/// Why settings cannot be used. Printed as one line; exit code 78.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or a key is unknown or of the wrong type.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// An environment variable or flag has an unknown key or a value of the wrong type.
    #[error("{place}: {message}")]
    Override {
        /// The variable's or flag's name.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A value is out of its range.
    #[error("{place}: {key} = {value} is not allowed: {allowed}")]
    Value {
        /// File and line, variable, or flag.
        place: String,
        /// Dotted key.
        key: String,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// Loads the settings: defaults, `file` (or [`DEFAULT_FILE`] where it exists), environment, then `flags` (`dotted.key=value`).
///
/// # Errors
/// The first thing wrong, see [`SettingsError`].
pub fn load(file: Option<&Path>, environment: &[(String, String)], flags: &[(String, String)]) -> Result<Settings, SettingsError> {
    let path = match file {
        Some(path) => Some(path.to_path_buf()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()),
    };
    let mut text = String::new();
    let mut builder = config::Config::builder();
    if let Some(path) = &path {
        text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.clone(), source })?;
        // The `config` crate names no line, so the file is parsed with spans first: unknown keys and wrong types end here.
        if let Err(error) = toml::from_str::<Settings>(&text) {
            let (line, column) = position(&text, error.span().map_or(0, |span| span.start));
            return Err(SettingsError::Parse { path: path.clone(), line, column, message: one_line(error.message()) });
        }
        builder = builder.add_source(config::File::from_str(&text, config::FileFormat::Toml));
    }
    let mut overrides: Vec<(String, String, String)> = Vec::new();
    for (name, value) in environment {
        if let Some(rest) = name.strip_prefix("RETINAD__") {
            overrides.push((name.clone(), rest.split("__").map(str::to_ascii_lowercase).collect::<Vec<_>>().join("."), value.clone()));
        }
    }
    for (key, value) in flags {
        overrides.push((format!("flag for {key}"), key.clone(), value.clone()));
    }
    for (place, key, value) in &overrides {
        let failed = |error: config::ConfigError| SettingsError::Override { place: place.clone(), message: one_line(&error.to_string()) };
        // One at a time, so that an error names the variable that caused it.
        let alone = config::Config::builder().set_override(key, typed(value)).map_err(failed)?.build().map_err(failed)?;
        alone.try_deserialize::<Settings>().map_err(failed)?;
        builder = builder.set_override(key, typed(value)).map_err(failed)?;
    }
    let place = path.as_ref().map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
    let failed = |error: config::ConfigError| SettingsError::Override { place: place.clone(), message: one_line(&error.to_string()) };
    let settings: Settings = builder.build().map_err(failed)?.try_deserialize().map_err(failed)?;
    check(&settings, |key| locate(key, path.as_deref(), &text, &overrides))?;
    Ok(settings)
}

/// Text of an override to the value TOML would read: number, boolean, array, else string.
fn typed(value: &str) -> config::Value {
    match toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut table| table.remove("v")) {
        Some(toml::Value::Integer(v)) => v.into(),
        Some(toml::Value::Float(v)) => v.into(),
        Some(toml::Value::Boolean(v)) => v.into(),
        Some(toml::Value::Array(items)) => {
            items.into_iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect::<Vec<_>>().into()
        }
        _ => value.into(),
    }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    (before.matches('\n').count() + 1, before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1)
}

/// Where a key was set: variable or flag, else `file:line`, else the file.
fn locate(key: &str, path: Option<&Path>, text: &str, overrides: &[(String, String, String)]) -> String {
    if let Some((place, ..)) = overrides.iter().rev().find(|(_, k, _)| k == key) {
        return place.clone();
    }
    let Some(path) = path else { return "defaults".into() };
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let mut current = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(head) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            current = head.trim().to_owned();
            if current == key {
                return format!("{}:{}", path.display(), number + 1);
            }
        } else if current == section && line.split('=').next().is_some_and(|found| found.trim() == name) {
            return format!("{}:{}", path.display(), number + 1);
        }
    }
    path.display().to_string()
}

/// Whether `id` may name a node or a camera in a topic.
#[must_use]
pub fn is_id(id: &str) -> bool {
    let mut bytes = id.bytes();
    id.len() <= 32
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

fn check(settings: &Settings, place: impl Fn(&str) -> String) -> Result<(), SettingsError> {
    let refuse = |key: &str, value: String, allowed: &str| {
        Err(SettingsError::Value { place: place(key), key: key.to_owned(), value, allowed: allowed.to_owned() })
    };
    const ID: &str = "lower-case letters, digits, `_` and `-`, at most 32, not starting with `_` or `-`";
    if !settings.node.is_empty() && !is_id(&settings.node) {
        return refuse("node", format!("{:?}", settings.node), ID);
    }
    let detector = &settings.detector;
    if !(1..=64).contains(&detector.workers) {
        return refuse("detector.workers", detector.workers.to_string(), "1 to 64");
    }
    if let Threads::Count(count) = detector.threads
        && !(1..=64).contains(&count)
    {
        return refuse("detector.threads", count.to_string(), "1 to 64, or \"auto\"");
    }
    if !(0.05..=0.99).contains(&detector.min_score) {
        return refuse("detector.min_score", detector.min_score.to_string(), "0.05 to 0.99");
    }
    if !(5..=100).contains(&detector.cpu_quota) {
        return refuse("detector.cpu_quota", detector.cpu_quota.to_string(), "5 to 100");
    }
    let mqtt = &settings.mqtt;
    if mqtt.port == 0 {
        return refuse("mqtt.port", "0".into(), "1 to 65535");
    }
    let levels: Vec<&str> = mqtt.base.split('/').collect();
    if levels.len() > 3 || levels.iter().any(|level| level.is_empty() || level.contains(['+', '#', '$', ' ', '\0'])) {
        return refuse("mqtt.base", format!("{:?}", mqtt.base), "1 to 3 levels without `+`, `#`, `$` or spaces");
    }
    if !(0.1..=60.0).contains(&mqtt.max_rate) {
        return refuse("mqtt.max_rate", mqtt.max_rate.to_string(), "0.1 to 60");
    }
    if !(0.0..=60.0).contains(&mqtt.off_delay_s) {
        return refuse("mqtt.off_delay_s", mqtt.off_delay_s.to_string(), "0 to 60");
    }
    if !(10..=3600).contains(&settings.health.interval_s) {
        return refuse("health.interval_s", settings.health.interval_s.to_string(), "10 to 3600");
    }
    for (id, camera) in &settings.cameras {
        let key = |name: &str| format!("cameras.{id}.{name}");
        if !is_id(id) || ["bridge", "status"].contains(&id.as_str()) {
            return refuse(&format!("cameras.{id}"), format!("{id:?}"), &format!("{ID}; `bridge` and `status` are taken"));
        }
        for (name, value) in [("fps", camera.fps), ("max_fps", camera.max_fps)] {
            if !(0.0..=240.0).contains(&value) {
                return refuse(&key(name), value.to_string(), "0 to 240");
            }
        }
        if !(1.0..=600.0).contains(&camera.timeout_s) {
            return refuse(&key("timeout_s"), camera.timeout_s.to_string(), "1 to 600");
        }
        for (name, value) in [("width", camera.width), ("height", camera.height)] {
            if !(1..=8192).contains(&value) {
                return refuse(&key(name), value.to_string(), "1 to 8192");
            }
        }
        check_kind(camera, &key, &refuse)?;
    }
    Ok(())
}

fn check_kind(
    camera: &CameraSettings,
    key: &impl Fn(&str) -> String,
    refuse: &impl Fn(&str, String, &str) -> Result<(), SettingsError>,
) -> Result<(), SettingsError> {
    let formats: &[&str] = match camera.kind {
        CameraKind::V4l2 => &["mjpeg", "yuyv", "nv12", "rgb", "grey"],
        CameraKind::Stream => &["mjpeg", "y4m", "i420"],
        CameraKind::Replay => {
            return if camera.path.as_os_str().is_empty() {
                refuse(&key("path"), "\"\"".into(), "a folder of pictures, a .y4m or an .mjpeg file (kind = \"replay\")")
            } else {
                Ok(())
            };
        }
    };
    if !formats.contains(&camera.format.as_str()) {
        return refuse(&key("format"), format!("{:?}", camera.format), &formats.join(", "));
    }
    if camera.kind == CameraKind::Stream {
        if camera.url.is_empty() == camera.command.is_empty() {
            return refuse(&key("url"), format!("{:?}", camera.url), "exactly one of url and command (kind = \"stream\")");
        }
        if !camera.url.is_empty() && !camera.url.starts_with("http://") {
            return refuse(&key("url"), "<address>".into(), "an http:// address; for RTSP use `command` with ffmpeg");
        }
    } else if camera.device.is_empty() {
        return refuse(&key("device"), "\"\"".into(), "a number or a path such as /dev/v4l/by-id/... (kind = \"v4l2\")");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("r.toml");
        std::fs::write(&path, text).expect("written");
        let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        load(Some(&path), &environment, &[]).map_err(|e| e.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn environment_wins_over_the_file() {
        let settings = with_file("[detector]\nworkers = 3\n", &[("RETINAD__DETECTOR__WORKERS", "5")]).expect("valid");
        assert_eq!(settings.detector.workers, 5);
    }

    #[test]
    fn unknown_key_names_file_line_and_key() {
        let error = with_file("[detector]\n\nworkrs = 3\n", &[]).expect_err("unknown");
        assert!(error.starts_with("r.toml:3:1: unknown field `workrs`") && error.contains("workers"), "{error}");
    }

    #[test]
    fn wrong_type_names_line() {
        let error = with_file("[detector]\nworkers = \"many\"\n", &[]).expect_err("wrong type");
        assert!(error.starts_with("r.toml:2:"), "{error}");
    }

    #[test]
    fn threads_are_a_number_or_auto() {
        assert_eq!(with_file("[detector]\nthreads = \"auto\"\n", &[]).expect("valid").detector.threads, Threads::Auto);
        assert_eq!(with_file("", &[("RETINAD__DETECTOR__THREADS", "auto")]).expect("valid").detector.threads, Threads::Auto);
        assert_eq!((crate::settings::shared(4, 1), crate::settings::shared(4, 3), crate::settings::shared(2, 8)), (4, 1, 1));
        for wrong in ["\"all\"", "0", "65", "-1", "1.5", "[]"] {
            let error = with_file(&format!("[detector]\nthreads = {wrong}\n"), &[]).expect_err(wrong);
            assert!(error.starts_with("r.toml:2") && error.contains("1 to 64, or \"auto\""), "{error}");
        }
    }

    #[test]
    fn value_out_of_range_names_line_key_value_and_range() {
        let error = with_file("[detector]\nmin_score = 1.5\n", &[]).expect_err("range");
        assert_eq!(error, "r.toml:2: detector.min_score = 1.5 is not allowed: 0.05 to 0.99");
    }

    #[test]
    fn bad_environment_names_the_variable() {
        let error = with_file("", &[("RETINAD__DETECTOR__WRKERS", "5")]).expect_err("unknown");
        assert!(error.starts_with("RETINAD__DETECTOR__WRKERS: "), "{error}");
        let error = with_file("", &[("RETINAD__MQTT__PORT", "0")]).expect_err("range");
        assert!(error.starts_with("RETINAD__MQTT__PORT: mqtt.port = 0"), "{error}");
    }

    #[test]
    fn replay_without_path_and_bad_camera_id_are_refused() {
        let error = with_file("[cameras.front]\nkind = \"replay\"\n", &[]).expect_err("no path");
        assert!(error.contains("cameras.front.path"), "{error}");
        let error = with_file("[cameras.bridge]\n", &[]).expect_err("reserved");
        assert!(error.contains("`bridge` and `status` are taken"), "{error}");
    }
}
