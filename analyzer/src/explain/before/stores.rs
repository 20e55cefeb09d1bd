//! The guest's stores to its own tables, as far as KVM emulated them, and what they cleared.

use std::collections::{BTreeMap, HashMap};

use events::{Cause, Gpa, Gpte, Hpa, Spte, TimeNs, VcpuId};
use trace::{EntryRow, FaultRow, PageRow, Record, WriteRow};

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
    /// Takes the next record of the VM; of a store, `before` is what was there.
    pub fn see(&mut self, record: &Record, before: Option<u64>) {
        match record {
            Record::Write(row) => self.write(row, before),
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

    fn write(&mut self, row: &WriteRow, before: Option<u64>) {
        let key = entry_of(row.gpa);
        let last = row
            .gpa
            .0
            .saturating_add(row.bytes.saturating_sub(1).min(4095).into());
        // One that crosses entries changes them all.
        for key in (key..=last).step_by(8) {
            if self.latest.contains_key(&key) || self.latest.len() < MAX_PLACES {
                self.latest.insert(key, Store::new(row, before));
            }
        }
        if self.latest.contains_key(&key) {
            self.open.insert(row.vcpu, key);
        }
    }

    /// The latest store that changed the guest entry at an address, or a part of it.
    pub fn last(&self, gpa: Gpa) -> Option<&Store> {
        self.latest.get(&entry_of(gpa))
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
        } else if row.cause != Cause::Reread || !self.emptied.contains_key(&row.sptep) {
            // Read again it may have been empty before.
            self.gone(row);
        }
    }

    /// An entry has no mapping any more.
    pub fn gone(&mut self, row: &EntryRow) {
        if row.old.is_none_or(Spte::is_shadow_present) && self.emptied.len() < MAX_PLACES {
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

    /// The latest store of a vCPU, if it is to the table of the page that an event of it is about.
    pub fn open_on(&self, row: &PageRow) -> Option<&Store> {
        let store = self.open(row.vcpu?);
        store.filter(|store| row.direct == 0 && store.gpa.gfn() == row.gfn)
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

/// The bytes that a store of `bytes` at `gpa` replaces in a guest entry; unknown if it crosses
/// entries.
pub(in crate::explain) fn part(entry: u64, gpa: Gpa, bytes: u32) -> Option<u64> {
    let offset = (gpa.0 & 7) as u32;
    if bytes == 0 || offset + bytes.min(9) > 8 {
        return None;
    }
    let unused = 64 - 8 * bytes;
    Some(entry >> (8 * offset) << unused >> unused)
}

/// What a store left where another one of `bytes` at `gpa` goes; unknown if it left a part.
pub(in crate::explain) fn left_by(
    [stored_at, gpa]: [Gpa; 2],
    [stored_bytes, bytes]: [u32; 2],
    value: u64,
) -> Option<u64> {
    match (stored_at, stored_bytes) {
        same if same == (gpa, bytes) => Some(value),
        (at, 8) if at.0 == entry_of(gpa) => part(value, gpa, bytes),
        _ => None,
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
    let end = fault.time_ns.0.saturating_add(fault.total_ns);
    fault.emulate_ns.is_none() || time.0 <= end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_replaces_its_bytes_of_the_entry() {
        let entry = 0x8877_6655_4433_2211;
        for (gpa, bytes, expected) in [
            (0x1000, 8, Some(entry)),
            (0x1000, 4, Some(0x4433_2211)),
            (0x1004, 4, Some(0x8877_6655)),
            (0x1006, 2, Some(0x8877)),
            (0x1007, 2, None),
            (0x1004, 8, None),
            (0x1000, 16, None),
            (0x1000, 0, None),
            (0x1000, u32::MAX, None),
        ] {
            assert_eq!(part(entry, Gpa(gpa), bytes), expected, "{gpa:#x}, {bytes}");
        }
    }

    #[test]
    fn a_partial_store_leaves_an_entry_that_is_not_known() {
        let left = |at, bytes: [u32; 2]| left_by(at, bytes, 0x1_0000_0027);
        let (low, high) = (Gpa(0x1000), Gpa(0x1004));
        assert_eq!(left([low, low], [8, 8]), Some(0x1_0000_0027));
        assert_eq!(left([low, high], [8, 4]), Some(1));
        assert_eq!(left([low, low], [4, 8]), None);
        assert_eq!(left([low, high], [4, 4]), None);
    }
}
