//! The records of a VM to sums.

use std::sync::Arc;

use events::{Class, Gfn, Gpa, Gva};
use trace::{FaultRow, Record, Slot};

use super::{
    By, GuestTables, PingPong,
    sums::{KEYS, Sums},
};
use crate::{
    faults::{SlotsByGpa, Sum, gpa},
    listing::{FaultFilter, table_of},
    refaults::{Refault, RefaultCause},
    replay::{AddressMap, PageInfo, VmReplay},
    study::Subject,
    symbols::Symbols,
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

impl Granule {
    /// What one page table of the guest maps.
    pub const TABLE: Self = Self {
        shift: 21,
        joined: true,
    };
}

impl Default for Granule {
    fn default() -> Self {
        Self::TABLE
    }
}

/// What is added up, and how.
#[derive(Clone, Debug)]
pub struct Question {
    /// By what.
    pub by: By,
    /// Which faults.
    pub filter: FaultFilter,
    /// How addresses are put together.
    pub granule: Granule,
    /// Names of the guest's functions.
    pub symbols: Arc<Symbols>,
    /// Keys that have a sum of their own; what comes later is added up together.
    pub keys: usize,
}

impl Question {
    /// All faults, by `by`.
    pub fn new(by: By) -> Self {
        Self {
            by,
            filter: FaultFilter::default(),
            granule: Granule::default(),
            symbols: Arc::default(),
            keys: KEYS,
        }
    }

    /// Whether what became of the guest's tables is counted. Its events have no class, address or
    /// CR3: it is not, where some faults only are meant.
    pub fn follows_tables(&self) -> bool {
        self.by == By::GuestTable && !self.filter.is_about_faults()
    }
}

/// Key of the instructions that are in no function.
pub(super) const NO_FUNCTION: u64 = u64::MAX;
/// Key of the instructions of the guest's user space.
pub(super) const USER_SPACE: u64 = u64::MAX - 1;
/// Key of the leaves in pages that no record made known.
pub(super) const UNKNOWN_PAGE: u64 = u64::MAX;
/// The sums of one VM.
#[derive(Clone, Debug)]
pub struct Top {
    pub(super) question: Question,
    pub(super) sums: Sums,
    /// Each shadow page, by the number of the record that made it known.
    pub(super) pages: AddressMap<u64, PageInfo>,
    /// The last of them.
    latest_page: Option<u64>,
    /// The last RIP, and its function.
    latest_function: Option<(Gva, Option<u64>)>,
    /// Followed for [`By::GuestTable`] only.
    pub(super) tables: GuestTables,
    memslots: SlotsByGpa,
    /// The record is in the stretch asked for.
    inside: bool,
}

impl Top {
    /// Nothing was read yet.
    pub fn of(question: &Question, subject: &Subject<'_>) -> Self {
        let meta = subject.meta.filter(|_| question.by == By::Slot);
        Self {
            memslots: meta.map(SlotsByGpa::of).unwrap_or_default(),
            ..Self::new(question)
        }
    }

    /// The same, of a VM without metadata.
    pub fn new(question: &Question) -> Self {
        Self {
            question: question.clone(),
            sums: Sums::with_limit(question.keys),
            pages: AddressMap::default(),
            latest_page: None,
            latest_function: None,
            tables: GuestTables::default(),
            memslots: SlotsByGpa::default(),
            inside: false,
        }
    }

    /// By what.
    pub(super) fn by(&self) -> By {
        self.question.by
    }

    /// A moment of the filter that did not come.
    pub fn missing(&self) -> Option<TableError> {
        self.question.filter.window.missing()
    }

    /// As KVM found it; by the memslots, where it ended the fault before that.
    fn slot(&self, row: &FaultRow) -> Option<Slot> {
        let by_gpa = || match row.class {
            Class::WriteProtected | Class::Failed | Class::Retried => {
                self.memslots.at(gpa(row)?, row.time_ns)
            }
            _ => None,
        };
        row.slot.or_else(by_gpa)
    }

    fn key(
        &mut self,
        row: &FaultRow,
        vm: Option<&VmReplay>,
        refault: Option<&Refault>,
    ) -> Option<u64> {
        match self.question.by {
            By::Cr3 => Some(table_of(row.cr3).0),
            By::Rip => row.rip.map(|rip| rip.0),
            By::Symbol => self.function(row),
            By::GvaRange => row.gva.0.checked_shr(self.question.granule.shift),
            By::Slot => self.slot(row).map(|slot| u64::from(slot.0)),
            By::GuestTable => guest_table(row, vm, refault).map(|gfn| gfn.0),
            By::ShadowPage => {
                let table = row.sptep?.table();
                let Some(page) = vm.and_then(|vm| vm.tables().page(table)) else {
                    return Some(UNKNOWN_PAGE);
                };
                let since = page.since.0;
                let is_known = self.latest_page == Some(since);
                if !is_known && self.pages.len() < self.question.keys {
                    self.pages.insert(since, page.info);
                    self.latest_page = Some(since);
                }
                Some(since)
            }
            By::Vcpu => Some(u64::from(row.vcpu.0)),
            By::Cause => None,
        }
    }

    /// Symbols are those of the guest's kernel, as a rule: what else ran at CPL 3 is user space.
    fn function(&mut self, row: &FaultRow) -> Option<u64> {
        let other = match row.error_code.is_user() {
            true => USER_SPACE,
            false => NO_FUNCTION,
        };
        let rip = row.rip?;
        let function = match self.latest_function {
            Some((of, function)) if of == rip => function,
            _ => self.question.symbols.find(rip),
        };
        self.latest_function = Some((rip, function));
        Some(function.unwrap_or(other))
    }
}

/// The guest table that a fault is paid for: the one that it stores to, or the one whose shadow
/// lost the entry by a store, a sync or INVLPG.
fn guest_table(row: &FaultRow, vm: Option<&VmReplay>, refault: Option<&Refault>) -> Option<Gfn> {
    use RefaultCause::{Flooding, GuestStore, Invlpg, Sync};
    if matches!(row.class, Class::WriteProtected | Class::Unsync) {
        return gpa(row).map(Gpa::gfn);
    }
    let refault = refault.filter(|of| matches!(of.cause, Flooding | GuestStore | Invlpg | Sync))?;
    let of_leaf = || {
        let page = vm?.tables().page(row.sptep?.table())?;
        (!page.info.direct).then_some(page.info.gfn)
    };
    refault.removal?.table.or_else(of_leaf)
}

impl Top {
    /// The next record, before it takes effect.
    pub(crate) fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        self.inside = self.question.filter.window.admits(record);
        if self.question.follows_tables() {
            self.tables.before(record, vm, self.inside);
        }
    }

    /// The same record, once it has taken effect; if it is a refault, that.
    pub(crate) fn after(
        &mut self,
        record: &Record,
        vm: Option<&VmReplay>,
        refault: Option<&Refault>,
    ) {
        if self.question.follows_tables() {
            self.tables.after(record, vm, self.inside);
        }
        if let Record::Fault(row) = record
            && self.inside
            && self.question.filter.matches(row)
        {
            let key = self.key(row, vm, refault);
            self.sums.add(key, row);
            if self.question.follows_tables()
                && let Some(gfn) = key
            {
                let cause = refault.map(|refault| refault.cause);
                self.tables.pays(Gfn(gfn), row, cause);
            }
        }
    }

    /// No more records.
    pub(super) fn finish(&mut self) {
        self.sums.finish();
    }

    /// What became of each guest table, and its faults; empty unless they are followed.
    pub fn guest_tables(&self) -> impl Iterator<Item = (Gfn, &PingPong, Option<&Sum>)> {
        let tables = self.tables.iter();
        tables.map(|(gfn, of)| (*gfn, of, self.sums.get(gfn.0)))
    }
}

#[cfg(test)]
mod tests {
    use events::{ErrorCode, Gpte, Gva, Hpa, Seq};
    use trace::{Memslot, VmMeta};

    use super::*;
    use crate::replay::blank_fault;

    fn key(by: By, row: FaultRow) -> Option<u64> {
        let mut top = Top::new(&Question::new(by));
        top.memslots = SlotsByGpa::of(&VmMeta {
            memslots: vec![Memslot {
                slot: 3,
                gpa: 0x8000,
                bytes: 0x2000,
                hva: 0,
                from_ns: 0,
                until_ns: None,
            }],
            ..VmMeta::default()
        });
        top.key(&row, None, None)
    }

    /// KVM emulates the store before it needs the GPA, which only the guest's last entry has.
    #[test]
    fn a_write_protected_fault_has_the_table_and_the_slot_of_its_walk() {
        let row = FaultRow {
            class: Class::WriteProtected,
            gva: Gva(0x2345),
            gpte4: Some(Gpte(0x6001)),
            gpte3: Some(Gpte(0x7001)),
            gpte2: Some(Gpte(0x8001)),
            gpte1: Some(Gpte(0x9001)),
            ..blank_fault(Seq(0))
        };
        assert_eq!(key(By::GuestTable, row.clone()), Some(9));
        assert_eq!(key(By::Slot, row.clone()), Some(3));
        let elsewhere = FaultRow {
            gpte1: Some(Gpte(0xa001)),
            ..row
        };
        assert_eq!(key(By::GuestTable, elsewhere.clone()), Some(10));
        assert_eq!(key(By::Slot, elsewhere), None);
    }

    #[test]
    fn a_leaf_in_an_unknown_page_is_no_fault_without_a_leaf() {
        let blank = blank_fault(Seq(0));
        let row = FaultRow {
            sptep: Some(Hpa(0x5008)),
            ..blank.clone()
        };
        assert_eq!(key(By::ShadowPage, row), Some(UNKNOWN_PAGE));
        assert_eq!(key(By::ShadowPage, blank), None);
    }

    #[test]
    fn user_space_is_what_ran_at_cpl_3() {
        let kernel = FaultRow {
            rip: Some(Gva(0x40_1000)),
            ..blank_fault(Seq(0))
        };
        let user = FaultRow {
            error_code: ErrorCode::USER,
            ..kernel.clone()
        };
        assert_eq!(key(By::Symbol, kernel), Some(NO_FUNCTION));
        assert_eq!(key(By::Symbol, user), Some(USER_SPACE));
        assert_eq!(key(By::Symbol, blank_fault(Seq(0))), None);
    }
}
