//! What each thread is doing, so that what it removes next has its cause.

use events::{Gfn, Gpa, HostEvent, Hpa, Level, Seq, TimeNs, VcpuId};
use trace::{FaultRow, HostRow, PageRow, WriteRow, pathology::STORM_PAUSE_NS};

use super::{RefaultCause, Refaults, What, act::ActId, bill::Bill};
use crate::{faults, replay::VmReplay};

/// Pages of a group of zaps whose frames are remembered.
const MAX_FRAMES: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Thread {
    /// The latest store, until the fault that it belongs to is over.
    pub(super) store: Option<Store>,
    /// The shadow page that is synced, and that.
    pub(super) sync: Option<(Hpa, ActId)>,
    /// The page that a sync was announced for last.
    pub(super) synced: Option<Hpa>,
    /// Latest acts of the host: unmaps, dirty logging, memslots.
    host: [Option<HostAct>; KINDS],
    /// The range that is read again.
    pub(super) reread: Option<HostRow>,
    /// Zaps whose cause is not known yet.
    pub(super) zaps: Option<Zaps>,
    /// The first removal of a link that was set again since the last fault.
    pub(super) link: Option<ActId>,
    /// A link was set that had not been there before.
    pub(super) linked: bool,
    /// The latest fault: number, time, frame.
    pub(super) fault: Option<(Seq, TimeNs, Option<Gfn>)>,
    /// The guest table that it stored to: KVM zaps its pages where it repeats the instruction.
    pub(super) stored: Option<Gfn>,
    /// The entries that the latest fault made KVM drop.
    pub(super) dropped: Option<ActId>,
}

/// A store to a guest table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Store {
    pub(super) seq: Seq,
    pub(super) time: TimeNs,
    pub(super) gpa: Gpa,
    /// What it removed, once it did.
    pub(super) act: Option<ActId>,
}

/// An act of the host on a range.
#[derive(Clone, Debug)]
struct HostAct {
    row: HostRow,
    act: Option<ActId>,
    /// Its range has settled: what changes later is not its effect.
    is_over: bool,
}

/// Pages zapped one after the other.
#[derive(Clone, Debug)]
pub(super) struct Zaps {
    pub(super) act: ActId,
    bill: usize,
    by_store: bool,
    pages: u32,
    /// Time of the latest.
    last: TimeNs,
    /// Frames of the first pages, and their level.
    frames: Vec<(Gfn, Level)>,
    /// A frame of an unsync page became a table of another level.
    new_role: bool,
    /// A frame is the table that the fault before stored to.
    repeated: bool,
}

/// Kinds of acts of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unmap,
    Dirty,
    Memslot,
}

const KINDS: usize = 3;

impl Kind {
    pub(super) fn of(event: HostEvent) -> Option<Self> {
        match event {
            HostEvent::Unmap => Some(Self::Unmap),
            HostEvent::DirtyStart | HostEvent::DirtyClear | HostEvent::DirtyStop => {
                Some(Self::Dirty)
            }
            HostEvent::ZapRange | HostEvent::FlushSlot => Some(Self::Memslot),
            HostEvent::Reread | HostEvent::Settled => None,
        }
    }

    /// What it is to the entries; on a vCPU's own thread an unmap is a copy on write.
    pub(super) fn cause(self, vcpu: Option<VcpuId>) -> RefaultCause {
        match self {
            Self::Unmap if vcpu.is_some() => RefaultCause::CopyOnWrite,
            Self::Unmap => RefaultCause::HostUnmap,
            Self::Dirty => RefaultCause::DirtyLog,
            Self::Memslot => RefaultCause::Memslot,
        }
    }
}

fn same_range(one: &HostRow, other: &HostRow) -> bool {
    (one.gfn, one.pages) == (other.gfn, other.pages)
}

pub(super) fn covers(row: &HostRow, gfn: Option<Gfn>) -> bool {
    gfn.is_none_or(|gfn| {
        gfn.0
            .checked_sub(row.gfn.0)
            .is_some_and(|at| at < row.pages)
    })
}

impl Refaults {
    pub(super) fn write(&mut self, row: &WriteRow) {
        let vcpu = Some(row.vcpu);
        if self
            .thread(vcpu)
            .zaps
            .as_ref()
            .is_some_and(|zaps| zaps.by_store)
        {
            self.end_zaps(vcpu, RefaultCause::Flooding);
        }
        let store = Store {
            seq: row.seq,
            time: row.time_ns,
            gpa: row.gpa,
            act: None,
        };
        let before = self.thread(vcpu).store.replace(store);
        self.release(before.and_then(|store| store.act));
    }

    pub(super) fn release(&mut self, act: Option<ActId>) {
        if let Some(act) = act {
            self.acts.release(act);
        }
    }

    /// The act of the latest store of a vCPU.
    pub(super) fn store_act(&mut self, vcpu: Option<VcpuId>) -> Option<ActId> {
        let store = self.thread(vcpu).store?;
        if store.act.is_some() {
            return store.act;
        }
        let what = What::Store(store.gpa);
        let act = self.open((store.seq, store.time), RefaultCause::GuestStore, what);
        if let Some(store) = &mut self.thread(vcpu).store {
            store.act = act;
        }
        act
    }

    pub(super) fn host(&mut self, row: &HostRow, vm: &VmReplay) {
        match (Kind::of(row.event), row.event) {
            (Some(kind), _) => self.host_act(kind, row),
            (None, HostEvent::Reread) => self.thread(row.vcpu).reread = Some(row.clone()),
            (None, _) => self.settled(row, vm),
        }
    }

    fn host_act(&mut self, kind: Kind, row: &HostRow) {
        let vcpu = row.vcpu;
        let mut act = HostAct {
            row: row.clone(),
            act: None,
            is_over: false,
        };
        // Where functions cannot be hooked, the record of the act follows the zaps.
        let zaps = self.thread(vcpu).zaps.as_ref();
        let zapped = zaps.filter(|zaps| kind == Kind::Memslot && !zaps.by_store);
        if let Some(id) = zapped.map(|zaps| zaps.act) {
            self.acts.hold(id);
            self.end_zaps(vcpu, RefaultCause::Memslot);
            if let Some(zaps) = self.acts.get_mut(id) {
                (zaps.seq, zaps.time) = (row.seq, row.time_ns);
                zaps.what = What::of_host(row);
            }
            act.act = Some(id);
        }
        let slot = self.thread(vcpu).host.get_mut(kind as usize);
        let before = slot.and_then(|slot| slot.replace(act));
        self.release(before.and_then(|before| before.act));
        self.act_came(kind, row);
    }

    /// The act of a thread on a frame, if it is not over.
    pub(super) fn host_act_on(
        &mut self,
        vcpu: Option<VcpuId>,
        kind: Kind,
        gfn: Option<Gfn>,
    ) -> Option<ActId> {
        let of = self.thread(vcpu).host.get(kind as usize)?.as_ref()?;
        if of.is_over || !covers(&of.row, gfn) {
            return None;
        }
        self.opened(vcpu, kind)
    }

    /// The act of what a thread did last of a kind.
    pub(super) fn opened(&mut self, vcpu: Option<VcpuId>, kind: Kind) -> Option<ActId> {
        let of = self.thread(vcpu).host.get(kind as usize)?.as_ref()?;
        if of.act.is_some() {
            return of.act;
        }
        let (at, what) = ((of.row.seq, of.row.time_ns), What::of_host(&of.row));
        let act = self.open(at, kind.cause(vcpu), what);
        if let Some(Some(of)) = self.thread(vcpu).host.get_mut(kind as usize) {
            of.act = act;
        }
        act
    }

    /// The act that a range is read again for.
    pub(super) fn reread_act(
        &mut self,
        vcpu: Option<VcpuId>,
        gfn: Option<Gfn>,
        vm: &VmReplay,
    ) -> Option<ActId> {
        let range = self.thread(vcpu).reread.as_ref();
        let act = vm.read_for(range.filter(|range| covers(range, gfn))?)?;
        self.opened(vcpu, Kind::of(act.event)?)
    }

    fn settled(&mut self, row: &HostRow, vm: &VmReplay) {
        self.thread(row.vcpu).reread = None;
        let gone = vm.gone(row);
        // Without a leaf that went there may be no act.
        if !gone.is_empty() {
            let kind = vm.read_for(row).and_then(|act| Kind::of(act.event));
            let act = kind.and_then(|kind| self.opened(row.vcpu, kind));
            for of in gone {
                self.remove(of.sptep, act, vm);
            }
        }
        for of in self.thread(row.vcpu).host.iter_mut().flatten() {
            of.is_over |= same_range(&of.row, row);
        }
    }

    /// The flush of the memslots that made pages obsolete; the caller releases it. Where functions
    /// cannot be hooked, its record is yet to come, after its zaps.
    pub(super) fn flush_act(&mut self, row: &PageRow) -> Option<ActId> {
        match self.host_act_on(None, Kind::Memslot, None) {
            Some(act) => {
                self.acts.hold(act);
                Some(act)
            }
            None => self.group(None, row, None),
        }
    }

    /// One more page of a group of zaps; gives its act.
    pub(super) fn zap_act(&mut self, row: &PageRow, vm: &VmReplay) -> Option<ActId> {
        let vcpu = row.vcpu;
        let thread = self.thread(vcpu);
        let store = thread.store.filter(|store| store.gpa.gfn() == row.gfn);
        let store = store.filter(|_| row.direct == 0);
        if row.role.is_invalid(&self.invalid) {
            return self.page_act(row, RefaultCause::RootFreed);
        }
        if self.places.is_obsolete(row.spt) {
            return self.flush_act(row);
        }
        let since = vm.tables().page(row.spt).map(|page| page.since);
        if store.is_none() {
            let flush = self.thread(vcpu).host.get(Kind::Memslot as usize);
            let flush = flush.and_then(|flush| flush.as_ref());
            let older = |flush: &&HostAct| since.is_some_and(|since| since < flush.row.seq);
            if flush.filter(older).is_some()
                && let Some(act) = self.host_act_on(vcpu, Kind::Memslot, None)
            {
                self.acts.hold(act);
                return Some(act);
            }
            if self.thread(vcpu).synced == Some(row.spt) {
                return self.page_act(row, RefaultCause::SyncFailed);
            }
        }
        let act = self.group(vcpu, row, store)?;
        let thread = self.thread(vcpu);
        let repeated = row.direct == 0 && thread.stored == Some(row.gfn);
        if let Some(zaps) = thread.zaps.as_mut() {
            zaps.pages += 1;
            zaps.repeated |= repeated;
            if zaps.frames.len() < MAX_FRAMES {
                zaps.frames.push((row.gfn, row.level));
            }
        }
        Some(act)
    }

    fn page_act(&mut self, row: &PageRow, cause: RefaultCause) -> Option<ActId> {
        self.open((row.seq, row.time_ns), cause, What::of_page(row))
    }

    /// The group that a zap belongs to. An unsync child goes with what was zapped before it, and
    /// nothing with what was zapped long before: no fault ends the acts of other threads than vCPUs'.
    fn group(
        &mut self,
        vcpu: Option<VcpuId>,
        row: &PageRow,
        store: Option<Store>,
    ) -> Option<ActId> {
        let other = |zaps: &&Zaps| {
            let pause = row.time_ns.0.saturating_sub(zaps.last.0);
            pause > STORM_PAUSE_NS || (zaps.by_store != store.is_some() && row.unsync == 0)
        };
        if self.thread(vcpu).zaps.as_ref().filter(other).is_some() {
            self.give_up_zaps(vcpu);
        }
        if self.thread(vcpu).zaps.is_none() {
            let (at, what) = match store {
                Some(store) => ((store.seq, store.time), What::Store(store.gpa)),
                None => ((row.seq, row.time_ns), What::of_page(row)),
            };
            let act = self.open(at, RefaultCause::NotSeen, what)?;
            let free = self.free_bills.pop();
            let bill = free.unwrap_or_else(|| {
                self.bills.push(Bill::default());
                self.bills.len() - 1
            });
            if let Some(act) = self.acts.get_mut(act) {
                act.bill = bill;
            }
            self.thread(vcpu).zaps = Some(Zaps {
                act,
                bill,
                by_store: store.is_some(),
                pages: 0,
                last: row.time_ns,
                frames: Vec::new(),
                new_role: false,
                repeated: false,
            });
        }
        let zaps = self.thread(vcpu).zaps.as_mut()?;
        zaps.last = row.time_ns;
        let act = zaps.act;
        self.acts.hold(act);
        Some(act)
    }

    /// Zaps of a vCPU that nothing else explains made room, if KVM has counted any such.
    fn for_room(&self, vcpu: Option<VcpuId>) -> RefaultCause {
        match vcpu.is_some() && self.may_recycle() {
            true => RefaultCause::Recycling,
            false => RefaultCause::NotSeen,
        }
    }

    /// Whether KVM zapped pages for room, as far as its counter is known.
    fn may_recycle(&self) -> bool {
        let counted = self.meta.as_ref().and_then(|meta| {
            let before = meta.counters_before.vm.get("mmu_recycled")?;
            let after = meta.counters_after.as_ref()?.vm.get("mmu_recycled")?;
            Some(after.saturating_sub(*before))
        });
        counted != Some(0)
    }

    /// A frame becomes a table: an unsync page of it, of another level, was zapped for that.
    pub(super) fn became(&mut self, row: &PageRow) {
        if let Some(zaps) = &mut self.thread(row.vcpu).zaps {
            let other = |(gfn, level): &(Gfn, Level)| *gfn == row.gfn && *level != row.level;
            zaps.new_role |= zaps.frames.iter().any(other);
        }
    }

    /// A fault is over: it shows what its zaps were for.
    pub(super) fn end_zaps_of(&mut self, row: &FaultRow) {
        use events::Class::{Retried, WriteProtected};
        let vcpu = Some(row.vcpu);
        let may_recycle = self.may_recycle();
        let Some(zaps) = &self.thread(vcpu).zaps else {
            return;
        };
        let stores = matches!(row.class, WriteProtected | Retried);
        let within = u32::from(row.zapped) >= zaps.pages.min(u8::MAX.into());
        let gfn = faults::gpa(row).map(Gpa::gfn);
        let own = zaps.frames.iter().any(|(frame, _)| Some(*frame) == gfn);
        let (act, by_store) = (zaps.act, zaps.by_store);
        let retried = zaps.repeated || (stores && own);
        let new_role = zaps.new_role;
        let cause = match by_store {
            true if within && !stores && may_recycle => self.for_room(vcpu),
            true => RefaultCause::Flooding,
            false if retried => RefaultCause::StoreRetried,
            false if new_role => RefaultCause::NewRole,
            false => self.for_room(vcpu),
        };
        if cause == RefaultCause::Recycling
            && let Some(act) = self.acts.get_mut(act)
        {
            // Who needed the room; the page that made it is any that was not used for long.
            let (gva, cr3) = (row.gva, row.cr3);
            act.what = What::Room { gva, cr3 };
        }
        self.end_zaps(vcpu, cause);
    }

    /// No fault came that shows what a group of zaps was for.
    pub(super) fn give_up_zaps(&mut self, vcpu: Option<VcpuId>) {
        let zaps = self.thread(vcpu).zaps.as_ref();
        let is = |what: fn(&Zaps) -> bool| zaps.is_some_and(what);
        let cause = if is(|zaps| zaps.by_store) {
            RefaultCause::Flooding
        } else if is(|zaps| zaps.repeated) {
            RefaultCause::StoreRetried
        } else {
            self.for_room(vcpu)
        };
        self.end_zaps(vcpu, cause);
    }

    /// The cause of a group of zaps is known.
    pub(super) fn end_zaps(&mut self, vcpu: Option<VcpuId>, cause: RefaultCause) {
        let Some(zaps) = self.thread(vcpu).zaps.take() else {
            return;
        };
        let own = self.bills.get_mut(zaps.bill).map(std::mem::take);
        self.free_bills.push(zaps.bill);
        if let (Some(own), Some(bill)) = (own, self.bills.get_mut(cause.index())) {
            bill.take(own);
        }
        if let Some(act) = self.acts.get_mut(zaps.act) {
            act.cause = cause;
            act.bill = cause.index();
        }
        self.acts.release(zaps.act);
    }
}
