//! Labels as they stand in topics.

use crate::settings::keys::TAKEN_NAMES;

/// Words that a label may not take, because a topic of that name exists below a camera.
pub const RESERVED_LABELS: [&str; 13] = TAKEN_NAMES;

/// Words that a camera may not take, because a topic of that name exists below the node.
pub const RESERVED_CAMERAS: [&str; 2] = ["bridge", "status"];

/// Longest slug, characters.
const MAX_SLUG: usize = 32;

/// Topic names of labels, one each, in order: lower case, runs of other characters become `_`, at most 32
/// characters before a number that makes them unique. A label without a letter becomes `class_<id>`.
#[must_use]
pub fn label_slugs(labels: &[String]) -> Vec<String> {
    let mut slugs: Vec<String> = Vec::with_capacity(labels.len());
    for (id, label) in labels.iter().enumerate() {
        let mut slug = slug(label);
        if slug.is_empty() {
            slug = format!("class_{id}");
        }
        if RESERVED_LABELS.contains(&slug.as_str()) {
            slug = format!("label_{slug}");
        }
        if slugs.contains(&slug) {
            slug = format!("{slug}_{id}");
        }
        slugs.push(slug);
    }
    slugs
}

/// Lower case, runs of characters outside `[a-z0-9]` become `_`, trimmed, at most 32 characters.
#[must_use]
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.to_lowercase().chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            slug.push(c);
        } else if !slug.ends_with('_') && !slug.is_empty() {
            slug.push('_');
        }
    }
    slug.truncate(MAX_SLUG);
    slug.trim_end_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_never_reserved() {
        let labels = ["traffic light", "All", "", "Traffic-Light", "person"].map(str::to_owned);
        assert_eq!(
            label_slugs(&labels),
            ["traffic_light", "label_all", "class_2", "traffic_light_3", "person"]
        );
    }
}
