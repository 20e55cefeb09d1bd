//! The host's part of each workload.

use std::time::Duration;

use abi::layout::WORK_POOL_ALIGN;
use abi::{FrameRange, Gpa, PAGE_BYTES, Shape, Shares, WorkloadId};

use crate::given::Given;
use crate::memory::Pools;
use crate::{Actor, Backing, Host, Slot};

/// The memslot of all memory, or of all memory except the work frames.
const FIRST_SLOT: u16 = 0;
/// The memslot of the work frames, if they have one.
const WORK_SLOT: u16 = 1;
/// Pause of an actor that is the only one.
const OFTEN: Duration = Duration::from_millis(1);
/// Pause of one of several actors.
const SELDOM: Duration = Duration::from_millis(20);
/// Number of chunks of a reclaimed range.
const CHUNKS: u64 = 8;

/// What the VMM does for a workload with these parameters.
pub(crate) fn host(workload: WorkloadId, given: Given<'_>, pools: &Pools) -> Host {
    let work = pools.work;
    let host = |backing, actors| Host {
        slots: two_slots(pools, backing),
        actors,
        mmu_pages: None,
        smm: false,
    };
    match workload {
        WorkloadId::Huge if given.choice("prevent") != "nothing" => {
            prevented(given.choice("prevent"), pools)
        }
        WorkloadId::Huge if given.choice("backing") == "huge" => host(Backing::Huge, Vec::new()),
        WorkloadId::Huge => host(Backing::Small, Vec::new()),
        WorkloadId::Reclaim => host(Backing::Small, vec![reclaim(halves(work), OFTEN)]),
        WorkloadId::Dirty => host(
            Backing::Small,
            vec![Actor::DirtyLog {
                slot: WORK_SLOT,
                clear: given.flag("clear"),
                toggle: given.flag("toggle"),
                every: OFTEN,
            }],
        ),
        WorkloadId::Memslot => host(Backing::Small, vec![memslots(pools, OFTEN)]),
        WorkloadId::Mixed => host(Backing::Small, mixed(given, pools)),
        _ => Host {
            slots: vec![Slot {
                id: FIRST_SLOT,
                gpa: Gpa(0),
                bytes: pools.memory_bytes(),
                backing: Backing::Small,
            }],
            actors: Vec::new(),
            mmu_pages: mmu_pages(workload, given),
            smm: given.choice("shape") == Shape::Smm.name(),
        },
    }
}

/// Huge pages of the host under everything, and what keeps KVM from mapping them.
fn prevented(by: &str, pools: &Pools) -> Host {
    let mut slots = two_slots(pools, Backing::Huge);
    let mut actors = Vec::new();
    match by {
        "alignment" => slots[1].backing = Backing::Shifted,
        // The guest maps the first 2 MiB of page tables too.
        "tables" => slots[0].backing = Backing::Huge,
        "dirty" => actors.push(Actor::DirtyLog {
            slot: WORK_SLOT,
            clear: false,
            toggle: false,
            every: OFTEN,
        }),
        _ => {}
    }
    Host {
        slots,
        actors,
        mmu_pages: None,
        smm: false,
    }
}

/// KVM's default for such a small guest is about a hundred shadow pages. Many address spaces need
/// more, and recycling would invalidate the theory.
fn mmu_pages(workload: WorkloadId, given: Given<'_>) -> Option<u64> {
    /// Shadow pages of an address space: the root and three tables below it.
    const LEVELS: u64 = 4;
    /// For everything else, and for what KVM keeps free.
    const MORE: u64 = 128;
    match workload {
        WorkloadId::Recycle => Some(given.count("mmu_pages")),
        WorkloadId::Switch => Some(LEVELS * given.count("spaces") + MORE),
        WorkloadId::Alloc => Some(LEVELS * given.count("processes") + MORE),
        _ => None,
    }
}

/// Two memslots: the work frames, and everything before them.
fn two_slots(pools: &Pools, backing: Backing) -> Vec<Slot> {
    let work = pools.work;
    vec![
        Slot {
            id: FIRST_SLOT,
            gpa: Gpa(0),
            bytes: work.start.0,
            backing: Backing::Small,
        },
        Slot {
            id: WORK_SLOT,
            gpa: work.start,
            bytes: work.frames * PAGE_BYTES,
            backing,
        },
    ]
}

fn halves(range: FrameRange) -> [FrameRange; 2] {
    let frames = range.frames / 2;
    let start = range.start.add_frames(frames);
    [
        FrameRange { frames, ..range },
        FrameRange {
            start,
            frames: range.frames - frames,
        },
    ]
}

fn reclaim([discard, disturb]: [FrameRange; 2], every: Duration) -> Actor {
    Actor::Reclaim {
        discard,
        disturb,
        chunk_frames: discard.frames.max(disturb.frames).div_ceil(CHUNKS),
        every,
    }
}

/// Moves the slot of the work frames to an address after the end of memory.
fn memslots(pools: &Pools, every: Duration) -> Actor {
    Actor::Memslots {
        slot: WORK_SLOT,
        window: Gpa(pools.memory_bytes().next_multiple_of(WORK_POOL_ALIGN)),
        every,
    }
}

/// Two actors may not change the same slot, so the first slot is logged, which holds the tables.
fn mixed(given: Given<'_>, pools: &Pools) -> Vec<Actor> {
    let shares = Shares {
        start: pools.work.start,
        cpus: given.count("vcpus"),
    };
    vec![
        reclaim([shares.all_discardable(), shares.lasting()], SELDOM),
        Actor::DirtyLog {
            slot: FIRST_SLOT,
            clear: given.seed("seed").is_multiple_of(2),
            toggle: true,
            every: SELDOM,
        },
        memslots(pools, SELDOM),
    ]
}
