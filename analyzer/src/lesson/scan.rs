//! What one pass over the records finds: the fault for the lesson, and what came after it.

use std::collections::{BTreeMap, HashMap};

use events::{Class, Gpa, Gpte, Level, Seq, VmId};
use trace::{FaultRow, Record, Trace, TraceError};

use super::LessonError;
use crate::{
    explain::{self, ExplainError, Explanation, Selector},
    faults::{GuestStep, guest_walk},
};

/// Accessed and dirty, which a walk sets: the guest's store has them or not.
const SET_BY_WALKS: u64 = 0x60;

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

/// What the recording has beside a fault.
#[derive(Debug, Default)]
pub(super) struct Later {
    /// The next fault that read the guest's entry of a level, and what it read.
    reads: BTreeMap<u8, (u64, Gpte)>,
    /// Faults on the next page, to the first that stored its shadow entry.
    pub next: Vec<(u64, Class)>,
    /// The last of these stored it.
    pub is_mapped: bool,
    /// Faults of the whole recording that were stores to a write-protected table.
    pub write_protected: u64,
}

impl Later {
    pub(super) fn of(trace: &Trace, vm: VmId, of: &FaultRow) -> Result<Self, TraceError> {
        let mut later = Self::default();
        let places = guest_walk(of).into_iter();
        let mut watched: BTreeMap<Gpa, u8> = places
            .filter_map(|step| Some((step.place()?, step.level.0)))
            .collect();
        let mut index = 0_u64;
        for record in trace.records() {
            match record? {
                // From here on the entry is what the guest stored.
                Record::Write(row) if row.vm == vm && row.seq > of.seq => {
                    let last = row.gpa.0.saturating_add(u64::from(row.bytes));
                    watched.retain(|place, _| place.0 + 8 <= row.gpa.0 || place.0 >= last);
                }
                Record::Fault(row) if row.vm == vm => {
                    if row.seq > of.seq {
                        later.fault(of, &row, index, &mut watched);
                    }
                    later.write_protected += u64::from(row.class == Class::WriteProtected);
                    index += 1;
                }
                _ => {}
            }
        }
        Ok(later)
    }

    fn fault(
        &mut self,
        of: &FaultRow,
        row: &FaultRow,
        index: u64,
        watched: &mut BTreeMap<Gpa, u8>,
    ) {
        for step in guest_walk(row) {
            let level = step.place().and_then(|place| watched.remove(&place));
            if let Some(level) = level {
                self.reads.insert(level, (index, step.gpte));
            }
        }
        let is_next = row.gva.0 >> 12 == (of.gva.0 >> 12) + 1 && row.cr3 == of.cr3;
        if is_next && !self.is_mapped {
            self.next.push((index, row.class));
            let is_without_entry = [Class::Guest, Class::Retried, Class::Failed];
            self.is_mapped = !is_without_entry.contains(&row.class);
        }
    }

    /// The next fault that read the guest's entry of a level, and what it read.
    pub(super) fn read(&self, level: Level) -> Option<(u64, Gpte)> {
        self.reads.get(&level.0).copied()
    }
}
