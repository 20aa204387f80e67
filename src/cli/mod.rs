//! What a person types and reads: arguments, tables, exit codes.

mod bench;
mod check;
mod detect;
mod eval;
mod exit;
mod labels;
mod log;
mod manifest;
mod manual;
mod models;
mod mqtt;
mod print;
mod progress;
mod request;
mod run_model;
mod samples;
mod study;
mod tune;
mod watch;

use crate::capture;
use crate::daemon;
use crate::settings::{self, Settings};
use clap::{Args, CommandFactory, Parser, Subcommand};
use exit::{Exit, Failure};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

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
    #[command(after_help = "Example: retinad run --config /etc/retinad/retinad.toml\n\n\
            SIGHUP reloads the settings, SIGTERM ends within 2 s.")]
    Run(RunArguments),
    /// Print detections or events as they arrive over MQTT
    #[command(after_help = "Examples:\n  retinad watch\n  retinad watch --events\n\
            \x20 retinad watch --config config/demo.toml --json --count 10")]
    Watch(watch::WatchArguments),
    /// Detect in pictures and print one JSON line each
    #[command(after_help = "Examples:\n\
            \x20 retinad detect examples/pictures/*.jpg\n\
            \x20 retinad detect --draw out pictures/\n\
            \x20 retinad detect --format coco --annotations val.json --images val/ -o results.json")]
    Detect(detect::DetectArguments),
    /// Judge a model, or results, by annotated pictures
    #[command(after_help = eval::EXAMPLES)]
    Eval(eval::EvalArguments),
    /// Try all that `run` needs: settings, model, cameras, broker, state folder
    #[command(after_help = "Examples:\n\
            \x20 retinad check\n\
            \x20 sudo retinad check --config /etc/retinad/retinad.toml --settings\n\
            \x20 retinad check --draw /tmp/check\n\n\
            A daemon may run at the same time; its client id and last will are not tried at the broker then.\n\n\
        Exit code: 0 all well; 78 settings or model cannot be used; 69 a camera or the broker does not answer.")]
    Check(check::CheckArguments),
    /// Time a model, any ONNX file
    #[command(
        after_help = "Example: retinad bench\n         retinad bench --model other.onnx --threads 2 --json"
    )]
    Bench(bench::BenchArguments),
    /// Run any ONNX file once on numbers of your own and write its outputs
    #[command(after_help = "Example: retinad run-model model.onnx --input picture.npy --outputs out/\n\n\
        In Python, picture.npy is written by numpy.save(\"picture.npy\", x) with x of type float32 and the input's\n\
        shape, such as (1, 3, 320, 320); numpy.load(\"out/NAME.npy\") reads an output.\n\
        Real values go in and come out, whatever the model runs in.\n\n\
        Exit code: 0 all written; 1 the input cannot be used; 71 an output cannot be written;\n\
        78 the model cannot be run.")]
    RunModel(run_model::RunModelArguments),
    /// Show, propose, check and write the manifest by which an ONNX file becomes a model of your own
    #[command(after_help = manifest::EXAMPLES)]
    Manifest(manifest::ManifestArguments),
    /// Look at, label, export, import and remove the frames kept to learn from
    #[command(after_help = "Examples:\n\
            \x20 sudo retinad samples list\n\
            \x20 sudo retinad samples label ID --correct\n\
            \x20 sudo retinad samples export /tmp/samples --suggest\n\n\
            Frames are kept where samples.enabled is on; they never leave this machine by themselves.\n\n\
        Exit code: 0 done; 1 some sample or file failed; 2 usage.")]
    Samples(samples::SamplesArguments),
    /// Learn from labelled samples, and use the tuned model if it is better
    #[command(after_help = tune::EXAMPLES)]
    Tune(tune::TuneArguments),
    /// List the tuned models of this machine, or choose which one is used
    #[command(after_help = "Examples:\n  sudo retinad models\n  sudo retinad models --use 3\n\n\
        The one in use is marked `*`. Generation 0 is the model of the settings; the three before the one in use are\n\
        kept. A daemon that runs changes between two frames.")]
    Models(models::ModelsArguments),
    /// Go back to the model before the one in use
    #[command(after_help = "Examples:\n  sudo retinad rollback\n  sudo retinad rollback 0\n\n\
        A daemon that runs changes between two frames.")]
    Rollback(models::RollbackArguments),
    /// Ask a daemon for something over the broker, and print its answer
    #[command(after_help = "Examples:\n\
            \x20 retinad request health\n\
            \x20 retinad request feedback '{\"camera\": \"front\", \"seq\": 18233, \"verdict\": \"correct\"}'\n\
            \x20 retinad request reload --node pi-shed\n\n\
        What may be asked, `mqtt.allow` of the daemon's settings says; docs/mqtt.md has every verb with its fields.\n\n\
        Exit code: 0 done; 1 the daemon refused, and its answer says why; 2 usage; 69 no answer.")]
    Request(request::RequestArguments),
    /// Clear what a node left at the broker
    #[command(after_help = "Example: sudo systemctl stop retinad && sudo retinad mqtt clean")]
    Mqtt(mqtt::MqttArguments),
    /// Compute anew what the focal-loss paper shows, with this program's losses and trainer
    #[command(after_help = study::EXAMPLES)]
    Study(study::StudyArguments),
    /// Write the manual pages
    #[command(after_help = "Example: retinad man /usr/local/share/man/man1")]
    Man(manual::ManArguments),
    /// Become a command that the kernel ends when the thread that started this process ends
    #[command(hide = true)]
    ExecWithParent(ExecArguments),
    /// Print the completions of a shell
    #[command(
        after_help = "Example: retinad completions bash > ~/.local/share/bash-completion/completions/retinad"
    )]
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

/// Arguments of `retinad exec-with-parent`, by which cameras start their child processes.
#[derive(Args)]
struct ExecArguments {
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<String>,
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
    let named = config.clone();
    let load = move |model: &ModelArgument| -> Result<Settings, settings::SettingsError> {
        let environment = settings::environment()?;
        let flags: Vec<_> = model
            .model
            .iter()
            .map(|path| ("detector.model".to_owned(), path.display().to_string()))
            .collect();
        settings::load(config.as_deref(), &environment, &flags)
    };
    if let Command::ExecWithParent(arguments) = &arguments.command {
        // Before any thread starts: none outlives the program's change, and each costs a camera's start.
        let Failure { exit, message } = become_child(arguments);
        print::complain(format_args!("retinad: {message}"));
        return ExitCode::from(exit as u8);
    }
    let log = log::start();
    capture::guard_children();
    let result = carry_out(arguments.command, named, load);
    if let Err(Failure { message, .. }) = &result
        && !message.is_empty()
    {
        log.complain(message);
    }
    // What was logged must be out before another program may stand in this one's place.
    drop(log);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { exit: Exit::Again, .. }) => start_again(),
        Err(Failure { exit, .. }) => ExitCode::from(exit as u8),
    }
}

/// Becomes the command; gives why that failed.
fn become_child(ExecArguments { words }: &ExecArguments) -> Failure {
    let error = capture::exec_with_parent(words);
    let program = words.first().map_or("", String::as_str);
    Failure::new(Exit::NotStarted, format!("{program}: cannot be started: {error}"))
}

/// Runs the command; `load` reads the settings of `config`, with the model of the command line.
fn carry_out(
    command: Command,
    config: Option<PathBuf>,
    load: impl Fn(&ModelArgument) -> Result<Settings, settings::SettingsError> + Send + Sync + 'static,
) -> Result<(), Failure> {
    let none = ModelArgument { model: None };
    match command {
        Command::Run(RunArguments { model, once }) => {
            let settings = load(&model)?;
            let chosen = daemon::load_model(&settings, FIRST_GENERATION)?;
            let arguments = named_again(config, model.model.clone());
            match daemon::run(&settings, chosen, Arc::new(move || load(&model)), once, arguments)? {
                daemon::Ending::Stop => Ok(()),
                daemon::Ending::Restart => Err(Failure::new(Exit::Again, "")),
            }
        }
        Command::Watch(arguments) => watch::watch(&load(&none)?, &arguments),
        Command::Detect(arguments) => detect::detect(&load(&arguments.model)?, &arguments),
        Command::Eval(arguments) => eval::eval(&load(&arguments.model)?, &arguments),
        Command::Check(arguments) => check::check(&load(&arguments.model)?, &arguments),
        Command::Bench(arguments) => match &arguments.model {
            Some(model) => bench::bench(model, &arguments),
            None => bench::bench(&load(&none)?.detector.model_file(), &arguments),
        },
        // Nobody logs for it, so `run` does it before logging starts.
        Command::ExecWithParent(arguments) => Err(become_child(&arguments)),
        Command::RunModel(arguments) => run_model::run_model(&arguments),
        Command::Manifest(arguments) => manifest::manifest(&arguments),
        Command::Samples(arguments) => samples::samples(&load(&none)?, &arguments),
        Command::Tune(arguments) => tune::tune(&load(&arguments.model)?, &arguments),
        Command::Models(arguments) => models::models(&load(&none)?, &arguments),
        Command::Rollback(arguments) => models::rollback(&load(&none)?, &arguments),
        Command::Request(arguments) => request::request(&load(&none)?, arguments),
        Command::Mqtt(arguments) => mqtt::mqtt(&load(&none)?, &arguments),
        Command::Study(arguments) => study::study(&load(&arguments.model)?, &arguments),
        Command::Man(arguments) => manual::man(Arguments::command(), &arguments),
        Command::Completions(arguments) => manual::completions(Arguments::command(), &arguments),
    }
}

/// Starts this program again as it was started: by systemd where it runs as a service, which reads the passwords
/// anew, else in place of this process. Gives the code by which systemd is asked, or that of a failure.
fn start_again() -> ExitCode {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        return ExitCode::from(Exit::Again as u8);
    }
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let error = std::process::Command::new(&program).args(words).exec();
    print::complain(format_args!("retinad: {}: cannot be started again: {error}", program.display()));
    ExitCode::from(Exit::NotStarted as u8)
}

/// The arguments that name the same settings and model to another `retinad`.
fn named_again(config: Option<PathBuf>, model: Option<PathBuf>) -> Vec<OsString> {
    let flag = |name: &str, path: Option<PathBuf>| {
        path.map(|path| [OsString::from(name), path.into_os_string()]).into_iter().flatten()
    };
    flag("--config", config).chain(flag("--model", model)).collect()
}

/// Number of the generation that a daemon is started with.
const FIRST_GENERATION: u64 = 1;
