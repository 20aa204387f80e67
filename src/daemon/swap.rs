//! Another model while the daemon runs: loaded and tried beside the one in use, then put in its place.
//!
//! The workers' sessions are built here, on a thread of their own, so that no frame waits for one. A file
//! that cannot be used costs a line in the log; the generation in use stays.

use crate::detector::{DetectError, Generation, SelfTestError};
use crate::model::ModelError;
use crate::pipeline::Offer;
use crate::settings::WorkerShare;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::path::PathBuf;
use std::sync::Arc;

/// Why another model is not taken. One line that names the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum SwapError {
    /// The file cannot be used.
    #[error("{0}")]
    Model(#[from] ModelError),
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
    Ready { generation: Arc<Generation>, offer: Offer },
    /// It is the one in use.
    Same,
    /// It cannot be used.
    Failed(SwapError),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
enum Request {
    /// Look at this file.
    Load(PathBuf),
    /// Build sessions of the generation before again.
    RollBack,
}

/// The generations of this process, and the one that is being prepared.
pub(super) struct Swap {
    current: Arc<Generation>,
    previous: Option<Arc<Generation>>,
    next_number: u64,
    workers: usize,
    share: WorkerShare,
    /// Something is being prepared; the newest request after it waits.
    busy: bool,
    waiting: Option<Request>,
    to: Sender<Swapped>,
    results: Receiver<Swapped>,
}

impl Swap {
    /// With the generation that the daemon was started with.
    pub fn new(current: Arc<Generation>, workers: usize, share: WorkerShare) -> Self {
        let (to, results) = bounded(1);
        let next_number = current.number + 1;
        Self { current, previous: None, next_number, workers, share, busy: false, waiting: None, to, results }
    }

    /// What came of the requests.
    pub fn results(&self) -> &Receiver<Swapped> {
        &self.results
    }

    /// Looks at this file, and prepares it if it is another one than the one in use.
    pub fn load(&mut self, path: PathBuf) {
        self.request(Request::Load(path));
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
        let preparation = match request {
            Request::Load(path) => Preparation { path: Some(path), ..self.preparation(&self.current) },
            Request::RollBack => match &self.previous {
                Some(previous) => self.preparation(previous),
                None => return,
            },
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

    fn preparation(&self, known: &Arc<Generation>) -> Preparation {
        let (known, number) = (Arc::clone(known), self.next_number);
        Preparation { path: None, known, number, workers: self.workers, share: self.share }
    }

    /// Takes what came of a request; whoever asked meanwhile is served next.
    pub fn take(&mut self, swapped: &Swapped) {
        self.busy = false;
        if let Swapped::Ready { generation, .. } = swapped {
            self.next_number = self.next_number.max(generation.number + 1);
            self.previous = Some(std::mem::replace(&mut self.current, Arc::clone(generation)));
        }
        if let Some(request) = self.waiting.take() {
            self.request(request);
        }
    }
}

/// The work of the swap's thread.
struct Preparation {
    /// The file to look at; `None`: sessions of `known`.
    path: Option<PathBuf>,
    known: Arc<Generation>,
    number: u64,
    workers: usize,
    share: WorkerShare,
}

impl Preparation {
    fn run(self) -> Swapped {
        match self.prepare() {
            Ok(swapped) => swapped,
            Err(error) => Swapped::Failed(error),
        }
    }

    fn prepare(self) -> Result<Swapped, SwapError> {
        let generation = match &self.path {
            None => self.known,
            Some(path) => {
                let generation = Generation::load(path, self.number)?;
                if generation.sha256 == self.known.sha256 {
                    return Ok(Swapped::Same);
                }
                let named = |source| SwapError::SelfTest { path: generation.path.clone(), source };
                generation.self_test(self.share.threads).map_err(named)?;
                generation
            }
        };
        let named = |source| SwapError::Session { path: generation.path.clone(), source };
        let offer = Offer::of(&generation, self.workers, self.share).map_err(named)?;
        Ok(Swapped::Ready { generation, offer })
    }
}
