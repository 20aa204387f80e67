//! Named threads whose end is an event: a thread that ends unseen is how a daemon goes on without doing its
//! work.

use crossbeam_channel::Sender;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

/// Longest thread name that Linux shows, bytes.
const MAX_NAME: usize = 15;

/// A thread has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndNotice {
    /// The thread's name.
    pub thread: String,
    /// The panic's words, if it did not end by itself.
    pub panic: Option<String>,
}

/// Starts a thread whose end, by return or by panic, is told to `ends`.
///
/// # Errors
/// If the system refuses the thread.
pub fn spawn(
    name: &str,
    ends: &Sender<EndNotice>,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let (thread, ends) = (name.to_owned(), ends.clone());
    let watched = move || {
        let panic = catch_unwind(AssertUnwindSafe(body)).err().map(|panic| panic_text(&*panic));
        // Nobody listens any more once the daemon has ended.
        let _ = ends.send(EndNotice { thread, panic });
    };
    std::thread::Builder::new().name(short(name)).spawn(watched)
}

/// At most as many bytes of `name` as Linux shows, cut between two characters.
#[must_use]
pub fn short(name: &str) -> String {
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

/// What a panic said.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "without a word".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    #[test]
    fn the_end_of_a_thread_is_told_whatever_ended_it() {
        let (to, ends) = unbounded();
        spawn("well", &to, || {}).expect("a thread").join().expect("ended");
        assert_eq!(ends.recv(), Ok(EndNotice { thread: "well".into(), panic: None }));
        spawn("badly", &to, || panic!("no {}", "more")).expect("a thread").join().expect("ended");
        assert_eq!(
            ends.recv(),
            Ok(EndNotice { thread: "badly".into(), panic: Some("panicked: no more".into()) })
        );
    }

    #[test]
    fn a_name_is_cut_between_characters() {
        assert_eq!(
            (short("cam-front"), short("cam-12345678901234"), short("cam-1234567890ä")).1,
            "cam-12345678901"
        );
        assert_eq!(short("cam-1234567890ä"), "cam-1234567890");
    }
}
