//! Finding a fault, and gathering what surrounds it.

use std::collections::BTreeMap;

use events::{Cause, Class, Gpa, Gva, Hpa, Level, Seq, VcpuId, VmId};
use trace::{EntryRow, FaultRow, PageRow, Record, Trace};

use super::{
    ExplainError, Explanation, Followed, PageChange, Store,
    guest::{self, guest_walk},
    stores::{Late, Stores},
};
use crate::{
    replay::{Gaps, Replay, Walk},
    study::replay_options,
};

/// Which fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// By its number among the faults of the VM, from 0, in the order of the trace.
    Index(u64),
    /// The `nth` fault, from 0, on the 4 KiB page of an address.
    Gva(Gva, u64),
    /// The `nth` fault, from 0, of a class.
    Class(Class, u64),
}

impl Selector {
    fn matches(self, row: &FaultRow) -> bool {
        match self {
            Selector::Index(_) => true,
            Selector::Gva(gva, _) => row.gva.0 >> 12 == gva.0 >> 12,
            Selector::Class(class, _) => row.class == class,
        }
    }

    fn nth(self) -> u64 {
        match self {
            Selector::Index(nth) | Selector::Gva(_, nth) | Selector::Class(_, nth) => nth,
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Selector::Index(index) => write!(f, "number {index}, counted from 0"),
            Selector::Gva(gva, nth) => {
                write!(f, "number {nth}, counted from 0, on the page of gva {gva}")
            }
            Selector::Class(class, nth) => {
                write!(f, "number {nth}, counted from 0, of class {}", class.name())
            }
        }
    }
}

/// Records read behind the fault to see what followed.
const LOOK_AHEAD: u32 = 20_000;
/// Later faults nearby that are told.
const NEXT_FAULTS: usize = 3;
/// Neighbours mapped ahead: KVM's `PTE_PREFETCH_NUM` is 8, the fault's own included.
const MAX_PREFETCHED: usize = 7;
/// Page events kept for a vCPU between two faults.
const MAX_CHANGES: usize = 64;

/// Finds a fault of `vm`. `progress` gets the number of records read so far, now and then.
pub fn find(
    trace: &Trace,
    vm: VmId,
    selector: Selector,
    progress: &mut dyn FnMut(u64),
) -> Result<Explanation, ExplainError> {
    let mut finder = Finder {
        vm,
        replay: Replay::new(replay_options(trace)),
        gaps: Gaps::default(),
        changes: BTreeMap::new(),
        stores: Stores::default(),
        faults: 0,
        matching: 0,
    };
    let mut records = trace.records();
    let mut read = 0;
    for record in records.by_ref() {
        let record = record?;
        read += 1;
        if u64::is_multiple_of(read, 1 << 16) {
            progress(read);
        }
        if let Some(fault) = finder.next(&record, selector) {
            let mut explanation = finder.explanation(trace, fault);
            look_ahead(vm, &mut explanation, &mut records);
            return Ok(explanation);
        }
    }
    let Finder {
        faults, matching, ..
    } = finder;
    Err(ExplainError::NoSuchFault {
        wanted: selector.to_string(),
        faults,
        matching,
    })
}

struct Finder {
    vm: VmId,
    replay: Replay,
    gaps: Gaps,
    changes: BTreeMap<VcpuId, Vec<PageChange>>,
    stores: Stores,
    faults: u64,
    matching: u64,
}

impl Finder {
    /// Applies a record; gives the fault if it is the one.
    fn next(&mut self, record: &Record, selector: Selector) -> Option<FaultRow> {
        if matches!(record, Record::Loss(_)) {
            return None;
        }
        self.gaps.observe(record.seq(), record.time());
        if record.vm() != self.vm {
            return None;
        }
        self.replay.apply(record);
        self.stores.see(record);
        match record {
            Record::Fault(row) => {
                self.faults += 1;
                if selector.matches(row) {
                    self.matching += 1;
                    if self.matching == selector.nth().saturating_add(1) {
                        return Some(row.clone());
                    }
                }
                self.changes.remove(&row.vcpu);
                self.stores.close(row);
            }
            Record::Page(row) => self.change(row),
            _ => {}
        }
        None
    }

    fn change(&mut self, row: &PageRow) {
        let Some(vcpu) = row.vcpu else { return };
        let changes = self.changes.entry(vcpu).or_default();
        if changes.len() < MAX_CHANGES {
            changes.push(PageChange {
                event: row.event,
                spt: row.spt,
                gfn: row.gfn.0,
                level: row.level.0,
                direct: row.direct != 0,
            });
        }
    }

    fn walk(&self, row: &FaultRow) -> Walk {
        match self.replay.vm(self.vm) {
            Some(vm) => vm.walk(row.root, row.gva),
            None => Walk {
                root: row.root,
                steps: Vec::new(),
                mapping: None,
            },
        }
    }

    fn explanation(&mut self, trace: &Trace, fault: FaultRow) -> Explanation {
        let replay = self.replay.vm(self.vm);
        let since = replay.and_then(|vm| vm.last_keyframe()).unwrap_or(Seq(0));
        let mut shadows_of_frame = Vec::new();
        if let (Some(replay), Some(gfn)) = (replay, guest::gpa(&fault).map(Gpa::gfn)) {
            let shadows = replay
                .tables()
                .pages()
                .filter(|page| !page.info.direct && page.info.gfn == gfn);
            shadows_of_frame = shadows
                .map(|page| (page.info.spt, page.info.level, page.info.unsync))
                .collect();
            shadows_of_frame.sort();
        }
        let stored = |gpa| self.stores.at(gpa).cloned();
        let stores: Vec<(Level, Store)> = guest_walk(&fault)
            .iter()
            .filter_map(|step| {
                let store: Store = stored(step.place()?)?;
                // Once a table is not shadowed, stores to it are not seen: the latest may be older.
                store.is_kept_by(step.gpte).then_some((step.level, store))
            })
            .collect();
        // A page made since has entries of its own.
        let since_born = |place: Hpa| {
            let page = replay.and_then(|vm| vm.tables().page(place.table()));
            page.map_or(Seq(0), |page| page.since)
        };
        let emptied = fault.sptep.and_then(|place| {
            let row = self.stores.emptied(place)?;
            (row.seq >= since_born(place)).then(|| row.clone())
        });
        let no_gpte = guest_walk(&fault).is_empty();
        let is_direct = fault.sptep.is_some_and(|place| {
            let page = replay.and_then(|vm| vm.tables().page(place.table()));
            page.is_some_and(|page| page.info.direct)
        });
        Explanation {
            is_unpaged: no_gpte && is_direct,
            store: self.stores.of(&fault).cloned(),
            stores,
            emptied,
            index: self.faults.saturating_sub(1),
            start_ns: trace.span_ns().map_or(0, |[start, _]| start),
            vm: trace
                .meta()
                .vms
                .iter()
                .find(|vm| vm.vm == self.vm.0)
                .cloned(),
            shadow: self.walk(&fault),
            on_the_way: self.changes.remove(&fault.vcpu).unwrap_or_default(),
            shadows_of_frame,
            followed: Vec::new(),
            missing: self.gaps.missing_between(since, fault.seq),
            fault,
        }
    }
}

/// What came next. Damage further on does not matter: the fault itself is told.
fn look_ahead(vm: VmId, explanation: &mut Explanation, records: &mut trace::Records<'_>) {
    let fault = explanation.fault.clone();
    let mut at_fault = true;
    let mut later = 0;
    let mut index = explanation.index;
    let mut late = Late::default();
    for record in records.take(LOOK_AHEAD as usize) {
        let Ok(record) = record else { break };
        if record.vm() != vm {
            continue;
        }
        if at_fault && explanation.store.is_none() {
            late.see(&record, &fault);
        }
        match &record {
            Record::Entry(row) if at_fault && row.vcpu == Some(fault.vcpu) => {
                match row.cause {
                    Cause::Prefetch => prefetched(explanation, row),
                    Cause::GuestWrite => {}
                    // A fault's links come before it: these are the next one's.
                    _ => at_fault = false,
                }
            }
            Record::Fault(row) => {
                index += 1;
                at_fault &= row.vcpu != fault.vcpu;
                if row.gva.0 >> 21 == fault.gva.0 >> 21 {
                    let after_ns = row.time_ns.0.saturating_sub(fault.time_ns.0);
                    explanation.followed.push(Followed::Fault {
                        index,
                        class: row.class,
                        gva: row.gva,
                        after_ns,
                    });
                    later += 1;
                }
            }
            _ => {}
        }
        if later >= NEXT_FAULTS {
            break;
        }
    }
    explanation.store = explanation.store.take().or(late.store());
}

fn prefetched(explanation: &mut Explanation, row: &EntryRow) {
    let seen = explanation
        .followed
        .iter()
        .filter(|next| matches!(next, Followed::Prefetched { .. }))
        .count();
    if seen >= MAX_PREFETCHED {
        return;
    }
    let fault = &explanation.fault;
    let table = fault
        .sptep
        .filter(|place| place.table() == row.sptep.table());
    let gva = table
        .zip(fault.level)
        .and_then(|(place, level)| neighbour(fault.gva, level, place.index(), row.sptep.index()));
    explanation.followed.push(Followed::Prefetched {
        place: row.sptep,
        spte: row.spte,
        gva,
    });
}

/// The address that another entry of the same table translates.
fn neighbour(gva: Gva, level: Level, own: u16, other: u16) -> Option<Gva> {
    level.index(gva).filter(|index| *index == own)?;
    let span = level.pages() << 12;
    let base = gva.0 & !(span - 1);
    Some(Gva(base
        .wrapping_add(span.wrapping_mul(u64::from(other)))
        .wrapping_sub(span.wrapping_mul(u64::from(own)))))
}
