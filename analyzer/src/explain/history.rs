//! What is remembered of a VM while its records go by, to tell what led to one of them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use events::{Cause, Class, Gfn, Gpa, Gpte, Gva, HostEvent, Hpa, PageEvent, Seq, TimeNs, VcpuId};
use trace::{EntryRow, FaultRow, HostRow, PageRow, Record};

use super::{
    guest::guest_walk,
    stores::Stores,
    unsync::{Period, Periods},
};
use crate::replay::PageInfo;

/// A fault, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRef {
    /// Its number among the faults of its VM, from 0.
    pub index: u64,
    /// Its record.
    pub seq: Seq,
    /// When it began.
    pub time: TimeNs,
    /// Whose it was.
    pub vcpu: VcpuId,
    /// What became of it.
    pub class: Class,
    /// Its address.
    pub gva: Gva,
    /// The guest's CR3 then.
    pub cr3: Gpa,
    /// The guest's frame, where there is one.
    pub gfn: Option<Gfn>,
    /// When its leaf was stored, as far as its steps tell; otherwise its end.
    pub stored: TimeNs,
}

impl FaultRef {
    pub(super) fn new(index: u64, row: &FaultRow) -> Self {
        Self {
            index,
            seq: row.seq,
            time: row.time_ns,
            vcpu: row.vcpu,
            class: row.class,
            gva: row.gva,
            cr3: row.cr3,
            gfn: row.gpa.map(Gpa::gfn),
            stored: stored_at(row),
        }
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "fault": self.index, "seq": self.seq.0, "time_ns": self.time.0, "vcpu": self.vcpu.0,
            "class": self.class.name(), "gva": self.gva.0,
        })
    }
}

/// When a fault's leaf was stored.
fn stored_at(row: &FaultRow) -> TimeNs {
    let before = [
        row.exit_ns,
        row.walk_ns,
        row.pfn_ns,
        row.tables_ns,
        row.pfn_tables_ns,
    ];
    let passed = match row.write_ns {
        Some(write) => before
            .into_iter()
            .flatten()
            .chain([write])
            .map(u64::from)
            .sum(),
        None => u64::from(row.total_ns),
    };
    TimeNs(row.time_ns.0.saturating_add(passed))
}

/// Who stored an entry last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The record that tells it.
    pub seq: Seq,
    /// When.
    pub time: TimeNs,
    /// On whose thread.
    pub vcpu: Option<VcpuId>,
    /// As what.
    pub by: By,
}

/// As what an entry was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// As the leaf of a fault.
    Fault(FaultRef),
    /// As a change of its own.
    Change(Cause),
}

impl Writer {
    /// The record that stored an entry.
    pub(super) fn of_entry(row: &EntryRow) -> Self {
        Self {
            seq: row.seq,
            time: row.time_ns,
            vcpu: row.vcpu,
            by: By::Change(row.cause),
        }
    }

    pub(super) fn of_fault(fault: FaultRef) -> Self {
        Self {
            seq: fault.seq,
            time: fault.stored,
            vcpu: Some(fault.vcpu),
            by: By::Fault(fault),
        }
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let (fault, cause) = match self.by {
            By::Fault(fault) => (Some(fault.index), None),
            By::Change(cause) => (None, Some(cause.name())),
        };
        serde_json::json!({
            "seq": self.seq.0, "time_ns": self.time.0, "vcpu": self.vcpu.map(|vcpu| vcpu.0),
            "fault": fault, "cause": cause,
        })
    }
}

/// How the value of a guest entry is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An emulated store left it there.
    Store(Seq, TimeNs),
    /// A fault's walk read it.
    Walk(FaultRef),
}

/// The guest entry behind a shadow entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestEntry {
    /// Where it stands.
    pub place: Gpa,
    /// Which of its table's entries.
    pub index: u16,
    /// What was last known to stand there, and from what.
    pub known: Option<(Gpte, Source)>,
    /// What was known before that.
    pub before: Option<Gpte>,
}

impl GuestEntry {
    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let from = self.known.map(|(_, source)| match source {
            Source::Store(seq, _) => serde_json::json!({"store_seq": seq.0}),
            Source::Walk(fault) => serde_json::json!({"fault": fault.index}),
        });
        serde_json::json!({
            "gpa": self.place.0, "index": self.index, "gpte": self.known.map(|(gpte, _)| gpte.0),
            "known_from": from, "before": self.before.map(|gpte| gpte.0),
        })
    }
}

/// Places kept of each kind. Bounds a hostile trace.
const MAX_PLACES: usize = 1 << 20;
/// Acts of the host that are kept: a change is looked for among the latest.
const MAX_ACTS: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The phase the guest is in, and when it began.
    pub phase: Option<(String, TimeNs)>,
    /// Emulated stores.
    pub stores: Stores,
    /// Times in which pages were unsync.
    pub periods: Periods,
    /// The latest fault of each vCPU.
    pub faults: BTreeMap<VcpuId, FaultRef>,
    /// The latest event of a shadow page on each thread.
    pub pages: BTreeMap<Option<VcpuId>, PageRow>,
    /// Faults so far.
    pub count: u64,
    /// Changes so far.
    pub changes: u64,
    /// The latest acts of the host, each with whether it is over.
    acts: VecDeque<(HostRow, bool)>,
    walks: HashMap<u64, (Gpte, FaultRef)>,
    writers: HashMap<Hpa, Writer>,
    roots: HashMap<Hpa, Gpa>,
    /// Emulated stores to each guest table since it was last used.
    flood: HashMap<Gfn, u32>,
}

impl History {
    /// Takes note of a record of the VM.
    pub(super) fn see(&mut self, record: &Record) {
        self.stores.see(record);
        match record {
            Record::Fault(row) => self.fault(row),
            Record::Entry(row) => {
                self.changes += 1;
                self.periods.entry(row);
                self.writer(row.sptep, Writer::of_entry(row));
            }
            Record::Page(row) => self.page(row),
            Record::Root(row) => self.root(row.root, row.cr3),
            Record::Mark(row) if row.keyframe.is_none() => {
                self.phase = Some((row.name.clone(), row.time_ns));
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
                self.acts.push_back((row.clone(), false));
            }
            Record::Mark(_) | Record::Keyframe(_) | Record::Loss(_) => {}
        }
    }

    fn fault(&mut self, row: &FaultRow) {
        let fault = FaultRef::new(self.count, row);
        self.count += 1;
        self.faults.insert(row.vcpu, fault);
        self.root(row.root, row.cr3);
        self.periods.fault(fault);
        self.stores.close(row);
        if let Some(place) = row.sptep {
            self.writer(place, Writer::of_fault(fault));
        }
        for step in guest_walk(row) {
            let Some(place) = step.place() else { continue };
            // `FNAME(fetch)` says that each table on its way is used as such.
            if row.sptep.is_some() && !self.flood.is_empty() {
                self.flood.remove(&place.gfn());
            }
            if self.walks.len() < MAX_PLACES || self.walks.contains_key(&place.0) {
                self.walks.insert(place.0, (step.gpte, fault));
            }
        }
    }

    fn page(&mut self, row: &PageRow) {
        self.periods.page(row);
        if matches!(row.event, PageEvent::Born | PageEvent::Reused) {
            self.flood.remove(&row.gfn);
        }
        self.pages.insert(row.vcpu, row.clone());
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
    pub(super) fn cr3(&self, root: Hpa) -> Option<Gpa> {
        self.roots.get(&root).copied()
    }

    /// Who stored an entry last; not older than its page.
    pub(super) fn writer_of(&self, place: Hpa, born: Seq) -> Option<Writer> {
        let writer = self.writers.get(&place).copied();
        writer.filter(|writer| writer.seq >= born)
    }

    /// Emulated stores to a guest table since it was last used as one.
    pub(super) fn stores_since_use(&self, gfn: Gfn) -> u32 {
        self.flood.get(&gfn).copied().unwrap_or_default()
    }

    /// The guest entry behind an entry of a shadow page; a direct one has none.
    pub(super) fn guest_entry(&self, page: &PageInfo, index: u16) -> Option<GuestEntry> {
        if page.direct {
            return None;
        }
        let place = Gpa((page.gfn.0 << 12).wrapping_add(u64::from(index) * 8));
        let walk = self.walks.get(&place.0).copied();
        let store = self.stores.at(place);
        let (known, before) = match (store, walk) {
            (Some(store), Some((gpte, fault))) if fault.seq < store.seq => {
                (Some(stored(store)), store.before.map(Gpte).or(Some(gpte)))
            }
            (_, Some((gpte, fault))) => (Some((gpte, Source::Walk(fault))), None),
            (Some(store), None) => (Some(stored(store)), store.before.map(Gpte)),
            (None, None) => (None, None),
        };
        Some(GuestEntry {
            place,
            index,
            known,
            before,
        })
    }

    /// The latest act of the host of one of these kinds that covers a frame; any, if that is unknown.
    pub(super) fn act(&self, kinds: &[HostEvent], gfn: Option<Gfn>) -> Option<&HostRow> {
        let mut acts = self.acts.iter().rev().map(|(row, _)| row);
        acts.find(|row| is_such(row, kinds, gfn))
    }

    /// As [`History::act`], but only what the thread of `vcpu` is still at.
    pub(super) fn open_act(
        &self,
        kinds: &[HostEvent],
        gfn: Option<Gfn>,
        vcpu: Option<VcpuId>,
    ) -> Option<&HostRow> {
        let open = self.acts.iter().rev().filter(|(_, is_over)| !is_over);
        let mut own = open.map(|(row, _)| row).filter(|row| row.vcpu == vcpu);
        own.find(|row| is_such(row, kinds, gfn))
    }

    /// All that was done to a range is known: its acts are over.
    fn settle(&mut self, settled: &HostRow) {
        for (row, is_over) in &mut self.acts {
            *is_over |=
                (row.gfn, row.pages, row.vcpu) == (settled.gfn, settled.pages, settled.vcpu);
        }
    }

    /// The time in which a page is, or last was, unsync.
    pub(super) fn period(&self, spt: Hpa) -> Option<&Period> {
        self.periods.of(spt)
    }
}

fn stored(store: &super::Store) -> (Gpte, Source) {
    (Gpte(store.value), Source::Store(store.seq, store.time))
}

fn is_such(row: &HostRow, kinds: &[HostEvent], gfn: Option<Gfn>) -> bool {
    kinds.contains(&row.event) && gfn.is_none_or(|gfn| covers(row, gfn))
}

/// Whether an act of the host concerns a frame.
pub(super) fn covers(row: &HostRow, gfn: Gfn) -> bool {
    let offset = gfn.0.checked_sub(row.gfn.0);
    offset.is_some_and(|offset| offset < row.pages)
}

#[cfg(test)]
mod tests {
    use events::VmId;

    use super::*;

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
            history.see(&Record::Host(row));
        }
        let open = |gfn, vcpu: Option<u16>| {
            let act = history.open_act(&[HostEvent::Unmap], Some(Gfn(gfn)), vcpu.map(VcpuId));
            act.map(|act| act.seq.0)
        };
        assert_eq!(open(5, None), None, "it is over");
        assert_eq!(open(33, Some(1)), Some(1), "another thread's goes on");
        assert_eq!(open(33, None), None, "of no other thread");
        assert_eq!(open(48, Some(1)), None, "not of this frame");
        let known = history.act(&[HostEvent::Unmap], Some(Gfn(5)));
        assert_eq!(known.map(|act| act.seq.0), Some(0), "it is still known");
    }
}
