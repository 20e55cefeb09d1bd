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
