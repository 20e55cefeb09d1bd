//! Hosts whose hardware walks a second level (EPT or NPT).
//!
//! KVM keeps shadow tables there too, for guests of guests: the table with which the guest
//! hypervisor (L1) maps its guest's (L2's) physical addresses is shadowed like any guest table.
//! While L2 runs, `vcpu->arch.mmu` is `&vcpu->arch.guest_mmu`. L1's own faults, which the TDP MMU
//! resolves, are left out, and so are its pages, which are in no list of shadow pages.

use crate::kernel::{config, field, offset};

/// Whether only the shadow tables of nested guests are recorded.
#[inline(always)]
pub fn only() -> bool {
    config!(nested_only) != 0
}

/// `struct kvm_mmu` of the vCPU's nested guest.
#[inline(always)]
pub fn mmu(vcpu_ptr: u64) -> Option<u64> {
    offset!(vcpu_guest_mmu).of(vcpu_ptr)
}

/// Whether KVM resolves the vCPU's faults with shadow tables now.
#[inline(always)]
pub fn shadows(vcpu_ptr: u64) -> bool {
    !only() || field(vcpu_ptr, offset!(vcpu_mmu)) == mmu(vcpu_ptr)
}
