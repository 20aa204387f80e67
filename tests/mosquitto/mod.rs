//! A real Mosquitto on a free port, and its own client as an independent listener.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

fn program() -> Option<&'static str> {
    ["mosquitto", "/usr/sbin/mosquitto"]
        .into_iter()
        .find(|name| Command::new(name).arg("-h").output().is_ok())
}

/// A broker; killed on drop.
pub struct Broker {
    child: Child,
    pub port: u16,
    folder: tempfile::TempDir,
}

impl Broker {
    /// `None`, with a clear word, where Mosquitto is not installed. `extra` lines go into its configuration.
    pub fn start(extra: &str) -> Option<Self> {
        Self::start_on(free_port(), extra)
    }

    pub fn start_on(port: u16, extra: &str) -> Option<Self> {
        let Some(program) = program() else {
            println!("SKIPPED: mosquitto is not installed (apt-get install mosquitto mosquitto-clients)");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("mosquitto.conf");
        let anonymous = if extra.contains("password_file") { "false" } else { "true" };
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous {anonymous}\nuser root\n{extra}\n");
        std::fs::write(&config, text).expect("written");
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let broker = Self { child, port, folder };
        wait_for(5, "broker listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(broker)
    }

    pub fn kill(mut self) -> u16 {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.port
    }

    pub fn publish(&self, arguments: &[&str]) {
        let done = Command::new("mosquitto_pub")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .status()
            .expect("mosquitto_pub");
        assert!(done.success(), "{arguments:?}");
    }

    /// What the broker keeps: lines `<topic> <payload>`.
    pub fn retained(&self) -> Vec<String> {
        let arguments =
            ["-p", &self.port.to_string(), "-t", "#", "--retained-only", "-W", "1", "-F", "%t %p"];
        let out = Command::new("mosquitto_sub")
            .args(arguments)
            .output()
            .expect("mosquitto_sub (mosquitto-clients)")
            .stdout;
        String::from_utf8_lossy(&out).lines().map(str::to_owned).collect()
    }

    /// One message a line, over one connection, as fast as it goes.
    pub fn publish_lines(&self, topic: &str, lines: &str) {
        let mut child = Command::new("mosquitto_pub")
            .args(["-q", "1", "-l", "-p", &self.port.to_string(), "-t", topic])
            .stdin(Stdio::piped())
            .spawn()
            .expect("mosquitto_pub");
        child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("written");
        assert!(child.wait().expect("ends").success());
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A door to a broker that lets only MQTT 3.1.1 in, as brokers of that version do.
pub struct OldDoor {
    pub port: u16,
}

impl OldDoor {
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || Self::pass(client, to));
            }
        });
        Self { port }
    }

    fn pass(mut client: TcpStream, to: u16) -> std::io::Result<()> {
        let mut first = vec![0; 4096];
        let length = client.read(&mut first)?;
        // The level stands behind the name of the protocol.
        let level = first.windows(4).position(|bytes| bytes == b"MQTT").map_or(0, |at| first[at + 4]);
        if level == 5 {
            return client.write_all(&[0x20, 2, 0, 1]);
        }
        let mut broker = TcpStream::connect(("127.0.0.1", to))?;
        broker.write_all(&first[..length])?;
        let (mut from_broker, mut to_client) = (broker.try_clone()?, client.try_clone()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_broker, &mut to_client);
            let _ = to_client.shutdown(std::net::Shutdown::Both);
        });
        let _ = std::io::copy(&mut client, &mut broker);
        broker.shutdown(std::net::Shutdown::Both)
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("address").port()
}

/// `mosquitto_sub -t '#'`; lines `<retained 0|1> <topic> <payload>`.
pub struct Listener {
    child: Child,
    lines: Receiver<String>,
}

impl Listener {
    /// Returns once subscribed.
    pub fn start(port: u16) -> Self {
        // `-d` tells when the subscription stands; its lines start with a word that no topic of ours has.
        // Into a pipe it would hold its lines back; `stdbuf` makes it write each at once.
        let mut child = Command::new("stdbuf")
            .args([
                "-oL",
                "mosquitto_sub",
                "-d",
                "-q",
                "1",
                "-p",
                &port.to_string(),
                "-t",
                "#",
                "-F",
                "> %r %t %p",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub (mosquitto-clients)");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (to, lines) = channel();
        let (subscribed_to, subscribed) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                match line.strip_prefix("> ") {
                    Some(message) => drop(to.send(message.to_owned())),
                    None if line.starts_with("Subscribed") => drop(subscribed_to.send(())),
                    None => {}
                }
            }
        });
        subscribed.recv_timeout(Duration::from_secs(5)).expect("subscribed");
        Self { child, lines }
    }

    /// Lines until one holds `text`, that one last.
    pub fn until(&self, text: &str, seconds: u64) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut seen = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.contains(text);
                    seen.push(line);
                    if found {
                        return seen;
                    }
                }
                Err(_) => panic!("no line with {text:?} within {seconds} s; seen: {seen:#?}"),
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn wait_for(seconds: u64, what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !ready() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
