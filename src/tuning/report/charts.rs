//! The charts of a report, as SVG within the page.

use super::{ClassChange, Estimate, LossShares, Report};
use crate::plot::{Bars, Corner, Line, Lines, PlotError, Stroke};

/// Most classes in the chart of classes; the table has them all.
const MOST_CLASSES: usize = 25;
/// Most points of a line.
const MOST_POINTS: usize = 200;
/// Most lines in a chart.
pub const MOST_LINES: usize = 6;
const SIZE: (u32, u32) = (640, 400);
const UNIT: (f64, f64) = (0.0, 1.0);

/// AP50 before and after of the classes that changed most; none where no class has both or either.
pub fn classes(report: &Report) -> Result<Option<String>, PlotError> {
    let ap50 = |estimate: Option<Estimate>| estimate.map(|e| e.ap50).filter(|ap50| ap50.is_finite());
    let both = |class: &ClassChange| [ap50(class.ap50.before), ap50(class.ap50.after)];
    let change = |class: &ClassChange| {
        let [before, after] = both(class).map(|ap50| ap50.unwrap_or(0.0));
        (after - before).abs()
    };
    let mut known: Vec<&ClassChange> =
        report.classes.iter().filter(|class| both(class).iter().any(Option::is_some)).collect();
    if known.is_empty() {
        return Ok(None);
    }
    known.sort_by(|a, b| change(b).total_cmp(&change(a)));
    known.truncate(MOST_CLASSES);
    let bars = Bars {
        title: "How well each class is found".into(),
        x_name: "AP50 on pictures that training has not seen".into(),
        longest: 1.0,
        series: vec!["before".into(), "after".into()],
        rows: known.iter().map(|class| (class.name.clone(), both(class).to_vec())).collect(),
    };
    bars.to_svg().map(Some)
}

/// Precision against recall; none where neither curve has two points.
pub fn precision_recall(report: &Report) -> Result<Option<String>, PlotError> {
    let curves = [("before", &report.precision_recall.before), ("after", &report.precision_recall.after)];
    let lines = curves.into_iter().map(|(name, points)| Line {
        name: name.into(),
        points: thinned(points),
        stroke: Stroke::Main,
    });
    drawn(lines.collect(), |lines| Lines {
        title: "Precision and recall, before and after".into(),
        x_name: "recall: share of the objects that is found".into(),
        x: UNIT,
        y_name: "precision: share of what is found that is right".into(),
        y: UNIT,
        lines,
        legend: Corner::LowerLeft,
        size: SIZE,
    })
}

/// Loss against updates, with its first and last value; none where there are not two.
pub fn training(report: &Report) -> Result<Option<(String, f64, f64)>, PlotError> {
    let points: Vec<(f64, f64)> =
        report.training.iter().map(|&(update, loss)| (update as f64, loss)).collect();
    let points = averaged(&points);
    let ends = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).fold(0.0, f64::max);
    let (last, highest) = (ends(|point| point.0), ends(|point| point.1));
    if last <= 0.0 || highest <= 0.0 {
        return Ok(None);
    }
    let (from, to) = (points[0].1, points[points.len() - 1].1);
    let line = Line { name: "loss".into(), points, stroke: Stroke::Main };
    let chart = drawn(vec![line], |lines| Lines {
        title: "Loss while the model learned".into(),
        x_name: "update".into(),
        x: (0.0, last),
        y_name: "loss".into(),
        y: (0.0, highest * 1.05),
        lines,
        legend: Corner::LowerLeft,
        size: SIZE,
    })?;
    Ok(chart.map(|chart| (chart, from, to)))
}

/// The spread of the loss over cells with an object, or without; none where no curve has two points.
pub fn loss_shares(shares: &[LossShares], positives: bool) -> Result<Option<String>, PlotError> {
    let lines = shares.iter().take(MOST_LINES).map(|share| Line {
        name: format!("γ = {}", share.gamma),
        points: thinned(if positives { &share.positives } else { &share.negatives }),
        stroke: Stroke::Main,
    });
    let whose = if positives { "cells with an object" } else { "background cells" };
    drawn(lines.collect(), |lines| Lines {
        title: format!("Where the loss of {whose} comes from"),
        x_name: format!("fraction of the {whose}, the easiest first"),
        x: UNIT,
        y_name: "their share of the loss".into(),
        y: UNIT,
        lines,
        legend: Corner::UpperLeft,
        size: SIZE,
    })
}

fn drawn(mut lines: Vec<Line>, chart: impl FnOnce(Vec<Line>) -> Lines) -> Result<Option<String>, PlotError> {
    lines.retain(|line| line.points.len() > 1);
    if lines.is_empty() { Ok(None) } else { chart(lines).to_svg().map(Some) }
}

fn finite(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
}

/// At most [`MOST_POINTS`] of the points, the last among them.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let points = finite(points);
    let step = points.len().div_ceil(MOST_POINTS - 1).max(1);
    let mut kept: Vec<(f64, f64)> = points.iter().copied().step_by(step).collect();
    if let Some(last) = points.last()
        && kept.last() != Some(last)
    {
        kept.push(*last);
    }
    kept
}

/// Means of at most [`MOST_POINTS`] groups of neighbours: the loss of one update is mostly chance.
fn averaged(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let points = finite(points);
    let mean = |group: &[(f64, f64)]| {
        let sum = group.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / group.len() as f64, sum.1 / group.len() as f64)
    };
    points.chunks(points.len().div_ceil(MOST_POINTS).max(1)).map(mean).collect()
}

/// What the curve says at `x`; none where it does not reach there.
pub fn at(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let points = finite(points);
    let after = points.iter().position(|point| point.0 >= x)?;
    let (x1, y1) = points[after];
    let Some(&(x0, y0)) = after.checked_sub(1).and_then(|before| points.get(before)) else {
        return (x1 == x).then_some(y1);
    };
    Some(if x1 > x0 { y0 + (y1 - y0) * (x - x0) / (x1 - x0) } else { y1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_keep_their_ends_and_their_mean() {
        let points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= MOST_POINTS && thin[0] == points[0] && thin.last() == points.last());
        let mean = averaged(&points);
        assert!(mean.len() <= MOST_POINTS && mean.iter().all(|point| (point.1 - 0.5).abs() < 1e-9));
        assert_eq!(thinned(&points[..3]), points[..3]);
        assert!(thinned(&[(f64::NAN, 0.0)]).is_empty() && averaged(&[]).is_empty());
    }

    #[test]
    fn a_curve_is_read_between_its_points() {
        let curve = [(0.0, 0.0), (0.5, 0.2), (1.0, 1.0)];
        assert!(at(&curve, 0.75).is_some_and(|y| (y - 0.6).abs() < 1e-12));
        assert_eq!(at(&curve, 0.5), Some(0.2));
        assert_eq!(at(&curve[1..], 0.1), None);
        assert_eq!(at(&[], 0.1), None);
    }
}
