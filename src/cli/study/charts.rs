//! The study's charts and tables of numbers.

use super::contest::{Contest, Outcome, PAPER_ALPHA, PAPER_GAMMA, STAR_4_0, of_gamma};
use super::folder::Document;
use crate::cli::exit::{Exit, Failure};
use crate::plot::{Bars, Corner, Line, Lines, Stroke};
use crate::retinanet::loss::Loss;
use crate::tuning::study::cumulative::Spread;
use crate::tuning::study::curves::{self, GAMMAS, Point};
use crate::tuning::study::imbalance::{Course, Epoch, LOSSES, RATIOS};
use std::fmt::Write;

const SIZE: (u32, u32) = (640, 420);
/// Logits of a curve, and how far they go.
const POINTS: usize = 241;
const WIDEST: f64 = 6.0;
/// Losses that are shown at most.
const HIGHEST: f64 = 5.0;

fn line(name: &str, points: Vec<(f64, f64)>) -> Line {
    Line { name: name.to_owned(), points, stroke: Stroke::Main }
}

fn drawn(name: &str, lines: &Lines) -> Result<Document, Failure> {
    let text = lines.to_svg().map_err(Failure::of(Exit::Internal))?;
    Ok(Document { name: name.to_owned(), text })
}

/// A table of comma-separated values.
struct Csv(String);

impl Csv {
    fn new(header: &str) -> Self {
        Self(format!("{header}\n"))
    }

    /// Adds a line: a text, which may hold commas, and numbers; nothing where there is none.
    fn add(&mut self, text: &str, numbers: &[Option<f64>]) {
        let _ = write!(self.0, "\"{}\"", text.replace('"', "\"\""));
        for number in numbers {
            let number = number.map_or_else(String::new, |number| number.to_string());
            let _ = write!(self.0, ",{number}");
        }
        self.0.push('\n');
    }

    fn named(self, name: &str) -> Document {
        Document { name: name.to_owned(), text: self.0 }
    }
}

/// Figure 1.
pub fn figure_1(courses: &[Course]) -> Result<Vec<Document>, Failure> {
    let points = |course: &Course, value: fn(&Epoch) -> f64| -> Vec<(f64, f64)> {
        course.epochs.iter().enumerate().map(|(epoch, at)| (epoch as f64, value(at))).collect()
    };
    let of = |ratio: usize, loss: &str| courses.iter().find(|c| c.ratio == ratio && c.loss == loss);
    let by_ratio = |value: fn(&Epoch) -> f64| -> Vec<Line> {
        let lines = RATIOS.iter().filter_map(|ratio| of(*ratio, LOSSES[0]));
        lines.map(|course| line(&format!("1:{}", course.ratio), points(course, value))).collect()
    };
    let by_loss: Vec<Line> = LOSSES
        .iter()
        .filter_map(|loss| of(100, loss))
        .map(|course| line(course.loss, points(course, |epoch| epoch.rare)))
        .collect();
    let chart = |file: &str, title: &str, y_name: &str, legend, lines: Vec<Line>| {
        let x = lines.iter().flat_map(|line| &line.points).map(|point| point.0).fold(1.0, f64::max);
        let y = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.1, f64::max);
        let (x_name, y_name) = ("epoch".to_owned(), y_name.to_owned());
        // Room for the legend above the lines.
        let (x, y) = ((0.0, x), (0.0, 1.3 * y));
        drawn(file, &Lines { title: title.into(), x_name, x, y_name, y, lines, legend, size: SIZE })
    };
    let mut csv = Csv::new("loss,ratio,epoch,rare,common,common_share");
    for course in courses {
        for (number, epoch) in course.epochs.iter().enumerate() {
            let numbers = [course.ratio as f64, number as f64, epoch.rare, epoch.common, epoch.common_share];
            csv.add(course.loss, &numbers.map(Some));
        }
    }
    Ok(vec![
        chart(
            "figure-1-rare.svg",
            "Figure 1: error of the rare class, trained with CE",
            "mean cross entropy of the rare class",
            Corner::UpperRight,
            by_ratio(|epoch| epoch.rare),
        )?,
        chart(
            "figure-1-common.svg",
            "Figure 1: error of the common class, trained with CE",
            "mean cross entropy of the common class",
            Corner::UpperRight,
            by_ratio(|epoch| epoch.common),
        )?,
        chart(
            "figure-1-share.svg",
            "Figure 1: who holds the gradient, trained with CE",
            "share of the common class",
            Corner::LowerLeft,
            by_ratio(|epoch| epoch.common_share),
        )?,
        chart(
            "figure-1-losses.svg",
            "Figure 1: error of the rare class at 1:100",
            "mean cross entropy of the rare class",
            Corner::UpperRight,
            by_loss,
        )?,
        csv.named("figure-1.csv"),
    ])
}

/// Figure 2 and table 2.
pub fn figure_2() -> Result<Vec<Document>, Failure> {
    let focal = |gamma| Loss::Focal { alpha: None, gamma };
    let star = |gamma, beta| Loss::FocalStar { alpha: None, gamma, beta };
    let mut losses = vec![("CE".to_owned(), Loss::CrossEntropy)];
    losses.extend(GAMMAS.map(|gamma| (format!("FL γ {gamma}"), focal(gamma))));
    let by_p = losses.clone();
    let by_logit: Vec<(String, Loss)> = vec![
        ("CE".into(), Loss::CrossEntropy),
        ("FL γ 2".into(), focal(2.0)),
        ("FL* γ 2, β 1".into(), star(2.0, 1.0)),
        ("FL* γ 4, β 0".into(), star(4.0, 0.0)),
    ];
    losses.extend(by_logit[2..].iter().cloned());
    let curve = |loss: &Loss| curves::curve(*loss, WIDEST, POINTS);
    let lines = |of: &[(String, Loss)], value: fn(&Point) -> (f64, f64)| -> Vec<Line> {
        let shown = |loss: &Loss| curve(loss).iter().map(value).filter(|(_, y)| *y <= HIGHEST).collect();
        of.iter().map(|(name, loss)| line(name, shown(loss))).collect()
    };
    let chart = |file: &str, title: &str, (x_name, x): (&str, _), (y_name, y): (&str, _), legend, lines| {
        let (title, x_name, y_name) = (title.to_owned(), x_name.to_owned(), y_name.to_owned());
        drawn(file, &Lines { title, x_name, x, y_name, y, lines, legend, size: SIZE })
    };
    let x_t = ("x_t: the logit towards the true class", (-WIDEST, WIDEST));
    let mut csv = Csv::new("loss,x_t,p_t,loss_value,derivative");
    for (name, loss) in &losses {
        for point in curve(loss) {
            csv.add(name, &[point.x_t, point.p_t, point.loss, point.slope].map(Some));
        }
    }
    let mut table = Csv::new("truth,probability,gamma,factor");
    for gamma in GAMMAS {
        for row in curves::table_2(gamma, 0.05, 0.95) {
            table.add(&format!("{:+}", row.truth), &[row.p, gamma, row.factor].map(Some));
        }
    }
    Ok(vec![
        chart(
            "figure-2-losses.svg",
            "Figure 2: cross entropy and focal loss",
            ("p_t: the probability of the true class", (0.0, 1.0)),
            ("loss", (0.0, HIGHEST)),
            Corner::UpperRight,
            lines(&by_p, |point| (point.p_t, point.loss)),
        )?,
        chart(
            "figure-2-star.svg",
            "Figure 2: FL* beside FL",
            x_t,
            ("loss", (0.0, HIGHEST)),
            Corner::UpperRight,
            lines(&by_logit, |point| (point.x_t, point.loss)),
        )?,
        chart(
            "figure-2-derivatives.svg",
            "Figure 2: derivatives",
            x_t,
            ("derivative by x_t", (-1.5, 0.1)),
            Corner::LowerRight,
            lines(&by_logit, |point| (point.x_t, point.slope)),
        )?,
        csv.named("figure-2.csv"),
        table.named("table-2.csv"),
    ])
}

/// Figure 3.
pub fn figure_3(positives: &[Spread], negatives: &[Spread]) -> Result<Vec<Document>, Failure> {
    let mut csv = Csv::new("side,gamma,share_of_samples,share_of_loss");
    let mut documents = Vec::new();
    for (side, spreads) in [("positives", positives), ("negatives", negatives)] {
        for spread in spreads {
            for (samples, loss) in &spread.curve {
                csv.add(side, &[spread.gamma, *samples, *loss].map(Some));
            }
        }
        let lines = spreads.iter().map(|spread| line(&format!("γ {}", spread.gamma), spread.curve.clone()));
        let chart = Lines {
            title: format!("Figure 3: cumulative loss of {side}"),
            x_name: format!("share of the {side}, the easiest first"),
            x: (0.0, 1.0),
            y_name: "share of their loss".into(),
            y: (0.0, 1.0),
            lines: lines.collect(),
            legend: Corner::UpperLeft,
            size: SIZE,
        };
        documents.push(drawn(&format!("figure-3-{side}.svg"), &chart)?);
    }
    documents.push(csv.named("figure-3.csv"));
    Ok(documents)
}

/// Table 3 and the sweeps.
pub fn table_3(contest: &Contest) -> Result<Vec<Document>, Failure> {
    const AP: &str = "AP (IoU 0.50 to 0.95)";
    let bars = |file: &str, title: &str, series: &[&str], rows: Vec<(String, Vec<Option<f64>>)>| {
        let most = rows.iter().flat_map(|row| &row.1).flatten().copied().fold(0.05, f64::max);
        let series = series.iter().map(|name| (*name).to_owned()).collect();
        // Room for the legend beside the bars.
        let bars = Bars { title: title.into(), x_name: "AP".into(), longest: 1.5 * most, series, rows };
        let text = bars.to_svg().map_err(Failure::of(Exit::Internal))?;
        Ok::<_, Failure>(Document { name: file.into(), text })
    };
    let of = |loss| &contest.outcomes[contest.of_loss(loss)];
    let alphas = PAPER_ALPHA.map(|(alpha, paper)| (of(Loss::Balanced { alpha }), paper));
    let gammas = PAPER_GAMMA.map(|(gamma, alpha, paper)| (of(of_gamma(gamma, alpha)), paper));
    let mut csv = Csv::new("loss,rate,trainings,diverged,ap,ap_low,ap_high,ap50,ap75");
    let mut tried = Csv::new("loss,rate,ap_by_which_it_was_chosen");
    for outcome in &contest.outcomes {
        let interval = outcome.ap.and_then(|ap| ap.interval);
        let numbers = [
            Some(outcome.rate),
            Some(outcome.trainings as f64),
            Some(outcome.diverged as f64),
            outcome.ap.map(|ap| ap.value),
            interval.map(|interval| interval.low),
            interval.map(|interval| interval.high),
            outcome.ap50,
            outcome.ap75,
        ];
        csv.add(&outcome.name, &numbers);
        outcome.tried.iter().for_each(|(rate, ap)| tried.add(&outcome.name, &[Some(*rate), *ap]));
    }
    let mut sweeps = Csv::new("loss,ap_first_training,ap_of_the_paper");
    for (outcome, paper) in alphas.iter().chain(&gammas) {
        sweeps.add(&outcome.name, &[outcome.aps.first().copied(), Some(paper / 100.0)]);
    }
    let row = |outcome: &Outcome| (outcome.name.clone(), vec![outcome.ap.map(|ap| ap.value), outcome.ap50]);
    let first = |of: &[(&Outcome, f64)]| -> Vec<_> {
        of.iter().map(|(outcome, _)| (outcome.name.clone(), vec![outcome.aps.first().copied()])).collect()
    };
    Ok(vec![
        bars(
            "table-3.svg",
            "Table 3: class layers trained from the prior",
            &[AP, "AP50 (IoU 0.50)"],
            contest.outcomes[..=STAR_4_0].iter().map(row).collect(),
        )?,
        bars("sweep-alpha.svg", "Balanced CE by α", &[AP], first(&alphas))?,
        bars("sweep-gamma.svg", "FL by γ", &[AP], first(&gammas))?,
        csv.named("table-3.csv"),
        tried.named("rates.csv"),
        sweeps.named("sweeps.csv"),
    ])
}
