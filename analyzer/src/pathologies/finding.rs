//! What was found.

use events::{Gfn, Gpa, Gva, Seq, VcpuId};
use serde::{Serialize, Serializer};
use trace::{
    Slot,
    pathology::{LIVE_LOCK, REPEATS, STORM_LEAST, STORM_PAGES, ZAP_STORM},
};

use super::{huge, ping_pong, prefetch, roots, unsync_storm};
use crate::{faults::Paid, refaults::DISCARD_REFAULTS, text::units::count};

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pathology {
    /// A vCPU takes the same fault again and again, and no entry changes.
    LiveLock,
    /// One act zaps many shadow pages of a VM that runs on.
    ZapStorm,
    /// A guest table is protected, stored to, synced and protected again.
    PingPong,
    /// One switch or flush syncs many pages.
    UnsyncStorm,
    /// The host takes memory away that the guest uses.
    HostDiscard,
    /// Entries that were mapped ahead are not used.
    UnusedPrefetch,
    /// A root is built anew at each switch to it.
    RootsRebuilt,
    /// Memory that could be mapped by a huge page is mapped by small ones.
    NoHugePage,
}

impl Pathology {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::LiveLock,
        Self::ZapStorm,
        Self::PingPong,
        Self::UnsyncStorm,
        Self::HostDiscard,
        Self::UnusedPrefetch,
        Self::RootsRebuilt,
        Self::NoHugePage,
    ];

    /// Its name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LiveLock => LIVE_LOCK,
            Self::ZapStorm => ZAP_STORM,
            Self::PingPong => "ping_pong",
            Self::UnsyncStorm => "unsync_storm",
            Self::HostDiscard => "host_discard",
            Self::UnusedPrefetch => "unused_prefetch",
            Self::RootsRebuilt => "roots_rebuilt",
            Self::NoHugePage => "no_huge_page",
        }
    }

    /// What `count` counts, and what `size` does.
    pub const fn counted(self) -> [&'static str; 2] {
        match self {
            Self::LiveLock => ["run", "fault"],
            Self::ZapStorm => ["act", "shadow page"],
            Self::PingPong => ["table", "round"],
            Self::UnsyncStorm => ["round", "shadow page"],
            Self::HostDiscard => ["act", "refault"],
            Self::UnusedPrefetch => ["unused entry", "prefetched entry"],
            Self::RootsRebuilt => ["root", "rebuild"],
            Self::NoHugePage => ["region", "fault"],
        }
    }

    /// From when on it is found, and why from there.
    pub fn threshold(self) -> String {
        match self {
            Self::LiveLock => format!(
                "{} equal faults of a vCPU in a row (RIP, address, error code) that change no \
                 entry: a retry for the host's act ends with it, and takes a few; a guest that \
                 gets on by its own #PF handler (a safepoint poll) looks the same",
                REPEATS
            ),
            Self::ZapStorm => format!(
                "{STORM_PAGES} pages by one act (one recycling frees 25 at most, less those that \
                 are free), or half of all, if that is {STORM_LEAST}, one path from root to leaf; \
                 the VM runs on: its end zaps all"
            ),
            Self::PingPong => format!(
                "{} times unsync of one table: once or twice is how a table is filled",
                ping_pong::CYCLES
            ),
            Self::UnsyncStorm => format!(
                "{} pages synced without a fault between: {} entries are compared",
                unsync_storm::SYNCED,
                count(unsync_storm::SYNCED * 512)
            ),
            Self::HostDiscard => format!(
                "{DISCARD_REFAULTS} refaults on what one act of the host took away: 64 KiB, a \
                 batch of a balloon or of reclaim"
            ),
            Self::UnusedPrefetch => format!(
                "{} prefetched entries with A clear at a keyframe, and half of those there: KVM \
                 prefetches 8 at a time, and A stays clear until the first access",
                prefetch::UNUSED
            ),
            Self::RootsRebuilt => format!(
                "{} switches to one CR3 that find a new root, and half of those to it: KVM keeps \
                 the roots that it can",
                roots::REBUILT
            ),
            Self::NoHugePage => format!(
                "{} region of 2 MiB: each takes 512 faults in place of one",
                huge::REGIONS
            ),
        }
    }
}

impl Serialize for Pathology {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

/// Who, or what; what is not known is null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Culprit {
    /// The vCPU.
    pub vcpu: Option<VcpuId>,
    /// The guest's CR3.
    pub cr3: Option<Gpa>,
    /// The guest's instruction pointer.
    pub rip: Option<Gva>,
    /// The address.
    pub gva: Option<Gva>,
    /// The guest's frame.
    pub gfn: Option<Gfn>,
    /// The memslot.
    pub slot: Option<Slot>,
    /// An act, in words.
    pub what: Option<String>,
    /// A reason, in words.
    pub why: Option<String>,
}

impl Culprit {
    /// In words.
    pub fn text(&self) -> String {
        let parts = [
            self.what.clone(),
            self.vcpu.map(|vcpu| format!("vCPU {}", vcpu.0)),
            self.cr3.map(|cr3| format!("cr3 {cr3}")),
            self.rip.map(|rip| format!("rip {rip}")),
            self.gva.map(|gva| format!("gva {gva}")),
            self.gfn.map(|gfn| format!("gfn {gfn}")),
            self.slot.map(|slot| format!("slot {}", slot.0)),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        let why = self.why.iter().map(|why| format!(": {why}"));
        parts.join(", ") + &why.collect::<String>()
    }
}

/// A pathology that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub pathology: Pathology,
    /// How often, see [`Pathology::counted`].
    pub count: u64,
    /// How much in all, see [`Pathology::counted`].
    pub size: u64,
    /// What it cost, ns: the time of the faults that came of it; of `unsync_storm` that of the
    /// syncs; of `roots_rebuilt` that of all faults on a new root until the next switch. Null where
    /// no record has a time: of `unused_prefetch`, and of syncs without `acts`.
    pub cost_ns: Option<u64>,
    /// Of it, faults whose thread was switched out meanwhile, so that their time holds other work.
    pub switched_out_ns: u64,
    /// The worst culprit.
    pub culprit: Culprit,
    /// The record that shows the worst, for `explain --seq`.
    pub seq: Seq,
    /// Records are missing in the trace: there may be more, or less.
    pub over_gap: bool,
    /// From when on it is found, and why.
    pub threshold: String,
}

impl Finding {
    /// What the findings are ordered by: the cost without other work.
    pub(super) fn own_ns(&self) -> Option<u64> {
        let cost = self.cost_ns?;
        Some(cost.saturating_sub(self.switched_out_ns))
    }

    pub(super) fn paid(self, paid: Paid) -> Self {
        Self {
            cost_ns: Some(paid.total_ns),
            switched_out_ns: paid.switched_out_ns,
            ..self
        }
    }

    pub(super) fn new(pathology: Pathology, count: u64, seq: Seq) -> Self {
        Self {
            pathology,
            count,
            size: 0,
            cost_ns: None,
            switched_out_ns: 0,
            culprit: Culprit::default(),
            seq,
            over_gap: false,
            threshold: pathology.threshold(),
        }
    }
}
