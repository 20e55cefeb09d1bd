//! PID 1 of the lab: sets up the system, runs the job, sends the results, powers off.
//!
//! ```text
//! mod       the job from start to end, on the lab's side
//! system    mounts, modules, clock, power
//! port      messages to the host
//! parallel  the port for that on Bochs
//! self_test checks that the emulator executes shadow paging correctly
//! command   runs a command of the collector
//! nested    runs a workload in a guest of a Linux guest, recorded likewise
//! linux     runs a Linux guest, recorded by a command of the collector
//! kallsyms  names of that guest's functions
//! qmp       QEMU's machine protocol, for that guest
//! observer  counts of KVM's events that do not depend on the probes
//! ```

mod command;
mod kallsyms;
mod linux;
mod nested;
mod observer;
mod parallel;
mod port;
mod qmp;
mod self_test;
mod system;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use anyhow::{Context as _, anyhow, ensure};

use super::job::{self, JOB, Job, Message, OBSERVED, OUTPUT, Stage, Trouble, WHOLE, WORK, Work};
use crate::{failure::Failure, program, terminal};
use observer::Observer;
use port::Port;

/// The hidden command that the lab's kernel starts.
pub const SUBCOMMAND: &str = "lab-guest";

/// Runs the job and powers the machine off.
pub fn run() -> Result<ExitCode, Failure> {
    // It mounts, loads modules and powers off, which it must never do on a user's machine.
    if process::id() != 1 || !Path::new(JOB).exists() {
        let error = anyhow!("{SUBCOMMAND} is started by the lab only, as its init");
        return Err(Failure::usage(error).hint(format!("`{}`", program::command("lab --help"))));
    }
    if let Err(error) = work() {
        // There may be no port to send it to: the console is always there.
        terminal::say(format_args!("lab: {error:#}"));
    }
    Err(Failure::failed(system::power_off()))
}

fn work() -> anyhow::Result<()> {
    system::mount_all()?;
    let job: Job = serde_json::from_slice(&fs::read(JOB)?).context("while reading the job")?;
    for module in &job.port_modules {
        system::load(module)?;
    }
    let port = Port::open(job.port)?;
    let _clock = match job.port {
        job::Port::Virtio => wake_each_second(),
        job::Port::Parallel => None,
    };
    let done = carry_out(&job, &port);
    if let Err(trouble) = done {
        port.send(&Message::Failed(trouble))?;
    }
    port.wait_for_acknowledgement()
}

/// A kernel without this clock may do its work too.
fn wake_each_second() -> Option<File> {
    let clock = system::wake_each_second();
    clock
        .inspect_err(|error| terminal::say(format_args!("warning: the lab may hang: {error:#}")))
        .ok()
}

fn carry_out(job: &Job, port: &Port) -> Result<(), Trouble> {
    let other = |error: anyhow::Error| Trouble::Other(format!("{error:#}"));
    load_kvm(job, port).map_err(other)?;
    if job.shadow.is_some() {
        port.stage(Stage::SelfTest).map_err(other)?;
        self_test::run(job)?;
    }
    record(job, port).map_err(other)
}

fn load_kvm(job: &Job, port: &Port) -> anyhow::Result<()> {
    port.stage(Stage::Modules)?;
    for module in &job.kvm_modules {
        system::load(module)?;
    }
    if let Some(path) = &job.shadow {
        let value = fs::read_to_string(path)
            .with_context(|| format!("while reading {}", path.display()))?;
        ensure!(
            value.trim() == "N",
            "{} is {}, not N: KVM does not use shadow paging",
            path.display(),
            value.trim()
        );
    }
    Ok(())
}

/// Runs the command and sends its output.
fn record(job: &Job, port: &Port) -> anyhow::Result<()> {
    // Relative paths start at the working directory, as they do on the host.
    let output = job.output.as_ref().map(|path| Path::new(WORK).join(path));
    if let Some(parent) = output.as_deref().and_then(Path::parent) {
        fs::create_dir_all(parent)
            .with_context(|| format!("while creating {} in the lab", parent.display()))?;
    }
    let observer = job.observe.then(Observer::start).transpose()?;
    port.stage(Stage::Command)?;
    let carry_out = || match &job.work {
        Work::Command(words) => command::run(job, words, port),
        Work::Linux(guest) => linux::run(job, guest, output.as_deref(), port),
        Work::Nested(guest) => nested::run(job, guest, output.as_deref(), port),
    };
    let mut code = carry_out()?;
    if let Some(module) = &job.reload {
        system::unload(module)?;
        system::load(module)?;
        code = carry_out()?;
    }
    let observed = observer.map(Observer::finish).transpose()?;
    port.send(&Message::Ended(code))?;

    let output = output.filter(|path| is_not_empty(path));
    if output.is_none() && observed.is_none() {
        return port.send(&Message::NoResults);
    }
    port.stage(Stage::Results)?;
    port.send(&Message::Results)?;
    send(port, output, observed.as_ref()).context("while sending the results")
}

fn is_not_empty(path: &Path) -> bool {
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
        header.set_size(u64::try_from(json.len())?);
        archive.append_data(&mut header, OBSERVED, json.as_slice())?;
    }
    let mut last = tar::Header::new_gnu();
    last.set_size(0);
    archive.append_data(&mut last, WHOLE, std::io::empty())?;
    archive
        .into_inner()?
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    Ok(())
}
