//! Records what the shadow MMU of a traced VM does.

mod attach;
mod cli;
mod doctor;
mod failure;
mod host;
mod keyframe;
mod lab;
mod privileges;
mod probes;
mod record;
mod recording;
mod run;
mod vmm;
mod vms;

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
