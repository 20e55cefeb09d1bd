//! What user space resolves from the running kernel's BTF and hands to the probes.

use bytemuck::{Pod, Zeroable};

/// An offset of a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets of kernel fields, resolved at start (Rust-built eBPF carries no
/// CO-RE relocations). Field names are `struct_member`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Config {
    /// Start of the kernel's direct map: kernel address minus physical address.
    pub page_offset: u64,
    /// `kvm_page_fault.addr`
    pub fault_addr: u32,
    /// `kvm_page_fault.error_code`; its low 32 bits are read.
    pub fault_error_code: u32,
    /// `kvm_page_fault.gfn`
    pub fault_gfn: u32,
    /// `kvm_page_fault.slot`
    pub fault_slot: u32,
    /// `kvm_page_fault.pfn`
    pub fault_pfn: u32,
    /// `kvm_page_fault.goal_level`
    pub fault_goal_level: u32,
    /// `kvm_mmu_page.link`
    pub sp_link: u32,
    /// `kvm_mmu_page.spt`
    pub sp_spt: u32,
    /// `kvm_mmu_page.gfn`
    pub sp_gfn: u32,
    /// `kvm_mmu_page.role`
    pub sp_role: u32,
    /// `kvm_mmu_page.unsync`
    pub sp_unsync: u32,
    /// `kvm_mmu_page.root_count`
    pub sp_root_count: u32,
    /// `kvm_vcpu.arch.cr3`
    pub vcpu_cr3: u32,
    /// `kvm_vcpu.arch.regs[VCPU_REGS_RIP]`, absent where RIP is not kept there.
    pub vcpu_rip: u32,
    /// `kvm_vcpu.arch.regs_avail`, a bit for each register; absent where `vcpu_rip` is
    pub vcpu_regs_avail: u32,
    /// `kvm_vcpu.arch.mmio_gva`, page of the latest access that no memslot covers
    pub vcpu_mmio_gva: u32,
    /// `kvm_vcpu.arch.mmio_gfn`, its frame
    pub vcpu_mmio_gfn: u32,
    /// `kvm_vcpu.arch.mmu`
    pub vcpu_mmu: u32,
    /// `kvm_vcpu.run`
    pub vcpu_run: u32,
    /// `kvm_vcpu.stat.pf_taken`, with `pf_fixed`, `pf_emulate`, `pf_spurious`, `pf_fast` behind it
    pub vcpu_pf_taken: u32,
    /// `kvm_mmu.root.hpa`
    pub mmu_root_hpa: u32,
    /// `kvm_mmu.root_role`
    pub mmu_root_role: u32,
    /// `kvm_memory_slot.base_gfn`
    pub slot_base_gfn: u32,
    /// `kvm_memory_slot.userspace_addr`
    pub slot_userspace_addr: u32,
    /// `kvm_memory_slot.id`
    pub slot_id: u32,
    /// `kvm.arch.active_mmu_pages`
    pub kvm_active_mmu_pages: u32,
    /// `task_struct.files`
    pub task_files: u32,
    /// `files_struct.fdt`
    pub files_fdt: u32,
    /// `fdtable.fd`
    pub fdt_fd: u32,
    /// `file.private_data`
    pub file_private_data: u32,
    /// Where the level is in a role word: lowest bit.
    pub role_level_shift: u32,
    /// The level's width in bits.
    pub role_level_width: u32,
    /// `PFERR_*` bits that the walk of every fault has: U where KVM emulates the guest's kernel
    /// (PVM), so that the emulator's walks, millions a second, are told at once; else none.
    pub walk_bits: u32,
    /// Zero.
    pub reserved: u32,
}
