//! The records of a VM to sums.

use std::sync::Arc;

use events::{Class, Gpa, Gva};
use trace::{FaultRow, Record, Sees};

use super::{By, GuestTables, KEYS, Seen, Sum, sums::Sums};
use crate::{
    listing::{FaultFilter, table_of},
    replay::{AddressMap, PageInfo, VmReplay},
    study::{Follow, StudyError},
    symbols::{Found, Symbols},
    table::TableError,
};

/// How addresses are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granule {
    /// Its size, as a shift.
    pub shift: u32,
    /// Neighbours that both have faults are one range.
    pub joined: bool,
}

impl Default for Granule {
    /// What one page table of the guest maps.
    fn default() -> Self {
        Self {
            shift: 21,
            joined: true,
        }
    }
}

/// What is added up, and how.
#[derive(Clone, Debug)]
pub struct Question {
    /// By what.
    pub by: By,
    /// Which faults; of changes, only their stretch.
    pub filter: FaultFilter,
    /// How addresses are put together.
    pub granule: Granule,
    /// Names of the guest's functions.
    pub symbols: Arc<Symbols>,
}

impl Question {
    /// All faults, by `by`.
    pub fn new(by: By) -> Self {
        Self {
            by,
            filter: FaultFilter::default(),
            granule: Granule::default(),
            symbols: Arc::default(),
        }
    }
}

/// Key of the instructions that are in no function.
pub(super) const NO_FUNCTION: u64 = u64::MAX;
/// Key of the instructions of the guest's user space.
pub(super) const USER_SPACE: u64 = u64::MAX - 1;

/// The sums of one VM.
#[derive(Clone, Debug)]
pub struct Top {
    pub(super) question: Question,
    pub(super) sums: Sums,
    /// Each shadow page, by the number of the record that made it known.
    pub(super) pages: AddressMap<u64, PageInfo>,
    /// Followed for [`By::GuestTable`] only.
    pub(super) tables: GuestTables,
}

impl Top {
    /// Nothing was read yet.
    pub fn new(question: &Question) -> Self {
        Self {
            question: question.clone(),
            sums: Sums::default(),
            pages: AddressMap::default(),
            tables: GuestTables::default(),
        }
    }

    /// A moment of the filter that did not come.
    pub fn missing(&self) -> Option<TableError> {
        self.question.filter.window.missing()
    }

    fn change(&mut self, record: &Record) {
        let inside = self.question.filter.window.admits(record);
        if let (true, Record::Entry(row)) = (inside, record) {
            let seen = Seen {
                seq: row.seq,
                time_ns: row.time_ns,
            };
            self.sums.add(Some(row.cause as u64), &Sum::of_change(seen));
        }
    }

    fn key(&mut self, row: &FaultRow, vm: Option<&VmReplay>) -> Option<u64> {
        match self.question.by {
            By::Cr3 => Some(table_of(row.cr3).0),
            By::Rip => row.rip.map(|rip| rip.0),
            By::Symbol => row.rip.map(|rip| self.function(rip)),
            By::GvaRange => row.gva.0.checked_shr(self.question.granule.shift),
            By::Slot => row.slot.map(|slot| u64::from(slot.0)),
            By::GuestTable => matches!(row.class, Class::WriteProtected | Class::Unsync)
                .then_some(row.gpa)
                .flatten()
                .map(|gpa: Gpa| gpa.gfn().0),
            By::ShadowPage => {
                let page = vm?.tables().page(row.sptep?.table())?;
                if self.pages.len() < KEYS {
                    self.pages.insert(page.since.0, page.info);
                }
                Some(page.since.0)
            }
            By::Vcpu => Some(u64::from(row.vcpu.0)),
            By::Cause => None,
        }
    }

    fn function(&self, rip: Gva) -> u64 {
        match self.question.symbols.find(rip) {
            Found::Function(function) => function,
            Found::UserSpace => USER_SPACE,
            Found::Nothing => NO_FUNCTION,
        }
    }
}

impl Follow for Top {
    fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        if self.question.by == By::GuestTable {
            self.tables.before(record, vm);
        }
    }

    fn after(&mut self, record: &Record, vm: Option<&VmReplay>) {
        if self.question.by == By::Cause {
            self.change(record);
            return;
        }
        if self.question.by == By::GuestTable {
            self.tables.after(record, vm);
        }
        if let Some(row) = self.question.filter.fault(record) {
            let key = self.key(row, vm);
            self.sums.add(key, &Sum::of_fault(row));
        }
    }

    fn finish(&mut self, _: Option<&VmReplay>, _: Sees) -> Result<(), StudyError> {
        self.sums.finish();
        Ok(())
    }
}
