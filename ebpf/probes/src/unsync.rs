//! Unsync pages, whose entries change without a tracepoint: a sync, INVLPG and the fault that KVM
//! injects bring them in line with the guest's table.
//!
//! Only used where functions cannot be hooked. A copy of each unsync page is kept, and compared with
//! the page where something can have changed it: a sync names its page, an injected fault its
//! address. KVM counts INVLPGs (`stat.invlpg`); the address is the operand of the instruction that
//! was emulated last, if KVM emulated one since the vCPU's last event, and it was INVLPG. Where the
//! address is not known (a hypercall), up to [`BUDGET`] pages are compared as a whole.

use aya_ebpf::{
    helpers::{bpf_for_each_map_elem, bpf_loop, generated::bpf_probe_read_kernel},
    macros::map,
    maps::{Array, HashMap},
};
use core::ffi::c_void;
use events::{
    Cause, ENTRIES_PER_TABLE, Gva, Hpa, Level, PathStep, Probe, Spte, Vcpu, VcpuId, VmId,
    constants::INVALID_PAGE,
};

use crate::{
    entries,
    kernel::{direct_map, field, offset, read},
    ring::lose,
    roots,
};

/// Pages that are compared as a whole for an INVLPG whose address is not known. Where there are
/// more, none is, and that is counted as lost: 5 us a page would slow the guest down.
const BUDGET: u64 = 16;

/// The second byte of the opcode of INVLPG, and its digit in ModRM (0F 01 /7).
const INVLPG: u8 = 0x01;
const INVLPG_DIGIT: u8 = 7;

/// `VCPU_SREG_FS`, the first segment register whose base is not 0 in 64-bit mode.
const SEGMENT_FS: u32 = 4;

/// By the kernel address of the page's entries. User space sizes it. Changes of pages that it has
/// no room for are seen in keyframes only, and counted as lost.
#[map]
static UNSYNC: HashMap<u64, PageCopy> = HashMap::with_max_entries(1, 0);

/// The first value of a new copy, which is too large for a program's stack.
#[map]
static BLANK: Array<PageCopy> = Array::with_max_entries(1, 0);

/// Number of copies: without any, nothing is looked up.
#[map]
static COPIES: Array<u64> = Array::with_max_entries(1, 0);

#[repr(C)]
struct PageCopy {
    vm: VmId,
    /// The vCPU that syncs it now, plus one; 0: none.
    syncing: u16,
    reserved: u32,
    entries: [Spte; ENTRIES_PER_TABLE],
}

#[inline(always)]
fn copies() -> u64 {
    COPIES.get(0).copied().unwrap_or(0)
}

/// Whether there are unsync pages, of any VM.
#[inline(always)]
pub fn has_copies() -> bool {
    copies() != 0
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
    // SAFETY: the caller passes a map value; all users are atomic.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(place, change as u64) };
}

/// A page becomes unsync: keeps a copy from now on. Under mmu_lock.
#[inline(always)]
pub fn keep(vcpu: &mut Vcpu, sp: u64) {
    if entries::sees_every_change() {
        return;
    }
    release(vcpu);
    let (Some(spt), Some(blank)) = (field::<u64>(sp, offset!(sp_spt)), BLANK.get(0)) else {
        lose(Probe::Read);
        return;
    };
    if copies() == 0 {
        // INVLPGs until now changed no page.
        look(vcpu);
    }
    // Another vCPU may have synced it and had no event since.
    compare_page(vcpu, spt);
    if UNSYNC.get_ptr_mut(spt).is_none() {
        if UNSYNC.insert(spt, blank, 0).is_err() {
            lose(Probe::Unsync);
            return;
        }
        count(1);
    }
    let Some(copy) = UNSYNC.get_ptr_mut(spt) else {
        return;
    };
    // SAFETY: a map value, used under this VM's mmu_lock; the helper checks the address.
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

/// The page is zapped, or in sync again: its copy is not needed any more.
#[inline(always)]
pub fn forget(spt: u64) {
    if has_copies() && UNSYNC.remove(spt).is_ok() {
        count(-1);
    }
}

/// An entry was stored that has its own record.
#[inline(always)]
pub fn note(sptep: u64, spte: Spte) {
    if !has_copies() {
        return;
    }
    if let Some(copy) = UNSYNC.get_ptr_mut(sptep & !0xfff) {
        let index = (sptep >> 3) as usize % ENTRIES_PER_TABLE;
        // SAFETY: a map value, under mmu_lock; the index is below the length.
        unsafe { (*copy).entries[index] = spte };
    }
}

/// The vCPU begins to sync a page, which is not unsync any more. Pages before it are synced by
/// now. Under mmu_lock.
#[inline(always)]
pub fn sync(vcpu: &mut Vcpu, sp: u64) {
    if !has_copies() {
        return;
    }
    compare_synced(vcpu);
    release(vcpu);
    let Some(spt) = field::<u64>(sp, offset!(sp_spt)) else {
        lose(Probe::Read);
        return;
    };
    if let Some(copy) = UNSYNC.get_ptr_mut(spt) {
        // SAFETY: a map value, under mmu_lock.
        unsafe { (*copy).syncing = vcpu.vcpu.0 + 1 };
        vcpu.synced = spt;
    }
}

/// In `Vcpu::synced`, beside the address of a page: it has been compared.
const COMPARED: u64 = 1;

/// Compares the page that the vCPU synced last, for the last time.
#[inline(always)]
pub fn compare_synced(vcpu: &mut Vcpu) {
    let spt = vcpu.synced;
    if spt == 0 || spt & COMPARED != 0 {
        return;
    }
    vcpu.synced = spt | COMPARED;
    let Some(copy) = UNSYNC.get_ptr_mut(spt) else {
        return;
    };
    // SAFETY: a map value.
    if unsafe { (*copy).syncing } == vcpu.vcpu.0 + 1 {
        compare_with(spt, copy, vcpu.vm, vcpu.vcpu, Cause::Sync);
    }
}

/// The copy of the page that the vCPU synced last is not needed once it was compared, unless the
/// page is unsync again. Under mmu_lock: without it another vCPU could make the page unsync, and
/// keep the copy, just before it goes.
#[inline(always)]
pub fn release(vcpu: &mut Vcpu) {
    if vcpu.synced & COMPARED == 0 {
        return;
    }
    let spt = vcpu.synced & !COMPARED;
    vcpu.synced = 0;
    if let Some(copy) = UNSYNC.get_ptr_mut(spt) {
        // SAFETY: a map value, under mmu_lock.
        if unsafe { (*copy).syncing } == vcpu.vcpu.0 + 1 {
            forget(spt);
        }
    }
}

/// A page that has just been brought in line.
#[inline(always)]
pub fn compare_page(vcpu: &Vcpu, spt: u64) {
    if let Some(copy) = UNSYNC.get_ptr_mut(spt) {
        compare_with(spt, copy, vcpu.vm, vcpu.vcpu, Cause::Sync);
    }
}

/// An event of the vCPU: what it synced or invalidated before is done.
#[inline(always)]
pub fn event(vcpu: &mut Vcpu) {
    if has_copies() {
        compare_synced(vcpu);
        compare_invalidated(vcpu);
    }
}

/// What KVM's emulator did for a vCPU, by KVM's counters.
struct Seen {
    invlpgs: u64,
    emulated: u64,
}

/// Keeps the counters as they are now, and returns those of the last look.
#[inline(always)]
fn look(vcpu: &mut Vcpu) -> Option<Seen> {
    let invlpgs = field(vcpu.vcpu_ptr, offset!(vcpu_invlpg))?;
    let emulated = field(vcpu.vcpu_ptr, offset!(vcpu_emulated))?;
    let before = Seen {
        invlpgs: vcpu.invlpgs,
        emulated: vcpu.emulated,
    };
    vcpu.invlpgs = invlpgs;
    vcpu.emulated = emulated;
    Some(before)
}

/// The thread begins to run the vCPU: what its INVLPGs changed before is in a keyframe.
#[inline(always)]
pub fn begin(vcpu: &mut Vcpu) {
    if !entries::sees_every_change() && look(vcpu).is_none() {
        lose(Probe::Read);
    }
}

#[inline(never)]
fn compare_invalidated(vcpu: &mut Vcpu) {
    let Some(before) = look(vcpu) else {
        lose(Probe::Read);
        return;
    };
    let invlpgs = vcpu.invlpgs.wrapping_sub(before.invlpgs);
    if invlpgs == 0 {
        return;
    }
    let one = invlpgs == 1 && vcpu.emulated.wrapping_sub(before.emulated) == 1;
    match if one { operand(vcpu) } else { None } {
        Some(gva) => invalidated(vcpu, gva),
        None if copies() <= BUDGET => each(vcpu, Cause::Invlpg),
        None => lose(Probe::Unsync),
    }
}

/// The operand of the instruction that was emulated last, if it was INVLPG. The emulator keeps it
/// until it has decoded the next instruction.
#[inline(always)]
fn operand(vcpu: &Vcpu) -> Option<Gva> {
    let emulator: u64 = field(vcpu.vcpu_ptr, offset!(vcpu_emulator))?;
    let opcode: u8 = field(emulator, offset!(emulator_opcode))?;
    let modrm: u8 = field(emulator, offset!(emulator_modrm))?;
    let address: u64 = field(emulator, offset!(emulator_address))?;
    let segment: u32 = field(emulator, offset!(emulator_segment))?;
    // With a register it is another instruction (SWAPGS).
    let in_memory = modrm >> 6 != 3;
    let is_invlpg = opcode == INVLPG && modrm >> 3 & 7 == INVLPG_DIGIT && in_memory;
    (is_invlpg && segment < SEGMENT_FS).then_some(Gva(address))
}

/// KVM has brought the entry of this address in line in each unsync page on its path, from each of
/// the vCPU's roots.
#[inline(always)]
pub fn invalidated(vcpu: &Vcpu, gva: Gva) {
    let Some(roots) = roots::all(vcpu.vcpu_ptr) else {
        lose(Probe::Read);
        return;
    };
    // Not a loop: the verifier would follow each of its turns through all of the path.
    let [current, first, second, third] = roots.tables;
    compare_path(vcpu, current, roots.level, gva);
    compare_path(vcpu, first, roots.level, gva);
    compare_path(vcpu, second, roots.level, gva);
    compare_path(vcpu, third, roots.level, gva);
}

#[inline(never)]
fn compare_path(vcpu: &Vcpu, root: u64, level: u8, gva: Gva) {
    if root == INVALID_PAGE {
        return;
    }
    let mut step = Level(level);
    let mut table = Hpa(root);
    // From level 5 down to 1.
    for _ in 0..5 {
        let Some(index) = step.index(gva) else { return };
        let spt = direct_map(table);
        let Some(spte) = read::<u64>(spt + 8 * u64::from(index)).map(Spte) else {
            lose(Probe::Read);
            return;
        };
        if step.0 == 1 {
            if let Some(copy) = UNSYNC.get_ptr_mut(spt) {
                let mut page = ComparedPage {
                    spt,
                    copy,
                    vm: vcpu.vm,
                    vcpu: vcpu.vcpu,
                    cause: Cause::Invlpg,
                };
                compare_entry(&mut page, usize::from(index), spte);
            }
            return;
        }
        let here = PathStep {
            spte,
            level: step,
            root_level: Level(level),
        };
        if here.is_end() {
            return;
        }
        table = spte.child();
        step.0 -= 1;
    }
}

/// Which VM's pages are compared, by which vCPU, and why.
#[repr(C)]
struct Comparison {
    vm: VmId,
    vcpu: VcpuId,
    cause: Cause,
}

#[inline(never)]
fn each(vcpu: &Vcpu, cause: Cause) {
    let comparison = Comparison {
        vm: vcpu.vm,
        vcpu: vcpu.vcpu,
        cause,
    };
    // SAFETY: the callback takes this map's values and the comparison.
    unsafe {
        bpf_for_each_map_elem(
            (&raw const UNSYNC).cast_mut().cast(),
            compare_each as *mut c_void,
            (&raw const comparison).cast_mut().cast(),
            0,
        );
    }
}

/// Called for each copy; 0: continue.
#[inline(never)]
unsafe extern "C" fn compare_each(
    _: *mut c_void,
    key: *const u64,
    copy: *mut PageCopy,
    comparison: *const Comparison,
) -> i64 {
    // SAFETY: the helper passes what the caller gave it.
    let (spt, vm, syncing, of) = unsafe { (*key, (*copy).vm, (*copy).syncing, &*comparison) };
    if vm == of.vm {
        let cause = if syncing == 0 { of.cause } else { Cause::Sync };
        compare_with(spt, copy, vm, of.vcpu, cause);
    }
    0
}

#[inline(always)]
fn compare_with(spt: u64, copy: *mut PageCopy, vm: VmId, vcpu: VcpuId, cause: Cause) {
    let mut page = ComparedPage {
        spt,
        copy,
        vm,
        vcpu,
        cause,
    };
    // The verifier would follow a plain loop through all of the page's entries.
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
struct ComparedPage {
    spt: u64,
    copy: *mut PageCopy,
    vm: VmId,
    vcpu: VcpuId,
    cause: Cause,
}

/// Called for each `CHUNK` entries; 0: continue.
#[inline(never)]
unsafe extern "C" fn compare_chunk(chunk: u64, page: *mut ComparedPage) -> i64 {
    // SAFETY: the helper passes what the caller gave it.
    let page = unsafe { &mut *page };
    let first = chunk as usize % (ENTRIES_PER_TABLE / CHUNK) * CHUNK;
    let Some(now) = read::<[Spte; CHUNK]>(page.spt + 8 * first as u64) else {
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
fn compare_entry(page: &mut ComparedPage, index: usize, now: Spte) {
    // SAFETY: a map value; the index is below the length.
    let kept = unsafe { &mut (*page.copy).entries[index % ENTRIES_PER_TABLE] };
    // A and D, which the hardware sets, are no change.
    if now.without_accessed_dirty() != kept.without_accessed_dirty() {
        *kept = now;
        let sptep = page.spt + 8 * index as u64;
        entries::record_as_it_is(page.vm, page.vcpu, page.cause, sptep, None);
    }
}

/// Entries read at a time, onto the stack.
const CHUNK: usize = 4;
