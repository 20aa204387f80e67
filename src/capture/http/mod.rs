//! A camera over HTTP: an answer without end (multipart MJPEG), or one picture each time it is asked.

mod client;
mod lenient;
mod tls;

use super::Interrupt;
use super::stream::Source;
use crate::address::HttpAddress;
use client::Client;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a server that answers with single pictures is asked, where the settings do not say.
const USUAL_POLL: Duration = Duration::from_secs(1);

/// How a camera is asked.
pub(super) struct HttpOptions {
    /// Where, and as whom.
    pub address: HttpAddress,
    /// Certificates that are trusted; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Time from one request to the next. None: as the server's content type says.
    pub poll: Option<Duration>,
    /// Longest wait for an answer, and for the next piece of it.
    pub timeout: Duration,
}

/// The bytes of a camera's answers.
pub(super) struct Http {
    runtime: tokio::runtime::Runtime,
    reader: Reader,
    stop: Arc<Notify>,
}

struct Reader {
    client: Client,
    timeout: Duration,
    /// Time from one picture to the next, where each is asked for.
    poll: Option<Duration>,
    /// What is being read.
    body: Option<Incoming>,
    /// When the last picture was asked for.
    asked: Instant,
}

impl Http {
    /// Asks once, and waits for the beginning of the answer.
    ///
    /// # Errors
    /// In words.
    pub fn connect(options: HttpOptions) -> Result<Self, String> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let HttpOptions { address, ca_file, poll, timeout } = options;
        let client = Client::new(address, ca_file.as_deref())?;
        let mut reader = Reader { client, timeout, poll, body: None, asked: Instant::now() };
        runtime.block_on(reader.ask())?;
        Ok(Self { runtime, reader, stop: Arc::new(Notify::new()) })
    }
}

impl Reader {
    /// Sends a request and takes the answer's body.
    async fn ask(&mut self) -> Result<(), String> {
        self.asked = Instant::now();
        let response = tokio::time::timeout(self.timeout, self.client.get())
            .await
            .map_err(|_| format!("no answer in {} s", self.timeout.as_secs_f32()))??;
        if kind(&response)? == Kind::Picture && self.poll.is_none() {
            self.poll = Some(USUAL_POLL);
        }
        self.body = Some(response.into_body());
        Ok(())
    }

    /// The next piece of an answer; empty once a stream ended.
    async fn next_piece(&mut self, piece: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let Some(body) = &mut self.body else {
                tokio::time::sleep_until(self.asked + self.poll.unwrap_or_default()).await;
                self.ask().await?;
                continue;
            };
            let frame = tokio::time::timeout(self.timeout, body.frame());
            match frame.await.map_err(|_| format!("silent for {} s", self.timeout.as_secs_f32()))? {
                None if self.poll.is_none() => return Ok(()),
                None => self.body = None,
                Some(Err(error)) => return Err(client::words(&error)),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
                        piece.extend_from_slice(data);
                        return Ok(());
                    }
                }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Stream,
    Picture,
}

/// What the answer holds, by its content type. Many cameras send none, or a wrong one, with a good stream.
fn kind(response: &Response<Incoming>) -> Result<Kind, String> {
    let content_type =
        response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.split('/').next().unwrap_or_default() {
        "image" if essence.contains("jpeg") || essence.contains("jpg") || essence.contains("pjpeg") => {
            Ok(Kind::Picture)
        }
        "image" | "audio" => {
            Err(format!("answers {essence}, and only JPEG pictures and multipart MJPEG are read"))
        }
        "text" if essence != "text/plain" => Err(not_pictures(&essence)),
        "application" if essence.contains("json") || essence.contains("xml") => Err(not_pictures(&essence)),
        _ => Ok(Kind::Stream),
    }
}

fn not_pictures(essence: &str) -> String {
    format!(
        "answers {essence}, a page and not pictures: the address of the stream or of a still picture is wanted"
    )
}

impl Source for Http {
    fn read(&mut self, piece: &mut Vec<u8>) -> Result<(), String> {
        piece.clear();
        let (reader, stop) = (&mut self.reader, &self.stop);
        self.runtime.block_on(async {
            tokio::select! {
                read = reader.next_piece(piece) => read,
                () = stop.notified() => Err("was closed".into()),
            }
        })
    }

    fn ended(&mut self) -> String {
        "the server closed the stream".into()
    }

    fn interrupt(&self) -> Interrupt {
        let stop = Arc::clone(&self.stop);
        // A permit is kept for a reader that does not wait yet.
        Arc::new(move || stop.notify_one())
    }
}
