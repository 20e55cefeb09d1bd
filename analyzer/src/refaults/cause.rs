//! What makes an address fault again.

use serde::{Serialize, Serializer};

/// Why an entry that was there is missing, or too weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefaultCause {
    /// The guest stored to its page table, and KVM cleared the entry that shadows the place.
    GuestStore,
    /// A sync of an unsync page dropped or weakened the entry.
    Sync,
    /// INVLPG, INVPCID, or a #PF with P set that KVM injected.
    Invlpg,
    /// The frame became a guest page table, so it lost write access.
    WriteProtect,
    /// A store to the guest table zapped its shadow page (`mmu_flooded`).
    Flooding,
    /// The page was zapped for room (`mmu_recycled`).
    Recycling,
    /// A memslot was deleted or moved, or a range of frames was zapped.
    Memslot,
    /// The root was obsolete, and was freed.
    RootFreed,
    /// The sync of an unsync page failed, and KVM zapped it.
    SyncFailed,
    /// The guest's store was not emulated: KVM zapped what shadows its frame, and the guest repeated
    /// it (`kvm_mmu_unprotect_gfn_and_retry`).
    StoreRetried,
    /// The frame became a guest table of another level: its unsync page was zapped.
    NewRole,
    /// The host took memory away or moved it: an mmu-notifier.
    HostUnmap,
    /// A vCPU stored to a page that the host shares (zero page, fork, KSM), and the host gave it one
    /// of its own: an mmu-notifier on the vCPU's thread.
    CopyOnWrite,
    /// Dirty logging removed write access.
    DirtyLog,
    /// The frame had more entries than KVM keeps track of, so it dropped all of them.
    RmapRecycled,
    /// Another frame, a table or an MMIO marker took the place.
    Replaced,
    /// The records do not show what did it.
    NotSeen,
}

impl RefaultCause {
    /// Every cause.
    pub const ALL: [Self; 17] = [
        Self::GuestStore,
        Self::Sync,
        Self::Invlpg,
        Self::WriteProtect,
        Self::Flooding,
        Self::Recycling,
        Self::Memslot,
        Self::RootFreed,
        Self::SyncFailed,
        Self::StoreRetried,
        Self::NewRole,
        Self::HostUnmap,
        Self::CopyOnWrite,
        Self::DirtyLog,
        Self::RmapRecycled,
        Self::Replaced,
        Self::NotSeen,
    ];

    /// Its name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GuestStore => "guest_store",
            Self::Sync => "sync",
            Self::Invlpg => "invlpg",
            Self::WriteProtect => "write_protect",
            Self::Flooding => "flooding",
            Self::Recycling => "recycling",
            Self::Memslot => "memslot",
            Self::RootFreed => "root_freed",
            Self::SyncFailed => "sync_failed",
            Self::StoreRetried => "store_retried",
            Self::NewRole => "new_role",
            Self::HostUnmap => "host_unmap",
            Self::CopyOnWrite => "copy_on_write",
            Self::DirtyLog => "dirty_log",
            Self::RmapRecycled => "rmap_recycled",
            Self::Replaced => "replaced",
            Self::NotSeen => "not_seen",
        }
    }

    /// What happened, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::GuestStore => "the guest stored to its page table",
            Self::Sync => "an unsync page was synced with the guest's table",
            Self::Invlpg => "INVLPG, or an injected fault with P set",
            Self::WriteProtect => "the frame became a guest page table, so it lost W",
            Self::Flooding => "too many stores to a table, or a misaligned one (mmu_flooded)",
            Self::Recycling => "pages were zapped for room (mmu_recycled)",
            Self::Memslot => "a memslot was deleted or moved, or a range was zapped",
            Self::RootFreed => "an obsolete root was freed",
            Self::SyncFailed => "an unsync page did not fit the guest's table any more (zapped)",
            Self::StoreRetried => "KVM zapped a table's shadow to repeat a store to it",
            Self::NewRole => "a table's frame became one of another level (zapped)",
            Self::HostUnmap => "the host took memory away or moved it (mmu-notifier)",
            Self::CopyOnWrite => "a store to a page that the host shares got a page of its own",
            Self::DirtyLog => "dirty logging removed W",
            Self::RmapRecycled => "a frame had more than 1,000 entries",
            Self::Replaced => "another frame, a table or an MMIO marker took the place",
            Self::NotSeen => "the records do not show what did it",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl Serialize for RefaultCause {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}
