//! What KVM does to an entry, by cause, and what the host does to a VM's memory.
//!
//! Source: arch/x86/kvm/mmu/mmu.c and paging_tmpl.h, Linux 6.1 to 7.2.

use events::{Cause, HostEvent};

/// What a cause means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    /// The kernel's function.
    pub function: &'static str,
    /// What happened, in one clause.
    pub clause: &'static str,
    /// What KVM does then.
    pub detail: &'static str,
}

const fn because(function: &'static str, clause: &'static str, detail: &'static str) -> Why {
    Why {
        function,
        clause,
        detail,
    }
}

/// Why an entry changed.
pub fn why(cause: Cause) -> Why {
    match cause {
        Cause::GuestWrite | Cause::Sync | Cause::Invlpg => by_guest(cause),
        Cause::HostUnmap | Cause::DirtyLog | Cause::Memslot => by_host(cause),
        Cause::Link | Cause::Prefetch | Cause::Reread | Cause::Mmio => stored(cause),
        Cause::Other => because(
            "mmu_set_spte",
            "stored outside of any fault that the probes saw",
            "For example a page that was faulted in ahead, when an asynchronous page fault ended.",
        ),
        Cause::WriteProtect => because(
            "kvm_vcpu_write_protect_gfn, account_shadowed",
            "the frame became a page table of the guest",
            "KVM shadows this frame as a table from now on, and must see every store to it: \
             every leaf that maps it loses W and M, also large ones that cover it.",
        ),
        Cause::Fault => because(
            "drop_spte, kvm_zap_all_rmap_sptes (from __rmap_add)",
            "dropped by a fault that maps something else in its place, or the frame once too \
             often",
            "A leaf with another frame takes the place, or a large page takes that of a table; \
             or more than RMAP_RECYCLE_THRESHOLD (1,000) entries map one frame: then KVM drops \
             all of them.",
        ),
    }
}

fn stored(cause: Cause) -> Why {
    match cause {
        Cause::Link => because(
            "__link_shadow_page",
            "a fault linked a table on its path",
            "FNAME(fetch) goes down from the root; where a table was missing it looked one up or \
             made one, and pointed this entry to it. This has no tracepoint: the probes read the \
             path afterwards.",
        ),
        Cause::Prefetch => because(
            "FNAME(pte_prefetch)",
            "a neighbour of a fault's leaf, mapped ahead",
            "After a fault KVM reads the guest's entries around it, and maps those with A set \
             whose frame it finds without sleeping: at most seven, each with A clear.",
        ),
        Cause::Reread => because(
            "(read by the probes)",
            "read again, since it may have changed without a tracepoint",
            "What changed the entry has no tracepoint here: the value is right at this record, \
             and the change came before it.",
        ),
        _ => because(
            "mark_mmio_spte",
            "no memslot: a marker for MMIO was stored",
            "The marker has reserved bits set: the next access faults with RSVD, and KVM \
             emulates it at once, without a walk of the guest's tables, as long as the memslots \
             do not change.",
        ),
    }
}

fn by_guest(cause: Cause) -> Why {
    match cause {
        Cause::GuestWrite => because(
            "kvm_mmu_track_write (6.1: kvm_mmu_pte_write), mmu_page_zap_pte",
            "the guest's store to a table that KVM shadows made the entry stale",
            "KVM emulated the store. In every shadow page of that table the entry is only \
             dropped: a leaf leaves its frame's reverse map, a table below is unlinked and stays. \
             The next fault makes the new entry.",
        ),
        Cause::Sync => because(
            "__kvm_sync_page (6.1: paging64_sync_page)",
            "an unsync page was synced with the guest's table",
            "While the page was unsync the guest stored to its table without an exit. Now KVM \
             compares each entry with the guest's: it keeps it, or gives it the rights that the \
             guest's has now, or drops it if the guest's is absent, lacks A, or has another \
             frame. A sync never maps a page.",
        ),
        _ => because(
            "__kvm_mmu_invalidate_addr (6.1: paging64_invlpg)",
            "one address was invalidated while its table was unsync",
            "INVLPG or INVPCID of the guest, or a #PF with P set that KVM injects: hardware \
             would drop the address from the TLB, so KVM syncs this one entry with the guest's \
             table.",
        ),
    }
}

fn by_host(cause: Cause) -> Why {
    match cause {
        Cause::HostUnmap => because(
            "kvm_unmap_gfn_range",
            "the host unmapped the memory or moved it",
            "An mmu-notifier (munmap, copy on write, migration, swap, KSM, huge pages): every \
             leaf that maps a frame of the range must go before the host's own entry does. The \
             tables stay.",
        ),
        Cause::DirtyLog => because(
            "rmap_write_protect",
            "dirty logging removed write access",
            "The next store to the page faults, and KVM logs it. M stays: KVM may restore W by \
             itself at that fault.",
        ),
        _ => because(
            "kvm_zap_gfn_range, kvm_arch_flush_shadow_memslot",
            "the memslot, or its range of frames, was removed",
            "The memory that backed the frames is no longer valid; every leaf of them goes.",
        ),
    }
}

/// Why KVM emulated a store to a table that it shadows.
pub fn emulated(is_unsync: bool) -> &'static str {
    match is_unsync {
        false => "The table is write-protected, so the store caused an exit.",
        true => {
            "The table was unsync: the guest could store to it without an exit. KVM emulated this \
             store for another reason, as of a kernel whose instructions it emulates anyway."
        }
    }
}

/// What an act of the host is, in one clause.
pub fn act(event: HostEvent) -> &'static str {
    match event {
        HostEvent::Unmap => {
            "an mmu-notifier unmaps frames or moves them (kvm_unmap_gfn_range): their leaves go"
        }
        HostEvent::DirtyStart => {
            "dirty logging starts (kvm_mmu_slot_remove_write_access): the slot's leaves lose W"
        }
        HostEvent::DirtyClear => {
            "part of a dirty log was fetched (kvm_arch_mmu_enable_log_dirty_pt_masked): its \
             leaves lose W"
        }
        HostEvent::DirtyStop => "dirty logging ends: leaves get W back as stores fault",
        HostEvent::ZapRange => "a range of frames is zapped (kvm_zap_gfn_range)",
        HostEvent::FlushSlot => {
            "a memslot is deleted or moved (kvm_arch_flush_shadow_memslot): what maps it goes"
        }
        HostEvent::Reread => "the probes read the leaves of a range again, with the guest stopped",
        HostEvent::Settled => "the range was read: leaves without a record since are gone",
    }
}
