//! Frames that are kept to learn from: encoded when they come, written some together, so that a card is not
//! woken for each.

use crate::generations::Generations;
use crate::image::masked_jpeg;
use crate::samples::{Sample, Store, StoreError};
use crate::scene::NewSample;

/// So many samples are written together ...
const TOGETHER: usize = 8;
/// ... or what there is after so many rounds of the recorder, which come once a second or more often.
const LONGEST_WAIT: u32 = 10;

/// The samples' side of the recorder's thread.
pub(super) struct Keeping {
    /// None: there is no state folder.
    store: Option<Store>,
    /// None: as above.
    generations: Option<Generations>,
    ready: Vec<Ready>,
    rounds: u32,
    /// Why nothing could be kept the last time.
    failure: Option<String>,
}

/// A sample that only the disk is missing.
struct Ready {
    sample: Sample,
    jpeg: Vec<u8>,
    most_bytes: u64,
}

impl Keeping {
    /// Keeps samples in this store; what killed processes left there is removed.
    pub fn new(store: Option<Store>, generations: Option<Generations>) -> Self {
        if let Some(store) = &store {
            store.remove_leftovers();
        }
        Self { store, generations, ready: Vec::new(), rounds: 0, failure: None }
    }

    /// Takes what is new. Writes what waits if there is enough of it or it has waited long enough, or if this
    /// may be the `last` round.
    pub fn round(&mut self, new: Vec<NewSample>, last: bool) {
        for NewSample { sample, raw, hidden, most_bytes } in new {
            match masked_jpeg(&raw, &hidden) {
                Ok(jpeg) => self.ready.push(Ready { sample, jpeg: jpeg.into_owned(), most_bytes }),
                // It was decoded a moment ago; where that fails now, memory is short.
                Err(error) => tracing::debug!(sample = %sample.id, %error, "frame not kept"),
            }
        }
        self.rounds = if self.ready.is_empty() { 0 } else { self.rounds + 1 };
        if last || self.ready.len() >= TOGETHER || self.rounds >= LONGEST_WAIT {
            self.write();
        }
    }

    /// Where tuned models are.
    pub(super) fn generations(&self) -> Option<&Generations> {
        self.generations.as_ref()
    }

    /// Where samples are.
    pub(super) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Writes what waits.
    pub(super) fn write(&mut self) {
        self.rounds = 0;
        let mut failure = None;
        for Ready { sample, jpeg, most_bytes } in std::mem::take(&mut self.ready) {
            let camera = sample.camera.clone();
            match self.add(sample, &jpeg, most_bytes) {
                Ok(id) => tracing::debug!(camera, id, "frame kept"),
                Err(reason) => failure = Some(reason),
            }
        }
        if let Some(reason) = failure.as_ref().filter(|_| self.failure.is_none()) {
            tracing::warn!(reason, "frames cannot be kept to learn from");
        }
        self.failure = failure;
    }

    fn add(&self, sample: Sample, jpeg: &[u8], most_bytes: u64) -> Result<String, String> {
        let store = self.store.as_ref().ok_or("no state folder is set (state_dir)")?;
        let kept = store.add(sample, jpeg, most_bytes).map_err(|error: StoreError| error.to_string())?;
        Ok(kept.id.to_string())
    }
}
