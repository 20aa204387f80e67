//! Every topic that `docs/mqtt.md` and `README.md` mention, such as `retinad/pi-porch/front/person`, is one
//! of the contract.

use super::files::read;
use super::manual::MANUAL;
use crate::contract::{Kind, Names, TOPICS, Topic, label_slugs};

const DOCUMENTS: [&str; 2] = [MANUAL, "README.md"];
/// First level of the topics in the documents.
const BASE: &str = "retinad/";
/// Labels that the documents may show in topics. Without this list any misspelt topic would be taken for a
/// label's count.
const LABELS: [&str; 4] = ["person", "car", "cat", "traffic light"];
/// Words that no camera may be called.
const RESERVED_CAMERAS: [&str; 2] = ["bridge", "status"];

/// Topics and filters in a text. A path such as `/etc/retinad/retinad.toml` is none.
fn mentions(text: &str) -> Vec<&str> {
    const BEFORE: [char; 6] = [' ', '\n', '`', '\'', '"', '('];
    const AFTER: [char; 7] = [' ', '\n', '`', '\'', '"', ')', ','];
    let begins = |at: &usize| text[..*at].chars().next_back().is_none_or(|before| BEFORE.contains(&before));
    let starts = text.match_indices(BASE).map(|(at, _)| at).filter(begins);
    starts.filter_map(|at| text[at..].split(AFTER).next()).collect()
}

/// Why a mention is no topic of the contract.
fn complaint(mention: &str) -> Option<String> {
    let (node, rest) = mention.strip_prefix(BASE)?.split_once('/').unwrap_or(("", ""));
    let filled = rest.replace("<cam>", "front").replace("<label>", "person");
    if rest.is_empty() || mention.ends_with('#') {
        return None;
    }
    if rest.contains('+') {
        return (!is_filter_of_some_topic(&filled)).then(|| format!("{mention}: no topic fits this filter"));
    }
    let Some(topic) = Names::new("retinad", node).parse(&format!("{BASE}{node}/{filled}")) else {
        return Some(format!("{mention}: no topic"));
    };
    why_not_built(mention, &topic)
}

fn why_not_built(mention: &str, topic: &Topic) -> Option<String> {
    if !topic.spec().built {
        return Some(format!("{mention}: not built yet"));
    }
    if topic.camera().is_some_and(|camera| RESERVED_CAMERAS.contains(&&**camera)) {
        return Some(format!("{mention}: no camera may have that name"));
    }
    let name = topic.to_string();
    let last_level = name.rsplit('/').next().unwrap_or_default();
    let is_unknown = topic.kind() == Kind::Count && !is_label(last_level);
    is_unknown.then(|| format!("{mention}: no label of the documents"))
}

fn is_label(level: &str) -> bool {
    label_slugs(&LABELS.map(str::to_owned)).iter().any(|slug| slug == level)
}

/// Whether a built topic exists that a filter below base and node lets through.
fn is_filter_of_some_topic(filter: &str) -> bool {
    let levels: Vec<&str> = filter.split('/').collect();
    let fits = |(level, wanted): (&&str, &&str)| match *wanted {
        _ if *level == "+" => true,
        "<label>" => is_label(level),
        _ => wanted.starts_with('<') || level == wanted,
    };
    TOPICS.iter().filter(|spec| spec.built).any(|spec| {
        let pattern: Vec<&str> = spec.pattern.split('/').collect();
        pattern.len() == levels.len() && levels.iter().zip(&pattern).all(fits)
    })
}

#[test]
fn every_topic_of_the_documents_is_one_of_the_contract() {
    for document in DOCUMENTS {
        let text = read(document);
        let found = mentions(&text);
        assert!(!found.is_empty(), "{document} mentions no topic");
        let complaints: Vec<String> = found.into_iter().filter_map(complaint).collect();
        assert!(complaints.is_empty(), "{document}:\n{}", complaints.join("\n"));
    }
}

#[test]
fn planted_topics_are_complained_about() {
    let wrong = "`retinad/pi/front/persn` (retinad/pi/bridge/infos), 'retinad/pi/front/zoom/set', \
                 retinad/+/+/zoom\nretinad/pi/bridge/log `retinad/pi/front/detect`";
    assert_eq!(mentions(wrong).into_iter().filter_map(complaint).count(), 6);
    let good = "`retinad/#` /etc/retinad/retinad.toml retinad/+/+/detections retinad/<node>/<cam>/<label> \
                `retinad/<node>/` retinad/pi/front/all retinad/pi/+/+/set";
    assert_eq!(mentions(good).into_iter().filter_map(complaint).collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(mentions(good).len(), 6);
}
