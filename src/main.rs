//! The `retinad` command; everything it does is in the library's `cli` room.
use std::process::ExitCode;

fn main() -> ExitCode {
    retinad::cli::run()
}
