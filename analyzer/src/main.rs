//! Reads traces of KVM's shadow MMU.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod heap;

use std::process::ExitCode;

use analyzer::cli;

fn main() -> ExitCode {
    heap::keep_memory();
    let command = match cli::parse() {
        Ok(command) => command,
        Err(code) => return code,
    };
    match command.execute() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
