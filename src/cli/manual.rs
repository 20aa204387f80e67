//! `retinad man` and `retinad completions`: what a package installs beside the program.

use super::exit::{Exit, Failure};
use super::print;
use crate::settings::documents;
use clap::{Args, Command};
use clap_complete::Shell;
use std::path::PathBuf;

/// Arguments of `retinad man`.
#[derive(Args)]
pub struct ManArguments {
    /// Folder for the pages: retinad.1, one for each command, retinad.toml.5
    folder: PathBuf,
}

/// Arguments of `retinad completions`.
#[derive(Args)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes `retinad.1`, `retinad-run.1` and so on, and `retinad.toml.5`.
pub fn man(command: Command, arguments: &ManArguments) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .and_then(|()| std::fs::write(folder.join("retinad.toml.5"), documents::manual_page()));
    written.map_err(|e| Failure::new(Exit::SomeFailed, format!("{}: {e}", folder.display())))
}

/// Prints the completions.
pub fn completions(mut command: Command, arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "retinad", &mut script);
    print::write(&String::from_utf8_lossy(&script));
    Ok(())
}
