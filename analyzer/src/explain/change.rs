//! One change of an entry: which, by whom, why, what led to it, what followed.

use events::{Cause, Class, Gpte, HostEvent, PageEvent, Seq, Spte, TimeNs};
use trace::{EntryRow, FaultRow, HostRow, PageRow, Record};

use super::{
    Store,
    guest::guest_walk,
    history::{FaultRef, GuestEntry, History, Writer},
    unsync::Period,
    ways::Ways,
    why::{Why, why},
};
use crate::replay::{PageInfo, VmReplay};

/// A change with all that surrounds it.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its number among the changes of its VM, from 0.
    pub index: u64,
    /// Its record.
    pub row: EntryRow,
    /// First time of the trace, ns.
    pub start_ns: u64,
    /// The guest's phase and its beginning.
    pub phase: Option<(String, TimeNs)>,
    /// The value before: as recorded, or as replay had it.
    pub old: Option<Spte>,
    /// The table that holds it.
    pub table: Option<PageInfo>,
    /// The addresses it translates.
    pub ways: Ways,
    /// The guest's entry behind it.
    pub guest: Option<GuestEntry>,
    /// What a later walk read there.
    pub guest_later: Option<(Gpte, FaultRef)>,
    /// Who stored it before.
    pub writer: Option<Writer>,
    /// The emulated store that is its cause.
    pub store: Option<Store>,
    /// The time in which its table was unsync.
    pub period: Option<Period>,
    /// What the host did.
    pub act: Option<HostRow>,
    /// The page event of its frame: the table that the frame became.
    pub made: Option<PageRow>,
    /// The latest fault of its vCPU before it.
    pub before: Option<FaultRef>,
    /// The next fault of its vCPU.
    pub next: Option<FaultRef>,
    /// That one was told to the guest with P set.
    pub next_was_injected: bool,
    /// That one's leaf stands in the same place.
    pub next_is_its: bool,
    /// Changes of the same cause on the same thread from it on, itself included.
    pub together: u64,
    /// What came of it.
    pub after: Vec<After>,
    /// Missing records since the tables were last known to be right.
    pub missing: u64,
}

/// Something that came after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// The entry was stored again.
    Stored {
        /// By whom.
        by: Writer,
        /// As what.
        spte: Spte,
    },
    /// An access to one of its addresses faulted, without storing it.
    Fault(FaultRef),
    /// Its table was zapped.
    TableZapped(PageRow),
}

/// Later records looked at.
pub(super) const LOOK_AHEAD: usize = 200_000;
/// What is told of what followed.
const MAX_AFTER: usize = 4;

/// Acts of the host that lead to a cause.
fn acts(cause: Cause) -> &'static [HostEvent] {
    match cause {
        Cause::HostUnmap => &[HostEvent::Unmap],
        Cause::DirtyLog => &[HostEvent::DirtyStart, HostEvent::DirtyClear],
        Cause::Memslot => &[HostEvent::ZapRange, HostEvent::FlushSlot],
        Cause::Reread => &[HostEvent::Reread],
        _ => &[],
    }
}

impl Change {
    /// What is known when the change's record comes; neither `replay` nor `history` has it yet.
    pub(super) fn new(row: &EntryRow, replay: Option<&VmReplay>, history: &History) -> Self {
        let page = replay.and_then(|vm| vm.tables().page(row.sptep.table()));
        let index = row.sptep.index();
        let old = row.old.or_else(|| page.map(|page| page.entry(index)));
        let is_leaf = |spte: Spte| spte.is_leaf(row.level);
        let page_gfn = || page.and_then(|page| page.leaf_gfn(index));
        let has_frame = is_leaf(row.spte) || old.is_some_and(is_leaf);
        let frame = row.gfn.or_else(|| page_gfn().filter(|_| has_frame));
        let store = row.vcpu.and_then(|vcpu| history.stores.open(vcpu));
        let table = page.map(|page| page.info);
        let born = page.map_or(Seq(0), |page| page.since);
        let writer = page.and_then(|_| history.writer_of(row.sptep, born));
        let store = store.filter(|store| {
            match row.cause {
                Cause::GuestWrite => table.is_none_or(|table| table.gfn == store.gpa.gfn()),
                // The host copies the frame that KVM stores to.
                Cause::HostUnmap => frame == Some(store.gpa.gfn()),
                _ => false,
            }
        });
        let is_of_unsync = matches!(row.cause, Cause::Sync | Cause::Invlpg);
        let kinds = acts(row.cause);
        let made = history
            .pages
            .get(&row.vcpu)
            .filter(|made| Some(made.gfn) == frame);
        Self {
            index: history.changes,
            row: EntryRow {
                gfn: frame,
                ..row.clone()
            },
            start_ns: 0,
            phase: history.phase.clone(),
            old,
            table,
            ways: replay.map_or_else(Ways::default, |vm| Ways::to(row.sptep, vm, history)),
            guest: table.and_then(|table| history.guest_entry(&table, index)),
            guest_later: None,
            writer,
            store: store.cloned(),
            period: history
                .period(row.sptep.table())
                .filter(|_| is_of_unsync)
                .map(|period| {
                    let mut period = *period;
                    period.entry(row);
                    period
                }),
            // What came to be after an act is not its doing.
            act: history
                .open_act(kinds, frame, row.vcpu)
                .filter(|act| act.seq >= born)
                .filter(|act| writer.is_none_or(|writer| act.time_ns >= writer.time))
                .cloned(),
            made: made.filter(|_| row.cause == Cause::WriteProtect).cloned(),
            before: row.vcpu.and_then(|vcpu| history.faults.get(&vcpu).copied()),
            next: None,
            next_was_injected: false,
            next_is_its: false,
            together: 1,
            after: Vec::new(),
            missing: 0,
        }
    }

    /// The fault of its vCPU that was under way.
    pub fn within(&self) -> Option<FaultRef> {
        self.next.filter(|next| next.time <= self.row.time_ns)
    }

    /// The host copied the frame on write on the thread of the vCPU whose fault this is: the fault is
    /// about the same frame, and KVM gave it up or emulates its store.
    pub fn copied_for(&self) -> Option<FaultRef> {
        let next = self.next.filter(|_| self.row.cause == Cause::HostUnmap)?;
        let is_its = match next.gfn.zip(self.row.gfn) {
            Some((of_fault, of_entry)) => of_fault == of_entry,
            None => self.ways.lead(next.gva, self.row.level),
        };
        let stores = matches!(next.class, Class::Retried | Class::WriteProtected);
        (is_its && stores).then_some(next)
    }

    /// Write access is taken since the frame is a guest table: also before a table is synced.
    pub fn protects(&self) -> bool {
        let is_sync = self.row.cause == Cause::Sync && self.made.is_some();
        self.row.cause == Cause::WriteProtect || is_sync
    }

    /// The record tells a value that stood there already.
    pub fn is_no_change(&self) -> bool {
        self.old == Some(self.row.spte)
    }

    /// Why KVM changed it.
    pub fn why(&self) -> Why {
        why(match self.protects() {
            true => Cause::WriteProtect,
            false => self.row.cause,
        })
    }

    /// How long the entry was gone: from the change that emptied it to its next mapping, ns.
    pub fn missing_ns(&self) -> Option<u64> {
        if self.row.spte.is_shadow_present() {
            return None;
        }
        self.after.iter().find_map(|after| match after {
            After::Stored { by, spte } if spte.is_shadow_present() => {
                Some(by.time.0.saturating_sub(self.row.time_ns.0))
            }
            _ => None,
        })
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let row = &self.row;
        let after: Vec<_> = self
            .after
            .iter()
            .map(|after| match after {
                After::Stored { by, spte } => {
                    serde_json::json!({"stored": {"by": by.json(), "spte": spte.0}})
                }
                After::Fault(fault) => fault.json(),
                After::TableZapped(row) => {
                    serde_json::json!({"table_zapped": {"seq": row.seq.0, "time_ns": row.time_ns.0}})
                }
            })
            .collect();
        serde_json::json!({
            "change": self.index, "seq": row.seq.0, "time_ns": row.time_ns.0, "vm": row.vm.0,
            "vcpu": row.vcpu.map(|vcpu| vcpu.0), "phase": self.phase.as_ref().map(|(name, _)| name),
            "cause": row.cause.name(), "function": self.why().function,
            "sptep": row.sptep.0, "level": row.level.0, "gfn": row.gfn.map(|gfn| gfn.0),
            "old": self.old.map(|old| old.0), "old_is_recorded": row.old.is_some(), "spte": row.spte.0,
            "changed": self.old.map(|old| super::bits::changed(old, row.spte, row.level)),
            "table": self.table.map(|table| serde_json::json!({
                "spt": table.spt.0, "gfn": table.gfn.0, "direct": table.direct, "unsync": table.unsync,
            })),
            "translates": self.ways.json(), "more_ways": self.ways.more,
            "guest_entry": self.guest.map(|guest| guest.json()),
            "guest_entry_later": self.guest_later.map(|(gpte, fault)| serde_json::json!({
                "gpte": gpte.0, "fault": fault.index,
            })),
            "stored_before": self.writer.map(|writer| writer.json()),
            "store": self.store.as_ref().map(Store::json),
            "unsync": self.period.map(|period| period.json()),
            "host": self.act.as_ref().map(super::act::host_json),
            "frame_became": self.made.as_ref().map(|made| serde_json::json!({
                "seq": made.seq.0, "event": made.event.name(), "spt": made.spt.0, "level": made.level.0,
            })),
            "fault_before": self.before.map(|fault| fault.json()),
            "fault_next": self.next.map(|fault| fault.json()),
            "together": self.together, "missing_ns": self.missing_ns(), "followed": after,
            "missing_records_since_keyframe": self.missing,
        })
    }
}

/// Looks at what comes after a change.
#[derive(Debug)]
pub(super) struct Ahead {
    change: Change,
    faults: u64,
    has_ended: bool,
    /// The cause's run of changes goes on.
    is_together: bool,
}

impl Ahead {
    /// `faults` is how many came before.
    pub(super) fn new(change: Change, faults: u64) -> Self {
        Self {
            change,
            faults,
            has_ended: false,
            is_together: true,
        }
    }

    /// All that was looked for is found.
    pub(super) fn is_done(&self) -> bool {
        self.has_ended && (self.change.next.is_some() || self.change.row.vcpu.is_none())
    }

    /// Takes note of a later record of the VM.
    pub(super) fn see(&mut self, record: &Record) {
        match record {
            Record::Fault(row) => self.fault(row),
            Record::Entry(row) => self.entry(row),
            Record::Page(row) => self.page(row),
            // Another act of the same thread's: what it changes is its own.
            Record::Host(row) => self.is_together &= row.vcpu != self.change.row.vcpu,
            _ => {}
        }
    }

    fn fault(&mut self, row: &FaultRow) {
        let fault = FaultRef::new(self.faults, row);
        self.faults += 1;
        let of = &mut self.change;
        if of.row.vcpu == Some(row.vcpu) {
            self.is_together = false;
            if of.next.is_none() {
                of.next = Some(fault);
                of.next_was_injected = row.class == Class::Guest && row.error_code.is_present();
                of.next_is_its = row.sptep == Some(of.row.sptep);
            }
        }
        if let (Some(guest), None) = (of.guest, of.guest_later) {
            let mut steps = guest_walk(row).into_iter();
            let read = steps.find(|step| step.place() == Some(guest.place));
            of.guest_later = read.map(|step| (step.gpte, fault));
        }
        if self.has_ended {
            return;
        }
        if let (true, Some(spte)) = (row.sptep == Some(of.row.sptep), row.spte) {
            let by = Writer::of_fault(fault);
            of.after.push(After::Stored { by, spte });
            self.has_ended = true;
        } else if row.time_ns > of.row.time_ns
            && of.ways.lead(row.gva, of.row.level)
            && !of
                .after
                .iter()
                .any(|after| matches!(after, After::Fault(_)))
        {
            of.after.push(After::Fault(fault));
        }
    }

    fn entry(&mut self, row: &EntryRow) {
        let of = &mut self.change;
        self.is_together &= row.vcpu != of.row.vcpu || row.cause == of.row.cause;
        let counts = self.is_together && row.vcpu == of.row.vcpu;
        of.together += u64::from(counts);
        let is_same_table = row.sptep.table() == of.row.sptep.table();
        if let Some(period) = of.period.as_mut().filter(|_| counts && is_same_table) {
            period.entry(row);
        }
        if !self.has_ended && row.sptep == of.row.sptep {
            let by = Writer::of_entry(row);
            of.after.push(After::Stored { by, spte: row.spte });
            self.has_ended = row.spte.is_shadow_present() || of.after.len() >= MAX_AFTER;
        }
    }

    fn page(&mut self, row: &PageRow) {
        let of = &mut self.change;
        let same_thread = row.vcpu == of.row.vcpu && of.next.is_none();
        let may_protect = of.row.cause == Cause::WriteProtect
            || of.row.cause == Cause::Sync && of.period.is_none() && row.event == PageEvent::Sync;
        if may_protect && of.made.is_none() && same_thread && Some(row.gfn) == of.row.gfn {
            of.made = Some(row.clone());
        }
        if row.spt != of.row.sptep.table() {
            return;
        }
        if let Some(period) = of.period.as_mut() {
            period.page(row);
        }
        if row.event == PageEvent::Zapped && !self.has_ended {
            of.after.push(After::TableZapped(row.clone()));
            self.has_ended = true;
        }
    }

    /// The change, told as far as it was seen.
    pub(super) fn done(self) -> Change {
        self.change
    }
}
