//! An SPTE that changed outside the leaf of a recorded fault.

use bytemuck::{Pod, Zeroable};

use crate::{Gfn, Header, Hpa, Spte};

/// Why an entry changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cause {
    /// An upper entry that points to a child table, read on the path of a fault that got a page.
    Link = 1,
    /// A neighbour of a fault's leaf, mapped ahead (`FNAME(pte_prefetch)`).
    Prefetch = 2,
    /// `kvm_mmu_set_spte` outside any fault seen.
    Other = 3,
    /// Read after a fault that KVM gave up, since the host may have taken its entry away meanwhile
    /// (copy on write of the host's page), which no tracepoint tells.
    Reread = 4,
    /// The guest's store to a page table that is shadowed, emulated (`kvm_mmu_track_write`).
    GuestWrite = 5,
    /// An unsync page brought in line with the guest's table (`__kvm_sync_page`).
    Sync = 6,
    /// The guest's INVLPG, or a fault that KVM injects (`__kvm_mmu_invalidate_addr`).
    Invlpg = 7,
    /// The host takes memory away or moves it (`kvm_unmap_gfn_range`).
    HostUnmap = 8,
    /// Dirty logging: write access is taken so that the next store is noticed.
    DirtyLog = 9,
    /// The frame became a page table of the guest's (`__kvm_mmu_get_shadow_page`).
    WriteProtect = 10,
    /// More entries map the frame than KVM keeps track of (`__rmap_add`), or another frame comes
    /// into the place: dropped by the fault that maps it.
    Fault = 11,
    /// A memslot or a range of frames was taken out of use (`kvm_zap_gfn_range`).
    Memslot = 12,
    /// No memslot: a marker for MMIO (`mark_mmio_spte`).
    Mmio = 13,
}

impl Cause {
    /// Every cause, in the order of their numbers.
    pub const ALL: [Cause; 13] = [
        Cause::Link,
        Cause::Prefetch,
        Cause::Other,
        Cause::Reread,
        Cause::GuestWrite,
        Cause::Sync,
        Cause::Invlpg,
        Cause::HostUnmap,
        Cause::DirtyLog,
        Cause::WriteProtect,
        Cause::Fault,
        Cause::Memslot,
        Cause::Mmio,
    ];

    /// The cause with this number, if there is one.
    pub fn from_raw(raw: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| *cause as u8 == raw)
    }

    /// Its name in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Link => "link",
            Cause::Prefetch => "prefetch",
            Cause::Other => "other",
            Cause::Reread => "reread",
            Cause::GuestWrite => "guest_write",
            Cause::Sync => "sync",
            Cause::Invlpg => "invlpg",
            Cause::HostUnmap => "host_unmap",
            Cause::DirtyLog => "dirty_log",
            Cause::WriteProtect => "write_protect",
            Cause::Fault => "fault",
            Cause::Memslot => "memslot",
            Cause::Mmio => "mmio",
        }
    }

    /// The cause with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }
}

/// A change of one SPTE.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Entry {
    /// See [`Header`].
    pub header: Header,
    /// Where the entry stands.
    pub sptep: Hpa,
    /// Its new value.
    pub spte: Spte,
    /// Its value before; see [`Entry::OLD`].
    pub old: Spte,
    /// For a leaf, the guest frame; see [`Entry::GFN`].
    pub gfn: Gfn,
    /// Level of the table that holds the entry.
    pub level: u8,
    /// A [`Cause`].
    pub cause: u8,
    /// Which optional fields hold something: the bit constants of this type.
    pub known: u8,
    /// Zero.
    pub reserved: u8,
    /// Zero. (A run of odd bytes would be a loop on the kernel side.)
    pub reserved_word: u32,
}

impl Entry {
    /// `old` is known.
    pub const OLD: u8 = 1;
    /// `gfn` is known.
    pub const GFN: u8 = 2;
}

const _: () = assert!(size_of::<Entry>() == 64);
