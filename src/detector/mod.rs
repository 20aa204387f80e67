//! One picture in, detections out: letterbox, session, decode, back to picture coordinates.

mod generation;
mod parts;
mod self_test;

pub use generation::{Generation, anchors_sha256};
pub use self_test::SelfTestError;

use crate::detection::{Detection, Heads, Times};
use crate::engine::{Input, Session};
use crate::frame::{Picture, RawFrame};
use crate::image::{self, Fit, Letterbox};
use crate::model::{Channels, ClipOrder, Head, LetterboxSpec, Placement};
use crate::retinanet::anchors;
use crate::retinanet::decode::{Clip, DecodeLevel, DecodeOptions, Decoder};
use crate::retinanet::scores::ScoreForm;
use generation::Plan;
use std::sync::Arc;
use std::time::Instant;

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

/// What the manifest says of decoding its heads.
pub(crate) fn decoding(generation: &Generation) -> (Vec<DecodeLevel>, DecodeOptions) {
    decoding_at(generation, &generation.own)
}

fn decoding_at(generation: &Generation, plan: &Plan) -> (Vec<DecodeLevel>, DecodeOptions) {
    let manifest = &generation.manifest;
    let options = DecodeOptions {
        score_threshold: manifest.decode.score_threshold,
        topk_per_level: manifest.decode.topk_per_level,
        nms_iou: manifest.decode.nms_iou,
        voting: manifest.decode.box_voting,
        max_detections: manifest.decode.max_detections,
        clip: match manifest.decode.clip {
            ClipOrder::BeforeNms => Clip::BeforeNms,
            ClipOrder::AfterNms => Clip::AfterNms,
        },
        drop_empty: true,
        coder: manifest.box_coder,
        scores: ScoreForm {
            classes: manifest.classes.len(),
            activation: manifest.activation.kind,
            logits: manifest.activation.logits,
            background: manifest.activation.background,
        },
    };
    let level = |(anchors, head): (_, &Head)| DecodeLevel {
        anchors,
        class_channels: head.class_channels,
        box_order: head.box_order,
    };
    let anchors = anchors::anchors(&plan.levels, manifest.anchors.offset);
    (anchors.into_iter().zip(&manifest.heads).map(level).collect(), options)
}

/// How the manifest wants a picture to fill the input.
pub(crate) fn fit(spec: &LetterboxSpec) -> Fit {
    match (spec.keep_aspect, spec.placement) {
        (false, _) => Fit::Stretch,
        (true, Placement::Centre) => Fit::Centre,
        (true, Placement::TopLeft) => Fit::TopLeft,
    }
}

/// A detector of one thread, with its own memory.
pub struct Detector {
    generation: Arc<Generation>,
    threads: usize,
    /// For the model's own size.
    own: Fitted,
    /// For its further sizes, once a picture asked for them.
    further: Vec<Option<Fitted>>,
    /// Which plan saw the last picture.
    used: usize,
    picture: Picture,
    /// Memory that one picture may take, bytes.
    picture_bytes: usize,
}

/// What one size of the input takes.
struct Fitted {
    session: Session,
    decoder: Decoder,
    letterbox: Letterbox,
}

impl Fitted {
    fn new(generation: &Generation, number: usize, threads: usize) -> Result<Self, DetectError> {
        let plan = generation.plan(number).map_err(DetectError::Failed)?;
        let (levels, options) = decoding_at(generation, plan);
        let [width, height] = plan.size;
        Ok(Self {
            session: plan.engine.session(threads).map_err(DetectError::Failed)?,
            decoder: Decoder::new(levels, options),
            letterbox: Letterbox::new(width, height, fit(&generation.manifest.letterbox)),
        })
    }
}

impl Detector {
    /// A detector of its own for the calling thread, with `threads` threads for one frame.
    ///
    /// # Errors
    /// [`DetectError::Failed`] if the threads cannot be started.
    pub fn new(generation: &Arc<Generation>, threads: usize) -> Result<Self, DetectError> {
        Ok(Self {
            generation: Arc::clone(generation),
            threads,
            own: Fitted::new(generation, 0, threads)?,
            further: (1..generation.plans()).map(|_| None).collect(),
            used: 0,
            picture: Picture::default(),
            picture_bytes: image::PICTURE_BYTES,
        })
    }

    /// Sets the memory that one picture may take while it is decoded, bytes; larger ones are damaged.
    pub fn set_picture_bytes(&mut self, bytes: usize) {
        self.picture_bytes = bytes;
    }

    /// Detects on one frame; boxes in pixels of its picture, best first. Scores are above `min_score` and the
    /// manifest's threshold.
    ///
    /// # Errors
    /// [`DetectError`].
    pub fn detect(
        &mut self,
        raw: &RawFrame,
        min_score: f32,
        times: &mut Times,
    ) -> Result<Vec<Detection>, DetectError> {
        self.decode(raw, times)?;
        self.detect_decoded(min_score, times)
    }

    /// Decodes a frame, for [`Detector::picture`] and [`Detector::detect_decoded`].
    ///
    /// # Errors
    /// [`DetectError::Damaged`].
    pub fn decode(&mut self, raw: &RawFrame, times: &mut Times) -> Result<(), DetectError> {
        let start = Instant::now();
        image::decode_within(raw, &mut self.picture, self.picture_bytes)?;
        times.decode = start.elapsed();
        Ok(())
    }

    /// As [`Detector::detect`], on the picture that was decoded last.
    ///
    /// # Errors
    /// [`DetectError::Failed`].
    pub fn detect_decoded(
        &mut self,
        min_score: f32,
        times: &mut Times,
    ) -> Result<Vec<Detection>, DetectError> {
        let (picture, generation) = (&self.picture, &self.generation);
        let (w, h) = (picture.width, picture.height);
        let number = generation.plan_for(w, h);
        let fitted = match number.checked_sub(1).and_then(|at| self.further.get_mut(at)) {
            None => &mut self.own,
            Some(Some(fitted)) => fitted,
            Some(none) => none.insert(Fitted::new(generation, number, self.threads)?),
        };
        self.used = number;
        let Fitted { session, decoder, letterbox } = fitted;
        let mut filled = Instant::now();
        let (placed, heads) = session
            .run(|input| {
                let from = Instant::now();
                let pad = generation.manifest.letterbox.pad_rgb;
                let bgr = generation.manifest.input.channels == Channels::Bgr;
                let placed = match (input, &generation.code_table) {
                    (Input::Codes { data, row, pixel }, Some(table)) => {
                        let placed = letterbox.fit_codes(picture, pad, table, data, (row, pixel))?;
                        if bgr {
                            data.chunks_exact_mut(pixel).for_each(|codes| codes.swap(0, 2));
                        }
                        placed
                    }
                    (Input::Real(values), _) => {
                        let placed = letterbox.fit(picture, pad, &generation.table, values)?;
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
        let mut found =
            decoder.decode(heads, part, min_score).map_err(|e| DetectError::Failed(e.to_string()))?.to_vec();
        for detection in &mut found {
            detection.bbox = placed.to_picture(detection.bbox, w, h);
        }
        found.retain(|d| {
            d.bbox[2] > d.bbox[0] && d.bbox[3] > d.bbox[1] && !self.generation.labels[d.class].is_empty()
        });
        times.postprocess = from.elapsed();
        Ok(found)
    }

    /// Width and height of the input that the last picture was brought to, before the first the model's own.
    #[must_use]
    pub fn input_size(&self) -> [u32; 2] {
        self.generation.plan(self.used).map_or(self.generation.own.size, |plan| plan.size)
    }

    /// The anchors' levels at that size.
    pub(crate) fn levels(&self) -> &[anchors::Level] {
        &self.generation.plan(self.used).unwrap_or(&self.generation.own).levels
    }

    /// The model that it runs.
    #[must_use]
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Heads of the last picture, and the tensors that the manifest taps (`generation().manifest.taps` names
    /// them, in that order).
    #[must_use]
    pub fn heads(&self) -> &Heads {
        let further = self.used.checked_sub(1).and_then(|at| self.further.get(at)?.as_ref());
        further.unwrap_or(&self.own).session.heads()
    }

    /// Gives the picture decoded last away, with its memory.
    #[must_use]
    pub fn take_picture(&mut self) -> Picture {
        std::mem::take(&mut self.picture)
    }

    /// The picture decoded last.
    #[must_use]
    pub fn picture(&self) -> &Picture {
        &self.picture
    }
}
