//! What a thread does to the shadow tables, so that each changed entry has its cause, and each act
//! its time.
//!
//! The functions nest (a lookup may sync a page), so each thread has a small stack of them.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_func_ip},
    macros::{kprobe, kretprobe, map},
    maps::{Array, LruHashMap},
    programs::{ProbeContext, RetProbeContext},
};
use events::{Act, ActDone, Cause, NO_VCPU, NO_VM, VmId};

use crate::{
    kernel::now,
    ring::{reserve, submit},
    vcpus,
};

/// Functions of one thread that are under way; a deeper one is only counted.
const DEPTH: usize = 8;

/// A function that is under way.
#[derive(Clone, Copy)]
#[repr(C)]
struct Call {
    /// Address of the function.
    function: u64,
    /// When it was called, ns.
    began: u64,
    /// Pages synced and zapped on this thread until then.
    synced: u32,
    zapped: u32,
    /// See [`Doing::causes`], before it.
    causes: u64,
    /// An [`Act`], or 0.
    act: u8,
    reserved: [u8; 3],
    /// The VM that it is done to, where the function's arguments give it.
    vm: VmId,
    reserved_too: u16,
}

/// The functions of a thread that are under way, the innermost last.
#[derive(Clone, Copy)]
#[repr(C)]
struct Doing {
    /// Causes, a byte each, that of the innermost function in the lowest.
    causes: u64,
    calls: [Call; DEPTH],
    depth: u32,
    /// Pages synced and zapped so far.
    synced: u32,
    zapped: u32,
    reserved: u32,
}

/// Keyed by thread id. A return that the kernel did not report (`nmissed`) leaves its call until
/// the return of one around it, or the thread's next fault. Causes decide no value.
#[map]
static DOING: LruHashMap<u32, Doing> = LruHashMap::with_max_entries(4096, 0);

/// Zeros, which a new thread begins with: too many for the stack.
#[map]
static FRESH: Array<Doing> = Array::with_max_entries(1, 0);

#[inline(always)]
fn thread() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// What the thread does.
#[inline(always)]
fn doing() -> Option<&'static mut Doing> {
    let doing = DOING.get_ptr_mut(thread())?;
    // SAFETY: a map value, which stays memory of the map. Programs on this very thread use it, one at
    // a time, unless the map is full and gives it to another thread meanwhile: then an act or a
    // cause is wrong or missing, and no memory is.
    Some(unsafe { &mut *doing })
}

/// The function of `ctx` begins on this thread: an act on `vm`, with the cause of what it changes.
/// Without a cause it changes nothing by itself: that around it counts.
#[inline(always)]
pub fn enter(ctx: &ProbeContext, cause: Option<Cause>, act: Option<Act>, vm: Option<VmId>) {
    if doing().is_none() {
        // A full map evicts its oldest entry: then a change has the cause `other`, and an act no
        // record.
        if let Some(fresh) = FRESH.get(0) {
            let _ = DOING.insert(thread(), fresh, 0);
        }
    }
    let Some(doing) = doing() else { return };
    if let Some(call) = doing.calls.get_mut(doing.depth as usize) {
        // SAFETY: the helper takes the context of a probe on a function.
        call.function = unsafe { bpf_get_func_ip(ctx.as_ptr()) };
        call.began = now();
        call.synced = doing.synced;
        call.zapped = doing.zapped;
        call.act = act.map_or(0, |act| act as u8);
        call.vm = vm.unwrap_or(NO_VM);
        call.causes = doing.causes;
        if let Some(cause) = cause {
            doing.causes = doing.causes << 8 | cause as u64;
        }
    }
    doing.depth += 1;
}

/// The innermost function.
#[inline(always)]
fn around(doing: &Doing) -> Option<&Call> {
    doing.calls.get((doing.depth as usize).wrapping_sub(1))
}

/// What the thread is doing, if it is one of these things.
#[inline(always)]
pub fn current() -> Option<Cause> {
    let causes = doing()?.causes;
    // The innermost is in the lowest byte; none is 0.
    Cause::from_raw(causes as u8)
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
    if let Some(doing) = doing() {
        doing.depth = 0;
        doing.causes = 0;
    }
}

/// A page is synced on this thread.
#[inline(always)]
pub fn synced() {
    if let Some(doing) = doing() {
        doing.synced = doing.synced.wrapping_add(1);
    }
}

/// A page is zapped on this thread.
#[inline(always)]
pub fn zapped() {
    if let Some(doing) = doing() {
        doing.zapped = doing.zapped.wrapping_add(1);
    }
}

// Return of each function on whose entry a cause or an act begins.
#[kretprobe]
pub fn cause_ends(ctx: RetProbeContext) -> u32 {
    let Some(doing) = doing() else { return 0 };
    // SAFETY: the helper takes the context of a probe on a function.
    let function = unsafe { bpf_get_func_ip(ctx.as_ptr()) };
    let depth = doing.depth as usize;
    if depth > DEPTH {
        doing.depth -= 1;
        return 0;
    }
    // Calls whose return was missed are above the one that returns.
    for above in 1..=DEPTH {
        let Some(call) = doing.calls.get(depth.wrapping_sub(above)).copied() else {
            return 0;
        };
        if call.function == function {
            doing.depth = depth.wrapping_sub(above) as u32;
            doing.causes = call.causes;
            let synced = doing.synced.wrapping_sub(call.synced);
            let zapped = doing.zapped.wrapping_sub(call.zapped);
            if !is_part(&call, around(doing)) {
                done(&call, synced, zapped);
            }
            return 0;
        }
    }
    0
}

/// A sync within a sync, or a zap within a zap: the outer one has its time.
#[inline(always)]
fn is_part(call: &Call, around: Option<&Call>) -> bool {
    let around = around.map_or(0, |around| around.act);
    around == call.act || (call.act == Act::Sync as u8 && around == Act::SyncRoots as u8)
}

/// Records an act that is over.
#[inline(always)]
fn done(call: &Call, synced: u32, zapped: u32) {
    if call.act == 0 || (call.act == Act::WriteZap as u8 && zapped == 0) {
        return;
    }
    let (vm, by) = match (vcpus::current(), call.vm) {
        (Some(vcpu), vm) if vm == NO_VM || vm == vcpu.vm => (vcpu.vm, vcpu.vcpu),
        (_, NO_VM) => return,
        (_, vm) => (vm, NO_VCPU),
    };
    let Some(mut entry) = reserve::<ActDone>(vm, by, call.began) else {
        return;
    };
    let ns = now().saturating_sub(call.began);
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).total = ns;
        (*record).synced = synced;
        (*record).zapped = zapped;
        (*record).act = call.act;
        (*record).reserved = [0; 7];
    }
    submit(entry);
}

// __kvm_sync_page(struct kvm_vcpu *vcpu, struct kvm_mmu_page *sp), Linux 6.1: paging64_sync_page
// and paging32_sync_page, same arguments; and mmu_sync_children(struct kvm_vcpu *vcpu, ...), which
// first takes write access to the guest's tables away.
#[kprobe]
pub fn sync_begins(ctx: ProbeContext) -> u32 {
    enter(&ctx, Some(Cause::Sync), Some(Act::Sync), None);
    0
}

// __kvm_mmu_invalidate_addr(struct kvm_vcpu *vcpu, ...), Linux 6.1: paging64_invlpg and
// paging32_invlpg.
#[kprobe]
pub fn invlpg_begins(ctx: ProbeContext) -> u32 {
    enter(&ctx, Some(Cause::Invlpg), Some(Act::Invlpg), None);
    0
}

// __kvm_mmu_get_shadow_page(struct kvm *kvm, ...): takes away write access to the frame that
// becomes a table.
#[kprobe]
pub fn write_protect_begins(ctx: ProbeContext) -> u32 {
    enter(&ctx, Some(Cause::WriteProtect), None, None);
    0
}

// kvm_mmu_sync_roots(struct kvm_vcpu *vcpu)
#[kprobe]
pub fn sync_roots_begins(ctx: ProbeContext) -> u32 {
    enter(&ctx, None, Some(Act::SyncRoots), None);
    0
}

// __kvm_mmu_prepare_zap_page(struct kvm *kvm, struct kvm_mmu_page *sp, struct list_head
// *invalid_list, int *nr_zapped), under mmu_lock.
#[kprobe]
pub fn zap_page_begins(ctx: ProbeContext) -> u32 {
    let vm = ctx.arg::<u64>(0).and_then(vcpus::traced);
    enter(&ctx, None, vm.map(|_| Act::ZapPage), vm);
    0
}
