//! The recipes of `docs/cameras.md`, run as they stand there with real programs in place of cameras: GStreamer's
//! RTSP server with a password, ffmpeg as an HTTP camera, files of ffmpeg's making.

mod mosquitto;
mod program;

use program::{ROOT, folder, retinad};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// With every character that an address must not hold as it is.
const PASSWORD: &str = "p@ss/w#rd:9?%";

/// A program that plays the camera; killed on drop.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The section `[cameras.<name>]` of the page, as a person copies it.
fn recipe(name: &str) -> String {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/cameras.md")).expect("docs/cameras.md");
    let header = format!("    [cameras.{name}]");
    let block: Vec<&str> = page
        .lines()
        .skip_while(|line| *line != header)
        .take_while(|line| line.starts_with("    "))
        .map(str::trim_start)
        .collect();
    assert!(block.len() > 1, "no recipe {name}");
    block.join("\n")
}

/// What `check` says of the one camera of these settings.
fn checked(settings: &str) -> String {
    let folder = folder();
    let path = folder.path().join("retinad.toml");
    std::fs::write(&path, format!("mqtt.port = {}\n{settings}\n", mosquitto::free_port())).expect("written");
    let mut command = retinad(&["check", "--config", &path.display().to_string()]);
    for name in ["GATE", "HALL"] {
        command.env(format!("RETINAD_SECRET_{name}"), PASSWORD);
    }
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let shown = said.clone() + &String::from_utf8_lossy(&output.stderr);
    assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "the password is shown: {shown}");
    said.lines().find(|line| line.starts_with("camera")).unwrap_or_else(|| panic!("{shown}")).to_owned()
}

/// ffmpeg with these arguments, split at spaces; `None`, with a word, where it is not installed.
fn ffmpeg(arguments: &str) -> Option<Command> {
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        println!("SKIPPED: ffmpeg is not installed (apt-get install ffmpeg)");
        return None;
    }
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-y"]).args(arguments.split(' '));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Some(command)
}

/// A minute of H.264.
fn h264(file: &Path) -> Option<()> {
    let source = "-f lavfi -i testsrc=size=640x360:rate=10:duration=60 -c:v libx264 -preset ultrafast -g 10";
    let made = ffmpeg(&format!("{source} {}", file.display()))?.status().expect("ffmpeg");
    assert!(made.success());
    Some(())
}

/// GStreamer's server and its port; `None`, with a word, where it is not installed.
fn rtsp_server(method: &str, file: &Path) -> Option<(Program, u16)> {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(Path::new(ROOT).join("tests/rtsp_server/server.py"));
    command.args([method, "viewer", PASSWORD]).arg(file).stdout(Stdio::piped()).stderr(Stdio::null());
    let skipped = || {
        println!(
            "SKIPPED: GStreamer's RTSP server is not installed \
             (apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good)"
        );
    };
    let Ok(mut child) = command.spawn() else {
        skipped();
        return None;
    };
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its port");
    let server = Program(child);
    match line.trim().parse() {
        Ok(port) => Some((server, port)),
        Err(_) => {
            skipped();
            None
        }
    }
}

#[test]
fn rtsp_with_a_password_as_h264_and_as_mjpeg() {
    let folder = folder();
    let file = folder.path().join("camera.mkv");
    if h264(&file).is_none() {
        return;
    }
    for method in ["basic", "digest"] {
        let Some((_server, port)) = rtsp_server(method, &file) else { return };
        for (path, size) in [("h264", "640 x 360"), ("mjpeg", "320 x 240")] {
            let settings = recipe("gate").replace("192.0.2.10/stream2", &format!("127.0.0.1:{port}/{path}"));
            assert!(settings.contains(path), "{settings}");
            let said = checked(&settings);
            assert!(said.contains("ok  gate: ffmpeg") && said.contains(size), "{method}, {path}: {said}");
        }
        let settings = recipe("gate").replace("192.0.2.10/stream2", &format!("127.0.0.1:{port}/h264"));
        let said = checked(&settings.replace("viewer:", "somebody:"));
        assert!(said.contains("--  gate: ") && said.contains("401"), "{method}: {said}");
    }
}

#[test]
fn mjpeg_over_http() {
    for (section, address) in [
        (recipe("hall"), "192.0.2.11/video.mjpg"),
        (
            "[cameras.esp32]\nkind = \"stream\"\nurl = \"http://192.0.2.12:81/stream\"".into(),
            "192.0.2.12:81/stream",
        ),
    ] {
        let port = mosquitto::free_port();
        let path = address.split_once('/').expect("a path").1;
        let here = format!("127.0.0.1:{port}/{path}");
        let source = "-re -f lavfi -i testsrc=size=320x240:rate=10 -c:v mjpeg -f mpjpeg";
        let kind = "-content_type multipart/x-mixed-replace;boundary=ffmpeg";
        let Some(mut server) = ffmpeg(&format!("{source} {kind} -listen 1 http://{here}")) else { return };
        let _server = Program(server.spawn().expect("ffmpeg"));
        wait_for_port(port);
        let said = checked(&section.replace(address, &here));
        assert!(said.contains("ok  ") && said.contains("320 x 240"), "{said}");
    }
}

/// Waits until somebody listens, without connecting: ffmpeg serves one client.
fn wait_for_port(port: u16) {
    let listens = format!("0100007F:{port:04X} 00000000:0000 0A");
    mosquitto::wait_for(10, "ffmpeg listens", || {
        std::fs::read_to_string("/proc/net/tcp").is_ok_and(|table| table.contains(&listens))
    });
}

#[test]
fn a_recording_or_a_folder() {
    let folder = folder();
    let source = "-f lavfi -i testsrc=size=64x48:rate=5:duration=1";
    for (file, more) in [("a.y4m", "-pix_fmt yuv420p"), ("a.mjpeg", "-c:v mjpeg")] {
        let path = folder.path().join(file);
        let Some(mut made) = ffmpeg(&format!("{source} {more} {}", path.display())) else { return };
        assert!(made.status().expect("ffmpeg").success());
        let said = checked(&recipe("test").replace("/home/me/pictures", &path.display().to_string()));
        assert!(said.contains("ok  test: ") && said.contains("64 x 48"), "{file}: {said}");
    }
    let said = checked(&recipe("test").replace("/home/me/pictures", "examples/pictures"));
    assert!(said.contains("ok  test: "), "{said}");
}
