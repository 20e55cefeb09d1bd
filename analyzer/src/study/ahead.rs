//! Reading and decoding on two threads, for one that uses the records.

use std::{
    ops::ControlFlow,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use trace::{Part, Record, Records, Stretch, Trace, TraceError};

/// Stretches read and not yet taken apart: bounds what is in memory.
const STRETCHES: usize = 1;
/// Records handed over together: a chunk stays in a core's cache.
const CHUNK: usize = 256;
/// Chunks that may wait: bounds what is decoded and not yet used.
const WAITING: usize = 8;

/// Records, and the error after them, which is the end. They are lent, not moved: a fault is large.
struct Chunk {
    records: Vec<Record>,
    error: Option<TraceError>,
}

impl Chunk {
    fn new() -> Self {
        Self {
            records: Vec::with_capacity(CHUNK),
            error: None,
        }
    }

    fn each(
        self,
        each: &mut impl FnMut(Result<&Record, TraceError>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for record in &self.records {
            each(Ok(record))?;
        }
        self.error
            .map_or(ControlFlow::Continue(()), |error| each(Err(error)))
    }
}

/// Gives every record of a part of `trace` to `each`, in order, until it breaks off.
pub(crate) fn read_ahead(
    trace: &Trace,
    part: Part,
    mut each: impl FnMut(Result<&Record, TraceError>) -> ControlFlow<()>,
) {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(WAITING);
        let decoder = thread::Builder::new().name("decoder".to_owned());
        if decoder
            .spawn_scoped(scope, move || decode(trace, part, &sender))
            .is_err()
        {
            // Without another thread: one after the other.
            let _ = Records::new(trace.stretches(part)).try_for_each(|record| match record {
                Ok(record) => each(Ok(&record)),
                Err(error) => each(Err(error)),
            });
            return;
        }
        for chunk in receiver {
            // Dropping the receiver stops the decoder.
            if chunk.each(&mut each).is_break() {
                return;
            }
        }
    });
}

/// Columns to records, with another thread for files to columns.
fn decode(trace: &Trace, part: Part, sender: &SyncSender<Chunk>) {
    thread::scope(|scope| {
        let (ahead, stretches) = sync_channel(STRETCHES);
        let reader = thread::Builder::new().name("reader".to_owned());
        match reader.spawn_scoped(scope, move || read(trace, part, &ahead)) {
            Ok(_) => pass_on(Records::new(stretches.into_iter()), sender),
            Err(_) => pass_on(Records::new(trace.stretches(part)), sender),
        }
    });
}

fn read(trace: &Trace, part: Part, ahead: &SyncSender<Result<Stretch, TraceError>>) {
    for stretch in trace.stretches(part) {
        // The receiver is gone: the rest is not wanted.
        if ahead.send(stretch).is_err() {
            return;
        }
    }
}

fn pass_on(mut records: Records<'_>, sender: &SyncSender<Chunk>) {
    loop {
        let mut chunk = Chunk::new();
        chunk.error = records.fill(&mut chunk.records, CHUNK).err();
        let is_last = chunk.records.len() < CHUNK;
        // If the receiver is gone, the rest is not wanted.
        if sender.send(chunk).is_err() || is_last {
            return;
        }
    }
}
