//! Copies of the kernel's own shadow pages, a batch at each run.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel, macros::map, macros::raw_tracepoint, maps::Array,
    programs::RawTracePointContext,
};
use aya_log_ebpf::{debug, warn};
use bytemuck::Zeroable as _;
use events::{
    ENTRIES_PER_TABLE, Gfn, KEYFRAME_BATCH, KeyframeCursor, KeyframePage, NO_VCPU, Probe,
    RecordKind, Role, VmId,
};

use crate::{
    kernel::{now, offset, physical, read, role_level},
    pages,
    ring::{has_room, lose, submit, try_reserve},
    vcpus,
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
    let Some(kvm) = vcpus::kvm(vm) else {
        cursor.failed = 1;
        return;
    };
    let head = kvm + u64::from(offset!(kvm_active_mmu_pages));
    let mut link = cursor.next;
    if link == 0 {
        // `list_head.next` is the first field.
        match read(head, 0) {
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
        if !has_room(size_of::<KeyframePage>() as u64) {
            // The caller comes back when the ring has been drained.
            break;
        }
        let sp = link - u64::from(offset!(sp_link));
        match copy(sp, vm, number) {
            Some(()) => {
                cursor.pages += 1;
            }
            None => {
                cursor.lost += 1;
                lose(Probe::Keyframe);
                warn!(&ctx, "shadow page {:x} cannot be copied", sp);
            }
        }
        // `list_head.prev` is the second field.
        match read::<u64>(link, 0) {
            Some(next) if read::<u64>(next, 8) == Some(link) => link = next,
            _ => {
                cursor.failed = 1;
                return;
            }
        }
    }
    cursor.next = link;
    debug!(&ctx, "keyframe {}: {} pages", number, cursor.pages);
}

#[inline(always)]
fn copy(sp: u64, vm: VmId, number: u32) -> Option<()> {
    let spt: u64 = read(sp, offset!(sp_spt))?;
    let gfn: u64 = read(sp, offset!(sp_gfn))?;
    let role: u32 = read(sp, offset!(sp_role))?;
    let unsync: u8 = read(sp, offset!(sp_unsync))?;
    let root_count: u32 = read(sp, offset!(sp_root_count))?;
    if spt & 0xfff != 0 || !(1..=5).contains(&role_level(role)) {
        return None;
    }
    // Before it is copied: a page without room is still followed.
    pages::remember(sp, vm)?;
    let mut entry = try_reserve::<KeyframePage>(RecordKind::KeyframePage, vm, NO_VCPU, now())?;
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record; the helper checks the address it reads.
    let failed = unsafe {
        (*record).spt = physical(spt);
        (*record).gfn = Gfn(gfn);
        (*record).role = Role(role);
        (*record).keyframe = number;
        (*record).root_count = root_count;
        (*record).unsync = u32::from(unsync);
        let entries = &raw mut (*record).entries;
        bpf_probe_read_kernel(
            entries.cast(),
            8 * ENTRIES_PER_TABLE as u32,
            spt as *const _,
        )
    };
    if failed != 0 {
        entry.discard(0);
        return None;
    }
    submit(entry);
    Some(())
}
