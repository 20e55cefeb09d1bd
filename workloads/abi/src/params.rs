//! The parameters of workloads.

use crate::number::numbered;

/// Maximum number of pages of a work range: 2 GiB, so that guest memory stays below 3 GiB, away
/// from the addresses below 4 GiB that KVM on Intel reserves.
pub const MAX_PAGES: u64 = 1 << 19;

/// Maximum number of processes of `alloc`.
pub const MAX_PROCESSES: u64 = 32;
/// Pages of one piece of memory of `alloc`: 1 MiB.
pub const PIECE_PAGES: u64 = 256;

numbered! {
    /// The workload that the guest image runs.
    pub enum WorkloadId {
        /// The guest maps its whole range, then touches it.
        Linear = 1 => "linear",
        /// The guest maps each page in its page fault handler.
        Demand = 2 => "demand",
        /// Pages unmapped and mapped again to other frames.
        Remap = 3 => "remap",
        /// Many address spaces, loaded in turn.
        Switch = 4 => "switch",
        /// Copies of an address space, and copy-on-write.
        Fork = 5 => "fork",
        /// CPL3 writes its own leaf tables.
        Unsync = 6 => "unsync",
        /// Repeated stores to one upper-level table.
        Flood = 7 => "flood",
        /// Permissions revoked and granted.
        Protect = 8 => "protect",
        /// 2 MiB pages, split and merged.
        Huge = 9 => "huge",
        /// Many virtual addresses of one frame.
        Alias = 10 => "alias",
        /// More tables than KVM may shadow.
        Recycle = 11 => "recycle",
        /// The host reclaims memory.
        Reclaim = 12 => "reclaim",
        /// The host logs dirty pages.
        Dirty = 13 => "dirty",
        /// The host moves a memslot.
        Memslot = 14 => "memslot",
        /// Several CPUs change tables that others use.
        Smp = 15 => "smp",
        /// All of these.
        Mixed = 16 => "mixed",
        /// Processes that map, touch and release memory.
        Alloc = 17 => "alloc",
        /// One operation again and again, timed by the guest.
        Micro = 18 => "micro",
        /// Every combination of an entry's bits, with the same instructions at one address.
        Access = 19 => "access",
        /// A guest of another shape: see [`crate::Shape`].
        Modes = 20 => "modes",
        /// Fault injection for tests: see [`crate::CrashKind`].
        Crash = 255 => "crash",
    }
}

numbered! {
    /// The order in which the pages of a range are touched, each exactly once.
    pub enum Pattern {
        /// Ascending.
        Sequential = 1 => "sequential",
        /// 0, s, 2s, … then 1, 1+s, … for a stride of s pages.
        Stride = 2 => "stride",
        /// A permutation that the seed selects.
        Random = 3 => "random",
    }
}
