//! The life of a shadow page: born, linked, used again, unsync, synced, zapped.

use std::collections::BTreeMap;

use events::{Cause, Gfn, HostEvent, Hpa, Level, PageEvent, Seq, TimeNs, VcpuId};
use trace::{EntryRow, FaultRow, HostRow, PageRow, Record};

use super::{
    history::{FaultRef, History},
    unsync::Period,
    ways::Ways,
};
use crate::replay::{Replay, VmReplay};

/// One life of the page at an address; KVM gives the address out again after a zap.
#[derive(Clone, Debug)]
pub struct Life {
    /// The page of 512 entries.
    pub spt: Hpa,
    /// Which of the lives that the trace shows at this address, from 0.
    pub number: u64,
    /// First time of the trace, ns.
    pub start_ns: u64,
    /// The guest table it shadows; for a direct page, the first frame it maps.
    pub gfn: Gfn,
    /// Its level.
    pub level: Level,
    /// No guest table behind it.
    pub direct: bool,
    /// Its first record: its birth, or the first that names it.
    pub first: Moment,
    /// Whether that was its birth.
    pub was_born: bool,
    /// Entries that were pointed to it: the first few.
    pub links: Vec<Link>,
    /// How many in all.
    pub links_total: u64,
    /// Times it was found by a lookup and used again.
    pub reused: u64,
    /// Times in which it was unsync: the first few.
    pub unsync: Vec<Period>,
    /// How many in all.
    pub unsync_total: u64,
    /// Leaves stored in it as those of faults.
    pub leaves: u64,
    /// Changes of its entries by cause.
    pub changes: BTreeMap<Cause, u64>,
    /// The most entries it had.
    pub most: u32,
    /// Its entries at the end of its life or of the trace.
    pub entries: u32,
    /// Its end.
    pub end: Option<End>,
    /// Records missing in its time.
    pub missing: u64,
}

/// When, by whom, on the way of which fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The record.
    pub seq: Seq,
    /// When.
    pub time: TimeNs,
    /// On whose thread.
    pub vcpu: Option<VcpuId>,
    /// The guest's phase.
    pub phase: Option<(String, TimeNs)>,
    /// The fault on whose way it was: the next one of the vCPU.
    pub fault: Option<FaultRef>,
    /// The page is the root that this fault ran on.
    pub is_root: bool,
}

/// An entry that was pointed to the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The record.
    pub seq: Seq,
    /// When.
    pub time: TimeNs,
    /// Where the entry stands.
    pub place: Hpa,
    /// Level of its table.
    pub level: Level,
    /// The addresses below it.
    pub ways: Ways,
}

/// The end of a life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When, and by whom.
    pub at: Moment,
    /// Entries that pointed to it, and went with it.
    pub parents: usize,
    /// It was unsync.
    pub unsync: bool,
    /// Why.
    pub why: Zap,
}

/// Why a page was zapped, as far as the records tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zap {
    /// The guest's store to the table it shadows: the record, and how many stores since its last use.
    Store(Seq, u32),
    /// Its sync failed.
    SyncFailed,
    /// It was unsync, and a table that pointed to it was zapped just before.
    WithParent(Hpa),
    /// What the host did.
    Host(HostRow),
    /// Within a fault: for room, or since its frame became another table.
    InFault,
    /// No vCPU's thread: the VMM lets the VM go, or sets its pages' number.
    NoVcpu,
}

/// What is told in full of one life.
const MAX_TOLD: usize = 6;
/// Lives kept of one address.
const MAX_LIVES: usize = 1 << 16;

/// Watches one address through a trace.
#[derive(Debug)]
pub(super) struct Watch {
    spt: Hpa,
    lives: Vec<Life>,
    /// The last of `lives` goes on.
    is_alive: bool,
    /// A vCPU's fault whose record is to come.
    waiting: Option<VcpuId>,
    /// The latest page that was zapped on the same thread.
    zapped: Option<(PageRow, bool)>,
    total: u64,
}

impl Watch {
    pub(super) fn new(spt: Hpa) -> Self {
        Self {
            spt: spt.table(),
            lives: Vec::new(),
            is_alive: false,
            waiting: None,
            zapped: None,
            total: 0,
        }
    }

    /// Takes note of a record that neither `replay` nor `history` has yet.
    pub(super) fn see(&mut self, record: &Record, replay: Option<&VmReplay>, history: &History) {
        match record {
            Record::Page(row) if row.spt == self.spt => self.page(row, replay, history),
            Record::Page(row) if row.event == PageEvent::Zapped => {
                let mut parents = replay
                    .map_or(&[][..], |vm| vm.tables().parents(self.spt))
                    .iter();
                let is_parent = parents.any(|place| place.table() == row.spt);
                self.zapped = Some((row.clone(), is_parent));
            }
            Record::Keyframe(page) if page.spt == self.spt && !self.is_alive => {
                let row = PageRow {
                    seq: page.seq,
                    time_ns: page.time,
                    vm: page.vm,
                    vcpu: None,
                    event: PageEvent::Reused,
                    spt: page.spt,
                    gfn: page.gfn,
                    role: page.role,
                    level: page.level,
                    direct: page.direct.into(),
                    unsync: page.unsync.into(),
                };
                self.begin(&row, history);
            }
            Record::Entry(row) => self.entry(row, replay, history),
            Record::Fault(row) => self.fault(row, history),
            _ => {}
        }
    }

    /// Keeps up with what replay made of the record.
    pub(super) fn after(&mut self, replay: Option<&VmReplay>) {
        if let (true, Some(life)) = (self.is_alive, self.lives.last_mut())
            && let Some(page) = replay.and_then(|vm| vm.tables().page(self.spt))
        {
            life.entries = page.present();
            life.most = life.most.max(life.entries);
        }
    }

    fn life(&mut self) -> Option<&mut Life> {
        self.lives.last_mut().filter(|_| self.is_alive)
    }

    fn begin(&mut self, row: &PageRow, history: &History) {
        self.waiting = row.vcpu;
        self.total += 1;
        if self.lives.len() >= MAX_LIVES {
            return;
        }
        self.is_alive = true;
        self.lives.push(Life {
            spt: row.spt,
            number: self.lives.len() as u64,
            start_ns: 0,
            gfn: row.gfn,
            level: row.level,
            direct: row.direct != 0,
            first: moment(row, history),
            was_born: row.event == PageEvent::Born,
            links: Vec::new(),
            links_total: 0,
            reused: 0,
            unsync: Vec::new(),
            unsync_total: 0,
            leaves: 0,
            changes: BTreeMap::new(),
            most: 0,
            entries: 0,
            end: None,
            missing: 0,
        });
    }

    fn page(&mut self, row: &PageRow, replay: Option<&VmReplay>, history: &History) {
        // A root in use is zapped once more when it is let go: its life is over already.
        let is_new = row.event == PageEvent::Born;
        if is_new
            || (!self.is_alive && row.event != PageEvent::Zapped && row.event != PageEvent::Sync)
        {
            self.is_alive = false;
            self.begin(row, history);
        }
        let zapped = self.zapped.take();
        let spt = self.spt;
        let Some(life) = self.life() else { return };
        match row.event {
            PageEvent::Born => {}
            PageEvent::Reused => life.reused += 1,
            PageEvent::Unsync => {
                life.unsync_total += 1;
                if life.unsync.len() < MAX_TOLD {
                    life.unsync.push(Period::begin(row));
                }
                self.waiting = row.vcpu;
            }
            PageEvent::Sync => {
                if let Some(period) = life.unsync.last_mut() {
                    period.page(row);
                }
            }
            PageEvent::Zapped => {
                life.end = Some(End {
                    at: moment(row, history),
                    parents: replay.map_or(0, |vm| vm.tables().parents(spt).len()),
                    unsync: row.unsync != 0,
                    why: reason(row, zapped, history),
                });
                self.waiting = row.vcpu;
                self.is_alive = false;
            }
        }
    }

    fn entry(&mut self, row: &EntryRow, replay: Option<&VmReplay>, history: &History) {
        let spt = self.spt;
        let Some(life) = self.life() else { return };
        if row.sptep.table() == spt {
            *life.changes.entry(row.cause).or_default() += 1;
            // A time that is not told in full has its changes counted by cause only.
            if life.unsync_total as usize == life.unsync.len()
                && let Some(period) = life.unsync.last_mut()
            {
                period.entry(row);
            }
        }
        let is_link = row.spte.is_shadow_present() && !row.spte.is_leaf(row.level);
        let before = replay.and_then(|vm| vm.tables().entry(row.sptep));
        let stood =
            before.is_some_and(|before| before.is_shadow_present() && before.child() == spt);
        if is_link && row.spte.child() == spt && !stood {
            life.links_total += 1;
            if life.links.len() < MAX_TOLD {
                life.links.push(Link {
                    seq: row.seq,
                    time: row.time_ns,
                    place: row.sptep,
                    level: row.level,
                    ways: replay.map_or_else(Ways::default, |vm| Ways::to(row.sptep, vm, history)),
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
            life.leaves += 1;
        }
        if !is_waited {
            return;
        }
        self.waiting = None;
        let fault = FaultRef::new(history.count, row);
        if let Some(end) = life.end.as_mut().filter(|_| !self.is_alive) {
            end.at.fault.get_or_insert(fault);
        } else if let Some(period) = life
            .unsync
            .last_mut()
            .filter(|period| period.synced.is_none())
        {
            period.fault.get_or_insert(fault);
        }
        if life.first.vcpu == Some(row.vcpu) && life.first.fault.is_none() {
            life.first.fault = Some(fault);
            life.first.is_root = row.root.table() == spt;
        }
    }

    /// Its lives, and how many there were.
    pub(super) fn done(self) -> (Vec<Life>, u64) {
        (self.lives, self.total)
    }
}

fn moment(row: &PageRow, history: &History) -> Moment {
    Moment {
        seq: row.seq,
        time: row.time_ns,
        vcpu: row.vcpu,
        phase: history.phase.clone(),
        fault: None,
        is_root: false,
    }
}

fn reason(row: &PageRow, zapped: Option<(PageRow, bool)>, history: &History) -> Zap {
    if let Some((parent, true)) = zapped
        && parent.vcpu == row.vcpu
        && row.unsync != 0
    {
        return Zap::WithParent(parent.spt);
    }
    let kinds = [HostEvent::FlushSlot, HostEvent::ZapRange];
    let act = history.open_act(&kinds, None, row.vcpu);
    let Some(vcpu) = row.vcpu else {
        return act.map_or(Zap::NoVcpu, |act| Zap::Host(act.clone()));
    };
    let store = history.stores.open(vcpu);
    if let Some(store) = store.filter(|store| row.direct == 0 && store.gpa.gfn() == row.gfn) {
        return Zap::Store(store.seq, history.stores_since_use(row.gfn));
    }
    let last = history.pages.get(&row.vcpu);
    if last.is_some_and(|last| last.event == PageEvent::Sync && last.spt == row.spt) {
        return Zap::SyncFailed;
    }
    Zap::InFault
}

impl Life {
    /// Whether a record is within this life.
    pub(super) fn has(&self, seq: Seq) -> bool {
        let until = self.end.as_ref().map_or(Seq(u64::MAX), |end| end.at.seq);
        (self.first.seq..=until).contains(&seq)
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let links: Vec<_> = self
            .links
            .iter()
            .map(|link| {
                serde_json::json!({
                    "seq": link.seq.0, "time_ns": link.time.0, "sptep": link.place.0, "level": link.level.0,
                    "translates": link.ways.json(),
                })
            })
            .collect();
        let unsync: Vec<_> = self.unsync.iter().map(Period::json).collect();
        let changes: serde_json::Map<_, _> = self
            .changes
            .iter()
            .map(|(cause, count)| (cause.name().to_owned(), (*count).into()))
            .collect();
        serde_json::json!({
            "spt": self.spt.0, "life": self.number, "gfn": self.gfn.0, "level": self.level.0,
            "direct": self.direct, "was_born": self.was_born, "first": self.first.json(),
            "links": links, "links_total": self.links_total, "reused": self.reused, "unsync": unsync,
            "unsync_total": self.unsync_total, "leaves_by_faults": self.leaves, "changes": changes,
            "most_entries": self.most, "entries": self.entries,
            "zapped": self.end.as_ref().map(End::json),
            "missing_records": self.missing,
        })
    }
}

impl Moment {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "seq": self.seq.0, "time_ns": self.time.0, "vcpu": self.vcpu.map(|vcpu| vcpu.0),
            "phase": self.phase.as_ref().map(|(name, _)| name),
            "fault": self.fault.map(|fault| fault.json()), "is_root": self.is_root,
        })
    }
}

impl End {
    fn json(&self) -> serde_json::Value {
        let why = match &self.why {
            Zap::Store(seq, stores) => {
                serde_json::json!({"store_seq": seq.0, "stores_since_use": stores})
            }
            Zap::SyncFailed => "sync_failed".into(),
            Zap::WithParent(parent) => serde_json::json!({"with_parent": parent.0}),
            Zap::Host(row) => serde_json::json!({"host": super::act::host_json(row)}),
            Zap::InFault => "in_fault".into(),
            Zap::NoVcpu => "no_vcpu".into(),
        };
        serde_json::json!({
            "at": self.at.json(), "parents": self.parents, "was_unsync": self.unsync, "why": why,
        })
    }
}

/// Follows the watched address through a reading of the whole trace.
pub(super) fn feed(watch: &mut Watch, record: &Record, replay: &mut Replay, history: &mut History) {
    let vm = record.vm();
    watch.see(record, replay.vm(vm), history);
    replay.apply(record);
    history.see(record);
    watch.after(replay.vm(vm));
}
