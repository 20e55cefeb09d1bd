//! What follows a change of an entry.

use events::{Cause, Class, PageEvent, Spte};
use trace::{EntryRow, FaultRow, PageRow, Record};

use super::ahead::{BOUNDS, Watcher, look_ahead};
use crate::explain::facts::{ChangeFacts, Fate, FaultRef, LaterGpte, Writer, guest_walk};

/// Adds what followed a change. `faults` is the number of the next fault.
pub fn change(of: &mut ChangeFacts, faults: u64, records: impl Iterator<Item = Record>) {
    let mut after = AfterChange {
        of,
        is_run: true,
        is_over: false,
    };
    look_ahead(records, faults, &BOUNDS, &mut after);
    let mapped = of.followed.iter().find_map(|fate| match fate {
        Fate::Stored { by, spte } if spte.is_shadow_present() => Some(by.time_ns.0),
        _ => None,
    });
    let mapped = mapped.filter(|_| !of.row.spte.is_shadow_present());
    of.missing_ns = mapped.map(|time| time.saturating_sub(of.row.time_ns.0));
}

struct AfterChange<'a> {
    of: &'a mut ChangeFacts,
    /// The next change of the thread may belong to the same run.
    is_run: bool,
    /// What became of the entry is known.
    is_over: bool,
}

impl Watcher for AfterChange<'_> {
    fn see(&mut self, record: &Record, fault: Option<FaultRef>) {
        match (record, fault) {
            (Record::Fault(row), Some(fault)) => self.fault(row, fault),
            (Record::Entry(row), _) => self.entry(row),
            (Record::Page(row), _) => self.page(row),
            // Another act of the same thread: what changes next is its effect.
            (Record::Host(row), _) => self.is_run &= row.vcpu != self.of.row.vcpu,
            _ => {}
        }
    }

    fn needs(&self) -> [bool; 2] {
        let has_next = self.of.fault_next.is_some() || self.of.row.vcpu.is_none();
        [self.is_over, has_next]
    }
}

impl AfterChange<'_> {
    fn fault(&mut self, row: &FaultRow, fault: FaultRef) {
        let of = &mut *self.of;
        if of.row.vcpu == Some(row.vcpu) {
            self.is_run = false;
            if of.fault_next.is_none() {
                of.fault_next = Some(fault);
                of.fault_next_is_injected =
                    row.class == Class::Guest && row.error_code.is_present();
                of.fault_next_stores_it = row.sptep == Some(of.row.sptep);
            }
        }
        if let (Some(entry), None) = (of.guest_entry, of.guest_entry_later) {
            let mut steps = guest_walk(row).into_iter();
            let step = steps.find(|step| step.place() == Some(entry.gpa));
            let gpte = step.map(|step| step.gpte);
            of.guest_entry_later = gpte.map(|gpte| LaterGpte { gpte, fault });
        }
        if self.is_over {
            return;
        }
        let has_access = of.followed.iter().any(|of| matches!(of, Fate::Access(_)));
        let is_its = of.translations.contain(row.gva, of.row.level);
        if let (true, Some(spte)) = (row.sptep == Some(of.row.sptep), row.spte) {
            let by = Writer::of_fault(fault);
            of.followed.push(Fate::Stored { by, spte });
            self.is_over = true;
        } else if row.time_ns > of.row.time_ns && is_its && !has_access {
            of.followed.push(Fate::Access(fault));
        }
    }

    fn entry(&mut self, row: &EntryRow) {
        let of = &mut *self.of;
        let is_same_thread = row.vcpu == of.row.vcpu;
        self.is_run &= !is_same_thread || row.cause == of.row.cause;
        if self.is_run && is_same_thread {
            of.together += 1;
            let period = of.unsync.as_mut().filter(|of| of.spt == row.sptep.table());
            period.into_iter().for_each(|of| of.entry(row, 0));
        }
        let is_empty = |spte: Spte| !spte.is_shadow_present();
        let was_empty = of.followed.iter().rev().find_map(|fate| match fate {
            Fate::Stored { spte, .. } => Some(is_empty(*spte)),
            _ => None,
        });
        let was_empty = was_empty.unwrap_or_else(|| is_empty(of.row.spte));
        // Read again and still empty.
        let is_same = row.cause == Cause::Reread && was_empty && is_empty(row.spte);
        if !self.is_over && row.sptep == of.row.sptep && !is_same {
            let (by, spte) = (Writer::of_entry(row), row.spte);
            of.followed.push(Fate::Stored { by, spte });
            self.is_over = spte.is_shadow_present() || of.followed.len() >= BOUNDS.fates;
        }
    }

    fn page(&mut self, row: &PageRow) {
        let of = &mut *self.of;
        let is_sync = of.row.cause == Cause::Sync && of.unsync.is_none();
        let protects =
            of.row.cause == Cause::WriteProtect || is_sync && row.event == PageEvent::Sync;
        let is_same_thread = row.vcpu == of.row.vcpu && of.fault_next.is_none();
        if protects && is_same_thread && Some(row.gfn) == of.row.gfn {
            of.frame_became.get_or_insert_with(|| row.clone());
        }
        if row.spt != of.row.sptep.table() {
            return;
        }
        of.unsync.iter_mut().for_each(|of| of.page(row));
        if row.event == PageEvent::Zapped && !self.is_over {
            let (seq, time_ns) = (row.seq, row.time_ns);
            of.followed.push(Fate::TableZapped { seq, time_ns });
            self.is_over = true;
        }
    }
}
