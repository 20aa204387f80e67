//! The page of a report: its chapters, from the answer to the details.

use super::changed::most_changed;
use super::html::{Decimal, Escaped, Signed};
use super::pictures::{figure, many};
use super::{ClassChange, Estimate, HEAD, ModelName, Report, ReportError, charts};
use crate::tuning::hooks::Measure;
use std::fmt::{Result as Written, Write};

const STYLE: &str = include_str!("style.css");
/// What the words of the page mean, for its end.
const WORDS: &str = include_str!("words.html");

/// The whole page.
pub fn page(report: &Report) -> Result<String, ReportError> {
    let mut html = String::from(HEAD);
    // Writing into a string does not fail.
    let _ = head(&mut html, report);
    let _ = answer(&mut html, report);
    let _ = measures(&mut html, report);
    classes(&mut html, report)?;
    precision_recall(&mut html, report)?;
    changed(&mut html, report);
    training(&mut html, report)?;
    loss_shares(&mut html, report)?;
    html.push_str(WORDS);
    html.push_str("</body>\n</html>\n");
    Ok(html)
}

fn head(html: &mut String, report: &Report) -> Written {
    // Neither a script nor anything of the network is let in, whatever a label holds.
    writeln!(
        html,
        "<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>What {} learned</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        Escaped(&report.node)
    )
}

/// The first sentence: promoted or not, and why; then who and what.
fn answer(html: &mut String, report: &Report) -> Written {
    let reason = Escaped(report.judgement.reason.trim_end_matches('.')).to_string();
    let (class, words) = if report.judgement.promoted {
        ("yes", "Promoted: the tuned model may take the place of the one in use, because")
    } else {
        ("no", "Not promoted: the model in use stays, because")
    };
    writeln!(html, "<h1 class=\"{class}\">{words} {reason}.</h1>")?;
    let pictures = report.pictures;
    writeln!(
        html,
        "<p>The detector of <b>{}</b> was tuned: it learned from {} of its own place, in which people had \
         marked what there is to be found. Another {}, which it never saw, judged the result.</p>",
        Escaped(&report.node),
        many(pictures.trained, "picture"),
        many(pictures.held_out, "picture"),
    )?;
    let name = |html: &mut String, when: &str, model: &ModelName| {
        let sha256: String = model.sha256.chars().take(12).collect();
        writeln!(
            html,
            "<tr><th>{when}</th><td>{} {}</td><td><code>{}</code></td></tr>",
            Escaped(&model.name),
            Escaped(&model.version),
            Escaped(&sha256)
        )
    };
    html.push_str("<table>\n<tr><th></th><th>model</th><th>SHA-256 begins with</th></tr>\n");
    name(html, "before", &report.model.before)?;
    name(html, "after", &report.model.after)?;
    html.push_str("</table>\n");
    Ok(())
}

fn measures(html: &mut String, report: &Report) -> Written {
    html.push_str("<h2>What the decision rests on</h2>\n");
    if report.measures.is_empty() {
        html.push_str("<p>Nothing was measured.</p>\n");
        return Ok(());
    }
    html.push_str(
        "<p>A difference no larger than the noise may be chance. A tuned model is promoted only if \
         something is better by more than that, and nothing is worse by more than that, unless a program \
         put a rule of its own in this place.</p>\n<div class=\"wide\"><table>\n<tr><th>measure</th><th \
         class=\"number\">before</th><th class=\"number\">after</th><th class=\"number\">change</th><th \
         class=\"number\">noise</th><th></th></tr>\n",
    );
    for measure in &report.measures {
        let (class, word) = verdict(measure);
        let way = if measure.more_is_better { "more is better" } else { "less is better" };
        writeln!(
            html,
            "<tr><td>{} <span class=\"pale\">({way})</span></td><td class=\"number\">{}</td><td \
             class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td \
             class=\"{class}\">{word}</td></tr>",
            Escaped(&measure.name),
            Decimal(measure.before, 4),
            Decimal(measure.after, 4),
            Signed(measure.after - measure.before, 4),
            Decimal(measure.noise, 4),
        )?;
    }
    html.push_str("</table></div>\n");
    Ok(())
}

fn verdict(measure: &Measure) -> (&'static str, &'static str) {
    let gain = measure.gain();
    if gain.is_nan() || measure.noise.is_nan() {
        ("pale", "cannot be said")
    } else if gain > measure.noise {
        ("better", "better")
    } else if gain < -measure.noise {
        ("worse", "worse")
    } else {
        ("pale", "the same within noise")
    }
}

fn classes(html: &mut String, report: &Report) -> Result<(), ReportError> {
    html.push_str("<h2>Class by class</h2>\n");
    if report.classes.is_empty() {
        html.push_str("<p>No class was judged.</p>\n");
        return Ok(());
    }
    html.push_str(
        "<p>AP50 says how well a class is found: 1 means every one and no false alarm, 0 means none. The \
         range behind it is where it would lie, in 95 of 100 cases, with other pictures of the same \
         place: a wide one means that few pictures showed this class, and where two ranges overlap much, \
         the difference may be chance.</p>\n",
    );
    if let Some(chart) = charts::classes(report)? {
        let caption = class_changes(&report.classes);
        let _ = writeln!(html, "<figure>{chart}<figcaption>{caption}</figcaption></figure>");
    }
    html.push_str(
        "<div class=\"wide\"><table>\n<tr><th>class</th><th class=\"number\">AP50 before</th>\
         <th class=\"number\">AP50 after</th><th class=\"number\">change</th></tr>\n",
    );
    for class in &report.classes {
        let _ = row(html, class);
    }
    html.push_str("</table></div>\n");
    Ok(())
}

/// What the chart of classes says.
fn class_changes(classes: &[ClassChange]) -> String {
    let change = |class: &ClassChange| Some(class.ap50.after?.ap50 - class.ap50.before?.ap50);
    let known: Vec<(&ClassChange, f64)> = classes
        .iter()
        .filter_map(|class| Some((class, change(class)?)))
        .filter(|(_, change)| change.is_finite())
        .collect();
    let better = known.iter().filter(|(_, change)| *change > 0.0).count();
    let worse = known.iter().filter(|(_, change)| *change < 0.0).count();
    let mut words =
        format!("Of {} that both models know, {better} rose and {worse} fell", classes_in_words(known.len()));
    if let Some((class, change)) = known.iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())) {
        let _ = write!(words, "; {} changed most ({})", Escaped(&class.name), Signed(*change, 3));
    }
    let new = classes.iter().filter(|class| class.new).count();
    if new > 0 {
        let _ = write!(words, "; {} new", classes_in_words(new));
    }
    words + "."
}

fn classes_in_words(count: usize) -> String {
    if count == 1 { "1 class".into() } else { format!("{count} classes") }
}

fn row(html: &mut String, class: &ClassChange) -> Written {
    let shown = |estimate: Option<Estimate>| match estimate {
        None => "–".to_owned(),
        Some(Estimate { ap50, interval: None }) => Decimal(ap50, 3).to_string(),
        Some(Estimate { ap50, interval: Some(range) }) => format!(
            "{} <span class=\"pale\">({} to {})</span>",
            Decimal(ap50, 3),
            Decimal(range.low, 3),
            Decimal(range.high, 3)
        ),
    };
    let change = match (class.ap50.before, class.ap50.after) {
        (Some(before), Some(after)) => Signed(after.ap50 - before.ap50, 3).to_string(),
        _ => "–".to_owned(),
    };
    let new = if class.new { " <span class=\"pale\">(new)</span>" } else { "" };
    writeln!(
        html,
        "<tr><td>{}{new}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{change}</td></tr>",
        Escaped(&class.name),
        shown(class.ap50.before),
        shown(class.ap50.after)
    )
}

fn precision_recall(html: &mut String, report: &Report) -> Result<(), ReportError> {
    let Some(chart) = charts::precision_recall(report)? else { return Ok(()) };
    html.push_str(
        "<h2>False alarms against misses</h2>\n<p>A detector that reports more finds more (to the right), \
         and is wrong more often (downwards). The higher and the further to the right a line, the better \
         the model.</p>\n",
    );
    let middle = |points: &[(f64, f64)]| charts::at(points, MIDDLE);
    let both = &report.precision_recall;
    let caption = match (middle(&both.before), middle(&both.after)) {
        (Some(before), Some(after)) => format!(
            "Where half of the objects are found, {} % of what is found was right before, and {} % is now.",
            Decimal(100.0 * before, 0),
            Decimal(100.0 * after, 0)
        ),
        (_, Some(after)) => {
            format!(
                "Where half of the objects are found, {} % of what is found is right.",
                Decimal(100.0 * after, 0)
            )
        }
        _ => "The tuned model never finds half of the objects.".into(),
    };
    let _ = writeln!(html, "<figure>{chart}<figcaption>{caption}</figcaption></figure>");
    Ok(())
}

/// The recall at which the two are compared in words.
const MIDDLE: f64 = 0.5;

fn changed(html: &mut String, report: &Report) {
    html.push_str("<h2>What changed in pictures</h2>\n");
    let most = most_changed(&report.changed, report.min_score);
    if most.is_empty() {
        let _ = writeln!(
            html,
            "<p>In the pictures that judged, both models find the same (scores from {} on).</p>",
            Decimal(f64::from(report.min_score), 2)
        );
        return;
    }
    let _ = writeln!(
        html,
        "<p>{}, with what has a score of {} or more: the model before in orange, the tuned one in blue, and \
         dashed in green what people marked.</p>",
        if most.len() == 1 {
            "One picture changed".into()
        } else {
            format!("The {} pictures that changed most", most.len())
        },
        Decimal(f64::from(report.min_score), 2)
    );
    for (number, picture) in most.into_iter().enumerate() {
        html.push_str(&figure(report, number, picture));
    }
}

fn training(html: &mut String, report: &Report) -> Result<(), ReportError> {
    let Some((chart, first, last)) = charts::training(report)? else { return Ok(()) };
    html.push_str(
        "<h2>How the learning went</h2>\n<p>The loss says how wrong the model still is on the pictures it \
         learns from. It should fall and then become flat; one that still falls at the end would have \
         gained from more passes, one that rises learned too fast.</p>\n",
    );
    let (first, last) = (Decimal(first, 3), Decimal(last, 3));
    let caption = format!("It went from {first} to {last}.");
    let _ = writeln!(html, "<figure>{chart}<figcaption>{caption}</figcaption></figure>");
    Ok(())
}

/// Hardest part of the cells whose share of the loss the table tells.
const HARDEST: f64 = 0.1;

fn loss_shares(html: &mut String, report: &Report) -> Result<(), ReportError> {
    let shares = &report.loss_shares;
    let charts = [charts::loss_shares(shares, true)?, charts::loss_shares(shares, false)?];
    if charts.iter().all(Option::is_none) && report.suggestion.is_none() {
        return Ok(());
    }
    html.push_str(
        "<h2>What the learning looked at</h2>\n<p>Each picture has thousands of cells of background, \
         nearly all of them easy. γ turns the easy ones down: the more a line stays on the floor before \
         it rises at the right, the more the few hard cells decide what is learned. At γ = 0 nothing is \
         turned down.</p>\n",
    );
    for chart in charts.into_iter().flatten() {
        let _ = writeln!(html, "<figure>{chart}</figure>");
    }
    if !shares.is_empty() {
        html.push_str(
            "<table>\n<tr><th class=\"number\">γ</th><th class=\"number\">hardest 10 % of the cells with \
             an object</th><th class=\"number\">hardest 10 % of the background</th></tr>\n",
        );
        for share in shares.iter().take(charts::MOST_LINES) {
            let hardest = |points| {
                let easier = charts::at(points, 1.0 - HARDEST);
                easier.map_or("–".to_owned(), |easier| {
                    format!("{} % of the loss", Decimal(100.0 * (1.0 - easier), 0))
                })
            };
            let _ = writeln!(
                html,
                "<tr><td class=\"number\">{}</td><td class=\"number\">{}</td>\
                 <td class=\"number\">{}</td></tr>",
                Decimal(share.gamma, 1),
                hardest(&share.positives),
                hardest(&share.negatives)
            );
        }
        html.push_str("</table>\n");
    }
    if let Some(suggestion) = &report.suggestion {
        let _ = writeln!(
            html,
            "<p>For this place <b>γ = {}</b> and <b>α = {}</b> are suggested: {}.</p>",
            Decimal(suggestion.gamma, 2),
            Decimal(suggestion.alpha, 2),
            Escaped(suggestion.reason.trim_end_matches('.'))
        );
    }
    Ok(())
}
