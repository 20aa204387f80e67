//! Cameras as they are: a table of answers over HTTP, and one of child processes, each with what must come
//! of it.

mod scripted_camera;

use retinad::capture::{CaptureError, Waited, Watched};
use retinad::settings::{CameraSettings, Source, StreamFormat, StreamSource};
use scripted_camera::{Act, ScriptedCamera};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const JPEG: &[u8] = include_bytes!("../examples/pictures/coffee.jpg");

fn answer(head: &str, body: &[u8]) -> Act {
    Act::Send([head.replace('\n', "\r\n").as_bytes(), b"\r\n\r\n", body].concat())
}

fn part() -> Vec<u8> {
    [b"--b\r\nContent-Type: image/jpeg\r\n\r\n", JPEG, b"\r\n"].concat()
}

fn whole(head: &str) -> Vec<Act> {
    vec![answer(head, &part()), Act::Wait(Duration::from_secs(3))]
}

fn camera(source: StreamSource, timeout_s: f32) -> CameraSettings {
    CameraSettings { source: Source::Stream(source), timeout_s, ..CameraSettings::default() }
}

fn http(url: String) -> CameraSettings {
    camera(StreamSource { url, ..StreamSource::default() }, 2.0)
}

/// The first frame's bytes, or what is said instead.
fn first(settings: &CameraSettings) -> Result<Vec<u8>, String> {
    let camera = Watched::start("a", settings).expect("a thread");
    match camera.next_frame(None) {
        Ok(Waited::Frame(grabbed)) => Ok(grabbed.raw.data),
        Ok(Waited::Stopped) => unreachable!("nobody stops it"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn odd_answers_give_frames() {
    for (name, script) in [
        ("names in any case", whole("HTTP/1.1 200 OK\nCONTENT-TYPE: multipart/x-mixed-replace;boundary=b")),
        ("a space before the colon", whole("HTTP/1.1 200 OK\nContent-Type : multipart/x-mixed-replace")),
        ("folded lines", whole("HTTP/1.0 200 OK\nContent-Type: multipart/x-mixed-replace;\n boundary=b")),
        ("SHOUTcast's first line", whole("ICY 200 OK\nContent-Type: multipart/x-mixed-replace")),
        ("no content type", whole("HTTP/1.0 200 OK\nServer: x")),
        ("no reason phrase", whole("HTTP/1.1 200\nServer: x")),
        ("a header that is none", whole("HTTP/1.1 200 OK\nbad header\nServer: x")),
        ("octet-stream", whole("HTTP/1.1 200 OK\nContent-Type: application/octet-stream")),
        ("plain text, as ESP32 sketches say", whole("HTTP/1.1 200 OK\nContent-Type: text/plain")),
    ] {
        let server = ScriptedCamera::start(vec![script]);
        let found = first(&http(format!("http://{}/", server.authority)));
        assert_eq!(found.as_deref(), Ok(JPEG), "{name}");
    }
}

#[test]
fn what_gives_no_frames_is_named() {
    let page = b"<html>log in</html>";
    for (name, script, word) in [
        (
            "a page",
            vec![answer("HTTP/1.1 200 OK\nContent-Type: text/html; charset=utf-8", page)],
            "text/html",
        ),
        ("json", vec![answer("HTTP/1.1 200 OK\nContent-Type: application/json", b"{}")], "application/json"),
        ("another picture", vec![answer("HTTP/1.1 200 OK\nContent-Type: image/png", b"")], "image/png"),
        ("not found", vec![answer("HTTP/1.1 404 Not Found\nServer: x", b"")], "404 Not Found"),
        ("busy", vec![answer("HTTP/1.1 503 Busy\nServer: x", b"")], "503"),
        (
            "another host",
            vec![answer("HTTP/1.1 302 F\nLocation: http://192.0.2.1/?t=CANARY", b"")],
            "another host",
        ),
        ("a circle", vec![answer("HTTP/1.1 302 F\nLocation: /again", b"")], "5 redirects"),
        ("kerberos", vec![answer("HTTP/1.1 401 No\nWWW-Authenticate: Negotiate", b"")], "Negotiate"),
        ("no HTTP", vec![Act::Send(b"220 ftp ready\r\n\r\n".to_vec())], "HTTP"),
        ("nothing", vec![], "connection closed"),
        ("silence", vec![Act::Wait(Duration::from_secs(9))], "2 s"),
    ] {
        let server = ScriptedCamera::start(vec![script]);
        let error =
            first(&http(format!("http://me:CANARY@{}/x?token=CANARY", server.authority))).expect_err(name);
        assert!(error.contains(word) && !error.contains("CANARY"), "{name}: {error}");
        assert!(!error.contains('\n'), "{name}: {error}");
    }
}

#[test]
fn a_login_is_sent_decoded_and_digest_is_answered() {
    let digest = "HTTP/1.1 401 No\nWWW-Authenticate: Basic realm=\"x\"\n\
                  WWW-Authenticate: Digest realm=\"cam\", nonce=\"abc123\", qop=\"auth\", algorithm=MD5";
    let server = ScriptedCamera::start(vec![vec![answer(digest, b"")], whole("HTTP/1.1 200 OK\nServer: x")]);
    let found = first(&http(format!("http://me%40home:p%40ss@{}/v?x=1", server.authority)));
    assert_eq!(found.as_deref(), Ok(JPEG));
    let requests = server.requests();
    assert!(!requests[0].contains("Authorization"), "nothing is sent unasked: {}", requests[0]);
    assert!(requests[0].contains("\r\nHost: 127.0.0.1:"), "{}", requests[0]);
    let second = &requests[1];
    for word in
        ["Authorization: Digest ", "username=\"me@home\"", "uri=\"/v?x=1\"", "nonce=\"abc123\"", "qop=auth"]
    {
        assert!(second.contains(word), "{word}: {second}");
    }
    let basic = "HTTP/1.1 401 No\nWWW-Authenticate: Basic realm=\"x\"";
    let server = ScriptedCamera::start(vec![vec![answer(basic, b"")], whole("HTTP/1.1 200 OK\nServer: x")]);
    let found = first(&http(format!("http://me%40home:p%40ss@{}/", server.authority)));
    assert_eq!(found.as_deref(), Ok(JPEG));
    let second = &server.requests()[1];
    assert!(second.contains("Authorization: Basic bWVAaG9tZTpwQHNz\r\n"), "{second}");
    // The same digest refused is a wrong password, not a loop.
    let server = ScriptedCamera::start(vec![vec![answer(digest, b"")]]);
    let error = first(&http(format!("http://me:CANARY@{}/", server.authority))).expect_err("refused");
    assert!(error.contains("refuses this user and password") && !error.contains("CANARY"), "{error}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_redirect_on_the_host_is_followed_with_the_login() {
    let moved = vec![answer("HTTP/1.1 301 Moved\nLocation: /live?a=b", b"")];
    let login = vec![answer("HTTP/1.1 401 No\nWWW-Authenticate: Basic realm=\"x\"", b"")];
    let server = ScriptedCamera::start(vec![moved, login, whole("HTTP/1.1 200 OK\nServer: x")]);
    let found = first(&http(format!("http://me:pw@{}/old", server.authority)));
    assert_eq!(found.as_deref(), Ok(JPEG));
    let third = &server.requests()[2];
    assert!(third.starts_with("GET /live?a=b HTTP/1.1") && third.contains("Authorization: Basic"), "{third}");
}

#[test]
fn a_still_picture_is_asked_for_again_and_the_camera_stays() {
    let head = format!("HTTP/1.1 200 OK\nContent-Type: image/jpeg\nContent-Length: {}", JPEG.len());
    let server = ScriptedCamera::start(vec![vec![answer(&head, JPEG)]]);
    let source =
        StreamSource { url: format!("http://{}/still.jpg", server.authority), ..StreamSource::default() };
    for (poll_s, least) in [(0.0, 0.9), (0.2, 0.15)] {
        let settings = camera(StreamSource { poll_s, ..source.clone() }, 5.0);
        let watched = Watched::start("a", &settings).expect("a thread");
        let begun = Instant::now();
        for number in 0..3 {
            let Ok(Waited::Frame(grabbed)) = watched.next_frame(None) else { panic!("picture {number}") };
            assert_eq!(grabbed.raw.data, JPEG);
        }
        let took = begun.elapsed().as_secs_f64();
        assert!(
            took > 2.0 * least && took < 2.0 * least + 3.0,
            "{took} s for two pauses at poll_s = {poll_s}"
        );
    }
}

/// Until the camera was given up, and until its thread had ended.
fn given_up(settings: &CameraSettings) -> (String, Duration) {
    let begun = Instant::now();
    let watched = Watched::start("a", settings).expect("a thread");
    let error = loop {
        match watched.next_frame(None) {
            Ok(Waited::Frame(_)) | Err(CaptureError::Damaged { .. }) => {}
            Ok(Waited::Stopped) => unreachable!("nobody stops it"),
            Err(error) => break error.to_string(),
        }
    };
    watched.abandon().expect("a thread").join().expect("ends");
    (error, begun.elapsed())
}

#[test]
fn a_camera_that_trickles_is_given_up_and_its_connection_closed() {
    let head = Act::Send(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\n\r\n".to_vec());
    let byte = Duration::from_millis(100);
    for (name, script) in [
        ("a byte at a time", vec![head.clone(), Act::Trickle(JPEG.to_vec(), byte)]),
        ("the head, a byte at a time", vec![Act::Trickle(b"HTTP/1.1 200 OK\r\n".repeat(50), byte)]),
        (
            "one frame, then silence",
            vec![head.clone(), Act::Send(part()), Act::Wait(Duration::from_secs(60))],
        ),
    ] {
        let server = ScriptedCamera::start(vec![script]);
        let source = StreamSource { url: format!("http://{}/", server.authority), ..StreamSource::default() };
        let (error, took) = given_up(&camera(source, 1.0));
        assert!(took < Duration::from_secs_f32(2.5), "{name}: {took:?}, {error}");
    }
}

fn child(script: &str) -> CameraSettings {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let format = StreamFormat::I420;
    camera(StreamSource { command, format, width: 4, height: 2, ..StreamSource::default() }, 1.0)
}

#[test]
fn a_child_never_holds_us_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pid = folder.path().join("pid");
    let own = format!("echo $$ > {};", pid.display());
    for (name, script, word) in [
        ("silent", "sleep 60", "no frame for 1 s"),
        ("trickles", "while :; do printf a; sleep 0.1; done", "no frame for 1 s"),
        ("a grandchild holds the pipe", "sleep 60 & exit 0", "no frame for 1 s"),
        ("a grandchild of another session holds the pipe", "setsid sleep 5 & exit 0", "no frame for 1 s"),
        ("ignores signals", "trap '' TERM HUP INT; sleep 60", "no frame for 1 s"),
        ("closes its stdout and stays", "exec >&-; sleep 60", "signal: 9"),
        ("ends at once", "exit 3", "exit status: 3"),
        ("says why", "echo 'no light' >&2; exit 1", "no light"),
    ] {
        let (error, took) = given_up(&child(&format!("{own} {script}")));
        assert!(error.contains(word), "{name}: {error}");
        assert!(took < Duration::from_secs_f32(2.5), "{name}: {took:?}");
        let number = std::fs::read_to_string(&pid).expect("it ran");
        assert!(!Path::new("/proc").join(number.trim()).exists(), "{name}: the child lives, or is a zombie");
    }
}

#[test]
fn a_child_s_last_words_are_told_without_secrets_or_escapes() {
    let script = "printf 'rtsp://me:CANARY@cam/1: \\033[31mfailed\\033[0m password=CANARY\\n' >&2; exit 1";
    let (error, _) = given_up(&child(script));
    assert!(
        error.contains("rtsp://***@cam/1") && !error.contains("CANARY") && !error.contains('\u{1b}'),
        "{error}"
    );
    let (error, _) = given_up(&child("yes CANARY | head -c 100000000 | tr -d '\\n' >&2; exit 1"));
    assert!(error.len() < 400, "{} characters", error.len());
}

/// OpenSSL's own server, which answers with the files of its folder.
struct TlsCamera {
    child: std::process::Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl TlsCamera {
    /// With a certificate of its own making for `name`; none where the command is not there.
    fn start(name: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let made = Command::new("openssl")
            .current_dir(&folder)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"])
            .args(["-days", "2", "-subj", "/CN=camera", "-addext", &format!("subjectAltName={name}")])
            .output();
        let Ok(made) = made else {
            println!("SKIPPED: openssl is not installed (apt-get install openssl)");
            return None;
        };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(folder.path().join("still"), JPEG).expect("written");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let child = Command::new("openssl")
            .current_dir(&folder)
            .args([
                "s_server",
                "-accept",
                &format!("127.0.0.1:{port}"),
                "-cert",
                "cert.pem",
                "-key",
                "key.pem",
            ])
            .args(["-WWW", "-quiet"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "the TLS server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, folder, port })
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }
}

impl Drop for TlsCamera {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn https_trusts_the_named_certificate_and_no_other() {
    let (Some(server), Some(foreign)) = (TlsCamera::start("IP:127.0.0.1"), TlsCamera::start("DNS:other"))
    else {
        return;
    };
    let of = |scheme: &str, port: u16, ca_file: PathBuf| {
        let url = format!("{scheme}://me:CANARY@127.0.0.1:{port}/still");
        first(&camera(StreamSource { url, ca_file, ..StreamSource::default() }, 5.0))
    };
    assert_eq!(of("https", server.port, server.certificate()).as_deref(), Ok(JPEG));
    // A certificate for another name, named by the owner of the camera, is that camera's.
    assert_eq!(of("https", foreign.port, foreign.certificate()).as_deref(), Ok(JPEG));
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let plain_port = plain.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let (mut socket, _) = plain.accept().expect("a client");
        let _ = socket.read(&mut [0; 100]);
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let absent = server.folder.path().join("absent.pem");
    let no_pem = server.folder.path().join("still");
    for (name, found, word) in [
        ("a foreign one", of("https", server.port, foreign.certificate()), "is not trusted"),
        ("none named", of("https", server.port, PathBuf::new()), "ca_file"),
        ("plain text where TLS is", of("http", server.port, PathBuf::new()), "127.0.0.1"),
        ("TLS where plain text is", of("https", plain_port, server.certificate()), "speaks no TLS"),
        ("no such file", of("https", server.port, absent), "absent.pem"),
        ("no certificate in the file", of("https", server.port, no_pem), "still"),
    ] {
        let error = found.expect_err(name);
        assert!(error.contains(word) && !error.contains("CANARY"), "{name}: {error}");
    }
}
