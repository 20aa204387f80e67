//! Worker threads: take, detect, hand over. A panic costs one frame.

use super::generation_slot::Judge;
use super::{Dispatcher, GenerationSlot, Taken, motion_gate};
use crate::detection::{Outcome, Times, Verdict};
use crate::detector::DetectError;
use crate::frame::Picture;
use crate::thread::{self, EndNotice};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// Failures in a row on one generation after which a worker gives it up.
const UNFIT_AFTER: u32 = 3;

/// What workers report.
#[derive(Debug)]
pub enum WorkerNews {
    /// A frame is done.
    Outcome {
        /// Its place in its camera's order of taken frames.
        place: u64,
        /// What became of it.
        outcome: Box<Outcome>,
    },
    /// A worker failed or panicked three times in a row on this generation.
    Unfit {
        /// The generation's number.
        generation: u64,
        /// What the last failure was.
        reason: String,
    },
}

/// Running workers.
pub struct Workers {
    /// What they report, unordered; closed once the last worker ended.
    pub news: Receiver<WorkerNews>,
    /// The threads; each ends when the dispatcher is closed and empty.
    pub threads: Vec<JoinHandle<()>>,
    /// What they count.
    pub counted: Arc<WorkerCounts>,
}

/// What workers count.
#[derive(Debug, Default)]
pub struct WorkerCounts {
    /// Workers at a frame now.
    pub busy: AtomicUsize,
    /// Times a worker failed so that its session was built anew.
    pub restarts: AtomicU64,
}

/// Starts `count` workers. The end of each, for whatever reason, is told to `ends`.
///
/// # Errors
/// If a thread cannot be started.
pub fn start_workers(
    count: usize,
    slot: &Arc<GenerationSlot>,
    dispatcher: &Arc<Dispatcher>,
    ends: &Sender<EndNotice>,
) -> std::io::Result<Workers> {
    let (to, news) = bounded(2 * count);
    let counted = Arc::<WorkerCounts>::default();
    let mut threads = Vec::new();
    for number in 0..count {
        let worker = Worker {
            number,
            slot: Arc::clone(slot),
            dispatcher: Arc::clone(dispatcher),
            counted: Arc::clone(&counted),
            to: to.clone(),
            generation: 0,
            judge: Err(DetectError::Failed("no session yet".into())),
            failures: 0,
        };
        threads.push(thread::spawn(&format!("worker-{number}"), ends, move || worker.run())?);
    }
    Ok(Workers { news, threads, counted })
}

/// One worker's share.
struct Worker {
    number: usize,
    slot: Arc<GenerationSlot>,
    dispatcher: Arc<Dispatcher>,
    counted: Arc<WorkerCounts>,
    /// Closed by the shell when it ends.
    to: Sender<WorkerNews>,
    /// Number of the generation that `judge` is of.
    generation: u64,
    judge: Result<Judge, DetectError>,
    /// Failures in a row on this generation.
    failures: u32,
}

impl Worker {
    /// Works until the dispatcher is closed and empty, or nobody listens.
    fn run(mut self) {
        self.change_generation();
        while let Some(taken) = self.dispatcher.take(self.number) {
            let from = Instant::now();
            self.counted.busy.fetch_add(1, Ordering::Relaxed);
            if self.slot.number() != self.generation {
                self.change_generation();
            }
            let news = self.work(taken);
            self.counted.busy.fetch_sub(1, Ordering::Relaxed);
            let rest = self.dispatcher.limits().rest_after(from.elapsed());
            if news.into_iter().any(|news| self.to.send(news).is_err()) {
                return;
            }
            self.dispatcher.rest(rest);
        }
    }

    fn change_generation(&mut self) {
        (self.generation, self.judge) = self.slot.claim();
        self.failures = 0;
    }

    /// Judges one frame; after three failures in a row says so, too.
    fn work(&mut self, taken: Taken) -> Vec<WorkerNews> {
        let frame = taken.frame;
        let mut times = Times { queue: frame.captured.elapsed(), ..Times::default() };
        let (generation, mut moving) = (self.generation, None);
        let mut is_worth = |picture: &Picture| {
            let Some(gate) = &taken.gate else { return true };
            let verdict = gate.judge(picture, frame.captured, generation);
            moving = motion_gate::moving(verdict);
            verdict.look.is_some()
        };
        let judged = catch_unwind(AssertUnwindSafe(|| match &mut self.judge {
            Ok(judge) => judge(&frame.raw, &mut is_worth, &mut times),
            Err(error) => Err(DetectError::Failed(error.to_string())),
        }));
        let judged = judged.unwrap_or_else(|panic| Err(DetectError::Failed(thread::panic_text(&*panic))));
        let (verdict, (width, height)) = match judged {
            Ok((Some(found), size)) => (Verdict::Detected(found), size),
            Ok((None, size)) => (Verdict::Unchanged, size),
            Err(DetectError::Damaged(error)) => (Verdict::Damaged(error.to_string()), (0, 0)),
            Err(error) => (Verdict::Failed(error.to_string()), (0, 0)),
        };
        if let (Verdict::Failed(_), Some(gate)) = (&verdict, &taken.gate) {
            gate.forget_look();
        }
        let unfit = self.count_failure(&verdict);
        let outcome = Outcome {
            camera: frame.camera,
            seq: frame.seq,
            captured: frame.captured,
            captured_wall: frame.captured_wall,
            width,
            height,
            superseded_before: frame.superseded_before,
            times,
            verdict,
            moving,
            generation,
            raw: frame.raw,
        };
        let outcome = WorkerNews::Outcome { place: taken.place, outcome: Box::new(outcome) };
        std::iter::once(outcome).chain(unfit).collect()
    }

    /// Builds the session anew after a failure, because it may be half-written.
    fn count_failure(&mut self, verdict: &Verdict) -> Option<WorkerNews> {
        let Verdict::Failed(reason) = verdict else {
            self.failures = 0;
            return None;
        };
        let failures = self.failures + 1;
        self.counted.restarts.fetch_add(1, Ordering::Relaxed);
        let generation = self.generation;
        self.change_generation();
        if self.generation == generation {
            self.failures = failures % UNFIT_AFTER;
        }
        (failures == UNFIT_AFTER).then(|| WorkerNews::Unfit { generation, reason: reason.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Encoding, RawFrame, Turn};
    use crate::motion::GateOptions;
    use crate::pipeline::{IsWorth, MotionGate, Offer, WorkerLimits};
    use crossbeam_channel::unbounded;
    use std::time::{Duration, SystemTime};

    fn offer(number: u64, judge: fn(&RawFrame) -> Result<(), DetectError>) -> Offer {
        let build = move || -> Result<Judge, DetectError> {
            Ok(Box::new(move |raw: &RawFrame, is_worth: IsWorth<'_>, _: &mut Times| {
                judge(raw)?;
                let picture = Picture { width: 1, height: 1, rgb: vec![raw.data[0]; 3] };
                Ok((is_worth(&picture).then(Vec::new), (1, 1)))
            }))
        };
        Offer { number, ready: Vec::new(), build: Arc::new(build) }
    }

    struct Bench {
        dispatcher: Arc<Dispatcher>,
        slot: Arc<GenerationSlot>,
        workers: Workers,
    }

    impl Bench {
        fn new(count: usize, offer: Offer) -> Self {
            Self::with_gate(count, offer, None)
        }

        fn with_gate(count: usize, offer: Offer, gate: Option<MotionGate>) -> Self {
            let (dispatcher, slot) = (Arc::<Dispatcher>::default(), Arc::new(GenerationSlot::new(offer)));
            dispatcher.add(0, gate);
            let (ends, _) = unbounded();
            let workers = start_workers(count, &slot, &dispatcher, &ends).expect("threads");
            Self { dispatcher, slot, workers }
        }

        fn next(&self) -> WorkerNews {
            self.workers.news.recv_timeout(Duration::from_secs(5)).expect("news")
        }

        fn judged(&self, byte: u8) -> Outcome {
            let raw = RawFrame {
                width: 1,
                height: 1,
                encoding: Encoding::Grey,
                turn: Turn::NONE,
                data: vec![byte],
            };
            self.dispatcher.offer(0, raw, Instant::now(), SystemTime::now());
            match self.next() {
                WorkerNews::Outcome { outcome, .. } => *outcome,
                other => panic!("{other:?}"),
            }
        }

        fn end(self) {
            self.dispatcher.close();
            self.workers.threads.into_iter().for_each(|thread| thread.join().expect("ends"));
        }
    }

    #[test]
    fn a_panic_costs_one_frame_only() {
        let bench = Bench::new(
            1,
            offer(1, |raw| {
                assert!(raw.data != [1], "a frame that no worker can bear");
                Ok(())
            }),
        );
        let verdicts: Vec<Verdict> = (0..3).map(|byte| bench.judged(byte).verdict).collect();
        assert!(matches!(verdicts[0], Verdict::Detected(_)) && matches!(verdicts[2], Verdict::Detected(_)));
        assert!(
            matches!(&verdicts[1], Verdict::Failed(reason) if reason.contains("no worker can bear")),
            "{verdicts:?}"
        );
        assert_eq!(bench.workers.counted.restarts.load(Ordering::Relaxed), 1);
        bench.end();
    }

    fn gate() -> Option<MotionGate> {
        Some(MotionGate::new(GateOptions { threshold: 5.0, force_ms: 3_600_000 }))
    }

    /// Verdicts on frames of these bytes: `D` looked at, `-` not, `F` failed.
    fn verdicts(bench: &Bench, bytes: &[u8]) -> String {
        let letter = |byte: &u8| match bench.judged(*byte).verdict {
            Verdict::Detected(_) => 'D',
            Verdict::Unchanged => '-',
            Verdict::Damaged(_) | Verdict::Failed(_) => 'F',
        };
        bytes.iter().map(letter).collect()
    }

    #[test]
    fn frames_in_which_nothing_changed_are_not_looked_at() {
        let bench = Bench::with_gate(1, offer(1, |_| Ok(())), gate());
        assert_eq!(verdicts(&bench, &[50; 12]), "DDDDDDDDD---", "the noise is learnt first");
        assert_eq!(verdicts(&bench, &[50, 200, 200]), "-DD");
        let bench = Bench::new(1, offer(1, |_| Ok(())));
        assert_eq!(verdicts(&bench, &[50; 12]), "DDDDDDDDDDDD", "no gate");
    }

    #[test]
    fn after_a_failure_a_swap_or_a_switch_the_next_frame_is_looked_at() {
        let bench = Bench::with_gate(
            1,
            offer(1, |raw| if raw.data == [1] { Err(DetectError::Failed("no".into())) } else { Ok(()) }),
            gate(),
        );
        assert_eq!(verdicts(&bench, &[50; 11]), "DDDDDDDDD--");
        assert_eq!(verdicts(&bench, &[1, 50, 50]), "FD-");
        bench.slot.put(offer(2, |_| Ok(())));
        assert_eq!(verdicts(&bench, &[50, 50]), "D-");
        bench.dispatcher.switch(0, true);
        assert_eq!(verdicts(&bench, &[50, 50]), "D-");
        bench.dispatcher.look_again(0);
        assert_eq!(verdicts(&bench, &[50, 50]), "D-");
        bench.end();
    }

    #[test]
    fn a_worker_changes_generation_between_two_frames() {
        let bench = Bench::new(1, offer(1, |_| Ok(())));
        assert_eq!(bench.judged(0).generation, 1);
        bench.slot.put(offer(2, |_| Ok(())));
        assert_eq!(bench.judged(0).generation, 2);
        bench.end();
    }

    #[test]
    fn three_failures_in_a_row_make_a_generation_unfit() {
        let bench = Bench::new(
            1,
            offer(7, |raw| if raw.data == [0] { Ok(()) } else { Err(DetectError::Failed("no".into())) }),
        );
        for byte in [1, 1, 0, 1, 1, 1] {
            bench.judged(byte);
        }
        assert!(matches!(bench.next(), WorkerNews::Unfit { generation: 7, reason } if reason == "no"));
        bench.end();
    }

    #[test]
    fn a_panic_while_a_session_is_built_is_a_failure() {
        let build = || -> Result<Judge, DetectError> { panic!("this session cannot be built") };
        let bench = Bench::new(1, Offer { number: 1, ready: Vec::new(), build: Arc::new(build) });
        for _ in 0..3 {
            assert!(matches!(bench.judged(0).verdict, Verdict::Failed(_)));
        }
        assert!(matches!(bench.next(), WorkerNews::Unfit { generation: 1, .. }));
        bench.end();
    }

    #[test]
    fn workers_that_are_not_allowed_take_nothing_and_the_end_is_quick() {
        let bench = Bench::new(
            2,
            offer(1, |_| {
                std::thread::sleep(Duration::from_millis(2));
                let name = std::thread::current().name().unwrap_or_default().to_owned();
                if name == "worker-1" { Err(DetectError::Failed(name)) } else { Ok(()) }
            }),
        );
        bench.dispatcher.limit(WorkerLimits { workers: 1, share_percent: 100 });
        let failed = (0..60).filter(|_| matches!(bench.judged(0).verdict, Verdict::Failed(_))).count();
        // It may have been waiting for a frame when the limit came.
        assert!(failed <= 1, "{failed} frames by a worker that should rest");
        let from = Instant::now();
        bench.end();
        assert!(from.elapsed() < Duration::from_secs(1));
    }
}
