//! What KVM does to the shadow tables in one piece, with its time.

use bytemuck::{Pod, Zeroable};

use crate::{Header, named::named_enum};

named_enum! {
    /// What was done: from the call of a function to its return.
    Act: u8;
    /// Every unsync page below a vCPU's roots is synced (`kvm_mmu_sync_roots`).
    SyncRoots = 1 "sync_roots",
    /// Unsync pages that are about to be used are synced (`mmu_sync_children`, `__kvm_sync_page`,
    /// up to Linux 6.1 `paging64_sync_page`), other than for a vCPU's roots.
    Sync = 2 "sync",
    /// One address is invalidated (`__kvm_mmu_invalidate_addr`, up to Linux 6.1
    /// `paging64_invlpg`): INVLPG, or a fault that KVM injects.
    Invlpg = 3 "invlpg",
    /// An emulated store zapped pages: one too many to the same table, or misaligned
    /// (`kvm_mmu_track_write`, up to Linux 6.1 `kvm_mmu_pte_write`).
    WriteZap = 4 "write_zap",
    /// A page is zapped (`__kvm_mmu_prepare_zap_page`), with the pages that go with it; without
    /// the flush of TLBs.
    ZapPage = 5 "zap_page",
    /// The host takes memory away or moves it (`kvm_unmap_gfn_range`, from an mmu-notifier).
    Unmap = 6 "unmap",
    /// Write access is taken from a slot for its dirty log (`kvm_mmu_slot_remove_write_access`).
    DirtyStart = 7 "dirty_start",
    /// Write access is taken from up to 64 frames that were fetched from the dirty log
    /// (`kvm_arch_mmu_enable_log_dirty_pt_masked`).
    DirtyClear = 8 "dirty_clear",
    /// A range of frames is zapped (`kvm_zap_gfn_range`).
    ZapRange = 9 "zap_range",
    /// A memslot is deleted or moved (`kvm_arch_flush_shadow_memslot`).
    FlushSlot = 10 "flush_slot",
}

/// An act that is over.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct ActDone {
    /// `header.time` is its beginning.
    pub header: Header,
    /// Its length, ns.
    pub total: u64,
    /// Shadow pages synced meanwhile on its thread.
    pub synced: u32,
    /// Shadow pages zapped meanwhile on its thread.
    pub zapped: u32,
    /// An [`Act`].
    pub act: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<ActDone>() == 48);
