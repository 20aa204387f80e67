//! From JSON to a manifest: the first key that cannot be read, or all of them.
//!
//! serde stops at the first. To find the next, that one is mended with the value of a manifest that is right,
//! and reading begins again; what depends on a mended value is not judged.

use super::faults::MAX_FAULTS;
use super::{Manifest, ManifestError};
use crate::model::one_line;
use serde_json::{Value, json};
use serde_path_to_error::Segment;

/// Longest text that is read again and again, bytes. The shipped model's manifest has about 6,000.
const MAX_EXAMINED: usize = 4 << 20;

/// What [`Manifest::examine`] found.
#[derive(Debug)]
pub struct Examined {
    /// The manifest, with values of our own in place of those that could not be read; `None`: it is not JSON,
    /// or its form is wholly another.
    pub manifest: Option<Manifest>,
    /// All that does not hold, up to about a hundred; none: [`Manifest::parse`] reads it.
    pub faults: Vec<ManifestError>,
    /// Keys whose values are not the text's.
    mended: Vec<String>,
}

/// Reads a manifest without the checks that its types do not make.
pub(super) fn read(json: &str) -> Result<Manifest, ManifestError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let manifest = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| unreadable(&error))?;
    deserializer.end().map_err(|error| whole(&error.to_string()))?;
    Ok(manifest)
}

/// As [`Manifest::examine`].
pub(super) fn examine(json: &str) -> Examined {
    let first = match read(json) {
        Ok(manifest) => {
            let faults = manifest.faults();
            return Examined { manifest: Some(manifest), faults, mended: Vec::new() };
        }
        Err(first) => first,
    };
    let mut found = Examined { manifest: None, faults: Vec::new(), mended: Vec::new() };
    let short = Some(json).filter(|json| json.len() <= MAX_EXAMINED);
    if let Some(mut value) = short.and_then(|json| serde_json::from_str::<Value>(json).ok()) {
        found.read_on(&mut value);
    }
    if !found.faults.iter().any(|fault| fault.field == first.field) {
        // A key that is there twice is one in a `Value`, so only the first reading saw it.
        found.faults.insert(0, first);
    }
    found
}

impl Examined {
    /// Whether the key `field`, and all in it, is as the text has it.
    #[must_use]
    pub fn is_own(&self, field: &str) -> bool {
        !self.mended.iter().any(|mended| lies_within(field, mended) || lies_within(mended, field))
    }

    /// Reads `value`, and mends it, until it can be read.
    fn read_on(&mut self, value: &mut Value) {
        let right = right();
        while self.faults.len() < MAX_FAULTS {
            let error = match serde_path_to_error::deserialize::<_, Manifest>(&*value) {
                Ok(manifest) => {
                    let judged = manifest.faults().into_iter().filter(|fault| self.is_judged(&fault.field));
                    let judged: Vec<_> = judged.collect();
                    self.faults.extend(judged);
                    self.manifest = Some(manifest);
                    return;
                }
                Err(error) => error,
            };
            let mended = mend(value, &right, &error);
            self.faults.push(unreadable(&error));
            match mended {
                Some(key) => self.mended.push(key),
                None => return,
            }
        }
    }

    /// Whether a fault of `field` is one of the text, and not of what a value was mended with.
    fn is_judged(&self, field: &str) -> bool {
        let lists = ["heads", "anchors", "anchors.levels"];
        let whole_list = self.mended.iter().any(|mended| lists.contains(&mended.as_str()));
        let of_lists = ["heads", "anchors.levels", "box_coder.bins"];
        let depends = of_lists.iter().any(|list| lies_within(field, list));
        self.is_own(field) && !(whole_list && depends)
    }
}

/// Whether `field` is the key `whole`, or one in it.
fn lies_within(field: &str, whole: &str) -> bool {
    field.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Takes an unknown key out of `value`, or puts in a `right` value for one that is missing or of a wrong type.
/// Gives the key, or `None` if that cannot be done.
fn mend(
    value: &mut Value,
    right: &Value,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> Option<String> {
    let words = error.inner().to_string();
    let mut path: Vec<Step> = error.path().iter().map(Step::of).collect::<Option<_>>()?;
    if words.starts_with("unknown field `") {
        let Some(Step::Key(key)) = path.pop() else { return None };
        inside(value, &path)?.as_object_mut()?.remove(&key)?;
        path.push(Step::Key(key));
        return Some(written(&path));
    }
    let missing = words.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    path.extend(missing.map(|key| Step::Key(key.to_owned())));
    let (last, parents) = path.split_last()?;
    let good = path.iter().try_fold(right, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(_) => value.get(0),
    })?;
    let parent = inside(value, parents)?;
    match last {
        Step::Key(key) => {
            parent.as_object_mut()?.insert(key.clone(), good.clone());
        }
        Step::Index(index) => *parent.get_mut(*index)? = good.clone(),
    }
    Some(written(&path))
}

/// One step into a JSON value.
enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    fn of(segment: &Segment) -> Option<Self> {
        match segment {
            Segment::Seq { index } => Some(Self::Index(*index)),
            Segment::Map { key } => Some(Self::Key(key.clone())),
            _ => None,
        }
    }
}

fn inside<'a>(value: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(*index),
    })
}

/// The path as errors write it.
fn written(path: &[Step]) -> String {
    path.iter().fold(String::new(), |mut text, step| {
        match step {
            Step::Key(key) if text.is_empty() => text += key,
            Step::Key(key) => text += &format!(".{key}"),
            Step::Index(index) => text += &format!("[{index}]"),
        }
        text
    })
}

/// A manifest with every key that must be there or that has keys of its own, and one entry in every list.
fn right() -> Value {
    json!({
        "format": "retinad-manifest/1", "name": "a", "version": "1", "description": "", "licence": "",
        "licence_url": "", "authors": [""],
        "input": {
            "name": "a", "width": 320, "height": 320, "layout": "nchw", "channels": "rgb", "dtype": "f32",
            "scale_to_unit": 1, "mean": [0, 0, 0], "std": [1, 1, 1], "quant_scale": 1, "quant_zero_point": 0,
        },
        "letterbox": {
            "keep_aspect": true, "placement": "top_left", "pad_rgb": [0, 0, 0],
            "resample": "bilinear_half_pixel", "rounding": "nearest",
        },
        "classes": [{"label": "a", "coco_id": 1}],
        "heads": [{
            "level": "p3", "class_output": "c", "class_from": 0, "box_output": "b", "box_from": 0,
            "object_output": null, "object_from": 0, "class_channels": "anchor_major",
            "box_order": "left_top_right_bottom",
        }],
        "activation": {"kind": "sigmoid", "logits": true, "background": null},
        "anchors": {
            "format": "xyxy", "order": "level_y_x_anchor", "cell_order": "scale_ratio", "rounding": "none",
            "offset": 0, "sha256": null,
            "levels": [{"stride_yx": [8, 8], "feature_hw": [40, 40], "base": [[-4, -4, 4, 4]]}],
        },
        "box_coder": {"weights": [1, 1, 1, 1], "clamp": null, "bins": null},
        "decode": {
            "score_threshold": 0.05, "topk_per_level": 1000, "nms_iou": 0.5, "max_detections": 100,
            "clip": "before_nms", "box_voting": {"iou": 0.7, "score_power": 2},
        },
        "taps": [{"name": "a", "tensor": "a"}],
        "self_test": {"picture": "retinad-1", "heads_sha256": "0".repeat(64)},
    })
}

/// An error of the manifest as a whole.
pub(super) fn whole(reason: &str) -> ManifestError {
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
mod tests {
    use super::*;

    #[test]
    fn the_right_manifest_is_right() {
        let found = examine(&right().to_string());
        assert!(found.faults.is_empty() && found.manifest.is_some(), "{:?}", found.faults);
    }

    #[test]
    fn all_that_is_missing_unknown_of_a_wrong_type_or_out_of_range_is_told_at_once() {
        let mut json = right();
        json["input"]["width"] = json!("wide");
        json["input"]["height"] = json!(7);
        json["input"]["colour"] = json!("red");
        json["heads"][0].as_object_mut().expect("an object").remove("box_output");
        json["anchors"]["offset"] = json!(0.3);
        json["anchors"]["levels"][0]["base"][0] = json!([1, 2]);
        json["decode"]["clip"] = json!("never");
        json["taps"] = json!([7]);
        json.as_object_mut().expect("an object").remove("name");
        let found = examine(&json.to_string());
        let mut lines: Vec<_> = found.faults.iter().map(ToString::to_string).collect();
        lines.sort();
        let expected = [
            "anchors.levels[0].base[0]: invalid length 2",
            "anchors.offset: 0.3, must be 0 or 0.5",
            "decode.clip: \"never\", must be one of",
            "heads[0]: missing field `box_output`",
            "input.colour: unknown field `colour`",
            "input.height: 7, must be 32 to 2048",
            "input.width: invalid type: string \"wide\"",
            "retinad.manifest: missing field `name`",
            "taps[0]: invalid type: integer `7`",
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, start) in lines.iter().zip(expected) {
            assert!(line.starts_with(start), "{lines:#?}");
        }
        assert!(found.manifest.is_some() && found.is_own("input.mean") && !found.is_own("heads"));
    }

    #[test]
    fn a_key_that_is_there_twice_and_a_text_that_is_no_object_are_one_fault() {
        let twice = right().to_string().replacen("\"name\"", "\"version\":\"2\",\"name\"", 1);
        for text in [&twice, "", "{", "[1]", "null", "7"] {
            let faults = examine(text).faults;
            assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        }
    }

    #[test]
    fn thousands_of_faults_are_told_up_to_a_hundred() {
        let mut json = right();
        json["classes"] = json!(vec![json!(1); 5000]);
        assert_eq!(examine(&json.to_string()).faults.len(), MAX_FAULTS);
    }
}
