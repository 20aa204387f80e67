//! State files, as the fuzzer gives them.

use super::retained::RetainedTopics;
use crate::scene::fuzzing::overrides;
use std::collections::BTreeSet;

/// One of the state files: which, then its bytes.
pub fn state_files(bytes: &[u8]) {
    let Some((&which, text)) = bytes.split_first() else { return };
    // What is no text is refused before anybody parses it.
    let Ok(text) = std::str::from_utf8(text) else { return };
    if which % 2 == 0 {
        return overrides(text);
    }
    match RetainedTopics::parse(text) {
        Ok(mut topics) => {
            let update = topics.update(&BTreeSet::new(), &BTreeSet::new());
            let distinct: BTreeSet<&String> = update.clear.iter().collect();
            assert_eq!(distinct.len(), update.clear.len(), "each is cleared once");
            if let Some(file) = update.file {
                RetainedTopics::parse(std::str::from_utf8(&file).expect("JSON")).expect("what we wrote");
            }
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
}
