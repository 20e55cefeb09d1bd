//! Records what the shadow MMU of a traced VM does.

mod cli;
mod doctor;
mod failure;
mod host;
mod keyframe;
mod lab;
mod privileges;
mod probes;
mod record;
mod run;
mod vmm;

use std::process::ExitCode;

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
