//! What the types of the manifest do not say: ranges, lengths, and keys that must agree with each other.
//! Every fault is found, because whoever writes a manifest mends them all before trying again.

use super::{HeadPart, Manifest, ManifestError};
use crate::model::one_line;
use crate::model::words::{ActivationKind, AnchorRounding, BoxOrder};

/// Largest bound of `dw` and `dh`: a box of e^20 times its anchor's side is wider than any picture.
const MAX_CLAMP: f32 = 20.0;

/// Most taps of a model.
const MAX_TAPS: usize = 64;

/// Most further sizes of a model's input.
const MOST_SIZES: usize = 8;

/// Most levels of a model: each usually halves the cells of the one before, so 2048 pixels have about eleven.
const MAX_LEVELS: usize = 64;

/// Most faults that are kept: a list of thousands says no more than its beginning.
pub(super) const MAX_FAULTS: usize = 100;

/// What was found so far.
#[derive(Default)]
struct Faults(Vec<ManifestError>);

impl Faults {
    /// Keeps `reason` for `field`, unless it `holds`.
    fn require(&mut self, field: &str, holds: bool, reason: impl FnOnce() -> String) {
        if !holds && self.0.len() < MAX_FAULTS {
            self.0.push(ManifestError { field: field.to_owned(), reason: one_line(&reason()) });
        }
    }
}

impl Manifest {
    /// What the types do not say and does not hold, in the order of the keys.
    pub(crate) fn faults(&self) -> Vec<ManifestError> {
        let mut found = Faults::default();
        self.check_input(&mut found);
        self.check_classes(&mut found);
        self.check_heads(&mut found);
        self.check_activation(&mut found);
        self.check_anchors(&mut found);
        self.check_decode(&mut found);
        self.check_taps(&mut found);
        self.check_self_test(&mut found);
        found.0
    }

    fn check_classes(&self, found: &mut Faults) {
        let classes = self.classes.len();
        found.require("classes", (1..=1000).contains(&classes), || {
            format!("{classes} entries, must be 1 to 1000")
        });
        for (i, class) in self.classes.iter().enumerate() {
            let named = class.as_ref().is_none_or(|class| !class.label.trim().is_empty());
            found.require(&format!("classes[{i}].label"), named, || {
                "empty, must be a name; null: never used".into()
            });
        }
        found.require("classes", self.classes.iter().any(Option::is_some), || "none is used".into());
    }

    fn check_heads(&self, found: &mut Faults) {
        let heads = self.heads.len();
        found.require("heads", heads > 0, || "empty".into());
        found.require("heads", heads <= MAX_LEVELS, || {
            format!("{heads} levels, at most {MAX_LEVELS} are read")
        });
        if heads > MAX_LEVELS {
            return;
        }
        let boxes = |i: usize| self.anchors.levels.get(i).map_or(1, |level| level.base.len().max(1));
        let parts: Vec<(usize, HeadPart<'_>)> = self
            .heads
            .iter()
            .enumerate()
            .flat_map(|(i, head)| self.parts(head).map(move |p| (i, p)))
            .collect();
        for (at, (i, part)) in parts.iter().enumerate() {
            let end = |i: usize, part: &HeadPart<'_>| {
                part.from.saturating_add(part.per_anchor.saturating_mul(boxes(i)))
            };
            let same = parts[..at].iter().find(|(j, other)| {
                other.tensor == part.tensor && other.from < end(*i, part) && part.from < end(*j, other)
            });
            found.require(&format!("heads[{i}].{}", part.key), same.is_none(), || {
                let (j, other) = same.map_or((*i, part), |(j, other)| (*j, other));
                let shared = (part.from.max(other.from), end(*i, part).min(end(j, other)) - 1);
                let whole = part.from == other.from;
                let twice = format!("{:?} is there twice", part.tensor);
                if whole { twice } else { format!("{twice}, channels {} to {}", shared.0, shared.1) }
            });
        }
        let multiplied = self.heads.iter().filter(|head| head.object_output.is_some()).count();
        found.require("heads[].object_output", multiplied == 0 || multiplied == heads, || {
            format!("{multiplied} of {heads} levels have one, must be all or none")
        });
        for (i, head) in self.heads.iter().enumerate() {
            let stray = head.object_from != 0 && head.object_output.is_none();
            found.require(&format!("heads[{i}].object_from"), !stray, || {
                format!("{}, but there is no object_output", head.object_from)
            });
        }
    }

    fn check_activation(&self, found: &mut Faults) {
        let activation = &self.activation;
        let softmax = activation.kind == ActivationKind::Softmax;
        found.require("activation.background", softmax || activation.background.is_none(), || {
            "only \"softmax\" has a background class: with \"sigmoid\" make it a class that is null".into()
        });
    }

    fn check_input(&self, found: &mut Faults) {
        let input = &self.input;
        for (field, side) in [("input.width", input.width), ("input.height", input.height)] {
            found.require(field, (32..=2048).contains(&side), || format!("{side}, must be 32 to 2048"));
        }
        found.require("input.sizes", input.sizes.len() <= MOST_SIZES, || {
            format!("{} sizes, must be at most {MOST_SIZES}", input.sizes.len())
        });
        for (number, size) in input.sizes.iter().take(MOST_SIZES).enumerate() {
            let field = format!("input.sizes[{number}]");
            found.require(&field, size.iter().all(|side| (32..=2048).contains(side)), || {
                format!("{size:?}, each side must be 32 to 2048")
            });
            let known = *size == [input.width, input.height] || input.sizes[..number].contains(size);
            found.require(&field, !known, || format!("{size:?} is there already"));
        }
        let scale = input.scale_to_unit;
        found.require("input.scale_to_unit", positive(scale), || {
            format!("{scale}, must be finite and above 0")
        });
        found.require("input.mean", input.mean.iter().all(|v| v.is_finite()), || "must be finite".into());
        found.require("input.std", input.std.iter().all(|&v| positive(v)), || {
            "must be finite and above 0".into()
        });
        let values = |byte: f32| {
            let value = move |(mean, std): (&f32, &f32)| (byte * scale - mean) / std;
            input.mean.iter().zip(&input.std).map(value).all(f32::is_finite)
        };
        found.require("input.std", values(0.0) && values(255.0), || {
            format!("{:?} with mean {:?} makes values that are not finite", input.std, input.mean)
        });
        found.require("input.quant_scale", input.quant_scale.is_none_or(positive), || {
            "must be finite and above 0".into()
        });
        let zero = input.quant_zero_point;
        found.require("input.quant_zero_point", zero.is_none_or(|zero| (-128..=255).contains(&zero)), || {
            format!("{}, must be -128 to 255", zero.unwrap_or_default())
        });
    }

    fn check_anchors(&self, found: &mut Faults) {
        let (levels, heads) = (&self.anchors.levels, self.heads.len());
        found.require("anchors.levels", levels.len() == heads, || {
            format!("{} levels but {heads} heads", levels.len())
        });
        for (i, level) in levels.iter().enumerate() {
            let [feature_hw, stride_yx, base] =
                ["feature_hw", "stride_yx", "base"].map(|key| format!("anchors.levels[{i}].{key}"));
            found.require(&feature_hw, level.feature_hw.iter().all(|side| (1..=1024).contains(side)), || {
                format!("{:?}, must be 1 to 1024", level.feature_hw)
            });
            found.require(
                &stride_yx,
                level.stride_yx.iter().all(|stride| (1..=4096).contains(stride)),
                || format!("{:?}, must be 1 to 4096", level.stride_yx),
            );
            let boxes = level.base.len();
            found.require(&base, (1..=64).contains(&boxes), || format!("{boxes} boxes, must be 1 to 64"));
            let extended = |b: &[f32; 4]| b.iter().all(|v| v.is_finite()) && b[2] > b[0] && b[3] > b[1];
            found.require(&base, level.base.iter().all(extended), || {
                "boxes must be finite with x2 > x1 and y2 > y1".into()
            });
            let whole = level.base.iter().flatten().all(|side| side.fract() == 0.0);
            found.require(&base, self.anchors.rounding == AnchorRounding::None || whole, || {
                let word = self.anchors.rounding.word();
                format!("boxes must be of whole pixels, because anchors.rounding is {word}")
            });
        }
        let offset = self.anchors.offset;
        found.require("anchors.offset", offset == 0.0 || offset == 0.5, || {
            format!("{offset}, must be 0 or 0.5")
        });
    }

    fn check_decode(&self, found: &mut Faults) {
        let (coder, decode) = (&self.box_coder, &self.decode);
        found.require("box_coder.weights", coder.weights.iter().all(|&w| positive(w)), || {
            "must be finite and above 0".into()
        });
        found.require("box_coder.clamp", coder.clamp.is_none_or(|c| c > 0.0 && c <= MAX_CLAMP), || {
            format!("{}, must be above 0 and at most {MAX_CLAMP}, or null", coder.clamp.unwrap_or_default())
        });
        if let Some(bins) = coder.bins {
            found.require("box_coder.bins", (2..=64).contains(&bins), || format!("{bins}, must be 2 to 64"));
            let other = self.heads.iter().position(|head| head.box_order != BoxOrder::LeftTopRightBottom);
            found.require("box_coder.bins", other.is_none(), || {
                let (at, distances) = (other.unwrap_or_default(), BoxOrder::LeftTopRightBottom.word());
                let found = self.heads[at].box_order.word();
                format!("{bins}, but heads[{at}].box_order is {found:?}: only {distances:?} has bins")
            });
        }
        found.require("decode.score_threshold", (0.0..1.0).contains(&decode.score_threshold), || {
            format!("{}, must be 0 to below 1", decode.score_threshold)
        });
        found.require("decode.nms_iou", (0.0..=1.0).contains(&decode.nms_iou), || {
            format!("{}, must be 0 to 1", decode.nms_iou)
        });
        if let Some(voting) = decode.box_voting {
            found.require("decode.box_voting.iou", (0.0..1.0).contains(&voting.iou), || {
                format!("{}, must be 0 to below 1", voting.iou)
            });
            found.require("decode.box_voting.score_power", voting.score_power <= 8, || {
                format!("{}, must be 0 to 8", voting.score_power)
            });
        }
        found.require("decode.topk_per_level", (1..=100_000).contains(&decode.topk_per_level), || {
            format!("{}, must be 1 to 100000", decode.topk_per_level)
        });
        found.require("decode.max_detections", (1..=10_000).contains(&decode.max_detections), || {
            format!("{}, must be 1 to 10000", decode.max_detections)
        });
    }

    fn check_taps(&self, found: &mut Faults) {
        let taps = &self.taps;
        found.require("taps", taps.len() <= MAX_TAPS, || {
            format!("{} taps, at most {MAX_TAPS} are given", taps.len())
        });
        for (i, tap) in taps.iter().enumerate().take(MAX_TAPS) {
            let [name, tensor] = ["name", "tensor"].map(|key| format!("taps[{i}].{key}"));
            found.require(&name, !tap.name.is_empty(), || "empty".into());
            found.require(&name, taps[..i].iter().all(|other| other.name != tap.name), || {
                format!("{:?} is there twice", tap.name)
            });
            found.require(&tensor, !tap.tensor.is_empty(), || "empty".into());
        }
    }

    fn check_self_test(&self, found: &mut Faults) {
        let Some(test) = &self.self_test else { return };
        let digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        let hex = test.heads_sha256.len() == 64 && test.heads_sha256.bytes().all(digit);
        found.require("self_test.heads_sha256", hex, || {
            format!("{:?}, must be 64 lower-case hex digits", test.heads_sha256)
        });
    }
}

fn positive(value: f32) -> bool {
    value.is_finite() && value > 0.0
}
