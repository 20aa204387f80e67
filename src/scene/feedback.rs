//! What a verdict says of a frame that was told: boxes with labels, and boxes in which there is nothing.

use super::recent::Told;
use crate::contract::{Code, Feedback, FeedbackVerdict, Refusal, slug};
use crate::detection::overlap;
use crate::one_line::one_line;
use crate::samples::{BACKGROUND, Found, Label, Opinion, Origin, Rest, Sample, checked_label};
use crate::tracking::TrackId;

/// A box means the told object that overlaps it by this much, and the most.
const MEANT: f32 = 0.5;

/// The verdict in terms of the frame, or `of` one of its objects. `known` are the labels of the model in use.
///
/// # Errors
/// [`Code::BadField`] for what cannot be, [`Code::NotFound`] where the frame shows nothing of it.
pub(super) fn opinion(
    told: &Told,
    of: Option<TrackId>,
    feedback: &Feedback,
    known: &[String],
) -> Result<Opinion, Refusal> {
    let sample = &told.sample;
    let label = feedback.label.as_deref().map(|text| label_of(text, sample, known)).transpose()?;
    let bbox = match of.and_then(|object| told.box_of(object)) {
        Some(bbox) => Some(bbox),
        None => feedback.bbox.map(|bbox| pixels(bbox, sample)).transpose()?,
    };
    let label_as = |objects: Vec<&Found>, name: &dyn Fn(&Found) -> String| {
        let labels: Vec<Label> =
            objects.iter().filter_map(|found| labelled(sample, name(found), found.bbox)).collect();
        let tiny = || Refusal::new(Code::NotFound, "the object is smaller than a pixel".into());
        if labels.is_empty() { Err(tiny()) } else { Ok(Opinion { labels, rest: Rest::Unsaid }) }
    };
    match feedback.verdict {
        FeedbackVerdict::Correct if label.is_none() && bbox.is_none() && sample.told().next().is_none() => {
            // Of a frame in which nothing was told this can only mean that nothing is there.
            Ok(Opinion { labels: Vec::new(), rest: Rest::Background })
        }
        FeedbackVerdict::Correct => {
            label_as(meant(sample, label.as_deref(), bbox)?, &|found| found.label.clone())
        }
        FeedbackVerdict::FalsePositive => {
            label_as(meant(sample, label.as_deref(), bbox)?, &|_| BACKGROUND.to_owned())
        }
        FeedbackVerdict::WrongLabel => {
            let label = label.ok_or_else(|| missing("label"))?;
            let objects = meant(sample, None, bbox)?;
            if objects.len() > 1 {
                let words = format!("box: {} objects were told, so say which of them", objects.len());
                return Err(Refusal::new(Code::BadField, words));
            }
            label_as(objects, &|_| label.clone())
        }
        FeedbackVerdict::Missed => {
            let label = label.ok_or_else(|| missing("label"))?;
            let bbox = bbox.ok_or_else(|| missing("box"))?;
            let label = Label { label, bbox, origin: Origin::Feedback, ignore: false };
            Ok(Opinion { labels: vec![label], rest: Rest::Doubtful })
        }
    }
}

fn missing(field: &str) -> Refusal {
    Refusal::new(Code::BadField, format!("missing field `{field}`"))
}

/// The label as the model spells it, where it is one of its labels or the name of one in topics; else a new one.
fn label_of(text: &str, sample: &Sample, known: &[String]) -> Result<String, Refusal> {
    let refused = |words: String| Refusal::new(Code::BadField, format!("label: {words}"));
    let text = checked_label(text).map_err(|error| refused(error.to_string()))?;
    if text.eq_ignore_ascii_case(BACKGROUND) {
        return Err(refused(format!("`{BACKGROUND}` is no object; the verdict false_positive says it")));
    }
    let labels = || known.iter().chain(sample.found.iter().map(|found| &found.label));
    if labels().any(|label| *label == text) {
        return Ok(text);
    }
    let wanted = slug(&text);
    let spelled = labels().find(|label| !wanted.is_empty() && slug(label) == wanted);
    Ok(spelled.cloned().unwrap_or(text))
}

/// A box of 0 to 1 in pixels of the frame.
fn pixels([x1, y1, x2, y2]: [f64; 4], sample: &Sample) -> Result<[f32; 4], Refusal> {
    let (width, height) = (f64::from(sample.width), f64::from(sample.height));
    #[expect(clippy::cast_possible_truncation, reason = "pixels of a picture")]
    let bbox = [x1 * width, y1 * height, x2 * width, y2 * height].map(|side| side as f32);
    sample.checked_box(bbox).map_err(|error| Refusal::new(Code::BadField, format!("box: {error}")))
}

fn labelled(sample: &Sample, label: String, bbox: [f32; 4]) -> Option<Label> {
    let bbox = sample.checked_box(bbox).ok()?;
    Some(Label { label, bbox, origin: Origin::Feedback, ignore: false })
}

/// The told objects that are meant: those of the label, the one at the box, or all.
fn meant<'a>(
    sample: &'a Sample,
    label: Option<&str>,
    bbox: Option<[f32; 4]>,
) -> Result<Vec<&'a Found>, Refusal> {
    let not_found = |words: String| Refusal::new(Code::NotFound, one_line(&words));
    let of_label: Vec<&Found> =
        sample.told().filter(|found| label.is_none_or(|label| found.label == label)).collect();
    if of_label.is_empty() {
        let told: Vec<&str> = sample.told().map(|found| found.label.as_str()).collect();
        return Err(not_found(match label {
            Some(label) if !told.is_empty() => {
                format!("no `{label}` was told in this frame, but {}", told.join(", "))
            }
            _ => "nothing was told in this frame".into(),
        }));
    }
    let Some(bbox) = bbox else { return Ok(of_label) };
    let at_box = of_label.into_iter().map(|found| (overlap(&found.bbox, &bbox), found));
    let best = at_box.filter(|(both, _)| *both >= MEANT).max_by(|a, b| a.0.total_cmp(&b.0));
    let none = || not_found("box: no object that was told overlaps it by half; `missed` adds one".into());
    best.map(|(_, found)| vec![found]).ok_or_else(none)
}
