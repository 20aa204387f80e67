//! Every word and bound of the manifest, on that of a model with anchors.

use super::*;
use crate::model::ModelFile;
use serde_json::json;
use std::path::Path;

fn anchored() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/anchors-320-int8.onnx");
    let file = ModelFile::read(&path).expect("the model with anchors");
    let mut json = serde_json::to_value(file.manifest().expect("a manifest")).expect("JSON");
    // Not in it, and to be tried as the other keys are.
    json["decode"]["box_voting"] = json!({"iou": 0.7, "score_power": 2});
    json
}

/// The refusal of that manifest with the value at `pointer` changed: `field: reason`.
fn refusal(pointer: &str, value: Value) -> String {
    let mut json = anchored();
    *json.pointer_mut(pointer).expect("a key of the manifest") = value;
    Manifest::parse(&json.to_string()).expect_err("refused").to_string()
}

/// Makes the base boxes whole pixels, as some roundings have them.
fn round_boxes(json: &mut Value) {
    let levels = json.pointer_mut("/anchors/levels").and_then(Value::as_array_mut).expect("levels");
    for side in levels
        .iter_mut()
        .flat_map(|level| level["base"].as_array_mut().expect("boxes"))
        .flat_map(|base| base.as_array_mut().expect("four sides"))
    {
        *side = json!(side.as_f64().expect("a number").round());
    }
}

#[test]
fn a_word_that_is_not_allowed_is_named_with_its_key_and_those_that_are() {
    let cases: [(&str, &str, &[&str]); 17] = [
        ("/format", "format", Format::ALLOWED),
        ("/input/layout", "input.layout", Layout::ALLOWED),
        ("/input/channels", "input.channels", Channels::ALLOWED),
        ("/input/dtype", "input.dtype", InputType::ALLOWED),
        ("/letterbox/placement", "letterbox.placement", Placement::ALLOWED),
        ("/letterbox/resample", "letterbox.resample", Resample::ALLOWED),
        ("/letterbox/rounding", "letterbox.rounding", Rounding::ALLOWED),
        ("/heads/0/class_channels", "heads[0].class_channels", ClassChannels::ALLOWED),
        ("/heads/0/box_order", "heads[0].box_order", BoxOrder::ALLOWED),
        ("/heads/3/box_order", "heads[3].box_order", BoxOrder::ALLOWED),
        ("/activation/kind", "activation.kind", ActivationKind::ALLOWED),
        ("/anchors/format", "anchors.format", BoxFormat::ALLOWED),
        ("/anchors/order", "anchors.order", AnchorOrder::ALLOWED),
        ("/anchors/cell_order", "anchors.cell_order", CellOrder::ALLOWED),
        ("/anchors/rounding", "anchors.rounding", AnchorRounding::ALLOWED),
        ("/decode/clip", "decode.clip", ClipOrder::ALLOWED),
        ("/decode/clip", "decode.clip", &["before_nms", "after_nms"]),
    ];
    for (pointer, field, allowed) in cases {
        assert_eq!(
            refusal(pointer, json!("sideways")),
            format!("{field}: \"sideways\", must be one of {allowed:?}")
        );
    }
}

/// `value`'s keys, and those of what is in it.
fn keys(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            into.push(key.clone());
            keys(value, into);
        }),
        Value::Array(list) => list.iter().for_each(|value| keys(value, into)),
        _ => {}
    }
}

#[test]
fn the_document_names_every_key_and_every_word() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/own-model.md");
    let document = std::fs::read_to_string(path).expect("the document");
    let mut json = anchored();
    for people in ["training", "quantisation", "evaluation", "lineage"] {
        json[people] = Value::Null;
    }
    json["taps"] = json!([{"name": "a", "tensor": "x"}]);
    json["self_test"] = json!({"picture": "retinad-1", "heads_sha256": "0".repeat(64)});
    json["box_coder"]["bins"] = json!(8);
    let mut names = Vec::new();
    keys(&json, &mut names);
    let its_keys = names.len();
    assert!(its_keys > 60, "{its_keys}");
    let named = |name: &str| {
        let around = |c: Option<char>| !c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        document.match_indices(name).any(|(at, _)| {
            around(document[..at].chars().next_back()) && around(document[at + name.len()..].chars().next())
        })
    };
    let missing: Vec<_> = names.iter().filter(|name| !named(name)).collect();
    assert!(missing.is_empty(), "docs/own-model.md does not name {missing:?}");
    let words: [&[&str]; 15] = [
        Format::ALLOWED,
        Layout::ALLOWED,
        Channels::ALLOWED,
        InputType::ALLOWED,
        Placement::ALLOWED,
        Resample::ALLOWED,
        Rounding::ALLOWED,
        ClassChannels::ALLOWED,
        BoxOrder::ALLOWED,
        ActivationKind::ALLOWED,
        BoxFormat::ALLOWED,
        AnchorOrder::ALLOWED,
        CellOrder::ALLOWED,
        AnchorRounding::ALLOWED,
        ClipOrder::ALLOWED,
    ];
    for word in words.concat() {
        assert!(document.contains(&format!("\"{word}\"")), "docs/own-model.md does not name {word:?}");
    }
}

#[test]
fn every_allowed_word_is_read_and_written_as_it_is() {
    for (pointer, allowed) in [
        ("/input/channels", Channels::ALLOWED),
        ("/letterbox/placement", Placement::ALLOWED),
        ("/heads/2/box_order", BoxOrder::ALLOWED),
        ("/anchors/cell_order", CellOrder::ALLOWED),
        ("/anchors/rounding", AnchorRounding::ALLOWED),
        ("/decode/clip", ClipOrder::ALLOWED),
    ] {
        for word in allowed {
            let mut json = anchored();
            round_boxes(&mut json);
            *json.pointer_mut(pointer).expect("a key of the manifest") = json!(word);
            let manifest = Manifest::parse(&json.to_string()).expect("allowed");
            let written = serde_json::to_value(&manifest).expect("JSON");
            assert_eq!(written.pointer(pointer), Some(&json!(word)), "{pointer}");
        }
    }
}

#[test]
fn unknown_keys_wrong_types_and_missing_keys_name_the_key() {
    let add = |pointer: &str, key: &str| {
        let mut json = anchored();
        json.pointer_mut(pointer)
            .and_then(Value::as_object_mut)
            .expect("an object")
            .insert(key.to_owned(), json!(1));
        Manifest::parse(&json.to_string()).expect_err("refused").to_string()
    };
    assert!(add("", "colour").starts_with("colour: unknown field `colour`"), "{}", add("", "colour"));
    assert!(
        add("/heads/1", "shape").starts_with("heads[1].shape: unknown field `shape`"),
        "{}",
        add("/heads/1", "shape")
    );
    assert_eq!(add("", "two\nlines").lines().count(), 1);
    let wrong = refusal("/input/width", json!("wide"));
    assert_eq!(wrong, "input.width: invalid type: string \"wide\", expected u32");
    let mut json = anchored();
    json["decode"].as_object_mut().expect("an object").remove("nms_iou");
    let missing = Manifest::parse(&json.to_string()).expect_err("refused").to_string();
    assert_eq!(missing, "decode: missing field `nms_iou`");
    for text in ["", "{", "[]", "null", "{} {}"] {
        let error = Manifest::parse(text).expect_err("refused");
        assert!(error.field == "retinad.manifest" && error.to_string().lines().count() == 1, "{error}");
    }
    let two = format!("{} {{}}", anchored());
    assert_eq!(Manifest::parse(&two).expect_err("refused").field, "retinad.manifest", "nothing may follow");
}

#[test]
fn numbers_out_of_range_are_refused_with_their_key() {
    let digest = "0123456789abcdef".repeat(4);
    for (pointer, value, field) in [
        ("/input/width", json!(31), "input.width: 31"),
        ("/input/scale_to_unit", json!(1e300), "input.scale_to_unit: inf"),
        ("/input/std/1", json!(0.0), "input.std"),
        ("/letterbox/keep_aspect", json!("no"), "letterbox.keep_aspect"),
        ("/classes", json!([]), "classes: 0 entries"),
        ("/heads", json!([]), "heads: empty"),
        ("/anchors/levels", json!([]), "anchors.levels: 0 levels but 4 heads"),
        ("/anchors/levels/2/feature_hw/0", json!(0), "anchors.levels[2].feature_hw: [0, 10]"),
        ("/anchors/levels/2/stride_yx/0", json!(5000), "anchors.levels[2].stride_yx"),
        ("/anchors/levels/1/base", json!([]), "anchors.levels[1].base: 0 boxes"),
        ("/anchors/levels/1/base/0", json!([0, 0, 0, 1]), "anchors.levels[1].base: boxes"),
        ("/box_coder/weights/0", json!(-1), "box_coder.weights"),
        (
            "/box_coder",
            json!({"weights": [1, 1, 1, 1], "clamp": null, "bins": 8}),
            "box_coder.bins: 8, but heads[0]",
        ),
        (
            "/box_coder",
            json!({"weights": [1, 1, 1, 1], "clamp": null, "bins": 1}),
            "box_coder.bins: 1, must be 2",
        ),
        ("/decode/score_threshold", json!(1), "decode.score_threshold: 1"),
        ("/decode/nms_iou", json!(1.5), "decode.nms_iou: 1.5"),
        (
            "/decode/box_voting",
            json!({"iou": 1.0, "score_power": 2}),
            "decode.box_voting.iou: 1, must be 0 to",
        ),
        (
            "/decode/box_voting",
            json!({"iou": 0.7, "score_power": 9}),
            "decode.box_voting.score_power: 9, must",
        ),
        ("/decode/box_voting", json!({"iou": 0.7}), "decode.box_voting: missing field `score_power`"),
        ("/decode/box_voting", json!(0.7), "decode.box_voting: "),
        ("/decode/topk_per_level", json!(0), "decode.topk_per_level: 0"),
        ("/decode/max_detections", json!(10_001), "decode.max_detections: 10001"),
    ] {
        let error = refusal(pointer, value);
        assert!(error.starts_with(field), "{error}");
    }
    let with = |key: &str, value: Value| {
        let mut json = anchored();
        json.as_object_mut().expect("an object").insert(key.to_owned(), value);
        Manifest::parse(&json.to_string()).map(|_| ()).map_err(|error| error.to_string())
    };
    let tap = |name: &str, tensor: &str| json!({"name": name, "tensor": tensor});
    assert_eq!(with("taps", json!([tap("a", "x"), tap("b", "x")])), Ok(()));
    assert_eq!(
        with("taps", json!([tap("a", "x"), tap("a", "y")])),
        Err("taps[1].name: \"a\" is there twice".into())
    );
    assert_eq!(with("taps", json!([tap("a", "")])), Err("taps[0].tensor: empty".into()));
    assert_eq!(with("taps", json!([tap("", "x")])), Err("taps[0].name: empty".into()));
    assert_eq!(with("self_test", json!({"picture": "retinad-1", "heads_sha256": digest})), Ok(()));
    let digest = digest.to_uppercase();
    let error =
        with("self_test", json!({"picture": "retinad-1", "heads_sha256": digest})).expect_err("refused");
    assert!(
        error.starts_with("self_test.heads_sha256") && error.ends_with("must be 64 lower-case hex digits"),
        "{error}"
    );
    let error =
        with("self_test", json!({"picture": "monalisa", "heads_sha256": digest})).expect_err("refused");
    assert_eq!(error, "self_test.picture: \"monalisa\", must be one of [\"retinad-1\"]");
}

#[test]
fn random_damage_is_refused_in_one_line_or_reads_what_it_writes() {
    let good = anchored().to_string().into_bytes();
    let mut state = 11u64;
    let mut random = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let (mut refused, mut read) = (0, 0);
    for _ in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random(3) {
            let at = random(bytes.len());
            // Printable bytes, so that the text stays UTF-8 as protobuf asks.
            bytes[at] = 0x20 + random(0x5f) as u8;
        }
        if random(4) == 0 {
            bytes.truncate(random(bytes.len()));
        }
        match Manifest::parse(std::str::from_utf8(&bytes).expect("UTF-8")) {
            Ok(manifest) => {
                let again = Manifest::parse(&manifest.to_json().expect("written")).expect("reads");
                assert_eq!(again, manifest);
                read += 1;
            }
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 500 && read > 100, "the damage says nothing: {refused} refused, {read} read");
}

#[test]
fn values_out_of_range_are_named() {
    let cases = [
        ("/box_coder/clamp", json!(-5), "box_coder.clamp: -5, must be above 0 and at most 20, or null"),
        ("/box_coder/clamp", json!(0), "box_coder.clamp: 0, must be above 0 and at most 20, or null"),
        (
            "/box_coder/clamp",
            json!(1e9),
            "box_coder.clamp: 1000000000, must be above 0 and at most 20, or null",
        ),
        ("/input/quant_zero_point", json!(256), "input.quant_zero_point: 256, must be -128 to 255"),
        ("/input/quant_scale", json!(-0.5), "input.quant_scale: must be finite and above 0"),
        ("/anchors/offset", json!(0.25), "anchors.offset: 0.25, must be 0 or 0.5"),
        ("/classes/0/label", json!(" "), "classes[0].label: empty, must be a name; null: never used"),
        ("/heads/1/box_output", json!("cls_p3"), "heads[1].box_output: \"cls_p3\" is there twice"),
    ];
    for (pointer, value, expected) in cases {
        assert_eq!(refusal(pointer, value), expected);
    }
    // Its boxes are of parts of pixels.
    let rounded = refusal("/anchors/rounding", json!("half_extent_ties_even"));
    assert!(rounded.starts_with("anchors.levels[0].base: boxes must be of whole pixels"), "{rounded}");
    let far = refusal("/input/std", json!([1e-38, 1, 1]));
    assert!(far.contains("makes values that are not finite"), "{far}");
}
