//! One fault, one record: assembled in the kernel as it happens.

use bytemuck::{Pod, Zeroable};

use crate::{Gfn, Gpa, Gpte, Gva, Header, Hpa, Hva, Pfn, Spte};

/// What became of a fault, after `Documentation/virt/kvm/x86/mmu.rst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// The guest's own tables refuse the access: #PF injected ("true guest fault").
    Guest = 1,
    /// The guest's tables allow it, the shadow entry was missing or too weak.
    Shadow = 2,
    /// A store to a guest page table that is shadowed: emulated.
    WriteProtected = 3,
    /// A store to a leaf page table that made its shadow page unsync.
    Unsync = 4,
    /// No memslot: emulated as MMIO.
    Mmio = 5,
    /// Fixed without `mmu_lock` (`fast_page_fault`).
    Fast = 6,
    /// The entry was already as wanted (`RET_PF_SPURIOUS`).
    Spurious = 7,
    /// Given up, because something changed under it, and taken again.
    Retried = 8,
}

impl Class {
    /// Every class, in the order of their numbers.
    pub const ALL: [Class; 8] = [
        Class::Guest,
        Class::Shadow,
        Class::WriteProtected,
        Class::Unsync,
        Class::Mmio,
        Class::Fast,
        Class::Spurious,
        Class::Retried,
    ];

    /// The class with this number, if there is one.
    pub fn from_raw(raw: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == raw)
    }

    /// Its name in traces and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Guest => "guest",
            Class::Shadow => "shadow",
            Class::WriteProtected => "write_protected",
            Class::Unsync => "unsync",
            Class::Mmio => "mmio",
            Class::Fast => "fast",
            Class::Spurious => "spurious",
            Class::Retried => "retried",
        }
    }

    /// The class with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// A moment within a fault, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Moment {
    /// The guest left (`kvm_exit` or `kvm_page_fault`).
    Exit = 0,
    /// KVM began to walk the guest's tables (`kvm_mmu_pagetable_walk`).
    WalkBegin = 1,
    /// The last guest entry was read (`kvm_mmu_paging_element`), or the walk failed.
    WalkEnd = 2,
    /// GPA to HVA is known (`hva_to_pfn` is called).
    HvaKnown = 3,
    /// HVA to HPA is known (`kvm_mmu_faultin_pfn` returned).
    PfnKnown = 4,
    /// The upper levels of the shadow table are linked (`kvm_mmu_spte_requested`).
    TablesReady = 5,
    /// The leaf SPTE is stored (`kvm_mmu_set_spte`).
    Written = 6,
    /// The instruction is emulated (`x86_emulate_instruction` returned).
    Emulated = 7,
    /// The guest's own fault is about to be injected (`kvm_inj_exception`).
    Injected = 8,
    /// The guest runs again (`kvm_entry`).
    Entry = 9,
}

/// Number of [`Moment`]s.
pub const MOMENTS: usize = 10;
/// A moment that this platform does not show, or that did not happen. Not `u32::MAX`: see the
/// probes' `build.rs`.
pub const NOT_SEEN: u32 = i32::MAX as u32;

/// A fault from its first moment to its outcome. Fields that do not apply are zero
/// and named so by `known`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Fault {
    /// `header.time` is the first moment seen.
    pub header: Header,
    /// The faulting address.
    pub gva: Gva,
    /// The guest's CR3 (`vcpu->arch.cr3`).
    pub cr3: Gpa,
    /// The shadow root in use (`vcpu->arch.mmu->root.hpa`).
    pub root: Hpa,
    /// The guest's RIP; see [`Fault::RIP`].
    pub rip: Gva,
    /// Guest entries walked, `gptes[level - 1]`; see `gpte_levels`.
    pub gptes: [Gpte; 5],
    /// Frame that the guest's tables name; see [`Fault::MAPPING`].
    pub gfn: Gfn,
    /// First byte of that frame in the VMM; see [`Fault::SLOT`].
    pub hva: Hva,
    /// Frame that backs it; see [`Fault::SLOT`].
    pub pfn: Pfn,
    /// Where the leaf SPTE stands; see [`Fault::LEAF`].
    pub sptep: Hpa,
    /// The leaf SPTE as it was read back after the store.
    pub spte: Spte,
    /// Nanoseconds from `header.time` to each [`Moment`], or [`NOT_SEEN`].
    pub moments: [u32; MOMENTS],
    /// The error code that the walk was given (`PFERR_*`), with the walker's own for a guest fault.
    pub error_code: u32,
    /// Memslot id.
    pub slot: u16,
    /// Level of the leaf SPTE.
    pub level: u8,
    /// Bit `level - 1` is set if that guest entry was read.
    pub gpte_levels: u8,
    /// A [`Class`].
    pub class: u8,
    /// Which optional fields hold something: the bit constants of this type.
    pub known: u8,
    /// Shadow pages created on the way.
    pub created: u8,
    /// Existing shadow pages looked up and linked on the way.
    pub reused: u8,
    /// Shadow pages zapped on the way.
    pub zapped: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

impl Fault {
    /// `gfn` is known.
    pub const MAPPING: u8 = 1;
    /// `slot`, `hva` and `pfn` are known.
    pub const SLOT: u8 = 2;
    /// `sptep`, `spte` and `level` are known.
    pub const LEAF: u8 = 4;
    /// `rip` is known.
    pub const RIP: u8 = 8;
}

const _: () = assert!(size_of::<Fault>() == 24 + 4 * 8 + 5 * 8 + 5 * 8 + 4 * MOMENTS + 16);
