//! PID 1 of the lab: from a bare kernel to results on their way out, then power off.
//!
//! ```text
//! mod       the order of things on this side
//! system    mounts, modules, power
//! port      messages to the other side
//! self_test does this emulator get shadow paging right
//! command   the collector's own command
//! linux     or a Linux guest, recorded by the collector's own command
//! qmp       what is said to that guest's QEMU
//! observer  counts that the probes have no part in
//! ```

mod command;
mod linux;
mod observer;
mod port;
mod qmp;
mod self_test;
mod system;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use anyhow::{Context as _, anyhow, ensure};

use super::job::{JOB, Job, Message, OBSERVED, OUTPUT, Stage, Trouble, WHOLE, WORK, Work};
use crate::failure::Failure;
use observer::Observer;
use port::Port;

/// The hidden command that the lab's kernel starts.
pub const SUBCOMMAND: &str = "lab-guest";

/// Does the job and switches the machine off.
pub fn run() -> Result<ExitCode, Failure> {
    // It mounts, loads modules and powers off: never on somebody's machine.
    if process::id() != 1 || !Path::new(JOB).exists() {
        let error = anyhow!("{SUBCOMMAND} is what `collector lab` starts inside of the lab");
        return Err(Failure::usage(error).hint("`collector lab --help`"));
    }
    if let Err(error) = work() {
        // The console is all that there is to say it to.
        eprintln!("lab: {error:#}");
    }
    Err(Failure::failed(system::power_off()))
}

fn work() -> anyhow::Result<()> {
    system::mount_all()?;
    let job: Job = serde_json::from_slice(&fs::read(JOB)?).context("while reading the job")?;
    for module in &job.port_modules {
        system::load(module)?;
    }
    let port = Port::open()?;
    let done = carry_out(&job, &port);
    if let Err(trouble) = done {
        port.send(&Message::Failed(trouble))?;
    }
    port.until_heard()
}

fn carry_out(job: &Job, port: &Port) -> Result<(), Trouble> {
    let other = |error: anyhow::Error| Trouble::Other(format!("{error:#}"));
    load_kvm(job, port).map_err(other)?;
    if job.shadow {
        port.stage(Stage::SelfTest).map_err(other)?;
        self_test::run()?;
    }
    record(job, port).map_err(other)
}

fn load_kvm(job: &Job, port: &Port) -> anyhow::Result<()> {
    port.stage(Stage::Modules)?;
    for module in &job.kvm_modules {
        system::load(module)?;
    }
    if job.shadow {
        let path = "/sys/module/kvm_amd/parameters/npt";
        let npt = fs::read_to_string(path).with_context(|| format!("while reading {path}"))?;
        ensure!(
            npt.trim() == "N",
            "{path} says {}, not N: KVM would not shadow",
            npt.trim()
        );
    }
    Ok(())
}

/// Runs the command, and sends what it wrote.
fn record(job: &Job, port: &Port) -> anyhow::Result<()> {
    // Relative paths begin at the working folder, as they do outside.
    let output = job.output.as_ref().map(|path| Path::new(WORK).join(path));
    if let Some(parent) = output.as_deref().and_then(Path::parent) {
        fs::create_dir_all(parent)
            .with_context(|| format!("while making {} in the lab", parent.display()))?;
    }
    let observer = job.observe.then(Observer::start).transpose()?;
    port.stage(Stage::Command)?;
    let carry_out = || match &job.work {
        Work::Command(words) => command::run(words, port),
        Work::Linux(guest) => linux::run(guest, output.as_deref(), port),
    };
    let mut code = carry_out()?;
    if let Some(module) = &job.reload {
        system::unload(module)?;
        system::load(module)?;
        code = carry_out()?;
    }
    let observed = observer.map(Observer::finish).transpose()?;
    port.send(&Message::Ended(code))?;

    let output = output.filter(|path| holds_something(path));
    if output.is_none() && observed.is_none() {
        return port.send(&Message::NoResults);
    }
    port.stage(Stage::Results)?;
    port.send(&Message::Results)?;
    send(port, output, observed.as_ref()).context("while sending the results")
}

fn holds_something(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.exists(),
    }
}

fn send(
    port: &Port,
    output: Option<PathBuf>,
    observed: Option<&observer::Observed>,
) -> anyhow::Result<()> {
    let mut archive = tar::Builder::new(port.writer());
    if let Some(output) = output {
        archive.append_dir_all(OUTPUT, output)?;
    }
    if let Some(observed) = observed {
        let json = serde_json::to_vec_pretty(observed)?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(json.len() as u64);
        archive.append_data(&mut header, OBSERVED, json.as_slice())?;
    }
    let mut last = tar::Header::new_gnu();
    last.set_size(0);
    archive.append_data(&mut last, WHOLE, std::io::empty())?;
    archive
        .into_inner()?
        .into_inner()
        .map_err(|error| error.into_error())?;
    Ok(())
}
