//! Copying records out of the ring.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    thread,
    time::Duration,
};

use crate::probes::Ring;

/// Bytes after which a chunk is handed on.
const CHUNK: usize = 256 << 10;
/// How long the ring may fill unwatched. The probes never wake anybody: at 100,000 faults a
/// second, 250 bytes each, 2 ms are 50 KB of a ring of megabytes.
const PAUSE: Duration = Duration::from_millis(2);
/// Passes over the ring after which a chunk is handed on, full or not.
const PASSES: u32 = 25;

/// Records one after another, each with its length before it.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
}

impl From<&[u8]> for Chunk {
    fn from(bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        Self { bytes }
    }
}

impl Chunk {
    pub(super) fn push(&mut self, record: &[u8]) {
        // A ring buffer's records are shorter than 2^30 bytes.
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(record);
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (record, after) = after.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
            rest = after;
            Some(record)
        })
    }
}

/// Drains until `stop` is set, and then until the ring is empty.
pub fn run(mut ring: Ring, stop: &AtomicBool, chunks: &SyncSender<Chunk>) {
    let mut chunk = Chunk::default();
    let mut passes = 0;
    loop {
        let mut is_busy = false;
        // Read before draining: what came before `stop` was set is still taken.
        let last = stop.load(Ordering::Acquire);
        while let Some(record) = ring.next() {
            chunk.push(&record);
            drop(record);
            if chunk.bytes.len() >= CHUNK {
                // The writer has gone: it will say why.
                if chunks.send(std::mem::take(&mut chunk)).is_err() {
                    return;
                }
                (passes, is_busy) = (0, true);
            }
        }
        passes += 1;
        let due = last || passes >= PASSES;
        if due && !chunk.bytes.is_empty() && chunks.send(std::mem::take(&mut chunk)).is_err() {
            return;
        }
        if due {
            passes = 0;
        }
        if last {
            return;
        }
        // So much at once is a keyframe, which holds up a VM until it has room.
        if !is_busy {
            thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Chunk;

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut chunk = Chunk::default();
        let records: [&[u8]; 3] = [b"one", b"", b"three"];
        for record in records {
            chunk.push(record);
        }
        assert_eq!(chunk.records().collect::<Vec<_>>(), records);
    }

    #[test]
    fn a_chunk_cut_anywhere_ends_early() {
        let mut whole = Chunk::default();
        whole.push(b"one");
        whole.push(b"two");
        for length in 0..whole.bytes.len() {
            let cut = Chunk::from(&whole.bytes[..length]);
            assert_eq!(cut.records().count(), length / 7);
        }
    }
}
