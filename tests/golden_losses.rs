//! Losses against 120-digit arithmetic (`tests/golden/losses.json`).

use retinad::retinanet::loss::Loss;
use serde_json::Value;

/// Stable f64 stays within 3e-15 of the exact value; 1e-12 leaves room for another libm. Below 1e-118 the golden numbers are 0, since
/// they come from ln(1 − tiny) with 120 digits, where ours are right (e^−400 / 4 = 4.8e-175).
fn close(found: f64, exact: f64) -> bool {
    (found - exact).abs() <= 1e-12 * exact.abs() || (found - exact).abs() <= 1e-118
}

#[test]
fn losses_and_derivatives_match_golden() {
    let path = format!("{}/tests/golden/losses.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("golden file")).expect("JSON");
    let cases = file["pointwise"].as_array().expect("cases");
    assert_eq!(cases.len(), 312);
    for case in cases {
        let number = |key: &str| case[key].as_f64();
        let loss = match case["loss_kind"].as_str().expect("kind") {
            "ce" => Loss::CrossEntropy,
            "balanced_ce" => Loss::Balanced { alpha: number("alpha").expect("alpha") },
            "focal" => Loss::Focal { alpha: number("alpha"), gamma: number("gamma").expect("gamma") },
            "focal_star" => {
                Loss::FocalStar { alpha: number("alpha"), gamma: number("gamma").expect("gamma"), beta: number("beta").expect("beta") }
            }
            other => panic!("unknown kind {other}"),
        };
        let (value, slope) = loss.evaluate(number("logit").expect("logit"), number("target").expect("target") == 1.0);
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
