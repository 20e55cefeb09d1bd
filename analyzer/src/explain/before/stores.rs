//! The guest's stores to its own tables, as far as KVM emulated them, and what they cleared.

use std::collections::{BTreeMap, HashMap};

use events::{Cause, Gpa, Gpte, Hpa, Spte, TimeNs, VcpuId};
use trace::{EntryRow, FaultRow, Record, WriteRow};

use crate::explain::facts::{Store, gpa};

/// Shadow entries kept of one guest entry: one for each role of its table.
const MAX_CLEARED: usize = 16;
/// Places kept, which is 8 MiB of guest tables. Bounds the memory that a hostile trace takes.
const MAX_PLACES: usize = 1 << 20;

/// What was stored where, up to now.
#[derive(Debug, Default)]
pub(in crate::explain) struct Stores {
    /// The latest store to each guest entry.
    latest: HashMap<u64, Store>,
    /// The latest store of each vCPU: what KVM clears next is its effect.
    open: BTreeMap<VcpuId, u64>,
    /// The latest record that left an entry without a mapping.
    emptied: HashMap<Hpa, EntryRow>,
}

/// The guest entry that an address is in.
fn entry_of(gpa: Gpa) -> u64 {
    gpa.0 & !7
}

impl Stores {
    /// Takes the next record of the VM.
    pub fn see(&mut self, record: &Record) {
        match record {
            Record::Write(row) => self.write(row),
            Record::Entry(row) => self.entry(row),
            _ => {}
        }
    }

    /// A fault is over: what its vCPU clears next is not the effect of a store before, and its
    /// leaf is present.
    pub fn close(&mut self, fault: &FaultRow) {
        self.open.remove(&fault.vcpu);
        if let Some(place) = fault.sptep {
            self.emptied.remove(&place);
        }
    }

    fn write(&mut self, row: &WriteRow) {
        let key = entry_of(row.gpa);
        let known = self.latest.get(&key);
        let same = known.filter(|store| (store.gpa, store.bytes) == (row.gpa, row.bytes));
        let before = same.map(|store| store.value);
        if known.is_some() || self.latest.len() < MAX_PLACES {
            self.latest.insert(key, Store::new(row, before));
            self.open.insert(row.vcpu, key);
        }
    }

    fn entry(&mut self, row: &EntryRow) {
        if row.cause == Cause::GuestWrite
            && let Some(key) = row.vcpu.and_then(|vcpu| self.open.get(&vcpu))
            && let Some(store) = self.latest.get_mut(key)
        {
            clear(store, row);
        }
        if row.spte.is_shadow_present() {
            self.emptied.remove(&row.sptep);
        } else if row.old.is_none_or(Spte::is_shadow_present) && self.emptied.len() < MAX_PLACES {
            self.emptied.insert(row.sptep, row.clone());
        }
    }

    /// The latest store to the guest entry at an address.
    pub fn at(&self, gpa: Gpa) -> Option<&Store> {
        let store = self.latest.get(&entry_of(gpa))?;
        let offset = gpa.0.checked_sub(store.gpa.0)?;
        (offset < u64::from(store.bytes)).then_some(store)
    }

    /// The latest store of a vCPU, if what is cleared now may be its effect.
    pub fn open(&self, vcpu: VcpuId) -> Option<&Store> {
        self.latest.get(self.open.get(&vcpu)?)
    }

    /// The store that a fault is about.
    pub fn of(&self, fault: &FaultRow) -> Option<&Store> {
        self.open(fault.vcpu)
            .filter(|store| is_store_of(store, fault))
    }

    /// The record that emptied an entry last.
    pub fn emptied(&self, place: Hpa) -> Option<&EntryRow> {
        self.emptied.get(&place)
    }
}

/// Adds an entry that a store cleared.
pub(in crate::explain) fn clear(store: &mut Store, row: &EntryRow) {
    if store.cleared.len() < MAX_CLEARED {
        store.cleared.push(row.clone());
    }
}

/// Whether the guest's entry still is what was stored, but for A and D.
pub(super) fn is_kept(store: &Store, gpte: Gpte) -> bool {
    Spte(store.value).without_accessed_dirty() == Spte(gpte.0).without_accessed_dirty()
}

/// Whether a fault is about a store: of the same vCPU, to the same frame, not before the fault.
pub(in crate::explain) fn is_store_of(store: &Store, fault: &FaultRow) -> bool {
    store.vcpu == fault.vcpu
        && store.time_ns >= fault.time_ns
        && is_within(store.time_ns, fault)
        && gpa(fault).map(Gpa::gfn) == Some(store.gpa.gfn())
}

/// Whether a time is not after a fault's end, if the end of its emulation is known.
pub(in crate::explain) fn is_within(time: TimeNs, fault: &FaultRow) -> bool {
    let end = fault.time_ns.0.saturating_add(fault.total_ns.into());
    fault.emulate_ns.is_none() || time.0 <= end
}
