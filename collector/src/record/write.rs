//! Decoding records and writing them as segments, one stretch of time after another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use events::RoleLayout;
use trace::{Batch, TraceWriter};

use super::{Progress, RecordError, decode::decode, drain::Chunk, losses::LossLog};
use crate::probes::Probes;

/// Longest time that a record waits in memory.
const STRETCH: Duration = Duration::from_secs(1);
/// Most rows that wait in memory, whatever the time.
const ROWS: usize = 1 << 20;

/// The writing thread.
#[derive(Debug)]
pub struct Writer {
    trace: TraceWriter,
    probes: Arc<Probes>,
    layout: RoleLayout,
    mark_name: fn(u32) -> String,
    progress: Arc<Progress>,
    on_failure: Arc<AtomicBool>,
    losses: LossLog,
    batch: Batch,
}

impl Writer {
    /// Writes to `trace`.
    pub fn new(
        trace: TraceWriter,
        probes: Arc<Probes>,
        layout: RoleLayout,
        mark_name: fn(u32) -> String,
        progress: Arc<Progress>,
        on_failure: Arc<AtomicBool>,
    ) -> Self {
        Self {
            trace,
            probes,
            layout,
            mark_name,
            progress,
            on_failure,
            losses: LossLog::default(),
            batch: Batch::default(),
        }
    }

    /// Until the drain hangs up.
    pub fn run(mut self, chunks: &Receiver<Chunk>) -> Result<TraceWriter, RecordError> {
        let result = self.receive(chunks);
        if result.is_err() {
            self.on_failure.store(true, Ordering::Release);
        }
        result.map(|()| self.trace)
    }

    fn receive(&mut self, chunks: &Receiver<Chunk>) -> Result<(), RecordError> {
        let mut due = Instant::now() + STRETCH;
        loop {
            match chunks.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(chunk) => self.decode(&chunk)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
            if Instant::now() >= due || self.batch.rows() >= ROWS {
                self.write()?;
                due = Instant::now() + STRETCH;
            }
        }
    }

    fn decode(&mut self, chunk: &Chunk) -> Result<(), RecordError> {
        let before = self.batch.faults.len();
        let mut records = 0;
        for record in chunk.records() {
            decode(record, &self.layout, self.mark_name, &mut self.batch)?;
            records += 1;
        }
        let faults = self.batch.faults.len() - before;
        self.progress.records.fetch_add(records, Ordering::Relaxed);
        self.progress
            .faults
            .fetch_add(faults as u64, Ordering::Relaxed);
        Ok(())
    }

    fn write(&mut self) -> Result<(), RecordError> {
        let counts = self.probes.losses()?;
        self.batch.losses = self.losses.update(&counts, self.probes.next_seq()?);
        let batch = std::mem::take(&mut self.batch);
        self.trace.write(&batch)?;
        self.progress
            .bytes
            .store(self.trace.bytes(), Ordering::Relaxed);
        Ok(())
    }
}
