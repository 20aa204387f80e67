//! COCO's numbers against pycocotools 2.0.11 (`tests/golden/coco_eval.py`).

use retinad::coco::{Annotations, read_results};
use retinad::evaluation::{Evaluation, classes, pictures};
use serde_json::Value;
use std::path::Path;

/// Both count in f64 and differ in the order of their sums.
const TOLERANCE: f64 = 1e-6;

/// pycocotools writes -1 where there is no truth.
fn number(value: Option<f64>) -> f64 {
    value.unwrap_or(-1.0)
}

/// The case's numbers that are not those of pycocotools, in words.
fn differences(name: &str, golden: &Value, annotations: &Annotations, results: &Path) -> Vec<String> {
    let results = read_results(results, annotations).expect("results");
    let pictures = pictures(annotations, &results);
    let evaluation = Evaluation::new(&pictures, classes(annotations).len());
    let mut differing = Vec::new();
    let mut compare = |what: String, found: f64, wanted: &Value| {
        let wanted = wanted.as_f64().expect("a number");
        if (found - wanted).abs() > TOLERANCE {
            differing.push(format!("{name}: {what}: {found}, pycocotools {wanted}"));
        }
    };
    for ((what, found), wanted) in evaluation.summary().named().into_iter().zip(list(golden, "stats")) {
        compare(what.into(), number(found), wanted);
    }
    for (key, ap50) in [("ap", false), ("ap50", true)] {
        let of_classes = evaluation.class_ap();
        assert_eq!(of_classes.len(), list(golden, key).len());
        for ((class, found), wanted) in of_classes.iter().enumerate().zip(list(golden, key)) {
            let found = if ap50 { found.ap.ap50 } else { found.ap.ap };
            compare(format!("{key} of class {class}"), number(found), wanted);
        }
    }
    differing
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().expect("a list")
}

fn golden(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    serde_json::from_slice(&std::fs::read(path).expect("golden file")).expect("JSON")
}

#[test]
fn corner_cases_give_the_numbers_of_pycocotools() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("results.json");
    let cases = golden("coco_eval.json");
    let cases = cases.as_array().expect("cases");
    assert_eq!(cases.len(), 27);
    let mut differing = Vec::new();
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let annotations =
            Annotations::from_slice(name, case["annotations"].to_string().as_bytes()).expect("annotations");
        std::fs::write(&path, case["results"].to_string()).expect("written");
        differing.extend(differences(name, case, &annotations, &path));
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn five_detectors_on_voc20_get_the_numbers_of_pycocotools() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let truths = data.join("voc20/test.json");
    if !truths.exists() {
        eprintln!("skipped: {} is not there; the data are not part of the repository", truths.display());
        return;
    }
    let annotations = Annotations::read(&truths).expect("annotations");
    let cases = golden("coco_eval_voc20.json");
    let cases = cases.as_object().expect("cases");
    assert_eq!(cases.len(), 5);
    for (name, case) in cases {
        let differing = differences(name, case, &annotations, &data.join("peers/detections").join(name));
        assert!(differing.is_empty(), "{}", differing.join("\n"));
    }
}
