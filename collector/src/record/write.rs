//! Decoding records and writing them as segments, one stretch of time after another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use events::{Loss, Probe, RoleLayout, Seq};
use trace::{Batch, TraceWriter};

use super::{
    DecodeError, Keeper, Progress, RecordError, decode::decode, drain::Chunk, losses::LossLog,
};
use crate::{probes::RequestError, recording};

/// Longest time that a record waits in memory.
const STRETCH: Duration = Duration::from_secs(1);
/// Most rows that wait in memory, whatever the time.
const ROWS: usize = 1 << 20;

/// Reads what the probes lost so far, and the number that the next record gets.
type Losses = Box<dyn Fn() -> Result<(Vec<(Probe, Loss)>, Seq), RequestError> + Send>;

/// The writing thread.
pub struct Writer {
    trace: TraceWriter,
    losses: Losses,
    layout: RoleLayout,
    mark_name: fn(u32) -> String,
    progress: Arc<Progress>,
    on_end: Arc<AtomicBool>,
    max_bytes: Option<u64>,
    log: LossLog,
    batch: Batch,
    keeper: Option<Arc<Keeper>>,
}

impl Writer {
    /// Writes to `trace`. Sets `on_end` when it fails, or the trace has `max_bytes`: what comes
    /// until the recording has ended is written all the same.
    pub fn new(
        trace: TraceWriter,
        losses: Losses,
        layout: RoleLayout,
        mark_name: fn(u32) -> String,
        progress: Arc<Progress>,
        on_end: Arc<AtomicBool>,
        max_bytes: Option<u64>,
    ) -> Self {
        Self {
            trace,
            losses,
            layout,
            mark_name,
            progress,
            on_end,
            max_bytes,
            log: LossLog::default(),
            batch: Batch::default(),
            keeper: None,
        }
    }

    /// Keeps the last part only.
    pub fn keeping(self, keeper: Option<Arc<Keeper>>) -> Self {
        Self { keeper, ..self }
    }

    /// Runs until the drain ends.
    pub fn run(mut self, chunks: &Receiver<Chunk>) -> Result<TraceWriter, RecordError> {
        let result = self.receive(chunks);
        if result.is_err() {
            self.on_end.store(true, Ordering::Release);
        }
        result.map(|()| self.trace)
    }

    fn receive(&mut self, chunks: &Receiver<Chunk>) -> Result<(), RecordError> {
        let mut due = Instant::now() + STRETCH;
        loop {
            match chunks.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(chunk) => {
                    if let Err(decode) = self.decode(&chunk) {
                        // The rows before it are good.
                        return Err(match self.write() {
                            Ok(()) => decode.into(),
                            Err(write) => RecordError::DecodeAndWrite {
                                decode,
                                write: Box::new(write),
                            },
                        });
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
            if Instant::now() >= due || self.batch.rows() >= ROWS {
                self.write()?;
                due = Instant::now() + STRETCH;
            }
        }
    }

    fn decode(&mut self, chunk: &Chunk) -> Result<(), DecodeError> {
        let (before, marks) = (self.batch.faults.len(), self.batch.marks.len());
        let mut records = 0;
        let mut result = Ok(());
        for record in chunk.records() {
            result = decode(record, &self.layout, self.mark_name, &mut self.batch);
            if result.is_err() {
                break;
            }
            records += 1;
        }
        let faults = self.batch.faults.len() - before;
        self.progress.records.fetch_add(records, Ordering::Relaxed);
        self.progress
            .faults
            .fetch_add(faults as u64, Ordering::Relaxed);
        let mut new = self.batch.marks.iter().skip(marks);
        if let Some(phase) = new.rfind(|row| row.ends_keyframe().is_none()) {
            self.progress.set_phase(&phase.name);
        }
        result
    }

    fn write(&mut self) -> Result<(), RecordError> {
        let (counts, next) = (self.losses)()?;
        let lost = counts.iter().map(|(_, loss)| loss.count).sum();
        self.progress.lost.store(lost, Ordering::Relaxed);
        self.batch.losses = self.log.update(&counts, next);
        let batch = std::mem::take(&mut self.batch);
        let before = self.trace.bytes();
        self.trace.write(&batch)?;
        if let Some(keeper) = &self.keeper {
            let bytes = self.trace.bytes() - before;
            keeper.written(&batch, bytes, &mut self.trace, recording::now_ns())?;
        }
        self.progress
            .bytes
            .store(self.trace.bytes(), Ordering::Relaxed);
        if self.max_bytes.is_some_and(|max| self.trace.bytes() >= max) {
            self.progress.full.store(true, Ordering::Release);
            self.on_end.store(true, Ordering::Release);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc};

    use events::{Header, Mark, RecordKind};
    use trace::{MarkRow, Meta, Row as _, SCHEMA_VERSION, Trace};

    use super::*;

    fn mark(seq: u64) -> Mark {
        Mark {
            header: Header {
                seq: Seq(seq),
                kind: RecordKind::Mark as u16,
                ..Header::default()
            },
            mark: 1,
            keyframe: 0,
            value: 0,
            stopped_ns: 0,
        }
    }

    /// A writer into a new trace, which gets two marks, what no probe writes, and a mark.
    fn run(path: &Path, before: impl FnOnce()) -> (RecordError, bool) {
        let meta = Meta {
            schema: SCHEMA_VERSION,
            ..Meta::default()
        };
        let failed = Arc::new(AtomicBool::new(false));
        let writer = Writer::new(
            TraceWriter::create(path, &meta).expect("a trace"),
            Box::new(|| Ok((Vec::new(), Seq(9)))),
            RoleLayout::default(),
            |number| format!("phase-{number}"),
            Arc::new(Progress::default()),
            Arc::clone(&failed),
            None,
        );
        let mut chunk = Chunk::default();
        for seq in [1, 2] {
            chunk.push(bytemuck::bytes_of(&mark(seq)));
        }
        chunk.push(b"no record");
        chunk.push(bytemuck::bytes_of(&mark(3)));
        let (sender, receiver) = mpsc::sync_channel(1);
        sender.send(chunk).expect("room for one");
        before();
        let error = writer.run(&receiver).expect_err("an unknown record");
        (error, failed.load(Ordering::Acquire))
    }

    #[test]
    fn what_came_before_an_unknown_record_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.trace");
        let (error, failed) = run(&path, || ());
        assert!(matches!(error, RecordError::Decode(DecodeError::Short(9))));
        assert!(failed);
        let trace = Trace::open(&path).expect("a trace");
        assert_eq!(trace.rows(MarkRow::KIND), 2);
        assert!(trace.was_cut());
    }

    #[test]
    fn an_unknown_record_is_named_even_if_what_came_before_cannot_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.trace");
        let (error, _) = run(&path, || std::fs::remove_dir_all(&path).expect("removed"));
        let RecordError::DecodeAndWrite { decode, write } = error else {
            panic!("{error}");
        };
        assert!(matches!(decode, DecodeError::Short(9)));
        assert!(matches!(*write, RecordError::Trace(_)));
    }
}
