//! A change, as it is known when its record comes.

use events::{Cause, Gfn, HostEvent, Seq, Spte};
use trace::EntryRow;

use super::{state::Before, translations::translations};
use crate::explain::facts::{ChangeFacts, Store, UnsyncPeriod};

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

impl Before<'_> {
    /// A change whose record neither the replay nor the history has yet.
    pub fn change(&self, row: &EntryRow) -> ChangeFacts {
        let history = self.history;
        let page = self
            .replay
            .and_then(|vm| vm.tables().page(row.sptep.table()));
        let index = row.sptep.index();
        let old = row.old.or_else(|| page.map(|page| page.entry(index)));
        let is_leaf = |spte: Spte| spte.is_leaf(row.level);
        let has_frame = is_leaf(row.spte) || old.is_some_and(is_leaf);
        let page_gfn = || page.and_then(|page| page.leaf_gfn(index));
        let gfn = row.gfn.or_else(|| page_gfn().filter(|_| has_frame));
        let table = page.map(|page| page.info);
        let born = page.map_or(Seq(0), |page| page.since);
        let writer = page.and_then(|_| history.writer_of(row.sptep, born));
        let host = history.open_act(acts(row.cause), gfn, row.vcpu);
        // What was stored after the act is not its effect.
        let host = host
            .filter(|act| act.seq >= born)
            .filter(|act| writer.is_none_or(|writer| act.time_ns >= writer.time_ns));
        let made = history.pages.get(&row.vcpu);
        let made = made.filter(|made| row.cause == Cause::WriteProtect && Some(made.gfn) == gfn);
        ChangeFacts {
            index: history.change_count,
            start_ns: 0,
            bill: None,
            phase: history.phase.clone(),
            row: EntryRow {
                old,
                gfn,
                ..row.clone()
            },
            old_is_recorded: row.old.is_some(),
            clause: "",
            function: "",
            detail: "",
            changed: Vec::new(),
            table,
            translations: translations(row.sptep, *self),
            guest_entry: table
                .and_then(|table| history.guest_entry(&table, self.gptes(&table), index)),
            guest_entry_later: None,
            stored_before: writer,
            causes: Vec::new(),
            store: self.emulated_store(row, table.map(|table| table.gfn), gfn),
            unsync: self.unsync_of(row),
            host: host.cloned(),
            frame_became: made.cloned(),
            fault_before: row.vcpu.and_then(|vcpu| history.faults.get(&vcpu).copied()),
            fault_next: None,
            fault_next_is_injected: false,
            fault_next_stores_it: false,
            together: 1,
            missing_ns: None,
            followed: Vec::new(),
            missing_records_since_keyframe: 0,
        }
    }

    /// The emulated store that led to a change of an entry, of a shadow page of `table`, that maps
    /// `frame`.
    fn emulated_store(
        &self,
        row: &EntryRow,
        table: Option<Gfn>,
        frame: Option<Gfn>,
    ) -> Option<Store> {
        let store = self.history.stores.open(row.vcpu?)?;
        let gfn = store.gpa.gfn();
        let is_cause = match row.cause {
            Cause::GuestWrite => table.is_none_or(|table| table == gfn),
            // The host copies the frame that KVM stores to.
            Cause::HostUnmap => frame == Some(gfn),
            _ => false,
        };
        is_cause.then(|| store.clone())
    }

    /// The unsync period in which a sync or an invalidation changes an entry.
    fn unsync_of(&self, row: &EntryRow) -> Option<UnsyncPeriod> {
        if !matches!(row.cause, Cause::Sync | Cause::Invlpg) {
            return None;
        }
        let mut period = self.history.periods.of(row.sptep.table())?.clone();
        period.entry(row, 0);
        Some(period)
    }
}
