//! What is remembered of a VM while its records go by, so that a record can be explained by what
//! led to it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use events::{Cause, Class, Gfn, Gpa, Gpte, Gptes, HostEvent, Hpa, PageEvent, Seq, TimeNs, VcpuId};
use trace::{FaultRow, HostRow, PageRow, Record};

use super::{
    invalidations::Invalidations,
    periods::Periods,
    stores::{Stores, left_by, part},
};
use crate::{
    explain::facts::{
        FaultRef, GpteSource, GuestEntry, KnownGpte, Store, Writer, covers, gpa, guest_walk,
        index_of,
    },
    replay::{PageInfo, VmReplay},
};

/// Entries remembered of each kind. Bounds the memory that a hostile trace takes.
const MAX_PLACES: usize = 1 << 20;
/// Acts of the host that are remembered: the latest ones explain a change.
const MAX_ACTS: usize = 64;

/// A guest entry as a fault's walk read it.
#[derive(Clone, Copy, Debug)]
struct Walked {
    gpte: Gpte,
    /// Its length.
    bytes: u64,
    fault: FaultRef,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::explain) struct History {
    /// The guest's phase.
    pub phase: Option<String>,
    /// Emulated stores.
    pub stores: Stores,
    /// Unsync periods of pages.
    pub periods: Periods,
    /// The latest fault of each vCPU.
    pub faults: BTreeMap<VcpuId, FaultRef>,
    /// The guest table that the latest fault of a vCPU stored to, and when that fault ended.
    stored: BTreeMap<VcpuId, (Gfn, TimeNs)>,
    /// The latest event of a shadow page on each thread.
    pub pages: BTreeMap<Option<VcpuId>, PageRow>,
    /// Number of faults so far.
    pub fault_count: u64,
    /// Number of changed entries so far.
    pub change_count: u64,
    /// The latest acts of the host.
    acts: VecDeque<RecentAct>,
    walks: HashMap<u64, Walked>,
    writers: HashMap<Hpa, Writer>,
    roots: HashMap<Hpa, Gpa>,
    /// The latest moment from which on the guest could store to a table unseen.
    unseen: HashMap<Gfn, Seq>,
    /// Shadow pages that are unsync, by the table that they shadow.
    unsync: BTreeSet<(Gfn, Hpa)>,
    /// There are more than are kept.
    unsync_too_many: bool,
    /// The latest zap of each root.
    zapped_roots: HashMap<Hpa, PageRow>,
    /// When the host took frames away.
    pub invalidations: Invalidations,
    /// Emulated stores to each guest table since KVM last used it as one.
    flood: HashMap<Gfn, u32>,
}

#[derive(Debug)]
struct RecentAct {
    act: HostRow,
    /// Its range has settled: what changes later is not its effect.
    is_over: bool,
}

impl History {
    /// Takes the next record of the VM, before the replay does.
    pub fn see(&mut self, record: &Record, replay: Option<&VmReplay>) {
        if let (Record::Host(row), Some(vm)) = (record, replay) {
            vm.gone(row).iter().for_each(|gone| self.stores.gone(gone));
        }
        let before = match record {
            Record::Write(row) => self.value_before(row.gpa, row.bytes),
            _ => None,
        };
        self.stores.see(record, before);
        self.invalidations.see(record);
        match record {
            Record::Fault(row) => self.fault(row),
            Record::Entry(row) => {
                self.change_count += 1;
                // The links of a fault come before it.
                let ends = !matches!(row.cause, Cause::Prefetch | Cause::GuestWrite);
                if let Some(vcpu) = row.vcpu.filter(|_| ends) {
                    self.stored.remove(&vcpu);
                }
                self.periods.entry(row);
                self.writer(row.sptep, Writer::of_entry(row));
            }
            Record::Page(row) => self.page(row),
            Record::Root(row) => self.root(row.root, row.cr3),
            Record::Mark(row) if row.keyframe.is_none() => {
                self.phase = Some(row.name.clone());
            }
            Record::Write(row) => {
                let known = self.flood.len() < MAX_PLACES;
                if known || self.flood.contains_key(&row.gpa.gfn()) {
                    let count = self.flood.entry(row.gpa.gfn()).or_default();
                    *count = count.saturating_add(1);
                }
            }
            Record::Host(row) => {
                if row.event == HostEvent::Settled {
                    self.settle(row);
                }
                if self.acts.len() == MAX_ACTS {
                    self.acts.pop_front();
                }
                self.acts.push_back(RecentAct {
                    act: row.clone(),
                    is_over: false,
                });
            }
            Record::Mark(_) | Record::Keyframe(_) | Record::Act(_) | Record::Loss(_) => {}
        }
    }

    /// Whether a page is zapped since its table is what the fault in progress stores to, and the
    /// guest is to repeat the store.
    pub fn repeats_store(&self, row: &PageRow) -> bool {
        let stored = row.vcpu.and_then(|vcpu| self.stored.get(&vcpu));
        row.direct == 0 && stored.is_some_and(|(gfn, end)| *gfn == row.gfn && row.time_ns <= *end)
    }

    fn fault(&mut self, row: &FaultRow) {
        let fault = FaultRef::new(self.fault_count, row);
        self.fault_count += 1;
        self.faults.insert(row.vcpu, fault);
        self.stored.remove(&row.vcpu);
        // One without a leaf takes its number at its end: no zap after it is its own.
        let stores = row.class == Class::WriteProtected && row.sptep.is_some();
        if let Some(gfn) = gpa(row).map(Gpa::gfn).filter(|_| stores) {
            let end = row.time_ns.0.saturating_add(row.total_ns);
            let end = row.emulate_ns.map_or(u64::MAX, |_| end);
            self.stored.insert(row.vcpu, (gfn, TimeNs(end)));
        }
        self.root(row.root, row.cr3);
        self.periods.fault(fault);
        self.stores.close(row);
        if let Some(place) = row.sptep {
            self.writer(place, Writer::of_fault(fault));
        }
        for step in guest_walk(row) {
            let Some(place) = step.place() else { continue };
            // `FNAME(fetch)` marks each table of its path as used.
            if row.sptep.is_some() && !self.flood.is_empty() {
                self.flood.remove(&place.gfn());
            }
            if self.walks.len() < MAX_PLACES || self.walks.contains_key(&place.0) {
                let (gpte, bytes) = (step.gpte, step.bytes());
                self.walks.insert(place.0, Walked { gpte, bytes, fault });
            }
        }
    }

    fn page(&mut self, row: &PageRow) {
        self.periods.page(row);
        if matches!(row.event, PageEvent::Born | PageEvent::Reused) {
            self.flood.remove(&row.gfn);
        }
        if row.direct == 0 {
            self.table(row);
        }
        if row.event == PageEvent::Zapped && self.roots.contains_key(&row.spt) {
            self.zapped_roots.insert(row.spt, row.clone());
        }
        self.pages.insert(row.vcpu, row.clone());
    }

    /// A guest table whose shadow page changes its state: before this record nobody may have seen
    /// a store, and nobody does while a page of it is unsync.
    fn table(&mut self, row: &PageRow) {
        match row.event {
            PageEvent::Unsync if self.unsync.len() < MAX_PLACES => {
                self.unsync.insert((row.gfn, row.spt));
            }
            PageEvent::Unsync => self.unsync_too_many = true,
            PageEvent::Sync | PageEvent::Zapped => {
                self.unsync.remove(&(row.gfn, row.spt));
            }
            PageEvent::Born => {}
            _ => return,
        }
        if self.unseen.len() < MAX_PLACES || self.unseen.contains_key(&row.gfn) {
            self.unseen.insert(row.gfn, row.seq);
        }
    }

    fn is_unsync(&self, gfn: Gfn) -> bool {
        let mut pages = self.unsync.range((gfn, Hpa(0))..=(gfn, Hpa(u64::MAX)));
        self.unsync_too_many || pages.next().is_some()
    }

    fn root(&mut self, root: Hpa, cr3: Gpa) {
        if self.roots.len() < MAX_PLACES || self.roots.contains_key(&root) {
            self.roots.insert(root, cr3);
        }
    }

    fn writer(&mut self, place: Hpa, writer: Writer) {
        if self.writers.len() < MAX_PLACES || self.writers.contains_key(&place) {
            self.writers.insert(place, writer);
        }
    }

    /// The guest's CR3 that a root was last used for.
    pub fn cr3(&self, root: Hpa) -> Option<Gpa> {
        self.roots.get(&root).copied()
    }

    /// The zap of a fault's root after the fault had begun.
    pub fn zap_of_root(&self, fault: &FaultRow) -> Option<&PageRow> {
        let zap = self.zapped_roots.get(&fault.root);
        zap.filter(|zap| zap.time_ns >= fault.time_ns)
    }

    /// Who stored an entry last, since its page was born.
    pub fn writer_of(&self, place: Hpa, born: Seq) -> Option<Writer> {
        let writer = self.writers.get(&place).copied();
        writer.filter(|writer| writer.seq >= born)
    }

    /// Emulated stores to a guest table since KVM last used it as one.
    pub fn stores_since_use(&self, gfn: Gfn) -> u32 {
        self.flood.get(&gfn).copied().unwrap_or_default()
    }

    /// The guest entry that an entry of a shadow page shadows; a direct page has none.
    pub fn guest_entry(&self, page: &PageInfo, gptes: Gptes, index: u16) -> Option<GuestEntry> {
        if page.direct {
            return None;
        }
        let gpa = Gpa((page.gfn.0 << 12).wrapping_add(gptes.offset(index)));
        let index = index_of(gpa, gptes.bytes);
        let walk = self.walks.get(&gpa.0).copied();
        let store = self.stores.at(gpa);
        let read = |walked: Walked| KnownGpte {
            gpte: walked.gpte,
            known_from: GpteSource::Walk(walked.fault),
        };
        let (known, before) = match (store, walk) {
            (Some(store), Some(walk)) if walk.fault.seq < store.seq => {
                let before = store.before.map(Gpte).or(Some(walk.gpte));
                (Some(stored(store)), before)
            }
            (_, Some(walk)) => (Some(read(walk)), None),
            (Some(store), None) => (Some(stored(store)), store.before.map(Gpte)),
            (None, None) => (None, None),
        };
        Some(GuestEntry {
            gpa,
            index,
            known,
            before,
        })
    }

    /// The entry at an address as it was walked last, and how far into it the address is.
    fn walked(&self, gpa: Gpa) -> Option<(u64, &Walked)> {
        let starts = [gpa.0, gpa.0 & !7];
        let mut found = starts
            .into_iter()
            .filter_map(|start| Some((gpa.0 - start, self.walks.get(&start)?)));
        found.find(|(offset, walked)| *offset < walked.bytes)
    }

    /// What the guest has where a store of `bytes` goes: as a walk or a store showed it last, if no
    /// store that nobody sees can have come since.
    pub fn value_before(&self, gpa: Gpa, bytes: u32) -> Option<u64> {
        let (offset, walk) = self.walked(gpa).unzip();
        let store = self.stores.last(gpa);
        let (seq, value) = match (walk, store) {
            (Some(walk), store) if store.is_none_or(|store| store.seq < walk.fault.seq) => {
                let fits = u64::from(bytes) <= walk.bytes;
                let offset = offset.filter(|_| fits);
                let value = offset.and_then(|offset| part(walk.gpte.0, Gpa(offset), bytes));
                (walk.fault.seq, value)
            }
            (_, Some(by)) => (by.seq, left_by([by.gpa, gpa], [by.bytes, bytes], by.value)),
            _ => return None,
        };
        if self.is_unsync(gpa.gfn()) {
            return None;
        }
        let unseen = self.unseen.get(&gpa.gfn());
        value.filter(|_| unseen.is_none_or(|unseen| *unseen < seq))
    }

    /// The latest act of the host of one of these kinds that covers a frame; any, if the frame is
    /// unknown.
    pub fn act(&self, kinds: &[HostEvent], gfn: Option<Gfn>) -> Option<&HostRow> {
        let mut acts = self.acts.iter().rev().map(|recent| &recent.act);
        acts.find(|act| is_such(act, kinds, gfn))
    }

    /// As [`History::act`], but only an act that the thread of `vcpu` has not ended yet.
    pub fn open_act(
        &self,
        kinds: &[HostEvent],
        gfn: Option<Gfn>,
        vcpu: Option<VcpuId>,
    ) -> Option<&HostRow> {
        let open = self.acts.iter().rev().filter(|recent| !recent.is_over);
        let mut own = open
            .map(|recent| &recent.act)
            .filter(|act| act.vcpu == vcpu);
        own.find(|act| is_such(act, kinds, gfn))
    }

    /// All that was done to a range is known: the acts on it are over.
    fn settle(&mut self, settled: &HostRow) {
        let range = (settled.gfn, settled.pages, settled.vcpu);
        for RecentAct { act, is_over } in &mut self.acts {
            *is_over |= (act.gfn, act.pages, act.vcpu) == range;
        }
    }
}

fn stored(store: &Store) -> KnownGpte {
    KnownGpte {
        gpte: Gpte(store.value),
        known_from: GpteSource::Store {
            seq: store.seq,
            time_ns: store.time_ns,
        },
    }
}

fn is_such(act: &HostRow, kinds: &[HostEvent], gfn: Option<Gfn>) -> bool {
    kinds.contains(&act.event) && gfn.is_none_or(|gfn| covers(act, gfn))
}

#[cfg(test)]
mod tests {
    use events::{Level, Role, TimeNs, VmId};

    use super::*;
    use crate::replay::blank_fault;

    #[test]
    fn an_act_ends_when_its_range_is_settled() {
        let act = |seq, event, gfn, vcpu: Option<u16>| HostRow {
            seq: Seq(seq),
            time_ns: TimeNs(seq),
            vm: VmId(0),
            vcpu: vcpu.map(VcpuId),
            event,
            slot: None,
            gfn: Gfn(gfn),
            pages: 16,
        };
        let mut history = History::default();
        for row in [
            act(0, HostEvent::Unmap, 0, None),
            act(1, HostEvent::Unmap, 32, Some(1)),
            act(2, HostEvent::Settled, 0, None),
            act(3, HostEvent::Settled, 32, None),
        ] {
            history.see(&Record::Host(row), None);
        }
        let open = |gfn, vcpu: Option<u16>| {
            let act = history.open_act(&[HostEvent::Unmap], Some(Gfn(gfn)), vcpu.map(VcpuId));
            act.map(|act| act.seq.0)
        };
        assert_eq!(open(5, None), None, "it is over");
        assert_eq!(open(33, Some(1)), Some(1), "another thread's is not over");
        assert_eq!(open(33, None), None, "of no other thread");
        assert_eq!(open(48, Some(1)), None, "not of this frame");
        let known = history.act(&[HostEvent::Unmap], Some(Gfn(5)));
        assert_eq!(known.map(|act| act.seq.0), Some(0), "it is still known");
    }

    #[test]
    fn an_entry_is_not_known_where_the_guest_could_store_unseen() {
        const STORED: u64 = 0x5007;
        let walk = |seq| {
            Record::Fault(FaultRow {
                cr3: Gpa(0x1000),
                gpte4: Some(Gpte(0x2003)),
                gpte3: Some(Gpte(0x3003)),
                gpte2: Some(Gpte(0x4003)),
                gpte1: Some(Gpte(STORED)),
                ..blank_fault(Seq(seq))
            })
        };
        let page = |seq, event| {
            Record::Page(PageRow {
                seq: Seq(seq),
                time_ns: TimeNs(seq),
                vm: VmId(0),
                vcpu: Some(VcpuId(0)),
                event,
                spt: Hpa(0x9000),
                gfn: Gfn(4),
                role: Role(0),
                level: Level(1),
                direct: 0,
                unsync: 0,
            })
        };
        let mut history = History::default();
        for (record, known) in [
            (walk(1), true),
            (page(2, PageEvent::Unsync), false),
            (walk(3), false),
            (page(4, PageEvent::Sync), false),
            (walk(5), true),
            (page(6, PageEvent::Zapped), false),
            (walk(7), true),
            (page(8, PageEvent::Born), false),
            (walk(9), true),
        ] {
            history.see(&record, None);
            let value = history.value_before(Gpa(0x4000), 8);
            assert_eq!(value, known.then_some(STORED), "{:?}", record.seq());
        }
    }
}
