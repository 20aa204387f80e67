//! Losses against 120-digit arithmetic (`tests/golden/losses.json`).

use retinad::retinanet::loss::{self, Loss};
use retinad::retinanet::matching::Match;
use serde_json::Value;

/// Stable f64 stays within 3e-15 of the exact value; 1e-12 leaves room for another libm. Below 1e-118 the
/// golden numbers are 0, since they come from ln(1 − tiny) with 120 digits, where ours are right (e^−400 /
/// 4 = 4.8e-175).
fn close(found: f64, exact: f64) -> bool {
    (found - exact).abs() <= 1e-12 * exact.abs() || (found - exact).abs() <= 1e-118
}

#[test]
fn losses_and_derivatives_match_golden() {
    let path = format!("{}/tests/golden/losses.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("golden file")).expect("JSON");
    let cases = file["pointwise"].as_array().expect("cases");
    assert_eq!(cases.len(), 312);
    for case in cases {
        let number = |key: &str| case[key].as_f64();
        let loss = match case["loss_kind"].as_str().expect("kind") {
            "ce" => Loss::CrossEntropy,
            "balanced_ce" => Loss::Balanced { alpha: number("alpha").expect("alpha") },
            "focal" => Loss::Focal { alpha: number("alpha"), gamma: number("gamma").expect("gamma") },
            "focal_star" => Loss::FocalStar {
                alpha: number("alpha"),
                gamma: number("gamma").expect("gamma"),
                beta: number("beta").expect("beta"),
            },
            other => panic!("unknown kind {other}"),
        };
        let (value, slope) =
            loss.evaluate(number("logit").expect("logit"), number("target").expect("target") == 1.0);
        assert!(close(value, number("loss").expect("loss")), "{value} {case}");
        assert!(close(slope, number("grad").expect("grad")), "{slope} {case}");
    }
}

#[test]
fn focal_with_gamma_0_is_balanced_cross_entropy_and_100_is_finite() {
    for logit in [-100.0, -1.0, 0.0, 3.0, 100.0] {
        let (a, b) = (Loss::Focal { alpha: Some(0.25), gamma: 0.0 }, Loss::Balanced { alpha: 0.25 });
        let ((va, ga), (vb, gb)) = (a.evaluate(logit, true), b.evaluate(logit, true));
        assert!(close(va, vb) && close(ga, gb), "{logit}");
        let (value, slope) = Loss::Focal { alpha: Some(0.25), gamma: 0.5 }.evaluate(logit, true);
        assert!(value.is_finite() && slope.is_finite(), "{logit}");
    }
}

fn f64s(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().expect("array").iter().map(|v| v.as_f64().expect("number")).collect()
}

#[test]
fn sums_leave_ignored_anchors_out() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/losses.json"))
        .expect("golden file");
    let file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for case in file["reduction"].as_array().expect("cases") {
        let rows: Vec<Vec<f64>> = case["logits"].as_array().expect("rows").iter().map(f64s).collect();
        let parts: Vec<Match> = f64s(&case["matched_gt"])
            .iter()
            .map(|&m| match m as i64 {
                -1 => Match::Background,
                -2 => Match::Ignored,
                truth => Match::Truth(truth as usize),
            })
            .collect();
        let labels: Vec<usize> = f64s(&case["gt_labels"]).iter().map(|&l| l as usize).collect();
        let loss =
            Loss::Focal { alpha: case["alpha"].as_f64(), gamma: case["gamma"].as_f64().expect("gamma") };
        let (total, gradient) = loss::sum(loss, &rows.concat(), rows[0].len(), &parts, &labels);
        let positives = parts.iter().filter(|part| matches!(part, Match::Truth(_))).count();
        assert_eq!(positives as u64, case["num_positive"].as_u64().expect("count"));
        let divisor = positives.max(1) as f64;
        assert!(close(total, case["sum"].as_f64().expect("sum")), "{}", case["name"]);
        assert!(
            close(total / divisor, case["loss_divided_by_positives"].as_f64().expect("loss")),
            "{}",
            case["name"]
        );
        let expected: Vec<f64> =
            case["grad_divided_by_positives"].as_array().expect("rows").iter().flat_map(f64s).collect();
        for (found, exact) in gradient.iter().zip(expected) {
            assert!(close(found / divisor, exact), "{} {found} {exact}", case["name"]);
        }
        let normaliser = loss::next_normaliser(100.0, positives);
        assert!(close(normaliser, case["detectron2_first_step_normaliser"].as_f64().expect("normaliser")));
        assert!(close(total / normaliser, case["detectron2_first_step_loss"].as_f64().expect("loss")));
    }
}

#[test]
fn smooth_l1_matches_golden() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/losses.json"))
        .expect("golden file");
    let file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let cases = file["smooth_l1"].as_array().expect("cases");
    assert_eq!(cases.len(), 28);
    for case in cases {
        let number = |key: &str| case[key].as_f64().expect("number");
        let (value, slope) = loss::smooth_l1(number("difference"), number("beta"));
        assert!(close(value, number("loss")) && close(slope, number("grad")), "{case}");
    }
}
