//! `collector run`: a guest on the built-in VMM, recorded from before its first instruction
//! until after its last.
//!
//! ```text
//! mod      the sequence: host, VM, probes, root dropped, trace, guest, end of the trace
//! setup    everything that needs root
//! hooks    marks and keyframes while the guest runs
//! limit    ends a run that does not end by itself
//! metadata what meta.json says of the VM and its workload
//! outcome  what is printed at the end
//! symbols  names of the guest's functions
//! ```

mod hooks;
mod limit;
mod metadata;
mod outcome;
mod setup;
mod symbols;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use events::VmId;
use trace::Micro;
use workloads::{Plan, Value};

use crate::{
    confine,
    failure::Failure,
    host,
    keyframe::Keyframes,
    privileges, program,
    record::Bounds,
    recording::{self, Recording},
    vmm::{Stops, Vmm, VmmError},
};
use hooks::{Marks, NoHooks};
use metadata::counters;
use outcome::{Clock, Outcome};
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
    /// Size of the trace, bytes, at which the guest is stopped.
    pub max_bytes: Option<u64>,
    /// Print the probes' log.
    pub verbose: bool,
    /// Print the outcome as JSON.
    pub json: bool,
}

/// Runs and records.
pub fn traced(options: &Options) -> Result<ExitCode, Failure> {
    check_operation(&options.plan)?;
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
        Bounds {
            max_bytes: options.max_bytes,
            keeper: None,
        },
        options.json,
    )?;
    // Of this thread and those of the VMM, which it starts.
    confine::files(&options.output)?;
    recording.symbols(&symbols::of_image(workloads::GUEST_IMAGE)?)?;
    let probes = Arc::clone(&recording.probes);
    let keyframes = Keyframes::new(Arc::clone(&probes), VM);
    let mut vmm = vmm.confined();
    let marks = Marks {
        probes: &probes,
        vm_fd: vmm.vm_fd(),
        vcpu_fds: vmm.vcpu_fds(),
        keyframes: &keyframes,
        stops: options.keyframes,
    };
    let mut open = Some(recording);
    let ran = limit::run(&mut vmm, &marks, options, &cancel, |reason| {
        let recording = open.take().context("the trace is closed already")?;
        recording.finish(meta.clone(), reason).1
    });
    let recording = open.context("the trace is closed already")?;

    // The vCPUs have stopped: whatever became of the guest, its tables are there to be copied, and
    // the trace is finished. What went wrong first is what is reported.
    let end = keyframes
        .take(None)
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
    let micro = metadata::micro(&options.plan, &vmm);
    if let (Some(workload), Ok(micro)) = (meta.workload.as_mut(), &micro) {
        workload.micro.clone_from(micro);
    }
    let full = recording.is_full();
    let (recorded, written) = recording.finish(meta, metadata::reason(&ran, full));
    let (micro, timed) = split(micro);
    let error = written
        .and(after.map_err(anyhow::Error::from))
        .and(touches.map_err(anyhow::Error::from))
        .and(timed)
        .and(end.map(|_| ()))
        .and(recording::end_on_signal())
        .err();
    Outcome::traced(recorded, full, error, ran, clock(&vmm, micro)).report(options)
}

/// Runs without probes and trace.
pub fn untraced(options: &Options) -> Result<ExitCode, Failure> {
    check_operation(&options.plan)?;
    let vmm = Vmm::new(&options.plan).map_err(setup::vm_failed)?;
    privileges::drop_root()?;
    let cancel = recording::cancel_on_signal()?;
    confine::process()?;
    let mut vmm = vmm.confined();
    let ran = limit::run(&mut vmm, &NoHooks, options, &cancel, |_| Ok(()));
    let (micro, timed) = split(metadata::micro(&options.plan, &vmm));
    let (after, error) = match vmm.stats() {
        Ok(stats) => (Some(counters(&stats)), timed.err()),
        Err(error) => (None, timed.err().or(Some(error.into()))),
    };
    let error = error.or(recording::end_on_signal().err());
    Outcome::untraced(after, error, ran, clock(&vmm, micro)).report(options)
}

/// Operations of `micro` that fail where KVM emulates the guest's kernel (KVM-PVM, Linux 6.18).
/// Its emulator rewrites VMCALL and VMMCALL to the one of this processor and runs it again, without
/// end (`em_hypercall`); the handler of SYSCALL runs at CPL 3, where its first privileged
/// instruction is refused (#GP).
fn check_operation(plan: &Plan) -> Result<(), Failure> {
    if let Some(shape) = plan.shape()
        && host::emulates_guest_kernel()
    {
        let shape = shape.name();
        let error = anyhow!(
            "`{shape}` cannot be done here: KVM-PVM runs guests in long mode, with CPL 0 emulated"
        );
        let lab = program::command(&format!("lab modes -p shape={shape}"));
        return Err(Failure::host(error).hint(format!("`{lab}` runs it in QEMU")));
    }
    use abi::MicroOp::{Hypercall, Syscall, SyscallKpti};

    let asked = plan.values.iter().find_map(|(name, value)| match value {
        Value::Choice(op) if *name == "op" => Some(*op),
        _ => None,
    });
    let refused = [Hypercall, Syscall, SyscallKpti].map(abi::MicroOp::name);
    let Some(op) = asked.filter(|op| refused.contains(op)) else {
        return Ok(());
    };
    if !host::emulates_guest_kernel() {
        return Ok(());
    }
    let error = anyhow!("`{op}` cannot be done here: KVM-PVM emulates the guest's kernel");
    let lab = program::command(&format!("lab micro -p op={op}"));
    Err(Failure::host(error).hint(format!("`{lab}` runs it in QEMU, without times")))
}

fn clock(vmm: &Vmm, micro: Option<Micro>) -> Clock {
    Clock {
        tsc_khz: vmm.tsc_khz(),
        // Times of an emulated machine mean nothing.
        micro: micro.filter(|_| !host::is_emulated()),
    }
}

/// The times, and what went wrong when they were read.
fn split(micro: Result<Option<Micro>, VmmError>) -> (Option<Micro>, anyhow::Result<()>) {
    match micro {
        Ok(micro) => (micro, Ok(())),
        Err(error) => (None, Err(error.into())),
    }
}

fn phase_name(number: u32) -> String {
    match abi::Phase::try_from(number) {
        Ok(phase) => phase.name().to_owned(),
        Err(_) => format!("phase-{number}"),
    }
}
