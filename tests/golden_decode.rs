//! Anchors and decoding against numbers of the reference libraries (`tests/golden/`).

use retinad::detection::{Detection, Heads, Tensor};
use retinad::model::{BoxCoder, BoxOrder, BoxVoting, ClassChannels};
use retinad::retinanet::anchors::{Level, anchors, sha256};
use retinad::retinanet::decode::{Clip, DecodeLevel, DecodeOptions, Decoder, decode_box};
use retinad::retinanet::matching::{Limits, Match, encode_box, match_anchors};
use retinad::retinanet::nms;
use retinad::retinanet::scores::ScoreForm;
use serde_json::Value;

fn golden(name: &str) -> Value {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("golden file")).expect("JSON")
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().expect("array").iter().map(|v| v.as_f64().expect("number") as f32).collect()
}

fn levels(convention: &Value) -> Vec<Level> {
    let level = |level: &Value| {
        let pair = |key: &str| numbers(&level[key]);
        Level {
            stride_yx: [pair("stride_yx")[0] as u32, pair("stride_yx")[1] as u32],
            feature_hw: [pair("feature_hw")[0] as usize, pair("feature_hw")[1] as usize],
            base: level["base_anchors"]
                .as_array()
                .expect("array")
                .iter()
                .map(|b| numbers(b).try_into().expect("four"))
                .collect(),
        }
    };
    convention["levels"].as_array().expect("levels").iter().map(level).collect()
}

/// Bit for bit: the hash is over the f32 bytes.
#[test]
fn anchors_match_both_conventions() {
    for file in ["anchors_320", "anchors_800x1333"] {
        for (name, convention) in golden(file)["conventions"].as_object().expect("conventions") {
            let all = anchors(&levels(convention), 0.0);
            assert_eq!(sha256(&all), convention["sha256"].as_str().expect("hash"), "{file} {name}");
        }
    }
}

fn heads(file: &Value, case: &Value, per_cell: usize) -> Heads {
    let classes = file["num_classes"].as_u64().expect("classes") as usize;
    let shapes: Vec<Vec<f32>> = file["feature_hw"].as_array().expect("array").iter().map(numbers).collect();
    let starts = numbers(&file["level_start"]);
    let mut heads = Heads::default();
    for shape in &shapes {
        let (height, width) = (shape[0] as usize, shape[1] as usize);
        let head = |default: &Value, channels: usize| Tensor {
            values: vec![default.as_f64().expect("default") as f32; channels * height * width],
            channels,
            height,
            width,
            ..Tensor::default()
        };
        heads.levels.push((
            head(&case["cls_logits"]["default"], per_cell * classes),
            head(&case["box_deltas"]["default"], per_cell * 4),
        ));
    }
    let locate = |anchor: usize| {
        let level = starts.iter().rposition(|&start| anchor >= start as usize).expect("level");
        let row = anchor - starts[level] as usize;
        (level, row / per_cell, row % per_cell, (shapes[level][0] * shapes[level][1]) as usize)
    };
    for entry in case["cls_logits"]["set"].as_array().expect("set") {
        let n = numbers(entry);
        let (level, cell, a, cells) = locate(n[0] as usize);
        heads.levels[level].0.values[(a * classes + n[1] as usize) * cells + cell] = n[2];
    }
    for entry in case["box_deltas"]["set"].as_array().expect("set") {
        let n = numbers(entry);
        let (level, cell, a, cells) = locate(n[0] as usize);
        for j in 0..4 {
            heads.levels[level].1.values[(a * 4 + j) * cells + cell] = n[1 + j];
        }
    }
    heads
}

/// Boxes 1e-3 px + 1e-6 relative, scores 1e-6, labels and order exact, as the golden file's README asks.
fn check(file_name: &str, convention: &str) {
    let file = golden(file_name);
    let base = levels(&golden("anchors_320")["conventions"][convention]);
    let features: Vec<Vec<f32>> = file["feature_hw"].as_array().expect("array").iter().map(numbers).collect();
    let strides: Vec<Vec<f32>> = file["strides_yx"].as_array().expect("array").iter().map(numbers).collect();
    let levels: Vec<Level> = (0..features.len())
        .map(|i| Level {
            stride_yx: [strides[i][0] as u32, strides[i][1] as u32],
            feature_hw: [features[i][0] as usize, features[i][1] as usize],
            base: base[i].base.clone(),
        })
        .collect();
    for case in file["cases"].as_array().expect("cases") {
        let params = &case["params"];
        let clip_hw = params["clip_hw"].as_array().map(|_| numbers(&params["clip_hw"]));
        let options = DecodeOptions {
            score_threshold: params["score_threshold"].as_f64().expect("threshold") as f32,
            topk_per_level: params["topk_per_level"].as_u64().expect("topk") as usize,
            nms_iou: params["nms_iou"].as_f64().expect("iou") as f32,
            voting: None,
            max_detections: params["max_detections"].as_u64().expect("limit") as usize,
            clip: if clip_hw.is_some() { Clip::BeforeNms } else { Clip::None },
            drop_empty: false,
            coder: BoxCoder { weights: [1.0; 4], clamp: Some(4.135_166_6), bins: None },
            scores: ScoreForm::independent(file["num_classes"].as_u64().expect("classes") as usize),
        };
        let level = |anchors| DecodeLevel {
            anchors,
            class_channels: ClassChannels::AnchorMajor,
            box_order: BoxOrder::DxDyDwDh,
        };
        let levels = anchors(&levels, 0.0).into_iter().map(level).collect();
        let mut decoder = Decoder::new(levels, options);
        let picture = clip_hw.map_or([f32::MAX; 2], |hw| [hw[1], hw[0]]);
        let found = decoder.decode(&heads(&file, case, 9), picture, 0.0).expect("decodes");
        let expected = &case["expected"];
        let boxes: Vec<Vec<f32>> = expected["boxes"].as_array().expect("boxes").iter().map(numbers).collect();
        let scores = numbers(&expected["scores"]);
        let labels = numbers(&expected["labels"]);
        assert_eq!(found.len(), boxes.len(), "{file_name} {}", case["name"]);
        for (i, d) in found.iter().enumerate() {
            assert_eq!(d.class, labels[i] as usize, "{file_name} {} row {i}", case["name"]);
            assert!((d.score - scores[i]).abs() <= 1e-6, "{file_name} row {i}: {} {}", d.score, scores[i]);
            for (a, b) in d.bbox.iter().zip(&boxes[i]) {
                assert!(
                    (a - b).abs() <= 1e-3 + 1e-6 * b.abs(),
                    "{file_name} {} row {i}: {:?} {:?}",
                    case["name"],
                    d.bbox,
                    boxes[i]
                );
            }
        }
    }
}

#[test]
fn decode_matches_torchvision() {
    check("decode_torchvision", "torchvision");
}

#[test]
fn decode_matches_detectron2() {
    check("decode_detectron2_arith", "detectron2");
}

#[test]
fn a_nan_delta_gives_a_box_that_is_not_finite_and_is_dropped_by_the_decoder() {
    assert!(decode_box([f32::NAN, 0.0, 0.0, 0.0], &[0.0, 0.0, 1.0, 1.0], [1.0; 4], None)[0].is_nan());
}

fn boxes(value: &Value) -> Vec<[f32; 4]> {
    value.as_array().expect("boxes").iter().map(|b| numbers(b).try_into().expect("four")).collect()
}

#[test]
fn nms_matches_torchvision() {
    let file = golden("decode_torchvision");
    let cases = file["nms"].as_array().expect("cases");
    assert!(!cases.is_empty());
    for case in cases {
        let (scores, labels) = (numbers(&case["scores"]), numbers(&case["labels"]));
        let mut sorted: Vec<(usize, Detection)> = boxes(&case["boxes"])
            .into_iter()
            .enumerate()
            .map(|(i, bbox)| (i, Detection { class: labels[i] as usize, score: scores[i], bbox }))
            .collect();
        sorted.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
        // Which input a kept box was: boxes may be equal, so a mark in the score tells them apart.
        let marked: Vec<Detection> =
            sorted.iter().map(|(i, d)| Detection { score: *i as f32, ..*d }).collect();
        let mut kept = Vec::new();
        nms::nms(&marked, case["iou_threshold"].as_f64().expect("threshold") as f32, usize::MAX, &mut kept);
        let kept: Vec<u64> = kept.iter().map(|d| d.score as u64).collect();
        let expected: Vec<u64> =
            case["keep"].as_array().expect("keep").iter().map(|k| k.as_u64().expect("index")).collect();
        assert_eq!(kept, expected, "{}", case["name"]);
    }
}

/// One cell whose anchors are the case's boxes; deltas of zero leave them where they are.
fn cell_of(boxes: &[[f32; 4]], logits: &[f32], labels: &[f32], classes: usize) -> (DecodeLevel, Heads) {
    let head = |values: Vec<f32>| Tensor {
        channels: values.len(),
        height: 1,
        width: 1,
        values,
        ..Default::default()
    };
    let mut scores = vec![-20.0; boxes.len() * classes];
    for (i, (logit, label)) in logits.iter().zip(labels).enumerate() {
        scores[i * classes + *label as usize] = *logit;
    }
    let heads = vec![(head(scores), head(vec![0.0; boxes.len() * 4]))];
    let level = DecodeLevel {
        anchors: boxes.to_vec(),
        class_channels: ClassChannels::AnchorMajor,
        box_order: BoxOrder::DxDyDwDh,
    };
    (level, Heads { levels: heads, ..Heads::default() })
}

/// `tests/golden/box_voting.py` is the reference.
#[test]
fn box_voting_matches_numpy() {
    let file = golden("box_voting");
    let cases = file["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 5);
    for case in cases {
        let number = |key: &str| case[key].as_f64().expect("number") as f32;
        let (before, classes) = (boxes(&case["boxes"]), number("classes") as usize);
        let (logits, labels) = (numbers(&case["logits"]), numbers(&case["labels"]));
        let (level, heads) = cell_of(&before, &logits, &labels, classes);
        let options = DecodeOptions {
            score_threshold: 0.05,
            topk_per_level: 1000,
            nms_iou: number("nms_iou"),
            voting: Some(BoxVoting { iou: number("iou"), score_power: number("score_power") as u32 }),
            max_detections: 100,
            clip: Clip::None,
            drop_empty: false,
            coder: BoxCoder { weights: [1.0; 4], clamp: None, bins: None },
            scores: ScoreForm::independent(classes),
        };
        let mut decoder = Decoder::new(vec![level], options);
        let found = decoder.decode(&heads, [f32::MAX; 2], number("min_score")).expect("decodes");
        let (kept, expected) = (numbers(&case["kept"]), boxes(&case["expected"]));
        assert_eq!(found.len(), kept.len(), "{}", case["name"]);
        for ((detection, row), wanted) in found.iter().zip(&kept).zip(&expected) {
            assert_eq!(detection.class, labels[*row as usize] as usize, "{}", case["name"]);
            for (a, b) in detection.bbox.iter().zip(wanted) {
                assert!((a - b).abs() <= 1e-3, "{}: {:?}, not {wanted:?}", case["name"], detection.bbox);
            }
        }
    }
}

/// One cell with two anchors whose sides are distributions over eight bins, in real numbers and in codes.
#[test]
fn distances_in_bins_are_read_side_by_side_and_anchor_by_anchor() {
    let anchors = vec![[-4.0, -4.0, 4.0, 4.0], [16.0, 8.0, 32.0, 24.0]];
    // A bin with a code of 255 among zeros has all of the distribution: e^-25 is left for the others.
    let wanted = [[0, 1, 2, 3], [1, 0, 1, 7]];
    let codes: Vec<u8> = wanted
        .as_flattened()
        .iter()
        .flat_map(|&bin| (0..8).map(move |b| if b == bin { 255 } else { 0 }))
        .collect();
    let scale = 0.1;
    let values = codes.iter().map(|&code| f32::from(code) * scale).collect();
    let shape = Tensor { channels: 64, height: 1, width: 1, ..Default::default() };
    let coded = Tensor { codes, scale, zero_point: 0, ..shape.clone() };
    let classes = Tensor { channels: 2, height: 1, width: 1, values: vec![2.0, 1.0], ..Default::default() };
    let options = DecodeOptions {
        score_threshold: 0.05,
        topk_per_level: 10,
        nms_iou: 0.5,
        voting: None,
        max_detections: 10,
        clip: Clip::None,
        drop_empty: false,
        coder: BoxCoder { weights: [1.0; 4], clamp: None, bins: Some(8) },
        scores: ScoreForm::independent(1),
    };
    for boxes in [Tensor { values, ..shape }, coded] {
        let level = DecodeLevel {
            anchors: anchors.clone(),
            class_channels: ClassChannels::AnchorMajor,
            box_order: BoxOrder::LeftTopRightBottom,
        };
        let heads = Heads { levels: vec![(classes.clone(), boxes)], ..Heads::default() };
        let mut decoder = Decoder::new(vec![level], options.clone());
        let found: Vec<[f32; 4]> =
            decoder.decode(&heads, [64.0; 2], 0.0).expect("decodes").iter().map(|d| d.bbox).collect();
        assert_eq!(found.len(), 2);
        // Distances are in sides of the anchor, 8 and 16 pixels, from its centre.
        for (bbox, expected) in found.iter().zip([[0.0, -8.0, 16.0, 24.0], [8.0, 16.0, 40.0, 128.0]]) {
            let near = bbox.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-3);
            assert!(near, "{bbox:?}, not {expected:?}");
        }
        let mut four = heads;
        four.levels[0].1 = Tensor { channels: 8, values: vec![0.0; 8], ..four.levels[0].1.clone() };
        four.levels[0].1.codes.clear();
        assert!(decoder.decode(&four, [64.0; 2], 0.0).is_err(), "4 numbers an anchor are not 32");
    }
}

#[test]
fn box_coder_matches_torchvision() {
    let file = golden("decode_torchvision");
    let (mut encoded, mut decoded) = (0, 0);
    for case in file["box_coder"].as_array().expect("cases") {
        let four = |key: &str| -> [f32; 4] { numbers(&case[key]).try_into().expect("four") };
        if case["kind"] == "encode" {
            let found = encode_box(&four("target_box"), &four("anchor"));
            for (a, b) in found.iter().zip(four("deltas")) {
                assert!((a - b).abs() <= 1e-6 + 1e-6 * b.abs(), "{case} {found:?}");
            }
            encoded += 1;
        } else {
            let found = decode_box(four("deltas"), &four("anchor"), [1.0; 4], Some(4.135_166_6));
            for (a, b) in found.iter().zip(four("box")) {
                assert!((a - b).abs() <= 1e-3 + 1e-6 * b.abs(), "{case} {found:?}");
            }
            decoded += 1;
        }
    }
    assert!(encoded > 0 && decoded > 0);
}

#[test]
fn matching_agrees_with_both_libraries_but_for_a_truth_without_overlap() {
    let file = golden("decode_torchvision");
    let cases = file["matching"].as_array().expect("cases");
    let mut without_overlap = 0;
    for case in cases {
        let limit = |key: &str| case[key].as_f64().expect("IoU") as f32;
        let limits = Limits { positive: limit("fg_iou"), background: limit("bg_iou") };
        let (parts, skipped) = match_anchors(&boxes(&case["anchors"]), &boxes(&case["gt"]), limits);
        let found: Vec<i64> = parts
            .iter()
            .map(|part| match part {
                Match::Truth(truth) => *truth as i64,
                Match::Background => -1,
                Match::Ignored => -2,
            })
            .collect();
        let expected: Vec<i64> =
            case["matched"].as_array().expect("matched").iter().map(|m| m.as_i64().expect("index")).collect();
        if skipped == 0 {
            assert_eq!(found, expected, "{}", case["name"]);
        } else {
            // The libraries make every anchor at IoU 0 positive; we skip the truth and say so.
            without_overlap += 1;
            for (ours, theirs) in found.iter().zip(&expected) {
                assert!(ours == theirs || (*ours < 0 && *theirs >= 0), "{} {found:?}", case["name"]);
            }
            assert!(found.contains(&-1));
        }
    }
    assert_eq!(without_overlap, 1);
}
