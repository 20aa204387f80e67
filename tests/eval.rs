//! `retinad eval` as people use it: what it counts, draws and refuses.

mod program;

use program::{ROOT, folder, output};
use serde_json::Value;
use std::path::Path;
use std::sync::OnceLock;

const PICTURES: &str = "examples/pictures";

/// Everything in the demo pictures but the cup, which the shipped model does not know; made once a process.
fn known_annotations() -> &'static str {
    static FILE: OnceLock<String> = OnceLock::new();
    FILE.get_or_init(|| {
        let text = std::fs::read_to_string(Path::new(ROOT).join(PICTURES).join("annotations.json"));
        let text = text.expect("annotations");
        let of_the_cup = |line: &&str| line.contains("\"cup\"") || line.contains("\"category_id\":21");
        assert_eq!(text.lines().filter(of_the_cup).count(), 2);
        let rest: Vec<&str> = text.lines().filter(|line| !of_the_cup(line)).collect();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("eval-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        write(&folder, "annotations.json", &(rest.join("\n") + "\n"))
    })
}

/// A hit, a second one on it, a hit on a box too loose for IoU 0.95, and a cup of coffee taken for a cat.
const RESULTS: &str = r#"[{"image_id":1,"category_id":15,"bbox":[23,15,342,497],"score":0.9},
{"image_id":1,"category_id":15,"bbox":[23,15,340,490],"score":0.8},
{"image_id":2,"category_id":8,"bbox":[0,0,360,300],"score":0.7},
{"image_id":3,"category_id":8,"bbox":[316,227,90,103],"score":0.6}]"#;

fn report(arguments: &[&str]) -> Value {
    let (code, out, error) = output(arguments);
    assert_eq!((code, &error[..]), (Some(0), ""));
    serde_json::from_str(&out).expect("one JSON object")
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[test]
fn results_are_counted() {
    let folder = folder();
    let results = write(folder.path(), "results.json", RESULTS);
    let report = report(&["eval", "--annotations", known_annotations(), "--detections", &results, "--json"]);
    assert_eq!(
        (&report["pictures"], &report["truths"], &report["detections"]),
        (&4.into(), &4.into(), &4.into())
    );
    // IoU of the loose box: 360 / 405 = 0.889, a hit up to 0.85, in eight of ten thresholds. It is the best
    // of its class, so the cat's AP is 0.8; one of two persons is found: recalls 0.00 to 0.50, 51 of 101;
    // no table.
    let person = 51.0 / 101.0;
    let close = |found: &Value, wanted: f64| (found.as_f64().expect("a number") - wanted).abs() < 1e-12;
    assert!(close(&report["coco"]["AP"], (0.8 + 0.0 + person) / 3.0), "{}", report["coco"]);
    assert!(close(&report["coco"]["AP50"], (1.0 + 0.0 + person) / 3.0), "{}", report["coco"]);
    assert!(report["coco"]["APs"].is_null(), "nothing small is there");
    let names: Vec<&str> = report["classes"]
        .as_array()
        .expect("classes")
        .iter()
        .map(|c| c["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["cat", "diningtable", "person"]);
    let at = &report["at_threshold"];
    assert_eq!((&at["threshold"], &at["hits"], &at["false_alarms"]), (&0.5.into(), &2.into(), &2.into()));
    assert!(close(&at["false_alarms_per_picture"], 0.5) && close(&at["recall"], 0.5), "{at}");
    assert_eq!(
        report["confusion"]["counts"][3],
        serde_json::json!([1, 0, 1, 0]),
        "background taken for a cat"
    );
    // (0.1 + 0.8 + 0.3 + 0.6) / 4, each in a bin of its own.
    assert!(close(&report["calibration"]["expected_error"], 1.8 / 4.0), "{}", report["calibration"]);
    assert_eq!(report["thresholds"].as_array().expect("a table").len(), 19);
    assert_eq!(report["intervals"]["resamples"], 1000);
}

#[test]
fn the_shipped_model_is_judged_the_same_by_any_number_of_workers() {
    let folder = folder();
    let charts = folder.path().join("charts");
    let eval = |workers: &str, more: &[&str]| {
        let mut arguments =
            vec!["eval", "--annotations", known_annotations(), "--images", PICTURES, "--workers", workers];
        arguments.extend(more);
        output(&arguments)
    };
    let (code, one, error) = eval("1", &["--json", "--plots", &charts.display().to_string()]);
    assert_eq!(code, Some(0), "{error}");
    // Person, cat and table are found; the model knows other things, which are no categories here.
    assert!(error.contains("17 labels of the model that are no category"), "{error}");
    let (_, three, _) = eval("3", &["--json"]);
    assert_eq!(one, three);
    let report: Value = serde_json::from_str(&one).expect("JSON");
    assert_eq!(report["coco"]["AP50"], 1.0, "{report}");
    assert_eq!(report["judged"]["model"]["least_score"], 0.05);
    assert_eq!(report["at_threshold"]["false_alarms"], 0);
    for name in ["precision-recall.svg", "reliability.svg", "ap-per-class.svg"] {
        let svg = std::fs::read_to_string(charts.join(name)).expect("a chart");
        assert!(svg.starts_with("<svg") && svg.contains("</svg>"), "{name}");
    }
    assert_eq!(std::fs::read_dir(&charts).expect("listed").count(), 3);
    let (code, text, _) = eval("2", &["--threshold", "0.7"]);
    assert_eq!(code, Some(0));
    for words in [
        "annotations.json: 4 pictures, 4 truths",
        "AP50   1.000   95 % of resamples",
        "false alarms a picture",
    ] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn what_cannot_be_judged_is_one_line_that_names_it() {
    let folder = folder();
    let annotations = std::fs::read_to_string(known_annotations()).expect("annotations");
    let none = annotations.split("\"annotations\"").next().expect("a part").to_owned();
    let cases: [(&str, &str, &str, &str); 13] = [
        // What changes in the annotations; what changes in the results; what is said.
        (
            "chelsea.jpg",
            "lost.jpg",
            "",
            "annotations.json: images[1] (id 2): examples/pictures/lost.jpg: No such file",
        ),
        (
            "chelsea.jpg",
            "../pictures/chelsea.jpg",
            "",
            "images[1] (id 2): file_name \"../pictures/chelsea.jpg\" must be",
        ),
        (
            "\"width\":451",
            "\"width\":902",
            "",
            "chelsea.jpg: 451 x 300 pixels, but the annotations (image id 2) say 902 x 300",
        ),
        (
            "\"category_id\":11",
            "\"category_id\":12",
            "",
            "annotations[2] (id 3): category_id 12 is not among the categories",
        ),
        (
            "\"id\":4,\"image",
            "\"id\":3,\"image",
            "",
            "annotations[3] (id 3): another annotation has the same id",
        ),
        ("[23.0", "[NaN", "", "annotations[0]: NaN at line 14 column"),
        ("\"cat\"},", "\"Katze\"},", "", "retinad: "),
        (
            "",
            "",
            "\"image_id\":3>\"image_id\":33",
            "results.json: [3]: image_id 33 is not among the annotations' pictures",
        ),
        (
            "",
            "",
            "\"category_id\":8>\"category_id\":9",
            "results.json: [2]: category_id 9 is not among the annotations' categories",
        ),
        ("", "", "0.6>NaN", "results.json: [3]: NaN at line 4"),
        ("", "", "}]>}", "results.json: [4]: EOF while parsing a list"),
        ("", "", "[{\"image>{\"image", "results.json: invalid type: map, expected an array"),
        ("", "", "0.7>7", "results.json: [2]: score is 7.0, must be 0 to 1"),
    ];
    for (from, to, results, words) in cases {
        let truths = write(folder.path(), "annotations.json", &annotations.replacen(from, to, 1));
        let (old, new) = results.split_once('>').unwrap_or_default();
        let found = write(folder.path(), "results.json", &RESULTS.replacen(old, new, 1));
        let of_model = ["eval", "--annotations", &truths, "--images", PICTURES];
        let of_results = ["eval", "--annotations", &truths, "--detections", &found];
        let (code, out, error) = output(if results.is_empty() { &of_model } else { &of_results });
        if to == "\"Katze\"}," {
            assert_eq!(code, Some(0), "{error}");
            let words = "categories that the model does not know, whose truths all count as missed: Katze";
            assert!(error.contains(words) && out.contains("Katze"), "{error}");
            continue;
        }
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains(words) && error.lines().count() <= 3, "{error}\nwanted: {words}");
    }
    for (text, words) in [
        (format!("{none}\"annotations\": []}}"), None),
        (
            none.replace("\"id\":1,\"file", "\"id\":2,\"file") + "\"annotations\": []}",
            Some("another picture has the same id"),
        ),
        (
            "{\"images\": [], \"categories\": [], \"annotations\": []}".into(),
            Some("annotations.json: `images` is empty"),
        ),
        (annotations[..600].to_owned(), Some("EOF while parsing")),
        (with_categories(&none, 2001), Some("annotations.json: 2001 categories, at most 2000 are judged")),
        (
            with_boxes(&none, 10_001),
            Some("annotations.json: image id 4 has 10001 boxes, at most 10000 are judged"),
        ),
    ] {
        let truths = write(folder.path(), "annotations.json", &text);
        let found = write(folder.path(), "results.json", RESULTS);
        let (code, out, error) = output(&["eval", "--annotations", &truths, "--detections", &found]);
        match words {
            Some(words) => assert!(code == Some(1) && error.contains(words), "{error}\nwanted: {words}"),
            // Empty scenes have no AP, but false alarms.
            None => assert!(
                code == Some(0) && out.contains("AP     -\n") && out.contains("     0.50      0.000       -"),
                "{out}{error}"
            ),
        }
    }
}

/// Annotations without their boxes, and with `count` other categories.
fn with_categories(start: &str, count: u32) -> String {
    let categories: Vec<String> =
        (0..count).map(|id| format!("{{\"id\":{id},\"name\":\"kind {id}\"}}")).collect();
    let images = start.split("\"categories\"").next().expect("a part");
    format!("{images}\"categories\": [{}], \"annotations\": []}}", categories.join(","))
}

/// Annotations with `count` boxes in one picture.
fn with_boxes(start: &str, count: u32) -> String {
    let one = |id| format!("{{\"id\":{id},\"image_id\":4,\"category_id\":8,\"bbox\":[0,0,9,9]}}");
    let boxes: Vec<String> = (0..count).map(one).collect();
    format!("{start}\"annotations\": [{}]}}", boxes.join(","))
}

#[test]
fn no_label_in_common_and_a_wrong_command_line_are_refused() {
    let folder = folder();
    let annotations = std::fs::read_to_string(known_annotations()).expect("annotations");
    let other = annotations
        .replace("\"cat\"", "\"Katze\"")
        .replace("diningtable", "Tisch")
        .replace("person", "Mensch");
    let truths = write(folder.path(), "annotations.json", &other);
    let found = write(folder.path(), "results.json", "[]");
    let (code, out, error) = output(&["eval", "--annotations", &truths, "--images", PICTURES]);
    assert_eq!((code, &out[..]), (Some(1), ""));
    assert!(
        error.contains("none of its categories (Katze, Mensch, Tisch) is a label of the model (aeroplane, "),
        "{error}"
    );
    let report =
        report(&["eval", "--annotations", &truths, "--detections", &found, "--json", "--resamples", "0"]);
    assert_eq!((&report["coco"]["AP"], &report["at_threshold"]["missed"]), (&0.0.into(), &4.into()));
    assert!(report["intervals"].is_null() && report["at_threshold"]["precision"].is_null(), "{report}");
    for wrong in [
        vec!["eval", "--annotations", known_annotations()],
        vec!["eval", "--images", PICTURES],
        vec!["eval", "--annotations", known_annotations(), "--images", PICTURES, "--detections", &found],
        vec!["eval", "--annotations", known_annotations(), "--images", PICTURES, "--threshold", "0.01"],
        vec!["eval", "--annotations", known_annotations(), "--images", PICTURES, "--threshold", "NaN"],
        vec!["eval", "--annotations", known_annotations(), "--detections", &found, "--threshold", "1.5"],
        vec!["eval", "--annotations", known_annotations(), "--images", PICTURES, "--workers", "0"],
    ] {
        let (code, out, error) = output(&wrong);
        assert_eq!((code, &out[..]), (Some(2), ""), "{wrong:?} {error}");
    }
    let (code, _, error) = output(&[
        "eval",
        "--model",
        "/nowhere.onnx",
        "--annotations",
        known_annotations(),
        "--images",
        PICTURES,
    ]);
    assert!(code == Some(78) && error.contains("/nowhere.onnx"), "{error}");
    let (code, _, error) =
        output(&["eval", "--annotations", known_annotations(), "--detections", &found, "--plots", &truths]);
    assert!(code == Some(1) && error.contains("annotations.json: "), "{error}");
}

#[test]
fn a_picture_that_fails_is_told_and_left_out() {
    let folder = folder();
    for name in ["astronaut.jpg", "chelsea.jpg", "coffee.jpg", "grace_hopper.jpg"] {
        std::fs::copy(Path::new(ROOT).join(PICTURES).join(name), folder.path().join(name)).expect("copied");
    }
    write(folder.path(), "grace_hopper.jpg", "no picture");
    let images = folder.path().display().to_string();
    let (code, out, error) = output(&["eval", "--annotations", known_annotations(), "--images", &images]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("grace_hopper.jpg: ") && error.contains("1 of 4 pictures failed"), "{error}");
    assert!(out.contains("annotations.json: 3 pictures, 3 truths"), "{out}");
}
