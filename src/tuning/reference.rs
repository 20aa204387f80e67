//! The reference set: single cells of features from pictures of before, so that tuning forgets nothing.
//!
//! For a 1 × 1 convolution a cell is a whole sample, and no picture can be seen from it. Kept are cells with
//! positives, and the hardest of the others.
//!
//! File (little-endian): the line `retinad-reference/1`, 32 bytes SHA-256 of the model's body, u16 channels,
//! u16 anchors, u16 classes, u32 cells; per cell u8 level, u8 positives, u8 ignored, the codes, `(u8 anchor, u16 class, u8
//! quality)` a positive, u8 anchor an ignored one; 32 bytes SHA-256 of all before.

use super::TuningError;
use super::features::PictureFeatures;
use super::head::Head;
use super::shuffle::Random;
use crate::atomic_file;
use crate::model::ClassLayer;
use crate::regular_file;
use sha2::{Digest, Sha256};
use std::path::Path;

const MAGIC: &[u8] = b"retinad-reference/1\n";
/// Largest file that is read or written.
pub const MAX_BYTES: usize = 4 << 20;

/// A cell with its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Index of the level.
    pub level: u8,
    /// Codes of its features.
    pub codes: Vec<u8>,
    /// `(anchor, class, quality of 255)`.
    pub positives: Vec<(u8, u16, u8)>,
    /// Anchors that no class learns from.
    pub ignored: Vec<u8>,
}

/// Cells of features of one model's body.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Whose features they are ([`ClassLayer::body_sha256`]).
    pub body_sha256: String,
    /// Anchors of a cell.
    pub anchors: usize,
    /// Classes that the targets know.
    pub classes: usize,
    /// In the order in which they were kept.
    pub cells: Vec<Cell>,
}

impl Reference {
    /// No cells.
    #[must_use]
    pub fn empty(layer: &ClassLayer) -> Self {
        Self { body_sha256: layer.body_sha256.clone(), anchors: 0, classes: 0, cells: Vec::new() }
    }

    /// Reads a file made for the body of `layer`.
    ///
    /// # Errors
    /// [`TuningError::Reference`] if it is none, is damaged, or of another body.
    pub fn read(path: &Path, layer: &ClassLayer) -> Result<Self, TuningError> {
        let bytes = regular_file::read(path, MAX_BYTES as u64).map_err(|error| error.to_string());
        bytes
            .and_then(|bytes| Self::parse(&bytes, layer))
            .map_err(|reason| TuningError::Reference { path: path.display().to_string(), reason })
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`TuningError::Reference`] if it would be too large, [`TuningError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), TuningError> {
        let (bytes, name) = (self.bytes(), path.display().to_string());
        if bytes.len() > MAX_BYTES {
            let reason = format!("{} bytes, must be at most {MAX_BYTES}", bytes.len());
            return Err(TuningError::Reference { path: name, reason });
        }
        atomic_file::write(path, &bytes, 0o644).map_err(|source| TuningError::Write { path: name, source })
    }

    /// Digest of the file's contents.
    pub(super) fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.bytes()).into()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let body = (0..32).map(|at| {
            let digits = self.body_sha256.get(2 * at..2 * at + 2).unwrap_or("00");
            u8::from_str_radix(digits, 16).unwrap_or(0)
        });
        bytes.extend(body);
        let channels = self.cells.first().map_or(0, |cell| cell.codes.len());
        bytes.extend((channels as u16).to_le_bytes());
        bytes.extend((self.anchors as u16).to_le_bytes());
        bytes.extend((self.classes as u16).to_le_bytes());
        bytes.extend((self.cells.len() as u32).to_le_bytes());
        for cell in &self.cells {
            bytes.extend([cell.level, cell.positives.len() as u8, cell.ignored.len() as u8]);
            bytes.extend(&cell.codes);
            for (anchor, class, quality) in &cell.positives {
                bytes.push(*anchor);
                bytes.extend(class.to_le_bytes());
                bytes.push(*quality);
            }
            bytes.extend(&cell.ignored);
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        bytes
    }

    fn parse(bytes: &[u8], layer: &ClassLayer) -> Result<Self, String> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err("it does not begin with `retinad-reference/1`".into());
        };
        let whole = rest.len().checked_sub(32).map(|end| rest.split_at(end));
        let (mut rest, digest) = whole.ok_or("it is cut short")?;
        if Sha256::digest(&bytes[..bytes.len() - 32])[..] != *digest {
            return Err("its checksum does not hold; it is cut short or damaged".into());
        }
        let mut take = |count: usize| {
            let (taken, left) = rest.split_at_checked(count).ok_or("its counts do not hold")?;
            rest = left;
            Ok::<_, String>(taken)
        };
        let body_sha256: String = take(32)?.iter().map(|byte| format!("{byte:02x}")).collect();
        if body_sha256 != layer.body_sha256 {
            return Err("it was made with another model".into());
        }
        let two = |bytes: &[u8]| usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let (channels, anchors, classes) = (two(take(2)?), two(take(2)?), two(take(2)?));
        let count = take(4)?;
        let count = u32::from_le_bytes([count[0], count[1], count[2], count[3]]);
        if channels != layer.inputs && count > 0 {
            return Err(format!("{channels} channels, the model has {}", layer.inputs));
        }
        let outputs = layer.bias.len() / layer.layers;
        if count > 0 && (anchors == 0 || !outputs.is_multiple_of(anchors) || anchors * classes > outputs) {
            return Err(format!("{anchors} anchors of {classes} classes, the model has {outputs} outputs"));
        }
        let mut cells = Vec::new();
        for at in 0..count {
            let head = take(3)?;
            let (level, positives, ignored) = (head[0], usize::from(head[1]), usize::from(head[2]));
            let codes = take(channels)?.to_vec();
            let positives: Vec<(u8, u16, u8)> =
                take(4 * positives)?.chunks_exact(4).map(|p| (p[0], two(&p[1..3]) as u16, p[3])).collect();
            let ignored = take(ignored)?.to_vec();
            let fits = usize::from(level) < layer.levels.len()
                && positives.iter().all(|(a, class, quality)| {
                    usize::from(*a) < anchors && usize::from(*class) < classes && *quality > 0
                })
                && ignored.iter().all(|anchor| usize::from(*anchor) < anchors);
            if !fits {
                return Err(format!("cell {at} names a level, anchor or class that the model lacks"));
            }
            cells.push(Cell { level, codes, positives, ignored });
        }
        if !rest.is_empty() {
            return Err(format!("{} bytes after its last cell", rest.len()));
        }
        Ok(Self { body_sha256, anchors, classes, cells })
    }
}

/// Chooses cells from pictures that pass one by one.
pub struct ReferenceBuilder {
    reference: Reference,
    head: Head,
    codes: Vec<(f32, i32)>,
    /// Bytes for cells with positives of each class, and for all hard negatives.
    quotas: (usize, usize),
    /// Cells that were kept, and that were seen, of each class; of hard negatives last.
    kept: Vec<Vec<usize>>,
    seen: Vec<usize>,
    random: Random,
}

/// The share of a reference set that hard negatives take.
const NEGATIVE_SHARE: f64 = 0.35;
/// Hard negatives of a picture: of each level the cells without positives that score highest.
const NEGATIVES: usize = 4;
/// Bytes of a cell beside its codes, at most with few exceptions.
const OVERHEAD: usize = 16;

impl ReferenceBuilder {
    /// For a model with the last class layer `layer`, which has `classes` classes; the file will have about
    /// `bytes`.
    #[must_use]
    pub fn new(layer: &ClassLayer, classes: usize, bytes: usize, seed: u64) -> Self {
        let cells = bytes.min(MAX_BYTES) / (layer.inputs + OVERHEAD);
        let negatives = (cells as f64 * NEGATIVE_SHARE) as usize;
        let code = |level: &crate::model::ClassLevel| (level.input_codes.scale, level.input_codes.zero_point);
        let head = Head::of(layer, classes);
        Self {
            reference: Reference { anchors: head.anchors, classes, ..Reference::empty(layer) },
            head,
            codes: layer.levels.iter().map(code).collect(),
            quotas: ((cells - negatives) / classes.max(1), negatives),
            kept: vec![Vec::new(); classes + 1],
            seen: vec![0; classes + 1],
            random: Random::new(seed, 0),
        }
    }

    /// Offers the cells of one picture. Of each class, and of the hard negatives, a uniform sample of all that
    /// were offered is kept; a cell with an object that the model has no class for is not.
    pub fn offer(&mut self, picture: &PictureFeatures) {
        for (at, level) in picture.levels.iter().enumerate() {
            let inputs = self.head.inputs;
            let count = level.codes.len() / inputs;
            let mut cells: Vec<Option<Cell>> = vec![None; count];
            for positive in &level.positives {
                let cell = positive.cell as usize;
                let codes = &level.codes[cell * inputs..(cell + 1) * inputs];
                let kept = cells[cell].get_or_insert_with(|| Cell {
                    level: at as u8,
                    codes: codes.to_vec(),
                    positives: Vec::new(),
                    ignored: Vec::new(),
                });
                kept.positives.push((positive.anchor, positive.class, positive.quality));
            }
            let mut hard: Vec<(f32, usize)> = (0..count)
                .filter(|cell| cells[*cell].is_none())
                .map(|cell| (self.highest(at, &level.codes[cell * inputs..(cell + 1) * inputs]), cell))
                .collect();
            hard.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            for (_, cell) in hard.into_iter().take(NEGATIVES) {
                let codes = level.codes[cell * inputs..(cell + 1) * inputs].to_vec();
                cells[cell] =
                    Some(Cell { level: at as u8, codes, positives: Vec::new(), ignored: Vec::new() });
            }
            for (cell, anchor) in &level.ignored {
                if let Some(cell) = &mut cells[*cell as usize] {
                    cell.ignored.push(*anchor);
                }
            }
            for cell in cells.into_iter().flatten() {
                self.sample(cell);
            }
        }
    }

    /// The set.
    #[must_use]
    pub fn finish(self) -> Reference {
        self.reference
    }

    /// Reservoir sampling (Vitter's algorithm R), class by class.
    fn sample(&mut self, cell: Cell) {
        let negatives = self.kept.len() - 1;
        let class = cell.positives.first().map_or(negatives, |(_, class, _)| usize::from(*class));
        if cell.positives.iter().any(|(_, class, _)| usize::from(*class) >= negatives) {
            return;
        }
        let seen = &mut self.seen[class];
        *seen += 1;
        let quota = if class == negatives { self.quotas.1 } else { self.quotas.0 };
        if self.kept[class].len() < quota {
            self.kept[class].push(self.reference.cells.len());
            self.reference.cells.push(cell);
        } else {
            let place = self.random.below(*seen);
            if place < quota {
                self.reference.cells[self.kept[class][place]] = cell;
            }
        }
    }

    /// The highest logit of a cell.
    fn highest(&self, level: usize, codes: &[u8]) -> f32 {
        let (scale, zero) = self.codes[level];
        let values: Vec<f32> = codes.iter().map(|code| (i32::from(*code) - zero) as f32 * scale).collect();
        self.head.logits(level, &values).fold(f32::MIN, f32::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClassLevel, Quantisation};
    use crate::tuning::features::{LevelFeatures, Positive};

    fn layer() -> ClassLayer {
        let codes = Quantisation { scale: 0.1, zero_point: 20, signed: false };
        let level = ClassLevel { input: "x".into(), input_codes: codes, output_codes: codes };
        ClassLayer {
            inputs: 4,
            layers: 1,
            weights: (0..4 * 6).map(|i| (i as f32 * 0.7).sin()).collect(),
            bias: vec![-4.0; 6],
            levels: vec![level; 2],
            body_sha256: "5a".repeat(32),
        }
    }

    fn picture(seed: usize) -> PictureFeatures {
        let level = |cells: usize| LevelFeatures {
            codes: (0..cells * 4).map(|i| ((i * 31 + seed * 7) % 256) as u8).collect(),
            positives: vec![
                Positive { cell: 1, anchor: 0, class: (seed % 3) as u16, quality: 200 },
                Positive { cell: 1, anchor: 1, class: (seed % 3) as u16, quality: 90 },
            ],
            ignored: vec![(1, 1), (2, 0)],
            false_alarms: Vec::new(),
        };
        PictureFeatures { levels: vec![level(16), level(4)], unmatched: 0, weight: 1.0 }
    }

    fn built(bytes: usize) -> Reference {
        let mut builder = ReferenceBuilder::new(&layer(), 3, bytes, 1);
        (0..200).for_each(|seed| builder.offer(&picture(seed)));
        builder.finish()
    }

    #[test]
    fn a_set_holds_all_classes_and_hard_negatives_within_its_bytes_and_reads_back() {
        let reference = built(4000);
        let of = |class: u16| {
            reference.cells.iter().filter(|c| c.positives.first().is_some_and(|p| p.1 == class)).count()
        };
        assert!((0..3).all(|class| of(class) == of(0) && of(0) > 20), "{} {} {}", of(0), of(1), of(2));
        assert!(reference.cells.iter().filter(|cell| cell.positives.is_empty()).count() > 50);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("reference.bin");
        reference.write(&path).expect("written");
        assert!(std::fs::metadata(&path).expect("there").len() <= 4500);
        assert_eq!(Reference::read(&path, &layer()).expect("reads"), reference);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused_in_one_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("reference.bin");
        let whole = built(2000).bytes();
        let mut cases = vec![(Vec::new(), "begin"), (b"text".to_vec(), "begin")];
        for length in [30, 60, whole.len() / 2, whole.len() - 1] {
            cases.push((whole[..length].to_vec(), "cut short"));
        }
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        cases.push((flipped, "damaged"));
        for (bytes, words) in cases {
            std::fs::write(&path, &bytes).expect("written");
            let error = Reference::read(&path, &layer()).expect_err("refused").to_string();
            let named = error.contains("reference.bin") && error.contains(words);
            assert!(named && error.lines().count() == 1, "{error}");
        }
        std::fs::write(&path, &whole).expect("written");
        let other = ClassLayer { body_sha256: "00".repeat(32), ..layer() };
        assert!(Reference::read(&path, &other).expect_err("refused").to_string().contains("another model"));
        assert!(
            Reference::read(folder.path(), &layer()).expect_err("refused").to_string().contains("folder")
        );
    }
}
