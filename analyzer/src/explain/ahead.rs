//! What comes after a fault, as far as it belongs to it.

use events::{Cause, Class, Gva, Level, PageEvent};
use trace::{EntryRow, FaultRow, PageRow, Record};

use super::{
    Explanation, Followed, PageChange,
    history::History,
    stores::{Late, is_within},
};

/// Records read behind the fault to see what followed.
pub(super) const LOOK_AHEAD: usize = 20_000;
/// Later faults nearby that are told.
const NEXT_FAULTS: usize = 3;
/// Neighbours mapped ahead: KVM's `PTE_PREFETCH_NUM` is 8, the fault's own included.
const MAX_PREFETCHED: usize = 7;
/// Entries of an unsync page that are told.
const MAX_CHANGED: usize = 8;
/// Pages told that are zapped behind the fault's record.
const MAX_ZAPPED: usize = 16;

/// A fault, and what was seen behind it.
#[derive(Debug)]
pub(super) struct Ahead {
    explanation: Explanation,
    /// The fault as it was found.
    fault: FaultRow,
    /// Stores to the fault's frame since it was used, from before.
    stores: u32,
    /// What the vCPU does belongs to the fault still.
    at_fault: bool,
    index: u64,
    later: usize,
    late: Late,
}

impl Ahead {
    pub(super) fn new(explanation: Explanation, history: &History) -> Self {
        let gfn = explanation.gpa().map(events::Gpa::gfn);
        Self {
            fault: explanation.fault.clone(),
            stores: gfn.map_or(0, |gfn| history.stores_since_use(gfn)),
            at_fault: true,
            index: explanation.index,
            later: 0,
            late: Late::default(),
            explanation,
        }
    }

    /// All that was looked for is found.
    pub(super) fn is_done(&self) -> bool {
        self.later >= NEXT_FAULTS && self.explanation.unsync.iter().all(|page| page.is_over)
    }

    /// Takes note of a later record of the VM.
    pub(super) fn see(&mut self, record: &Record) {
        if self.at_fault && self.explanation.store.is_none() {
            self.late.see(record, &self.fault);
        }
        match record {
            Record::Entry(row) => self.entry(row),
            Record::Page(row) => self.page(row),
            Record::Fault(row) => self.fault(row),
            Record::Write(row) => {
                let gfn = self.explanation.gpa().map(events::Gpa::gfn);
                let own = u32::from(gfn == Some(row.gpa.gfn()));
                self.stores = self.stores.saturating_add(own);
            }
            _ => {}
        }
    }

    fn entry(&mut self, row: &EntryRow) {
        if self.at_fault && row.vcpu == Some(self.fault.vcpu) {
            match row.cause {
                Cause::Prefetch => prefetched(&mut self.explanation, row),
                Cause::GuestWrite => {}
                Cause::Reread if self.fault.class == Class::Retried => {
                    self.explanation.reread.get_or_insert_with(|| row.clone());
                }
                // A fault's links come before it: these are the next one's.
                _ => self.at_fault = false,
            }
        }
        let is_brought = matches!(row.cause, Cause::Sync | Cause::Invlpg);
        let pages = self.explanation.unsync.iter_mut();
        for page in pages.filter(|page| !page.is_over && page.page.spt == row.sptep.table()) {
            page.period.entry(row);
            if is_brought && page.changed.len() < MAX_CHANGED {
                page.changed.push(row.clone());
            }
        }
    }

    fn page(&mut self, row: &PageRow) {
        for page in &mut self.explanation.unsync {
            if page.is_over || page.page.spt != row.spt {
                continue;
            }
            page.period.page(row);
            if row.event == PageEvent::Zapped {
                page.zapped = Some(row.clone());
                page.is_over = true;
            }
        }
        // A fault without a leaf has its number from its end: what comes behind is not its doing.
        let is_own = self.at_fault
            && row.vcpu == Some(self.fault.vcpu)
            && self.fault.sptep.is_some()
            && is_within(row.time_ns, &self.fault);
        let zapped = &mut self.explanation.zapped_after;
        if is_own && row.event == PageEvent::Zapped && zapped.len() < MAX_ZAPPED {
            zapped.push(PageChange::new(row, self.stores));
        }
    }

    fn fault(&mut self, row: &FaultRow) {
        self.index += 1;
        self.at_fault &= row.vcpu != self.fault.vcpu;
        for page in &mut self.explanation.unsync {
            let synced = page.period.synced;
            page.is_over |=
                synced.is_some_and(|(.., vcpu)| vcpu.is_none_or(|vcpu| vcpu == row.vcpu));
        }
        if row.gva.0 >> 21 == self.fault.gva.0 >> 21 && self.later < NEXT_FAULTS {
            let after_ns = row.time_ns.0.saturating_sub(self.fault.time_ns.0);
            self.explanation.followed.push(Followed::Fault {
                index: self.index,
                class: row.class,
                gva: row.gva,
                after_ns,
            });
            self.later += 1;
        }
    }

    /// The fault, told as far as it was seen.
    pub(super) fn done(self) -> Explanation {
        let mut explanation = self.explanation;
        explanation.store = explanation.store.take().or(self.late.store());
        explanation
    }
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
