//! The look-ahead: its bounds, and the questions that end it.

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

/// A later record of the VM; a fault with its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Later<'a> {
    pub record: &'a Record,
    pub fault: Option<FaultRef>,
}

/// Something that later records answer.
pub(super) trait Question {
    /// Takes the next record.
    fn see(&mut self, later: Later<'_>);

    /// Whether the look-ahead may end. A question that later records answer in passing says so from
    /// the start.
    fn is_answered(&self) -> bool {
        true
    }
}

/// Reads records until all questions are answered. `faults` is the number of the next fault.
pub(super) fn look_ahead(
    records: impl Iterator<Item = Record>,
    mut faults: u64,
    bounds: &Bounds,
    questions: &mut [&mut dyn Question],
) {
    for record in records.take(bounds.records) {
        let fault = match &record {
            Record::Fault(row) => {
                faults += 1;
                Some(FaultRef::new(faults - 1, row))
            }
            _ => None,
        };
        let later = Later {
            record: &record,
            fault,
        };
        questions.iter_mut().for_each(|of| of.see(later));
        if questions.iter().all(|of| of.is_answered()) {
            return;
        }
    }
}
