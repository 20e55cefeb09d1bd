//! What follows a fault.

use events::{Cause, Class, Gpa, Gva, Level, PageEvent};
use trace::{EntryRow, FaultRow, PageRow, Record, WriteRow};

use super::ahead::{FAULT, Watcher, look_ahead};
use crate::{
    explain::{
        before::{History, Invalidations, clear, is_store_of, is_within, left_by, part},
        facts::{FaultFacts, FaultRef, Followed, PageChange, Store},
    },
    refaults::{came_of, may_wait},
};

/// Adds what followed a fault. `stores` is how many went to its frame since KVM last used it as a
/// table.
///
/// `history` is what is known when its record comes; in a recording where `acts_come_late` the host
/// may have acted before it.
pub fn fault(
    of: &mut FaultFacts,
    (stores, acts_come_late): (u32, bool),
    history: &History,
    records: impl Iterator<Item = Record>,
) {
    let mut after = AfterFault {
        stores,
        history,
        unmaps: history.invalidations.clone(),
        writes: Vec::new(),
        is_open: true,
        has_store: of.store.is_some(),
        waits: acts_come_late && of.is_unexplained() && may_wait(&of.row),
        is_in_a_row: false,
        nearby: 0,
        of,
    };
    look_ahead(records, after.of.index + 1, &FAULT, &mut after);
}

struct AfterFault<'a> {
    of: &'a mut FaultFacts,
    stores: u32,
    history: &'a History,
    unmaps: Invalidations,
    /// Stores since, until that of the fault.
    writes: Vec<WriteRow>,
    /// What the vCPU does next still belongs to the fault.
    is_open: bool,
    /// The fault's store was known before.
    has_store: bool,
    /// The next act of the host on its memslot may be why it came.
    waits: bool,
    /// No other fault came since the latest one nearby.
    is_in_a_row: bool,
    /// Later faults nearby.
    nearby: usize,
}

impl Watcher for AfterFault<'_> {
    fn see(&mut self, record: &Record, fault: Option<FaultRef>) {
        if self.is_open && self.of.row.class == Class::Retried {
            self.unmaps.see(record);
            let beside = &mut self.of.invalidated_beside;
            *beside = beside.or(self.unmaps.beside(&self.of.row).copied());
        }
        match (record, fault) {
            (Record::Write(row), _) => self.write(row),
            (Record::Entry(row), _) => self.entry(row),
            (Record::Page(row), _) => self.page(row),
            (Record::Fault(_), Some(fault)) => self.fault(fault),
            (Record::Host(row), _) if self.waits => {
                if let Some(is_it) = came_of(&self.of.row, row) {
                    self.of.late_act = is_it.then(|| row.clone());
                    self.waits = false;
                }
            }
            _ => {}
        }
    }

    fn needs(&self) -> [bool; 2] {
        let is_nearby = self.nearby >= FAULT.nearby && !self.is_in_a_row;
        [
            is_nearby && !self.waits,
            self.of.unsync.iter().all(|of| of.is_over),
        ]
    }
}

impl AfterFault<'_> {
    fn write(&mut self, row: &WriteRow) {
        let is_same = self.of.row.gpa.map(Gpa::gfn) == Some(row.gpa.gfn());
        self.stores = self.stores.saturating_add(u32::from(is_same));
        if self.is_open && self.of.store.is_none() {
            let store = Store::new(row, self.before(row));
            self.of.store = Some(store).filter(|store| is_store_of(store, &self.of.row));
            if self.of.store.is_none() && self.writes.len() < FAULT.changed {
                self.writes.push(row.clone());
            }
        }
    }

    /// What was there before the fault's store.
    fn before(&self, row: &WriteRow) -> Option<u64> {
        let (gpa, bytes) = (row.gpa, row.bytes);
        if self.writes.len() == FAULT.changed {
            return None;
        }
        let touches = |of: &&WriteRow| {
            let end = |of: &WriteRow| of.gpa.0.saturating_add(of.bytes.into());
            of.gpa.0 & !7 < end(row) && gpa.0 & !7 < end(of)
        };
        if let Some(by) = self.writes.iter().rev().find(touches) {
            return left_by([by.gpa, gpa], [by.bytes, bytes], by.value);
        }
        let mut walk = self.of.guest_walk.iter();
        let step = walk.find(|step| step.place() == Some(Gpa(gpa.0 & !7)));
        step.map_or_else(
            || self.history.value_before(gpa, bytes),
            |step| part(step.gpte.0, gpa, bytes),
        )
    }

    fn entry(&mut self, row: &EntryRow) {
        if self.is_open && row.vcpu == Some(self.of.row.vcpu) {
            self.own_entry(row);
        }
        let table = row.sptep.table();
        let periods = self.of.unsync.iter_mut();
        for period in periods.filter(|of| !of.is_over && of.spt == table) {
            period.entry(row, FAULT.changed);
        }
    }

    fn own_entry(&mut self, row: &EntryRow) {
        match row.cause {
            Cause::Prefetch => self.prefetched(row),
            Cause::GuestWrite => {
                if let Some(store) = self.of.store.as_mut().filter(|_| !self.has_store) {
                    clear(store, row);
                }
            }
            Cause::Reread if self.of.row.class == Class::Retried => {
                self.of.read_again.get_or_insert_with(|| row.clone());
            }
            // The links of a fault come before it: these are the next one's.
            _ => self.is_open = false,
        }
    }

    fn prefetched(&mut self, row: &EntryRow) {
        let followed = &mut self.of.followed;
        let is_ahead = |of: &&Followed| matches!(of, Followed::Prefetched { .. });
        if followed.iter().filter(is_ahead).count() < FAULT.prefetched {
            let (sptep, spte, gva) = (row.sptep, row.spte, prefetched_gva(&self.of.row, row));
            followed.push(Followed::Prefetched { sptep, spte, gva });
        }
    }

    fn page(&mut self, row: &PageRow) {
        let periods = self.of.unsync.iter_mut();
        for period in periods.filter(|of| !of.is_over && of.spt == row.spt) {
            period.page(row);
            if row.event == PageEvent::Zapped {
                period.zapped = Some(period.end(row));
                period.is_over = true;
            }
        }
        // A fault without a leaf takes its number at its end: no zap after it is its own.
        let fault = &self.of.row;
        let is_own = self.is_open
            && row.vcpu == Some(fault.vcpu)
            && fault.sptep.is_some()
            && is_within(row.time_ns, fault);
        let zapped = &mut self.of.zapped_after;
        if is_own && row.event == PageEvent::Zapped && zapped.len() < FAULT.zapped {
            zapped.push(PageChange::new(row, self.stores, None));
        }
    }

    fn fault(&mut self, fault: FaultRef) {
        self.is_open &= fault.vcpu != self.of.row.vcpu;
        for period in &mut self.of.unsync {
            // The sync was in this fault, or before it.
            let by = period.synced.map(|end| end.vcpu);
            period.is_over |= by.is_some_and(|vcpu| vcpu.is_none_or(|vcpu| vcpu == fault.vcpu));
        }
        let after_ns = fault.time_ns.0.saturating_sub(self.of.row.time_ns.0);
        if let Some(Followed::Fault {
            fault: first,
            again,
            last_after_ns,
            ..
        }) = self.of.followed.last_mut()
            && first.vcpu == fault.vcpu
        {
            self.is_in_a_row &= is_same(first, &fault);
            if self.is_in_a_row {
                *again += 1;
                *last_after_ns = after_ns;
                return;
            }
        }
        if fault.gva.0 >> 21 == self.of.row.gva.0 >> 21 && self.nearby < FAULT.nearby {
            self.is_in_a_row = is_same(&fault, &fault);
            self.of.followed.push(Followed::Fault {
                fault,
                after_ns,
                again: 0,
                last_after_ns: after_ns,
            });
            self.nearby += 1;
        }
    }
}

/// The guest repeated a fault that KVM gave up, or that KVM_RUN returned with.
fn is_same(a: &FaultRef, b: &FaultRef) -> bool {
    let stores_nothing = matches!(a.class, Class::Retried | Class::Failed);
    stores_nothing && (a.class, a.vcpu, a.gva, a.cr3) == (b.class, b.vcpu, b.gva, b.cr3)
}

/// The address that a neighbour of the fault's leaf translates.
fn prefetched_gva(fault: &FaultRow, row: &EntryRow) -> Option<Gva> {
    let place = fault.sptep?;
    let level = fault.level?;
    let is_same = place.table() == row.sptep.table();
    neighbour(fault.gva, level, place.index(), row.sptep.index()).filter(|_| is_same)
}

/// The address that another entry of the same table translates.
fn neighbour(gva: Gva, level: Level, own: u16, other: u16) -> Option<Gva> {
    level.index(gva).filter(|index| *index == own)?;
    let span = level.pages() << 12;
    let table = (gva.0 & !(span - 1)).wrapping_sub(span.wrapping_mul(u64::from(own)));
    Some(Gva(table.wrapping_add(span.wrapping_mul(u64::from(other)))))
}

#[cfg(test)]
mod tests {
    use events::{ErrorCode, Gfn, HostEvent, Hpa, Seq, Spte, TimeNs, VcpuId, VmId};
    use trace::{HostRow, Slot};

    use super::*;
    use crate::{
        explain::{before::Before, facts::Writer},
        replay::blank_fault,
    };

    /// A fault on a leaf that replay has still, and acts whose records follow: number of the act,
    /// its event, memslot, first frame.
    fn late_act(acts_come_late: bool, acts: &[(u64, HostEvent, u16, u64)]) -> Option<u64> {
        let leaf = Spte(1 << 11 | 0x9_0027);
        let row = FaultRow {
            error_code: ErrorCode(4),
            slot: Some(Slot(1)),
            gpa: Some(Gpa(0x5000)),
            sptep: Some(Hpa(0x7000)),
            spte: Some(leaf),
            class: Class::Shadow,
            ..blank_fault(Seq(1))
        };
        let history = History::default();
        let before = Before {
            replay: None,
            history: &history,
        };
        let mut facts = before.fault(&row, None, Some(leaf), Vec::new());
        let act = |(seq, event, slot, gfn): &(u64, HostEvent, u16, u64)| {
            Record::Host(HostRow {
                seq: Seq(*seq),
                time_ns: TimeNs(*seq),
                vm: VmId(0),
                vcpu: None,
                event: *event,
                slot: Some(Slot(*slot)),
                gfn: Gfn(*gfn),
                pages: 4,
            })
        };
        let acts = acts.iter().map(act);
        fault(&mut facts, (0, acts_come_late), &history, acts);
        facts.late_act.map(|act| act.seq.0)
    }

    #[test]
    fn the_next_act_of_its_kind_on_the_memslot_is_why_an_entry_was_missing() {
        use HostEvent::{DirtyClear, Unmap};
        let other = [(2, DirtyClear, 1, 4), (3, Unmap, 2, 4)];
        assert_eq!(late_act(true, &other), None, "of another kind, or slot");
        let it = [other[0], other[1], (4, Unmap, 1, 4)];
        assert_eq!(late_act(true, &it), Some(4));
        assert_eq!(late_act(false, &it), None, "acts have their record before");
        let elsewhere = [(2, Unmap, 1, 8), (3, Unmap, 1, 4)];
        assert_eq!(
            late_act(true, &elsewhere),
            None,
            "the slot's next act is on other frames"
        );
    }

    #[test]
    fn what_another_vcpu_stored_meanwhile_was_not_taken_away() {
        let mut facts = {
            let history = History::default();
            let before = Before {
                replay: None,
                history: &history,
            };
            let row = FaultRow {
                time_ns: TimeNs(100),
                spte: Some(Spte(1 << 11 | 0x9_0027)),
                error_code: ErrorCode(5),
                ..blank_fault(Seq(1))
            };
            before.fault(&row, None, row.spte, Vec::new())
        };
        let by = |vcpu, time_ns| {
            let other = FaultRow {
                time_ns: TimeNs(time_ns),
                vcpu: VcpuId(vcpu),
                total_ns: 0,
                ..blank_fault(Seq(0))
            };
            Some(Writer::of_fault(FaultRef::new(0, &other)))
        };
        for (vcpu, time_ns, expected) in [(1, 100, true), (1, 99, false), (0, 100, false)] {
            facts.stored_before = by(vcpu, time_ns);
            assert_eq!(facts.overtaken_by().is_some(), expected, "{vcpu} {time_ns}");
        }
    }
}
