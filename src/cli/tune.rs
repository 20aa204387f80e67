//! `retinad tune`: learns from kept frames, judges the result, and puts a better model in use.

mod pace;
mod progress;
mod report;

use super::exit::{Exit, Failure};
use super::print::{complain, printable, say};
use super::samples::store;
use crate::atomic_file;
use crate::daemon::{self, Chosen};
use crate::generations::Generations;
use crate::model::ModelFile;
use crate::retinanet::loss::Loss;
use crate::settings::{Settings, TuneClasses, TuneLoss, TuneSettings};
use crate::tuning::hooks::{BeyondNoise, Measure};
use crate::tuning::reference::Reference;
use crate::tuning::report::{ReportError, check_folder};
use crate::tuning::{Job, KeptSamples, Tuned, TuningError, Which};
use clap::Args;
use pace::Pace;
use progress::Teller;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Shown below the arguments.
pub const EXAMPLES: &str = "Examples:
  sudo retinad tune
  sudo retinad tune --dry-run --report /tmp/report
  retinad tune --samples /tmp/samples --out tuned.onnx
  sudo retinad tune --loss cross_entropy --passes 40 --dry-run

It learns from labelled samples (`retinad samples label`, `import`) and gives way to a daemon that runs. A quarter of
the samples whose whole picture is labelled is never learned from: the tuned model is judged by them. It is used only
if it is better beyond chance, and worse beyond chance in nothing; a daemon that runs takes it between two frames.
`retinad rollback` goes back.

On a terminal it shows how far it is, else it prints lines of JSON, as `bridge/tune` in docs/mqtt.md says.

Exit code: 0 done, whether the tuned model is used or not; 1 too little is labelled, or something failed, or it was
ended (the next tuning of the same samples goes on from there); 2 usage; 71 another tuning runs; 78 settings or model
cannot be used.";

/// Arguments of `retinad tune`.
#[derive(Args)]
pub struct TuneArguments {
    #[command(flatten)]
    pub(super) model: super::ModelArgument,
    /// The samples' folder; without it `samples` in the state folder of the settings, or of the service
    #[arg(long, value_name = "DIR")]
    samples: Option<PathBuf>,
    /// Write the tuned model here and use nothing, whatever it is judged
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Tune and judge, and keep nothing
    #[arg(long)]
    dry_run: bool,
    /// Write a report into this folder: index.html, for people who never trained a model. It shows ten of the
    /// held-out pictures, readable by all who may read the folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// What is minimised, instead of the settings' tune.loss
    #[arg(long, value_parser = loss)]
    loss: Option<TuneLoss>,
    /// Weight of objects, instead of tune.alpha
    #[arg(long)]
    alpha: Option<f64>,
    /// Focusing, instead of tune.gamma
    #[arg(long)]
    gamma: Option<f64>,
    /// Which outputs are trained, instead of tune.classes: spoken, new, all, or scores, which trains none and
    /// sets scores by what people said
    #[arg(long, value_parser = classes)]
    classes: Option<TuneClasses>,
    /// Passes over the pictures, instead of tune.passes
    #[arg(long)]
    passes: Option<u32>,
    /// Greatest size of a step, instead of tune.learning_rate
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Seed of every order; the same samples, settings and seed give the same model
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// End after so many minutes; the next tuning goes on from there
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_080))]
    max_minutes: Option<u32>,
    /// Print lines of JSON also on a terminal
    #[arg(long)]
    json: bool,
}

fn loss(word: &str) -> Result<TuneLoss, String> {
    one_of(word, TuneLoss::WORDS)
}

fn classes(word: &str) -> Result<TuneClasses, String> {
    one_of(word, TuneClasses::WORDS)
}

/// The value that a word of the settings stands for.
fn one_of<T: serde::de::DeserializeOwned>(
    word: &str,
    words: &[crate::settings::keys::Word],
) -> Result<T, String> {
    let known: Vec<&str> = words.iter().map(|word| word.text).collect();
    serde_json::from_value(word.into()).map_err(|_| format!("must be one of {}", known.join(", ")))
}

/// Runs `retinad tune`.
pub fn tune(settings: &Settings, arguments: &TuneArguments) -> Result<(), Failure> {
    let stop = stop_on_signals()?;
    let state = daemon::state_folder_of_command(settings);
    let generations = state.as_deref().map(Generations::within);
    if generations.is_none() && arguments.out.is_none() && !arguments.dry_run {
        let words = "no state folder to keep a tuned model in: the service has none yet, and the settings set no \
                     state_dir; --out or --dry-run need none";
        return Err(Failure::new(Exit::Usage, words));
    }
    // What is known to fail does so before the training, not after it.
    arguments.report.as_deref().map_or(Ok(()), check_folder).map_err(unreported)?;
    let _lock = state.as_deref().map(lock).transpose()?;
    let Chosen { generation, note, .. } = daemon::load_model_of_command(settings, super::FIRST_GENERATION)?;
    let model = ModelFile::read(Path::new(&generation.path))?;
    drop(generation);
    let (samples, refused) =
        KeptSamples::read(&store(settings, arguments.samples.as_deref())?).map_err(failed)?;
    for line in note.iter().chain(&refused) {
        complain(format_args!("retinad: {}", printable(line)));
    }
    let told = with_flags(settings.tune.clone(), arguments);
    let loss = loss_of(&told);
    let checkpoint = state.as_deref().map(|state| state.join("tune.checkpoint"));
    let base = settings.detector.model_file();
    let node = daemon::node_name(settings);
    let job = Job {
        reference: reference(&base, &model)?,
        model: &model,
        input: settings.detector.input,
        samples,
        loss: &loss,
        training: crate::tuning::Settings {
            passes: told.passes,
            learning_rate: told.learning_rate,
            seed: arguments.seed,
            ..Default::default()
        },
        which: which(told.classes),
        least_boxes: told.least_boxes as usize,
        threshold: settings.detector.min_score,
        node: &node,
        checkpoint: checkpoint.as_deref(),
    };
    give_way();
    let mut pace = Pace::new(state.as_deref(), arguments.max_minutes, stop);
    let json = arguments.json || !std::io::stdout().is_terminal();
    let mut teller = Teller::new(json);
    let result = job.run(&mut BeyondNoise, &mut teller, &mut || pace.next());
    let tuned = match result {
        Ok(tuned) => tuned,
        Err(error) => {
            teller.failed(&error);
            return Err(failed(error));
        }
    };
    let reported = arguments.report.as_deref().map(|folder| {
        let losses = teller.losses();
        let report =
            report::report(&tuned, &model, &node, settings.detector.min_score, losses).map_err(failed)?;
        report.write(folder).map_err(unreported)
    });
    let what = keep(&tuned, arguments, generations.as_ref(), &base, told.activate);
    if let (Ok(_), Some(path)) = (&what, &checkpoint) {
        // What is over is not gone on from.
        let _ = std::fs::remove_file(path);
    }
    teller.done(&tuned, what.as_ref().err().map(|failure| failure.message.as_str()));
    let what = what?;
    if !json {
        tell(&tuned, &what);
    }
    if let Some(path) = reported.transpose()?.filter(|_| !json) {
        say!("report: {}", printable(&path.display().to_string()));
    }
    Ok(())
}

fn unreported(error: ReportError) -> Failure {
    Failure::new(Exit::SomeFailed, printable(&error.to_string()))
}

/// The failure's kind: too little is labelled, or something failed.
fn failed(error: TuningError) -> Failure {
    let exit = match error {
        TuningError::Model(_) | TuningError::Loss(_) | TuningError::Setting { .. } => Exit::Unusable,
        _ => Exit::SomeFailed,
    };
    Failure::new(exit, printable(&error.to_string()))
}

fn with_flags(mut told: TuneSettings, arguments: &TuneArguments) -> TuneSettings {
    told.loss = arguments.loss.unwrap_or(told.loss);
    told.alpha = arguments.alpha.unwrap_or(told.alpha);
    told.gamma = arguments.gamma.unwrap_or(told.gamma);
    told.classes = arguments.classes.unwrap_or(told.classes);
    told.passes = arguments.passes.unwrap_or(told.passes);
    told.learning_rate = arguments.learning_rate.unwrap_or(told.learning_rate);
    told
}

fn loss_of(told: &TuneSettings) -> Loss {
    let TuneSettings { alpha, gamma, .. } = *told;
    match told.loss {
        TuneLoss::Focal => Loss::Focal { alpha: Some(alpha), gamma },
        TuneLoss::CrossEntropy => Loss::CrossEntropy,
        TuneLoss::Balanced => Loss::Balanced { alpha },
        TuneLoss::FocalStar => Loss::FocalStar { alpha: None, gamma, beta: 1.0 },
        TuneLoss::QualityFocal => Loss::QualityFocal { gamma },
    }
}

fn which(classes: TuneClasses) -> Which {
    match classes {
        TuneClasses::Spoken => Which::Spoken,
        TuneClasses::New => Which::New,
        TuneClasses::All => Which::All,
        TuneClasses::Scores => Which::Scores,
    }
}

/// The set of cells that came with the settings' model; none is told, because without it more is forgotten.
fn reference(base: &Path, model: &ModelFile) -> Result<Reference, Failure> {
    let path = base.with_extension("reference");
    let layer = model.class_layer()?;
    if path.exists() {
        return Reference::read(&path, &layer).map_err(failed);
    }
    let path = printable(&path.display().to_string());
    complain(format_args!("retinad: {path}: not there; known classes are held by the samples alone"));
    Ok(Reference::empty(&layer))
}

/// One tuning at a time on a state folder.
fn lock(state: &Path) -> Result<File, Failure> {
    let path = state.join("tune.lock");
    let named = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Refused, format!("{}: {error}", printable(&path.display().to_string())))
    };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(open(&path, flags, Mode::from_raw_mode(0o600)).map_err(|e| named(&e))?);
    atomic_file::give_to_owner_of(state, &path).map_err(|e| named(&e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(named(&"another tuning runs; one at a time is allowed")),
        Err(error) => Err(named(&error)),
    }
}

/// The signals that end a tuning, as a flag.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::<AtomicBool>::default();
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Failure::new(Exit::Refused, format!("signals: {error}")))?;
    }
    Ok(stop)
}

/// Everything else on the machine goes first.
fn give_way() {
    // Where that is not allowed, the pace still gives way to the daemon.
    let _ = rustix::process::setpriority_process(None, 19);
}

/// What became of a tuned model.
enum Fate {
    /// It is in use.
    InUse { generation: u64, previous: u64 },
    /// It waits.
    Candidate(u64),
    /// It stands in this file.
    Written(PathBuf),
    /// Nothing is kept of it.
    Dropped,
}

fn keep(
    tuned: &Tuned,
    arguments: &TuneArguments,
    generations: Option<&Generations>,
    base: &Path,
    activate: bool,
) -> Result<Fate, Failure> {
    if let Some(path) = &arguments.out {
        let failed = |error| {
            Failure::new(Exit::SomeFailed, format!("{}: {error}", printable(&path.display().to_string())))
        };
        atomic_file::write(path, &tuned.bytes, 0o644).map_err(failed)?;
        return Ok(Fate::Written(path.clone()));
    }
    let (Some(generations), true, false) = (generations, tuned.judgement.promoted, arguments.dry_run) else {
        return Ok(Fate::Dropped);
    };
    let failed = |error| Failure::new(Exit::SomeFailed, printable(&format!("{error}")));
    let number = generations.add(base, &tuned.bytes).map_err(failed)?;
    if !activate {
        return Ok(Fate::Candidate(number));
    }
    let change = generations.activate(base, Some(number)).map_err(failed)?;
    Ok(Fate::InUse { generation: change.generation, previous: change.previous })
}

/// The result for people.
fn tell(tuned: &Tuned, fate: &Fate) {
    let [learned, held_out] = tuned.pictures;
    let trained = tuned.trained.iter().map(|label| printable(label)).collect::<Vec<_>>().join(", ");
    say!("learned from {learned} pictures, judged by {held_out}; trained: {trained}");
    say!("");
    say!("{:<42} {:>9} {:>9} {:>9}", "", "before", "after", "noise");
    for Measure { name, before, after, noise, .. } in &tuned.judged.measures {
        say!("{name:<42} {before:>9.4} {after:>9.4} {noise:>9.4}");
    }
    let spoken = tuned.judged.classes.iter().filter(|class| tuned.trained.contains(&class.label));
    for class in spoken {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let name = format!("AP50 of {} ({} objects)", printable(&class.label), class.objects);
        say!("{name:<42} {:>9} {:>9}", number(class.before), number(class.after));
    }
    say!("");
    let reason = &tuned.judgement.reason;
    match fate {
        Fate::InUse { generation, previous } => {
            say!("generation {generation} is in use in place of {previous}: {reason}");
            say!("`retinad rollback` goes back.");
        }
        Fate::Candidate(number) => {
            say!("generation {number} is a candidate: {reason}");
            say!("`retinad models --use {number}` uses it.");
        }
        Fate::Written(path) => {
            let judged = if tuned.judgement.promoted { "better" } else { "not better" };
            say!("{}: judged {judged}: {reason}", printable(&path.display().to_string()));
        }
        Fate::Dropped if tuned.judgement.promoted => say!("better, and not kept (--dry-run): {reason}"),
        Fate::Dropped => say!("the model stays: {reason}"),
    }
}
