//! What the records after the explained one give.
//!
//! There is one look-ahead. What is explained asks questions; the look-ahead reads records until
//! all of them are answered, or until its bound.

mod ahead;
mod change;
mod fault;
mod record;

use trace::Record;

use super::facts::{ChangeFacts, FaultFacts, RecordFacts};
use ahead::{BOUNDS, FAULT, Question, look_ahead};
use change::{EntryFate, LaterWalk, Run, UntilFault};
use fault::{NearbyFaults, OwnRecords, UnsyncEnds};
use record::Effect;

/// Adds what followed a fault. `stores` counts those to its frame since KVM last used it as a table.
pub(super) fn fault(of: &mut FaultFacts, stores: u32, records: impl Iterator<Item = Record>) {
    let row = of.row.clone();
    let mut own = OwnRecords::new(&row, of.store.take(), stores);
    let mut unsync = UnsyncEnds::new(std::mem::take(&mut of.unsync));
    let mut nearby = NearbyFaults::new(&row);
    let questions: &mut [&mut dyn Question] = &mut [&mut own, &mut unsync, &mut nearby];
    look_ahead(records, of.index + 1, &FAULT, questions);
    of.store = own.store;
    of.read_again = own.read_again;
    of.zapped_after = own.zapped;
    of.unsync = unsync.done();
    of.followed = own.prefetched;
    of.followed.extend(nearby.found);
}

/// Adds what followed a change. `faults` is the number of the next fault.
pub(super) fn change(of: &mut ChangeFacts, faults: u64, records: impl Iterator<Item = Record>) {
    let mut until = UntilFault::new(of);
    let mut run = Run::new(&of.row, of.unsync.take());
    let mut fate = EntryFate::new(&of.row, of.translations.clone());
    let mut walk = LaterWalk::new(of.guest_entry.map(|entry| entry.gpa));
    let questions: &mut [&mut dyn Question] = &mut [&mut until, &mut run, &mut fate, &mut walk];
    look_ahead(records, faults, &BOUNDS, questions);
    if let Some((fault, is_injected, stores_it)) = until.next {
        of.fault_next = Some(fault);
        of.fault_next_is_injected = is_injected;
        of.fault_next_stores_it = stores_it;
    }
    of.frame_became = until.frame_became;
    of.together = run.together;
    of.unsync = run.unsync;
    of.missing_ns = fate.missing_ns();
    of.followed = fate.found;
    of.guest_entry_later = walk.found;
}

/// Adds the effect of another record. `faults` is the number of the next fault.
pub(super) fn record(of: &mut RecordFacts, faults: u64, records: impl Iterator<Item = Record>) {
    let mut effect = Effect::new(of);
    look_ahead(records, faults, &BOUNDS, &mut [&mut effect]);
    effect.add_to(of);
}
