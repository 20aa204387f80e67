//! `retinad-manifest/1`: what the model file says of itself (`retinanet.md`, section 8). Unknown keys are
//! errors.
//!
//! Reading checks every value that can be checked without the graph; the engine compares the rest with the
//! graph. A manifest can be written again ([`super::ModelFile::with_manifest`]); the keys of the parts that
//! are kept as JSON are then in alphabetical order.

use super::one_line;
use super::words::{
    ActivationKind, AnchorOrder, AnchorRounding, BoxFormat, BoxOrder, CellOrder, Channels, ClassChannels,
    ClipOrder, Format, InputType, Layout, Placement, Resample, Rounding, SelfTestPicture,
};
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
    /// What it is, in a sentence or two.
    pub description: String,
    /// Licence of the weights (SPDX).
    pub licence: String,
    /// Where the licence can be read.
    pub licence_url: String,
    /// Who made it.
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
    pub training: Value,
    /// Scheme and calibration.
    pub quantisation: Value,
    /// Measured quality.
    pub evaluation: Value,
    /// Which model it came from.
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
    /// Graph output `[1, A·K, h, w]`.
    pub class_output: String,
    /// Graph output `[1, A·4, h, w]`, or `[1, A·4·bins, h, w]` where `box_coder.bins` is given.
    pub box_output: String,
    /// What the channels of the class output are.
    pub class_channels: ClassChannels,
    /// What the channels of the box output are; levels may differ.
    pub box_order: BoxOrder,
}

/// What turns an output into a score.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// The function.
    pub kind: ActivationKind,
    /// True: outputs are logits. False: the graph ends in the activation and outputs are scores.
    pub logits: bool,
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
    /// SHA-256 of all anchors, hex.
    pub sha256: String,
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
        4 * self.bins.unwrap_or(1)
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
    /// SHA-256 of all head codes, 64 lower-case hex digits: per level the class and then the box output, each
    /// `[channels, height, width]` in u8 (s8 codes are moved up by 128).
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

/// Largest bound of `dw` and `dh`: a box of e^20 times its anchor's side is wider than any picture.
const MAX_CLAMP: f32 = 20.0;

/// Most taps of a model.
const MAX_TAPS: usize = 64;

impl Manifest {
    /// Parses and checks `json`.
    ///
    /// # Errors
    /// [`ManifestError`] for the first key that does not hold.
    pub fn parse(json: &str) -> Result<Self, ManifestError> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let manifest: Self =
            serde_path_to_error::deserialize(&mut deserializer).map_err(|error| unreadable(&error))?;
        deserializer.end().map_err(|error| whole(&error.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The manifest as the JSON that [`Manifest::parse`] reads to an equal one.
    ///
    /// # Errors
    /// [`ManifestError`] for the first key that could not be read again.
    pub fn to_json(&self) -> Result<String, ManifestError> {
        self.check()?;
        serde_json::to_string(self).map_err(|error| whole(&error.to_string()))
    }

    /// Labels per output; unused outputs are empty.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        self.classes
            .iter()
            .map(|class| class.as_ref().map_or_else(String::new, |class| class.label.clone()))
            .collect()
    }

    /// Checks what the types do not say.
    fn check(&self) -> Result<(), ManifestError> {
        self.check_input()?;
        let classes = self.classes.len();
        require("classes", (1..=1000).contains(&classes), || {
            format!("{classes} entries, must be 1 to 1000")
        })?;
        for (i, class) in self.classes.iter().enumerate() {
            let named = class.as_ref().is_none_or(|class| !class.label.trim().is_empty());
            require(&format!("classes[{i}].label"), named, || {
                "empty, must be a name; null: never used".into()
            })?;
        }
        require("classes", self.classes.iter().any(Option::is_some), || "none is used".into())?;
        require("heads", !self.heads.is_empty(), || "empty".into())?;
        let outputs: Vec<&String> =
            self.heads.iter().flat_map(|head| [&head.class_output, &head.box_output]).collect();
        for (i, output) in outputs.iter().enumerate() {
            let key = ["class_output", "box_output"][i % 2];
            require(&format!("heads[{}].{key}", i / 2), !outputs[..i].contains(output), || {
                format!("{output:?} is there twice")
            })?;
        }
        self.check_anchors()?;
        self.check_decode()?;
        self.check_taps()?;
        self.check_self_test()
    }

    fn check_input(&self) -> Result<(), ManifestError> {
        let input = &self.input;
        for (field, side) in [("input.width", input.width), ("input.height", input.height)] {
            require(field, (32..=2048).contains(&side), || format!("{side}, must be 32 to 2048"))?;
        }
        let scale = input.scale_to_unit;
        require("input.scale_to_unit", positive(scale), || format!("{scale}, must be finite and above 0"))?;
        require("input.mean", input.mean.iter().all(|v| v.is_finite()), || "must be finite".into())?;
        require("input.std", input.std.iter().all(|&v| positive(v)), || "must be finite and above 0".into())?;
        let values = |byte: f32| {
            let value = move |(mean, std): (&f32, &f32)| (byte * scale - mean) / std;
            input.mean.iter().zip(&input.std).map(value).all(f32::is_finite)
        };
        require("input.std", values(0.0) && values(255.0), || {
            format!("{:?} with mean {:?} makes values that are not finite", input.std, input.mean)
        })?;
        require("input.quant_scale", input.quant_scale.is_none_or(positive), || {
            "must be finite and above 0".into()
        })?;
        let zero = input.quant_zero_point;
        require("input.quant_zero_point", zero.is_none_or(|zero| (-128..=255).contains(&zero)), || {
            format!("{}, must be -128 to 255", zero.unwrap_or_default())
        })
    }

    fn check_anchors(&self) -> Result<(), ManifestError> {
        let (levels, heads) = (&self.anchors.levels, self.heads.len());
        require("anchors.levels", levels.len() == heads, || {
            format!("{} levels but {heads} heads", levels.len())
        })?;
        for (i, level) in levels.iter().enumerate() {
            let [feature_hw, stride_yx, base] =
                ["feature_hw", "stride_yx", "base"].map(|key| format!("anchors.levels[{i}].{key}"));
            require(&feature_hw, level.feature_hw.iter().all(|side| (1..=1024).contains(side)), || {
                format!("{:?}, must be 1 to 1024", level.feature_hw)
            })?;
            require(&stride_yx, level.stride_yx.iter().all(|stride| (1..=4096).contains(stride)), || {
                format!("{:?}, must be 1 to 4096", level.stride_yx)
            })?;
            let boxes = level.base.len();
            require(&base, (1..=64).contains(&boxes), || format!("{boxes} boxes, must be 1 to 64"))?;
            let extended = |b: &[f32; 4]| b.iter().all(|v| v.is_finite()) && b[2] > b[0] && b[3] > b[1];
            require(&base, level.base.iter().all(extended), || {
                "boxes must be finite with x2 > x1 and y2 > y1".into()
            })?;
            let whole = level.base.iter().flatten().all(|side| side.fract() == 0.0);
            require(&base, self.anchors.rounding == AnchorRounding::None || whole, || {
                let word = self.anchors.rounding.word();
                format!("boxes must be of whole pixels, because anchors.rounding is {word}")
            })?;
        }
        let offset = self.anchors.offset;
        require("anchors.offset", offset == 0.0 || offset == 0.5, || format!("{offset}, must be 0 or 0.5"))
    }

    fn check_decode(&self) -> Result<(), ManifestError> {
        let (coder, decode) = (&self.box_coder, &self.decode);
        require("box_coder.weights", coder.weights.iter().all(|&w| positive(w)), || {
            "must be finite and above 0".into()
        })?;
        require("box_coder.clamp", coder.clamp.is_none_or(|c| c > 0.0 && c <= MAX_CLAMP), || {
            format!("{}, must be above 0 and at most {MAX_CLAMP}, or null", coder.clamp.unwrap_or_default())
        })?;
        if let Some(bins) = coder.bins {
            require("box_coder.bins", (2..=64).contains(&bins), || format!("{bins}, must be 2 to 64"))?;
            let other = self.heads.iter().position(|head| head.box_order != BoxOrder::LeftTopRightBottom);
            require("box_coder.bins", other.is_none(), || {
                let (at, distances) = (other.unwrap_or_default(), BoxOrder::LeftTopRightBottom.word());
                let found = self.heads[at].box_order.word();
                format!("{bins}, but heads[{at}].box_order is {found:?}: only {distances:?} has bins")
            })?;
        }
        require("decode.score_threshold", (0.0..1.0).contains(&decode.score_threshold), || {
            format!("{}, must be 0 to below 1", decode.score_threshold)
        })?;
        require("decode.nms_iou", (0.0..=1.0).contains(&decode.nms_iou), || {
            format!("{}, must be 0 to 1", decode.nms_iou)
        })?;
        if let Some(voting) = decode.box_voting {
            require("decode.box_voting.iou", (0.0..1.0).contains(&voting.iou), || {
                format!("{}, must be 0 to below 1", voting.iou)
            })?;
            require("decode.box_voting.score_power", voting.score_power <= 8, || {
                format!("{}, must be 0 to 8", voting.score_power)
            })?;
        }
        require("decode.topk_per_level", (1..=100_000).contains(&decode.topk_per_level), || {
            format!("{}, must be 1 to 100000", decode.topk_per_level)
        })?;
        require("decode.max_detections", (1..=10_000).contains(&decode.max_detections), || {
            format!("{}, must be 1 to 10000", decode.max_detections)
        })
    }

    fn check_taps(&self) -> Result<(), ManifestError> {
        let taps = &self.taps;
        require("taps", taps.len() <= MAX_TAPS, || {
            format!("{} taps, at most {MAX_TAPS} are given", taps.len())
        })?;
        for (i, tap) in taps.iter().enumerate() {
            let [name, tensor] = ["name", "tensor"].map(|key| format!("taps[{i}].{key}"));
            require(&name, !tap.name.is_empty(), || "empty".into())?;
            require(&name, taps[..i].iter().all(|other| other.name != tap.name), || {
                format!("{:?} is there twice", tap.name)
            })?;
            require(&tensor, !tap.tensor.is_empty(), || "empty".into())?;
        }
        Ok(())
    }

    fn check_self_test(&self) -> Result<(), ManifestError> {
        let Some(test) = &self.self_test else { return Ok(()) };
        let digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        let hex = test.heads_sha256.len() == 64 && test.heads_sha256.bytes().all(digit);
        require("self_test.heads_sha256", hex, || {
            format!("{:?}, must be 64 lower-case hex digits", test.heads_sha256)
        })
    }
}

fn positive(value: f32) -> bool {
    value.is_finite() && value > 0.0
}

fn require(field: &str, holds: bool, reason: impl FnOnce() -> String) -> Result<(), ManifestError> {
    if holds { Ok(()) } else { Err(ManifestError { field: field.to_owned(), reason: one_line(&reason()) }) }
}

/// An error of the manifest as a whole.
fn whole(reason: &str) -> ManifestError {
    ManifestError { field: "retinad.manifest".into(), reason: one_line(reason) }
}

/// The key that cannot be read, and why.
fn unreadable(error: &serde_path_to_error::Error<serde_json::Error>) -> ManifestError {
    let (path, inner) = (error.path().to_string(), error.inner());
    let text = inner.to_string();
    if !inner.is_data() || path == "." {
        return whole(&text);
    }
    // The key says where it is; line and column of a text that usually has one line say no more.
    let place = format!(" at line {} column {}", inner.line(), inner.column());
    ManifestError { field: one_line(&path), reason: one_line(text.strip_suffix(&place).unwrap_or(&text)) }
}

#[cfg(test)]
mod tests;
