//! What a thread does to the shadow tables, so that each changed entry has its cause.
//!
//! The functions nest (a lookup may sync a page), so each thread has a small stack of causes.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{kprobe, kretprobe, map},
    maps::LruHashMap,
    programs::{ProbeContext, RetProbeContext},
};
use events::Cause;

/// Keyed by thread id: causes, a byte each, the innermost in the lowest byte. A return that the
/// kernel did not report (`nmissed`) leaves one until the thread's next fault. Causes decide no
/// value.
#[map]
static DOING: LruHashMap<u32, u64> = LruHashMap::with_max_entries(4096, 0);

#[inline(always)]
fn thread() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// The thread begins to do this.
#[inline(always)]
pub fn enter(cause: Cause) {
    let thread = thread();
    match DOING.get_ptr_mut(thread) {
        // SAFETY: only this thread uses its value.
        Some(stack) => unsafe { *stack = *stack << 8 | cause as u64 },
        // A full map evicts its oldest entry: then a change has the cause `other`.
        None => {
            let _ = DOING.insert(thread, cause as u64, 0);
        }
    }
}

/// What the thread is doing, if it is one of these things.
#[inline(always)]
pub fn current() -> Option<Cause> {
    // SAFETY: the value is copied at once.
    let stack = unsafe { DOING.get(thread()) }.copied()?;
    // The innermost is in the lowest byte; an empty stack is 0.
    Cause::from_raw(stack as u8)
}

/// The thread ends.
#[inline(always)]
pub fn forget_current() {
    // It fails if there is no entry, which is the aim.
    let _ = DOING.remove(thread());
}

/// Nothing is under way on this thread.
#[inline(always)]
pub fn clear() {
    if let Some(stack) = DOING.get_ptr_mut(thread()) {
        // SAFETY: only this thread uses its value.
        unsafe { *stack = 0 };
    }
}

// Return of each function on whose entry a cause begins.
#[kretprobe]
pub fn cause_ends(_: RetProbeContext) -> u32 {
    if let Some(stack) = DOING.get_ptr_mut(thread()) {
        // SAFETY: only this thread uses its value.
        unsafe { *stack >>= 8 };
    }
    0
}

// __kvm_sync_page(struct kvm_vcpu *vcpu, struct kvm_mmu_page *sp), Linux 6.1: paging64_sync_page
// and paging32_sync_page, same arguments; and mmu_sync_children(struct kvm_vcpu *vcpu, ...), which
// first takes write access to the guest's tables away.
#[kprobe]
pub fn sync_begins(_: ProbeContext) -> u32 {
    enter(Cause::Sync);
    0
}

// __kvm_mmu_invalidate_addr(struct kvm_vcpu *vcpu, ...), Linux 6.1: paging64_invlpg and
// paging32_invlpg.
#[kprobe]
pub fn invlpg_begins(_: ProbeContext) -> u32 {
    enter(Cause::Invlpg);
    0
}

// __kvm_mmu_get_shadow_page(struct kvm *kvm, ...): takes away write access to the frame that
// becomes a table.
#[kprobe]
pub fn write_protect_begins(_: ProbeContext) -> u32 {
    enter(Cause::WriteProtect);
    0
}
