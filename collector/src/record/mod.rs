//! From the ring to the trace: one thread drains, another decodes and writes.
//!
//! The drain only copies bytes, so that a slow disk or a busy core never holds up the ring;
//! between the two is a queue of fixed size. Nothing here depends on what a record means.

mod decode;
mod drain;
mod keep;
mod losses;
mod watch;
mod write;
mod zaps;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, Builder, JoinHandle},
};

use events::RoleLayout;
use trace::{Batch, TraceError, TraceWriter};

use crate::{
    confine::{self, ConfineError, Thread},
    probes::{Probes, RequestError, Ring},
};

pub use decode::{DecodeError, decode};
pub use drain::Chunk;
pub use keep::{Keep, Keeper, Section};
pub use watch::On;

/// Chunks in the queue between the two threads: with chunks of 256 KiB, 16 MiB.
const QUEUE: usize = 64;

/// Why the recording ended early.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The trace could not be written.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The ring held what the probes never write.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The same, and the records before it could not be written either.
    #[error("{decode}; the records before it were not written: {write}")]
    DecodeAndWrite {
        /// What the ring held.
        decode: DecodeError,
        /// Why the records before it are not in the trace.
        write: Box<RecordError>,
    },
    /// The loss counters could not be read.
    #[error(transparent)]
    Losses(#[from] RequestError),
    /// A thread could not be started.
    #[error("cannot start the {thread} thread")]
    Thread {
        /// Which.
        thread: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread could not give up what it does not need.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// A bug of ours.
    #[error("the {0} thread panicked")]
    Panicked(&'static str),
}

/// Counts that other threads read while the recorder runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records decoded.
    pub records: AtomicU64,
    /// Faults among them.
    pub faults: AtomicU64,
    /// Bytes of segments on disk.
    pub bytes: AtomicU64,
    /// Records lost, by the last count.
    pub lost: AtomicU64,
    /// The trace has its largest size.
    pub full: AtomicBool,
    phase: Mutex<String>,
}

impl Progress {
    /// Name of the phase that the guest is in; empty before the first.
    pub fn phase(&self) -> String {
        self.locked().clone()
    }

    fn set_phase(&self, name: &str) {
        name.clone_into(&mut self.locked());
    }

    /// A thread that panicked in here leaves a whole name.
    fn locked(&self) -> MutexGuard<'_, String> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the records of a ring to `each`, a chunk at a time, until `stop` is set and the ring is
/// empty. Nothing is written.
pub fn follow(
    ring: Ring,
    layout: RoleLayout,
    stop: &AtomicBool,
    mut each: impl FnMut(&Batch),
) -> Result<(), RecordError> {
    let (sender, receiver) = mpsc::sync_channel::<drain::Chunk>(QUEUE);
    thread::scope(|scope| {
        let drain = Builder::new().name("drain".to_owned());
        let drain = drain.spawn_scoped(scope, move || drain::run(ring, stop, &sender));
        drain.map_err(|source| RecordError::Thread {
            thread: "drain",
            source,
        })?;
        for chunk in receiver {
            let mut batch = Batch::default();
            for record in chunk.records() {
                decode::decode(record, &layout, |number| number.to_string(), &mut batch)?;
            }
            each(&batch);
        }
        Ok(())
    })
}

/// What keeps a trace small.
#[derive(Debug, Default)]
pub struct Bounds {
    /// Bytes at which the recording ends.
    pub max_bytes: Option<u64>,
    /// Keeps the last part only.
    pub keeper: Option<Arc<Keeper>>,
}

/// A recording under way.
#[derive(Debug)]
pub struct Recorder {
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    drain: JoinHandle<Result<(), ConfineError>>,
    writer: JoinHandle<Result<TraceWriter, RecordError>>,
}

impl Recorder {
    /// Starts both threads. `mark_name` names a guest phase by its number; `stop` is set when
    /// nothing more can be kept, or the trace is full; `bounds` keeps it small.
    pub fn start(
        ring: Ring,
        probes: Arc<Probes>,
        trace: TraceWriter,
        layout: RoleLayout,
        mark_name: fn(u32) -> String,
        stop: Arc<AtomicBool>,
        bounds: Bounds,
    ) -> Result<Self, RecordError> {
        let [on_end, writer_failed, drain_failed] = [&stop; 3].map(Arc::clone);
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Progress::default());
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let writer = write::Writer::new(
            trace,
            Box::new(move || Ok((probes.losses()?, probes.next_seq()?))),
            layout,
            mark_name,
            Arc::clone(&progress),
            on_end,
            bounds.max_bytes,
        )
        .keeping(bounds.keeper);
        let failed = |thread| move |source| RecordError::Thread { thread, source };
        let writer = Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                confine(Thread::Writer, &writer_failed)?;
                writer.run(&receiver)
            })
            .map_err(failed("writer"))?;
        let stopping = Arc::clone(&stop);
        let drain = Builder::new()
            .name("drain".to_owned())
            .spawn(move || {
                confine(Thread::Drain, &drain_failed)?;
                drain::run(ring, &stopping, &sender);
                Ok(())
            })
            .map_err(failed("drain"))?;
        Ok(Self {
            stop,
            progress,
            drain,
            writer,
        })
    }

    /// What has been recorded so far.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Takes what is still in the ring, writes it, and returns the trace so that it can be
    /// finished.
    pub fn finish(self) -> Result<TraceWriter, RecordError> {
        self.stop.store(true, Ordering::Release);
        let drained = self
            .drain
            .join()
            .map_err(|_| RecordError::Panicked("drain"))?;
        let written = self
            .writer
            .join()
            .map_err(|_| RecordError::Panicked("writer"))?;
        drained?;
        written
    }
}

/// Confines a thread of the recorder; nothing is kept where that fails.
fn confine(thread: Thread, failed: &AtomicBool) -> Result<(), ConfineError> {
    confine::thread(thread).inspect_err(|_| failed.store(true, Ordering::Release))
}
