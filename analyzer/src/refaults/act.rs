//! Acts: what removed or weakened entries, and what that led to.

use std::{cmp::Reverse, collections::BinaryHeap};

use events::{Gfn, Gpa, Gva, HostEvent, Hpa, Level, PageEvent, Seq, TimeNs};
use trace::{HostRow, PageRow, Slot, pathology};

use super::{RefaultCause, bill::Bill};
use crate::faults::{Paid, Worst};

/// Names an act while entries that it removed are still missing.
pub(super) type ActId = u32;
/// The first of them; lower numbers are other states of a place.
pub(super) const FIRST_ACT: ActId = 3;
/// Acts kept apart at a time, 100 bytes each. What more acts remove is of no act that is seen.
const MAX_OPEN: usize = 1 << 20;

/// Refaults on what one act of the host took away: 64 KiB, a batch of a balloon or of reclaim.
pub const DISCARD_REFAULTS: u32 = 16;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A store of the guest's.
    Store(Gpa),
    /// A change of entries of the shadow page of a guest table.
    Table { gfn: Gfn, level: Level },
    /// An event of a shadow page.
    Page {
        event: PageEvent,
        gfn: Gfn,
        level: Level,
    },
    /// An act of the host.
    Host {
        event: HostEvent,
        slot: Option<Slot>,
        gfn: Gfn,
        pages: u64,
    },
    /// A change of one entry.
    Entry(Hpa),
    /// A fault on a frame.
    Frame(Gfn),
    /// A fault that needed a page, when there were as many as KVM allows.
    Room { gva: Gva, cr3: Gpa },
}

impl What {
    pub(super) fn of_page(row: &PageRow) -> Self {
        Self::Page {
            event: row.event,
            gfn: row.gfn,
            level: row.level,
        }
    }

    pub(super) fn of_host(row: &HostRow) -> Self {
        Self::Host {
            event: row.event,
            slot: row.slot,
            gfn: row.gfn,
            pages: row.pages,
        }
    }
}

/// One act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Act {
    /// Its record.
    pub seq: Seq,
    /// When.
    pub time: TimeNs,
    /// What it is to the entries that it removed.
    pub cause: RefaultCause,
    /// What was done.
    pub what: What,
    /// Shadow pages that it zapped.
    pub pages: u32,
    /// Entries that it removed.
    pub removed: u32,
    /// Entries that lost rights by it.
    pub weakened: u32,
    /// Faults that came of it, within the window.
    pub refaults: u32,
    /// Their time, ns.
    pub total_ns: u64,
    /// Of that, faults whose thread was switched out meanwhile.
    pub switched_out_ns: u64,
    /// The costliest of them.
    pub worst: Option<Worst>,
    /// The latest of them.
    pub last: Seq,
    /// The bill that it goes to: that of its cause, or one of its own until that is known.
    pub(super) bill: usize,
    /// Shadow pages that there were when it zapped the first.
    pub(super) of_pages: u64,
    /// The latest zap.
    pub(super) zapped: Seq,
    /// Its bill counts it: it did something in the stretch asked for.
    is_counted: bool,
    /// Places that still miss what it removed, and trackers that may add to it.
    users: u32,
}

/// What an act does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It zaps a shadow page.
    Zapped,
    /// It removes an entry.
    Removed,
    /// It takes rights from an entry.
    Weakened,
}

impl Act {
    /// It does something more, which its bill counts if it is `inside` of the stretch asked for.
    pub(super) fn does(&mut self, effect: Effect, bill: &mut Bill, inside: bool) {
        let (of_act, of_bill) = match effect {
            Effect::Zapped => (&mut self.pages, &mut bill.pages),
            Effect::Removed => (&mut self.removed, &mut bill.removed),
            Effect::Weakened => (&mut self.weakened, &mut bill.weakened),
        };
        *of_act = of_act.saturating_add(1);
        if inside {
            *of_bill += 1;
            bill.acts += u64::from(!std::mem::replace(&mut self.is_counted, true));
        }
    }

    /// It has removed nothing yet.
    pub(super) fn is_idle(&self) -> bool {
        self.pages == 0 && self.removed == 0 && self.weakened == 0
    }

    /// The time of the refaults whose thread was not switched out: what an order goes by.
    fn own_ns(&self) -> u64 {
        self.total_ns.saturating_sub(self.switched_out_ns)
    }

    /// It zapped many pages, or most of those there were.
    fn is_storm(&self) -> bool {
        pathology::is_storm(self.pages, self.of_pages)
    }

    /// A guest table that it has to do with.
    pub(super) fn table(&self) -> Option<Gfn> {
        match self.what {
            What::Store(gpa) => Some(gpa.gfn()),
            What::Table { gfn, .. } => Some(gfn),
            _ => None,
        }
    }

    /// The host took memory away that the guest uses.
    fn is_discard(&self) -> bool {
        let host = matches!(self.what, What::Host { .. });
        host && self.cause == RefaultCause::HostUnmap && self.refaults >= DISCARD_REFAULTS
    }
}

/// Acts of one kind that are worth a warning.
#[derive(Clone, Debug, Default)]
pub(super) struct Heavy {
    pub(super) acts: u64,
    pub(super) pages: u64,
    pub(super) refaults: u64,
    pub(super) paid: Paid,
    /// The largest.
    pub(super) most: Option<Act>,
}

impl Heavy {
    fn add(&mut self, act: &Act, size: fn(&Act) -> u64) {
        self.acts += 1;
        self.pages += u64::from(act.pages);
        self.refaults += u64::from(act.refaults);
        self.paid.add_all(Paid {
            total_ns: act.total_ns,
            switched_out_ns: act.switched_out_ns,
        });
        if self.most.is_none_or(|most| size(&most) < size(act)) {
            self.most = Some(*act);
        }
    }
}

/// In the order of their costs, those that removed more first where they are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ranked([u64; 2], Reverse<Seq>, Act);

impl Ranked {
    fn key(&self) -> ([u64; 2], Reverse<Seq>) {
        (self.0, self.1)
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// The acts that cost most.
#[derive(Clone, Debug)]
pub(super) struct Top {
    most: usize,
    heap: BinaryHeap<Reverse<Ranked>>,
}

impl Top {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            heap: BinaryHeap::new(),
        }
    }

    fn add(&mut self, key: [u64; 2], act: Act) {
        let ranked = Reverse(Ranked(key, Reverse(act.seq), act));
        if self.heap.len() < self.most {
            self.heap.push(ranked);
        } else if let Some(mut least) = self.heap.peek_mut()
            && least.0 < ranked.0
        {
            *least = ranked;
        }
    }

    /// The costliest first.
    pub(super) fn sorted(self) -> Vec<Act> {
        let sorted = self.heap.into_sorted_vec();
        sorted.into_iter().map(|ranked| ranked.0.2).collect()
    }
}

/// The acts that something still misses entries of.
#[derive(Clone, Debug)]
pub(super) struct RemovalActs {
    slab: Vec<Act>,
    free: Vec<u32>,
    /// By the time of their refaults.
    pub(super) costly: Top,
    /// By the pages that they zapped.
    pub(super) storms: Top,
    /// All acts that zapped many pages of a VM that ran on.
    pub(super) zap_storms: Heavy,
    /// Those of which it is not known yet: the end of a VM zaps all its pages.
    last_storms: Vec<Act>,
    /// The latest record that shows that the VM runs.
    lived: Seq,
    /// All acts by which the host took memory away that came back.
    pub(super) discards: Heavy,
    /// Acts that were not kept apart.
    pub(super) unkept: u64,
    /// The record of an act that somebody asks for, and the act.
    wanted: Option<Seq>,
    pub(super) asked: Option<Act>,
}

impl RemovalActs {
    pub(super) fn new(top: usize, wanted: Option<Seq>) -> Self {
        Self {
            slab: Vec::new(),
            free: Vec::new(),
            costly: Top::new(top),
            storms: Top::new(top),
            zap_storms: Heavy::default(),
            last_storms: Vec::new(),
            lived: Seq(0),
            discards: Heavy::default(),
            unkept: 0,
            wanted,
            asked: None,
        }
    }

    /// A new act, which has one user: whoever may add to it. `None` beyond the bound.
    pub(super) fn open(
        &mut self,
        (seq, time): (Seq, TimeNs),
        cause: RefaultCause,
        what: What,
    ) -> Option<ActId> {
        let act = Act {
            seq,
            time,
            cause,
            what,
            pages: 0,
            removed: 0,
            weakened: 0,
            refaults: 0,
            total_ns: 0,
            switched_out_ns: 0,
            worst: None,
            last: seq,
            bill: cause.index(),
            of_pages: 0,
            zapped: seq,
            is_counted: false,
            users: 1,
        };
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.slab.get_mut(at as usize) {
                    *place = act;
                }
                at
            }
            None if self.slab.len() < MAX_OPEN => {
                self.slab.push(act);
                u32::try_from(self.slab.len() - 1).ok()?
            }
            None => {
                self.unkept += 1;
                return None;
            }
        };
        Some(at + FIRST_ACT)
    }

    pub(super) fn get(&self, id: ActId) -> Option<&Act> {
        self.slab.get(id.checked_sub(FIRST_ACT)? as usize)
    }

    pub(super) fn get_mut(&mut self, id: ActId) -> Option<&mut Act> {
        self.slab.get_mut(id.checked_sub(FIRST_ACT)? as usize)
    }

    pub(super) fn hold(&mut self, id: ActId) {
        if let Some(act) = self.get_mut(id) {
            act.users += 1;
        }
    }

    /// One user less. Without any, the act is over.
    pub(super) fn release(&mut self, id: ActId) {
        let Some(act) = self.get_mut(id) else { return };
        act.users = act.users.saturating_sub(1);
        if act.users == 0 {
            let act = *act;
            self.rank(act);
            self.free.push(id - FIRST_ACT);
        }
    }

    /// A record shows that the VM runs: what was zapped before is not its end.
    pub(super) fn lives(&mut self, at: Seq) {
        self.lived = at;
        for act in self.last_storms.drain(..) {
            self.zap_storms.add(&act, Act::own_ns);
        }
    }

    fn rank(&mut self, act: Act) {
        if self.wanted == Some(act.seq) && self.asked.is_none_or(|other| other.is_idle()) {
            self.asked = Some(act);
        }
        if act.is_storm() {
            match act.zapped < self.lived {
                true => self.zap_storms.add(&act, Act::own_ns),
                false => self.last_storms.push(act),
            }
        }
        if act.is_discard() {
            self.discards.add(&act, Act::own_ns);
        }
        if act.refaults > 0 {
            self.costly.add([act.own_ns(), act.removed.into()], act);
        }
        if act.pages > 0 {
            self.storms.add([act.pages.into(), act.own_ns()], act);
        }
    }

    /// There are no more records: all acts are over.
    pub(super) fn finish(&mut self) {
        let over = std::mem::take(&mut self.slab);
        for act in over.into_iter().filter(|act| act.users > 0) {
            self.rank(act);
        }
        self.free.clear();
    }
}
