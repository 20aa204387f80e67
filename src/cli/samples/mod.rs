//! `retinad samples`: what was kept to learn from, shown, labelled, taken out and brought in.

mod edit;
mod exchange;
mod prune;
mod show;

use super::exit::{Exit, Failure};
use super::print;
use crate::samples::{SampleId, Store, StoreError};
use crate::settings::Settings;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// Arguments of `retinad samples`.
#[derive(Args)]
pub struct SamplesArguments {
    /// The samples' folder; without it `samples` in the state folder of the settings, or of the service
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    command: SamplesCommand,
}

#[derive(Subcommand)]
enum SamplesCommand {
    /// List samples: why each was kept, what was found, what people say
    #[command(after_help = "Examples:\n  sudo retinad samples list\n  \
        sudo retinad samples list --unlabelled --reason flicker --json")]
    List(show::ListArguments),
    /// Show samples in full, and draw them
    #[command(
        after_help = "Example: sudo retinad samples show 20261126-152301-123-front --draw /tmp/samples"
    )]
    Show(show::ShowArguments),
    /// Say what a sample shows
    #[command(
        after_help = "Examples (boxes are left,top,right,bottom in pixels, numbers those of `samples show`):\n  \
        sudo retinad samples label ID --correct\n  \
        sudo retinad samples label ID --found 1=dog --found 2=background\n  \
        sudo retinad samples label ID --box person=10,20,110,220 --whole\n  \
        sudo retinad samples label ID --nothing"
    )]
    Label(edit::LabelArguments),
    /// Write samples as pictures and one COCO file, for a labelling tool
    #[command(after_help = "Example: sudo retinad samples export /tmp/samples --suggest")]
    Export(exchange::ExportArguments),
    /// Read labels of a COCO file; new pictures become samples
    #[command(after_help = "Examples:\n  sudo retinad samples import /tmp/samples/annotations.json\n  \
        sudo retinad samples import labels.json --images pictures/")]
    Import(exchange::ImportArguments),
    /// Remove samples
    #[command(after_help = "Examples:\n  sudo retinad samples prune --older-than 30 --dry-run\n  \
        sudo retinad samples prune 20261126-152301-123-front")]
    Prune(prune::PruneArguments),
}

/// Runs `retinad samples`.
pub fn samples(settings: &Settings, arguments: &SamplesArguments) -> Result<(), Failure> {
    let store = store(settings, arguments.folder.as_deref())?;
    match &arguments.command {
        SamplesCommand::List(arguments) => show::list(&store, arguments),
        SamplesCommand::Show(arguments) => show::show(&store, arguments),
        SamplesCommand::Label(arguments) => edit::label(&store, arguments),
        SamplesCommand::Export(arguments) => exchange::export(&store, arguments),
        SamplesCommand::Import(arguments) => {
            exchange::import(&store, arguments, u64::from(settings.samples.max_mb) << 20)
        }
        SamplesCommand::Prune(arguments) => prune::prune(&store, arguments),
    }
}

pub(super) fn store(settings: &Settings, folder: Option<&Path>) -> Result<Store, Failure> {
    if let Some(folder) = folder {
        return match folder.metadata() {
            Ok(found) if !found.is_dir() => Err(usage(format!("{}: must be a folder", folder.display()))),
            Err(error) => Err(usage(format!("{}: {error}", folder.display()))),
            Ok(_) => Ok(Store::at(folder.to_owned())),
        };
    }
    let state = crate::daemon::state_folder_of_command(settings);
    state.map(|state| Store::within(&state)).ok_or_else(|| {
        usage("no state folder: the service has none yet, and the settings set no state_dir; --folder names one")
    })
}

/// A command line that does not make sense.
fn usage(message: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, message)
}

/// An input or output that failed.
fn failed(message: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::SomeFailed, message)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        failed(error)
    }
}

/// The ids of a command line.
fn ids(texts: &[String]) -> Result<Vec<SampleId>, Failure> {
    texts.iter().map(|text| text.parse().map_err(usage)).collect()
}

/// Complains about what failed, and goes on with the rest; in the end the exit code says so.
#[derive(Default)]
struct Faults(usize);

impl Faults {
    fn note<T, E: std::fmt::Display>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.0 += 1;
                print::complain(format_args!("{error}"));
                None
            }
        }
    }

    fn into_result(self) -> Result<(), Failure> {
        if self.0 == 0 { Ok(()) } else { Err(failed("")) }
    }
}
