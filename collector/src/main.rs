//! The program `collector`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use collector::cli;

fn main() -> ExitCode {
    let command = match cli::parse() {
        Ok(command) => command,
        Err(code) => return code,
    };
    match command.execute() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
