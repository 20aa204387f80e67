//! Whatever becomes of stderr, the daemon goes on: the real program, heard through a real Mosquitto.

mod mosquitto;

use mosquitto::{Broker, Listener, wait_for};
use std::io::{PipeReader, PipeWriter, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAM: &str = env!("CARGO_BIN_EXE_retinad");

/// A daemon under test; killed on drop.
struct Daemon {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Settings for the broker on `port`, in a folder of their own.
fn settings(port: u16) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("retinad.toml");
    let broker = format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {port}\ndetections = \"always\"");
    let camera = "[cameras.album]\nkind = \"replay\"\npath = \"examples/pictures\"\nfps = 2";
    let text = format!("node = \"n\"\nstate_dir = \"{}\"\n{broker}\n{camera}\n", folder.path().display());
    std::fs::write(&path, text).expect("written");
    (folder, path)
}

/// Starts the daemon with `stderr`; `None`: closed.
fn start(port: u16, stderr: Option<Stdio>) -> Daemon {
    let (folder, path) = settings(port);
    let mut command = Command::new("sh");
    let closing = if stderr.is_none() { "2>&-" } else { "" };
    command.args(["-c", &format!("exec \"$0\" run --config \"$1\" {closing}"), PROGRAM]).arg(path);
    // Much is logged, so that a pipe that nobody reads fills up.
    command
        .current_dir(ROOT)
        .env("RETINAD_LOG", "debug,rumqttc=trace")
        .env_remove("JOURNAL_STREAM")
        .stdout(Stdio::null());
    let child = command.stderr(stderr.unwrap_or_else(Stdio::null)).spawn().expect("starts");
    Daemon { child, _folder: folder }
}

/// The daemon publishes; while the broker is away, it logs; when that is back, it publishes again and can
/// be stopped.
fn goes_on_over_a_broker_restart(broker: Broker, mut daemon: Daemon, meanwhile: impl FnOnce()) {
    Listener::start(broker.port).until("0 retinad/n/album/detections", 30);
    meanwhile();
    let port = broker.kill();
    std::thread::sleep(Duration::from_millis(500));
    let _broker = Broker::start_on(port, "").expect("again");
    Listener::start(port).until("0 retinad/n/album/detections", 30);
    let begun = Instant::now();
    let killed = Command::new("kill").args(["-TERM", &daemon.child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    assert_eq!(daemon.child.wait().expect("ends").code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

/// A pipe that takes nothing more, and its reader.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut filling = writer.try_clone().expect("another writer");
    // It fills the pipe, then waits until the reader is dropped.
    let thread = std::thread::spawn(move || while filling.write_all(&[b'.'; 4096]).is_ok() {});
    std::thread::sleep(Duration::from_millis(200));
    assert!(!thread.is_finished(), "the pipe is full");
    (reader, writer)
}

#[test]
fn stderr_closed_stops_nothing() {
    let Some(broker) = Broker::start("") else { return };
    let daemon = start(broker.port, None);
    goes_on_over_a_broker_restart(broker, daemon, || {});
}

#[test]
fn stderr_on_a_full_disk_stops_nothing() {
    let Some(broker) = Broker::start("") else { return };
    let full =
        std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device that is always full");
    let daemon = start(broker.port, Some(full.into()));
    goes_on_over_a_broker_restart(broker, daemon, || {});
}

#[test]
fn stderr_whose_reader_goes_away_stops_nothing() {
    let Some(broker) = Broker::start("") else { return };
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let daemon = start(broker.port, Some(writer.into()));
    goes_on_over_a_broker_restart(broker, daemon, || drop(reader));
}

#[test]
fn stderr_that_is_full_and_not_read_stops_nothing() {
    let Some(broker) = Broker::start("") else { return };
    let (reader, writer) = full_pipe();
    let daemon = start(broker.port, Some(writer.into()));
    goes_on_over_a_broker_restart(broker, daemon, || {});
    drop(reader);
}

#[test]
fn a_fault_that_cannot_be_told_still_ends_the_program() {
    let (folder, path) = settings(1);
    std::fs::write(&path, "[detector]\nmin_score = 7\n").expect("written");
    let (reader, writer) = full_pipe();
    let mut command = Command::new(PROGRAM);
    command.current_dir(ROOT).args(["run", "--config"]).arg(path).stderr(Stdio::from(writer));
    let mut child = command.spawn().expect("starts");
    wait_for(5, "the program ends", || child.try_wait().expect("its state").is_some());
    assert_eq!(child.wait().expect("ended").code(), Some(78));
    drop((reader, folder));
}

#[test]
fn a_filter_that_is_not_understood_is_named() {
    let mut command = Command::new(PROGRAM);
    command.current_dir(ROOT).args(["detect", "--config", "config/retinad.toml", "missing.jpg"]);
    let said = command
        .env("RETINAD_LOG", "warn,retinad=loud")
        .env_remove("JOURNAL_STREAM")
        .output()
        .expect("runs")
        .stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("RETINAD_LOG is not understood"), "{said}");
}
