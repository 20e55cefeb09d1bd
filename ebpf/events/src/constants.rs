//! Numbers of the kernel's source that BTF does not describe.
//!
//! Each is the same in Linux 6.1 to 7.3. Where BTF has something to compare with, the tests of
//! `collector::probes::btf` compare it. The bits of an SPTE are in `spte.rs`.

/// `PFERR_PRESENT_MASK` and the following: `arch/x86/include/asm/kvm_host.h`, after the CPU's own
/// error code of a #PF (Intel SDM volume 3, section 4.7).
pub(crate) mod pferr {
    pub const PRESENT: u32 = 1 << 0;
    pub const WRITE: u32 = 1 << 1;
    pub const USER: u32 = 1 << 2;
    pub const RSVD: u32 = 1 << 3;
    pub const FETCH: u32 = 1 << 4;
    pub const PK: u32 = 1 << 5;
    pub const SS: u32 = 1 << 6;
    pub const SGX: u32 = 1 << 15;
}

/// `X86_TRAP_PF` (`arch/x86/include/asm/trapnr.h`): vector of a page fault.
pub const PAGE_FAULT_VECTOR: u32 = 14;

/// `__NR_ioctl` (`arch/x86/entry/syscalls/syscall_64.tbl`).
pub const SYSCALL_IOCTL: u64 = 16;

/// The same for a 32-bit program (`syscall_32.tbl`), which passes its arguments in other registers.
pub const SYSCALL_IOCTL_IA32: u64 = 54;

/// Where `struct pt_regs` has RBX, the first argument of a 32-bit system call. Its layout is ABI:
/// `ptrace` shows it (`arch/x86/include/asm/ptrace.h`).
pub const PT_REGS_BX: u32 = 40;

/// The same of RCX, the second argument.
pub const PT_REGS_CX: u32 = 88;

/// `__NR_ioctl` of the x32 ABI (`syscall_64.tbl`), with `__X32_SYSCALL_BIT`.
pub const SYSCALL_IOCTL_X32: u64 = 1 << 30 | 514;

/// `KVM_RUN`, `_IO(KVMIO, 0x80)` (`include/uapi/linux/kvm.h`).
pub const KVM_RUN: u32 = 0xae80;

/// `VCPU_REGS_RIP` (`arch/x86/include/asm/kvm_host.h`): index in `kvm_vcpu_arch.regs`, up to
/// Linux 6.18. It is the last one there.
pub const VCPU_REGS_RIP: u32 = 16;

/// `PT32E_ROOT_LEVEL` (`arch/x86/kvm/mmu.h`): the root is `mmu->pae_root`, which is not a shadow
/// page.
pub const PAE_ROOT_LEVEL: u8 = 3;

/// `INVALID_PAGE` (`arch/x86/include/asm/kvm_host.h`): no root is loaded.
pub const INVALID_PAGE: u64 = u64::MAX;

/// `KVM_PFN_NOSLOT` (`include/linux/kvm_host.h`): no memslot covers the frame, so the access is
/// MMIO.
pub const NO_SLOT_PFN: u64 = 1 << 63;

/// `KVM_PFN_ERR_MASK` (`include/linux/kvm_host.h`): any of these bits makes a `kvm_pfn_t` an
/// error.
pub const ERROR_PFN_MASK: u64 = 0x7ff << 52;

/// `KVM_RMAP_MANY` (`arch/x86/kvm/mmu/mmu.c`; in 6.1 bit 0 of `kvm_rmap_head.val` without a name):
/// the head points to a list of entries, not to one.
pub const RMAP_MANY: u64 = 1;

/// Low bits of a `kvm_rmap_head.val` that are flags (Linux 6.14 adds a lock). The rest is a
/// pointer.
pub const RMAP_FLAGS: u64 = 7;

/// Bits of a memslot id's hash: `DECLARE_HASHTABLE(id_hash, 7)` in `struct kvm_memslots`
/// (`include/linux/kvm_host.h`).
pub const MEMSLOT_HASH_BITS: u32 = 7;

/// Buckets of `kvm_memslots.id_hash`.
pub const MEMSLOT_BUCKETS: u64 = 1 << MEMSLOT_HASH_BITS;

/// `GOLDEN_RATIO_32` (`include/linux/hash.h`).
const GOLDEN_RATIO_32: u32 = 0x61c8_8647;

/// `hash_32(id, 7)` (`include/linux/hash.h`): the bucket of a memslot id.
pub const fn memslot_bucket(id: u16) -> u64 {
    let hash = (id as u32).wrapping_mul(GOLDEN_RATIO_32);
    (hash >> (u32::BITS - MEMSLOT_HASH_BITS)) as u64
}

/// Bytes of a `struct hlist_node` (`include/linux/types.h`); `next` is at 0.
pub const HLIST_NODE_BYTES: u64 = 16;

/// Bytes from a `struct list_head` to its `prev` (`include/linux/types.h`); `next` is at 0.
pub const LIST_HEAD_PREV: u64 = 8;

#[cfg(test)]
mod tests {
    use super::{MEMSLOT_BUCKETS, memslot_bucket};

    #[test]
    fn every_memslot_has_a_bucket() {
        assert_eq!(memslot_bucket(0), 0);
        assert_eq!(memslot_bucket(1), 0x61c8_8647 >> 25);
        assert!((0..=u16::MAX).all(|id| memslot_bucket(id) < MEMSLOT_BUCKETS));
    }
}
