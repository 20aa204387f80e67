//! Features: what the last class layer sees of a picture, as the INT8 engine's own codes, with what each
//! anchor ought to say.
//!
//! A copy of the model in memory is tapped at the layer's input; the file is not changed. A picture of the
//! shipped model is 2,125 cells of 128 codes, 272 kB.

use super::TuningError;
use super::assignment::assign;
use super::export::real_logits;
use super::head::Head;
use super::hooks::{FalseAlarm, LabelledPicture, Rest};
use crate::detection::Tensor;
use crate::detector::{Detector, Generation, decoding, fit};
use crate::image::{Letterbox, Placed};
use crate::model::{BoxCoder, BoxOrder, ClassLayer, ModelFile, Tap};
use crate::retinanet::anchors;
use crate::retinanet::decode::{DecodeLevel, DecodeOptions, read_box};
use crate::retinanet::matching::{Limits, Match, match_anchors};
use crate::retinanet::nms::iou;
use crate::settings::InputSize;

/// Most boxes of a picture.
pub const MAX_TRUTHS: usize = 500;

/// IoU from which an anchor is a positive, and below which it is background ([P], detectron2, torchvision).
const LIMITS: Limits = Limits { positive: 0.5, background: 0.4 };

/// IoU with a box in which people say that nothing is, from which an anchor learns that. Lower than for
/// background, because an anchor moves and stretches its box: one that overlaps it less may have predicted
/// it.
const DENIED: f32 = 0.3;
/// IoU with such a box from which a box that was found is the same.
const SAME: f32 = 0.5;
/// How much more a cell counts about which a person gave a verdict than one of a picture that was labelled: a
/// few of them stand against thousands, and whoever says that this is no cat does not want to be told again.
const VERDICT_WEIGHT: f32 = 8.0;

/// An anchor of a cell that answers for an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Positive {
    /// `y * width + x` within the level.
    pub cell: u32,
    /// Anchor of the cell.
    pub anchor: u8,
    /// Class of its object.
    pub class: u16,
    /// IoU of the box predicted there with the object's, in 1 to 255: of 255.
    pub quality: u8,
}

/// An anchor of a cell that told a false alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FalseAlarmCell {
    /// `y * width + x` within the level.
    pub cell: u32,
    /// Anchor of the cell.
    pub anchor: u8,
    /// What it took something for.
    pub class: u16,
}

/// One level of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelFeatures {
    /// `[cell][channel]`.
    pub codes: Vec<u8>,
    /// By cell, then anchor.
    pub positives: Vec<Positive>,
    /// Anchors that no class learns from, as `(cell, anchor)`, in order.
    pub ignored: Vec<(u32, u8)>,
    /// Anchors whose boxes are those of false alarms.
    pub false_alarms: Vec<FalseAlarmCell>,
}

/// What one picture teaches.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureFeatures {
    /// In the manifest's order.
    pub levels: Vec<LevelFeatures>,
    /// Boxes that no anchor overlaps.
    pub unmatched: usize,
    /// How much its cells count.
    pub weight: f32,
}

/// What decoding needs of a picture beside its class logits.
#[derive(Debug, Clone)]
pub struct PictureBoxes {
    /// Box head of each level.
    pub heads: Vec<Tensor>,
    /// Where the picture lies in the input.
    pub placed: Placed,
    /// Width and height of the picture, pixels.
    pub size: [u32; 2],
}

/// Takes features of pictures; of one thread.
pub struct FeatureExtractor {
    detector: Detector,
    layer: ClassLayer,
    /// Width and height of the input for the last picture.
    size: [u32; 2],
    /// Of each level, in pixels of that input.
    anchors: Vec<Vec<[f32; 4]>>,
    orders: Vec<BoxOrder>,
    /// Whether boxes are distances from points, so that no anchor says which object a cell answers for.
    has_no_anchors: bool,
    coder: BoxCoder,
    letterbox: Letterbox,
    /// Classes that a label may have.
    classes: usize,
}

impl FeatureExtractor {
    /// For the model `file`; labels may be of `classes` classes, those of the model first. `threads` is for
    /// one picture.
    ///
    /// # Errors
    /// [`TuningError::Model`] if the model cannot be tuned or does not load.
    pub fn new(file: &ModelFile, classes: usize, threads: usize) -> Result<Self, TuningError> {
        let manifest = file.manifest()?;
        let own = InputSize::Pixels([manifest.input.width, manifest.input.height]);
        Self::at(file, classes, threads, own)
    }

    /// As [`FeatureExtractor::new`], for the size of the input that the model will run at.
    ///
    /// # Errors
    /// As [`FeatureExtractor::new`]; also if the model does not have the size.
    pub fn at(
        file: &ModelFile,
        classes: usize,
        threads: usize,
        input: InputSize,
    ) -> Result<Self, TuningError> {
        let layer = file.class_layer()?;
        let mut manifest = file.manifest()?.clone();
        let tap = |(at, level): (usize, &crate::model::ClassLevel)| Tap {
            name: format!("class_input_{at}"),
            tensor: level.input.clone(),
        };
        manifest.taps = layer.levels.iter().enumerate().map(tap).collect();
        let tapped = ModelFile::parse(&file.path, file.with_manifest(&manifest)?)?;
        let generation = Generation::from_file_at(&tapped, 0, input)?;
        let detector = Detector::new(&generation, threads)
            .map_err(|source| TuningError::Picture { picture: file.path.clone(), source })?;
        let manifest = &detector.generation().manifest;
        let [width, height] = detector.input_size();
        Ok(Self {
            layer,
            size: [width, height],
            anchors: anchors::anchors(detector.levels(), manifest.anchors.offset),
            orders: manifest.heads.iter().map(|head| head.box_order).collect(),
            has_no_anchors: manifest.heads.iter().any(|head| head.box_order == BoxOrder::LeftTopRightBottom),
            coder: manifest.box_coder,
            letterbox: Letterbox::new(width, height, fit(&manifest.letterbox)),
            classes,
            detector,
        })
    }

    /// The layer whose input is taken.
    #[must_use]
    pub fn layer(&self) -> &ClassLayer {
        &self.layer
    }

    /// What decoding needs of the picture whose features were taken last.
    #[must_use]
    pub fn boxes_of_last(&self) -> PictureBoxes {
        let (width, height) = (self.detector.picture().width, self.detector.picture().height);
        PictureBoxes {
            heads: self.detector.heads().levels.iter().map(|(_, boxes)| boxes.clone()).collect(),
            placed: self.letterbox.place(width, height),
            size: [width, height],
        }
    }

    /// How the model's heads are decoded.
    pub(super) fn decoding(&self) -> (Vec<DecodeLevel>, DecodeOptions) {
        decoding(self.detector.generation())
    }

    /// What `picture` teaches.
    ///
    /// # Errors
    /// [`TuningError::Picture`] if it cannot be decoded, [`TuningError::Label`] for the first box that is not
    /// finite, empty, outside of the picture or of an unknown class.
    pub fn extract(&mut self, picture: &LabelledPicture) -> Result<PictureFeatures, TuningError> {
        self.run(picture)?;
        let (w, h) = (self.detector.picture().width, self.detector.picture().height);
        let placed = self.letterbox.place(w, h);
        let Boxes { objects, ignored, nothing, false_alarms } = self.boxes(picture, placed, [w, h])?;
        let truths: Vec<[f32; 4]> = objects.iter().map(|(bbox, _)| *bbox).collect();
        // What was told falsely came of the anchors whose boxes lie there, wherever these anchors lie themselves.
        let teaches = |place: &[f32; 4], found: &dyn Fn() -> [f32; 4]| match &nothing {
            None => !ignored.iter().any(|bbox| hides(bbox, place)),
            Some(nothing) => {
                let found = found();
                nothing.iter().any(|bbox| iou(bbox, place) >= DENIED || iou(bbox, &found) >= SAME)
            }
        };
        let found_boxes = self.has_no_anchors.then(|| self.found_boxes());
        let places = found_boxes.as_ref().unwrap_or(&self.anchors);
        let (parts, unmatched) = self.parts(&places.concat(), &truths);
        let mut first = 0;
        let heads = self.detector.heads();
        let mut levels = Vec::with_capacity(self.anchors.len());
        for (at, places) in places.iter().enumerate() {
            let tap = &heads.taps[at];
            let parts = &parts[first..first + places.len()];
            first += places.len();
            let per_cell = places.len() / (tap.height * tap.width);
            let mut level = LevelFeatures {
                codes: cell_codes(tap),
                positives: Vec::new(),
                ignored: Vec::new(),
                false_alarms: Vec::new(),
            };
            for (row, (part, place)) in parts.iter().zip(places).enumerate() {
                let (cell, a) = (row / per_cell, row % per_cell);
                let found = || self.found_box(at, (cell, a));
                let (of_cell, anchor) = (cell as u32, a as u8);
                let alarms = false_alarms.iter().filter(|(bbox, _)| iou(bbox, &found()) >= SAME);
                let alarm = |(_, class): &(_, u16)| FalseAlarmCell { cell: of_cell, anchor, class: *class };
                level.false_alarms.extend(alarms.map(alarm));
                match part {
                    Match::Truth(truth) => {
                        let (bbox, class) = objects[*truth];
                        let overlap = iou(&found(), &bbox);
                        // NaN becomes 0, and a positive is never 0.
                        let quality = ((overlap * 255.0).round() as u8).max(1);
                        level.positives.push(Positive { cell: of_cell, anchor, class, quality });
                    }
                    Match::Background if teaches(place, &found) => {}
                    Match::Ignored | Match::Background => level.ignored.push((of_cell, anchor)),
                }
            }
            levels.push(level);
        }
        let weight = if nothing.is_some() { VERDICT_WEIGHT } else { 1.0 };
        Ok(PictureFeatures { levels, unmatched, weight })
    }

    /// What each place of a model learns of `truths`: by anchors where it has some, else by the boxes it found.
    fn parts(&self, places: &[[f32; 4]], truths: &[[f32; 4]]) -> (Vec<Match>, usize) {
        if !self.has_no_anchors {
            return match_anchors(places, truths, LIMITS);
        }
        let centre = |anchor: &[f32; 4]| [(anchor[0] + anchor[2]) / 2.0, (anchor[1] + anchor[3]) / 2.0];
        let points: Vec<[f32; 2]> = self.anchors.iter().flatten().map(centre).collect();
        assign(places, &points, truths)
    }

    /// The box that an anchor of a cell of a level has in the picture whose features were taken last, in pixels
    /// of the input.
    fn found_box(&self, level: usize, (cell, anchor): (usize, usize)) -> [f32; 4] {
        let (_, boxes) = &self.detector.heads().levels[level];
        let anchors = &self.anchors[level];
        let per_cell = anchors.len() / (boxes.height * boxes.width);
        let place = &anchors[cell * per_cell + anchor];
        read_box(boxes, (cell, anchor), place, self.orders[level], &self.coder)
    }

    /// Of each level the boxes that all its anchors have.
    fn found_boxes(&self) -> Vec<Vec<[f32; 4]>> {
        let of = |(level, anchors): (usize, &Vec<[f32; 4]>)| {
            let (_, boxes) = &self.detector.heads().levels[level];
            let per_cell = anchors.len() / (boxes.height * boxes.width);
            (0..anchors.len()).map(|row| self.found_box(level, (row / per_cell, row % per_cell))).collect()
        };
        self.anchors.iter().enumerate().map(of).collect()
    }

    /// How far scores of the model lie from those of `head`, which works on real numbers: the sum over all
    /// outputs that either says above 0.05, and their count.
    ///
    /// # Errors
    /// [`TuningError::Picture`] if it cannot be decoded.
    pub(super) fn apart(
        &mut self,
        picture: &LabelledPicture,
        head: &Head,
    ) -> Result<(f64, usize), TuningError> {
        const TOLD: f32 = 0.05;
        self.run(picture)?;
        let score = |logit: f32| 1.0 / (1.0 + (-logit).exp());
        let (mut sum, mut count) = (0.0, 0);
        let heads = self.detector.heads();
        for (level, (tap, (classes, _))) in heads.taps.iter().zip(&heads.levels).enumerate() {
            for (cell, codes) in cell_codes(tap).chunks_exact(tap.channels).enumerate() {
                for (output, logit) in real_logits(head, &self.layer, level, codes).into_iter().enumerate() {
                    let (real, coded) = (score(logit), score(classes.value(output, cell)));
                    if real.max(coded) > TOLD {
                        sum += f64::from((real - coded).abs());
                        count += 1;
                    }
                }
            }
        }
        Ok((sum, count))
    }

    fn run(&mut self, picture: &LabelledPicture) -> Result<(), TuningError> {
        self.detector
            .detect(&picture.picture, 1.0, &mut Default::default())
            .map_err(|source| TuningError::Picture { picture: picture.name.clone(), source })?;
        let size = self.detector.input_size();
        if size != self.size {
            let manifest = &self.detector.generation().manifest;
            self.anchors = anchors::anchors(self.detector.levels(), manifest.anchors.offset);
            self.letterbox = Letterbox::new(size[0], size[1], fit(&manifest.letterbox));
            self.size = size;
        }
        Ok(())
    }

    /// The boxes of a picture in pixels of the input.
    fn boxes(
        &self,
        picture: &LabelledPicture,
        placed: Placed,
        [w, h]: [u32; 2],
    ) -> Result<Boxes, TuningError> {
        let refuse = |entry, reason| TuningError::Label { picture: picture.name.clone(), entry, reason };
        let side = [w as f32, h as f32];
        let scaled = |[x1, y1, x2, y2]: [f32; 4]| {
            let (sx, sy) = (placed.width as f32 / side[0], placed.height as f32 / side[1]);
            let (dx, dy) = (placed.x as f32, placed.y as f32);
            let bbox = [x1 * sx + dx, y1 * sy + dy, x2 * sx + dx, y2 * sy + dy];
            debug_assert!(bbox[2] <= self.size[0] as f32 + 1.0 && bbox[3] <= self.size[1] as f32 + 1.0);
            bbox
        };
        let nothing: &[[f32; 4]] = match &picture.rest {
            Rest::Background => &[],
            Rest::Unknown { nothing } => nothing,
        };
        if (picture.truths.len() + nothing.len()).max(picture.false_alarms.len()) > MAX_TRUTHS {
            return Err(refuse(MAX_TRUTHS, format!("one box too many, must be at most {MAX_TRUTHS}")));
        }
        let (mut objects, mut ignored) = (Vec::new(), Vec::new());
        for (entry, truth) in picture.truths.iter().enumerate() {
            if truth.class >= self.classes {
                return Err(refuse(entry, format!("class {}, must be below {}", truth.class, self.classes)));
            }
            let bbox = scaled(clipped(truth.bbox, side).map_err(|reason| refuse(entry, reason))?);
            if truth.ignore { ignored.push(bbox) } else { objects.push((bbox, truth.class as u16)) }
        }
        let denied = nothing.iter().enumerate().map(|(entry, bbox)| {
            let bbox = clipped(*bbox, side).map_err(|reason| refuse(picture.truths.len() + entry, reason))?;
            Ok(scaled(bbox))
        });
        let denied = denied.collect::<Result<Vec<_>, TuningError>>()?;
        let nothing = matches!(picture.rest, Rest::Unknown { .. }).then_some(denied);
        // A box that was found may lie at the edge with no area inside; it is no label that somebody has to mend.
        let alarm = |alarm: &FalseAlarm| {
            let bbox = clipped(alarm.bbox, side).ok()?;
            Some((scaled(bbox), u16::try_from(alarm.class).ok()?))
        };
        let false_alarms = picture.false_alarms.iter().filter_map(alarm).collect();
        Ok(Boxes { objects, ignored, nothing, false_alarms })
    }
}

/// The boxes of a picture, in pixels of the input.
struct Boxes {
    /// With their classes.
    objects: Vec<([f32; 4], u16)>,
    /// Neither objects nor background.
    ignored: Vec<[f32; 4]>,
    /// Where nothing is, of a picture of which no more is known.
    nothing: Option<Vec<[f32; 4]>>,
    /// What was told falsely, with its class.
    false_alarms: Vec<([f32; 4], u16)>,
}

/// The box within a picture of `side`, or what is wrong with it.
fn clipped(bbox: [f32; 4], side: [f32; 2]) -> Result<[f32; 4], String> {
    let [x1, y1, x2, y2] = bbox;
    if !bbox.iter().all(|edge| edge.is_finite()) || x2 <= x1 || y2 <= y1 {
        return Err(format!("{bbox:?}, must be finite with x2 > x1 and y2 > y1"));
    }
    let clipped = [x1.max(0.0), y1.max(0.0), x2.min(side[0]), y2.min(side[1])];
    if clipped[2] <= clipped[0] || clipped[3] <= clipped[1] {
        return Err(format!("{bbox:?} is outside of the picture of {} x {}", side[0], side[1]));
    }
    Ok(clipped)
}

/// Whether an anchor may show what is to be ignored: it overlaps the box, or lies mostly within it.
fn hides(ignored: &[f32; 4], anchor: &[f32; 4]) -> bool {
    let side =
        |low: usize, high: usize| (ignored[high].min(anchor[high]) - ignored[low].max(anchor[low])).max(0.0);
    let area = (anchor[2] - anchor[0]) * (anchor[3] - anchor[1]);
    iou(ignored, anchor) >= LIMITS.background || side(0, 2) * side(1, 3) >= 0.5 * area
}

/// Codes of a tap, the channels of a cell side by side.
fn cell_codes(tap: &Tensor) -> Vec<u8> {
    if tap.interleaved {
        return tap.codes.clone();
    }
    let cells = tap.height * tap.width;
    (0..cells).flat_map(|cell| (0..tap.channels).map(move |c| tap.codes[c * cells + cell])).collect()
}
