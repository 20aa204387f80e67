//! Cameras behind a stream: multipart MJPEG over HTTP, or a child process that writes frames to its stdout.

use super::framing::{Framer, FramingError};
use super::{Camera, CaptureError, Interrupt};
use crate::frame::RawFrame;
use crate::settings::{StreamSource, without_credentials};
use base64::Engine as _;
use crossbeam_channel::{Receiver, bounded};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PIECE: usize = 64 << 10;

/// What a stream's bytes come from.
trait Source: Send {
    /// The next piece; empty at the end.
    fn read(&mut self, piece: &mut Vec<u8>) -> Result<(), String>;
    /// Why it ended, once it did.
    fn ended(&mut self) -> String;
}

/// A stream, cut into frames.
pub struct Stream {
    what: String,
    source: Box<dyn Source>,
    framer: Framer,
    piece: Vec<u8>,
    interrupt: Option<Interrupt>,
}

impl Stream {
    /// Connects, waiting at most `timeout` for an answer, or starts the child process.
    ///
    /// # Errors
    /// [`CaptureError::Open`]. It calls the stream `what`, which must not hold a password.
    pub fn open(what: String, settings: &StreamSource, timeout: Duration) -> Result<Self, CaptureError> {
        let framer = Framer::new(settings.format, settings.width, settings.height);
        let failed = |reason: String| CaptureError::Open { what: what.clone(), reason };
        if let Some((program, arguments)) = settings.command.split_first() {
            let child = ChildProcess::start(program, arguments).map_err(failed)?;
            let interrupt = Some(child.killer());
            return Ok(Self { what, source: Box::new(child), framer, piece: Vec::new(), interrupt });
        }
        let http = Http::connect(&settings.url, timeout).map_err(failed)?;
        Ok(Self { what, source: Box::new(http), framer, piece: Vec::new(), interrupt: None })
    }
}

impl Camera for Stream {
    fn next_frame(&mut self) -> Result<RawFrame, CaptureError> {
        let what = || self.what.clone();
        loop {
            match self.framer.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(FramingError::Damaged(reason)) => {
                    return Err(CaptureError::Damaged { what: what(), reason });
                }
                Err(FramingError::Broken(reason)) => {
                    return Err(CaptureError::Stopped { what: what(), reason });
                }
            }
            self.source
                .read(&mut self.piece)
                .map_err(|reason| CaptureError::Stopped { what: what(), reason })?;
            if self.piece.is_empty() {
                return Err(CaptureError::Stopped { what: what(), reason: self.source.ended() });
            }
            self.framer.push(&self.piece);
        }
    }

    fn interrupt(&self) -> Option<Interrupt> {
        self.interrupt.clone()
    }
}

/// A child in a process group of its own, so that a shell's children end with it.
struct ChildProcess {
    child: Child,
    stdout: ChildStdout,
    /// Its last word on stderr, for the error; sent once stderr is closed.
    last_line: Receiver<String>,
    /// Once it is reaped, its process group's number may be somebody else's.
    reaped: bool,
}

/// How long a child may take to end, or its stderr to close, once its stdout is closed.
const GRACE: Duration = Duration::from_millis(300);

impl ChildProcess {
    fn start(program: &str, arguments: &[String]) -> Result<Self, String> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| format!("cannot be started: {e}"))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("its stdout cannot be read".into());
        };
        let (to, last_line) = bounded(1);
        // Read to the end, or the child would stop at a full pipe; in bounded lines, whatever it writes.
        let drain = move || {
            let mut stderr = BufReader::new(stderr);
            let (mut line, mut last) = (Vec::new(), String::new());
            while stderr.by_ref().take(4096).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line);
                if !text.trim().is_empty() {
                    last = text.trim().chars().take(200).collect();
                }
                line.clear();
            }
            let _ = to.send(last);
        };
        std::thread::Builder::new().name("cam-stderr".into()).spawn(drain).map_err(|e| e.to_string())?;
        Ok(Self { child, stdout, last_line, reaped: false })
    }

    fn killer(&self) -> Interrupt {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Arc::new(move || {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
        })
    }
}

impl Source for ChildProcess {
    fn read(&mut self, piece: &mut Vec<u8>) -> Result<(), String> {
        piece.resize(PIECE, 0);
        let read = self.stdout.read(piece).map_err(|e| e.to_string())?;
        piece.truncate(read);
        Ok(())
    }

    fn ended(&mut self) -> String {
        // A child that lives on without a stdout is of no use.
        let until = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        (self.killer())();
        let status = self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        self.reaped = true;
        let line = self.last_line.recv_timeout(GRACE).unwrap_or_default();
        if line.is_empty() { format!("ended with {status}") } else { format!("ended with {status}: {line}") }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if !self.reaped {
            (self.killer())();
            let _ = self.child.wait();
        }
    }
}

/// A GET whose body never ends. Silence is an error after the timeout.
struct Http {
    runtime: tokio::runtime::Runtime,
    body: Incoming,
    timeout: Duration,
}

impl Http {
    fn connect(url: &str, timeout: Duration) -> Result<Self, String> {
        let uri: hyper::Uri = url.parse().map_err(|e| format!("not an address: {e}"))?;
        let authority = uri.authority().ok_or("an address without host")?.as_str();
        let (credentials, _) =
            authority.rsplit_once('@').map_or((None, authority), |(c, host)| (Some(c.to_owned()), host));
        let (host, port) = (
            uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
            uri.port_u16().unwrap_or(80),
        );
        let mut request = hyper::Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header("host", if port == 80 { host.clone() } else { format!("{host}:{port}") })
            .header("user-agent", concat!("retinad/", env!("CARGO_PKG_VERSION")));
        if let Some(credentials) = credentials {
            request = request.header(
                "authorization",
                format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(credentials)),
            );
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let response = runtime.block_on(async {
            let answer = async {
                let socket = tokio::net::TcpStream::connect((host, port)).await.map_err(|e| e.to_string())?;
                let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
                    .await
                    .map_err(|e| e.to_string())?;
                tokio::spawn(connection);
                sender.send_request(request).await.map_err(|e| e.to_string())
            };
            tokio::time::timeout(timeout, answer)
                .await
                .map_err(|_| format!("no answer in {} s", timeout.as_secs_f32()))?
        })?;
        match response.status().as_u16() {
            200 => Ok(Self { runtime, body: response.into_body(), timeout }),
            401 => Err("answers 401: user and password go into the address (http://user:password@host/); digest needs ffmpeg".into()),
            code @ (301 | 302 | 303 | 307 | 308) => {
                let to = response.headers().get("location").and_then(|v| v.to_str().ok()).map(without_credentials);
                Err(format!("answers {code}: moved to {}", to.unwrap_or_default()))
            }
            code => Err(format!("answers {code}")),
        }
    }
}

impl Source for Http {
    fn read(&mut self, piece: &mut Vec<u8>) -> Result<(), String> {
        piece.clear();
        let (body, timeout) = (&mut self.body, self.timeout);
        self.runtime.block_on(async {
            loop {
                let frame = tokio::time::timeout(timeout, body.frame());
                match frame.await.map_err(|_| format!("silent for {} s", timeout.as_secs_f32()))? {
                    None => return Ok(()),
                    Some(Err(error)) => return Err(error.to_string()),
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
                            piece.extend_from_slice(data);
                            return Ok(());
                        }
                    }
                }
            }
        })
    }

    fn ended(&mut self) -> String {
        "the server closed the stream".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{CameraSettings, Source as CameraSource, StreamFormat};
    use std::io::Write;
    use std::net::TcpListener;

    fn open(source: StreamSource, timeout_s: f32) -> Result<Stream, CaptureError> {
        let settings =
            CameraSettings { source: CameraSource::Stream(source.clone()), ..CameraSettings::default() };
        Stream::open(settings.name(), &source, Duration::from_secs_f32(timeout_s))
    }

    fn command(words: &[&str], format: StreamFormat) -> Result<Stream, CaptureError> {
        let command = words.iter().map(|w| (*w).to_owned()).collect();
        open(StreamSource { command, format, width: 4, height: 2, ..StreamSource::default() }, 5.0)
    }

    /// Serves one connection with these bytes and keeps it open for `hold`.
    fn serve(answer: Vec<u8>, hold: Duration) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://me:secret@{}/video?token=1", listener.local_addr().expect("bound"));
        let thread = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            socket.write_all(&answer).expect("sent");
            std::thread::sleep(hold);
            String::from_utf8_lossy(&request).into_owned()
        });
        (url, thread)
    }

    fn http(url: &str, timeout_s: f32) -> Result<Stream, CaptureError> {
        open(StreamSource { url: url.into(), ..StreamSource::default() }, timeout_s)
    }

    #[test]
    fn a_child_gives_frames_and_its_end_is_told() {
        let script = "printf aaaaaaaaaaaabbbbbb; echo no light >&2; exit 3";
        let mut stream = command(&["sh", "-c", script], StreamFormat::I420).expect("sh");
        assert_eq!(stream.next_frame().expect("a frame").data, b"aaaaaaaaaaaa");
        let error = stream.next_frame().expect_err("over").to_string();
        assert!(error.contains("exit status: 3") && error.contains("no light"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named_without_its_arguments() {
        let error = command(&["no-such-program", "rtsp://me:secret@host"], StreamFormat::Mjpeg);
        let error = error.err().expect("missing").to_string();
        assert!(
            error.starts_with("no-such-program: cannot be started") && !error.contains("secret"),
            "{error}"
        );
    }

    #[test]
    fn an_interrupt_ends_a_silent_child_and_its_children() {
        let mut stream = command(&["sh", "-c", "sleep 60; true"], StreamFormat::Mjpeg).expect("sh");
        let interrupt = stream.interrupt().expect("a child can be killed");
        let reader = std::thread::spawn(move || stream.next_frame().expect_err("killed").to_string());
        std::thread::sleep(Duration::from_millis(100));
        interrupt();
        let error = reader.join().expect("ended");
        assert!(error.contains("signal: 9"), "{error}");
    }

    #[test]
    fn multipart_over_http_with_and_without_chunks() {
        let jpeg = include_bytes!("../../examples/pictures/coffee.jpg");
        let mut part = b"--b\r\nContent-Type: image/jpeg\r\n\r\n".to_vec();
        part.extend(jpeg);
        let mut plain =
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n".to_vec();
        plain.extend(&part);
        let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in part.chunks(1000) {
            chunked.extend(format!("{:x}\r\n", piece.len()).bytes());
            chunked.extend(piece);
            chunked.extend(b"\r\n");
        }
        for answer in [plain, chunked] {
            let (url, server) = serve(answer, Duration::from_millis(50));
            let mut stream = http(&url, 5.0).expect("answers");
            assert_eq!(stream.next_frame().expect("a frame").data, jpeg);
            let error = stream.next_frame().expect_err("closed").to_string();
            assert!(!error.contains("secret") && !error.contains("token"), "{error}");
            let request = server.join().expect("served").to_ascii_lowercase();
            assert!(
                request.contains("get /video?token=1 http/1.1")
                    && request.contains("authorization: basic bwu6c2vjcmv0"),
                "{request}"
            );
        }
    }

    #[test]
    fn refusal_and_silence_are_told() {
        let (url, _) = serve(b"HTTP/1.1 401 No\r\n\r\n".to_vec(), Duration::ZERO);
        let error = http(&url, 5.0).err().expect("refused").to_string();
        assert!(error.contains("answers 401") && !error.contains("secret"), "{error}");
        let (url, _) = serve(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), Duration::from_secs(3));
        let error = http(&url, 1.0).expect("answers").next_frame().expect_err("silent").to_string();
        assert!(error.contains("silent for 1 s"), "{error}");
    }
}
