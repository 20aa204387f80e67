//! Where the time of a model's frame goes.

use super::Generation;
use crate::engine::Input;
use std::time::{Duration, Instant};

/// Most runs; the fastest of each part is told, since whatever else the machine does only adds to it.
const RUNS: usize = 8;
/// No run begins after this.
const LONGEST: Duration = Duration::from_millis(500);

impl Generation {
    /// The parts of the model's work with the time that each takes a frame, the largest first: measured now,
    /// in half a second or two runs, whichever is longer. Pictures' decoding and scaling are not in it.
    ///
    /// # Errors
    /// The engine's reason.
    pub fn time_by_part(&self, threads: usize) -> Result<Vec<(&'static str, Duration)>, String> {
        let mut session = self.own.engine.session(threads)?;
        let mut best: Vec<(&'static str, Duration)> = Vec::new();
        let began = Instant::now();
        for run in 0..RUNS {
            if run > 1 && began.elapsed() > LONGEST {
                break;
            }
            let mut times: Vec<(&'static str, Duration)> = Vec::new();
            let mut from = Instant::now();
            let fill = |input: Input<'_>| {
                match input {
                    Input::Codes { data, .. } => data.fill(GREY_CODE),
                    Input::Real(values) => values.fill(GREY),
                }
                Ok(())
            };
            session.run_by_part(fill, |part| {
                let now = Instant::now();
                match times.iter_mut().find(|(known, _)| *known == part) {
                    Some((_, time)) => *time += now - from,
                    None => times.push((part, now - from)),
                }
                from = now;
            })?;
            if best.is_empty() {
                best = times;
            } else {
                best.iter_mut().zip(times).for_each(|(best, (_, time))| best.1 = best.1.min(time));
            }
        }
        best.sort_by_key(|&(_, time)| std::cmp::Reverse(time));
        Ok(best)
    }
}

/// What the input is filled with: the arithmetic takes as long on any picture.
const GREY_CODE: u8 = 100;
const GREY: f32 = 0.1;
