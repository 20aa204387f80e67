//! An HTTP camera that does what its script says: whole, odd, and hostile answers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens on one connection, after its request was read.
#[derive(Clone)]
pub enum Act {
    /// These bytes are sent.
    Send(Vec<u8>),
    /// This is sent a byte at a time, with a pause before each.
    Trickle(Vec<u8>, Duration),
    /// Nothing happens for so long.
    Wait(Duration),
}

/// The scripts of one connection after the other; the last one is repeated.
pub struct ScriptedCamera {
    /// `127.0.0.1:port`.
    pub authority: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl ScriptedCamera {
    pub fn start(scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let authority = listener.local_addr().expect("bound").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            for (number, socket) in listener.incoming().enumerate() {
                let Ok(socket) = socket else { return };
                let script = scripts[number.min(scripts.len() - 1)].clone();
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || perform(socket, &script, &kept));
            }
        });
        Self { authority, requests }
    }

    /// The requests so far, as they came.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

/// A client that goes away ends the script.
fn perform(mut socket: TcpStream, script: &[Act], requests: &Mutex<Vec<String>>) {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        match socket.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return,
        }
    }
    requests.lock().expect("not poisoned").push(String::from_utf8_lossy(&request).into_owned());
    for act in script {
        let sent = match act {
            Act::Send(bytes) => socket.write_all(bytes),
            Act::Trickle(bytes, pause) => bytes.iter().try_for_each(|byte| {
                std::thread::sleep(*pause);
                socket.write_all(&[*byte])
            }),
            Act::Wait(time) => {
                std::thread::sleep(*time);
                Ok(())
            }
        };
        if sent.is_err() {
            return;
        }
    }
}
