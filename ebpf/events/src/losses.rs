//! What was lost, counted by the probe that lost it.

use bytemuck::{Pod, Zeroable};

/// A place that can lose records. Numbers index the loss map and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Probe {
    /// A fault found no room in the ring.
    Fault = 0,
    /// An SPTE change found no room.
    Entry = 1,
    /// A shadow page's event found no room.
    Page = 2,
    /// A root switch found no room.
    Root = 3,
    /// A mark found no room.
    Mark = 4,
    /// A keyframe's page found no room.
    Keyframe = 5,
    /// A map of what is traced (shadow pages, vCPUs) was full: later events are not attributed.
    PageMap = 6,
    /// A read of kernel memory failed: the record lacks the field or was not made.
    Read = 7,
    /// A guest's store found no room.
    Write = 8,
    /// A host's event found no room.
    Host = 9,
}

impl Probe {
    /// Every probe, in the order of their numbers.
    pub const ALL: [Probe; 10] = [
        Probe::Fault,
        Probe::Entry,
        Probe::Page,
        Probe::Root,
        Probe::Mark,
        Probe::Keyframe,
        Probe::PageMap,
        Probe::Read,
        Probe::Write,
        Probe::Host,
    ];

    /// Its name in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Probe::Fault => "fault",
            Probe::Entry => "entry",
            Probe::Page => "page",
            Probe::Root => "root",
            Probe::Mark => "mark",
            Probe::Keyframe => "keyframe",
            Probe::PageMap => "page_map",
            Probe::Read => "read",
            Probe::Write => "write",
            Probe::Host => "host",
        }
    }
}

/// One CPU's count for one [`Probe`], since the programs were loaded.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Loss {
    /// Records lost.
    pub count: u64,
    /// `CLOCK_MONOTONIC` of the first, ns.
    pub first: u64,
    /// `CLOCK_MONOTONIC` of the latest, ns.
    pub last: u64,
}
