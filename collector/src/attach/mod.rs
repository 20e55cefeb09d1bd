//! `collector attach`: VMs that other processes run, recorded until they end or a signal comes.
//!
//! ```text
//! mod      the sequence: host, probes, root dropped, trace, VMs, end of the trace
//! followed the VMs traced now: added as they appear, removed when they end
//! nested   waits for a nested guest, where only those have shadow tables
//! traced   one VM: its first and last keyframe and counters
//! events   what ends a recording that keeps its last part
//! blind    vCPUs whose faults no probe sees
//! emulated VMs in which nothing can be seen
//! list     VMs that run now (`collector list`)
//! outcome  what is printed at the end
//! ```

mod blind;
mod emulated;
mod events;
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
    host,
    keyframe::Every,
    privileges, program,
    record::{Bounds, Keep, Keeper},
    recording::{self, Bar, Kernel, Recording},
    vms::{self, Holder, HolderError},
};
use events::Events;
use followed::TracedVms;
pub use traced::vcpu_counters;

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
    /// The processes that have VMs now; none once the one that is named has no VM any more.
    pub fn holders(self) -> anyhow::Result<Vec<Holder>> {
        match self {
            Target::All => vms::all().context("while looking for VMs in /proc"),
            Target::Process(pid) => match vms::of(pid) {
                Ok(holder) => Ok(vec![holder]),
                Err(HolderError::None(_)) => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            },
        }
    }

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
    pub keyframe_every: Option<Every>,
    /// How long; `None`: until the VMs end, or a signal.
    pub time: Option<Duration>,
    /// Keeps the last part only.
    pub keep: Option<Keep>,
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
    /// What `--on` waits for came, and the time after it has passed.
    Event,
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
            Reason::Event => "event",
            Reason::Interrupted => "interrupted",
        }
    }
}

/// Records.
pub fn attach(options: &Options) -> Result<ExitCode, Failure> {
    let signal = events::on_signal(options.keep.as_ref())?;
    recording::check_output(&options.output)?;
    recording::check_root()?;
    let process = check_target(options.target)?;
    let mode = host::mode();
    nested::check(mode)?;
    vms::take_room().context("while asking for more file descriptors")?;
    let mut kernel = load(options)?;
    let waited = match mode.is_nested() {
        true => nested::wait(&kernel, options, process.as_ref())?,
        false => Duration::ZERO,
    };
    if let Some(process) = &process {
        check_owner(process, &kernel, "attach")?;
    }
    let time = options.time.map(|time| time.saturating_sub(waited));
    attach_probes(&mut kernel, options)?;
    if mode.is_nested() {
        nested::check_probes(&kernel)?;
    }
    privileges::keep_only(privileges::WATCHING)?;
    let cancel = recording::cancel_on_signal()?;

    let mut meta = recording::start(&kernel, options.ring_bytes, false);
    meta.kept = options.keep.as_ref().map(Keep::kept);
    let layout = meta.role_layout();
    let names = kernel.counters.clone();
    let recording = Recording::start(
        kernel,
        &options.output,
        &meta,
        |number| format!("phase-{number}"),
        &cancel,
        Bounds {
            max_bytes: options.max_bytes,
            keeper: options
                .keep
                .clone()
                .map(|keep| Arc::new(Keeper::new(keep, layout))),
        },
        options.json,
    )?;
    let begin = Instant::now();
    let mut vms = TracedVms::new(&recording, names, options.target, meta);
    let ends = Ends {
        time,
        cancel: &cancel,
        events: Events::new(recording.keeper.as_deref(), signal),
    };
    let watched = until_the_end(&mut vms, options, ends);
    let elapsed = begin.elapsed();
    let watched = watched.and_then(|reason| {
        events::note(&recording)?;
        Ok(reason)
    });
    // Whatever went wrong: each traced VM gets its last keyframe and counters.
    let (meta, closed) = vms.finish();
    let reason = match &watched {
        Ok(reason) => reason.name().to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let vms = meta.vms.clone();
    let (recorded, written) = recording.finish(meta, reason);
    let ended = written.and(closed).and(recording::end_on_signal());
    let reason = match (watched, ended) {
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

/// Before anything is loaded: the process that is named must have a VM.
pub fn check_target(target: Target) -> Result<Option<Holder>, Failure> {
    match target {
        Target::Process(pid) => check_process(pid).map(Some),
        Target::All => Ok(None),
    }
}

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

/// Before it is stopped or followed: it runs the VMs whose descriptors it has. `command` is what was
/// asked for.
pub fn check_owner(process: &Holder, kernel: &Kernel, command: &str) -> Result<(), Failure> {
    let found = vms::among(slice::from_ref(process), &kernel.probes);
    let Some((_, owner)) = found.copies.first().filter(|_| found.vms.is_empty()) else {
        return Ok(());
    };
    let (pid, name) = (process.number(), &process.name);
    let error = anyhow::anyhow!(
        "process {pid} ({name}) only has copies of descriptors: its VM is run by process {owner}"
    );
    let command = program::command(&format!("{command} --pid {owner}"));
    Err(Failure::failed(error).hint(format!("use `{command}`")))
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

/// What ends a recording.
struct Ends<'a> {
    time: Option<Duration>,
    cancel: &'a AtomicBool,
    events: Events<'a>,
}

fn until_the_end(
    vms: &mut TracedVms<'_>,
    options: &Options,
    mut ends: Ends<'_>,
) -> anyhow::Result<Reason> {
    let begin = Instant::now();
    let mut look = begin;
    let every = options.keyframe_every;
    // A section of the ring is half of what is kept: that, and at most half as much again.
    let sections = options.keep.as_ref().map(|keep| keep.time / 2);
    let after = |stopped: Duration| {
        let every = every.map(|every| every.pause(stopped));
        every.into_iter().chain(sections).min()
    };
    let mut keyframe = after(Duration::ZERO).and_then(|pause| begin.checked_add(pause));
    loop {
        let now = Instant::now();
        if now >= look {
            vms.look()?;
            vms.watch()?;
            look = Instant::now() + options.target.look_every();
        }
        if ends.cancel.load(Ordering::Acquire) {
            return Ok(match vms.is_full() {
                true => Reason::Full,
                false => Reason::Interrupted,
            });
        }
        if ends.time.is_some_and(|time| begin.elapsed() >= time) {
            return Ok(Reason::Time);
        }
        if ends.events.are_over() {
            return Ok(Reason::Event);
        }
        if options.target != Target::All && vms.running() == 0 {
            return Ok(Reason::Done);
        }
        if keyframe.is_some_and(|due| now >= due || ends.events.is_section_full()) {
            let stop = Instant::now();
            vms.keyframes()?;
            keyframe = after(stop.elapsed()).and_then(|pause| Instant::now().checked_add(pause));
        }
        let end = ends.time.map(|time| begin + time);
        let next = [Some(look), keyframe, end].into_iter().flatten().min();
        let pause = next.map_or(POLL, |next| next.saturating_duration_since(Instant::now()));
        thread::sleep(pause.min(POLL));
    }
}
