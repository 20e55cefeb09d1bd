//! Which guest frames a memslot held at a time.

use events::{Gfn, TimeNs};
use trace::VmMeta;

/// Memslots around a frame that are looked at. Bounds the work that a trace takes.
const MOST: usize = 64;
/// A leaf may be recorded this much later than it was stored.
const LATEST_NS: u64 = 2_000_000_000;

/// A memslot in frames, and its lifetime.
#[derive(Clone, Copy, Debug)]
struct Slot {
    first: u64,
    end: u64,
    from: u64,
    until: u64,
}

impl Slot {
    fn holds(&self, gfn: u64, end: u64) -> bool {
        self.first <= gfn && end <= self.end
    }
}

/// Whether a memslot holds a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// One does.
    Yes,
    /// None does.
    No,
    /// The history of the memslots does not say.
    Unknown,
}

/// The memslots of a VM over time.
///
/// The built-in VMM notes each change from just before to just after it. Those of an attached VM
/// are looked at from time to time: any of them may have been there earlier and later.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    /// By their beginning.
    all: Vec<Slot>,
    /// How many of them have begun.
    begun: usize,
    /// Those that have begun and have not ended long ago, by their first frame.
    live: Vec<Slot>,
    /// The highest end of the live ones up to each.
    reach: Vec<u64>,
    /// The one that held the last leaf.
    last: usize,
    /// The latest moment asked for.
    latest: u64,
    is_exact: bool,
}

impl Slots {
    /// By the metadata of a VM; `is_exact`: its VMM noted each change.
    pub(super) fn of(vm: Option<&VmMeta>, is_exact: bool) -> Self {
        let slots = vm.map_or(&[][..], |vm| vm.memslots.as_slice());
        let mut all: Vec<_> = slots
            .iter()
            .map(|slot| Slot {
                first: slot.gpa >> 12,
                end: (slot.gpa >> 12).saturating_add(slot.bytes >> 12),
                from: if is_exact { slot.from_ns } else { 0 },
                until: slot.until_ns.filter(|_| is_exact).unwrap_or(u64::MAX),
            })
            .collect();
        all.sort_by_key(|slot| (slot.from, slot.first, slot.end));
        all.dedup_by_key(|slot| (slot.from, slot.until, slot.first, slot.end));
        Self {
            all,
            is_exact,
            ..Self::default()
        }
    }

    /// There is none at all.
    pub(super) fn are_unknown(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one memslot holds `pages` frames from `gfn`, at some moment between two.
    pub(super) fn hold(&mut self, gfn: Gfn, pages: u64, from: TimeNs, to: TimeNs) -> Held {
        let end = gfn.0.saturating_add(pages);
        let is_there = |slot: &Slot| slot.from <= to.0 && from.0 <= slot.until;
        if let Some(slot) = self.live.get(self.last)
            && slot.holds(gfn.0, end)
            && is_there(slot)
        {
            return Held::Yes;
        }
        self.advance(to.0);
        let begin = self.live.partition_point(|slot| slot.first <= gfn.0);
        let around = self.live.iter().zip(&self.reach).enumerate().take(begin);
        // Further down none reaches so far.
        let around = around.rev().take_while(|(_, (_, reach))| **reach >= end);
        let mut found = None;
        for (tried, (at, (slot, _))) in around.enumerate() {
            if tried == MOST {
                return Held::Unknown;
            }
            if slot.holds(gfn.0, end) && is_there(slot) {
                found = Some(at);
                break;
            }
        }
        match found {
            Some(at) => {
                self.last = at;
                Held::Yes
            }
            // What ended before is forgotten.
            None if from.0.saturating_add(LATEST_NS) < self.latest => Held::Unknown,
            None => Held::No,
        }
    }

    /// Whether each change was noted when it happened.
    pub(super) fn are_exact(&self) -> bool {
        self.is_exact
    }

    fn advance(&mut self, to: u64) {
        self.latest = self.latest.max(to);
        let begun = self.all.get(self.begun..).unwrap_or_default();
        let more = begun.iter().take_while(|slot| slot.from <= to).count();
        if more == 0 {
            return;
        }
        let oldest = self.latest.saturating_sub(LATEST_NS);
        self.live.retain(|slot| slot.until >= oldest);
        self.live.extend(begun.iter().take(more));
        self.live.sort_by_key(|slot| (slot.first, slot.end));
        let reach = self.live.iter().scan(0, |reach: &mut u64, slot| {
            *reach = slot.end.max(*reach);
            Some(*reach)
        });
        self.reach = reach.collect();
        self.begun += more;
        self.last = 0;
    }
}
