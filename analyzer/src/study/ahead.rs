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

/// Records in order, and the error after them, which is the end.
pub(crate) struct Chunk {
    pub(crate) records: Vec<Record>,
    pub(crate) error: Option<TraceError>,
}

/// Gives every record of a part of `trace` to `each`, in order, until it breaks off.
pub(crate) fn read_ahead(
    trace: &Trace,
    part: Part,
    mut each: impl FnMut(Chunk) -> ControlFlow<()>,
) {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(WAITING);
        let decoder = thread::Builder::new().name("decoder".to_owned());
        if decoder
            .spawn_scoped(scope, move || decode(trace, part, &sender))
            .is_err()
        {
            // Without another thread: one after the other.
            pass_on(Records::new(trace.stretches(part)), each);
            return;
        }
        // Dropping the receiver stops the decoder.
        let _ = receiver.into_iter().try_for_each(&mut each);
    });
}

/// Columns to records, with another thread for files to columns.
fn decode(trace: &Trace, part: Part, sender: &SyncSender<Chunk>) {
    // If the receiver is gone, the rest is not wanted.
    let send = |chunk| match sender.send(chunk) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    thread::scope(|scope| {
        let (ahead, stretches) = sync_channel(STRETCHES);
        let reader = thread::Builder::new().name("reader".to_owned());
        match reader.spawn_scoped(scope, move || read(trace, part, &ahead)) {
            Ok(_) => pass_on(Records::new(stretches.into_iter()), send),
            Err(_) => pass_on(Records::new(trace.stretches(part)), send),
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

fn pass_on(mut records: Records<'_>, mut each: impl FnMut(Chunk) -> ControlFlow<()>) {
    loop {
        let mut chunk = Chunk {
            records: Vec::with_capacity(CHUNK),
            error: None,
        };
        chunk.error = records.fill(&mut chunk.records, CHUNK).err();
        let is_last = chunk.error.is_some() || chunk.records.len() < CHUNK;
        if each(chunk).is_break() || is_last {
            return;
        }
    }
}
