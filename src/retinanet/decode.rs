//! From heads to detections: threshold, best k of a level, box decoding, clipping, NMS (`retinanet.md`,
//! sections 3 and 7).
//!
//! The threshold is compared before the sigmoid: for quantised heads with the smallest code whose f32 score
//! exceeds it. Total order: score descending, then level, y, x, anchor, class ascending, because int8 heads
//! make ties the rule.

use super::distances::{box_around, expectation};
use super::nms::nms;
use super::scores::{Candidates, Order, ScoreForm};
use super::voting::vote;
use crate::detection::{Detection, Heads, Tensor};
use crate::model::{BoxCoder, BoxOrder, BoxVoting, ClassChannels};

/// When boxes are clipped to the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clip {
    /// Before NMS: no invisible rivals.
    BeforeNms,
    /// After NMS.
    AfterNms,
    /// Not at all.
    None,
}

/// What the manifest says of decoding.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Scores must exceed it (strict).
    pub score_threshold: f32,
    /// Best (anchor, class) pairs kept a level.
    pub topk_per_level: usize,
    /// IoU above which a box is dropped (strict).
    pub nms_iou: f32,
    /// Makes kept boxes means of their candidates; `None`: they stay as they are.
    pub voting: Option<BoxVoting>,
    /// Most detections a picture.
    pub max_detections: usize,
    /// When boxes are clipped.
    pub clip: Clip,
    /// Whether boxes that became empty are dropped.
    pub drop_empty: bool,
    /// What the numbers of a box output mean.
    pub coder: BoxCoder,
    /// What the numbers of a class output mean.
    pub scores: ScoreForm,
}

/// What a level's rows refer to.
#[derive(Debug, Clone)]
pub struct DecodeLevel {
    /// Its anchors `[x1, y1, x2, y2]` in pixels of the input, in `y, x, a` order.
    pub anchors: Vec<[f32; 4]>,
    /// How the channels of its class output stand.
    pub class_channels: ClassChannels,
    /// What the four numbers of an anchor in its box output are.
    pub box_order: BoxOrder,
}

/// Why heads cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Number of levels.
    #[error("{found} levels of heads, {expected} levels of anchors")]
    Levels {
        /// Given.
        found: usize,
        /// Built for.
        expected: usize,
    },
    /// A head's channels and cells do not fit the anchors.
    #[error(
        "level {level}: {output} output is {found:?} (channels, height, width), which does not fit {anchors} anchors"
    )]
    Shape {
        /// Index of the level.
        level: usize,
        /// `class`, `box` or `object`.
        output: &'static str,
        /// Given.
        found: [usize; 3],
        /// Anchors of the level.
        anchors: usize,
    },
}

/// Decoder of one model and thread; its memory is reused from picture to picture.
pub struct Decoder {
    levels: Vec<DecodeLevel>,
    options: DecodeOptions,
    /// Those of the level at hand.
    candidates: Candidates,
    decoded: Vec<Detection>,
    kept: Vec<Detection>,
}

impl Decoder {
    /// For a model's `levels`.
    #[must_use]
    pub fn new(levels: Vec<DecodeLevel>, options: DecodeOptions) -> Self {
        Self { levels, options, candidates: Vec::new(), decoded: Vec::new(), kept: Vec::new() }
    }

    /// Decodes `heads`; boxes in pixels of the input, best first. `picture` is the right and bottom edge of
    /// the picture within the input. Scores exceed both the manifest's threshold and `min_score`.
    ///
    /// # Errors
    /// [`DecodeError`] if the heads do not fit the anchors.
    pub fn decode(
        &mut self,
        heads: &Heads,
        picture: [f32; 2],
        min_score: f32,
    ) -> Result<&[Detection], DecodeError> {
        if heads.levels.len() != self.levels.len() {
            return Err(DecodeError::Levels { found: heads.levels.len(), expected: self.levels.len() });
        }
        let wanted = self.options.score_threshold.max(min_score);
        // All candidates vote, so that a box is the same whatever score the caller asks for.
        let threshold = if self.options.voting.is_some() { self.options.score_threshold } else { wanted };
        self.decoded.clear();
        for (level, (class_head, box_head)) in heads.levels.iter().enumerate() {
            let per_cell = self.check(level, heads)?;
            let DecodeLevel { anchors, class_channels, box_order } = &self.levels[level];
            let (objects, order) = (heads.objects.get(level), Order { per_cell, channels: *class_channels });
            self.options.scores.gather(class_head, objects, order, threshold, &mut self.candidates);
            // Rows stand in y, x, a order, so (row, class) is the rest of the total order.
            self.candidates
                .sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
            self.candidates.truncate(self.options.topk_per_level);
            for &(score, row, class) in &self.candidates {
                let (cell, a) = (row as usize / per_cell, row as usize % per_cell);
                let anchor = &anchors[row as usize];
                let bbox = read_box(box_head, (cell, a), anchor, *box_order, &self.options.coder);
                if let Some(bbox) = self.place(bbox, picture) {
                    self.decoded.push(Detection { class: class as usize, score, bbox });
                }
            }
        }
        // Stable: levels were pushed in order, so ties keep level, row, class.
        self.decoded.sort_by(|a, b| b.score.total_cmp(&a.score));
        let rivals = self.decoded.partition_point(|detection| detection.score > wanted);
        nms(&self.decoded[..rivals], self.options.nms_iou, self.options.max_detections, &mut self.kept);
        if let Some(voting) = self.options.voting {
            vote(&self.decoded, voting, &mut self.kept);
        }
        if self.options.clip == Clip::AfterNms {
            for detection in &mut self.kept {
                detection.bbox = clip(detection.bbox, picture);
            }
            if self.options.drop_empty {
                self.kept.retain(|d| d.bbox[2] > d.bbox[0] && d.bbox[3] > d.bbox[1]);
            }
        }
        Ok(&self.kept)
    }

    /// How many anchors a cell of `level` has, if all its tensors fit.
    fn check(&self, level: usize, heads: &Heads) -> Result<usize, DecodeError> {
        let (class_head, box_head) = &heads.levels[level];
        let anchors = self.levels[level].anchors.len();
        let per_anchor = self.options.scores.channels();
        let per_cell = class_head.channels / per_anchor;
        let numbers = self.options.coder.channels();
        let objects = heads.objects.get(level).map(|objects| ("object", objects, per_cell));
        let levels = [("class", class_head, per_cell * per_anchor), ("box", box_head, per_cell * numbers)];
        for (output, head, channels) in levels.into_iter().chain(objects) {
            let cells = head.height * head.width;
            let length = head.codes.len().max(head.values.len());
            if head.channels != channels
                || cells * per_cell != anchors
                || length != channels * cells
                || per_cell == 0
            {
                return Err(DecodeError::Shape {
                    level,
                    output,
                    found: [head.channels, head.height, head.width],
                    anchors,
                });
            }
        }
        Ok(per_cell)
    }

    /// The box within the picture; `None` if it is not finite, or empty after clipping.
    fn place(&self, bbox: [f32; 4], picture: [f32; 2]) -> Option<[f32; 4]> {
        if !bbox.iter().all(|v| v.is_finite()) {
            return None;
        }
        if self.options.clip != Clip::BeforeNms {
            return Some(bbox);
        }
        let bbox = clip(bbox, picture);
        (!self.options.drop_empty || (bbox[2] > bbox[0] && bbox[3] > bbox[1])).then_some(bbox)
    }
}

/// The box that `head` gives anchor `a` of a cell (`y * width + x`), in pixels of the input, before clipping.
pub(crate) fn read_box(
    head: &Tensor,
    (cell, a): (usize, usize),
    anchor: &[f32; 4],
    order: BoxOrder,
    coder: &BoxCoder,
) -> [f32; 4] {
    let number = |i: usize| match coder.bins {
        None => head.value(a * 4 + i, cell),
        Some(bins) => expectation(bins, |bin| head.value((a * 4 + i) * bins + bin, cell)),
    };
    let deltas = match order {
        BoxOrder::DxDyDwDh => [0, 1, 2, 3].map(number),
        BoxOrder::DyDxDhDw => [1, 0, 3, 2].map(number),
        BoxOrder::LeftTopRightBottom => {
            return box_around(anchor, std::array::from_fn(|i| number(i) / coder.weights[i]));
        }
    };
    decode_box(deltas, anchor, coder.weights, coder.clamp)
}

fn clip(b: [f32; 4], picture: [f32; 2]) -> [f32; 4] {
    [
        b[0].clamp(0.0, picture[0]),
        b[1].clamp(0.0, picture[1]),
        b[2].clamp(0.0, picture[0]),
        b[3].clamp(0.0, picture[1]),
    ]
}

/// Deltas `dx dy dw dh` against an anchor, f32 (R-CNN parametrisation; clamp as torchvision `BoxCoder`).
#[must_use]
pub fn decode_box(d: [f32; 4], anchor: &[f32; 4], weights: [f32; 4], clamp: Option<f32>) -> [f32; 4] {
    let (w, h) = (anchor[2] - anchor[0], anchor[3] - anchor[1]);
    let (cx, cy) = (anchor[0] + 0.5 * w, anchor[1] + 0.5 * h);
    let limit = |v: f32| clamp.map_or(v, |most| v.min(most));
    let (x, y) = (d[0] / weights[0] * w + cx, d[1] / weights[1] * h + cy);
    let (bw, bh) = (limit(d[2] / weights[2]).exp() * w, limit(d[3] / weights[3]).exp() * h);
    [x - 0.5 * bw, y - 0.5 * bh, x + 0.5 * bw, y + 0.5 * bh]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A level of one cell with two anchors and one class: scores, and deltas in the level's order.
    fn level(
        order: BoxOrder,
        anchors: [[f32; 4]; 2],
        logits: [f32; 2],
        wanted: [[f32; 4]; 2],
    ) -> (DecodeLevel, (Tensor, Tensor)) {
        let written = wanted.map(|[dx, dy, dw, dh]| match order {
            BoxOrder::DxDyDwDh => [dx, dy, dw, dh],
            BoxOrder::DyDxDhDw => [dy, dx, dh, dw],
            BoxOrder::LeftTopRightBottom => unreachable!("the test is about deltas"),
        });
        let head = |values: Vec<f32>| Tensor {
            channels: values.len(),
            height: 1,
            width: 1,
            values,
            ..Default::default()
        };
        (
            DecodeLevel {
                anchors: anchors.to_vec(),
                class_channels: ClassChannels::AnchorMajor,
                box_order: order,
            },
            (head(logits.to_vec()), head(written.concat())),
        )
    }

    fn boxes(orders: [BoxOrder; 2]) -> Vec<Detection> {
        let coarse = [[10.0, 10.0, 50.0, 30.0], [100.0, 20.0, 140.0, 90.0]];
        let fine = [[60.0, 60.0, 70.0, 80.0], [5.0, 100.0, 30.0, 110.0]];
        let made = [
            level(orders[0], coarse, [2.0, 1.0], [[0.1, -0.2, 0.3, 0.05], [0.0, 0.4, -0.1, 0.2]]),
            level(orders[1], fine, [0.5, 1.5], [[-0.3, 0.2, 0.1, 0.6], [0.25, 0.0, 0.4, -0.5]]),
        ];
        let (levels, heads): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let options = DecodeOptions {
            score_threshold: 0.05,
            topk_per_level: 10,
            nms_iou: 0.5,
            voting: None,
            max_detections: 10,
            clip: Clip::BeforeNms,
            drop_empty: true,
            coder: BoxCoder { weights: [1.0; 4], clamp: None, bins: None },
            scores: ScoreForm::independent(1),
        };
        Decoder::new(levels, options)
            .decode(&Heads { levels: heads, ..Heads::default() }, [160.0; 2], 0.0)
            .expect("decodes")
            .to_vec()
    }

    #[test]
    fn levels_that_differ_in_box_order_give_the_boxes_of_levels_that_agree() {
        let (across, down) = (BoxOrder::DxDyDwDh, BoxOrder::DyDxDhDw);
        let expected = boxes([across, across]);
        assert_eq!(expected.len(), 4, "{expected:?}");
        for orders in [[across, down], [down, across], [down, down]] {
            assert_eq!(boxes(orders), expected, "{orders:?}");
        }
    }
}
