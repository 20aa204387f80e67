//! Retained topics that this node may have left on a broker, by full name, so that what vanishes from the
//! settings is taken off the broker also after a crash or a change of names.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The state file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    v: u32,
    topics: BTreeSet<String>,
}

/// The list, and how far it has come.
#[derive(Debug, Default)]
pub(super) struct RetainedTopics {
    /// What may stand on the broker now.
    on_broker: BTreeSet<String>,
    /// Of these, what the link was asked to clear.
    asked: BTreeSet<String>,
    /// What the state file holds.
    written: BTreeSet<String>,
}

/// What follows from a look at the list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Update {
    /// Full names to be cleared on the broker.
    pub clear: Vec<String>,
    /// The state file, if it changed.
    pub file: Option<Vec<u8>>,
}

impl RetainedTopics {
    /// Reads the state file.
    ///
    /// # Errors
    /// The parser's words.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let kept: Kept = serde_json::from_str(text)?;
        Ok(Self { on_broker: kept.topics.clone(), asked: BTreeSet::new(), written: kept.topics })
    }

    /// What may stand on the broker.
    pub fn into_names(self) -> BTreeSet<String> {
        self.on_broker
    }

    /// Takes what is published now, and what the broker has not acknowledged of the names it was to clear.
    pub fn update(&mut self, published: &BTreeSet<String>, not_cleared: &BTreeSet<String>) -> Update {
        let cleared: BTreeSet<String> = self.asked.difference(not_cleared).cloned().collect();
        self.on_broker.retain(|name| !cleared.contains(name));
        self.asked.retain(|name| !cleared.contains(name));
        let vanished =
            self.on_broker.iter().filter(|name| !published.contains(*name) && !self.asked.contains(*name));
        let clear: Vec<String> = vanished.cloned().collect();
        self.asked.extend(clear.iter().cloned());
        self.on_broker.extend(published.iter().cloned());
        let file = (self.on_broker != self.written).then(|| self.encode());
        self.written.clone_from(&self.on_broker);
        Update { clear, file }
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(&Kept { v: 1, topics: self.on_broker.clone() }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn read(update: &Update) -> RetainedTopics {
        let text = String::from_utf8(update.file.clone().expect("a changed file")).expect("text");
        RetainedTopics::parse(&text).expect("reads its own file")
    }

    #[test]
    fn what_vanished_stays_on_the_list_until_the_broker_has_cleared_it() {
        let first = RetainedTopics::default().update(&set(&["r/n/a/status", "r/n/b/status"]), &set(&[]));
        assert!(first.clear.is_empty());
        // The process is killed; the next one has one camera less.
        let mut after = read(&first);
        let published = set(&["r/n/a/status"]);
        assert_eq!(
            after.update(&published, &set(&[])),
            Update { clear: vec!["r/n/b/status".into()], file: None }
        );
        assert_eq!(after.update(&published, &set(&["r/n/b/status"])), Update::default(), "asked once");
        assert_eq!(read(&after.update(&published, &set(&[]))).on_broker, published);
        assert_eq!(after.update(&published, &set(&[])), Update::default());
    }

    #[test]
    fn a_topic_that_comes_back_is_not_cleared_again() {
        let mut list = RetainedTopics::default();
        list.update(&set(&["a"]), &set(&[]));
        assert_eq!(list.update(&set(&[]), &set(&[])).clear, ["a"]);
        assert_eq!(list.update(&set(&["a"]), &set(&["a"])), Update::default());
        assert_eq!(list.update(&set(&["a"]), &set(&[])), Update::default());
    }
}
