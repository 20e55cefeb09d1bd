//! What user space resolves from the running kernel's BTF and hands to the probes.

use bytemuck::{Pod, Zeroable};

/// An offset of a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// A kernel field whose offset the probes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The struct it belongs to.
    pub of: &'static str,
    /// Its path within, anonymous members left out.
    pub path: &'static str,
    /// Without it nothing can be recorded.
    pub needed: bool,
}

/// One list for the struct that the probes read and for what user space looks up.
macro_rules! offsets {
    ($($need:ident $name:ident $of:literal $path:literal $($note:literal)?;)*) => {
        /// Byte offsets of kernel fields, resolved at start (Rust-built eBPF carries no CO-RE
        /// relocations); [`ABSENT`] where this kernel has no such field.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
        #[repr(C)]
        pub struct Offsets {
            $(
                #[doc = concat!("`", $of, ".", $path, "`" $(, "; ", $note)?)]
                pub $name: u32,
            )*
        }

        /// What each number of [`Offsets`] is, in its order.
        pub const FIELDS: &[Field] = &[$(Field {
            of: $of,
            path: $path,
            needed: needed!($need),
        }),*];
    };
}

macro_rules! needed {
    (need) => {
        true
    };
    (find) => {
        false
    };
}

offsets! {
    need fault_addr "kvm_page_fault" "addr";
    need fault_error_code "kvm_page_fault" "error_code" "its low 32 bits are read";
    need fault_gfn "kvm_page_fault" "gfn";
    need fault_slot "kvm_page_fault" "slot";
    need fault_pfn "kvm_page_fault" "pfn";
    need fault_prefetch "kvm_page_fault" "prefetch" "no vCPU faulted: a frame that the host brought in late";
    need fault_goal_level "kvm_page_fault" "goal_level";
    need sp_link "kvm_mmu_page" "link";
    need sp_spt "kvm_mmu_page" "spt";
    need sp_gfn "kvm_mmu_page" "gfn";
    need sp_role "kvm_mmu_page" "role";
    need sp_unsync "kvm_mmu_page" "unsync";
    need sp_root_count "kvm_mmu_page" "root_count";
    find sp_translation "kvm_mmu_page" "shadowed_translation" "a pointer; frames of the leaves of a page with a guest table";
    need vcpu_kvm "kvm_vcpu" "kvm";
    need vcpu_id "kvm_vcpu" "vcpu_id";
    need vcpu_cr3 "kvm_vcpu" "arch.cr3";
    find vcpu_regs "kvm_vcpu" "arch.regs" "RIP is the 17th, up to Linux 6.18";
    find vcpu_regs_avail "kvm_vcpu" "arch.regs_avail" "a bit for each register";
    find vcpu_mmio_gva "kvm_vcpu" "arch.mmio_gva" "page of the latest access that no memslot covers";
    find vcpu_mmio_gfn "kvm_vcpu" "arch.mmio_gfn" "its frame";
    need vcpu_mmu "kvm_vcpu" "arch.mmu";
    need vcpu_run "kvm_vcpu" "run";
    need vcpu_pf_taken "kvm_vcpu" "stat.pf_taken" "with `pf_fixed`, `pf_emulate`, `pf_spurious`, `pf_fast` behind it";
    need mmu_root_pgd "kvm_mmu" "root.pgd";
    need mmu_root_hpa "kvm_mmu" "root.hpa" "right behind";
    need mmu_root_role "kvm_mmu" "root_role";
    need slot_base_gfn "kvm_memory_slot" "base_gfn";
    need slot_userspace_addr "kvm_memory_slot" "userspace_addr";
    need slot_id "kvm_memory_slot" "id";
    need slot_npages "kvm_memory_slot" "npages";
    need kvm_active_mmu_pages "kvm" "arch.active_mmu_pages";
    need task_files "task_struct" "files";
    need files_fdt "files_struct" "fdt";
    need fdt_fd "fdtable" "fd";
    need file_private_data "file" "private_data";
    find range_slot "kvm_gfn_range" "slot";
    find range_start "kvm_gfn_range" "start";
    find range_end "kvm_gfn_range" "end";
    find kvm_memslots "kvm" "memslots" "of the first address space";
    find memslots_id_hash "kvm_memslots" "id_hash";
    find memslots_node_idx "kvm_memslots" "node_idx";
    find slot_id_node "kvm_memory_slot" "id_node";
    find kvm_used_mmu_pages "kvm" "arch.n_used_mmu_pages" "up to Linux 6.18";
    find slot_rmap "kvm_memory_slot" "arch.rmap" "a list of heads for each level";
    find desc_more "pte_list_desc" "more";
    find desc_sptes "pte_list_desc" "sptes";
    find desc_count "pte_list_desc" "spte_count" "its low 32 bits are read";
    find regs_di "pt_regs" "di" "first argument of a system call";
    find regs_si "pt_regs" "si" "second";
}

/// Everything that the probes must be told about the kernel they run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Config {
    /// Start of the kernel's direct map: kernel address minus physical address, low half first.
    pub page_offset: [u32; 2],
    /// Where the fields are.
    pub offsets: Offsets,
    /// Whether RIP is kept behind the general registers.
    pub keeps_rip: u32,
    /// Where the level is in a role word: lowest bit.
    pub role_level_shift: u32,
    /// The level's width in bits.
    pub role_level_width: u32,
    /// Where the mark of a direct page is in a role word.
    pub role_direct_shift: u32,
    /// `PFERR_*` bits that the walk of every fault has: U where KVM emulates the guest's kernel
    /// (PVM), so that the emulator's walks, millions a second, are told at once; else none.
    pub walk_bits: u32,
    /// KVM's counters of a VM: offset in `struct kvm`, bytes.
    pub vm_counters: [u32; 2],
    /// KVM's counters of a vCPU: offset in `struct kvm_vcpu`, bytes.
    pub vcpu_counters: [u32; 2],
}

impl Config {
    /// As it is in the object file, before the loader puts the real one in its place.
    // SAFETY: plain numbers (Zeroable).
    pub const EMPTY: Self = unsafe { core::mem::zeroed() };
}

const _: () = assert!(FIELDS.len() * 4 == size_of::<Offsets>());
