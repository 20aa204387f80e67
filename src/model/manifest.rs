//! `retinad-manifest/1`: what the model file says of itself (`retinanet.md`, section 8). Unknown keys are errors.
#![allow(missing_docs, reason = "the fields carry the names of the manifest")]

use serde::Deserialize;
use serde_json::Value;

/// The whole manifest. Parts the daemon only passes on are kept as JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: String,
    pub name: String,
    pub version: String,
    pub description: String,
    pub licence: String,
    pub licence_url: String,
    pub authors: Vec<String>,
    pub input: Input,
    pub letterbox: LetterboxSpec,
    pub classes: Vec<Option<Class>>,
    pub heads: Vec<Head>,
    pub activation: Activation,
    pub anchors: Anchors,
    pub box_coder: BoxCoder,
    pub decode: Decode,
    pub training: Value,
    pub quantisation: Value,
    pub evaluation: Value,
    pub lineage: Value,
}

/// How the input tensor is made.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub name: String,
    pub width: u32,
    pub height: u32,
    pub layout: String,
    pub channels: String,
    pub dtype: String,
    pub scale_to_unit: f32,
    pub mean: [f32; 3],
    pub std: [f32; 3],
    #[serde(default)]
    pub quant_scale: Option<f32>,
    #[serde(default)]
    pub quant_zero_point: Option<i32>,
}

/// How the picture is fitted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LetterboxSpec {
    pub keep_aspect: bool,
    pub placement: String,
    pub pad_rgb: [u8; 3],
    pub resample: String,
    pub rounding: String,
}

/// One class.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub label: String,
    pub coco_id: Option<u32>,
}

/// The outputs of one level.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub level: String,
    pub class_output: String,
    pub box_output: String,
    pub class_channels: String,
    pub box_order: String,
}

/// What turns an output into a score.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    pub kind: String,
    pub logits: bool,
}

/// The anchors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchors {
    pub format: String,
    pub order: String,
    pub cell_order: String,
    pub rounding: String,
    pub offset: f32,
    pub levels: Vec<Level>,
    pub sha256: String,
}

/// The anchors of one level.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    pub stride_yx: [u32; 2],
    pub feature_hw: [usize; 2],
    pub base: Vec<[f32; 4]>,
}

/// Box deltas.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxCoder {
    pub weights: [f32; 4],
    pub clamp: Option<f32>,
}

/// From heads to detections.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decode {
    pub score_threshold: f32,
    pub topk_per_level: usize,
    pub nms_iou: f32,
    pub max_detections: usize,
    pub clip: String,
}

impl Manifest {
    /// Parses and checks `json`.
    ///
    /// # Errors
    /// `(field, what was found and what is allowed)`.
    pub fn parse(json: &str) -> Result<Self, (String, String)> {
        let manifest: Self = serde_json::from_str(json).map_err(|e| ("retinad.manifest".to_owned(), e.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let word = |field: &str, found: &str, allowed: &[&str]| {
            if allowed.contains(&found) { Ok(()) } else { Err((field.to_owned(), format!("{found:?}, must be one of {allowed:?}"))) }
        };
        let holds = |field: &str, ok: bool, reason: String| if ok { Ok(()) } else { Err((field.to_owned(), reason)) };
        word("format", &self.format, &["retinad-manifest/1"])?;
        word("input.layout", &self.input.layout, &["nchw"])?;
        word("input.channels", &self.input.channels, &["rgb", "bgr"])?;
        word("input.dtype", &self.input.dtype, &["f32"])?;
        let sides = [self.input.width, self.input.height];
        holds("input.width", sides.iter().all(|side| (32..=2048).contains(side)), format!("{sides:?}, each side must be 32 to 2048"))?;
        let finite = self.input.mean.iter().chain(&self.input.std).all(|v| v.is_finite()) && self.input.std.iter().all(|&v| v > 0.0);
        holds("input.std", finite, "mean and std must be finite, std positive".into())?;
        holds("letterbox.keep_aspect", self.letterbox.keep_aspect, "false, only true is known".into())?;
        word("letterbox.placement", &self.letterbox.placement, &["top_left", "centre"])?;
        word("letterbox.resample", &self.letterbox.resample, &["bilinear_half_pixel"])?;
        word("letterbox.rounding", &self.letterbox.rounding, &["nearest"])?;
        holds("classes", (1..=1000).contains(&self.classes.len()), format!("{} entries, must be 1 to 1000", self.classes.len()))?;
        holds("heads", !self.heads.is_empty(), "empty".into())?;
        for head in &self.heads {
            word("heads.class_channels", &head.class_channels, &["anchor_major"])?;
            word("heads.box_order", &head.box_order, &["dx_dy_dw_dh", "dy_dx_dh_dw"])?;
        }
        word("activation.kind", &self.activation.kind, &["sigmoid"])?;
        word("anchors.format", &self.anchors.format, &["xyxy"])?;
        word("anchors.order", &self.anchors.order, &["level_y_x_anchor"])?;
        let levels = &self.anchors.levels;
        holds("anchors.levels", levels.len() == self.heads.len(), format!("{} levels but {} heads", levels.len(), self.heads.len()))?;
        for (i, level) in levels.iter().enumerate() {
            let field = format!("anchors.levels[{i}]");
            let sane = level.feature_hw.iter().all(|side| (1..=1024).contains(side)) && (1..=64).contains(&level.base.len());
            holds(&field, sane, "feature_hw must be 1 to 1024, base 1 to 64 boxes".into())?;
            holds(&field, level.stride_yx.iter().all(|s| (1..=4096).contains(s)), "stride_yx must be 1 to 4096".into())?;
            let positive = level.base.iter().all(|b| b.iter().all(|v| v.is_finite()) && b[2] > b[0] && b[3] > b[1]);
            holds(&field, positive, "base boxes must be finite with x2 > x1 and y2 > y1".into())?;
        }
        holds("anchors.offset", self.anchors.offset.is_finite(), "must be finite".into())?;
        holds("box_coder.weights", self.box_coder.weights.iter().all(|&w| w.is_finite() && w > 0.0), "must be finite and positive".into())?;
        holds("decode.score_threshold", (0.0..1.0).contains(&self.decode.score_threshold), "must be 0 to below 1".into())?;
        holds("decode.nms_iou", (0.0..=1.0).contains(&self.decode.nms_iou), "must be 0 to 1".into())?;
        holds("decode.topk_per_level", (1..=100_000).contains(&self.decode.topk_per_level), "must be 1 to 100000".into())?;
        holds("decode.max_detections", (1..=10_000).contains(&self.decode.max_detections), "must be 1 to 10000".into())?;
        word("decode.clip", &self.decode.clip, &["before_nms", "after_nms"])
    }

    /// Labels per output; unused outputs are empty.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        self.classes.iter().map(|class| class.as_ref().map_or_else(String::new, |class| class.label.clone())).collect()
    }
}
