//! The lives of the shadow page at one address, through a whole trace.

use events::{Class, Gpa, HostEvent, Hpa, PageEvent, VcpuId};
use trace::{EntryRow, FaultRow, KeyframePage, PageRow, Record};

use super::{history::History, state::Before, translations::translations};
use crate::{
    explain::facts::{FaultRef, Link, Moment, PageFacts, UnsyncPeriod, Zap, ZapCause, gpa},
    replay::Replay,
};

/// Links and unsync periods of one life that are kept in full.
const MAX_KEPT: usize = 6;
/// Lives kept of one address.
const MAX_LIVES: usize = 1 << 16;

/// See the module.
#[derive(Debug)]
pub(in crate::explain) struct Lives {
    spt: Hpa,
    lives: Vec<PageFacts>,
    /// The last of `lives` has not ended.
    is_alive: bool,
    /// A vCPU whose fault has no record yet.
    waiting: Option<VcpuId>,
    /// The latest page that was zapped, and whether it pointed to this one.
    zapped: Option<(PageRow, bool)>,
    total: u64,
}

impl Lives {
    pub fn new(spt: Hpa) -> Self {
        Self {
            spt: spt.table(),
            lives: Vec::new(),
            is_alive: false,
            waiting: None,
            zapped: None,
            total: 0,
        }
    }

    /// Takes the next record, and passes it on to the replay and the history.
    pub fn feed(&mut self, record: &Record, replay: &mut Replay, history: &mut History) {
        let vm = record.vm();
        let before = Before {
            replay: replay.vm(vm),
            history,
        };
        self.see(record, before);
        history.see(record, replay.vm(vm));
        replay.apply(record);
        if let (true, Some(life)) = (self.is_alive, self.lives.last_mut())
            && let Some(page) = replay.vm(vm).and_then(|vm| vm.tables().page(self.spt))
        {
            life.entries = page.present();
            life.most_entries = life.most_entries.max(life.entries);
        }
    }

    fn see(&mut self, record: &Record, before: Before<'_>) {
        match record {
            Record::Page(row) if row.spt == self.spt => self.page(row, before),
            Record::Page(row) if row.event == PageEvent::Zapped => {
                let parents = before.replay.map(|vm| vm.tables().parents(self.spt));
                let mut parents = parents.unwrap_or_default().iter();
                let is_parent = parents.any(|place| place.table() == row.spt);
                self.zapped = Some((row.clone(), is_parent));
            }
            Record::Keyframe(page) if page.spt == self.spt && !self.is_alive => {
                self.begin(&as_row(page), before.history);
            }
            Record::Entry(row) => self.entry(row, before),
            Record::Fault(row) => self.fault(row, before.history),
            _ => {}
        }
    }

    fn life(&mut self) -> Option<&mut PageFacts> {
        self.lives.last_mut().filter(|_| self.is_alive)
    }

    fn begin(&mut self, row: &PageRow, history: &History) {
        self.waiting = row.vcpu;
        if self.lives.len() < MAX_LIVES {
            self.is_alive = true;
            self.lives.push(PageFacts {
                spt: row.spt,
                number: self.total,
                gfn: row.gfn,
                level: row.level,
                direct: row.direct != 0,
                first: moment(row, history),
                was_born: row.event == PageEvent::Born,
                ..PageFacts::default()
            });
        }
        self.total += 1;
    }

    fn page(&mut self, row: &PageRow, before: Before<'_>) {
        // KVM zaps a root in use twice, the second time to free it: its life is over by then.
        if let (PageEvent::Zapped, false, Some(life)) =
            (row.event, self.is_alive, self.lives.last_mut())
            && let Some(zap) = life.zapped.as_mut().filter(|zap| zap.freed.is_none())
        {
            zap.freed = Some(row.seq);
            return;
        }
        // A sync that zapped the page has its record after that: no new life.
        if let (PageEvent::Sync, false, Some(life)) =
            (row.event, self.is_alive, self.lives.last_mut())
            && let Some(zap) = life.zapped.as_mut()
        {
            zap.synced = Some(row.seq);
            return;
        }
        if row.event == PageEvent::Born || !self.is_alive {
            self.is_alive = false;
            self.begin(row, before.history);
        }
        let zapped = self.zapped.take();
        let spt = self.spt;
        let Some(life) = self.life() else { return };
        if let Some(period) = life.unsync.last_mut() {
            period.page(row);
        }
        match row.event {
            PageEvent::Born | PageEvent::Sync => {}
            PageEvent::Reused => life.reused += 1,
            PageEvent::Unsync => {
                life.unsync_total += 1;
                if life.unsync.len() < MAX_KEPT {
                    life.unsync.push(UnsyncPeriod::begin(row));
                }
                self.waiting = row.vcpu;
            }
            PageEvent::Zapped => {
                life.zapped = Some(Zap {
                    at: moment(row, before.history),
                    parents: before.replay.map_or(0, |vm| vm.tables().parents(spt).len()),
                    was_unsync: row.unsync != 0,
                    freed: None,
                    synced: None,
                    why: why_zapped(row, zapped, before.history),
                });
                self.waiting = row.vcpu;
                self.is_alive = false;
            }
        }
    }

    fn entry(&mut self, row: &EntryRow, before: Before<'_>) {
        let spt = self.spt;
        let Some(life) = self.life() else { return };
        if row.sptep.table() == spt {
            *life.changes.entry(row.cause).or_default() += 1;
            // The changes of a period that is not kept are counted by cause only.
            if life.unsync_total == life.unsync.len() as u64
                && let Some(period) = life.unsync.last_mut()
            {
                period.entry(row, 0);
            }
        }
        let is_link = row.spte.is_shadow_present() && !row.spte.is_leaf(row.level);
        let old = before.replay.and_then(|vm| vm.tables().entry(row.sptep));
        let was_linked = old.is_some_and(|old| old.is_shadow_present() && old.child() == spt);
        if is_link && row.spte.child() == spt && !was_linked {
            life.links_total += 1;
            if life.links.len() < MAX_KEPT {
                life.links.push(Link {
                    seq: row.seq,
                    time_ns: row.time_ns,
                    sptep: row.sptep,
                    level: row.level,
                    translations: translations(row.sptep, before),
                });
            }
        }
    }

    fn fault(&mut self, row: &FaultRow, history: &History) {
        let spt = self.spt;
        let is_waited = self.waiting == Some(row.vcpu);
        let Some(life) = self.lives.last_mut() else {
            return;
        };
        if self.is_alive && row.sptep.is_some_and(|place| place.table() == spt) {
            life.leaves_by_faults += 1;
        }
        if !is_waited {
            return;
        }
        self.waiting = None;
        let fault = FaultRef::new(history.fault_count, row);
        let period = life.unsync.last_mut();
        if let Some(end) = life.zapped.as_mut().filter(|_| !self.is_alive) {
            end.at.fault.get_or_insert(fault);
            // Its store was not emulated: then the zap would be the store's.
            let stored = gpa(row).filter(|_| row.class == Class::WriteProtected);
            let is_own = stored.map(Gpa::gfn) == Some(life.gfn);
            if is_own && !life.direct && matches!(end.why, ZapCause::InFault) {
                end.why = history
                    .stores
                    .of(row)
                    .map_or(ZapCause::StoreRetried, |store| {
                        let stores = history.stores_since_use(life.gfn);
                        ZapCause::of_store(store.seq, stores, life.level)
                    });
            }
        } else if let Some(period) = period.filter(|period| period.synced.is_none()) {
            period.fault.get_or_insert(fault);
        }
        if life.first.vcpu == Some(row.vcpu) && life.first.fault.is_none() {
            life.first.fault = Some(fault);
            life.first.is_root = row.root.table() == spt;
        }
    }

    /// The lives, and how many there were.
    pub fn done(self) -> (Vec<PageFacts>, u64) {
        (self.lives, self.total)
    }
}

/// A page of a keyframe as the event that makes it known.
fn as_row(page: &KeyframePage) -> PageRow {
    PageRow {
        seq: page.seq,
        time_ns: page.time_ns,
        vm: page.vm,
        vcpu: None,
        event: PageEvent::Reused,
        spt: page.spt,
        gfn: page.gfn,
        role: page.role,
        level: page.level,
        direct: page.direct.into(),
        unsync: page.unsync.into(),
    }
}

fn moment(row: &PageRow, history: &History) -> Moment {
    Moment {
        seq: row.seq,
        time_ns: row.time_ns,
        vcpu: row.vcpu,
        phase: history.phase.clone(),
        ..Moment::default()
    }
}

/// Why a page was zapped; `zapped` is the page zapped before it, and whether it was a parent.
fn why_zapped(row: &PageRow, zapped: Option<(PageRow, bool)>, history: &History) -> ZapCause {
    if let Some((parent, true)) = zapped
        && parent.vcpu == row.vcpu
        && row.unsync != 0
    {
        return ZapCause::WithParent(parent.spt);
    }
    if row.vcpu.is_none() {
        let kinds = [HostEvent::FlushSlot, HostEvent::ZapRange];
        let act = history.open_act(&kinds, None, row.vcpu);
        return act.map_or(ZapCause::NoVcpu, |act| ZapCause::Host(act.clone()));
    }
    if let Some(store) = history.stores.open_on(row) {
        return ZapCause::of_store(store.seq, history.stores_since_use(row.gfn), row.level);
    }
    let last = history.pages.get(&row.vcpu);
    if last.is_some_and(|last| last.event == PageEvent::Sync && last.spt == row.spt) {
        ZapCause::SyncFailed
    } else if history.repeats_store(row) {
        ZapCause::StoreRetried
    } else {
        ZapCause::InFault
    }
}
