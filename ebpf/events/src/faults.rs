//! One fault, one record: assembled in the kernel as it happens.

use bytemuck::{Pod, Zeroable};

use crate::{ErrorCode, Gfn, Gpa, Gpte, Gva, Header, Hpa, Hva, Pfn, Spte, named::named_enum};

named_enum! {
    /// What became of a fault, after `Documentation/virt/kvm/x86/mmu.rst`.
    Class: u8;
    /// The guest's own tables refuse the access: #PF injected ("true guest fault").
    Guest = 1 "guest",
    /// The guest's tables allow it; the shadow entry was missing or too weak.
    Shadow = 2 "shadow",
    /// A store to a guest page table that is shadowed: emulated.
    WriteProtected = 3 "write_protected",
    /// A store to a leaf page table that made its shadow page unsync.
    Unsync = 4 "unsync",
    /// No memslot, or a store to a read-only one: emulated as MMIO.
    Mmio = 5 "mmio",
    /// Fixed without `mmu_lock` (`fast_page_fault`).
    Fast = 6 "fast",
    /// The entry was already as wanted (`RET_PF_SPURIOUS`).
    Spurious = 7 "spurious",
    /// Given up because something changed meanwhile, and taken again.
    Retried = 8 "retried",
    /// KVM has no way to serve it, and KVM_RUN returns an error: see [`Fault::errno`].
    Failed = 9 "failed",
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
/// A moment that this platform does not show, or that did not happen.
pub const NOT_SEEN: u64 = u64::MAX;

/// A fault from its first moment to its outcome.
///
/// The kernel side assembles it in place, once for each vCPU. A field that does not apply keeps
/// what an earlier fault of the vCPU left there: read `gptes[level - 1]` only if `gpte_levels`
/// names it, `gfn`, `slot`, `hva`, `pfn`, `sptep`, `spte`, `level`, `rip` and `switches` only if `known` does,
/// and a moment only if it is not [`NOT_SEEN`].
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
    /// Address of the leaf SPTE; see [`Fault::LEAF`].
    pub sptep: Hpa,
    /// The leaf SPTE, read back after the store; see [`Fault::LEAF`].
    pub spte: Spte,
    /// Nanoseconds from `header.time` to each [`Moment`], or [`NOT_SEEN`]. A fault that waits for the
    /// host's memory may take minutes.
    pub moments: [u64; MOMENTS],
    /// The error code that the walk was given; for a guest's own fault, the walker's.
    pub error_code: ErrorCode,
    /// Memslot id; see [`Fault::SLOT`].
    pub slot: u16,
    /// Level of the leaf SPTE; see [`Fault::LEAF`].
    pub level: u8,
    /// Bit `level - 1` is set if that guest entry was read.
    pub gpte_levels: u8,
    /// A [`Class`].
    pub class: u8,
    /// Which optional fields are valid: the bit constants of this type.
    pub known: u8,
    /// Shadow pages created on the way.
    pub created: u8,
    /// Existing shadow pages looked up and linked on the way.
    pub reused: u8,
    /// Shadow pages zapped on the way.
    pub zapped: u8,
    /// What KVM_RUN returned after a fault of [`Class::Failed`], as a positive number.
    pub errno: u8,
    /// How often its thread was switched out from its beginning to its last moment; see
    /// [`Fault::SWITCHES`].
    pub switches: u16,
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
    /// `switches` is known.
    pub const SWITCHES: u8 = 16;
}

const _: () = assert!(size_of::<Fault>() == 24 + 4 * 8 + 5 * 8 + 5 * 8 + 8 * MOMENTS + 16);
