//! The look-ahead: one for all, with its bounds and what ends it as data.

use trace::Record;

use crate::explain::facts::FaultRef;

/// What a look-ahead reads and keeps at most.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Records read.
    pub records: usize,
    /// Later faults nearby.
    pub nearby: usize,
    /// Neighbours mapped ahead.
    pub prefetched: usize,
    /// Changed entries: of an unsync page, of a store, of an act of the host.
    pub changed: usize,
    /// Zapped pages.
    pub zapped: usize,
    /// Stores to the same entry.
    pub fates: usize,
    /// Entries whose next mapping is looked for.
    pub emptied: usize,
}

pub(super) const BOUNDS: Bounds = Bounds {
    records: 200_000,
    nearby: 3,
    // KVM's `PTE_PREFETCH_NUM` is 8, the fault's own entry included.
    prefetched: 7,
    changed: 8,
    zapped: 16,
    fates: 4,
    emptied: 4096,
};

/// What follows a fault is near it.
pub(super) const FAULT: Bounds = Bounds {
    records: 20_000,
    ..BOUNDS
};

/// What takes later records in.
pub(super) trait Watcher {
    /// Takes the next record of the VM; a fault comes with its short form.
    fn see(&mut self, record: &Record, fault: Option<FaultRef>);

    /// What must be found before the look-ahead ends early: each with whether it is.
    fn needs(&self) -> [bool; 2];
}

/// Reads records until all that is needed is found. `faults` is the number of the next fault.
pub(super) fn look_ahead(
    records: impl Iterator<Item = Record>,
    mut faults: u64,
    bounds: &Bounds,
    watcher: &mut impl Watcher,
) {
    for record in records.take(bounds.records) {
        let mut fault = None;
        if let Record::Fault(row) = &record {
            fault = Some(FaultRef::new(faults, row));
            faults += 1;
        }
        watcher.see(&record, fault);
        if watcher.needs() == [true; 2] {
            return;
        }
    }
}
