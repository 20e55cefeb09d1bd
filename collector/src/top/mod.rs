//! `collector top`: what the shadow MMU of running VMs does now. No trace is written, and no VM is
//! stopped.
//!
//! ```text
//! mod     the sequence: host, probes, root dropped, VMs, frames
//! vms     the VMs that are followed now
//! sums    faults by VM and class since the last look
//! frame   a look as text: a screen, a line for each VM, JSON
//! screen  a terminal that may be slow, and may change its size
//! lines   standard output that nobody may read
//! ```

mod frame;
mod lines;
mod screen;
mod sums;
mod vms;

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};

use crate::{
    attach::{Target, check_owner, check_target},
    confine,
    failure::Failure,
    host, privileges,
    record::{self, RecordError},
    recording::{self, Bar, Kernel},
};
use frame::Frame;
use screen::{Output, Wish};
use sums::Sums;
use vms::Followed;

/// How soon a key or a request to stop is noticed.
const POLL: Duration = Duration::from_millis(20);
/// Between two questions whether a look is written.
const SHORT: Duration = Duration::from_millis(1);

/// What to show and how.
#[derive(Debug)]
pub struct Options {
    /// Whose VMs.
    pub target: Target,
    /// Between two looks.
    pub interval: Duration,
    /// How long; `None`: until the VMs end, q or Ctrl-C.
    pub time: Option<Duration>,
    /// Size of the ring buffer.
    pub ring_bytes: u32,
    /// A JSON object for each look.
    pub json: bool,
}

/// Shows what VMs do until it is stopped.
pub fn top(options: &Options) -> Result<ExitCode, Failure> {
    recording::check_root()?;
    let process = check_target(options.target)?;
    if host::mode().is_nested() {
        return Err(recording::two_dimensional());
    }
    crate::vms::take_room().context("while asking for more file descriptors")?;
    let mut kernel = load(options)?;
    if let Some(process) = &process {
        check_owner(process, &kernel, "top")?;
    }
    attach(&mut kernel, options)?;
    privileges::keep_only(privileges::WATCHING)?;
    confine::process()?;
    let cancel = recording::cancel_on_signal()?;
    let layout = recording::start(&kernel, options.ring_bytes, false).role_layout();
    let Kernel {
        probes,
        ring,
        counters,
        ..
    } = kernel;
    let sums = Arc::new(Mutex::new(Sums::default()));
    let reading = Reading::start({
        let sums = Arc::clone(&sums);
        move |stop: &AtomicBool| {
            record::follow(ring, layout, stop, |batch| {
                sums.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(batch);
            })
        }
    })?;
    let followed = Followed::new(Arc::new(probes), counters, options.target);
    let shown = show(options, followed, &sums, &reading, &cancel);
    let read = reading.finish();
    shown.and(read)?;
    Ok(ExitCode::SUCCESS)
}

fn load(options: &Options) -> Result<Kernel, Failure> {
    let _bar = Bar::of_work("loading the probes", options.json)?;
    Kernel::load(options.ring_bytes, false)
}

fn attach(kernel: &mut Kernel, options: &Options) -> Result<(), Failure> {
    let _bar = Bar::of_work("attaching the probes", options.json)?;
    kernel.attach()?;
    kernel.attach_running()
}

/// The thread that empties the ring.
struct Reading {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), RecordError>>,
}

impl Reading {
    fn start(
        read: impl FnOnce(&AtomicBool) -> Result<(), RecordError> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        // A thread has the capabilities of the one that starts it: this one needs none.
        let thread = privileges::without(|| thread::spawn(move || read(&stopping)))?;
        Ok(Self { stop, thread })
    }

    /// It ended by itself: it cannot read on.
    fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(read) => Ok(read?),
            Err(_) => Err(anyhow!("the thread that reads the ring panicked")),
        }
    }
}

fn show(
    options: &Options,
    mut followed: Followed,
    sums: &Mutex<Sums>,
    reading: &Reading,
    cancel: &AtomicBool,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    followed.look()?;
    let mut output = Output::open(options.json)?;
    let mut before = begin;
    let mut due = begin + options.interval;
    let must_end = || cancel.load(Ordering::Acquire) || reading.has_failed();
    let is_over = |now: Instant| {
        let time = options.time.is_some_and(|time| now >= begin + time);
        time || must_end()
    };
    loop {
        let now = Instant::now();
        let ends = is_over(now);
        if output.is_free() && (now >= due || ends) {
            followed.look()?;
            let taken = std::mem::take(&mut *sums.lock().unwrap_or_else(PoisonError::into_inner));
            let lost = followed.lost()?;
            let frame = Frame {
                at: now - begin,
                over: now - before,
                lost,
                vms: followed.now(&taken),
            };
            output.show(&frame);
            (before, due) = (now, now + options.interval);
            if ends || (options.target != Target::All && followed.is_empty()) {
                break;
            }
        } else if must_end() {
            // Nobody reads the look before.
            break;
        }
        if output.work()? == Wish::Quit {
            break;
        }
        let next = due.saturating_duration_since(Instant::now());
        thread::sleep(next.clamp(SHORT, POLL));
    }
    output.close(cancel)
}
