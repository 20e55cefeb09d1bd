//! Decoding on one thread while another makes sense of it.

use std::{
    ops::ControlFlow,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use trace::{Record, Trace, TraceError};

/// Records handed over together.
const CHUNK: usize = 1024;
/// Chunks that may wait: bounds what is decoded and not yet used.
const WAITING: usize = 4;

type Chunk = Vec<Result<Record, TraceError>>;

/// Gives every record of `trace` to `each`, in order, until it breaks off.
pub(crate) fn read_ahead(
    trace: &Trace,
    mut each: impl FnMut(Result<Record, TraceError>) -> ControlFlow<()>,
) {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(WAITING);
        let decoder = thread::Builder::new().name("decoder".to_owned());
        if decoder
            .spawn_scoped(scope, move || decode(trace, &sender))
            .is_err()
        {
            // No thread to be had: one after the other, then.
            let _ = trace.records().try_for_each(each);
            return;
        }
        for chunk in receiver {
            for record in chunk {
                // Dropping the receiver stops the decoder.
                if each(record).is_break() {
                    return;
                }
            }
        }
    });
}

fn decode(trace: &Trace, sender: &SyncSender<Chunk>) {
    let mut chunk = Chunk::with_capacity(CHUNK);
    for record in trace.records() {
        chunk.push(record);
        if chunk.len() == CHUNK {
            let full = std::mem::replace(&mut chunk, Chunk::with_capacity(CHUNK));
            if sender.send(full).is_err() {
                return;
            }
        }
    }
    // The receiver may be gone already; then nobody wants the rest.
    let _ = sender.send(chunk);
}
