//! A record that is neither a fault nor a change: a store, an act of the host, a root, a mark.

use std::collections::BTreeSet;

use events::{Cause, Gpa, Hpa, Level, PageEvent, Spte, TimeNs, VcpuId};
use trace::{EntryRow, HostRow, PageRow, Record, RootRow};

use super::{
    Store,
    history::{FaultRef, GuestEntry, History, Writer, covers},
    ways::Ways,
};
use crate::replay::{CurrentRoot, VmReplay};

/// Such a record with what surrounds it.
#[derive(Clone, Debug)]
pub struct Act {
    /// The record.
    pub record: Record,
    /// First time of the trace, ns.
    pub start_ns: u64,
    /// The guest's phase and its beginning.
    pub phase: Option<(String, TimeNs)>,
    /// For a store to a shadowed table: its shadow pages, with the entry that the store concerns.
    pub shadows: Vec<Shadow>,
    /// The guest's entry that a store concerns, as it was before.
    pub guest: Option<GuestEntry>,
    /// Stores to that table since it was last used, this one included.
    pub stores: u32,
    /// For a root: the one before.
    pub root_before: Option<CurrentRoot>,
    /// For a root: whether replay knows it, and how many entries it has.
    pub root_entries: Option<u32>,
    /// Entries that changed because of it: the first few.
    pub changed: Vec<EntryRow>,
    /// How many in all.
    pub changed_total: u64,
    /// Shadow pages that were zapped because of it.
    pub zapped: Vec<PageRow>,
    /// Who first made an entry again that it took away, and how much later, ns.
    pub back: Option<(Writer, u64)>,
    gone: BTreeSet<Hpa>,
    faults: u64,
    is_over: bool,
}

/// A shadow page of the table that a store concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// The page.
    pub spt: Hpa,
    /// Its level.
    pub level: Level,
    /// The guest may write the table.
    pub unsync: bool,
    /// Where its entry stands.
    pub place: Hpa,
    /// The entry, before.
    pub spte: Spte,
    /// The addresses it translates.
    pub ways: Ways,
}

/// Changes that are told of one act.
const MAX_CHANGED: usize = 8;
/// Places whose return is looked for.
const MAX_GONE: usize = 4096;

impl Act {
    /// What is known when the record comes; neither `replay` nor `history` has it yet.
    pub(super) fn new(record: &Record, replay: Option<&VmReplay>, history: &History) -> Self {
        let mut act = Self {
            record: record.clone(),
            start_ns: 0,
            phase: history.phase.clone(),
            shadows: Vec::new(),
            guest: None,
            stores: 0,
            root_before: None,
            root_entries: None,
            changed: Vec::new(),
            changed_total: 0,
            zapped: Vec::new(),
            back: None,
            gone: BTreeSet::new(),
            faults: history.count,
            is_over: false,
        };
        match (record, replay) {
            (Record::Write(row), Some(replay)) => act.store(row.gpa, replay, history),
            (Record::Root(row), Some(replay)) => act.root(row, replay),
            _ => {}
        }
        act
    }

    fn store(&mut self, gpa: Gpa, replay: &VmReplay, history: &History) {
        let index = ((gpa.0 & 0xfff) / 8) as u16;
        self.stores = history.stores_since_use(gpa.gfn()).saturating_add(1);
        let pages = replay.tables().pages();
        for page in pages.filter(|page| !page.info.direct && page.info.gfn == gpa.gfn()) {
            self.guest = self
                .guest
                .or_else(|| history.guest_entry(&page.info, index));
            let place = page.place(index);
            self.shadows.push(Shadow {
                spt: page.info.spt,
                level: page.info.level,
                unsync: page.info.unsync,
                place,
                spte: page.entry(index),
                ways: Ways::to(place, replay, history),
            });
        }
        self.shadows.sort_by_key(|shadow| shadow.spt);
    }

    fn root(&mut self, row: &RootRow, replay: &VmReplay) {
        self.root_before = replay.roots().get(&row.vcpu).copied();
        let page = replay.tables().page(row.root.table());
        self.root_entries = page.map(|page| page.present());
    }

    /// The store itself, if it is one.
    pub fn as_store(&self) -> Option<Store> {
        match &self.record {
            Record::Write(row) => Some(Store::new(
                row,
                self.guest.and_then(|guest| Some(guest.known?.0.0)),
            )),
            _ => None,
        }
    }

    /// Whether an entry was emptied by it.
    pub fn emptied(&self) -> bool {
        !self.gone.is_empty()
    }

    /// All that was looked for is found.
    pub(super) fn is_done(&self) -> bool {
        match &self.record {
            Record::Write(_) | Record::Host(_) => {
                self.is_over && (self.back.is_some() || self.gone.is_empty())
            }
            _ => true,
        }
    }

    /// Takes note of a later record of the VM.
    pub(super) fn see(&mut self, record: &Record) {
        let own = self.vcpu();
        match record {
            Record::Entry(row)
                if row.spte.is_shadow_present() && self.gone.contains(&row.sptep) =>
            {
                self.returns(Writer::of_entry(row));
            }
            Record::Entry(row) if !self.is_over && self.is_its(row) => {
                self.changed_total += 1;
                if self.changed.len() < MAX_CHANGED {
                    self.changed.push(row.clone());
                }
                if !row.spte.is_shadow_present() && self.gone.len() < MAX_GONE {
                    self.gone.insert(row.sptep);
                }
            }
            Record::Page(row) if row.event == PageEvent::Zapped && row.vcpu == own => {
                let stored =
                    matches!(&self.record, Record::Write(write) if write.gpa.gfn() == row.gfn);
                if !self.is_over && stored && self.zapped.len() < MAX_CHANGED {
                    self.zapped.push(row.clone());
                }
            }
            Record::Write(row) if Some(row.vcpu) == own => self.is_over = true,
            Record::Host(row) if row.vcpu == own => self.is_over = true,
            Record::Fault(row) => {
                let fault = FaultRef::new(self.faults, row);
                self.faults += 1;
                // The fault that a store is emulated in comes after it, without a leaf.
                self.is_over |= Some(row.vcpu) == own && row.sptep.is_some();
                if row.sptep.is_some_and(|place| self.gone.contains(&place)) {
                    self.returns(Writer::of_fault(fault));
                }
            }
            _ => {}
        }
    }

    /// An entry that it took away is there again.
    fn returns(&mut self, by: Writer) {
        let after = by.time.0.saturating_sub(self.record.time().0);
        self.back.get_or_insert((by, after));
        self.is_over = true;
    }

    fn vcpu(&self) -> Option<VcpuId> {
        match &self.record {
            Record::Write(row) => Some(row.vcpu),
            Record::Host(row) => row.vcpu,
            _ => None,
        }
    }

    /// Whether a change is this act's doing.
    fn is_its(&self, row: &EntryRow) -> bool {
        match &self.record {
            Record::Write(write) => row.cause == Cause::GuestWrite && row.vcpu == Some(write.vcpu),
            Record::Host(host) => {
                let cause = matches!(
                    row.cause,
                    Cause::HostUnmap | Cause::DirtyLog | Cause::Memslot | Cause::Reread
                );
                cause && row.vcpu == host.vcpu && row.gfn.is_none_or(|gfn| covers(host, gfn))
            }
            _ => false,
        }
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let record = match &self.record {
            Record::Write(_) => {
                serde_json::json!({"store": self.as_store().map(|store| store.json())})
            }
            Record::Host(row) => serde_json::json!({"host": host_json(row)}),
            Record::Root(row) => serde_json::json!({"root": {
                "vcpu": row.vcpu.0, "cr3": row.cr3.0, "root": row.root.0, "level": row.level.0,
                "cr3_before": self.root_before.map(|before| before.cr3.0),
                "root_before": self.root_before.map(|before| before.root.0),
                "entries": self.root_entries,
            }}),
            Record::Mark(row) => serde_json::json!({"mark": {
                "name": row.name, "vcpu": row.vcpu.map(|vcpu| vcpu.0), "keyframe": row.keyframe, "pages": row.pages,
            }}),
            Record::Keyframe(page) => serde_json::json!({"keyframe_page": {
                "keyframe": page.keyframe, "spt": page.spt.0, "gfn": page.gfn.0, "level": page.level.0,
                "entries": page.entries.len(), "unsync": page.unsync,
            }}),
            Record::Fault(_) | Record::Entry(_) | Record::Page(_) | Record::Loss(_) => {
                serde_json::json!({})
            }
        };
        let shadows: Vec<_> = self
            .shadows
            .iter()
            .map(|shadow| {
                serde_json::json!({
                    "spt": shadow.spt.0, "level": shadow.level.0, "unsync": shadow.unsync,
                    "sptep": shadow.place.0, "spte": shadow.spte.0, "translates": shadow.ways.json(),
                })
            })
            .collect();
        let changed: Vec<_> = self
            .changed
            .iter()
            .map(|row| {
                serde_json::json!({
                    "seq": row.seq.0, "cause": row.cause.name(), "sptep": row.sptep.0,
                    "old": row.old.map(|old| old.0), "spte": row.spte.0,
                })
            })
            .collect();
        let zapped: Vec<_> = self.zapped.iter().map(|row| row.spt.0).collect();
        serde_json::json!({
            "seq": self.record.seq().0, "time_ns": self.record.time().0, "vm": self.record.vm().0,
            "phase": self.phase.as_ref().map(|(name, _)| name), "record": record, "shadow_pages": shadows,
            "stores_since_use": self.stores, "changed": changed, "changed_total": self.changed_total,
            "zapped": zapped,
            "back": self.back.as_ref().map(|(by, after)| serde_json::json!({
                "by": by.json(), "after_ns": after,
            })),
        })
    }
}

/// An act of the host's as JSON.
pub(super) fn host_json(row: &HostRow) -> serde_json::Value {
    serde_json::json!({
        "seq": row.seq.0, "time_ns": row.time_ns.0, "vcpu": row.vcpu.map(|vcpu| vcpu.0),
        "event": row.event.name(), "slot": row.slot.map(|slot| slot.0), "gfn": row.gfn.0, "pages": row.pages,
    })
}
