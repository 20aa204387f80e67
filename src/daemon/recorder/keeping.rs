//! Frames that are kept to learn from: encoded when they come, written some together, so that a card is not
//! woken for each.

use crate::frame::{Encoding, Picture, RawFrame, Turn};
use crate::image::{self, DecodeError};
use crate::samples::{Sample, Store, StoreError};
use crate::scene::NewSample;
use std::borrow::Cow;

/// So many samples are written together ...
const TOGETHER: usize = 8;
/// ... or what there is after so many rounds of the recorder, which come once a second or more often.
const LONGEST_WAIT: u32 = 30;

/// The samples' side of the recorder's thread.
pub(super) struct Keeping {
    /// None: there is no state folder.
    store: Option<Store>,
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
    pub fn new(store: Option<Store>) -> Self {
        if let Some(store) = &store {
            store.remove_leftovers();
        }
        Self { store, ready: Vec::new(), rounds: 0, failure: None }
    }

    /// Takes what is new. Writes what waits if there is enough of it or it has waited long enough, or if this is
    /// the `last` round.
    pub fn round(&mut self, new: Vec<NewSample>, last: bool) {
        for NewSample { sample, raw, most_bytes } in new {
            match upright_jpeg(&raw) {
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

    fn write(&mut self) {
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

/// The frame as an upright JPEG: as it came where it is one that no reader would turn.
fn upright_jpeg(raw: &RawFrame) -> Result<Cow<'_, [u8]>, DecodeError> {
    if raw.encoding == Encoding::Jpeg
        && raw.turn == Turn::NONE
        && image::turn_of_file(&raw.data) == Turn::NONE
    {
        return Ok(Cow::Borrowed(&raw.data));
    }
    let mut picture = Picture::default();
    image::decode(raw, &mut picture)?;
    image::encode_jpeg(&picture).map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_is_kept_as_it_came_and_everything_else_upright() {
        let jpeg = include_bytes!("../../../examples/pictures/coffee.jpg").to_vec();
        let raw = |encoding, turn, data| RawFrame { width: 0, height: 0, encoding, turn, data };
        let plain = raw(Encoding::Jpeg, Turn::NONE, jpeg.clone());
        assert_eq!(upright_jpeg(&plain).expect("a JPEG"), jpeg.as_slice());
        let size = |jpeg: &[u8]| {
            let mut picture = Picture::default();
            let frame = raw(Encoding::Jpeg, Turn::NONE, jpeg.to_vec());
            image::decode(&frame, &mut picture).expect("a JPEG");
            (picture.width, picture.height)
        };
        let (width, height) = size(&jpeg);
        let hung_sideways = raw(Encoding::Jpeg, Turn::quarters(1), jpeg);
        assert_eq!(size(&upright_jpeg(&hung_sideways).expect("a JPEG")), (height, width));
        let grey =
            RawFrame { width: 40, height: 30, ..raw(Encoding::Grey, Turn::quarters(1), vec![128; 40 * 30]) };
        assert_eq!(size(&upright_jpeg(&grey).expect("a JPEG")), (30, 40));
    }
}
