//! What a record removes or weakens.

use events::{Cause, Gfn, Hpa, Level, PageEvent, Spte};
use trace::{EntryRow, PageRow, Record};

use super::{
    Lost, RefaultCause, Refaults, What,
    act::{ActId, Effect},
    places::{At, State},
    threads::Kind,
};
use crate::replay::{PageInfo, ShadowPage, VmReplay};

/// Whether an entry gives a right that another does not.
pub(super) fn gives_more(one: Spte, other: Spte) -> bool {
    (one.is_writable() && !other.is_writable())
        || (one.is_user() && !other.is_user())
        || (one.is_executable() && !other.is_executable())
}

/// The state of an entry that is there.
pub(super) fn present(spte: Spte) -> State {
    match spte.is_writable() {
        true => State::Writable,
        false => State::Mapped,
    }
}

impl Refaults {
    /// The entry at `place` goes.
    pub(super) fn remove(&mut self, place: Hpa, act: Option<ActId>, vm: &VmReplay) {
        let Some(page) = vm.tables().page(place.table()) else {
            return;
        };
        let spte = page.entry(place.index());
        if !spte.is_shadow_present() {
            return;
        }
        let large = page.info.level > Level(1) && spte.is_leaf(page.info.level);
        if let Some(at) = self.places.at(place, vm) {
            self.lose(at, act, Lost::Removed { large });
        }
    }

    pub(super) fn entry(&mut self, row: &EntryRow, vm: &VmReplay) {
        let place = row.sptep;
        let Some(page) = vm.tables().page(place.table()) else {
            return;
        };
        let level = page.info.level;
        let (before, now) = (page.entry(place.index()), row.spte);
        let was_leaf = before.is_leaf(level);
        match (before.is_shadow_present(), now.is_shadow_present()) {
            (true, false) => {
                let act = self.act_of(row, page, vm);
                self.remove(place, act, vm);
                self.release(act);
            }
            (_, true) if !now.is_leaf(level) => self.link(row, before, level, vm),
            (true, true) if was_leaf && before.pfn() == now.pfn() => {
                let Some(at) = self.places.at(place, vm) else {
                    return;
                };
                if gives_more(before, now) {
                    let act = self.act_of(row, page, vm);
                    self.lose(at, act, Lost::Weakened);
                    self.release(act);
                } else if gives_more(now, before) {
                    self.fill(at, present(now));
                }
            }
            (_, true) => {
                if row.cause == Cause::Prefetch {
                    self.stores(place, row.vcpu, row.time_ns.0);
                }
                if let Some(at) = self.places.at(place, vm) {
                    self.fill(at, present(now));
                }
            }
            (false, false) => {}
        }
    }

    /// An entry is there again, without a fault on it.
    pub(super) fn fill(&mut self, at: At, state: State) {
        let act = self.places.set(at, state).act();
        self.release(act);
    }

    /// An upper entry points to a table.
    fn link(&mut self, row: &EntryRow, before: Spte, level: Level, vm: &VmReplay) {
        if before.is_shadow_present() && !before.is_leaf(level) {
            return;
        }
        let Some(at) = self.places.at(row.sptep, vm) else {
            return;
        };
        let act = match self.places.state(at) {
            State::Lost(loss) => Some((loss.act, loss.large || before.is_leaf(level))),
            _ if before.is_leaf(level) => {
                let what = What::Entry(row.sptep);
                let act = self.open((row.seq, row.time_ns), RefaultCause::Replaced, what);
                self.lose(at, act, Lost::Removed { large: true });
                self.release(act);
                act.map(|act| (act, true))
            }
            _ => None,
        };
        let Some((act, large)) = act else {
            self.places.set(at, State::Mapped);
            self.thread(row.vcpu).linked |= row.cause == Cause::Link;
            return;
        };
        self.pend(row, act);
        if large && let Some(child) = self.places.at(row.spte.child(), vm) {
            self.acts.hold(act);
            let before = self.places.set_split(child, act);
            self.release(before);
        }
        self.fill(at, State::Mapped);
    }

    /// The next fault of the thread needed this link; the first removal counts.
    fn pend(&mut self, row: &EntryRow, act: ActId) {
        let seq = |act: ActId| self.acts.get(act).map(|act| act.seq);
        let known = self.threads.get(&row.vcpu).and_then(|thread| thread.link);
        if known.is_some_and(|known| seq(known) <= seq(act)) {
            return;
        }
        self.acts.hold(act);
        let before = self.thread(row.vcpu).link.replace(act);
        self.release(before);
    }

    /// The act that a changed entry is an effect of; the caller releases it.
    fn act_of(&mut self, row: &EntryRow, page: &ShadowPage, vm: &VmReplay) -> Option<ActId> {
        let vcpu = row.vcpu;
        let gfn = page.leaf_gfn(row.sptep.index()).or(row.gfn);
        let (shared, cause) = match row.cause {
            Cause::GuestWrite => (self.store_act(vcpu), RefaultCause::GuestStore),
            Cause::Sync if is_table(gfn, vm) => (None, RefaultCause::WriteProtect),
            Cause::Sync => (self.sync_act(row, page), RefaultCause::Sync),
            Cause::Invlpg => (None, RefaultCause::Invlpg),
            Cause::WriteProtect => (None, RefaultCause::WriteProtect),
            Cause::HostUnmap => self.of_host(row, Kind::Unmap, gfn),
            Cause::DirtyLog => self.of_host(row, Kind::Dirty, gfn),
            Cause::Memslot => self.of_host(row, Kind::Memslot, gfn),
            Cause::Fault => (self.dropped_act(row, gfn), RefaultCause::Replaced),
            Cause::Reread => (self.reread_act(vcpu, gfn, vm), RefaultCause::NotSeen),
            Cause::Link | Cause::Prefetch | Cause::Other | Cause::Mmio => {
                (None, RefaultCause::Replaced)
            }
        };
        match shared {
            Some(act) => {
                self.acts.hold(act);
                Some(act)
            }
            None => {
                let what = What::Entry(row.sptep);
                self.open((row.seq, row.time_ns), cause, what)
            }
        }
    }

    fn of_host(
        &mut self,
        row: &EntryRow,
        kind: Kind,
        gfn: Option<Gfn>,
    ) -> (Option<ActId>, RefaultCause) {
        (self.host_act_on(row.vcpu, kind, gfn), kind.cause(row.vcpu))
    }

    /// The sync of one page.
    fn sync_act(&mut self, row: &EntryRow, page: &ShadowPage) -> Option<ActId> {
        let spt = page.info.spt;
        let sync = self.thread(row.vcpu).sync;
        if let Some((_, act)) = sync.filter(|(of, _)| *of == spt) {
            return Some(act);
        }
        let what = What::Table {
            gfn: page.info.gfn,
            level: page.info.level,
        };
        let act = self.open((row.seq, row.time_ns), RefaultCause::Sync, what)?;
        self.thread(row.vcpu).sync = Some((spt, act));
        self.release(sync.map(|(_, act)| act));
        Some(act)
    }

    /// The fault after which KVM dropped every entry of its frame.
    fn dropped_act(&mut self, row: &EntryRow, gfn: Option<Gfn>) -> Option<ActId> {
        let thread = self.thread(row.vcpu);
        let (seq, time, of) = thread.fault?;
        if of.is_none() || of != gfn {
            return None;
        }
        if let Some(act) = thread.dropped {
            return Some(act);
        }
        let act = self.open((seq, time), RefaultCause::RmapRecycled, What::Frame(gfn?));
        self.thread(row.vcpu).dropped = act;
        act
    }

    /// If the leaf of `record` made KVM drop every entry of its frame, itself included.
    pub(super) fn recycled(&mut self, record: &Record, vm: &VmReplay) {
        let dropped = vm.recycled(record);
        let Some(gfn) = dropped.first().and_then(|leaf| leaf.gfn) else {
            return;
        };
        let at = (record.seq(), record.time());
        let act = self.open(at, RefaultCause::RmapRecycled, What::Frame(gfn));
        for leaf in dropped {
            // It is gone from the tables already.
            if let Some(at) = self.places.at(leaf.sptep, vm) {
                self.lose(at, act, Lost::Removed { large: false });
            }
        }
        self.release(act);
    }

    pub(super) fn page(&mut self, row: &PageRow, vm: &VmReplay) {
        match row.event {
            PageEvent::Born => {
                self.became(row);
                self.places.forget(row.spt);
                self.supersede(row, vm);
                if row.direct == 0 {
                    self.protect(row, vm);
                }
            }
            PageEvent::Sync => {
                self.thread(row.vcpu).synced = Some(row.spt);
                if vm.tables().page(row.spt).is_some() {
                    self.protect(row, vm);
                }
            }
            PageEvent::Zapped => self.zapped(row, vm),
            PageEvent::Reused | PageEvent::Unsync => {}
        }
    }

    /// Every leaf of the guest table's frame loses write access.
    fn protect(&mut self, row: &PageRow, vm: &VmReplay) {
        let mut act = None;
        for level in [1, 2, 3].map(Level) {
            for place in vm.tables().leaves_of(row.gfn, level) {
                let spte = vm.tables().entry(*place);
                if !spte.is_some_and(Spte::is_writable) {
                    continue;
                }
                let Some(at) = self.places.at(*place, vm) else {
                    continue;
                };
                if act.is_none() {
                    let at = (row.seq, row.time_ns);
                    act = self.open(at, RefaultCause::WriteProtect, What::of_page(row));
                }
                self.lose(at, act, Lost::Weakened);
            }
        }
        self.release(act);
    }

    /// A page is made for a table that has one still: a flush made that one obsolete, and has not
    /// come to its zap yet. From now on its entries are missing. Where records are missing since
    /// that page was made, its zap may be one of them: then nothing shows what removed it.
    fn supersede(&mut self, row: &PageRow, vm: &VmReplay) {
        let Some(old) = self.places.superseded(&PageInfo::of(row), vm) else {
            return;
        };
        let Some(page) = vm.tables().page(old) else {
            return;
        };
        let act = match self.hole > page.since {
            true => None,
            false => self.flush_act(row),
        };
        for (index, _) in page.entries() {
            self.remove(page.place(index), act, vm);
        }
        self.release(act);
        self.places.make_obsolete(old);
    }

    /// A page goes, with its entries and every link to it.
    fn zapped(&mut self, row: &PageRow, vm: &VmReplay) {
        let Some(page) = vm.tables().page(row.spt) else {
            return;
        };
        let act = self.zap_act(row, vm);
        let inside = self.inside;
        if let Some((act, bill)) = act.and_then(|act| self.bill_mut(act)) {
            if act.pages == 0 {
                act.of_pages = vm.tables().totals().all_pages();
            }
            act.does(Effect::Zapped, bill, inside);
            act.zapped = row.seq;
        }
        for (index, _) in page.entries() {
            self.remove(page.place(index), act, vm);
        }
        for parent in vm.tables().parents(row.spt) {
            self.remove(*parent, act, vm);
        }
        self.release(act);
        self.places.forget(row.spt);
    }
}

/// Whether a frame is a guest table that is shadowed.
fn is_table(gfn: Option<Gfn>, vm: &VmReplay) -> bool {
    gfn.is_some_and(|gfn| !vm.tables().shadowing(gfn).is_empty())
}
