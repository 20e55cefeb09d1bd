//! An SPTE that changed, other than the leaf of a recorded fault.

use bytemuck::{Pod, Zeroable};

use crate::{Gfn, Header, Hpa, Spte, named::named_enum};

named_enum! {
    /// Why an entry changed.
    Cause: u8;
    /// An upper entry that points to a child table, read on the path of a fault that got a page.
    Link = 1 "link",
    /// A neighbour of a fault's leaf, mapped ahead (`FNAME(pte_prefetch)`).
    Prefetch = 2 "prefetch",
    /// `kvm_mmu_set_spte` outside any fault seen.
    Other = 3 "other",
    /// Read after a fault that KVM gave up: the host may have taken its entry away meanwhile
    /// (copy-on-write of the host's page), which no tracepoint shows. Or read after an act of the
    /// VMM, see [`crate::HostEvent::Reread`].
    Reread = 4 "reread",
    /// The guest's store to a page table that is shadowed, emulated (`kvm_mmu_track_write`).
    GuestWrite = 5 "guest_write",
    /// An unsync page was brought in line with the guest's table (`__kvm_sync_page`).
    Sync = 6 "sync",
    /// The guest's INVLPG, or a fault that KVM injects (`__kvm_mmu_invalidate_addr`).
    Invlpg = 7 "invlpg",
    /// The host takes memory away or moves it (`kvm_unmap_gfn_range`).
    HostUnmap = 8 "host_unmap",
    /// Dirty logging: write access is taken so that the next store is noticed.
    DirtyLog = 9 "dirty_log",
    /// The frame became a page table of the guest's (`__kvm_mmu_get_shadow_page`).
    WriteProtect = 10 "write_protect",
    /// More entries map the frame than KVM keeps track of (`__rmap_add`), or another frame comes
    /// into the place: dropped by the fault that maps it.
    Fault = 11 "fault",
    /// A memslot or a range of frames was taken out of use (`kvm_zap_gfn_range`).
    Memslot = 12 "memslot",
    /// No memslot: a marker for MMIO (`mark_mmio_spte`).
    Mmio = 13 "mmio",
}

/// A change of one SPTE.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Entry {
    /// See [`Header`].
    pub header: Header,
    /// Address of the entry.
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
