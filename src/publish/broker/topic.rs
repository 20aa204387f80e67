//! Topic names and topic filters (MQTT 3.1.1, section 4.7). Pure.

/// Filters longer than this are refused, in bytes: a subscription stays with its client for as long as that
/// is connected.
pub(super) const LONGEST_FILTER: usize = 1024;

/// Whether a message may be published to `topic`: not empty and without wildcards.
pub(super) fn is_name(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#'])
}

/// Whether `filter` may be subscribed to: `+` and `#` stand alone in their level, `#` only in the last one.
///
/// Shared subscriptions (`$share/…`) belong to MQTT 5. Taken as plain text they would never match, so they
/// are refused.
pub(super) fn is_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.len() > LONGEST_FILTER || filter.starts_with("$share/") {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let misplaced = level == "#" && levels.peek().is_some();
        if misplaced || level.len() > 1 && level.contains(['+', '#']) {
            return false;
        }
    }
    true
}

/// Whether a message on `topic` goes to who subscribed to `filter`; both must be well formed.
///
/// Topics that begin with `$` are a broker's own, so a wildcard in the first level does not stand for them.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of MQTT 3.1.1, sections 4.7.1 and 4.7.2, and a few at the edges.
    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/#", "sports", false),
            ("#", "sport/tennis", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/uptime", "$SYS/uptime", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("Sport", "sport", false),
            ("+", "é", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn misplaced_wildcards_are_refused() {
        for good in ["#", "+", "a/#", "+/a/+", "/", "a//b", "$SYS/#"] {
            assert!(is_filter(good), "{good}");
        }
        let long = "a".repeat(LONGEST_FILTER + 1);
        for bad in ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "++", "$share/group/a", long.as_str()] {
            assert!(!is_filter(bad), "{bad}");
        }
        assert!(is_name("a/b") && is_name("/") && !is_name("") && !is_name("a/+") && !is_name("#"));
    }
}
