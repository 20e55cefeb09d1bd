//! Copies of the kernel's own shadow pages, a batch at each run.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel, macros::map, macros::raw_tracepoint, maps::Array,
    programs::RawTracePointContext,
};
use aya_log_ebpf::{debug, warn};
use bytemuck::Zeroable as _;
use events::{
    ENTRIES_PER_TABLE, Gfn, KEYFRAME_BATCH, KeyframeCursor, KeyframePage, KeyframeRoot,
    KeyframeTable, NO_VCPU, Probe, Role, VcpuId, VcpuKey, VmId, constants::LIST_HEAD_PREV,
};

use crate::{
    kernel::{field, now, offset, physical, read, role_level},
    pages,
    ring::{has_room, lose, submit, try_reserve},
    roots, vcpus,
};

/// How far the keyframe has come.
#[map]
static CURSOR: Array<KeyframeCursor> = Array::with_max_entries(1, vcpus::USER_READS);

/// Run by user space until `CURSOR.done`: `arg` 0 VM, 1 number of the keyframe, 2 not 0 to begin.
///
/// The list is read without `mmu_lock`, which a program cannot take: the caller stops the vCPUs,
/// and what the host takes back meanwhile is noticed by the links between neighbours.
#[raw_tracepoint]
pub fn keyframe(ctx: RawTracePointContext) {
    let Some(cursor) = CURSOR.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: user space runs one keyframe at a time.
    let cursor = unsafe { &mut *cursor };
    if ctx.arg::<u64>(2) != 0 {
        *cursor = KeyframeCursor::zeroed();
    }
    let vm = VmId(ctx.arg::<u64>(0) as u16);
    let number = ctx.arg::<u64>(1) as u32;
    let Some(head) = vcpus::kvm(vm).and_then(|kvm| offset!(kvm_active_mmu_pages).of(kvm)) else {
        cursor.failed = 1;
        return;
    };
    let mut link = cursor.next;
    if link == 0 {
        // `list_head.next` is the first field.
        match read(head) {
            Some(first) => link = first,
            None => {
                cursor.failed = 1;
                return;
            }
        }
    }
    for _ in 0..KEYFRAME_BATCH {
        if link == head {
            cursor.done = 1;
            break;
        }
        if !has_room(size_of::<KeyframeTable>() as u64) {
            // The caller comes back when the ring has been drained.
            break;
        }
        let sp = offset!(sp_link).container(link);
        match sp.and_then(|sp| copy(sp, vm, number)) {
            Some(()) => {
                cursor.pages += 1;
            }
            None => {
                cursor.lost += 1;
                lose(Probe::Keyframe);
                warn!(
                    &ctx,
                    "the shadow page linked at {:x} cannot be copied", link
                );
            }
        }
        match read::<u64>(link) {
            Some(next) if read::<u64>(next + LIST_HEAD_PREV) == Some(link) => link = next,
            _ => {
                cursor.failed = 1;
                return;
            }
        }
    }
    cursor.next = link;
    debug!(&ctx, "keyframe {}: {} pages", number, cursor.pages);
}

/// Run by user space for each vCPU once `CURSOR.done`, until `CURSOR.vcpus` counts it: `arg` 0 VM,
/// 1 number of the keyframe, 2 vCPU. The vCPUs are stopped.
#[raw_tracepoint]
pub fn keyframe_root(ctx: RawTracePointContext) {
    let Some(cursor) = CURSOR.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: user space runs one keyframe at a time.
    let cursor = unsafe { &mut *cursor };
    if !has_room(size_of::<KeyframeRoot>() as u64) {
        // The caller comes back when the ring has been drained.
        return;
    }
    let key = VcpuKey {
        vm: VmId(ctx.arg::<u64>(0) as u16),
        vcpu: VcpuId(ctx.arg::<u64>(2) as u16),
    };
    match roots::copy(key, ctx.arg::<u64>(1) as u32) {
        Some(()) => cursor.vcpus += 1,
        None => {
            cursor.failed = 1;
            lose(Probe::Root);
            warn!(&ctx, "the root of vCPU {} cannot be copied", key.vcpu.0);
        }
    }
}

/// Bytes of a table, and of its translations.
const TABLE: u32 = 8 * ENTRIES_PER_TABLE as u32;

/// What is read of a page before there is room for its copy.
struct Found {
    spt: u64,
    gfn: u64,
    role: u32,
    unsync: u8,
    root_count: u32,
}

#[inline(always)]
fn copy(sp: u64, vm: VmId, number: u32) -> Option<()> {
    let found = Found {
        spt: field(sp, offset!(sp_spt))?,
        gfn: field(sp, offset!(sp_gfn))?,
        role: field(sp, offset!(sp_role))?,
        unsync: field(sp, offset!(sp_unsync))?,
        root_count: field(sp, offset!(sp_root_count))?,
    };
    if found.spt & 0xfff != 0 || !(1..=5).contains(&role_level(found.role)) {
        return None;
    }
    // Before it is copied: a page without room is still followed.
    pages::remember(sp, vm)?;
    let translations = translations(sp)?;
    if translations == 0 {
        let mut entry = try_reserve::<KeyframePage>(vm, NO_VCPU, now())?;
        // SAFETY: reserved room for one record.
        if !unsafe { fill(entry.as_mut_ptr(), &found, number) } {
            entry.discard(0);
            return None;
        }
        submit(entry);
        return Some(());
    }
    let mut entry = try_reserve::<KeyframeTable>(vm, NO_VCPU, now())?;
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record; the helper checks the address it reads.
    let whole = unsafe {
        fill(&raw mut (*record).page, &found, number)
            && bpf_probe_read_kernel(
                (&raw mut (*record).translations).cast(),
                TABLE,
                translations as *const _,
            ) == 0
    };
    if !whole {
        entry.discard(0);
        return None;
    }
    submit(entry);
    Some(())
}

/// Where the frames of the page's leaves are; 0 for a page, or a kernel, that keeps none.
#[inline(always)]
fn translations(sp: u64) -> Option<u64> {
    match offset!(sp_translation).of(sp) {
        Some(address) => read(address),
        None => Some(0),
    }
}

/// Writes all of a page's record but its header; false if the table could not be read.
///
/// # Safety
///
/// `record` must be valid for writes.
#[inline(always)]
unsafe fn fill(record: *mut KeyframePage, found: &Found, number: u32) -> bool {
    // SAFETY: the caller's room for one record; the helper checks the address it reads.
    unsafe {
        (*record).spt = physical(found.spt);
        (*record).gfn = Gfn(found.gfn);
        (*record).role = Role(found.role);
        (*record).keyframe = number;
        (*record).root_count = found.root_count;
        (*record).unsync = u32::from(found.unsync);
        let entries = &raw mut (*record).entries;
        bpf_probe_read_kernel(entries.cast(), TABLE, found.spt as *const _) == 0
    }
}
