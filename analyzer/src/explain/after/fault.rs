//! What follows a fault.

use events::{Cause, Class, Gpa, Gva, Level, PageEvent};
use trace::{EntryRow, FaultRow, PageRow, Record, WriteRow};

use super::ahead::{FAULT, Watcher, look_ahead};
use crate::explain::{
    before::{clear, is_store_of, is_within},
    facts::{FaultFacts, FaultRef, Followed, PageChange, Store},
};

/// Adds what followed a fault. `stores` is how many went to its frame since KVM last used it as a
/// table.
pub fn fault(of: &mut FaultFacts, stores: u32, records: impl Iterator<Item = Record>) {
    let mut after = AfterFault {
        stores,
        is_open: true,
        has_store: of.store.is_some(),
        nearby: 0,
        of,
    };
    look_ahead(records, after.of.index + 1, &FAULT, &mut after);
}

struct AfterFault<'a> {
    of: &'a mut FaultFacts,
    stores: u32,
    /// What the vCPU does next still belongs to the fault.
    is_open: bool,
    /// The fault's store was known before.
    has_store: bool,
    /// Later faults nearby.
    nearby: usize,
}

impl Watcher for AfterFault<'_> {
    fn see(&mut self, record: &Record, fault: Option<FaultRef>) {
        match (record, fault) {
            (Record::Write(row), _) => self.write(row),
            (Record::Entry(row), _) => self.entry(row),
            (Record::Page(row), _) => self.page(row),
            (Record::Fault(_), Some(fault)) => self.fault(fault),
            _ => {}
        }
    }

    fn needs(&self) -> [bool; 2] {
        let is_nearby = self.nearby >= FAULT.nearby;
        [is_nearby, self.of.unsync.iter().all(|of| of.is_over)]
    }
}

impl AfterFault<'_> {
    fn write(&mut self, row: &WriteRow) {
        let is_same = self.of.row.gpa.map(Gpa::gfn) == Some(row.gpa.gfn());
        self.stores = self.stores.saturating_add(u32::from(is_same));
        if self.is_open && self.of.store.is_none() {
            let store = Store::new(row, None);
            self.of.store = Some(store).filter(|store| is_store_of(store, &self.of.row));
        }
    }

    fn entry(&mut self, row: &EntryRow) {
        if self.is_open && row.vcpu == Some(self.of.row.vcpu) {
            self.own_entry(row);
        }
        let table = row.sptep.table();
        let periods = self.of.unsync.iter_mut();
        for period in periods.filter(|of| !of.is_over && of.spt == table) {
            period.entry(row, FAULT.changed);
        }
    }

    fn own_entry(&mut self, row: &EntryRow) {
        match row.cause {
            Cause::Prefetch => self.prefetched(row),
            Cause::GuestWrite => {
                if let Some(store) = self.of.store.as_mut().filter(|_| !self.has_store) {
                    clear(store, row);
                }
            }
            Cause::Reread if self.of.row.class == Class::Retried => {
                self.of.read_again.get_or_insert_with(|| row.clone());
            }
            // The links of a fault come before it: these are the next one's.
            _ => self.is_open = false,
        }
    }

    fn prefetched(&mut self, row: &EntryRow) {
        let followed = &mut self.of.followed;
        let is_ahead = |of: &&Followed| matches!(of, Followed::Prefetched { .. });
        if followed.iter().filter(is_ahead).count() < FAULT.prefetched {
            let (sptep, spte, gva) = (row.sptep, row.spte, prefetched_gva(&self.of.row, row));
            followed.push(Followed::Prefetched { sptep, spte, gva });
        }
    }

    fn page(&mut self, row: &PageRow) {
        let periods = self.of.unsync.iter_mut();
        for period in periods.filter(|of| !of.is_over && of.spt == row.spt) {
            period.page(row);
            if row.event == PageEvent::Zapped {
                period.zapped = Some(period.end(row));
                period.is_over = true;
            }
        }
        // A fault without a leaf takes its number at its end: no zap after it is its own.
        let fault = &self.of.row;
        let is_own = self.is_open
            && row.vcpu == Some(fault.vcpu)
            && fault.sptep.is_some()
            && is_within(row.time_ns, fault);
        let zapped = &mut self.of.zapped_after;
        if is_own && row.event == PageEvent::Zapped && zapped.len() < FAULT.zapped {
            zapped.push(PageChange::new(row, self.stores));
        }
    }

    fn fault(&mut self, fault: FaultRef) {
        self.is_open &= fault.vcpu != self.of.row.vcpu;
        for period in &mut self.of.unsync {
            // The sync was in this fault, or before it.
            let by = period.synced.map(|end| end.vcpu);
            period.is_over |= by.is_some_and(|vcpu| vcpu.is_none_or(|vcpu| vcpu == fault.vcpu));
        }
        if fault.gva.0 >> 21 == self.of.row.gva.0 >> 21 && self.nearby < FAULT.nearby {
            let after_ns = fault.time_ns.0.saturating_sub(self.of.row.time_ns.0);
            self.of.followed.push(Followed::Fault { fault, after_ns });
            self.nearby += 1;
        }
    }
}

/// The address that a neighbour of the fault's leaf translates.
fn prefetched_gva(fault: &FaultRow, row: &EntryRow) -> Option<Gva> {
    let place = fault.sptep?;
    let level = fault.level?;
    let is_same = place.table() == row.sptep.table();
    neighbour(fault.gva, level, place.index(), row.sptep.index()).filter(|_| is_same)
}

/// The address that another entry of the same table translates.
fn neighbour(gva: Gva, level: Level, own: u16, other: u16) -> Option<Gva> {
    level.index(gva).filter(|index| *index == own)?;
    let span = level.pages() << 12;
    let table = (gva.0 & !(span - 1)).wrapping_sub(span.wrapping_mul(u64::from(own)));
    Some(Gva(table.wrapping_add(span.wrapping_mul(u64::from(other)))))
}
