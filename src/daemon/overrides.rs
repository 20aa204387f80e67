//! Accepted sets outlive a restart: `overrides.json` in the state folder. A changed setting wins over an older set.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

const FILE: &str = "overrides.json";
/// Largest file that is read, bytes.
const MAX_FILE: u64 = 1 << 20;

/// A set of one camera, with the setting it stood against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// As set, 0.05 to 0.99.
    pub value: f32,
    /// `detector.min_score` then.
    pub setting: f32,
}

/// What was set for one camera.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    /// Detection switched off or on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect: Option<bool>,
    /// The threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
}

/// All of them, and where they are kept.
#[derive(Debug, Default)]
pub struct Overrides {
    folder: Option<PathBuf>,
    cameras: BTreeMap<String, Override>,
}

impl Overrides {
    /// Reads them; without a folder nothing is kept. A file that cannot be used is named in the log and set aside, not overwritten.
    #[must_use]
    pub fn load(folder: Option<PathBuf>) -> Self {
        let Some(folder) = folder else { return Self::default() };
        let path = folder.join(FILE);
        let cameras = match read(&path) {
            Ok(cameras) => cameras,
            Err(reason) => {
                let aside = path.with_extension("json.bad");
                let kept = std::fs::rename(&path, &aside).is_ok();
                let aside = if kept { aside.display().to_string() } else { "nowhere".into() };
                tracing::warn!(file = %path.display(), reason, aside, "earlier sets cannot be read; starting from the settings");
                BTreeMap::new()
            }
        };
        Self { folder: Some(folder), cameras }
    }

    /// What was set for `camera`, as far as the settings have not changed since.
    #[must_use]
    pub fn of(&self, camera: &str, min_score: f32) -> Override {
        let mut found = self.cameras.get(camera).copied().unwrap_or_default();
        found.threshold = found.threshold.filter(|t| t.setting == min_score && (0.05..=0.99).contains(&t.value));
        found
    }

    /// Changes a camera's and writes the file, whole or not at all.
    pub fn change(&mut self, camera: &str, change: impl FnOnce(&mut Override)) {
        let entry = self.cameras.entry(camera.to_owned()).or_default();
        change(entry);
        if *entry == Override::default() {
            self.cameras.remove(camera);
        }
        if let Some(folder) = &self.folder
            && let Err(error) = write(folder, &self.cameras)
        {
            tracing::warn!(folder = %folder.display(), %error, "a set is not kept over a restart");
        }
    }

    /// The sets in force, for `bridge/info`.
    #[must_use]
    pub fn report(&self) -> serde_json::Value {
        let cameras = self.cameras.iter().map(|(id, set)| {
            let mut entry = serde_json::Map::new();
            if let Some(on) = set.detect {
                entry.insert("detect".into(), on.into());
            }
            if let Some(threshold) = set.threshold {
                entry.insert("threshold".into(), format!("{:.2}", threshold.value).into());
            }
            (id.clone(), entry.into())
        });
        serde_json::Value::Object(cameras.collect())
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Override>, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.to_string()),
        Ok(about) if about.len() > MAX_FILE => return Err(format!("{} bytes, at most {MAX_FILE} are read", about.len())),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

fn write(folder: &Path, cameras: &BTreeMap<String, Override>) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let temporary = folder.join("overrides.json.tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(cameras)?)?;
    file.sync_all()?;
    std::fs::rename(&temporary, folder.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_outlive_a_restart_until_the_setting_changes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("state");
        let mut overrides = Overrides::load(Some(state.clone()));
        overrides.change("front", |o| o.threshold = Some(Threshold { value: 0.7, setting: 0.5 }));
        overrides.change("front", |o| o.detect = Some(false));
        let again = Overrides::load(Some(state));
        assert_eq!(again.of("front", 0.5).threshold.map(|t| t.value), Some(0.7));
        assert_eq!(again.of("front", 0.5).detect, Some(false));
        assert_eq!(again.of("front", 0.6).threshold, None);
        assert_eq!(again.of("back", 0.5), Override::default());
        assert_eq!(again.report()["front"]["threshold"], "0.70");
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join(FILE), "{\"front\":").expect("written");
        let overrides = Overrides::load(Some(folder.path().to_path_buf()));
        assert_eq!(overrides.of("front", 0.5), Override::default());
        assert_eq!(std::fs::read_to_string(folder.path().join("overrides.json.bad")).expect("kept"), "{\"front\":");
    }

    #[test]
    fn without_a_folder_nothing_is_written() {
        let mut overrides = Overrides::load(None);
        overrides.change("front", |o| o.detect = Some(false));
        assert_eq!(overrides.of("front", 0.5).detect, Some(false));
    }
}
