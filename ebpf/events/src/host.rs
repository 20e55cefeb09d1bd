//! What the host does to a VM's memory.

use bytemuck::{Pod, Zeroable};

use crate::{Gfn, Header};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum HostEvent {
    /// Memory is taken away or moved (`kvm_unmap_gfn_range`, from an mmu-notifier).
    Unmap = 1,
    /// Dirty logging starts for a slot (`kvm_mmu_slot_remove_write_access`).
    DirtyStart = 2,
    /// Part of a dirty log was fetched (`kvm_arch_mmu_enable_log_dirty_pt_masked`).
    DirtyClear = 3,
    /// A range of frames is zapped (`kvm_zap_gfn_range`).
    ZapRange = 4,
    /// A memslot goes (`kvm_arch_flush_shadow_memslot`).
    FlushSlot = 5,
    /// The entries of a range of frames are read again, with the guest stopped: each one that is
    /// there follows as a record of its own, until `Settled`.
    Reread = 6,
    /// Every leaf of the range that no record named since `Reread` is gone.
    Settled = 7,
    /// Dirty logging ends for a slot.
    DirtyStop = 8,
}

impl HostEvent {
    /// Every event, in the order of their numbers.
    pub const ALL: [HostEvent; 8] = [
        HostEvent::Unmap,
        HostEvent::DirtyStart,
        HostEvent::DirtyClear,
        HostEvent::ZapRange,
        HostEvent::FlushSlot,
        HostEvent::Reread,
        HostEvent::Settled,
        HostEvent::DirtyStop,
    ];

    /// The event with this number, if there is one.
    pub fn from_raw(raw: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|event| *event as u8 == raw)
    }

    /// Its name in traces.
    pub const fn name(self) -> &'static str {
        match self {
            HostEvent::Unmap => "unmap",
            HostEvent::DirtyStart => "dirty_start",
            HostEvent::DirtyClear => "dirty_clear",
            HostEvent::ZapRange => "zap_range",
            HostEvent::FlushSlot => "flush_slot",
            HostEvent::Reread => "reread",
            HostEvent::Settled => "settled",
            HostEvent::DirtyStop => "dirty_stop",
        }
    }

    /// The event with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
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
    /// `slot` of an event that concerns frames whatever their slot.
    pub const NO_SLOT: u16 = u16::MAX;
}

const _: () = assert!(size_of::<Host>() == 48);
