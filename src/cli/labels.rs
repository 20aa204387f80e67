//! Words on the categories of annotations and the labels of a model.

use crate::model::one_line;

/// Names that are shown.
const SHOWN: usize = 5;

/// That nothing can be judged.
pub fn none_in_common<'a>(categories: impl Iterator<Item = &'a str>, labels: &'a [String]) -> String {
    let mut found: Vec<&str> = categories.collect();
    found.sort_unstable();
    let known = labels.iter().map(String::as_str).filter(|label| !label.is_empty());
    format!(
        "none of its categories ({}) is a label of the model ({})",
        first_few(found.into_iter()),
        first_few(known)
    )
}

/// The first names on one line.
pub fn first_few<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.take(SHOWN + 1).collect();
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    one_line(&format!("{}{more}", names[..names.len().min(SHOWN)].join(", ")))
}
