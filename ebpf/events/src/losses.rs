//! What was lost, counted by the probe that lost it.

use bytemuck::{Pod, Zeroable};

use crate::named::named_enum;

named_enum! {
    /// A place that can lose records. Numbers index the loss map.
    Probe: u32;
    /// A fault found no room in the ring.
    Fault = 0 "fault",
    /// An SPTE change found no room.
    Entry = 1 "entry",
    /// A shadow page's event found no room.
    Page = 2 "page",
    /// A root switch found no room.
    Root = 3 "root",
    /// A mark found no room.
    Mark = 4 "mark",
    /// A keyframe's page found no room.
    Keyframe = 5 "keyframe",
    /// A map of what is traced (shadow pages, vCPUs) was full: later events are not attributed.
    PageMap = 6 "page_map",
    /// A read of kernel memory failed: the record lacks the field or was not made.
    Read = 7 "read",
    /// A guest's store found no room.
    Write = 8 "write",
    /// A host's event found no room.
    Host = 9 "host",
    /// An act of KVM found no room.
    Act = 10 "act",
    /// Unsync pages were not compared with their copies: their changes are seen at the next
    /// keyframe.
    Unsync = 11 "unsync",
    /// A guest's table has more shadow pages than [`crate::SHADOWS`]: changes of the others by an
    /// emulated store are seen at the next keyframe.
    Shadows = 12 "shadows",
}

impl Probe {
    /// Whether what is lost there had taken its sequence number, which is then missing.
    pub const fn takes_a_number(self) -> bool {
        !matches!(
            self,
            Self::PageMap | Self::Read | Self::Unsync | Self::Shadows
        )
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
