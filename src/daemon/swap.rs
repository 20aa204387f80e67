//! Another model while the daemon runs: loaded and tried beside the one in use, then put in its place.
//!
//! The workers' sessions are built here, on a thread of their own, so that no frame waits for one. A file
//! that cannot be used costs a line in the log; the generation in use stays.

use super::models::{self, Chosen};
use crate::detector::{DetectError, Generation, SelfTestError};
use crate::generations::{Generations, GenerationsError};
use crate::model::ModelError;
use crate::pipeline::Offer;
use crate::scene::Stored;
use crate::settings::{InputSize, WorkerShare};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::path::PathBuf;
use std::sync::Arc;

/// Why another model is not taken. One line that names the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum SwapError {
    /// The file cannot be used.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// The tuned models cannot be changed.
    #[error("{0}")]
    Generations(#[from] GenerationsError),
    /// It loads, and fails where it counts.
    #[error("{path}: {source}")]
    SelfTest { path: String, source: SelfTestError },
    /// A session cannot be built.
    #[error("{path}: {source}")]
    Session { path: String, source: DetectError },
    /// The system refused the thread.
    #[error("swap thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What came of looking at a model file.
pub(super) enum Swapped {
    /// It is another one, and ready to be used.
    Ready { generation: Arc<Generation>, stored: Stored, offer: Offer },
    /// It is the one in use; its place among the tuned ones may have changed.
    Same(Stored),
    /// It cannot be used.
    Failed(SwapError),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
enum Request {
    /// Look at this file, or the model that was tuned from it.
    Load(PathBuf),
    /// Use the generation before again.
    RollBack,
}

/// The generations of this process, and the one that is being prepared.
pub(super) struct Swap {
    current: Arc<Generation>,
    /// Its place among the tuned models.
    stored: Stored,
    previous: Option<Arc<Generation>>,
    /// The model of the settings, and where those are that were tuned from it.
    base: PathBuf,
    generations: Option<Generations>,
    next_number: u64,
    workers: usize,
    share: WorkerShare,
    input: InputSize,
    /// Something is being prepared; the newest request after it waits.
    busy: bool,
    waiting: Option<Request>,
    to: Sender<Swapped>,
    results: Receiver<Swapped>,
}

impl Swap {
    /// With the model that the daemon was started with, chosen for the settings' file `base`.
    pub fn new(
        (current, stored): (Arc<Generation>, Stored),
        base: PathBuf,
        generations: Option<Generations>,
        workers: usize,
        (share, input): (WorkerShare, InputSize),
    ) -> Self {
        let (to, results) = bounded(1);
        let next_number = current.number + 1;
        Self {
            current,
            stored,
            previous: None,
            base,
            generations,
            next_number,
            workers,
            share,
            input,
            busy: false,
            waiting: None,
            to,
            results,
        }
    }

    /// What came of the requests.
    pub fn results(&self) -> &Receiver<Swapped> {
        &self.results
    }

    /// Looks at this file, and prepares it if it is another one than the one in use.
    pub fn load(&mut self, path: PathBuf) {
        self.request(Request::Load(path));
    }

    /// Looks at the model that is to be used for the settings' file, which another process may have changed.
    pub fn load_again(&mut self) {
        self.request(Request::Load(self.base.clone()));
    }

    /// Prepares the generation before the one in use.
    pub fn roll_back(&mut self) {
        self.request(Request::RollBack);
    }

    /// Whether nothing is being prepared.
    pub fn is_idle(&self) -> bool {
        !self.busy
    }

    fn request(&mut self, request: Request) {
        if self.busy {
            self.waiting = Some(request);
            return;
        }
        let what = match request {
            Request::Load(base) => {
                self.base = base;
                What::InUse
            }
            Request::RollBack if self.stored.number > 0 => What::Earlier,
            Request::RollBack => match &self.previous {
                Some(previous) => What::Known(Arc::clone(previous)),
                None => return,
            },
        };
        let preparation = Preparation {
            what,
            base: self.base.clone(),
            generations: self.generations.clone(),
            known: Arc::clone(&self.current),
            number: self.next_number,
            workers: self.workers,
            share: self.share,
            input: self.input,
        };
        let to = self.to.clone();
        self.busy = true;
        let started = std::thread::Builder::new().name("swap".into()).spawn(move || {
            // Nobody listens any more once the daemon ends.
            let _ = to.send(preparation.run());
        });
        if let Err(error) = started {
            let _ = self.to.try_send(Swapped::Failed(error.into()));
        }
    }

    /// Takes what came of a request; whoever asked meanwhile is served next.
    pub fn take(&mut self, swapped: &Swapped) {
        self.busy = false;
        match swapped {
            Swapped::Ready { generation, stored, .. } => {
                self.next_number = self.next_number.max(generation.number + 1);
                self.previous = Some(std::mem::replace(&mut self.current, Arc::clone(generation)));
                self.stored = stored.clone();
            }
            Swapped::Same(stored) => self.stored = stored.clone(),
            Swapped::Failed(_) => {}
        }
        if let Some(request) = self.waiting.take() {
            self.request(request);
        }
    }
}

/// What is to be prepared.
enum What {
    /// What is in use for the settings' file.
    InUse,
    /// The tuned model before the one in use, which is left for good.
    Earlier,
    /// A model that is loaded.
    Known(Arc<Generation>),
}

/// The work of the swap's thread.
struct Preparation {
    what: What,
    base: PathBuf,
    generations: Option<Generations>,
    /// In use now.
    known: Arc<Generation>,
    number: u64,
    workers: usize,
    share: WorkerShare,
    input: InputSize,
}

impl Preparation {
    fn run(self) -> Swapped {
        match self.prepare() {
            Ok(swapped) => swapped,
            Err(error) => Swapped::Failed(error),
        }
    }

    fn prepare(self) -> Result<Swapped, SwapError> {
        if let (What::Earlier, Some(generations)) = (&self.what, &self.generations) {
            generations.roll_back(&self.base, None)?;
        }
        let (generation, stored) = match self.what {
            What::Known(generation) => (generation, Stored::default()),
            What::InUse | What::Earlier => {
                let Chosen { generation, stored, note } =
                    models::load(self.generations.as_ref(), &self.base, self.number, self.input)?;
                if let Some(note) = note {
                    tracing::warn!(note, "another model than the one in use last");
                }
                if generation.sha256 == self.known.sha256 {
                    return Ok(Swapped::Same(stored));
                }
                let named = |source| SwapError::SelfTest { path: generation.path.clone(), source };
                generation.self_test(self.share.threads).map_err(named)?;
                (generation, stored)
            }
        };
        let named = |source| SwapError::Session { path: generation.path.clone(), source };
        let offer = Offer::of(&generation, self.workers, self.share).map_err(named)?;
        Ok(Swapped::Ready { generation, stored, offer })
    }
}
