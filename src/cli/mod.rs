//! What a person types and reads: arguments, tables, exit codes.

mod bench;
mod detect;

use crate::settings::{self, Settings};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code where some input failed (named on stderr).
pub const SOME_FAILED: u8 = 1;
/// Exit code where settings or model file cannot be used; systemd does not restart on it.
pub const BAD_SETTINGS: u8 = 78;

/// Finds people, cats, cars and more in camera pictures, on this machine's CPU.
#[derive(Parser)]
#[command(version, after_help = "Example: retinad detect --model models/retinad-m-320-int8.onnx picture.jpg")]
struct Arguments {
    /// Settings file; without it /etc/retinad/retinad.toml where that exists
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Detect in pictures and print one JSON line each
    #[command(
        after_help = "Examples:\n  retinad detect examples/pictures/*.jpg\n  retinad detect --draw out pictures/\n  retinad detect --format coco --annotations val.json --images val/ -o results.json"
    )]
    Detect(detect::DetectArguments),
    /// Check settings and model, and print the effective settings
    #[command(after_help = "Example: retinad check --config config/retinad.toml")]
    Check(ModelArgument),
    /// Time a model, any ONNX file
    #[command(after_help = "Example: retinad bench --model models/retinad-m-320-int8.onnx --json")]
    Bench(bench::BenchArguments),
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
    let load = |model: &ModelArgument| -> Result<Settings, String> {
        let environment: Vec<(String, String)> =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        let flags: Vec<_> = model.model.iter().map(|path| ("detector.model".to_owned(), path.display().to_string())).collect();
        settings::load(config.as_deref(), &environment, &flags).map_err(|e| e.to_string())
    };
    let done = match arguments.command {
        Command::Detect(arguments) => load(&arguments.model).map_err(|e| (BAD_SETTINGS, e)).and_then(|s| detect::detect(&s, &arguments)),
        Command::Check(model) => load(&model).map_err(|e| (BAD_SETTINGS, e)).and_then(|s| check(&s)),
        Command::Bench(arguments) => bench::bench(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            if !message.is_empty() {
                eprintln!("retinad: {message}");
            }
            ExitCode::from(code)
        }
    }
}

fn check(settings: &Settings) -> Result<(), (u8, String)> {
    let model = crate::detector::DetectorModel::load(&settings.detector.model).map_err(|e| (BAD_SETTINGS, e.to_string()))?;
    println!("# model {} {}: {} classes, sha256 {}", model.manifest.name, model.manifest.version, model.labels.len(), &model.sha256[..12]);
    print!("{}", settings::masked_toml(settings));
    Ok(())
}
