//! The effect of a store or of an act of the host.

use std::collections::BTreeSet;

use events::{Cause, Hpa, PageEvent, VcpuId};
use trace::{EntryRow, PageRow, Record};

use super::ahead::{BOUNDS, Watcher, look_ahead};
use crate::explain::facts::{
    FaultRef, Kind, PageChange, RecordFacts, Refilled, Writer, ZapCause, covers,
};

/// Adds the effect of a record. `faults` is the number of the next fault.
pub fn record(of: &mut RecordFacts, faults: u64, records: impl Iterator<Item = Record>) {
    let mut effect = Effect {
        of,
        emptied: BTreeSet::new(),
        is_over: false,
    };
    look_ahead(records, faults, &BOUNDS, &mut effect);
}

/// What a record changes, until its thread does something else, and the first entry that it
/// empties and that is mapped again.
struct Effect<'a> {
    of: &'a mut RecordFacts,
    emptied: BTreeSet<Hpa>,
    is_over: bool,
}

impl Watcher for Effect<'_> {
    fn see(&mut self, record: &Record, fault: Option<FaultRef>) {
        let own = self.vcpu();
        match (record, fault) {
            (Record::Entry(row), _) => self.entry(row),
            (Record::Page(row), _) => self.page(row),
            (Record::Write(row), _) => self.is_over |= Some(row.vcpu) == own,
            (Record::Host(row), _) => self.is_over |= row.vcpu == own,
            (Record::Fault(row), Some(fault)) => {
                // The fault that a store is emulated in comes after it, without a leaf.
                self.is_over |= Some(row.vcpu) == own && row.sptep.is_some();
                if row.sptep.is_some_and(|place| self.emptied.contains(&place)) {
                    self.refill(Writer::of_fault(fault));
                }
            }
            _ => {}
        }
    }

    fn needs(&self) -> [bool; 2] {
        match &self.of.record {
            Kind::Store { .. } | Kind::Host(_) => {
                let is_refilled = self.of.refilled.is_some() || self.emptied.is_empty();
                [self.is_over, is_refilled]
            }
            // It changes no entry.
            Kind::Root(_) | Kind::Mark(_) | Kind::Act(_) | Kind::KeyframePage { .. } => [true; 2],
        }
    }
}

impl Effect<'_> {
    fn vcpu(&self) -> Option<VcpuId> {
        match &self.of.record {
            Kind::Store { store, .. } => Some(store.vcpu),
            Kind::Host(row) => row.vcpu,
            _ => None,
        }
    }

    /// Whether a change is the effect.
    fn is_effect(&self, row: &EntryRow) -> bool {
        use Cause::{DirtyLog, GuestWrite, HostUnmap, Memslot, Reread};
        row.vcpu == self.vcpu()
            && match &self.of.record {
                Kind::Store { .. } => row.cause == GuestWrite,
                Kind::Host(host) => {
                    matches!(row.cause, HostUnmap | DirtyLog | Memslot | Reread)
                        && row.gfn.is_none_or(|gfn| covers(host, gfn))
                }
                _ => false,
            }
    }

    fn entry(&mut self, row: &EntryRow) {
        if row.spte.is_shadow_present() && self.emptied.contains(&row.sptep) {
            self.refill(Writer::of_entry(row));
        } else if !self.is_over && self.is_effect(row) {
            self.of.changed_total += 1;
            if self.of.changed.len() < BOUNDS.changed {
                self.of.changed.push(row.clone());
            }
            if !row.spte.is_shadow_present() && self.emptied.len() < BOUNDS.emptied {
                self.emptied.insert(row.sptep);
                self.of.emptied = true;
            }
        }
    }

    fn page(&mut self, row: &PageRow) {
        if let Kind::Store {
            store,
            stores_since_use,
            ..
        } = &self.of.record
            && !self.is_over
            && row.event == PageEvent::Zapped
            && (row.vcpu, row.gfn) == (Some(store.vcpu), store.gpa.gfn())
            && self.of.zapped.len() < BOUNDS.changed
        {
            let why = ZapCause::of_store(store.seq, *stores_since_use, row.level);
            let mut zapped = PageChange::new(row, *stores_since_use, None);
            zapped.zapped_by = Some(why);
            self.of.zapped.push(zapped);
        }
    }

    /// An entry that it emptied is mapped again.
    fn refill(&mut self, by: Writer) {
        let after_ns = by.time_ns.0.saturating_sub(self.of.time_ns.0);
        self.of.refilled.get_or_insert(Refilled { by, after_ns });
        self.is_over = true;
    }
}
