//! One picture in, detections out: letterbox, session, decode, back to picture coordinates.

use crate::detection::{Detection, Times};
use crate::engine::{Arithmetic, Engine, Input, Session};
use crate::frame::{Picture, RawFrame};
use crate::image::{self, Letterbox};
use crate::model::{Channels, ClipOrder, Head, Manifest, ModelError, ModelFile, Placement};
use crate::retinanet::anchors::{self, Level};
use crate::retinanet::decode::{Clip, DecodeLevel, DecodeOptions, Decoder};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// A loaded and checked model; shared by all workers.
pub struct DetectorModel {
    /// Labels per class; unused classes are empty.
    pub labels: Vec<String>,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// The manifest.
    pub manifest: Manifest,
    engine: Engine,
    levels: Vec<Level>,
    table: Box<[[f32; 256]; 3]>,
    /// From bytes to the input's codes, where the engine takes codes.
    code_table: Option<Box<[[u8; 256]; 3]>>,
}

/// Why one frame gave no detections.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetectError {
    /// The frame cannot be decoded.
    #[error("{0}")]
    Damaged(#[from] image::DecodeError),
    /// Letterbox, engine or decoder failed.
    #[error("{0}")]
    Failed(String),
}

/// A detector of one thread, with its own memory.
pub struct Detector {
    model: Arc<DetectorModel>,
    session: Session,
    decoder: Decoder,
    letterbox: Letterbox,
    picture: Picture,
}

impl DetectorModel {
    /// Reads, checks and loads the model file.
    ///
    /// # Errors
    /// [`ModelError`]: exit code 78.
    pub fn load(path: &Path) -> Result<Arc<Self>, ModelError> {
        Self::load_as(path, Arithmetic::Best)
    }

    /// As [`DetectorModel::load`], in a given arithmetic.
    ///
    /// # Errors
    /// [`ModelError`]; also where the model cannot run in it.
    pub fn load_as(path: &Path, arithmetic: Arithmetic) -> Result<Arc<Self>, ModelError> {
        let file = ModelFile::read(path)?;
        let manifest = file.manifest()?.clone();
        let levels: Vec<Level> = manifest
            .anchors
            .levels
            .iter()
            .map(|level| Level { stride_yx: level.stride_yx, feature_hw: level.feature_hw, base: level.base.clone() })
            .collect();
        let sha256 = anchors::sha256(&anchors::anchors(&levels, manifest.anchors.offset));
        if sha256 != manifest.anchors.sha256 {
            return Err(ModelError::Manifest {
                path: file.path,
                field: "anchors.sha256".into(),
                reason: format!("{}, but the listed base boxes and strides give {sha256}", manifest.anchors.sha256),
            });
        }
        let engine = Engine::load(&file, arithmetic)?;
        let input = &manifest.input;
        let mut table = Box::new([[0.0; 256]; 3]);
        for (channel, values) in table.iter_mut().enumerate() {
            for (byte, value) in values.iter_mut().enumerate() {
                *value = (byte as f32 * input.scale_to_unit - input.mean[channel]) / input.std[channel];
            }
        }
        let code_table = engine.input_quantisation().map(|(scale, zero)| {
            // As QuantizeLinear does it: divided, rounded to even, moved.
            let code = |value: f32| ((value / scale).round_ties_even() + zero as f32).clamp(0.0, 255.0) as u8;
            Box::new(table.map(|values| values.map(code)))
        });
        Ok(Arc::new(Self { labels: manifest.labels(), sha256: file.sha256, engine, levels, table, code_table, manifest }))
    }

    /// What the model runs in, for people.
    #[must_use]
    pub fn arithmetic(&self) -> String {
        self.engine.arithmetic()
    }

    /// Nodes that run in float within an INT8 model: operator, name and why.
    #[must_use]
    pub fn leftovers(&self) -> Vec<&str> {
        self.engine.leftovers()
    }
}

impl Detector {
    /// A detector of its own for the calling thread, with `threads` threads for one frame.
    ///
    /// # Errors
    /// [`DetectError::Failed`] if the threads cannot be started.
    pub fn new(model: &Arc<DetectorModel>, threads: usize) -> Result<Self, DetectError> {
        let manifest = &model.manifest;
        let options = DecodeOptions {
            score_threshold: manifest.decode.score_threshold,
            topk_per_level: manifest.decode.topk_per_level,
            nms_iou: manifest.decode.nms_iou,
            max_detections: manifest.decode.max_detections,
            clip: match manifest.decode.clip {
                ClipOrder::BeforeNms => Clip::BeforeNms,
                ClipOrder::AfterNms => Clip::AfterNms,
            },
            drop_empty: true,
            weights: manifest.box_coder.weights,
            clamp: manifest.box_coder.clamp,
            logits: manifest.activation.logits,
        };
        let level = |(anchors, head): (_, &Head)| DecodeLevel { anchors, box_order: head.box_order };
        let anchors = anchors::anchors(&model.levels, manifest.anchors.offset);
        let levels = anchors.into_iter().zip(&manifest.heads).map(level).collect();
        Ok(Self {
            model: Arc::clone(model),
            session: model.engine.session(threads).map_err(DetectError::Failed)?,
            decoder: Decoder::new(levels, manifest.classes.len(), options),
            letterbox: Letterbox::new(manifest.input.width, manifest.input.height, manifest.letterbox.placement == Placement::Centre),
            picture: Picture::default(),
        })
    }

    /// Detects on one frame; boxes in pixels of its picture, best first. Scores are above `min_score` and the manifest's threshold.
    ///
    /// # Errors
    /// [`DetectError`].
    pub fn detect(&mut self, raw: &RawFrame, min_score: f32, times: &mut Times) -> Result<Vec<Detection>, DetectError> {
        let start = Instant::now();
        image::decode(raw, &mut self.picture)?;
        times.decode = start.elapsed();
        let (letterbox, picture, model) = (&mut self.letterbox, &self.picture, &self.model);
        let mut filled = start;
        let (placed, heads) = self
            .session
            .run(|input| {
                let from = Instant::now();
                let pad = model.manifest.letterbox.pad_rgb;
                let bgr = model.manifest.input.channels == Channels::Bgr;
                let placed = match (input, &model.code_table) {
                    (Input::Codes { data, row, pixel }, Some(table)) => {
                        let placed = letterbox.fit_codes(picture, pad, table, data, (row, pixel))?;
                        if bgr {
                            data.chunks_exact_mut(pixel).for_each(|codes| codes.swap(0, 2));
                        }
                        placed
                    }
                    (Input::Real(values), _) => {
                        let placed = letterbox.fit(picture, pad, &model.table, values)?;
                        if bgr {
                            let plane = values.len() / 3;
                            let (first, rest) = values.split_at_mut(plane);
                            first.swap_with_slice(&mut rest[plane..]);
                        }
                        placed
                    }
                    (Input::Codes { .. }, None) => return Err("the input takes codes".into()),
                };
                filled = Instant::now();
                times.preprocess = filled - from;
                Ok(placed)
            })
            .map_err(DetectError::Failed)?;
        times.inference = filled.elapsed();
        let from = Instant::now();
        let part = [(placed.x + placed.width) as f32, (placed.y + placed.height) as f32];
        let (w, h) = (self.picture.width, self.picture.height);
        let mut found = self.decoder.decode(heads, part, min_score).map_err(|e| DetectError::Failed(e.to_string()))?.to_vec();
        for detection in &mut found {
            detection.bbox = placed.to_picture(detection.bbox, w, h);
        }
        found.retain(|d| d.bbox[2] > d.bbox[0] && d.bbox[3] > d.bbox[1] && !self.model.labels[d.class].is_empty());
        times.postprocess = from.elapsed();
        Ok(found)
    }

    /// The picture decoded last.
    #[must_use]
    pub fn picture(&self) -> &Picture {
        &self.picture
    }
}
