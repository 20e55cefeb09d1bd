//! `collector run`: a guest on the built-in VMM, recorded from before its first instruction
//! until after its last.
//!
//! ```text
//! mod      the order of things: host, VM, probes, root given up, trace, guest, last words
//! setup    everything that needs root
//! hooks    marks and keyframes while the guest runs
//! metadata meta.json
//! outcome  what is said at the end
//! ```

mod hooks;
mod metadata;
mod outcome;
mod setup;

use std::{
    io::ErrorKind,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use events::{VcpuId, VmId};
use indicatif::{ProgressBar, ProgressStyle};
use trace::{TraceError, TraceWriter};
use workloads::Plan;

use crate::{
    failure::Failure,
    keyframe::Keyframes,
    privileges,
    record::{Progress, Recorder},
    vmm::{GuestResult, Hooks, Vmm, VmmError},
};
use hooks::{Marks, NoHooks};
use metadata::counters;
use outcome::Outcome;
pub use setup::check_output;
use setup::{Kernel, Setup};

/// The VM and the vCPU of `run`: there is one of each.
const VM: VmId = VmId(0);
const VCPU: VcpuId = VcpuId(0);

/// What to run and how to record it.
#[derive(Debug)]
pub struct Order {
    /// The workload with its parameters.
    pub plan: Plan,
    /// Folder of the trace.
    pub output: PathBuf,
    /// Keyframes while the guest runs.
    pub keyframe_every: Option<Duration>,
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
pub fn traced(order: &Order) -> Result<ExitCode, Failure> {
    check_output(&order.output)?;
    let Setup {
        vmm,
        kernel,
        mut meta,
    } = setup::prepare(order)?;
    privileges::drop_root()?;
    let cancel = cancel_on_signal()?;

    let trace = TraceWriter::create(&order.output, &meta).map_err(cannot_create)?;
    let Kernel {
        probes,
        ring,
        layout,
        logger,
    } = kernel;
    let probes = Arc::new(probes);
    let recorder = Recorder::start(
        ring,
        Arc::clone(&probes),
        trace,
        layout,
        phase_name,
        Arc::clone(&cancel),
    )
    .context("while starting the recorder")?;
    let progress = Arc::clone(recorder.progress());
    let log = logger.map(|logger| logger.start()).transpose()?;
    let bar = Bar::start(Arc::clone(&progress), order.json);
    let mut keyframes = Keyframes::new(Arc::clone(&probes), VM);
    let mut vmm = vmm.confined();
    let mut marks = Marks {
        probes: &probes,
        vm_fd: vmm.vm_fd(),
        vcpu_fd: vmm.vcpu_fd(),
        keyframes: &mut keyframes,
        keyframe_every: order.keyframe_every,
    };
    let ran = on_vcpu_thread(&mut vmm, &mut marks, order.timeout, &cancel);

    // The vCPU has stopped: whatever became of the guest, its tables are there to be copied, and
    // the trace gets its last words. What went wrong first is what is reported.
    let end = keyframes.take();
    bar.finish();
    let recorded = recorder.finish();
    drop(log);
    let finished = recorded.map_err(anyhow::Error::from).and_then(|trace| {
        if let Some(vm) = meta.vms.first_mut() {
            vm.counters_after = Some(counters(&vmm.stats()?));
        }
        meta.complete = true;
        meta.end = Some(metadata::end(
            &ran,
            probes.next_seq()?,
            &trace,
            probes.costs(),
        ));
        Ok(trace.write_meta(&meta)?)
    });
    let end = end.context("while copying the shadow tables at the end");
    let recorded = finished.and(end.map(|_| ()));
    let lost = probes.losses()?.iter().map(|(_, loss)| loss.count).sum();
    Outcome::traced(&progress, lost, recorded.err(), ran, vmm.tsc_khz()).report(order)
}

/// The trace's folder could not be made.
fn cannot_create(error: TraceError) -> Failure {
    let denied = matches!(&error, TraceError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied);
    let failure = Failure::failed(error);
    if !denied {
        return failure;
    }
    let user = rustix::process::geteuid();
    failure.hint(format!(
        "root is given up by now: the trace is made by uid {user} without privileges, so choose a place where that user may write"
    ))
}

/// Runs without probes and trace.
pub fn untraced(order: &Order) -> Result<ExitCode, Failure> {
    let vmm = Vmm::new(&order.plan).map_err(setup::vm_failed)?;
    privileges::drop_root()?;
    let cancel = cancel_on_signal()?;
    let mut vmm = vmm.confined();
    let ran = on_vcpu_thread(&mut vmm, &mut NoHooks, order.timeout, &cancel);
    Outcome::untraced(ran, vmm.tsc_khz()).report(order)
}

/// The vCPU has a thread of its own: what happens on it is what the guest causes.
fn on_vcpu_thread(
    vmm: &mut Vmm,
    hooks: &mut (dyn Hooks + Send),
    timeout: Duration,
    cancel: &AtomicBool,
) -> Result<GuestResult, VmmError> {
    thread::scope(|scope| {
        let vcpu = thread::Builder::new()
            .name("vcpu0".to_owned())
            .spawn_scoped(scope, || vmm.run(hooks, timeout, cancel))
            .map_err(VmmError::Watchdog)?;
        vcpu.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Ctrl-C and SIGTERM end the guest, not the collector: the trace gets its last words.
fn cancel_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    ctrlc::set_handler(move || flag.store(true, Ordering::Release))
        .context("while watching for Ctrl-C")?;
    Ok(cancel)
}

fn phase_name(number: u32) -> String {
    match abi::Phase::try_from(number) {
        Ok(phase) => phase.name().to_owned(),
        Err(_) => format!("phase-{number}"),
    }
}

/// Shows that something happens, on a terminal.
struct Bar {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Bar {
    fn start(progress: Arc<Progress>, quiet: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let bar = if quiet {
                ProgressBar::hidden()
            } else {
                ProgressBar::new_spinner()
            };
            bar.set_style(ProgressStyle::default_spinner());
            while !stopping.load(Ordering::Acquire) {
                let faults = progress.faults.load(Ordering::Relaxed);
                let bytes = progress.bytes.load(Ordering::Relaxed);
                bar.set_message(format!("{faults} faults, {} KiB on disk", bytes >> 10));
                bar.tick();
                thread::park_timeout(Duration::from_millis(100));
            }
            bar.finish_and_clear();
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    fn finish(mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It holds nothing: if it panicked, only the display is lost.
            let _ = thread.join();
        }
    }
}
