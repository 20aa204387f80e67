//! The study in words and as JSON.

use super::claims::{Claim, points};
use super::contest::{
    BALANCED, CE, Contest, FOCAL, NO_PRIOR, Outcome, PAPER_ALPHA, PAPER_GAMMA, STAR_2_1, STAR_4_0, of_gamma,
};
use super::folder::Document;
use crate::cli::exit::{Exit, Failure};
use crate::retinanet::loss::Loss;
use crate::tuning::Settings;
use crate::tuning::study::cumulative::Spread;
use crate::tuning::study::curves;
use crate::tuning::study::imbalance::{Course, Epoch};
use serde::Serialize;
use std::fmt::Write;

/// Writes a line into a string, which does not fail.
macro_rules! put {
    ($text:expr, $($words:tt)*) => {{ let _ = writeln!($text, $($words)*); }};
}

/// What the numbers were made from.
#[derive(Serialize)]
pub struct Made {
    /// Of this program.
    pub retinad: &'static str,
    /// Whether it is the quick form.
    pub quick: bool,
    /// The model's name and version.
    pub model: String,
    /// Its file.
    pub model_sha256: String,
    /// The loss that the model's body was trained with, as its manifest says.
    pub model_loss: serde_json::Value,
    /// Name of the annotations.
    pub annotations: String,
    /// Name of those that are judged by, if others.
    pub test: Option<String>,
    /// How many classes are trained.
    pub classes: usize,
    /// Trainings of each loss of table 3.
    pub seeds: usize,
    /// Pictures of each training set.
    pub training_pictures: Vec<usize>,
    /// Pictures by which rates were chosen.
    pub choosing_pictures: usize,
    /// Pictures by which losses are judged.
    pub scoring_pictures: usize,
    /// Whether all of these are the same pictures.
    pub same_pictures: bool,
    /// How heads are trained, but for the learning rate.
    pub schedule: Settings,
}

/// Everything that was found.
pub struct Study<'a> {
    /// What it was made from.
    pub made: Made,
    /// All claims, in the order of the parts.
    pub claims: Vec<Claim>,
    /// Figure 1.
    pub courses: &'a [Course],
    /// Figure 3: positives and negatives.
    pub spreads: [Vec<Spread>; 2],
    /// Table 3 and the sweeps.
    pub contest: &'a Contest,
    /// AP and AP50 of the model's own class layer, for the classes that it knows.
    pub own: [Option<f64>; 2],
    /// How many classes of the study the model knows.
    pub known: usize,
}

#[derive(Serialize)]
struct Json<'a> {
    format: &'static str,
    made: &'a Made,
    claims: &'a [Claim],
    figure_1: Vec<FirstAndLast>,
    table_2: Vec<curves::Row>,
    figure_3: Figure3<'a>,
    table_3: &'a [Outcome],
    model_ap: Option<f64>,
    model_ap50: Option<f64>,
}

#[derive(Serialize)]
struct FirstAndLast {
    loss: &'static str,
    ratio: usize,
    first: Epoch,
    last: Epoch,
    highest_rare: f64,
}

#[derive(Serialize)]
struct Figure3<'a> {
    positives: &'a [Spread],
    negatives: &'a [Spread],
}

/// [P], table 2 (the seed's table 1), COCO test-dev.
const TABLE_1: [(&str, &str, f64); 9] = [
    ("two-stage", "Faster R-CNN+++", 34.9),
    ("two-stage", "Faster R-CNN with FPN", 36.2),
    ("two-stage", "Faster R-CNN by G-RMI", 34.7),
    ("two-stage", "Faster R-CNN with TDM", 36.8),
    ("one-stage", "YOLOv2", 21.6),
    ("one-stage", "SSD513", 31.2),
    ("one-stage", "DSSD513", 33.2),
    ("one-stage", "RetinaNet, ResNet-101", 39.1),
    ("one-stage", "RetinaNet, ResNeXt-101", 40.8),
];
/// [P], table 3 with figure 7, and plain CE of table 1a, in the order of the contest's first entries.
const TABLE_3: [(usize, &str); 6] = [
    (CE, "30.2 (table 1a, α 0.5)"),
    (BALANCED, "31.1 (its row \"CE\")"),
    (FOCAL, "34.0"),
    (STAR_2_1, "33.8"),
    (STAR_4_0, "33.9"),
    (NO_PRIOR, "diverges"),
];

impl Study<'_> {
    /// `study.md` and `study.json`.
    pub fn documents(&self) -> Result<Vec<Document>, Failure> {
        let [positives, negatives] = &self.spreads;
        let json = Json {
            format: "retinad-study/1",
            made: &self.made,
            claims: &self.claims,
            figure_1: self.courses.iter().map(first_and_last).collect(),
            table_2: curves::table_2(2.0, 0.05, 0.95),
            figure_3: Figure3 { positives, negatives },
            table_3: &self.contest.outcomes,
            model_ap: self.own[0],
            model_ap50: self.own[1],
        };
        let json = serde_json::to_string_pretty(&json).map_err(Failure::of(Exit::Internal))?;
        Ok(vec![
            Document { name: "study.json".into(), text: json + "\n" },
            Document { name: "study.md".into(), text: self.to_markdown() },
        ])
    }

    /// One line for each claim.
    pub fn summary(&self) -> String {
        let line = |claim: &Claim| format!("{:<10} {:<8} {}", claim.verdict.words(), claim.part, claim.claim);
        self.claims.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn to_markdown(&self) -> String {
        let mut text = String::from("# The study\n\n");
        self.write_made(&mut text);
        self.write_figure_1(&mut text);
        self.write_figure_2(&mut text);
        self.write_figure_3(&mut text);
        self.write_table_3(&mut text);
        self.write_sweeps(&mut text);
        self.write_table_1(&mut text);
        text
    }

    fn write_made(&self, text: &mut String) {
        let Made { retinad, quick, model, annotations, test, classes, .. } = &self.made;
        let form = if *quick { ", quick form" } else { "" };
        put!(
            text,
            "`retinad study` of retinad {retinad}{form}; model {model} (sha256 {}).",
            self.made.model_sha256
        );
        let test = test.as_deref().map_or_else(String::new, |test| format!(" and {test}"));
        let parts: Vec<String> = self.made.training_pictures.iter().map(usize::to_string).collect();
        put!(
            text,
            "Pictures of {annotations}{test}, {classes} classes: training sets of {}; rates chosen by {}, losses \
             judged by {}.",
            parts.join(", "),
            self.made.choosing_pictures,
            self.made.scoring_pictures
        );
        if self.made.same_pictures {
            put!(
                text,
                "These are the same pictures, so that table 3 and the sweeps show the mechanism and judge nothing."
            );
        }
        let Settings { passes, pictures_per_update, momentum, weight_decay, warm_up, .. } =
            &self.made.schedule;
        put!(
            text,
            "Class layers are trained from weights of 0 and a score of 0.01 everywhere, on frozen features: {passes} \
             passes, {pictures_per_update} pictures an update, momentum {momentum}, weight decay {weight_decay}, a \
             rising rate for {warm_up} of the updates and then half a cosine, the loss of each class divided by the \
             moving count of its positives.\n"
        );
    }

    /// The claims of a part: what is claimed, what would refute it, then what was found.
    fn write_claims(&self, text: &mut String, parts: &[&str]) {
        put!(text, "| claim | refuted if | found | verdict |\n|---|---|---|---|");
        for Claim { claim, refuted_if, found, verdict, .. } in
            self.claims.iter().filter(|claim| parts.contains(&claim.part))
        {
            put!(text, "| {claim} | {refuted_if} | {found} | **{}** |", verdict.words());
        }
        put!(text, "");
    }

    fn write_figure_1(&self, text: &mut String) {
        put!(text, "## Figure 1: one class is rare\n");
        self.write_claims(text, &["Figure 1"]);
        for (file, name) in [
            ("figure-1-rare.svg", "error of the rare class by epoch"),
            ("figure-1-common.svg", "error of the common class by epoch"),
            ("figure-1-share.svg", "share of the gradient that the common class holds"),
            ("figure-1-losses.svg", "error of the rare class at 1:100 by loss"),
        ] {
            put!(text, "![{name}]({file})");
        }
        put!(
            text,
            "\n| loss | ratio | rare: first, highest, last | common: first, last | common share: first, last |"
        );
        put!(text, "|---|---|---|---|---|");
        for course in self.courses {
            let FirstAndLast { loss, ratio, first, last, highest_rare } = first_and_last(course);
            put!(
                text,
                "| {loss} | 1:{ratio} | {:.3}, {highest_rare:.3}, {:.3} | {:.3}, {:.3} | {:.3}, {:.3} |",
                first.rare,
                last.rare,
                first.common,
                last.common,
                first.common_share,
                last.common_share
            );
        }
        put!(text, "\nAll epochs: [figure-1.csv](figure-1.csv).\n");
    }

    fn write_figure_2(&self, text: &mut String) {
        put!(text, "## Figure 2 and table 2: the losses\n");
        self.write_claims(text, &["Figure 2", "Table 2"]);
        for (file, name) in [
            ("figure-2-losses.svg", "cross entropy and focal loss over the probability of the true class"),
            ("figure-2-star.svg", "FL* beside FL over the logit"),
            ("figure-2-derivatives.svg", "their derivatives"),
        ] {
            put!(text, "![{name}]({file})");
        }
        put!(text, "\n| truth | probability of class 1 | (1 − p_t)² |\n|---|---|---|");
        for row in curves::table_2(2.0, 0.05, 0.95) {
            put!(text, "| {:+} | {} | {:.4} |", row.truth, row.p, row.factor);
        }
        put!(text, "\n[figure-2.csv](figure-2.csv), [table-2.csv](table-2.csv).\n");
    }

    fn write_figure_3(&self, text: &mut String) {
        put!(text, "## Figure 3: where the loss is (figure 4 of the paper)\n");
        put!(
            text,
            "The model's own class layer, in real numbers, on the pictures that losses are judged by; {} classes of \
             the study are known to it.\n",
            self.known
        );
        self.write_claims(text, &["Figure 3"]);
        put!(text, "![cumulative loss of positives](figure-3-positives.svg)");
        put!(text, "![cumulative loss of negatives](figure-3-negatives.svg)\n");
        put!(
            text,
            "| side | samples | γ | hardest 1 % hold | hardest 10 % | hardest 20 % |\n|---|---|---|---|---|---|"
        );
        for (side, spreads) in ["positives", "negatives"].iter().zip(&self.spreads) {
            for Spread { gamma, samples, hardest_1, hardest_10, hardest_20, .. } in spreads {
                put!(
                    text,
                    "| {side} | {samples} | {gamma} | {hardest_1:.3} | {hardest_10:.3} | {hardest_20:.3} |"
                );
            }
        }
        put!(text, "\n[figure-3.csv](figure-3.csv).\n");
    }

    fn write_table_3(&self, text: &mut String) {
        put!(text, "## Table 3: which loss\n");
        self.write_claims(text, &["Table 3"]);
        put!(text, "![AP by loss](table-3.svg)\n");
        put!(
            text,
            "| loss | rate | AP (95 %) | each training | AP50 | AP75 | the paper's AP |\n|---|---|---|---|---|---|---|"
        );
        for (entry, paper) in TABLE_3 {
            let outcome = &self.contest.outcomes[entry];
            let each: Vec<String> = outcome.aps.iter().map(|ap| points(*ap)).collect();
            let diverged = match outcome.diverged {
                0 => String::new(),
                count => format!(" ({count} diverged)"),
            };
            put!(
                text,
                "| {} | {} | {} | {}{diverged} | {} | {} | {paper} |",
                outcome.name,
                outcome.rate,
                with_interval(outcome),
                each.join(", "),
                maybe(outcome.ap50),
                maybe(outcome.ap75)
            );
        }
        put!(
            text,
            "\nThe paper's numbers are of a whole ResNet-50 trained on COCO at 600 pixels and judged on minival; ours \
             are of a last class layer on a frozen body. Only the order can be compared. Detections count from the \
             model's own threshold on. Intervals are of draws of pictures and trainings with repetition. Rates that \
             were tried: [rates.csv](rates.csv); all numbers: [table-3.csv](table-3.csv).\n"
        );
    }

    fn write_sweeps(&self, text: &mut String) {
        put!(text, "## Tables 1a and 1b of the paper: α and γ\n");
        self.write_claims(text, &["α sweep", "γ sweep"]);
        put!(text, "![AP of balanced CE by α](sweep-alpha.svg)");
        put!(text, "![AP of focal loss by γ](sweep-gamma.svg)\n");
        put!(text, "| loss | rate | AP of one training | the paper's AP |\n|---|---|---|---|");
        let alphas = PAPER_ALPHA.map(|(alpha, paper)| (Loss::Balanced { alpha }, paper));
        let gammas = PAPER_GAMMA.map(|(gamma, alpha, paper)| (of_gamma(gamma, alpha), paper));
        for (loss, paper) in alphas.iter().chain(&gammas) {
            let outcome = &self.contest.outcomes[self.contest.of_loss(*loss)];
            let ap = maybe(outcome.aps.first().copied());
            put!(text, "| {} | {} | {ap} | {paper:.1} |", outcome.name, outcome.rate);
        }
        put!(text, "\nFL with γ 0 is balanced CE. [sweeps.csv](sweeps.csv).\n");
    }

    fn write_table_1(&self, text: &mut String) {
        put!(text, "## Table 1 (table 2 of the paper), beside this model\n");
        put!(text, "**Not comparable**: other pictures, other classes, other sizes.\n");
        put!(text, "| detector | judged on | AP |\n|---|---|---|");
        for (stages, name, ap) in TABLE_1 {
            put!(text, "| {name} ({stages}) | COCO test-dev, 80 classes | {ap:.1} |");
        }
        let Made { scoring_pictures, annotations, test, model, .. } = &self.made;
        put!(
            text,
            "| {model} | {scoring_pictures} pictures of {}, {} classes; class layer in real numbers | {} (AP50 {}) |",
            test.as_ref().unwrap_or(annotations),
            self.known,
            maybe(self.own[0]),
            maybe(self.own[1])
        );
    }
}

fn first_and_last(course: &Course) -> FirstAndLast {
    let nothing = Epoch { rare: 0.0, common: 0.0, common_share: 0.0 };
    let (first, last) = (course.epochs.first(), course.epochs.last());
    FirstAndLast {
        loss: course.loss,
        ratio: course.ratio,
        first: first.copied().unwrap_or(nothing),
        last: last.copied().unwrap_or(nothing),
        highest_rare: course.epochs.iter().map(|epoch| epoch.rare).fold(0.0, f64::max),
    }
}

fn maybe(ap: Option<f64>) -> String {
    ap.map_or_else(|| "–".into(), points)
}

fn with_interval(outcome: &Outcome) -> String {
    let Some(ap) = outcome.ap else { return "–".into() };
    let interval = ap.interval.map_or_else(String::new, |interval| {
        format!(" ({} to {})", points(interval.low), points(interval.high))
    });
    format!("{}{interval}", points(ap.value))
}
