//! Unsync pages, whose entries change without a word: a sync, INVLPG and the fault that KVM injects
//! bring them in line with the guest's table.
//!
//! Only used where functions cannot be hooked. A copy of each unsync page is kept, and at the vCPU's
//! next event the page is compared with it: what differs has changed since the event before.

use aya_ebpf::{
    helpers::{bpf_for_each_map_elem, bpf_loop, generated::bpf_probe_read_kernel},
    macros::map,
    maps::{Array, HashMap},
};
use core::ffi::c_void;
use events::{Cause, ENTRIES_PER_TABLE, Probe, Spte, Vcpu, VcpuId, VmId};

use crate::{
    entries,
    kernel::{offset, read},
    ring::lose,
};

/// Unsync pages that are compared, of all VMs. Further ones are seen in keyframes, and counted as lost.
const MOST: u32 = 1024;

/// By the kernel address of the page's entries.
#[map]
static UNSYNC: HashMap<u64, Copy> = HashMap::with_max_entries(MOST, 0);

/// What a new copy begins as: too large for a program's stack.
#[map]
static BLANK: Array<Copy> = Array::with_max_entries(1, 0);

/// Copies there are: as long as there is none, nothing is looked for.
#[map]
static COPIES: Array<u64> = Array::with_max_entries(1, 0);

#[repr(C)]
struct Copy {
    vm: VmId,
    /// The vCPU that syncs it now, plus one; 0: none.
    syncing: u16,
    reserved: u32,
    entries: [Spte; ENTRIES_PER_TABLE],
}

#[inline(always)]
fn are_there() -> bool {
    COPIES.get(0).is_some_and(|copies| *copies != 0)
}

#[inline(always)]
fn count(change: i64) {
    if let Some(copies) = COPIES.get_ptr_mut(0) {
        // SAFETY: a map value; all users that change it are atomic.
        unsafe { add(copies, change) };
    }
}

/// Atomic, see `ring::next_seq`.
#[inline(always)]
unsafe fn add(place: *mut u64, change: i64) {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: the caller's.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(place, change as u64) };
}

/// A page becomes unsync: a copy is kept from now on.
#[inline(always)]
pub fn keep(vcpu: &mut Vcpu, sp: u64) {
    if entries::is_told() {
        return;
    }
    let (Some(spt), Some(blank)) = (read::<u64>(sp, offset!(sp_spt)), BLANK.get(0)) else {
        lose(Probe::Read);
        return;
    };
    if UNSYNC.get_ptr_mut(spt).is_some() {
        // Another vCPU has synced it and was not here since.
        compare(vcpu, Cause::Sync);
    }
    if UNSYNC.get_ptr_mut(spt).is_none() {
        if UNSYNC.insert(spt, blank, 0).is_err() {
            lose(Probe::PageMap);
            return;
        }
        count(1);
    }
    let Some(copy) = UNSYNC.get_ptr_mut(spt) else {
        return;
    };
    // SAFETY: a map value, in use by whoever holds this VM's mmu_lock; the helper checks the address.
    let failed = unsafe {
        (*copy).vm = vcpu.vm;
        (*copy).syncing = 0;
        let entries = &raw mut (*copy).entries;
        bpf_probe_read_kernel(
            entries.cast(),
            8 * ENTRIES_PER_TABLE as u32,
            spt as *const _,
        )
    };
    if failed != 0 {
        lose(Probe::Read);
    }
}

/// A page is gone.
#[inline(always)]
pub fn drop(spt: u64) {
    if are_there() && UNSYNC.remove(spt).is_ok() {
        count(-1);
    }
}

/// An entry was stored that has a record of its own.
#[inline(always)]
pub fn note(sptep: u64, spte: Spte) {
    if !are_there() {
        return;
    }
    if let Some(copy) = UNSYNC.get_ptr_mut(sptep & !0xfff) {
        let index = (sptep >> 3) as usize % ENTRIES_PER_TABLE;
        // SAFETY: a map value, under mmu_lock; the index is below the length.
        unsafe { (*copy).entries[index] = spte };
    }
}

/// The vCPU begins to bring a page in line; it stays unsync no more. Those before it are done.
#[inline(always)]
pub fn sync(vcpu: &mut Vcpu, sp: u64) {
    if !are_there() {
        return;
    }
    compare_synced(vcpu);
    let Some(spt) = read::<u64>(sp, offset!(sp_spt)) else {
        lose(Probe::Read);
        return;
    };
    if let Some(copy) = UNSYNC.get_ptr_mut(spt) {
        // SAFETY: a map value, under mmu_lock.
        unsafe { (*copy).syncing = vcpu.vcpu.0 + 1 };
        vcpu.synced = spt;
    }
}

/// The page that the vCPU has synced last is compared for the last time.
#[inline(always)]
pub fn compare_synced(vcpu: &mut Vcpu) {
    let spt = vcpu.synced;
    if spt == 0 {
        return;
    }
    vcpu.synced = 0;
    let Some(copy) = UNSYNC.get_ptr_mut(spt) else {
        return;
    };
    // SAFETY: a map value.
    if unsafe { (*copy).syncing } != vcpu.vcpu.0 + 1 {
        // Unsync again already.
        return;
    }
    compare_with(spt, copy, vcpu.vm, vcpu.vcpu, Cause::Sync);
    drop(spt);
}

/// All unsync pages of the vCPU's VM are compared: something that has `cause` may have changed them.
#[inline(always)]
pub fn compare(vcpu: &mut Vcpu, cause: Cause) {
    if are_there() {
        compare_synced(vcpu);
        each(vcpu, cause);
    }
}

/// Whose pages are compared, and why.
#[repr(C)]
struct Order {
    vm: VmId,
    vcpu: VcpuId,
    cause: Cause,
}

#[inline(never)]
fn each(vcpu: &Vcpu, cause: Cause) {
    let order = Order {
        vm: vcpu.vm,
        vcpu: vcpu.vcpu,
        cause,
    };
    // SAFETY: the callback takes what this map holds, and the order.
    unsafe {
        bpf_for_each_map_elem(
            (&raw const UNSYNC).cast_mut().cast(),
            compare_page as *mut c_void,
            (&raw const order).cast_mut().cast(),
            0,
        );
    }
}

/// Called for each copy; 0: go on.
#[inline(never)]
unsafe extern "C" fn compare_page(
    _: *mut c_void,
    key: *const u64,
    copy: *mut Copy,
    order: *const Order,
) -> i64 {
    // SAFETY: what the helper hands over.
    let (spt, vm, syncing, order) = unsafe { (*key, (*copy).vm, (*copy).syncing, &*order) };
    if vm == order.vm {
        let cause = if syncing == 0 {
            order.cause
        } else {
            Cause::Sync
        };
        compare_with(spt, copy, vm, order.vcpu, cause);
    }
    0
}

#[inline(always)]
fn compare_with(spt: u64, copy: *mut Copy, vm: VmId, vcpu: VcpuId, cause: Cause) {
    let mut page = Page {
        spt,
        copy,
        vm,
        vcpu,
        cause,
    };
    // In a loop of its own the verifier would walk all of the page's entries.
    // SAFETY: the callback takes the page.
    unsafe {
        bpf_loop(
            (ENTRIES_PER_TABLE / CHUNK) as u32,
            compare_chunk as *mut c_void,
            (&raw mut page).cast(),
            0,
        );
    }
}

/// A page that is compared.
#[repr(C)]
struct Page {
    spt: u64,
    copy: *mut Copy,
    vm: VmId,
    vcpu: VcpuId,
    cause: Cause,
}

/// Called for each stretch of `CHUNK` entries; 0: go on.
#[inline(never)]
unsafe extern "C" fn compare_chunk(chunk: u64, page: *mut Page) -> i64 {
    // SAFETY: what the helper hands over.
    let page = unsafe { &mut *page };
    let first = chunk as usize % (ENTRIES_PER_TABLE / CHUNK) * CHUNK;
    let Some(now) = read::<[Spte; CHUNK]>(page.spt + 8 * first as u64, 0) else {
        lose(Probe::Read);
        return 1;
    };
    // Not a loop: the verifier must see where it ends.
    let [a, b, c, d] = now;
    compare_entry(page, first, a);
    compare_entry(page, first + 1, b);
    compare_entry(page, first + 2, c);
    compare_entry(page, first + 3, d);
    0
}

#[inline(always)]
fn compare_entry(page: &mut Page, index: usize, now: Spte) {
    // SAFETY: a map value; the index is below the length.
    let kept = unsafe { &mut (*page.copy).entries[index % ENTRIES_PER_TABLE] };
    // The hardware's own marks are no change.
    if now.without_accessed_dirty() != kept.without_accessed_dirty() {
        *kept = now;
        let sptep = page.spt + 8 * index as u64;
        entries::record_as_it_is(page.vm, page.vcpu, page.cause, sptep, None);
    }
}

/// Entries read at a time, onto the stack.
const CHUNK: usize = 4;
