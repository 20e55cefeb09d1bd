//! `collector run`: a guest on the built-in VMM, recorded from before its first instruction
//! until after its last.
//!
//! ```text
//! mod      the sequence: host, VM, probes, root dropped, trace, guest, end of the trace
//! setup    everything that needs root
//! hooks    marks and keyframes while the guest runs
//! metadata what meta.json says of the VM and its workload
//! outcome  what is printed at the end
//! symbols  names of the guest's functions
//! ```

mod hooks;
mod metadata;
mod outcome;
mod setup;
mod symbols;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use events::VmId;
use workloads::Plan;

use crate::{
    failure::Failure,
    keyframe::Keyframes,
    privileges,
    recording::{self, Recording},
    vmm::{Stops, Vmm},
};
use hooks::{Marks, NoHooks};
use metadata::counters;
use outcome::Outcome;
use setup::Setup;

/// The VM of `run`.
const VM: VmId = VmId(0);

/// What to run and how to record it.
#[derive(Debug)]
pub struct Options {
    /// The workload with its parameters.
    pub plan: Plan,
    /// Folder of the trace.
    pub output: PathBuf,
    /// Keyframes while the guest runs.
    pub keyframes: Stops,
    /// Longest time the guest may run.
    pub timeout: Duration,
    /// Size of the ring buffer.
    pub ring_bytes: u32,
    /// Print the probes' log.
    pub verbose: bool,
    /// Print the outcome as JSON.
    pub json: bool,
}

/// Runs and records.
pub fn traced(options: &Options) -> Result<ExitCode, Failure> {
    recording::check_output(&options.output)?;
    let Setup {
        vmm,
        kernel,
        mut meta,
    } = setup::prepare(options)?;
    privileges::drop_root()?;
    let cancel = recording::cancel_on_signal()?;

    let recording = Recording::start(
        kernel,
        &options.output,
        &meta,
        phase_name,
        &cancel,
        options.json,
    )?;
    recording.symbols(&symbols::of_image(workloads::GUEST_IMAGE)?)?;
    let keyframes = Keyframes::new(Arc::clone(&recording.probes), VM);
    let mut vmm = vmm.confined();
    let marks = Marks {
        probes: &recording.probes,
        vm_fd: vmm.vm_fd(),
        vcpu_fds: vmm.vcpu_fds(),
        keyframes: &keyframes,
        stops: options.keyframes,
    };
    let ran = vmm.run(&marks, options.timeout, &cancel);

    // The vCPUs have stopped: whatever became of the guest, its tables are there to be copied, and
    // the trace is finished. What went wrong first is what is reported.
    let end = keyframes
        .take()
        .context("while copying the shadow tables at the end");
    let after = vmm.stats().map(|stats| {
        if let Some(vm) = meta.vms.first_mut() {
            vm.counters_after = Some(counters(&stats));
            vm.memslots = metadata::memslots(&vmm);
        }
    });
    let touches = metadata::touches(&vmm).map(|touches| {
        if let Some(workload) = meta.workload.as_mut() {
            workload.touches = Some(touches);
        }
    });
    let (recorded, written) = recording.finish(meta, metadata::reason(&ran));
    let error = written
        .and(after.map_err(anyhow::Error::from))
        .and(touches.map_err(anyhow::Error::from))
        .and(end.map(|_| ()))
        .err();
    Outcome::traced(recorded, error, ran, vmm.tsc_khz()).report(options)
}

/// Runs without probes and trace.
pub fn untraced(options: &Options) -> Result<ExitCode, Failure> {
    let vmm = Vmm::new(&options.plan).map_err(setup::vm_failed)?;
    privileges::drop_root()?;
    let cancel = recording::cancel_on_signal()?;
    let mut vmm = vmm.confined();
    let ran = vmm.run(&NoHooks, options.timeout, &cancel);
    Outcome::untraced(ran, vmm.tsc_khz()).report(options)
}

fn phase_name(number: u32) -> String {
    match abi::Phase::try_from(number) {
        Ok(phase) => phase.name().to_owned(),
        Err(_) => format!("phase-{number}"),
    }
}
