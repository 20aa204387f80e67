//! Pictures of a report: once as JPEG within the page, and boxes over it as SVG, which stay sharp.

use super::Report;
use super::changed::{Change, ChangedPicture};
use super::html::Escaped;
use crate::detection::Detection;
use crate::frame::Picture;
use crate::image::{decode, encode_jpeg, shrunk};
use crate::retinanet::nms::iou;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fmt::Write;

/// Longest side of a picture, pixels.
const LONGEST: u32 = 640;
/// Most boxes that are drawn, and most changes that are told, of one picture.
const MOST_BOXES: usize = 40;
const MOST_TOLD: usize = 6;
/// Letters of a label that stand at a box.
const MOST_LETTERS: usize = 24;
/// Height of the letters at a box and width of one of them, pixels of the shown picture.
const LETTER: (f32, f32) = (15.0, 9.1);

/// A figure of one changed picture: before, after, and in words what changed.
pub fn figure(report: &Report, number: usize, picture: &ChangedPicture) -> String {
    let mut html = String::new();
    let changes = picture.changes(report.min_score);
    let _ = writeln!(
        html,
        "<figure class=\"changed\">\n<figcaption><b>{}</b></figcaption>",
        Escaped(&picture.name)
    );
    match Shown::new(picture) {
        Ok(shown) => {
            let own = format!("picture-{number}");
            html.push_str("<div class=\"pair\">\n");
            shown.draw(&mut html, report, "before", &picture.before, Source::Jpeg(&own), picture);
            shown.draw(&mut html, report, "after", &picture.after, Source::Same(&own), picture);
            html.push_str("</div>\n");
        }
        Err(reason) => {
            let _ = writeln!(html, "<p>The picture cannot be shown: {}.</p>", Escaped(&reason));
        }
    }
    html.push_str("<ul>\n");
    for change in changes.iter().filter(|change| change.amount() > 0.0).take(MOST_TOLD) {
        let _ = writeln!(html, "<li>{}</li>", told(report, picture, change));
    }
    html.push_str("</ul>\n</figure>\n");
    html
}

/// What became of one object, in words.
fn told(report: &Report, picture: &ChangedPicture, change: &Change) -> String {
    let label = |found: &Detection| Escaped(label(report, found.class)).to_string();
    let shown = |found: Option<Detection>| found.filter(|found| found.score >= report.min_score);
    match (shown(change.before), shown(change.after)) {
        (None, Some(after)) => {
            let name = label(&after);
            format!("<b>{name}</b> is found now, with {:.2}{}", after.score, judged(picture, &after, true))
        }
        (Some(before), None) => {
            let name = label(&before);
            format!(
                "<b>{name}</b>, {:.2} before, is not found any more{}",
                before.score,
                judged(picture, &before, false)
            )
        }
        (Some(before), Some(after)) => {
            let word = if after.score > before.score { "more" } else { "less" };
            format!(
                "<b>{}</b> is {word} certain: {:.2} after {:.2}",
                label(&after),
                after.score,
                before.score
            )
        }
        (None, None) => String::new(),
    }
}

/// Whether that is right, as far as somebody has said what the picture shows.
fn judged(picture: &ChangedPicture, found: &Detection, now: bool) -> &'static str {
    let Some(truths) = &picture.truths else { return "" };
    let over = || truths.iter().filter(|truth| iou(&truth.bbox, &found.bbox) >= 0.5);
    let is_there = over().any(|truth| truth.class == found.class && !truth.ignore);
    match (is_there, now) {
        _ if !is_there && over().any(|truth| truth.ignore) => "",
        (true, true) => ", and it is there",
        (true, false) => ", although it is there",
        (false, true) => ", although no label says so: a false alarm, or a label that is missing",
        (false, false) => ", and no label says that it is there",
    }
}

fn label(report: &Report, class: usize) -> &str {
    report.labels.get(class).map_or("(unknown class)", String::as_str)
}

/// Where a drawing has its picture from.
enum Source<'a> {
    /// It holds the JPEG under this id.
    Jpeg(&'a str),
    /// The one of this id.
    Same(&'a str),
}

/// A picture as it is shown.
struct Shown {
    width: u32,
    height: u32,
    /// From pixels of the picture to pixels shown.
    scale: f32,
    jpeg: Vec<u8>,
}

impl Shown {
    fn new(picture: &ChangedPicture) -> Result<Self, String> {
        let mut whole = Picture::default();
        decode(&picture.picture, &mut whole).map_err(|error| error.to_string())?;
        let width = whole.width;
        let small = shrunk(whole, LONGEST);
        let jpeg = encode_jpeg(&small).map_err(|error| error.to_string())?;
        let scale = small.width as f32 / width as f32;
        Ok(Self { width: small.width, height: small.height, scale, jpeg })
    }

    fn draw(
        &self,
        html: &mut String,
        report: &Report,
        when: &str,
        found: &[Detection],
        source: Source<'_>,
        picture: &ChangedPicture,
    ) {
        let (width, height) = (self.width, self.height);
        let mut shown: Vec<&Detection> =
            found.iter().filter(|found| found.score >= report.min_score).collect();
        shown.sort_by(|a, b| b.score.total_cmp(&a.score));
        shown.truncate(MOST_BOXES);
        let _ = writeln!(
            html,
            "<div><p>{when}: {}</p>\n<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{}, {when}\">",
            many(shown.len(), "object"),
            Escaped(&picture.name)
        );
        let _ = match source {
            Source::Jpeg(id) => writeln!(
                html,
                "<image id=\"{id}\" width=\"{width}\" height=\"{height}\" \
                 href=\"data:image/jpeg;base64,{}\"/>",
                BASE64_STANDARD.encode(&self.jpeg)
            ),
            Source::Same(id) => writeln!(html, "<use href=\"#{id}\"/>"),
        };
        for truth in picture.truths.iter().flatten().filter(|truth| !truth.ignore).take(MOST_BOXES) {
            self.rectangle(html, truth.bbox, "truth");
        }
        // The most certain last, on top of the others.
        for found in shown.iter().rev() {
            self.rectangle(html, found.bbox, when);
        }
        for found in shown.iter().rev() {
            self.caption(html, found, label(report, found.class), when);
        }
        html.push_str("</svg></div>\n");
    }

    /// A box in pixels shown, within the picture.
    fn placed(&self, bbox: [f32; 4]) -> [f32; 4] {
        let sides = [self.width, self.height, self.width, self.height].map(|side| side as f32);
        std::array::from_fn(|i| {
            let value = bbox[i] * self.scale;
            if value.is_finite() { value.clamp(0.0, sides[i]) } else { 0.0 }
        })
    }

    fn rectangle(&self, html: &mut String, bbox: [f32; 4], class: &str) {
        let [left, top, right, bottom] = self.placed(bbox);
        let (width, height) = ((right - left).max(0.0), (bottom - top).max(0.0));
        let _ = writeln!(
            html,
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"/>"
        );
    }

    fn caption(&self, html: &mut String, found: &Detection, label: &str, class: &str) {
        let name: String = label.chars().take(MOST_LETTERS).collect();
        let text = format!("{name} {:.2}", found.score);
        let [left, top, ..] = self.placed(found.bbox);
        let width = text.chars().count() as f32 * LETTER.1 + 6.0;
        let left = left.min(self.width as f32 - width).max(0.0);
        let height = LETTER.0 + 4.0;
        let top = if top >= height { top - height } else { top };
        let _ = writeln!(
            html,
            "<rect class=\"{class} label\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left + 3.0,
            top + LETTER.0,
            Escaped(&text)
        );
    }
}

/// `1 picture`, `2 pictures`, `no pictures`.
pub fn many(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
