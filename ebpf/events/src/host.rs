//! What the host does to a VM's memory.

use bytemuck::{Pod, Zeroable};

use crate::{Gfn, Header, named::named_enum};

named_enum! {
    /// What was done.
    HostEvent: u8;
    /// Memory is taken away or moved (`kvm_unmap_gfn_range`, from an mmu-notifier).
    Unmap = 1 "unmap",
    /// Dirty logging starts for a slot (`kvm_mmu_slot_remove_write_access`).
    DirtyStart = 2 "dirty_start",
    /// Part of a dirty log was fetched (`kvm_arch_mmu_enable_log_dirty_pt_masked`).
    DirtyClear = 3 "dirty_clear",
    /// A range of frames is zapped (`kvm_zap_gfn_range`).
    ZapRange = 4 "zap_range",
    /// A memslot is deleted or moved (`kvm_arch_flush_shadow_memslot`).
    FlushSlot = 5 "flush_slot",
    /// The entries of a range of frames are read again, with the guest stopped: a record follows
    /// for each entry that is present, until `Settled`.
    Reread = 6 "reread",
    /// Every leaf of the range that no record named since `Reread` is gone.
    Settled = 7 "settled",
    /// Dirty logging ends for a slot.
    DirtyStop = 8 "dirty_stop",
}

/// An event that concerns a range of a VM's frames, before it takes effect.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Host {
    /// See [`Header`].
    pub header: Header,
    /// First frame.
    pub gfn: Gfn,
    /// Number of frames.
    pub pages: u64,
    /// Memslot id; see [`Host::NO_SLOT`].
    pub slot: u16,
    /// A [`HostEvent`].
    pub event: u8,
    /// Zero.
    pub reserved: u8,
    /// Zero.
    pub reserved_word: u32,
}

impl Host {
    /// `slot` of an event that concerns frames of any slot.
    pub const NO_SLOT: u16 = u16::MAX;
}

const _: () = assert!(size_of::<Host>() == 48);
