//! The guest's stores to its own tables, as far as KVM emulated them, and what they took away.

use std::collections::{BTreeMap, HashMap};

use events::{Cause, Gpa, Gpte, Hpa, Level, Seq, Spte, TimeNs, VcpuId};
use trace::{EntryRow, FaultRow, Record, WriteRow};

use super::guest;

/// A store that KVM emulated, because the table is write-protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Its record.
    pub seq: Seq,
    /// When.
    pub time: TimeNs,
    /// Who stored.
    pub vcpu: VcpuId,
    /// Where it went.
    pub gpa: Gpa,
    /// How many bytes.
    pub bytes: u32,
    /// The first eight of them.
    pub value: u64,
    /// What the store before left there; unknown for the first one seen.
    pub before: Option<u64>,
    /// Shadow entries that it made stale, so that KVM cleared them.
    pub cleared: Vec<Cleared>,
}

/// A shadow entry that KVM changed because the guest's entry behind it was stored to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// Where it stands.
    pub place: Hpa,
    /// Level of its table.
    pub level: Level,
    /// Its value before, where it was read.
    pub old: Option<Spte>,
    /// Its value after.
    pub new: Spte,
}

impl Store {
    pub(super) fn new(row: &WriteRow, before: Option<u64>) -> Self {
        Self {
            seq: row.seq,
            time: row.time_ns,
            vcpu: row.vcpu,
            gpa: row.gpa,
            bytes: row.bytes,
            value: row.value,
            before,
            cleared: Vec::new(),
        }
    }

    /// Whether the guest's entry is still what was stored, but for the bits set by an access.
    pub(super) fn is_kept_by(&self, gpte: Gpte) -> bool {
        Spte(self.value).without_accessed_dirty() == Spte(gpte.0).without_accessed_dirty()
    }

    fn covers(&self, gpa: Gpa) -> bool {
        let offset = gpa.0.checked_sub(self.gpa.0);
        offset.is_some_and(|offset| offset < u64::from(self.bytes))
    }

    /// Adds an entry that this store cleared.
    fn clear(&mut self, row: &EntryRow) {
        if self.cleared.len() < MAX_CLEARED {
            self.cleared.push(Cleared {
                place: row.sptep,
                level: row.level,
                old: row.old,
                new: row.spte,
            });
        }
    }

    /// Whether a fault is this store's: of the same vCPU, to the same frame, not before it.
    fn is_of(&self, fault: &FaultRow) -> bool {
        self.vcpu == fault.vcpu
            && self.time >= fault.time_ns
            && is_within(self.time, fault)
            && guest::gpa(fault).map(Gpa::gfn) == Some(self.gpa.gfn())
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let cleared: Vec<_> = self
            .cleared
            .iter()
            .map(|entry| {
                serde_json::json!({
                    "sptep": entry.place.0, "level": entry.level.0, "old": entry.old.map(|old| old.0),
                    "spte": entry.new.0,
                })
            })
            .collect();
        serde_json::json!({
            "seq": self.seq.0, "time_ns": self.time.0, "vcpu": self.vcpu.0, "gpa": self.gpa.0,
            "bytes": self.bytes, "value": self.value, "before": self.before, "cleared": cleared,
        })
    }
}

/// Whether a moment is not behind a fault's end, where its emulation is seen to end.
pub(super) fn is_within(time: TimeNs, fault: &FaultRow) -> bool {
    let end = fault.time_ns.0.saturating_add(fault.total_ns.into());
    fault.emulate_ns.is_none() || time.0 <= end
}

/// Shadow entries of one guest entry that are told: one for each role of its table.
const MAX_CLEARED: usize = 16;
/// Places kept. Bounds a hostile trace; 8 MiB of guest tables.
const MAX_PLACES: usize = 1 << 20;

/// What was stored where, up to now.
#[derive(Debug, Default)]
pub(super) struct Stores {
    /// The latest store to each guest entry.
    latest: HashMap<u64, Store>,
    /// The latest store of each vCPU: what is cleared next is its doing.
    open: BTreeMap<VcpuId, u64>,
    /// The latest record that left an entry without a mapping.
    emptied: HashMap<Hpa, EntryRow>,
}

/// The guest entry that an address is in.
fn entry_of(gpa: Gpa) -> u64 {
    gpa.0 & !7
}

impl Stores {
    /// Takes note of a record of the VM.
    pub(super) fn see(&mut self, record: &Record) {
        match record {
            Record::Write(row) => self.write(row),
            Record::Entry(row) => self.entry(row),
            _ => {}
        }
    }

    /// A fault is over: what its vCPU clears next is no doing of a store before, and its leaf is
    /// there.
    pub(super) fn close(&mut self, fault: &FaultRow) {
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
            store.clear(row);
        }
        if row.spte.is_shadow_present() {
            self.emptied.remove(&row.sptep);
        } else if row.old.is_none_or(Spte::is_shadow_present) && self.emptied.len() < MAX_PLACES {
            self.emptied.insert(row.sptep, row.clone());
        }
    }

    /// The latest store to the guest entry at an address.
    pub(super) fn at(&self, gpa: Gpa) -> Option<&Store> {
        let store = self.latest.get(&entry_of(gpa));
        store.filter(|store| store.covers(gpa))
    }

    /// The latest store of a vCPU, if it may have an effect still.
    pub(super) fn open(&self, vcpu: VcpuId) -> Option<&Store> {
        self.latest.get(self.open.get(&vcpu)?)
    }

    /// The store that a fault is about.
    pub(super) fn of(&self, fault: &FaultRow) -> Option<&Store> {
        let store = self.latest.get(self.open.get(&fault.vcpu)?)?;
        store.is_of(fault).then_some(store)
    }

    /// The record that emptied an entry last.
    pub(super) fn emptied(&self, place: Hpa) -> Option<&EntryRow> {
        self.emptied.get(&place)
    }
}

/// A store that comes after the fault's own record.
#[derive(Debug, Default)]
pub(super) struct Late(Option<Store>);

impl Late {
    /// Takes note of a record of the fault's vCPU behind the fault.
    pub(super) fn see(&mut self, record: &Record, fault: &FaultRow) {
        match (record, &mut self.0) {
            (Record::Write(row), None) => {
                self.0 = Some(Store::new(row, None)).filter(|store| store.is_of(fault));
            }
            (Record::Entry(row), Some(store))
                if row.cause == Cause::GuestWrite && row.vcpu == Some(fault.vcpu) =>
            {
                store.clear(row);
            }
            _ => {}
        }
    }

    /// The store, if one came.
    pub(super) fn store(self) -> Option<Store> {
        self.0
    }
}
