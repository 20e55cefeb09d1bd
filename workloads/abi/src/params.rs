//! What a workload is told to do.

use crate::number::numbered;

/// Most pages of a work range: 2 GiB, so that guest memory stays below 3 GiB,
/// clear of the addresses an Intel KVM wants for itself below 4 GiB.
pub const MAX_PAGES: u64 = 1 << 19;

numbered! {
    /// Which workload the one guest image runs.
    pub enum WorkloadId {
        /// The whole range is mapped first, then touched.
        Linear = 1 => "linear",
        /// Each page is mapped by the guest's own page fault.
        Demand = 2 => "demand",
        /// Pages unmapped and mapped again to other frames.
        Remap = 3 => "remap",
        /// Many address spaces in turn.
        Switch = 4 => "switch",
        /// A copy of an address space, and copy-on-write.
        Fork = 5 => "fork",
        /// CPL3 writes its own leaf tables.
        Unsync = 6 => "unsync",
        /// One upper-level table written again and again.
        Flood = 7 => "flood",
        /// Permissions taken and given.
        Protect = 8 => "protect",
        /// 2 MiB pages, split and merged.
        Huge = 9 => "huge",
        /// Many addresses of one frame.
        Alias = 10 => "alias",
        /// More tables than KVM may shadow.
        Recycle = 11 => "recycle",
        /// The host takes memory back.
        Reclaim = 12 => "reclaim",
        /// The host logs dirty pages.
        Dirty = 13 => "dirty",
        /// The host moves a memslot.
        Memslot = 14 => "memslot",
        /// Several CPUs change tables that others use.
        Smp = 15 => "smp",
        /// All of it.
        Mixed = 16 => "mixed",
        /// Fault injection for tests: see [`crate::CrashKind`].
        Crash = 255 => "crash",
    }
}

numbered! {
    /// In which order the pages of a range are touched; each exactly once.
    pub enum Pattern {
        /// Ascending.
        Sequential = 1 => "sequential",
        /// 0, s, 2s, … then 1, 1+s, … for a stride of s pages.
        Stride = 2 => "stride",
        /// A permutation that the seed picks.
        Random = 3 => "random",
    }
}
