//! What a person types and reads: arguments, tables, exit codes.

mod bench;
mod check;
mod detect;
mod log;
mod manual;
mod print;
mod watch;

use crate::daemon;
use crate::detector::DetectorModel;
use crate::settings::{self, Settings};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code where some input failed (named on stderr).
pub const SOME_FAILED: u8 = 1;
/// Exit code where the system refused a thread or the like; systemd tries again.
pub const SYSTEM: u8 = 71;
/// Exit code where something needed is not reachable.
pub const UNREACHABLE: u8 = 69;
/// Exit code where settings or model file cannot be used; systemd does not restart on it.
pub const BAD_SETTINGS: u8 = 78;

/// Finds people, cats, cars and more in camera pictures, on this machine's CPU.
#[derive(Parser)]
#[command(name = "retinad", version, after_help = "Example: retinad run --config config/demo.toml")]
struct Arguments {
    /// Settings file; without it /etc/retinad/retinad.toml where that exists
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon: detect in the cameras' frames and publish over MQTT
    #[command(
        after_help = "Example: retinad run --config /etc/retinad/retinad.toml\n\nSIGHUP reloads the settings, SIGTERM ends within 2 s."
    )]
    Run(RunArguments),
    /// Print detections as they arrive over MQTT
    #[command(after_help = "Examples:\n  retinad watch\n  retinad watch --config config/demo.toml --json --count 10")]
    Watch(watch::WatchArguments),
    /// Detect in pictures and print one JSON line each
    #[command(
        after_help = "Examples:\n  retinad detect examples/pictures/*.jpg\n  retinad detect --draw out pictures/\n  retinad detect --format coco --annotations val.json --images val/ -o results.json"
    )]
    Detect(detect::DetectArguments),
    /// Check settings, model, cameras and broker, and print the effective settings
    #[command(
        after_help = "Example: retinad check --config config/retinad.toml\n\nExit code: 0 all well; 78 settings or model cannot be used; 69 a camera or the broker does not answer."
    )]
    Check(ModelArgument),
    /// Time a model, any ONNX file
    #[command(after_help = "Example: retinad bench\n         retinad bench --model other.onnx --threads 2 --json")]
    Bench(bench::BenchArguments),
    /// Write the manual pages
    #[command(after_help = "Example: retinad man /usr/local/share/man/man1")]
    Man(manual::ManArguments),
    /// Print the completions of a shell
    #[command(after_help = "Example: retinad completions bash > ~/.local/share/bash-completion/completions/retinad")]
    Completions(manual::CompletionsArguments),
}

/// Arguments of `retinad run`.
#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    model: ModelArgument,
    /// End once every replay is over
    #[arg(long)]
    once: bool,
}

/// `--model`, which wins over the settings.
#[derive(Args)]
pub struct ModelArgument {
    /// The ONNX file, instead of the one in the settings
    #[arg(long)]
    model: Option<PathBuf>,
}

/// Parses the command line and runs what it asks for.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let config = arguments.config;
    let load = |model: &ModelArgument| -> Result<Settings, settings::SettingsError> {
        let environment: Vec<(String, String)> =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        let flags: Vec<_> = model.model.iter().map(|path| ("detector.model".to_owned(), path.display().to_string())).collect();
        settings::load(config.as_deref(), &environment, &flags)
    };
    let log = log::start();
    let none = ModelArgument { model: None };
    let done = match arguments.command {
        Command::Run(arguments) => load(&arguments.model).map_err(|e| (BAD_SETTINGS, e.to_string())).and_then(|settings| {
            let model = DetectorModel::load(&settings.detector.model_file()).map_err(|e| (BAD_SETTINGS, e.to_string()))?;
            daemon::run(&settings, &model, || load(&arguments.model), arguments.once).map_err(|e| {
                let code = if matches!(e, daemon::DaemonError::Thread(_)) { SYSTEM } else { BAD_SETTINGS };
                (code, e.to_string())
            })
        }),
        Command::Watch(arguments) => {
            load(&none).map_err(|e| (BAD_SETTINGS, e.to_string())).and_then(|settings| watch::watch(&settings, &arguments))
        }
        Command::Detect(arguments) => {
            load(&arguments.model).map_err(|e| (BAD_SETTINGS, e.to_string())).and_then(|s| detect::detect(&s, &arguments))
        }
        Command::Check(model) => load(&model).map_err(|e| (BAD_SETTINGS, e.to_string())).and_then(|s| check::check(&s)),
        Command::Bench(arguments) => match &arguments.model {
            Some(model) => bench::bench(model, &arguments),
            None => load(&none).map_err(|e| (BAD_SETTINGS, e.to_string())).and_then(|s| bench::bench(&s.detector.model_file(), &arguments)),
        },
        Command::Man(arguments) => manual::man(Arguments::command(), &arguments),
        Command::Completions(arguments) => manual::completions(Arguments::command(), &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            if !message.is_empty() {
                log.complain(&message);
            }
            ExitCode::from(code)
        }
    }
}
