//! What passes over the records find: the fault for the lesson, and what came before and after it.

use std::collections::{BTreeMap, HashMap};

use events::{Class, ErrorCode, Gpa, Gpte, Gva, Level, Seq, TimeNs, VmId};
use trace::{FaultRow, Record, Trace, TraceError};

use super::LessonError;
use crate::{
    explain::{self, ExplainError, Explanation, FaultFacts, Selector},
    faults::{GuestStep, guest_walk},
    replay::{Replay, Step, VmReplay},
    study::replay_options,
};

/// Accessed and dirty, which a walk sets: the guest's store has them or not.
const SET_BY_WALKS: u64 = 0x60;

/// Pages after that of the fault whose entries the last step shows.
const NEXT: u64 = 2;

/// The guest's entry that maps the page, if the walk came so far.
fn leaf(row: &FaultRow) -> Option<GuestStep> {
    let last = guest_walk(row).pop();
    last.filter(|step| step.level == Level(1) && step.is_leaf())
}

/// See [`super::choose`]; none if no shadow fault has a walk to level 1.
pub(super) fn choose(trace: &Trace, vm: VmId) -> Result<Option<Seq>, LessonError> {
    let mut stored: HashMap<Gpa, u64> = HashMap::new();
    let mut first = None;
    for record in trace.records() {
        match record? {
            Record::Write(row) if row.vm == vm => _ = stored.insert(row.gpa, row.value),
            Record::Fault(row) if row.vm == vm && row.class == Class::Shadow => {
                let Some(leaf) = leaf(&row) else { continue };
                first = first.or(Some(row.seq));
                let value = leaf.place().and_then(|place| stored.get(&place));
                if value.is_some_and(|value| (value ^ leaf.gpte.0) & !SET_BY_WALKS == 0) {
                    return Ok(Some(row.seq));
                }
            }
            _ => {}
        }
    }
    if first.is_none() {
        return Ok(None);
    }
    let own = Selector::Class(Class::Shadow, None);
    match explain::find(trace, vm, own, &mut |_| {}) {
        Ok(Explanation::Fault(own)) if leaf(&own.row).is_some() => Ok(Some(own.row.seq)),
        Ok(_) | Err(ExplainError::NoSuch { .. }) => Ok(first),
        Err(error) => Err(error.into()),
    }
}

/// A guest entry with the bits that KVM's walk sets: A at each level, D in the entry that maps the
/// page of a store. A walk that finds no page sets none.
pub(super) fn walked(step: &GuestStep, of: &FaultRow) -> Gpte {
    let ends = guest_walk(of).last().is_some_and(GuestStep::is_leaf);
    if of.class == Class::Guest || !ends {
        return step.gpte;
    }
    let dirty = step.is_leaf() && of.error_code.has(ErrorCode::WRITE);
    Gpte(step.gpte.0 | if dirty { SET_BY_WALKS } else { 0x20 })
}

/// A page that the guest touches after that of the fault.
#[derive(Debug)]
pub(super) struct NextPage {
    /// Its address.
    pub gva: Gva,
    /// Faults on it, to the first that stored its shadow entry.
    pub faults: Vec<(u64, Class)>,
    /// When the first came.
    pub time_ns: Option<TimeNs>,
    /// The last of these stored it.
    pub is_mapped: bool,
    /// The guest's entry, as the last of these read it.
    pub guest: Option<GuestStep>,
    /// The same with the bits that the walk sets.
    pub walked: Option<Gpte>,
    /// The shadow entry after it.
    pub shadow: Option<Step>,
}

/// A fault that KVM passed on to the guest.
#[derive(Debug)]
pub(super) struct PassedOn {
    /// Its number.
    pub index: u64,
    /// Its record.
    pub row: FaultRow,
    /// The shadow tables on the way of the address then.
    pub shadow: Vec<Step>,
}

/// What the recording has beside a fault.
#[derive(Debug)]
pub(super) struct Around {
    /// The shadow tables on the way of the address, before KVM changed any of them.
    pub before: Vec<Step>,
    /// The fault of the same access that KVM passed on to the guest before.
    pub passed_on: Option<PassedOn>,
    /// The fault by which the guest stored its entry of level 1: a store to a protected table.
    pub store_fault: Option<u64>,
    /// The next fault that read the guest's entry of a level, and what it read.
    reads: BTreeMap<u8, (u64, Gpte)>,
    /// The pages after that of the fault, in the same tables.
    pub next: Vec<NextPage>,
    /// Faults of the whole recording in the same table of the lowest level, by class.
    pub in_table: BTreeMap<&'static str, u64>,
    /// Faults of the whole recording that were stores to a write-protected table.
    pub write_protected: u64,
}

impl Around {
    /// Of a fault: one pass over the records.
    pub(super) fn of(trace: &Trace, vm: VmId, of: &FaultFacts) -> Result<Self, TraceError> {
        let row = &of.row;
        let mut around = Self {
            before: Vec::new(),
            passed_on: None,
            store_fault: None,
            reads: BTreeMap::new(),
            next: next_pages(row),
            in_table: BTreeMap::new(),
            write_protected: 0,
        };
        let places = of.guest_walk.iter();
        let mut watched: BTreeMap<Gpa, u8> = places
            .filter_map(|step| Some((step.place()?, step.level.0)))
            .collect();
        let mut replay = Replay::new(replay_options(trace));
        let mut index = 0_u64;
        for record in trace.records() {
            let record = record?;
            replay.apply(&record);
            if record.vm() != vm || matches!(record, Record::Loss(_)) {
                continue;
            }
            let tables = replay.vm(vm);
            // The pages and entries of a fault have their records before its own.
            if record.seq() < row.seq && !matches!(record, Record::Page(_) | Record::Entry(_)) {
                let walk = tables.map(|tables| tables.walk(row.root, row.gva));
                around.before = walk.map_or_else(Vec::new, |walk| walk.steps);
            }
            match &record {
                // From here on the entry is what the guest stored.
                Record::Write(store) if store.seq > row.seq => {
                    let last = store.gpa.0.saturating_add(u64::from(store.bytes));
                    watched.retain(|place, _| place.0 + 8 <= store.gpa.0 || place.0 >= last);
                }
                Record::Fault(fault) => {
                    match fault.seq < row.seq {
                        true => around.earlier(of, fault, index),
                        false if fault.seq > row.seq => {
                            around.later(row, fault, index, &mut watched, tables);
                        }
                        false => {}
                    }
                    if is_beside(fault, row, 21) {
                        let class = fault.class.name();
                        *around.in_table.entry(class).or_default() += 1;
                    }
                    around.write_protected += u64::from(fault.class == Class::WriteProtected);
                    index += 1;
                }
                _ => {}
            }
        }
        Ok(around)
    }

    fn earlier(&mut self, of: &FaultFacts, fault: &FaultRow, index: u64) {
        if fault.vcpu == of.row.vcpu && is_beside(fault, &of.row, 12) {
            // Any other fault on the page ends what that access led to.
            let is_passed_on = fault.class == Class::Guest && !guest_walk(fault).is_empty();
            self.passed_on = is_passed_on.then(|| PassedOn {
                index,
                row: fault.clone(),
                shadow: self.before.clone(),
            });
        }
        let mut stores = of.entries_stored.iter();
        let store = stores.find(|stored| stored.level == Level(1));
        let faulted = store.is_some_and(|stored| {
            fault.class == Class::WriteProtected
                && fault.gpa == Some(stored.store.gpa)
                && fault.vcpu == stored.store.vcpu
                && fault.time_ns <= stored.store.time_ns
                && stored.store.time_ns.0 <= fault.time_ns.0.saturating_add(fault.total_ns)
        });
        if faulted {
            self.store_fault = Some(index);
        }
    }

    fn later(
        &mut self,
        of: &FaultRow,
        fault: &FaultRow,
        index: u64,
        watched: &mut BTreeMap<Gpa, u8>,
        tables: Option<&VmReplay>,
    ) {
        for step in guest_walk(fault) {
            let level = step.place().and_then(|place| watched.remove(&place));
            if let Some(level) = level {
                self.reads.insert(level, (index, step.gpte));
            }
        }
        let mut next = self.next.iter_mut().filter(|page| !page.is_mapped);
        let page = next.find(|page| page.gva.0 >> 12 == fault.gva.0 >> 12 && fault.cr3 == of.cr3);
        let Some(page) = page else { return };
        page.faults.push((index, fault.class));
        page.time_ns = page.time_ns.or(Some(fault.time_ns));
        let is_without_entry = [Class::Guest, Class::Retried, Class::Failed];
        page.is_mapped = !is_without_entry.contains(&fault.class);
        page.guest = guest_walk(fault).pop();
        page.walked = page.guest.as_ref().map(|step| walked(step, fault));
        let walk = tables.map(|tables| tables.walk(fault.root, fault.gva));
        page.shadow = walk.and_then(|mut walk| walk.steps.pop());
    }

    /// The shadow tables on the way of the address when the access came first.
    pub(super) fn at_access(&self) -> &[Step] {
        let passed_on = self.passed_on.as_ref();
        passed_on.map_or(&self.before, |passed| &passed.shadow)
    }

    /// The fault that next read the guest's entry of a level, if it found this there.
    pub(super) fn read(&self, level: Level, value: Gpte) -> Option<u64> {
        let (fault, read) = self.reads.get(&level.0)?;
        (*read == value).then_some(*fault)
    }
}

/// Whether a fault is in the same `1 << bits` bytes of the same address space.
fn is_beside(fault: &FaultRow, of: &FaultRow, bits: u32) -> bool {
    fault.gva.0 >> bits == of.gva.0 >> bits && fault.cr3 == of.cr3
}

/// Those that the same table of level 1 maps.
fn next_pages(of: &FaultRow) -> Vec<NextPage> {
    let first = of.gva.0 & !0xfff;
    let next = (1..=NEXT).map(|number| Gva(first.saturating_add(number << 12)));
    let next = next.filter(|gva| gva.0 >> 21 == first >> 21);
    next.map(|gva| NextPage {
        gva,
        faults: Vec::new(),
        time_ns: None,
        is_mapped: false,
        guest: None,
        walked: None,
        shadow: None,
    })
    .collect()
}
