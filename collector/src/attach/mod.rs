//! `collector attach`: VMs that other processes run, recorded until they end or a signal comes.
//!
//! ```text
//! mod      the sequence: host, probes, root dropped, trace, VMs, end of the trace
//! followed the VMs traced now: added as they appear, removed when they end
//! nested   waits for a nested guest, where only those have shadow tables
//! traced   one VM: its first and last keyframe and counters
//! blind    vCPUs whose faults no probe sees
//! emulated VMs in which nothing can be seen
//! list     VMs that run now (`collector list`)
//! outcome  what is printed at the end
//! ```

mod blind;
mod emulated;
mod followed;
pub mod list;
mod nested;
mod outcome;
mod traced;

use std::{
    path::PathBuf,
    process::ExitCode,
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    failure::Failure,
    host, privileges, program,
    recording::{self, Bar, Kernel, Recording},
    vms::{self, Holder},
};
use followed::TracedVms;

/// How soon a request to stop is noticed.
const POLL: Duration = Duration::from_millis(50);

/// Whose VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Those of one process.
    Process(u32),
    /// All of this machine, also those that appear later.
    All,
}

impl Target {
    /// How often to look for VMs that came and went. One process is looked through quickly.
    fn look_every(self) -> Duration {
        match self {
            Target::Process(_) => Duration::from_millis(200),
            Target::All => Duration::from_secs(1),
        }
    }
}

/// What to record and how.
#[derive(Debug)]
pub struct Options {
    /// Whose VMs.
    pub target: Target,
    /// Folder of the trace.
    pub output: PathBuf,
    /// Keyframes in between.
    pub keyframe_every: Option<Duration>,
    /// How long; `None`: until the VMs end, or a signal.
    pub time: Option<Duration>,
    /// Size of the ring buffer.
    pub ring_bytes: u32,
    /// Size of the trace, bytes, at which the recording ends.
    pub max_bytes: Option<u64>,
    /// Print the probes' log.
    pub verbose: bool,
    /// Print the outcome as JSON.
    pub json: bool,
}

/// Why a recording ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Every VM of the process has ended.
    Done,
    /// The time of `--for` has passed.
    Time,
    /// The trace has the size of `--max-size`.
    Full,
    /// Ctrl-C or SIGTERM, or the recorder failed and says why itself.
    Interrupted,
}

impl Reason {
    /// Its name in `meta.json`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Done => "done",
            Reason::Time => "time",
            Reason::Full => recording::FULL,
            Reason::Interrupted => "interrupted",
        }
    }
}

/// Records.
pub fn attach(options: &Options) -> Result<ExitCode, Failure> {
    recording::check_output(&options.output)?;
    recording::check_root()?;
    let process = match options.target {
        Target::Process(pid) => Some(check_process(pid)?),
        Target::All => None,
    };
    let mode = host::mode();
    nested::check(mode)?;
    vms::take_room().context("while asking for more file descriptors")?;
    let mut kernel = load(options)?;
    let waited = match mode.is_nested() {
        true => nested::wait(&kernel, options, process.as_ref())?,
        false => Duration::ZERO,
    };
    if let Some(process) = &process {
        check_owner(process, &kernel)?;
    }
    let time = options.time.map(|time| time.saturating_sub(waited));
    attach_probes(&mut kernel, options)?;
    if mode.is_nested() {
        nested::check_probes(&kernel)?;
    }
    privileges::keep_only(privileges::WATCHING)?;
    let cancel = recording::cancel_on_signal()?;

    let meta = recording::start(&kernel, options.ring_bytes, false);
    let names = kernel.counters.clone();
    let recording = Recording::start(
        kernel,
        &options.output,
        &meta,
        |number| format!("phase-{number}"),
        &cancel,
        options.max_bytes,
        options.json,
    )?;
    let begin = Instant::now();
    let mut vms = TracedVms::new(&recording, names, options.target, meta);
    let watched = until_the_end(&mut vms, options, time, &cancel);
    let elapsed = begin.elapsed();
    // Whatever went wrong: each traced VM gets its last keyframe and counters.
    let (meta, closed) = vms.finish();
    let reason = match &watched {
        Ok(reason) => reason.name().to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let vms = meta.vms.clone();
    let (recorded, written) = recording.finish(meta, reason);
    let reason = match (watched, written.and(closed)) {
        (Ok(reason), Ok(())) => reason,
        (Ok(_), Err(error)) => return Err(cut_short(options, error)),
        (Err(error), also) => return Err(cut_short(options, error).also(also.err())),
    };
    outcome::report(options, reason, elapsed, &vms, recorded)
}

fn cut_short(options: &Options, error: anyhow::Error) -> Failure {
    let trace = options.output.display();
    Failure::failed(error).hint(format!("{trace} holds what was recorded until then"))
}

/// Before anything is loaded: a process that has a VM.
fn check_process(pid: u32) -> Result<Holder, Failure> {
    let holder = vms::of(pid).map_err(Failure::failed)?;
    if holder.has_vcpus() {
        return Ok(holder);
    }
    let what = match holder.descriptors.is_empty() {
        true => "has no VM",
        false => "has a VM, but no vCPU yet",
    };
    let error = anyhow::anyhow!("process {pid} ({}) {what}", holder.name);
    Err(Failure::failed(error).hint(format!(
        "`{}` shows the VMs that run now; `{}` waits for others",
        program::command("list"),
        program::command("attach --all"),
    )))
}

/// Before it is stopped and recorded: it runs the VMs whose descriptors it has.
fn check_owner(process: &Holder, kernel: &Kernel) -> Result<(), Failure> {
    let found = vms::among(slice::from_ref(process), &kernel.probes)?;
    let Some((_, owner)) = found.copies.first().filter(|_| found.vms.is_empty()) else {
        return Ok(());
    };
    let (pid, name) = (process.number(), &process.name);
    let error = anyhow::anyhow!(
        "process {pid} ({name}) only has copies of descriptors: its VM is run by process {owner}"
    );
    let command = program::command(&format!("attach --pid {owner}"));
    Err(Failure::failed(error).hint(format!("`{command}` records it")))
}

fn load(options: &Options) -> Result<Kernel, Failure> {
    let _bar = Bar::of_work("loading the probes", options.json)?;
    Kernel::load(options.ring_bytes, options.verbose)
}

fn attach_probes(kernel: &mut Kernel, options: &Options) -> Result<(), Failure> {
    let _bar = Bar::of_work("attaching the probes", options.json)?;
    kernel.attach()?;
    kernel.attach_running()
}

fn until_the_end(
    vms: &mut TracedVms<'_>,
    options: &Options,
    time: Option<Duration>,
    cancel: &Arc<AtomicBool>,
) -> anyhow::Result<Reason> {
    let begin = Instant::now();
    let mut look = begin;
    let mut keyframe = options.keyframe_every.map(|every| begin + every);
    loop {
        let now = Instant::now();
        if now >= look {
            vms.look()?;
            vms.watch()?;
            look = Instant::now() + options.target.look_every();
        }
        if cancel.load(Ordering::Acquire) {
            return Ok(match vms.is_full() {
                true => Reason::Full,
                false => Reason::Interrupted,
            });
        }
        if time.is_some_and(|time| begin.elapsed() >= time) {
            return Ok(Reason::Time);
        }
        if options.target != Target::All && vms.running() == 0 {
            return Ok(Reason::Done);
        }
        if let (Some(every), Some(due)) = (options.keyframe_every, keyframe)
            && now >= due
        {
            vms.keyframes()?;
            keyframe = Some(Instant::now() + every);
        }
        let end = time.map(|time| begin + time);
        let next = [Some(look), keyframe, end].into_iter().flatten().min();
        let pause = next.map_or(POLL, |next| next.saturating_duration_since(Instant::now()));
        thread::sleep(pause.min(POLL));
    }
}
