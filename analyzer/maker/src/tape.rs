//! Where the records of all VMs go: one clock, one counter, one batch.

use events::{Hpa, Seq, TimeNs};
use trace::{Batch, TraceError, TraceWriter};

/// Host frame of the first table.
const FIRST_SPT: u64 = 0x80_0000;

/// See the module.
#[derive(Debug)]
pub struct Tape {
    pub batch: Batch,
    pub writer: Option<TraceWriter>,
    pub seq: u64,
    pub time: u64,
    /// Nothing is recorded: what happens now happened before.
    pub is_off: bool,
    random: u64,
    next_spt: u64,
}

impl Tape {
    pub fn new() -> Self {
        Self {
            batch: Batch::default(),
            writer: None,
            seq: 0,
            time: 1_000_000_000,
            is_off: false,
            random: 1,
            next_spt: FIRST_SPT,
        }
    }

    /// Number and time of the next record, `ns` after the one before.
    pub fn next(&mut self, ns: u64) -> (Seq, TimeNs) {
        let seq = self.seq;
        if !self.is_off {
            self.seq += 1;
            self.time += ns;
        }
        (Seq(seq), TimeNs(self.time))
    }

    /// A fault lasts.
    pub fn wait(&mut self, ns: u64) {
        if !self.is_off {
            self.time += ns;
        }
    }

    /// Adds rows, unless nothing is recorded.
    pub fn push(&mut self, add: impl FnOnce(&mut Batch)) {
        if !self.is_off {
            add(&mut self.batch);
        }
    }

    /// A host frame for a table.
    pub fn table(&mut self) -> Hpa {
        let spt = Hpa(self.next_spt << 12);
        self.next_spt += 1;
        spt
    }

    /// xorshift64, Marsaglia 2003.
    pub fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Writes a segment if it is full.
    pub fn flush_full(&mut self, rows: usize) -> Result<(), TraceError> {
        if self.batch.rows() >= rows {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what there is.
    pub fn flush(&mut self) -> Result<(), TraceError> {
        let batch = std::mem::take(&mut self.batch);
        if let Some(writer) = &mut self.writer {
            writer.write(&batch)?;
        }
        Ok(())
    }
}
