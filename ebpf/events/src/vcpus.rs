//! What the kernel side keeps for each vCPU's thread while a fault is under way.

use bytemuck::{Pod, Zeroable};

use crate::{Gfn, Gpa, Gpte, Gva, Hpa, Hva, Pfn, VcpuId, VmId};

/// The start of `kvm_vcpu.stat.pf_*`, in the kernel's order. KVM counts `taken` before it walks
/// the guest's tables and one of the others when the fault is dealt with, so they tell a fault's
/// walk from the emulator's and name the outcome where no tracepoint does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Outcomes {
    /// `pf_taken`
    pub taken: u64,
    /// `pf_fixed`
    pub fixed: u64,
    /// `pf_emulate`
    pub emulate: u64,
    /// `pf_spurious`
    pub spurious: u64,
    /// `pf_fast`
    pub fast: u64,
}

/// Value of the map of vCPUs, keyed by thread id. User space may only read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Vcpu {
    /// Kernel address of `struct kvm_vcpu`.
    pub vcpu_ptr: u64,
    /// See [`VmId`].
    pub vm: VmId,
    /// See [`VcpuId`].
    pub vcpu: VcpuId,
    /// How far the fault has come: one of the constants of this type.
    pub step: u8,
    /// Bit `level - 1` is set if `gptes[level - 1]` was read in this walk.
    pub gpte_levels: u8,
    /// A shadow page was looked up since upper entries were last recorded.
    pub linking: u8,
    /// A leaf table went unsync in this fault.
    pub unsync: u8,
    /// KVM's counters when the fault began; see [`Outcomes`].
    pub outcomes: Outcomes,
    /// Start of the walk, ns.
    pub begin: u64,
    /// Address of the walk.
    pub gva: Gva,
    /// Guest entries read.
    pub gptes: [Gpte; 5],
    /// Frame that the guest's tables name.
    pub gfn: Gfn,
    /// First byte of that frame in the VMM.
    pub hva: Hva,
    /// Frame that backs it, or KVM's error value.
    pub pfn: Pfn,
    /// Guest root when last recorded.
    pub cr3: Gpa,
    /// Shadow root when last recorded.
    pub root: Hpa,
    /// The guest's instruction pointer when the roots were read; see `has_rip`.
    pub rip: Gva,
    /// Error code of the walk.
    pub error_code: u32,
    /// Start of the walk to its end, ns.
    pub walk_end: u32,
    /// Start of the walk to upper levels linked, ns.
    pub tables_ready: u32,
    /// Memslot id.
    pub slot: u16,
    /// The frame has a memslot.
    pub has_slot: u8,
    /// Level of the shadow root.
    pub root_level: u8,
    /// Shadow pages created since the walk began.
    pub created: u8,
    /// Shadow pages found since the walk began.
    pub reused: u8,
    /// Shadow pages zapped since the walk began.
    pub zapped: u8,
    /// `rip` is the vCPU's own, not left over from an earlier exit.
    pub has_rip: u8,
    /// Zero.
    pub reserved: [u8; 4],
}

impl Vcpu {
    /// Nothing under way.
    pub const IDLE: u8 = 0;
    /// Guest entries are being read.
    pub const WALKING: u8 = 1;
    /// Its walk is over and nothing has come of it yet; other walks are the emulator's.
    pub const WALKED: u8 = 5;
    /// The guest's own tables refuse the access.
    pub const REFUSED: u8 = 2;
    /// Upper levels are linked; the leaf comes next.
    pub const REQUESTED: u8 = 3;
    /// The leaf is stored and the record made; neighbours may follow.
    pub const MAPPED: u8 = 4;
}

const _: () = assert!(size_of::<Vcpu>() == 184);
