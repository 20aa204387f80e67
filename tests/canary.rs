//! A canary in every place where a password may stand is looked for in every output of every command and in
//! all topics, with real ffmpeg, curl and Mosquitto.

mod mosquitto;
mod program;

use mosquitto::{Broker, Listener};
use program::{Daemon, config, folder, output, retinad};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// It is looked for without regard to case, and in the forms that an address and a login give it.
const CANARY: &str = "Kan4rie/Hush#7";
const FORMS: [&str; 4] = ["kan4rie", "kan4rie%2fhush%237", "bwu6s2funhjpzs9idxnoizc", "s2funhjpzs9idxnoizc"];

fn assert_hidden(what: &str, text: &str) {
    let lower = text.to_ascii_lowercase();
    for form in FORMS {
        assert!(!lower.contains(form), "{what} shows the canary:\n{text}");
    }
}

/// Cameras that all fail, each with the canary where people put passwords.
fn cameras(port: u16) -> String {
    let written = "Kan4rie%2FHush%237";
    format!(
        "[cameras.a]\nkind = \"stream\"\nurl = \"http://me:{written}@127.0.0.1:{port}/v?token={CANARY}\"\n\
         [cameras.b]\nkind = \"stream\"\ncommand = [\"ffmpeg\", \"-nostdin\", \"-loglevel\", \"error\", \"-i\", \
         \"rtsp://me:{CANARY}@127.0.0.1:{port}/live\", \"-f\", \"mjpeg\", \"pipe:1\"]\n\
         [cameras.c]\nkind = \"stream\"\ncommand = [\"curl\", \"-v\", \"-u\", \"me:{CANARY}\", \"http://127.0.0.1:{port}/\"]\n\
         [cameras.d]\nkind = \"stream\"\ncommand = [\"sh\", \"-c\", \"echo password={CANARY} >&2; exit 1\"]\n\
         [cameras.e]\nkind = \"stream\"\ncommand = [\"no-such-program\", \"--password={CANARY}\"]\n\
         [cameras.f]\nkind = \"stream\"\nurl = \"http://me:{{secret:canary}}@127.0.0.1:{port}/\"\n\
         [cameras.g]\nkind = \"stream\"\ncommand = [\"sh\", \"-c\", \"echo $0 >&2; env >&2; exit 1\", \"{{secret:canary}}\"]\n\
         [cameras.album]\nkind = \"replay\"\npath = \"examples/pictures\"\n"
    )
}

fn with_secrets(arguments: &[&str]) -> (String, String) {
    let output = retinad(arguments).env("RETINAD_SECRET_CANARY", CANARY).output().expect("runs");
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn password_file(folder: &Path) -> String {
    let path = folder.join("password");
    std::fs::write(&path, CANARY).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
    format!("username = \"me\"\npassword_file = \"{}\"\n", path.display())
}

#[test]
fn check_shows_no_password() {
    let folder = folder();
    let port = mosquitto::free_port();
    let settings = config(folder.path(), port, &(password_file(folder.path()) + &cameras(port)));
    let (stdout, stderr) =
        with_secrets(&["check", "--settings", "--config", &settings.display().to_string()]);
    for (camera, word) in [
        ("a", "refused"),
        ("b", "ended with"),
        ("c", "onnect to 127.0.0.1"),
        ("d", "password=***"),
        ("e", "cannot be started"),
    ] {
        let line = stdout.lines().find(|line| line.contains(&format!("--  {camera}: "))).unwrap_or_default();
        assert!(line.contains(word), "camera {camera}: {line:?} of\n{stdout}");
    }
    assert!(
        stdout.contains("me:***") || stdout.contains("***@127.0.0.1"),
        "the settings are shown: {stdout}"
    );
    assert_hidden("check", &(stdout + &stderr));
}

#[test]
fn run_and_watch_show_no_password_and_publish_none() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let listener = Listener::start(broker.port);
    let more = password_file(folder.path()) + &cameras(mosquitto::free_port());
    let settings = config(folder.path(), broker.port, &more);
    let mut command = retinad(&["run", "--config", &settings.display().to_string()]);
    command.env("RETINAD_SECRET_CANARY", CANARY).env("RETINAD_LOG", "trace");
    let daemon = Daemon::of(command);
    daemon.logged("connected to the broker", 20);
    for camera in ["a", "b", "c", "d", "e", "f", "g"] {
        daemon.logged(&format!("camera=\"{camera}\""), 20);
    }
    let told = listener.until("n/bridge/health", 20);
    let (stdout, stderr) =
        with_secrets(&["watch", "--config", &settings.display().to_string(), "--count", "2"]);
    daemon.signal("-HUP");
    std::thread::sleep(Duration::from_millis(500));
    let log = daemon.log();
    assert_hidden("the log", &log);
    assert_hidden("a topic", &told.join("\n"));
    assert_hidden("a retained topic", &broker.retained().join("\n"));
    assert_hidden("watch", &(stdout + &stderr));
    daemon.terminate();
}

#[test]
fn no_error_of_the_settings_shows_a_password() {
    let folder = folder();
    for wrong in [
        format!("[cameras.a]\nkind = \"stream\"\nurl = \"http://me:{CANARY}@cam/\"\n"),
        format!("[cameras.a]\nkind = \"stream\"\nurl = [\"{CANARY}\"]\n"),
        format!("[cameras.a]\nkind = \"stream\"\ncommand = \"curl -u me:{CANARY}\"\n"),
        format!("[cameras.a]\nkind = \"stream\"\nurl = \"rtsp://me:{CANARY}@cam/\"\n"),
        format!("[mqtt]\nusername = \"me\"\npassword_file = [\"{CANARY}\"]\n"),
        format!("[mqtt]\nusername = [\"{CANARY}\"]\n"),
        format!("[mqtt]\npassword = \"{CANARY}\"\n"),
        format!("[mqtt]\nport = \"http://me:{CANARY}@x\"\n"),
        format!("[mqtt]\nusername = \"me\"\npassword_file = \"{CANARY}\n"),
    ] {
        let path = folder.path().join("wrong.toml");
        std::fs::write(&path, &wrong).expect("written");
        let (code, stdout, stderr) = output(&["check", "--config", &path.display().to_string()]);
        assert_eq!(code, Some(78), "{wrong}: {stderr}");
        assert!(stderr.contains("wrong.toml:"), "{stderr}");
        assert_hidden(&wrong, &(stdout + &stderr));
    }
}

#[test]
fn names_of_files_do_not_steer_the_terminal() {
    let (_, stdout, stderr) = output(&["detect", "no\u{1b}[2Jsuch\u{7}.jpg"]);
    assert!(!(stdout.clone() + &stderr).contains(['\u{1b}', '\u{7}']), "{stdout:?} {stderr:?}");
}

#[test]
fn a_child_gets_no_folder_of_credentials() {
    let folder = folder();
    let more = "[cameras.a]\nkind = \"stream\"\ncommand = [\"sh\", \"-c\", \"echo have=$CREDENTIALS_DIRECTORY,$RETINAD_SECRET_X,$NOTIFY_SOCKET. >&2; exit 1\"]\n";
    let settings = config(folder.path(), mosquitto::free_port(), more);
    let output = retinad(&["check", "--config", &settings.display().to_string()])
        .env("CREDENTIALS_DIRECTORY", folder.path())
        .env("RETINAD_SECRET_X", "x")
        .env("NOTIFY_SOCKET", "/nowhere")
        .output()
        .expect("runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("have=,,."), "{stdout}");
}
