//! `retinad manifest`: from a graph without a manifest to a model that detects, and every way in which that
//! can go wrong in one line each.

mod program;

use program::{ROOT, folder, output, retinad};
use prost::Message;
use serde_json::{Value, json};
use std::path::Path;
use tract_onnx::pb;

const SHIPPED: &str = "models/retinad-m-320-int8.onnx";

/// The manifest that the shipped model has.
fn own() -> Value {
    let (code, out, error) = output(&["manifest", SHIPPED]);
    assert_eq!((code, &error[..]), (Some(0), ""));
    serde_json::from_str(&out).expect("JSON")
}

/// The shipped model without its manifest, whose key becomes another.
fn bare(folder: &Path) -> String {
    let mut bytes = std::fs::read(Path::new(ROOT).join(SHIPPED)).expect("the shipped model");
    let key = b"retinad.manifest";
    let at = bytes.windows(key.len()).rposition(|part| part == key).expect("the key");
    bytes[at..at + key.len()].copy_from_slice(b"another.manifest");
    let path = folder.join("bare.onnx");
    std::fs::write(&path, bytes).expect("written");
    path.display().to_string()
}

fn put(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[test]
fn a_template_has_the_heads_and_anchors_of_the_models_own_manifest_and_passes_the_check() {
    let folder = folder();
    let bare = bare(folder.path());
    let (code, out, error) = output(&["manifest", "--template", &bare, "--anchor-strides", "3"]);
    assert_eq!(code, Some(0), "{error}");
    let (draft, own): (Value, Value) = (serde_json::from_str(&out).expect("JSON"), own());
    assert_eq!(draft["heads"], own["heads"]);
    assert_eq!(draft["activation"], own["activation"]);
    for key in ["name", "width", "height", "layout", "dtype"] {
        assert_eq!(draft["input"][key], own["input"][key], "{key}");
    }
    let levels = |json: &Value| json["anchors"]["levels"].as_array().expect("levels").clone();
    for (draft, own) in levels(&draft).iter().zip(&levels(&own)) {
        assert_eq!([&draft["stride_yx"], &draft["feature_hw"]], [&own["stride_yx"], &own["feature_hw"]]);
        let sides = |json: &Value| -> Vec<f64> {
            let boxes = json["base"].as_array().expect("boxes").iter();
            boxes.flat_map(|b| b.as_array().expect("sides")).map(|v| v.as_f64().expect("a side")).collect()
        };
        let (draft, own) = (sides(draft), sides(own));
        assert!(draft.len() == own.len() && draft.iter().zip(&own).all(|(a, b)| (a - b).abs() < 1e-4));
    }
    assert_eq!(levels(&draft).len(), levels(&own).len());
    assert_eq!(draft["classes"].as_array().map(Vec::len), Some(20));
    for guessed in ["input.mean", "classes", "letterbox", "anchors.levels[].base", "heads[].box_order"] {
        assert!(error.lines().any(|line| line.starts_with("fill in") && line.contains(guessed)), "{error}");
    }
    let json = put(folder.path(), "draft.json", &out);
    let (code, out, error) = output(&["manifest", "--check", &bare, "--manifest", &json]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.starts_with("ok: FILL IN 0.1.0, input `image` 320 x 320, 4 levels, 20 classes"), "{out}");
    assert!(
        out.contains("output cls_p3 [1, ") && error.contains("name: still says FILL IN"),
        "{out} {error}"
    );
}

#[test]
fn a_stamped_model_detects_as_the_shipped_one() {
    let folder = folder();
    let bare = bare(folder.path());
    let mut manifest = own();
    for people in ["description", "licence", "licence_url", "authors", "training", "quantisation"] {
        manifest.as_object_mut().expect("an object").remove(people);
    }
    let digest = manifest["anchors"].as_object_mut().expect("an object").remove("sha256").expect("a digest");
    let json = put(folder.path(), "own.json", manifest.to_string());
    let to = folder.path().join("mine.onnx").display().to_string();
    let (code, _, error) = output(&["manifest", "--stamp", &bare, "--manifest", &json, "-o", &to]);
    assert_eq!((code, &error[..]), (Some(0), ""));
    let (_, shown, _) = output(&["manifest", "--show", &to]);
    assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON")["anchors"]["sha256"], digest);
    let found = |model: &str| output(&["detect", "--model", model, "examples/pictures/chelsea.jpg"]).1;
    let detections =
        |model: &str| serde_json::from_str::<Value>(&found(model)).expect("JSON")["detections"].clone();
    let expected = detections(SHIPPED);
    assert!(expected.as_array().is_some_and(|all| !all.is_empty()), "{expected}");
    assert_eq!(detections(&to), expected);
    // In place, and a second time: the file stays the same.
    let before = std::fs::read(&to).expect("there");
    let (code, _, error) = output(&["manifest", "--stamp", &to, "--manifest", &json, "-o", &to]);
    assert_eq!((code, std::fs::read(&to).expect("there") == before), (Some(0), true), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 3, "nothing is left beside it");
}

/// The shipped model as many exporters write one: rows of classes and boxes of all levels joined to one
/// table, and no manifest.
fn joined(folder: &Path) -> String {
    let bytes = std::fs::read(bare(folder)).expect("written");
    let mut model = pb::ModelProto::decode(&bytes[..]).expect("a model");
    model.metadata_props.clear();
    let graph = model.graph.as_mut().expect("a graph");
    let (mut classes, mut boxes) = (Vec::new(), Vec::new());
    for output in std::mem::take(&mut graph.output) {
        let rows = format!("{}_rows", output.name);
        let channels = if output.name.starts_with("cls") { 20 } else { 32 };
        let shape = format!("{rows}_shape");
        graph.initializer.push(pb::TensorProto {
            name: shape.clone(),
            dims: vec![3],
            data_type: pb::tensor_proto::DataType::Int64 as i32,
            int64_data: vec![1, channels, -1],
            ..Default::default()
        });
        graph.node.push(node("Reshape", &[&output.name, &shape], &rows));
        if channels == 20 { &mut classes } else { &mut boxes }.push(rows);
    }
    let axis = |value| pb::AttributeProto {
        name: "axis".into(),
        r#type: pb::attribute_proto::AttributeType::Int as i32,
        i: value,
        ..Default::default()
    };
    for (rows, name) in [(classes, "classes"), (boxes, "boxes")] {
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        graph.node.push(pb::NodeProto { attribute: vec![axis(2)], ..node("Concat", &rows, name) });
    }
    graph
        .node
        .push(pb::NodeProto { attribute: vec![axis(1)], ..node("Concat", &["boxes", "classes"], "table") });
    graph.output = vec![pb::ValueInfoProto { name: "table".into(), ..Default::default() }];
    put(folder, "joined.onnx", model.encode_to_vec())
}

fn node(op: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op.into(),
        name: output.into(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

#[test]
fn heads_joined_to_one_table_are_read_before_they_are_joined() {
    let folder = folder();
    let joined = joined(folder.path());
    let (code, out, error) = output(&["manifest", "--template", &joined]);
    assert_eq!(code, Some(0), "{error}");
    let draft: Value = serde_json::from_str(&out).expect("JSON");
    // The template names what the last convolutions give; here these are quantised, and are read as codes.
    assert_eq!(draft["heads"].as_array().map(Vec::len), Some(4), "{out}");
    let mut manifest = own();
    for (i, head) in draft["heads"].as_array().expect("heads").iter().enumerate() {
        for key in ["class_output", "box_output"] {
            assert_ne!(head[key], manifest["heads"][i][key], "an inner tensor");
            manifest["heads"][i][key] = head[key].clone();
        }
    }
    let json = put(folder.path(), "inner.json", manifest.to_string());
    let to = folder.path().join("mine.onnx").display().to_string();
    let (code, _, error) = output(&["manifest", "--stamp", &joined, "--manifest", &json, "-o", &to]);
    assert_eq!((code, &error[..]), (Some(0), ""));
    let detections = |model: &str| {
        let (_, out, error) = output(&["detect", "--model", model, "examples/pictures/chelsea.jpg"]);
        serde_json::from_str::<Value>(&out).unwrap_or_else(|_| panic!("{error}"))["detections"].clone()
    };
    assert_eq!(detections(&to), detections(SHIPPED));
    let (_, out, _) = output(&["check", "--model", &to]);
    assert!(out.contains("100 %"), "the table is not made, so that nothing runs in float: {out}");
    // A part of a tensor that it does not have.
    for from in [1, u64::MAX] {
        manifest["heads"][0]["class_from"] = json!(from);
        let json = put(folder.path(), "part.json", manifest.to_string());
        let (code, _, error) = output(&["manifest", "--check", &joined, "--manifest", &json]);
        let words = format!("asks for 20 from {from} on");
        assert!(code == Some(78) && error.contains("heads[0].class_output"), "{error}");
        assert!(error.contains("20 channels, but") && error.contains(&words), "{error}");
    }
}

#[test]
fn all_errors_are_told_at_once_by_their_keys() {
    let folder = folder();
    let mut json = own();
    json["colour"] = json!("red");
    json["input"]["width"] = json!("wide");
    json["input"]["name"] = json!("images");
    json["heads"][1]["class_output"] = json!("nowhere");
    json["heads"][2]["box_output"] = json!("cls_p5 ");
    json["anchors"]["levels"][3]["base"].as_array_mut().expect("boxes").push(json!([-1, -1, 1, 1]));
    json["decode"]["nms_iou"] = json!(7);
    let file = put(folder.path(), "wrong.json", json.to_string());
    let (code, out, error) = output(&["manifest", "--check", SHIPPED, "--manifest", &file]);
    assert_eq!((code, &out[..]), (Some(78), ""), "{error}");
    for field in [
        "colour",
        "input.width",
        "input.name",
        "heads[1].class_output",
        "heads[2].box_output",
        "heads[3].class_output",
        "heads[3].box_output",
        "decode.nms_iou",
    ] {
        let found = error.lines().filter(|line| line.starts_with(&format!("{file}: {field}: "))).count();
        assert_eq!(found, 1, "{field}: {error}");
    }
    assert!(error.contains("the graph's output box_p6 [1, "), "{error}");
}

#[test]
fn each_bad_input_is_refused_in_words_and_writes_nothing() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let whole = own().to_string();
    let mut wrong_hash = own();
    wrong_hash["anchors"]["sha256"] = json!("0".repeat(64));
    let mut self_test = own();
    self_test["self_test"] = json!({"picture": "retinad-1", "heads_sha256": "0".repeat(64)});
    let fifo = at("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    let fine = put(folder.path(), "fine.json", &whole);
    let manifests = [
        (put(folder.path(), "half.json", &whole[..whole.len() / 2]), "EOF while parsing"),
        (put(folder.path(), "empty.json", ""), "EOF while parsing"),
        (put(folder.path(), "latin.json", b"{\"name\": \"\xe9\"}"), "must be JSON in UTF-8"),
        (put(folder.path(), "huge.json", whole.replacen("0.05", "1e999", 1)), "number out of range"),
        (put(folder.path(), "nan.json", whole.replacen("0.05", "NaN", 1)), "expected value"),
        (put(folder.path(), "hash.json", wrong_hash.to_string()), "anchors.sha256: 0000"),
        (put(folder.path(), "test.json", self_test.to_string()), "self_test.heads_sha256"),
        (put(folder.path(), "long.json", vec![b' '; (4 << 20) + 1]), "at most 4194304 are read"),
        (
            put(folder.path(), "deep.json", format!("{{\"training\":{}", "[".repeat(100_000))),
            "recursion limit",
        ),
        (fifo.clone(), "a FIFO, must be a regular file"),
        (at("none.json"), "No such file"),
    ];
    let to = at("out.onnx");
    for (manifest, words) in &manifests {
        let (code, out, error) = output(&["manifest", "--stamp", SHIPPED, "--manifest", manifest, "-o", &to]);
        assert_eq!((code, &out[..]), (Some(78), ""), "{manifest}: {error}");
        assert!(error.contains(words) && error.contains(manifest), "{error}");
    }
    let text = put(folder.path(), "text.onnx", "this is no model");
    let empty = put(folder.path(), "empty.onnx", "");
    let here = folder.path().display().to_string();
    for (model, words) in
        [(&text, "not an ONNX file"), (&empty, "it is empty"), (&here, "a folder"), (&fifo, "a FIFO")]
    {
        for what in ["--template", "--check", "--show"] {
            let (code, out, error) = output(&["manifest", what, model]);
            assert_eq!((code, &out[..], error.lines().count()), (Some(78), "", 1), "{what}: {error}");
            assert!(error.contains(words) && error.contains(model), "{error}");
        }
    }
    for (to, code, words) in [
        (fine.clone(), 2, "is read here and would be written"),
        (here.clone(), 2, "a folder, must be"),
        (fifo.clone(), 2, "a FIFO, must be"),
        (at("no/such/folder.onnx"), 71, "No such file"),
    ] {
        let (found, out, error) = output(&["manifest", "--stamp", SHIPPED, "--manifest", &fine, "-o", &to]);
        assert_eq!((found, &out[..]), (Some(code), ""), "{error}");
        assert!(error.contains(words) && error.contains(&to), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&fine).expect("there"), whole);
    assert!(!Path::new(&to).exists());
    for wrong in
        [&["manifest"][..], &["manifest", "--stamp", SHIPPED], &["manifest", "--show", "--check", SHIPPED]]
    {
        assert_eq!(retinad(wrong).output().expect("runs").status.code(), Some(2), "{wrong:?}");
    }
    let (code, _, error) = output(&["manifest", "--template", "tests/faults/models/ok_control.onnx"]);
    assert!(code == Some(78) && error.lines().count() == 1, "{code:?} {error}");
}
