//! What follows a fault.

use events::{Cause, Class, Gpa, Gva, Level, PageEvent};
use trace::{EntryRow, FaultRow, PageRow, Record};

use super::ahead::{FAULT, Later, Question};
use crate::explain::{
    before::{clear, is_store_of, is_within},
    facts::{FaultRef, Followed, PageChange, Store, UnsyncPeriod, gpa},
};

/// Records of the fault's vCPU after the fault's own that belong to it.
#[derive(Debug)]
pub(super) struct OwnRecords<'a> {
    fault: &'a FaultRow,
    /// The next record of the vCPU still belongs to the fault.
    is_open: bool,
    /// The store was known before.
    has_store: bool,
    /// Stores to the fault's frame since KVM last used it as a table.
    stores: u32,
    pub store: Option<Store>,
    pub prefetched: Vec<Followed>,
    pub read_again: Option<EntryRow>,
    pub zapped: Vec<PageChange>,
}

impl<'a> OwnRecords<'a> {
    pub fn new(fault: &'a FaultRow, store: Option<Store>, stores: u32) -> Self {
        Self {
            fault,
            is_open: true,
            has_store: store.is_some(),
            stores,
            store,
            prefetched: Vec::new(),
            read_again: None,
            zapped: Vec::new(),
        }
    }

    fn entry(&mut self, row: &EntryRow) {
        match row.cause {
            Cause::Prefetch if self.prefetched.len() < FAULT.prefetched => {
                self.prefetched.push(prefetched(self.fault, row));
            }
            Cause::Prefetch => {}
            Cause::GuestWrite => {
                if let Some(store) = self.store.as_mut().filter(|_| !self.has_store) {
                    clear(store, row);
                }
            }
            Cause::Reread if self.fault.class == Class::Retried => {
                self.read_again.get_or_insert_with(|| row.clone());
            }
            // The links of a fault come before it: these are the next one's.
            _ => self.is_open = false,
        }
    }

    fn page(&mut self, row: &PageRow) {
        // A fault without a leaf takes its number at its end: no zap after it is its own.
        let is_own = self.fault.sptep.is_some() && is_within(row.time_ns, self.fault);
        if is_own && row.event == PageEvent::Zapped && self.zapped.len() < FAULT.zapped {
            self.zapped.push(PageChange::new(row, self.stores));
        }
    }
}

impl Question for OwnRecords<'_> {
    fn see(&mut self, later: Later<'_>) {
        let own = Some(self.fault.vcpu);
        match later.record {
            Record::Write(row) => {
                let is_same = gpa(self.fault).map(Gpa::gfn) == Some(row.gpa.gfn());
                self.stores = self.stores.saturating_add(u32::from(is_same));
                if self.is_open && self.store.is_none() {
                    let store = Store::new(row, None);
                    self.store = Some(store).filter(|store| is_store_of(store, self.fault));
                }
            }
            Record::Entry(row) if self.is_open && row.vcpu == own => self.entry(row),
            Record::Page(row) if self.is_open && row.vcpu == own => self.page(row),
            Record::Fault(row) => self.is_open &= Some(row.vcpu) != own,
            _ => {}
        }
    }
}

fn prefetched(fault: &FaultRow, row: &EntryRow) -> Followed {
    let place = fault.sptep;
    let place = place.filter(|place| place.table() == row.sptep.table());
    let gva = place
        .zip(fault.level)
        .and_then(|(place, level)| neighbour(fault.gva, level, place.index(), row.sptep.index()));
    Followed::Prefetched {
        sptep: row.sptep,
        spte: row.spte,
        gva,
    }
}

/// The address that another entry of the same table translates.
fn neighbour(gva: Gva, level: Level, own: u16, other: u16) -> Option<Gva> {
    level.index(gva).filter(|index| *index == own)?;
    let span = level.pages() << 12;
    let table = (gva.0 & !(span - 1)).wrapping_sub(span.wrapping_mul(u64::from(own)));
    Some(Gva(table.wrapping_add(span.wrapping_mul(u64::from(other)))))
}

/// How the unsync periods end that the fault began.
#[derive(Debug)]
pub(super) struct UnsyncEnds(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    period: UnsyncPeriod,
    /// Its end is known, and what that changed.
    is_over: bool,
}

impl UnsyncEnds {
    pub fn new(periods: Vec<UnsyncPeriod>) -> Self {
        let watched = periods.into_iter().map(|period| Watched {
            period,
            is_over: false,
        });
        Self(watched.collect())
    }

    pub fn done(self) -> Vec<UnsyncPeriod> {
        self.0.into_iter().map(|of| of.period).collect()
    }
}

impl Question for UnsyncEnds {
    fn see(&mut self, later: Later<'_>) {
        for Watched { period, is_over } in self.0.iter_mut().filter(|of| !of.is_over) {
            match later.record {
                Record::Entry(row) if row.sptep.table() == period.spt => {
                    period.entry(row, FAULT.changed);
                }
                Record::Page(row) if row.spt == period.spt => {
                    period.page(row);
                    if row.event == PageEvent::Zapped {
                        period.zapped = Some(period.end(row));
                        *is_over = true;
                    }
                }
                // The sync was in this fault, or before it.
                Record::Fault(row) => {
                    let by = period.synced.map(|end| end.vcpu);
                    *is_over = by.is_some_and(|vcpu| vcpu.is_none_or(|vcpu| vcpu == row.vcpu));
                }
                _ => {}
            }
        }
    }

    fn is_answered(&self) -> bool {
        self.0.iter().all(|of| of.is_over)
    }
}

/// The next faults in the same 2 MiB.
#[derive(Debug)]
pub(super) struct NearbyFaults<'a> {
    fault: &'a FaultRow,
    pub found: Vec<Followed>,
}

impl<'a> NearbyFaults<'a> {
    pub fn new(fault: &'a FaultRow) -> Self {
        Self {
            fault,
            found: Vec::new(),
        }
    }
}

impl Question for NearbyFaults<'_> {
    fn see(&mut self, later: Later<'_>) {
        let near = |fault: &FaultRef| fault.gva.0 >> 21 == self.fault.gva.0 >> 21;
        if let Some(fault) = later.fault.filter(near).filter(|_| !self.is_answered()) {
            self.found.push(Followed::Fault {
                fault,
                after_ns: fault.time_ns.0.saturating_sub(self.fault.time_ns.0),
            });
        }
    }

    fn is_answered(&self) -> bool {
        self.found.len() >= FAULT.nearby
    }
}
