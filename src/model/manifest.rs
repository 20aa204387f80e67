//! `retinad-manifest/1`: what the model file says of itself (`retinanet.md`, section 8). Unknown keys are
//! errors.
//!
//! Reading checks every value that can be checked without the graph; the engine compares the rest with the
//! graph. A manifest can be written again ([`super::ModelFile::with_manifest`]); the keys of the parts that
//! are kept as JSON are then in alphabetical order.

mod faults;
mod reading;

use super::words::{
    ActivationKind, AnchorOrder, AnchorRounding, Background, BoxFormat, BoxOrder, CellOrder, Channels,
    ClassChannels, ClipOrder, Format, InputType, Layout, Placement, Resample, Rounding, SelfTestPicture,
};
pub use reading::Examined;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The whole manifest. Parts that the daemon only passes on are kept as JSON.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the manifest.
    pub format: Format,
    /// The model's name.
    pub name: String,
    /// The model's version.
    pub version: String,
    /// What it is, in a sentence or two. This and all that is only for people may be left out.
    #[serde(default)]
    pub description: String,
    /// Licence of the weights (SPDX).
    #[serde(default)]
    pub licence: String,
    /// Where the licence can be read.
    #[serde(default)]
    pub licence_url: String,
    /// Who made it.
    #[serde(default)]
    pub authors: Vec<String>,
    /// How the input tensor is made.
    pub input: Input,
    /// How the picture is fitted.
    pub letterbox: LetterboxSpec,
    /// Per class output of an anchor, 1 to 1000; null: never used.
    pub classes: Vec<Option<Class>>,
    /// Per level, finest first.
    pub heads: Vec<Head>,
    /// What turns an output into a score.
    pub activation: Activation,
    /// The anchors, per level as in `heads`.
    pub anchors: Anchors,
    /// What box deltas mean.
    pub box_coder: BoxCoder,
    /// From heads to detections.
    pub decode: Decode,
    /// Tensors that the engine gives beside the heads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taps: Vec<Tap>,
    /// The answer that the built-in picture must give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTest>,
    /// Data sets, loss, steps.
    #[serde(default)]
    pub training: Value,
    /// Scheme and calibration.
    #[serde(default)]
    pub quantisation: Value,
    /// Measured quality.
    #[serde(default)]
    pub evaluation: Value,
    /// Which model it came from.
    #[serde(default)]
    pub lineage: Value,
}

/// How the input tensor is made.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name in the graph.
    pub name: String,
    /// Pixels across, 32 to 2048.
    pub width: u32,
    /// Pixels down, 32 to 2048.
    pub height: u32,
    /// Further sizes, `[width, height]`, that the file runs as well at as at its own: one in the shape of a camera's
    /// pictures is chosen unless `detector.input` says otherwise. At most 8, each as `width` and `height`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<[u32; 2]>,
    /// Order of the axes.
    pub layout: Layout,
    /// Order of the colours.
    pub channels: Channels,
    /// Type of the tensor.
    pub dtype: InputType,
    /// Factor from a byte to the unit of `mean` and `std`: 1, or 1/255.
    pub scale_to_unit: f32,
    /// Subtracted per channel: red, green, blue, whatever `channels` says.
    pub mean: [f32; 3],
    /// Divided by per channel, in the order of `mean`; above 0.
    pub std: [f32; 3],
    /// Step of the input's codes, for people: the graph's quantiser holds it, and must agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quant_scale: Option<f32>,
    /// Code of 0.0, for people: the graph's quantiser holds it, and must agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quant_zero_point: Option<i32>,
}

/// How the picture is fitted.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LetterboxSpec {
    /// Whether both axes are scaled alike; false: each is stretched to the input's side, without bars.
    pub keep_aspect: bool,
    /// Where the picture lies, if its aspect is kept.
    pub placement: Placement,
    /// Colour of the bars.
    pub pad_rgb: [u8; 3],
    /// How it is scaled.
    pub resample: Resample,
    /// How its scaled sides become whole pixels.
    pub rounding: Rounding,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Its name.
    pub label: String,
    /// Its COCO category.
    pub coco_id: Option<u32>,
}

/// The outputs of one level.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The level's name, such as `p3`.
    pub level: String,
    /// Tensor `[1, A·K, h, w]` of the graph, an output or not; K counts a background class, too.
    pub class_output: String,
    /// First channel of the classes in it, where it holds more than them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub class_from: usize,
    /// Tensor `[1, A·4, h, w]`, or `[1, A·4·bins, h, w]` where `box_coder.bins` is given.
    pub box_output: String,
    /// First channel of the boxes in it, where it holds more than them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub box_from: usize,
    /// Tensor `[1, A, h, w]` whose scores the classes' are multiplied by, as in YOLOX; not there: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_output: Option<String>,
    /// First channel of these scores in it, where it holds more than them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub object_from: usize,
    /// What the channels of the class output are.
    pub class_channels: ClassChannels,
    /// What the channels of the box output are; levels may differ.
    pub box_order: BoxOrder,
}

/// Whether a key that counts channels is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(from: &usize) -> bool {
    *from == 0
}

/// One part of a head, such as its classes: which channels of which tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadPart<'a> {
    /// Key of the tensor, such as `class_output`.
    pub key: &'static str,
    /// The tensor's name.
    pub tensor: &'a str,
    /// First channel in it.
    pub from: usize,
    /// Channels an anchor.
    pub per_anchor: usize,
}

/// What turns an output into a score.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// The function.
    pub kind: ActivationKind,
    /// True: outputs are logits. False: the graph ends in the activation and outputs are scores.
    pub logits: bool,
    /// Which channel of an anchor is a background class; not there: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<Background>,
}

/// The anchors.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Anchors {
    /// What the numbers of a base box are.
    pub format: BoxFormat,
    /// In which order all anchors stand.
    pub order: AnchorOrder,
    /// In which order the boxes of a cell were made.
    pub cell_order: CellOrder,
    /// How the base boxes were rounded.
    pub rounding: AnchorRounding,
    /// Centre of the first cell, in cells: 0 or 0.5.
    pub offset: f32,
    /// Per level.
    pub levels: Vec<Level>,
    /// SHA-256 of all anchors, hex; not there: nothing holds the anchors to what they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The anchors of one level.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Pixels of the input from cell to cell, down and across, 1 to 4096.
    pub stride_yx: [u32; 2],
    /// Cells down and across, 1 to 1024.
    pub feature_hw: [usize; 2],
    /// `[x1, y1, x2, y2]` around 0, 0 in pixels of the input, 1 to 64 boxes.
    pub base: Vec<[f32; 4]>,
}

/// What the numbers of a box output mean.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BoxCoder {
    /// Divisors of `dx dy dw dh`, or of the four distances; above 0.
    pub weights: [f32; 4],
    /// Upper bound of `dw` and `dh`, above 0 and at most 20; null: none.
    pub clamp: Option<f32>,
    /// Each distance is the expectation of a distribution over so many bins, 2 to 64, whose logits stand side
    /// by side; not there: the outputs are the numbers themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bins: Option<usize>,
}

impl BoxCoder {
    /// Channels of a box output an anchor.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.bins.unwrap_or(1).saturating_mul(4)
    }
}

/// From heads to detections.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Decode {
    /// Scores must exceed it; 0 to below 1.
    pub score_threshold: f32,
    /// Best (anchor, class) pairs of a level that are kept, 1 to 100000.
    pub topk_per_level: usize,
    /// Overlap above which the lower score of a class is dropped, 0 to 1.
    pub nms_iou: f32,
    /// Makes kept boxes means of their candidates; not there: they stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub box_voting: Option<BoxVoting>,
    /// Most detections of a picture, 1 to 10000.
    pub max_detections: usize,
    /// When boxes are clipped to the picture.
    pub clip: ClipOrder,
}

/// Box voting: which candidates have a say in a kept box, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BoxVoting {
    /// Candidates of the same class vote whose overlap with the kept box exceeds it, 0 to below 1.
    pub iou: f32,
    /// The weight of a vote is the candidate's score to this power, 0 to 8.
    pub score_power: u32,
}

/// A tensor that the engine gives beside the heads, in INT8 codes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tap {
    /// What the program calls it; unique.
    pub name: String,
    /// Its codes in the graph: the output of a QuantizeLinear, or of a DequantizeLinear that reads it.
    pub tensor: String,
}

/// The answer that a built-in picture must give, of a model that runs wholly in INT8.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// The picture.
    pub picture: SelfTestPicture,
    /// SHA-256 of all head codes, 64 lower-case hex digits: per level the class and then the box output, and
    /// after them the object outputs, each `[channels, height, width]` in u8 (s8 codes are moved up by 128).
    pub heads_sha256: String,
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ManifestError {
    /// The key, such as `heads[1].box_order`.
    pub field: String,
    /// What was found and what is allowed.
    pub reason: String,
}

impl Manifest {
    /// Parses and checks `json`.
    ///
    /// # Errors
    /// [`ManifestError`] for the first key that does not hold.
    pub fn parse(json: &str) -> Result<Self, ManifestError> {
        let manifest = reading::read(json)?;
        manifest.first_fault()?;
        Ok(manifest)
    }

    /// Reads `json` and says everything that does not hold.
    #[must_use]
    pub fn examine(json: &str) -> Examined {
        reading::examine(json)
    }

    /// The manifest as the JSON that [`Manifest::parse`] reads to an equal one.
    ///
    /// # Errors
    /// [`ManifestError`] for the first key that could not be read again.
    pub fn to_json(&self) -> Result<String, ManifestError> {
        self.first_fault()?;
        serde_json::to_string(self).map_err(|error| reading::whole(&error.to_string()))
    }

    /// Channels of an anchor in a class output: its classes, and the background class where there is one.
    #[must_use]
    pub fn class_channels(&self) -> usize {
        self.classes.len() + usize::from(self.activation.background.is_some())
    }

    /// The parts of `head` and where they are: classes, boxes, and what the classes are multiplied by, if
    /// anything.
    pub fn parts<'a>(&self, head: &'a Head) -> impl Iterator<Item = HeadPart<'a>> {
        let part = |key, tensor: &'a str, from, per_anchor| HeadPart { key, tensor, from, per_anchor };
        let object = head.object_output.as_deref();
        [
            Some(part("class_output", &head.class_output, head.class_from, self.class_channels())),
            Some(part("box_output", &head.box_output, head.box_from, self.box_coder.channels())),
            object.map(|tensor| part("object_output", tensor, head.object_from, 1)),
        ]
        .into_iter()
        .flatten()
    }

    /// Every tensor that the heads name.
    #[must_use]
    pub fn tensors(&self) -> Vec<&str> {
        self.heads.iter().flat_map(|head| self.parts(head)).map(|part| part.tensor).collect()
    }

    fn first_fault(&self) -> Result<(), ManifestError> {
        self.faults().into_iter().next().map_or(Ok(()), Err)
    }

    /// Labels per output; unused outputs are empty.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        self.classes
            .iter()
            .map(|class| class.as_ref().map_or_else(String::new, |class| class.label.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests;
