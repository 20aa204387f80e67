//! Which form of a mixed graph is faster here: INT8 with nodes in float between, or all of it in float. Every
//! change between the two costs a pass over a tensor, so the count of multiply-adds does not tell.

use super::{Engine, Input, Session};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// No run of a form begins after this.
const LONGEST: Duration = Duration::from_millis(400);
/// A first run that took longer is the measurement: caches and fresh memory are a small part of it.
const LONG_RUN: Duration = Duration::from_millis(200);
/// Most runs that count.
const RUNS: usize = 15;

/// CPU time of a frame on one thread, in both forms of a mixed graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// In INT8 with nodes in float between.
    pub mixed: Duration,
    /// All of it in float.
    pub float: Duration,
}

impl Measured {
    /// Whether INT8 is at least as fast.
    pub fn prefers_int8(&self) -> bool {
        self.mixed <= self.float
    }

    /// For people.
    pub fn words(&self) -> String {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        format!("timed here: INT8 {} a frame, float {}", ms(self.mixed), ms(self.float))
    }
}

/// CPU time of a frame on one thread, which other programs' load hardly changes: the median of a few runs on a grey
/// picture, of one run where that is long.
///
/// # Errors
/// The engine's reason.
pub fn frame_time(engine: &Engine) -> Result<Duration, String> {
    let mut session = engine.session(1)?;
    let began = Instant::now();
    let first = run(&mut session)?;
    if first > LONG_RUN {
        return Ok(first);
    }
    let mut times = Vec::with_capacity(RUNS);
    while times.len() < RUNS && (times.is_empty() || began.elapsed() < LONGEST) {
        times.push(run(&mut session)?);
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn run(session: &mut Session) -> Result<Duration, String> {
    let from = cpu_time();
    session.run(|input| {
        match input {
            Input::Codes { data, .. } => data.fill(GREY_CODE),
            Input::Real(values) => values.fill(GREY),
        }
        Ok(())
    })?;
    Ok(cpu_time().saturating_sub(from))
}

/// That this thread has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What the input is filled with: the arithmetic takes as long on any picture.
const GREY_CODE: u8 = 100;
const GREY: f32 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_form_is_preferred_and_both_times_are_told() {
        let of = |mixed, float| Measured {
            mixed: Duration::from_micros(mixed),
            float: Duration::from_micros(float),
        };
        assert!(of(9_900, 10_000).prefers_int8() && of(10_000, 10_000).prefers_int8());
        assert!(!of(10_100, 10_000).prefers_int8());
        assert_eq!(of(9_940, 12_060).words(), "timed here: INT8 9.9 ms a frame, float 12.1 ms");
    }
}
