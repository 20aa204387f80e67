//! Where a training is, as bytes: after a power cut it goes on from the last whole update and ends with the
//! same bytes.
//!
//! File (little-endian): the line `retinad-checkpoint/1`, 32 bytes SHA-256 of what the training is of, u64
//! updates, f64 last loss, an f64 normaliser a trained class, f32 weights and biases, f32 velocities of both, 32
//! bytes SHA-256 of all before.

use super::TuningError;
use super::hooks::TuningObserver;
use super::trainer::Trainer;
use crate::atomic_file;
use crate::regular_file::{self, ReadError};
use sha2::{Digest, Sha256};
use std::path::Path;

const MAGIC: &[u8] = b"retinad-checkpoint/1\n";
/// Longest file that is read: 64 anchors of 1,000 classes with 256 channels.
const MAX_BYTES: u64 = 256 << 20;

impl Trainer<'_> {
    /// The state after the last whole update.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.fingerprint());
        bytes.extend(self.update.to_le_bytes());
        bytes.extend(self.last_loss.to_le_bytes());
        bytes.extend(self.normalisers.iter().flat_map(|count| count.to_le_bytes()));
        for values in [&self.columns, &self.velocity] {
            let numbers = values.weights.iter().chain(&values.bias);
            bytes.extend(numbers.flat_map(|value| value.to_le_bytes()));
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        bytes
    }

    /// Writes the state, whole or not at all.
    ///
    /// # Errors
    /// [`TuningError::Write`].
    pub fn save(&self, path: &Path) -> Result<(), TuningError> {
        let name = || path.display().to_string();
        atomic_file::write(path, &self.checkpoint(), 0o600)
            .map_err(|source| TuningError::Write { path: name(), source })
    }

    /// Goes on from the file at `path` if there is one of this training. One that cannot be used is told to
    /// `observer` in a line, and training starts from the beginning.
    pub fn resume(&mut self, path: &Path, observer: &mut dyn TuningObserver) {
        let result = match regular_file::read(path, MAX_BYTES) {
            Err(ReadError::System(error)) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => Err(error.to_string()),
            Ok(bytes) => self.restore(&bytes),
        };
        if let Err(reason) = result {
            let error = TuningError::Checkpoint { path: path.display().to_string(), reason };
            observer.told(&format!("{error}; training starts from the beginning"));
        }
    }

    /// Takes a state; on an error the trainer is as it was.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err("it does not begin with `retinad-checkpoint/1`".into());
        };
        let whole = rest.len().checked_sub(32).map(|end| rest.split_at(end));
        let (rest, digest) = whole.ok_or("it is cut short")?;
        if Sha256::digest(&bytes[..bytes.len() - 32])[..] != *digest {
            return Err("its checksum does not hold; it is cut short or damaged".into());
        }
        let (fingerprint, rest) = rest.split_at_checked(32).ok_or("it is cut short")?;
        if fingerprint != self.fingerprint() {
            return Err("it is of another training (other samples, settings or model)".into());
        }
        let (numbers, values) =
            rest.split_at_checked(16 + 8 * self.normalisers.len()).ok_or("it is cut short")?;
        let (eights, (values, odd)) = (numbers.as_chunks::<8>().0, values.as_chunks::<4>());
        let count = self.columns.weights.len() + self.columns.bias.len();
        if values.len() != 2 * count || !odd.is_empty() {
            return Err(format!("{} numbers, must be {}", values.len(), 2 * count));
        }
        self.drop_begun_update();
        self.update = u64::from_le_bytes(eights[0]);
        self.last_loss = f64::from_le_bytes(eights[1]);
        for (count, bytes) in self.normalisers.iter_mut().zip(&eights[2..]) {
            *count = f64::from_le_bytes(*bytes);
        }
        let mut values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
        for part in [&mut self.columns, &mut self.velocity] {
            for (place, value) in part.weights.iter_mut().chain(&mut part.bias).zip(&mut values) {
                *place = value;
            }
        }
        Ok(())
    }

    /// Digest of settings, loss, samples and the head that training began with.
    fn fingerprint(&self) -> [u8; 32] {
        let (settings, head, set, loss) = self.identity();
        let mut digest = Sha256::new();
        digest.update(serde_json::to_string(settings).unwrap_or_default());
        digest.update([0]);
        digest.update(loss);
        digest.update([0]);
        digest.update(set);
        digest.update((head.classes as u64).to_le_bytes());
        head.weights.iter().chain(&head.bias).for_each(|value| digest.update(value.to_le_bytes()));
        digest.finalize().into()
    }
}
