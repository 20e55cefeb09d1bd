//! A recording under way, whatever is recorded.
//!
//! ```text
//! mod       from attached probes to a finished trace
//! kernel    the kernel side: types resolved, probes loaded and attached (needs root)
//! metadata  what every `meta.json` says
//! bar       progress on a terminal
//! ```

mod bar;
mod kernel;
mod metadata;

use std::{
    io::ErrorKind,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, anyhow};
use trace::{Begin, Meta, MetaFile, TraceError, TraceWriter};

use crate::{
    confine,
    failure::Failure,
    privileges,
    probes::Probes,
    program,
    record::{Bounds, Keeper, Recorder},
    signals,
};

pub use bar::{Bar, SERIES};
pub use kernel::{Kernel, cannot, check_root, two_dimensional};
pub use metadata::{at_ns, now_ns, ns, start};

/// Why a recording ended whose trace has the size of `--max-size`, in `meta.json`.
pub const FULL: &str = "size";

/// Probes whose records go to a trace.
pub struct Recording {
    /// To make requests.
    pub probes: Arc<Probes>,
    /// To say what is known so far.
    pub meta_file: MetaFile,
    /// Of a recording that keeps its last part only.
    pub keeper: Option<Arc<Keeper>>,
    recorder: Recorder,
    log: Option<crate::probes::Printing>,
    bar: Bar,
}

/// What became of the records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recorded {
    /// Faults among them.
    pub faults: u64,
    /// Records decoded.
    pub records: u64,
    /// Records lost.
    pub lost: u64,
    /// Bytes of segments on disk.
    pub bytes: u64,
}

impl Recording {
    /// Makes the trace and records into it from now on. `stop` is set when nothing more can be
    /// kept, or the trace is full; `bounds` keeps it small; `quiet` shows no progress.
    pub fn start(
        kernel: Kernel,
        output: &Path,
        meta: &Meta,
        mark_name: fn(u32) -> String,
        stop: &Arc<AtomicBool>,
        bounds: Bounds,
        quiet: bool,
    ) -> Result<Self, Failure> {
        let keeper = bounds.keeper.clone();
        let trace = TraceWriter::create(output, meta).map_err(cannot_create)?;
        let meta_file = trace.meta_file();
        let Kernel {
            probes,
            ring,
            logger,
            ..
        } = kernel;
        let probes = Arc::new(probes);
        confine::process()?;
        // Threads have the capabilities of the one that starts them: these need none.
        let (recorder, log) = privileges::without(|| {
            confine::files(output)?;
            let recorder = Recorder::start(
                ring,
                Arc::clone(&probes),
                trace,
                meta.role_layout(),
                mark_name,
                Arc::clone(stop),
                bounds,
            )
            .context("while starting the recorder")?;
            let log = logger.map(|logger| logger.start()).transpose()?;
            anyhow::Ok((recorder, log))
        })??;
        let bar = Bar::of_recording(Arc::clone(recorder.progress()), quiet)?;
        Ok(Self {
            probes,
            meta_file,
            keeper,
            recorder,
            log,
            bar,
        })
    }

    /// Whether the trace has its largest size.
    pub fn is_full(&self) -> bool {
        self.recorder.progress().full.load(Ordering::Acquire)
    }

    /// Where the trace begins, if what was before it was dropped.
    pub fn begin(&self) -> Option<Begin> {
        self.meta_file.kept().and_then(|kept| kept.begin)
    }

    /// Adds the names of the guest's functions to the trace; see [`trace::SYMBOLS`].
    pub fn symbols(&self, text: &str) -> anyhow::Result<()> {
        Ok(self.meta_file.write_symbols(text)?)
    }

    /// Writes what is still in the ring, and finishes the trace.
    pub fn finish(self, mut meta: Meta, reason: String) -> (Recorded, anyhow::Result<()>) {
        let Self {
            probes,
            meta_file,
            recorder,
            log,
            bar,
            keeper: _,
        } = self;
        drop(bar);
        let progress = Arc::clone(recorder.progress());
        let trace = recorder.finish();
        drop(log);
        let finished = trace.map_err(anyhow::Error::from).and_then(|trace| {
            meta.complete = true;
            meta.end = Some(metadata::end(
                reason,
                probes.next_seq()?,
                &trace,
                probes.costs(),
            ));
            Ok(meta_file.write(&meta)?)
        });
        let lost = probes
            .losses()
            .map(|losses| losses.iter().map(|(_, loss)| loss.count).sum());
        let recorded = Recorded {
            faults: progress.faults.load(Ordering::Relaxed),
            records: progress.records.load(Ordering::Relaxed),
            lost: *lost.as_ref().unwrap_or(&0),
            bytes: progress.bytes.load(Ordering::Relaxed),
        };
        (
            recorded,
            finished.and(lost.map(|_| ()).map_err(anyhow::Error::from)),
        )
    }
}

/// Before anything else, since it costs nothing to ask.
pub fn check_output(output: &Path) -> Result<(), Failure> {
    privileges::as_user(|| may_be_made(output))?
}

/// With the rights of the user who chose the name: whether a file exists is not everybody's to know.
fn may_be_made(output: &Path) -> Result<(), Failure> {
    if output.symlink_metadata().is_ok() {
        return Err(Failure::failed(TraceError::Exists {
            path: output.to_owned(),
        }));
    }
    // A name alone has an empty parent: the current folder.
    let folder = output
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        None => Ok(()),
        Some(folder) => {
            let error = anyhow!(
                "cannot create {}: its folder does not exist",
                output.display()
            );
            Err(Failure::usage(error).hint(format!("mkdir -p {}", program::quoted(folder))))
        }
    }
}

/// Ctrl-C, SIGTERM and SIGHUP end the recording, not the collector, so that the trace is finished.
pub fn cancel_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    signals::cancel().context("while watching for Ctrl-C")
}

/// All is written: from here on, where only the outcome is printed, a signal ends the collector.
pub fn end_on_signal() -> anyhow::Result<()> {
    signals::restore().context("while giving Ctrl-C its meaning back")
}

/// The trace's folder could not be made.
fn cannot_create(error: TraceError) -> Failure {
    let denied = match &error {
        TraceError::Io { source, .. } => source.kind() == ErrorKind::PermissionDenied,
        _ => false,
    };
    let failure = Failure::failed(error);
    if !denied {
        return failure;
    }
    let user = rustix::process::geteuid();
    failure.hint(format!(
        "root privileges are dropped by now, so uid {user} makes the trace: choose a folder in \
         which that user may write"
    ))
}
