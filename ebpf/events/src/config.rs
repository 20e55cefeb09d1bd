//! What user space resolves from the running kernel's BTF and hands to the probes.

use bytemuck::{Pod, Zeroable};

use crate::ErrorCode;

/// Bytes from the start of a kernel struct to a field, or nothing where this kernel has no such
/// field. Only [`Offset::of`] makes an address of it, so an absent field is never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Offset(u32);

impl Offset {
    /// This kernel has no such field. Not `u32::MAX`, which the probes cannot compare with: see
    /// their `build.rs`.
    pub const ABSENT: Self = Self(i32::MAX as u32);

    /// Of a field that is there. No struct is so large that an offset could pass for
    /// [`Offset::ABSENT`]; one that claims to be is taken for absent.
    pub const fn new(bytes: Option<u32>) -> Self {
        match bytes {
            Some(bytes) if bytes < Self::ABSENT.0 => Self(bytes),
            _ => Self::ABSENT,
        }
    }

    /// Bytes, if the field is there.
    #[inline(always)]
    pub const fn bytes(self) -> Option<u32> {
        if self.0 == Self::ABSENT.0 {
            None
        } else {
            Some(self.0)
        }
    }

    /// Whether this kernel has the field.
    #[inline(always)]
    pub const fn is_there(self) -> bool {
        self.bytes().is_some()
    }

    /// Address of the field in the struct at `base`.
    #[inline(always)]
    pub const fn of(self, base: u64) -> Option<u64> {
        match self.bytes() {
            Some(bytes) => Some(base.wrapping_add(bytes as u64)),
            None => None,
        }
    }

    /// The struct whose field is at `address`: `container_of`.
    #[inline(always)]
    pub const fn container(self, address: u64) -> Option<u64> {
        match self.bytes() {
            Some(bytes) => Some(address.wrapping_sub(bytes as u64)),
            None => None,
        }
    }

    /// What is `bytes` after the field, if that is there.
    #[inline(always)]
    pub const fn plus(self, bytes: u32) -> Self {
        match self.bytes() {
            Some(offset) => Self(offset.wrapping_add(bytes)),
            None => Self::ABSENT,
        }
    }
}

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
        /// Offsets of kernel fields, resolved at start (Rust-built eBPF carries no CO-RE
        /// relocations).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
        #[repr(C)]
        pub struct Offsets {
            $(
                #[doc = concat!("`", $of, ".", $path, "`" $(, "; ", $note)?)]
                pub $name: Offset,
            )*
        }

        /// What each field of [`Offsets`] is, in its order.
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
    need fault_prefetch "kvm_page_fault" "prefetch" "no vCPU faulted, the host brought it in late";
    need fault_goal_level "kvm_page_fault" "goal_level";
    need sp_link "kvm_mmu_page" "link";
    need sp_spt "kvm_mmu_page" "spt";
    need sp_gfn "kvm_mmu_page" "gfn";
    need sp_role "kvm_mmu_page" "role";
    need sp_unsync "kvm_mmu_page" "unsync";
    need sp_root_count "kvm_mmu_page" "root_count";
    find sp_translation "kvm_mmu_page" "shadowed_translation" "a pointer: frames of the leaves";
    need vcpu_kvm "kvm_vcpu" "kvm";
    need vcpu_id "kvm_vcpu" "vcpu_id";
    find vcpu_pid "kvm_vcpu" "pid" "of the thread that ran it last";
    need vcpu_cr3 "kvm_vcpu" "arch.cr3";
    find vcpu_regs "kvm_vcpu" "arch.regs" "RIP is the 17th, up to Linux 6.18";
    find vcpu_regs_avail "kvm_vcpu" "arch.regs_avail" "a bit for each register";
    find vcpu_mmio_gva "kvm_vcpu" "arch.mmio_gva" "page of the latest access without a memslot";
    find vcpu_mmio_gfn "kvm_vcpu" "arch.mmio_gfn" "its frame";
    need vcpu_mmu "kvm_vcpu" "arch.mmu";
    find vcpu_guest_mmu "kvm_vcpu" "arch.guest_mmu" "in use while a nested guest runs";
    need vcpu_run "kvm_vcpu" "run";
    need vcpu_pf_taken "kvm_vcpu" "stat.pf_taken" "the other four follow: see `Outcomes`";
    find vcpu_invlpg "kvm_vcpu" "stat.invlpg" "INVLPGs and INVPCIDs of one address";
    find vcpu_emulated "kvm_vcpu" "stat.insn_emulation";
    find vcpu_cr2 "kvm_vcpu" "arch.cr2" "address of the fault that is injected";
    find vcpu_emulator "kvm_vcpu" "arch.emulate_ctxt" "a pointer";
    find emulator_opcode "x86_emulate_ctxt" "b" "the last byte of the opcode";
    find emulator_modrm "x86_emulate_ctxt" "modrm";
    find emulator_address "x86_emulate_ctxt" "src.addr.mem.ea" "without the segment's base";
    find emulator_segment "x86_emulate_ctxt" "src.addr.mem.seg";
    find mmu_prev_roots "kvm_mmu" "prev_roots" "three pairs: the guest's root, its shadow root";
    need mmu_root_pgd "kvm_mmu" "root.pgd";
    need mmu_root_hpa "kvm_mmu" "root.hpa" "follows at once";
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
    find task_nvcsw "task_struct" "nvcsw" "how often the thread has given its CPU up";
    find task_nivcsw "task_struct" "nivcsw" "how often it was taken from it";
    find kvm_mm "kvm" "mm" "the memory of the process that made the VM";
    find mm_owner "mm_struct" "owner" "a thread of that process; with CONFIG_MEMCG";
    find task_signal "task_struct" "signal";
    find signal_pids "signal_struct" "pids" "the second is the process's";
    find pid_level "pid" "level" "of PID namespaces";
    find pid_tasks "pid" "tasks" "its thread, and lists of others; empty once it has ended";
    find pid_numbers "pid" "numbers" "for each level the number and its namespace";
    find range_slot "kvm_gfn_range" "slot";
    find range_start "kvm_gfn_range" "start";
    find range_end "kvm_gfn_range" "end";
    find kvm_memslots "kvm" "memslots" "of the first address space";
    find memslots_id_hash "kvm_memslots" "id_hash";
    find memslots_node_idx "kvm_memslots" "node_idx";
    find memslots_generation "kvm_memslots" "generation" "each change of a memslot increases it";
    find slot_id_node "kvm_memory_slot" "id_node";
    find kvm_used_mmu_pages "kvm" "arch.n_used_mmu_pages" "up to Linux 6.18";
    find slot_rmap "kvm_memory_slot" "arch.rmap" "a list of heads for each level";
    find desc_more "pte_list_desc" "more";
    find desc_sptes "pte_list_desc" "sptes";
    find desc_count "pte_list_desc" "spte_count" "its low 32 bits are read";
    find regs_di "pt_regs" "di" "first argument of a system call";
    find regs_si "pt_regs" "si" "second";
}

/// Everything that the probes must know of the kernel they run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Config {
    /// Start of the kernel's direct map: kernel address minus physical address, low half first.
    pub page_offset: [u32; 2],
    /// Where the fields are.
    pub offsets: Offsets,
    /// 1 if RIP follows the general registers (`arch.regs`), else 0.
    pub keeps_rip: u32,
    /// Where the level is in a role word: lowest bit.
    pub role_level_shift: u32,
    /// The level's width in bits.
    pub role_level_width: u32,
    /// Where the mark of a direct page is in a role word.
    pub role_direct_shift: u32,
    /// Where the mark of a page that was zapped as a root in use is in a role word.
    pub role_invalid_shift: u32,
    /// 1 where the hardware walks a second level: only nested guests have shadow tables. Else 0.
    pub nested_only: u32,
    /// Bits that the walk of every fault has: U where KVM emulates the guest's kernel (PVM), which
    /// separates faults from the emulator's walks, millions a second; else none.
    pub walk_bits: ErrorCode,
    /// `PTE_LIST_EXT`: entries of a `pte_list_desc.sptes`; 0 where that is not known.
    pub desc_entries: u32,
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

#[cfg(test)]
mod tests {
    use super::Offset;

    #[test]
    fn an_absent_field_has_no_address() {
        for absent in [
            Offset::ABSENT,
            Offset::new(None),
            Offset::new(Some(u32::MAX)),
        ] {
            assert!(!absent.is_there());
            assert_eq!(absent.of(0xffff_8880_0000_0000), None);
            assert_eq!(absent.container(0xffff_8880_0000_0000), None);
            assert_eq!(absent.plus(8), Offset::ABSENT);
        }
    }

    #[test]
    fn a_field_is_at_its_offset() {
        let offset = Offset::new(Some(0x18));
        assert_eq!(offset.of(0x1000), Some(0x1018));
        assert_eq!(offset.container(0x1018), Some(0x1000));
        assert_eq!(offset.plus(8).bytes(), Some(0x20));
        assert_eq!(Offset::new(Some(0)).of(0x1000), Some(0x1000));
    }
}
