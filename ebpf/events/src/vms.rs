//! What the collector asks about VMs that other processes run.

use bytemuck::{Pod, Zeroable};

use crate::{Gfn, Hva, VcpuId, VmId};

/// The `vm` of a VM that is not traced.
pub const NO_VM: VmId = VmId(u16::MAX);

/// The `owner` of a VM whose process has ended.
pub const NO_PROCESS: u32 = u32::MAX;

/// A vCPU among those of all traced VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct VcpuKey {
    /// See [`VmId`].
    pub vm: VmId,
    /// See [`VcpuId`].
    pub vcpu: VcpuId,
}

/// What a file descriptor refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Identity {
    /// Kernel address of `struct kvm`, the same for all descriptors of a VM; 0: it could not be
    /// read.
    pub kvm: u64,
    /// The VM's number; [`NO_VM`] if it is not traced.
    pub vm: VmId,
    /// Of a vCPU's descriptor, its id; [`crate::NO_VCPU`] for a VM's.
    pub vcpu: VcpuId,
    /// Of a vCPU's descriptor: not 0 if a nested guest has run on it, and its shadow tables are there.
    pub has_nested: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// The process whose memory the VM has (`kvm.mm`), which alone can run it, by its number in the
    /// collector's PID namespace. 0 if it has none there, or this kernel does not keep it;
    /// [`NO_PROCESS`] if it has ended.
    pub owner: u32,
    /// Zero.
    pub padding: u32,
}

/// A memslot as KVM has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SlotAnswer {
    /// First frame.
    pub base: Gfn,
    /// Length in pages; 0: there is none at this place.
    pub pages: u64,
    /// The first frame in the VMM.
    pub hva: Hva,
    /// Number of the set of memslots, which each change of one increases.
    pub generation: u64,
    /// Memslot id.
    pub id: u16,
    /// Zero.
    pub reserved: [u8; 6],
}

/// Most 64-bit words of a `struct kvm_vcpu_stat`; Linux 6.18 has 140.
pub const COUNTER_WORDS: usize = 256;

/// KVM's counters of a VM or a vCPU (`kvm.stat`, `kvm_vcpu.stat`).
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct CounterWords {
    /// 1: the rest was read.
    pub read: u64,
    /// `kvm.arch.n_used_mmu_pages`, of a VM and where this kernel has it.
    pub used_mmu_pages: u64,
    /// The struct, word by word; the collector knows the names.
    pub words: [u64; COUNTER_WORDS],
}
