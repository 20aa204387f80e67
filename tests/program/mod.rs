//! The program itself under test, and settings for it.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

pub fn retinad(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retinad"));
    command.current_dir(ROOT).args(arguments);
    command
}

pub fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = retinad(arguments).output().expect("runs");
    (
        status.code(),
        String::from_utf8_lossy(&stdout).into_owned(),
        String::from_utf8_lossy(&stderr).into_owned(),
    )
}

/// A daemon under test; killed on drop.
pub struct Daemon {
    pub child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    pub fn start(config: &Path) -> Self {
        Self::of(retinad(&["run", "--config", &config.display().to_string()]))
    }

    /// Started by this command.
    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, keep) = (BufReader::new(child.stderr.take().expect("piped")), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                keep.lock().expect("not poisoned").push_str(&(line + "\n"));
            }
        });
        Self { child, log }
    }

    pub fn logged(&self, text: &str, seconds: u64) {
        let until = Instant::now() + Duration::from_secs(seconds);
        while !self.log.lock().expect("not poisoned").contains(text) {
            assert!(
                Instant::now() < until,
                "no {text:?} in the log:\n{}",
                self.log.lock().expect("not poisoned")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// What it has used of the processors so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // After the name, which may hold spaces: state, then ten numbers, then user and system time in ticks of
        // a hundredth of a second, which is what Linux says on every architecture.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill");
        assert!(done.success());
    }

    /// Ends it and says how long that took.
    pub fn terminate(mut self) -> Duration {
        let from = Instant::now();
        self.signal("-TERM");
        let status = self.child.wait().expect("ends");
        assert_eq!(status.code(), Some(0), "{}", self.log.lock().expect("not poisoned"));
        from.elapsed()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub const PICTURES: &str = "[cameras.album]\nkind = \"replay\"\npath = \"examples/pictures\"\n";

/// Settings of a camera that sees a person, a second later a cat, and after another the person again; between
/// them it sees a grey wall, and objects end as soon as they may.
pub fn coming_and_going(folder: &Path, camera: &str) -> String {
    let scenes = folder.join("scenes");
    std::fs::create_dir(&scenes).expect("a folder");
    let mut wall = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut wall, 90);
    encoder.encode(&[127; 320 * 240], 320, 240, jpeg_encoder::ColorType::Luma).expect("a JPEG");
    let read = |name: &str| std::fs::read(Path::new(ROOT).join("examples/pictures").join(name));
    for number in 0..10 {
        let picture = match number {
            0 => read("astronaut.jpg").expect("a demo picture"),
            5 => read("chelsea.jpg").expect("a demo picture"),
            _ => wall.clone(),
        };
        std::fs::write(scenes.join(format!("{number}.jpg")), picture).expect("written");
    }
    format!(
        "[cameras.{camera}]\nkind = \"replay\"\npath = {scenes:?}\nfps = 5\nmin_hits = 1\nmax_age_s = 0.5\n\
         stationary_max_age_s = 0.5\n"
    )
}

/// Settings in a folder of their own, for the broker on `port`.
pub fn config(folder: &Path, port: u16, more: &str) -> PathBuf {
    let path = folder.join("retinad.toml");
    // Without Home Assistant's messages, which name every other topic: `make ha-test` is for them.
    let text = format!(
        "node = \"n\"\nstate_dir = \"{}\"\n[mqtt]\nhost = \"127.0.0.1\"\nport = {port}\ndetections = \"always\"\n\
         max_rate = 60\nhomeassistant.enabled = false\n{more}",
        folder.join("state").display()
    );
    std::fs::write(&path, text).expect("written");
    path
}

/// Settings as [`config`] writes them, with Home Assistant's messages.
pub fn with_home_assistant(config: PathBuf) -> PathBuf {
    let text = std::fs::read_to_string(&config).expect("settings");
    std::fs::write(&config, text.replace("homeassistant.enabled = false\n", "")).expect("written");
    config
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}
