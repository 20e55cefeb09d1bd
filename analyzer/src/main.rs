//! Says what a trace of KVM's shadow MMU holds.

use std::process::ExitCode;

use analyzer::cli;

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
