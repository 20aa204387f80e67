//! Cameras behind a stream: multipart MJPEG or single pictures over HTTP, or a child process that writes
//! frames to its stdout.

use super::child::ChildProcess;
use super::framing::{Framer, FramingError};
use super::http::{Http, HttpOptions};
use super::{Camera, CaptureError, Interrupt};
use crate::address::HttpAddress;
use crate::frame::RawFrame;
use crate::secret;
use crate::settings::StreamSource;
use std::time::Duration;

/// What a stream's bytes come from.
pub(super) trait Source: Send {
    /// The next piece; empty at the end.
    fn read(&mut self, piece: &mut Vec<u8>) -> Result<(), String>;
    /// Why it ended, once it did.
    fn ended(&mut self) -> String;
    /// Makes a pending `read` return.
    fn interrupt(&self) -> Interrupt;
}

/// A stream, cut into frames.
pub struct Stream {
    what: String,
    source: Box<dyn Source>,
    framer: Framer,
    piece: Vec<u8>,
}

impl Stream {
    /// Connects, waiting at most `timeout` for an answer, or starts the child process.
    ///
    /// # Errors
    /// [`CaptureError::Open`]. It calls the stream `what`, which must not hold a password.
    pub fn open(what: String, settings: &StreamSource, timeout: Duration) -> Result<Self, CaptureError> {
        let framer = Framer::new(settings.format, settings.width, settings.height);
        let source = open_source(settings, timeout).map_err(|reason| CaptureError::Open {
            what: what.clone(),
            reason: secret::redacted(&reason).into_owned(),
        })?;
        Ok(Self { what, source, framer, piece: Vec::new() })
    }

    fn stopped(&self, reason: &str) -> CaptureError {
        CaptureError::Stopped { what: self.what.clone(), reason: secret::redacted(reason).into_owned() }
    }
}

fn open_source(settings: &StreamSource, timeout: Duration) -> Result<Box<dyn Source>, String> {
    let resolve = |text: &String| secret::resolve(text).map_err(|error| error.to_string());
    if let Some((program, arguments)) = settings.command.split_first() {
        let arguments: Vec<String> = arguments.iter().map(resolve).collect::<Result<_, _>>()?;
        // What it is told in secret it may repeat.
        let _ = secret::redacted_arguments(&arguments);
        return Ok(Box::new(ChildProcess::start(program, &arguments)?));
    }
    let options = HttpOptions {
        address: HttpAddress::parse(&resolve(&settings.url)?).map_err(|error| error.to_string())?,
        ca_file: Some(settings.ca_file.clone()).filter(|path| !path.as_os_str().is_empty()),
        poll: (settings.poll_s > 0.0).then(|| Duration::from_secs_f32(settings.poll_s)),
        timeout,
    };
    Ok(Box::new(Http::connect(options)?))
}

impl Camera for Stream {
    fn next_frame(&mut self) -> Result<RawFrame, CaptureError> {
        loop {
            match self.framer.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(FramingError::Damaged(reason)) => {
                    return Err(CaptureError::Damaged { what: self.what.clone(), reason });
                }
                Err(FramingError::Broken(reason)) => return Err(self.stopped(&reason)),
            }
            self.source.read(&mut self.piece).map_err(|reason| self.stopped(&reason))?;
            if self.piece.is_empty() {
                let reason = self.source.ended();
                return Err(self.stopped(&reason));
            }
            self.framer.push(&self.piece);
        }
    }

    fn interrupt(&self) -> Option<Interrupt> {
        Some(self.source.interrupt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{CameraSettings, Source as CameraSource, StreamFormat};
    use std::io::{Read, Write};
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
        assert!(error.ends_with("stopped: was closed"), "{error}");
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
                request.contains("get /video?token=1 http/1.1") && !request.contains("authorization"),
                "{request}"
            );
        }
    }

    #[test]
    fn refusal_and_silence_are_told() {
        let (url, _) =
            serve(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate\r\n\r\n".to_vec(), Duration::ZERO);
        let error = http(&url, 5.0).err().expect("refused").to_string();
        assert!(error.contains("answers 401") && !error.contains("secret"), "{error}");
        let (url, _) = serve(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), Duration::from_secs(3));
        let error = http(&url, 1.0).expect("answers").next_frame().expect_err("silent").to_string();
        assert!(error.contains("silent for 1 s"), "{error}");
    }
}
