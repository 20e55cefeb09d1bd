//! What follows a change of an entry.

use events::{Cause, Class, Gpa, Hpa, PageEvent, VcpuId};
use trace::{EntryRow, PageRow, Record};

use super::ahead::{BOUNDS, Later, Question};
use crate::explain::facts::{
    ChangeFacts, Fate, FaultRef, LaterGpte, Translations, UnsyncPeriod, Writer, guest_walk,
};

/// The next fault of the change's vCPU, and the event before it that made the frame a table.
#[derive(Debug)]
pub(super) struct UntilFault {
    row: EntryRow,
    /// A sync whose table is not known to be unsync.
    is_lone_sync: bool,
    pub frame_became: Option<PageRow>,
    /// The fault, whether KVM injected it with P set, and whether it stored the entry.
    pub next: Option<(FaultRef, bool, bool)>,
}

impl UntilFault {
    pub fn new(of: &ChangeFacts) -> Self {
        Self {
            row: of.row.clone(),
            is_lone_sync: of.row.cause == Cause::Sync && of.unsync.is_none(),
            frame_became: of.frame_became.clone(),
            next: None,
        }
    }
}

impl Question for UntilFault {
    fn see(&mut self, later: Later<'_>) {
        if self.next.is_some() {
            return;
        }
        match later.record {
            Record::Page(row) if row.vcpu == self.row.vcpu && Some(row.gfn) == self.row.gfn => {
                let is_sync = self.is_lone_sync && row.event == PageEvent::Sync;
                if self.row.cause == Cause::WriteProtect || is_sync {
                    self.frame_became.get_or_insert_with(|| row.clone());
                }
            }
            Record::Fault(row) if Some(row.vcpu) == self.row.vcpu => {
                let is_injected = row.class == Class::Guest && row.error_code & 1 != 0;
                let stores_it = row.sptep == Some(self.row.sptep);
                self.next = later.fault.map(|fault| (fault, is_injected, stores_it));
            }
            _ => {}
        }
    }

    fn is_answered(&self) -> bool {
        self.next.is_some() || self.row.vcpu.is_none()
    }
}

/// Changes of the same cause in a row on the same thread, and what they do to the unsync period.
#[derive(Debug)]
pub(super) struct Run {
    vcpu: Option<VcpuId>,
    cause: Cause,
    table: Hpa,
    is_over: bool,
    pub together: u64,
    pub unsync: Option<UnsyncPeriod>,
}

impl Run {
    pub fn new(row: &EntryRow, unsync: Option<UnsyncPeriod>) -> Self {
        Self {
            vcpu: row.vcpu,
            cause: row.cause,
            table: row.sptep.table(),
            is_over: false,
            together: 1,
            unsync,
        }
    }

    fn entry(&mut self, row: &EntryRow) {
        self.is_over |= row.cause != self.cause;
        if self.is_over {
            return;
        }
        self.together += 1;
        if let Some(period) = self.unsync.as_mut()
            && row.sptep.table() == self.table
        {
            period.entry(row, 0);
        }
    }
}

impl Question for Run {
    fn see(&mut self, later: Later<'_>) {
        match later.record {
            Record::Entry(row) if row.vcpu == self.vcpu => self.entry(row),
            Record::Fault(row) => self.is_over |= Some(row.vcpu) == self.vcpu,
            // Another act of the same thread: what changes next is its effect.
            Record::Host(row) => self.is_over |= row.vcpu == self.vcpu,
            Record::Page(row) if row.spt == self.table => {
                if let Some(period) = &mut self.unsync {
                    period.page(row);
                }
            }
            _ => {}
        }
    }
}

/// What becomes of the entry, until it is mapped again or its table is zapped.
#[derive(Debug)]
pub(super) struct EntryFate {
    row: EntryRow,
    translations: Translations,
    is_over: bool,
    pub found: Vec<Fate>,
}

impl EntryFate {
    pub fn new(row: &EntryRow, translations: Translations) -> Self {
        Self {
            row: row.clone(),
            translations,
            is_over: false,
            found: Vec::new(),
        }
    }

    /// From the change that emptied the entry to its next mapping.
    pub fn missing_ns(&self) -> Option<u64> {
        let mut fates = self.found.iter();
        let mapped = fates.find_map(|fate| match fate {
            Fate::Stored { by, spte } if spte.is_shadow_present() => Some(by.time_ns),
            _ => None,
        });
        let mapped = mapped.filter(|_| !self.row.spte.is_shadow_present())?;
        Some(mapped.0.saturating_sub(self.row.time_ns.0))
    }

    fn is_access(&self, fault: &FaultRef) -> bool {
        fault.time_ns > self.row.time_ns
            && self.translations.contain(fault.gva, self.row.level)
            && !self
                .found
                .iter()
                .any(|fate| matches!(fate, Fate::Access(_)))
    }
}

impl Question for EntryFate {
    fn see(&mut self, later: Later<'_>) {
        if self.is_over {
            return;
        }
        match (later.record, later.fault) {
            (Record::Fault(row), Some(fault)) => match row.spte {
                Some(spte) if row.sptep == Some(self.row.sptep) => {
                    let by = Writer::of_fault(fault);
                    self.found.push(Fate::Stored { by, spte });
                    self.is_over = true;
                }
                _ if self.is_access(&fault) => self.found.push(Fate::Access(fault)),
                _ => {}
            },
            (Record::Entry(row), _) if row.sptep == self.row.sptep => {
                let (by, spte) = (Writer::of_entry(row), row.spte);
                self.found.push(Fate::Stored { by, spte });
                self.is_over = spte.is_shadow_present() || self.found.len() >= BOUNDS.fates;
            }
            (Record::Page(row), _) => {
                let is_its = row.spt == self.row.sptep.table();
                if is_its && row.event == PageEvent::Zapped {
                    let (seq, time_ns) = (row.seq, row.time_ns);
                    self.found.push(Fate::TableZapped { seq, time_ns });
                    self.is_over = true;
                }
            }
            _ => {}
        }
    }

    fn is_answered(&self) -> bool {
        self.is_over
    }
}

/// The next walk that reads the guest's entry.
#[derive(Debug)]
pub(super) struct LaterWalk {
    gpa: Option<Gpa>,
    pub found: Option<LaterGpte>,
}

impl LaterWalk {
    pub fn new(gpa: Option<Gpa>) -> Self {
        Self { gpa, found: None }
    }
}

impl Question for LaterWalk {
    fn see(&mut self, later: Later<'_>) {
        if let (Record::Fault(row), Some(fault)) = (later.record, later.fault)
            && self.gpa.is_some()
            && self.found.is_none()
        {
            let mut steps = guest_walk(row).into_iter();
            let read = steps.find(|step| step.place() == self.gpa);
            self.found = read.map(|step| LaterGpte {
                gpte: step.gpte,
                fault,
            });
        }
    }
}
