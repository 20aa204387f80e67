//! What fuzzing runs: one function for each way by which bytes of strangers come in. Each takes any bytes and
//! panics if what they ought to be read as is not refused in one line, or read with everything in its bounds.
//!
//! `tests/fuzz` has a program around each for cargo-fuzz (`make fuzz`), which looks for such bytes. The test
//! here runs the seeds, and what was found once, with a little random damage. Compiled for these two only.

pub use crate::capture::fuzzing::{child_output, framer};
pub use crate::daemon::fuzzing::{requests, state_files};
pub use crate::image::fuzzing::{PICTURE_LIMIT, picture};
pub use crate::publish::{broker_packets, client_packets};
pub use crate::settings::fuzzing::settings;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 8] = [
        ("broker_packets", broker_packets),
        ("child_output", child_output),
        ("client_packets", client_packets),
        ("framer", framer),
        ("picture", picture),
        ("requests", requests),
        ("settings", settings),
        ("state_files", state_files),
    ];
    /// Damaged copies of each seed.
    const DAMAGES: usize = 30;

    #[test]
    fn seeds_whole_and_damaged_are_refused_in_words_or_read() {
        let mut state = 23u64;
        let mut random = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % limit
        };
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
            let mut files: Vec<_> = std::fs::read_dir(&folder)
                .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
                .map(|entry| entry.expect("an entry").path())
                .collect();
            files.sort();
            assert!(files.len() > 1, "{name}: seeds");
            for file in files {
                let seed = std::fs::read(&file).expect("a seed");
                println!("{}", file.display());
                target(&seed);
                for _ in 0..DAMAGES {
                    let mut bytes = seed.clone();
                    for _ in 0..=random(3) {
                        let at = random(bytes.len().max(1)).min(bytes.len());
                        match random(4) {
                            0 => bytes.truncate(at),
                            1 => drop(bytes.splice(at..at, [random(256) as u8])),
                            2 => bytes.extend_from_within(at..),
                            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random(256) as u8),
                        }
                    }
                    target(&bytes);
                }
            }
        }
    }
}
