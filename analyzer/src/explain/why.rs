//! Why KVM changes an entry: its function, and what that does, in words.
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
    /// What KVM does then, as lines of text.
    pub lines: &'static [&'static str],
}

/// Why an entry changed.
pub fn why(cause: Cause) -> Why {
    let (function, clause, lines): (_, _, &'static [&'static str]) = match cause {
        Cause::Link => (
            "__link_shadow_page",
            "a table was linked on the way of a fault",
            &[
                "FNAME(fetch) goes down from the root; where a table was missing it looked one up or made",
                "one, and pointed this entry to it. No tracepoint tells it: the path was read afterwards.",
            ],
        ),
        Cause::Prefetch => (
            "FNAME(pte_prefetch)",
            "a neighbour of a fault's leaf, mapped ahead",
            &[
                "After a fault KVM looks at the guest's entries around it, and maps those with A set that",
                "need no sleep to find their frame: at most seven, without A and D of its own.",
            ],
        ),
        Cause::Other => (
            "mmu_set_spte",
            "stored outside any fault that was seen",
            &[
                "For example a page that was faulted in ahead, when an asynchronous page fault ended.",
            ],
        ),
        Cause::Reread => (
            "(read by the probes)",
            "read again, since it may have changed without a word",
            &[
                "What changed the entry has no tracepoint here: the value is true at this record, and the",
                "change itself came before it.",
            ],
        ),
        Cause::GuestWrite => (
            "kvm_mmu_track_write (6.1: kvm_mmu_pte_write), mmu_page_zap_pte",
            "the guest's store to a table that KVM shadows made the entry stale",
            &[
                "The table is write-protected, so the store left the guest and KVM emulated it. In every",
                "shadow page of that table the entry is only dropped: a leaf leaves its frame's reverse map,",
                "a table below is unlinked and lives on. The new one is made by the next fault.",
            ],
        ),
        Cause::Sync => (
            "__kvm_sync_page (6.1: paging64_sync_page)",
            "an unsync page was brought in line with the guest's table",
            &[
                "While the page was unsync the guest stored to its table without an exit. Now each entry is",
                "set against the guest's: kept, given the rights that the guest gives now, or dropped if the",
                "guest's is absent, without A, or names another frame. A sync never makes a mapping.",
            ],
        ),
        Cause::Invlpg => (
            "__kvm_mmu_invalidate_addr (6.1: paging64_invlpg)",
            "one address was invalidated while its table was unsync",
            &[
                "INVLPG or INVPCID of the guest, or a #PF with P set that KVM injects: hardware would drop",
                "the address from the TLB, so KVM brings this one entry in line with the guest's table.",
            ],
        ),
        Cause::HostUnmap => (
            "kvm_unmap_gfn_range",
            "the host took the memory away or moved it",
            &[
                "An mmu-notifier (munmap, copy on write, migration, swap, KSM, huge pages): before the host's",
                "own entry goes, every leaf that maps a frame of the range must. The tables stay.",
            ],
        ),
        Cause::DirtyLog => (
            "rmap_write_protect",
            "dirty logging took write access",
            &[
                "So that the next store to the page faults and is logged. M stays: KVM may give the right",
                "back by itself, at that fault.",
            ],
        ),
        Cause::WriteProtect => (
            "kvm_vcpu_write_protect_gfn, account_shadowed",
            "the frame became a page table of the guest's",
            &[
                "KVM shadows this frame as a table from now on, so that no store to it may go unseen: every",
                "leaf that maps it loses W and M, large ones that cover it too.",
            ],
        ),
        Cause::Fault => (
            "drop_spte, kvm_zap_all_rmap_sptes (from __rmap_add)",
            "dropped by the fault that maps something in its place, or the frame once too often",
            &[
                "A leaf with another frame comes into the place, or a large page takes a table's; or more",
                "than RMAP_RECYCLE_THRESHOLD (1,000) entries map one frame: then all of them go at once.",
            ],
        ),
        Cause::Memslot => (
            "kvm_zap_gfn_range, kvm_arch_flush_shadow_memslot",
            "the memslot, or its range of frames, was taken out of use",
            &["What the frames were backed by is not valid any more; every leaf of them goes."],
        ),
        Cause::Mmio => (
            "mark_mmio_spte",
            "no memslot: a marker for MMIO was stored",
            &[
                "The marker has reserved bits set: the next access faults with RSVD, and KVM emulates it at",
                "once, without a walk of the guest's tables, as long as the memslots do not change.",
            ],
        ),
    };
    Why {
        function,
        clause,
        lines,
    }
}

/// What an act of the host's is, in one clause.
pub fn act(event: HostEvent) -> &'static str {
    match event {
        HostEvent::Unmap => {
            "an mmu-notifier takes frames away or moves them (kvm_unmap_gfn_range): their leaves go"
        }
        HostEvent::DirtyStart => {
            "dirty logging starts (kvm_mmu_slot_remove_write_access): the slot's leaves lose W"
        }
        HostEvent::DirtyClear => {
            "part of a dirty log was fetched (kvm_arch_mmu_enable_log_dirty_pt_masked): its leaves lose W"
        }
        HostEvent::DirtyStop => "dirty logging ends: leaves get W back as stores fault",
        HostEvent::ZapRange => "a range of frames is zapped (kvm_zap_gfn_range)",
        HostEvent::FlushSlot => {
            "a memslot is deleted or moved (kvm_arch_flush_shadow_memslot): what maps it goes"
        }
        HostEvent::Reread => "the leaves of a range are read again, with the guest stopped",
        HostEvent::Settled => "the range was read: leaves that no record named since are gone",
    }
}
