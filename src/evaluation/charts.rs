//! The evaluation as charts.

use super::Evaluation;
use super::precision::RECALLS;
use crate::plot::{Bars, Corner, Line, Lines, PlotError, Stroke};

/// A chart with the name of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    /// Name of the file, without a folder.
    pub file: &'static str,
    /// The chart.
    pub svg: String,
}

const SQUARE: (u32, u32) = (640, 560);
const UNIT: (f64, f64) = (0.0, 1.0);

/// Precision against recall, reliability, and AP per class; `names` has the classes' names.
///
/// # Errors
/// [`PlotError`], which these axes do not give.
pub fn charts(evaluation: &Evaluation, names: &[String]) -> Result<[Chart; 3], PlotError> {
    Ok([
        Chart { file: "precision-recall.svg", svg: precision_recall(evaluation).to_svg()? },
        Chart { file: "reliability.svg", svg: reliability(evaluation).to_svg()? },
        Chart { file: "ap-per-class.svg", svg: ap_per_class(evaluation, names).to_svg()? },
    ])
}

fn precision_recall(evaluation: &Evaluation) -> Lines {
    let curves: Vec<_> = evaluation.precision_curves().into_iter().flatten().collect();
    let recall = |i: usize| i as f64 / (RECALLS - 1) as f64;
    let line = |name: &str, stroke, precision: &dyn Fn(usize) -> f64| Line {
        name: name.to_owned(),
        points: (0..RECALLS).map(|i| (recall(i), precision(i))).collect(),
        stroke,
    };
    let mut lines: Vec<Line> = curves
        .iter()
        .enumerate()
        .map(|(number, curve)| {
            let name = if number == 0 { "each class at IoU 0.50" } else { "" };
            line(name, Stroke::Pale, &|i| curve[0][i])
        })
        .collect();
    if !curves.is_empty() {
        let mean =
            |at: usize, i: usize| curves.iter().map(|curve| curve[at][i]).sum::<f64>() / curves.len() as f64;
        lines.push(line("mean of the classes at IoU 0.50", Stroke::Main, &|i| mean(0, i)));
        lines.push(line("mean of the classes at IoU 0.75", Stroke::Main, &|i| mean(1, i)));
    }
    Lines {
        title: "Precision and recall".into(),
        x_name: "recall".into(),
        x: UNIT,
        y_name: "precision (largest at this recall or more)".into(),
        y: UNIT,
        lines,
        legend: Corner::LowerLeft,
        size: SQUARE,
    }
}

fn reliability(evaluation: &Evaluation) -> Lines {
    let calibration = evaluation.calibration();
    let points = calibration.bins.iter().filter_map(|bin| Some((bin.score?, bin.precision?))).collect();
    let error = calibration.expected_error.map_or("–".to_owned(), |error| format!("{error:.3}"));
    let line = |name: &str, points, stroke| Line { name: name.to_owned(), points, stroke };
    Lines {
        title: format!("Reliability: expected calibration error {error}"),
        x_name: "mean score of the detections in a bin".into(),
        x: UNIT,
        y_name: "share of them that are hits (IoU 0.50)".into(),
        y: UNIT,
        lines: vec![
            line("scores mean what they say", vec![(0.0, 0.0), (1.0, 1.0)], Stroke::Pale),
            line("this detector", points, Stroke::Dotted),
        ],
        legend: Corner::UpperLeft,
        size: SQUARE,
    }
}

fn ap_per_class(evaluation: &Evaluation, names: &[String]) -> Bars {
    let mut rows: Vec<(String, Vec<Option<f64>>)> = names
        .iter()
        .zip(evaluation.class_ap())
        .map(|(name, class)| (name.clone(), vec![class.ap.ap50, class.ap.ap]))
        .collect();
    // The best on top; classes without a truth last.
    rows.sort_by(|(_, a), (_, b)| b[0].partial_cmp(&a[0]).unwrap_or(std::cmp::Ordering::Equal));
    Bars {
        title: "AP per class".into(),
        x_name: "AP".into(),
        longest: 1.0,
        series: vec!["AP50 (IoU 0.50)".into(), "AP (IoU 0.50 to 0.95)".into()],
        rows,
    }
}
