//! Work on several cores, with results in the order of the jobs.

use crate::cli::exit::{Exit, Failure};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Results of some jobs, with their numbers.
type Done<R> = Vec<(usize, Result<R, Failure>)>;

/// Does `work` for each of `jobs`, in their order, on `workers` threads, each with a state of its own that
/// `state` makes.
///
/// # Errors
/// That of the first job that failed; no new job is begun after a failure.
pub fn in_parallel<J: Sync, S, R: Send>(
    jobs: &[J],
    workers: usize,
    state: impl Fn() -> Result<S, Failure> + Sync,
    work: impl Fn(&mut S, &J) -> Result<R, Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    let (next, failing) = (AtomicUsize::new(0), AtomicBool::new(false));
    let one = || -> Result<Done<R>, Failure> {
        let mut state = state()?;
        let mut done = Vec::new();
        while !failing.load(Ordering::Relaxed) {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(place) else { break };
            let result = work(&mut state, job);
            if result.is_err() {
                failing.store(true, Ordering::Relaxed);
            }
            done.push((place, result));
        }
        Ok(done)
    };
    let joined = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.clamp(1, jobs.len().max(1))).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Result<Vec<_>, _>>()
    });
    let joined = joined.map_err(|_| Failure::new(Exit::Internal, "a worker of the study panicked"))?;
    let mut done = Vec::with_capacity(jobs.len());
    for results in joined {
        done.extend(results?);
    }
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_the_jobs_and_the_first_failure_is_told() {
        let jobs: Vec<usize> = (0..50).collect();
        let squares = in_parallel(&jobs, 3, || Ok(()), |(), job| Ok(job * job)).expect("no failure");
        assert_eq!(squares, jobs.iter().map(|job| job * job).collect::<Vec<_>>());
        let failure = |job: &usize| Failure::new(Exit::SomeFailed, job);
        let odd = |(): &mut (), job: &usize| if *job < 7 { Ok(()) } else { Err(failure(job)) };
        assert_eq!(in_parallel(&jobs, 3, || Ok(()), odd).expect_err("a failure").message, "7");
    }
}
