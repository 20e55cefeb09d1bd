//! The life of shadow pages.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::{Array, HashMap},
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use events::{
    Cause, Fault, Gfn, NO_VCPU, Page, PageEvent, Probe, RecordKind, Role, Vcpu, VcpuId, VmId,
};

use crate::{
    entries,
    kernel::{now, offset, physical, read, role_is_direct, role_level},
    ring::{lose, reserve, submit},
    unsync, vcpus, writes,
};

/// Shadow pages of traced VMs that are not gone, keyed by the kernel address of their entries
/// (`sp->spt`): neither page nor entry names its VM, and a change may come from a thread that is no
/// vCPU's.
#[map]
static PAGES: HashMap<u64, Table> = HashMap::with_max_entries(1 << 18, vcpus::USER_READS);

/// Shadow pages of each guest table, by the table's frame. Only kept where functions cannot be hooked.
#[map]
static SHADOWS: HashMap<TableKey, Shadows> = HashMap::with_max_entries(1 << 16, 0);

/// Not 0 at the low bits of each frame that was ever in `SHADOWS`: most other frames cost no look
/// into it.
#[map]
static FILTER: Array<u32> = Array::with_max_entries(FILTERED, 0);
const FILTERED: u32 = 1 << 16;

/// A guest table.
#[derive(Clone, Copy)]
#[repr(C)]
struct TableKey {
    gfn: Gfn,
    vm: u64,
}

/// Kernel addresses of the entries of its shadow pages; 0 where there are fewer.
type Shadows = [u64; events::SHADOWS];

/// What is known of a shadow page by its address.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Table {
    /// Whose it is.
    pub vm: VmId,
    /// Its level.
    pub level: u8,
    /// It is zapped and only kept because a vCPU still has it as its root.
    pub zapped: u8,
}

/// Remembers a shadow page.
#[inline(always)]
pub fn remember(sp: u64, vm: VmId) -> Option<()> {
    let spt: u64 = read(sp, offset!(sp_spt))?;
    let role: u32 = read(sp, offset!(sp_role))?;
    let table = Table {
        vm,
        level: role_level(role),
        zapped: 0,
    };
    if PAGES.insert(spt, table, 0).is_err() {
        lose(Probe::PageMap);
    }
    if !entries::is_told() && !role_is_direct(role) {
        shadow(vm, Gfn(read(sp, offset!(sp_gfn))?), spt);
    }
    Some(())
}

/// The page whose entries are at `spt` shadows the guest's table at `gfn`.
#[inline(always)]
fn shadow(vm: VmId, gfn: Gfn, spt: u64) {
    let key = TableKey {
        gfn,
        vm: vm.0.into(),
    };
    if let Some(mark) = FILTER.get_ptr_mut(gfn.0 as u32 % FILTERED) {
        // SAFETY: a map value; everybody writes the same.
        unsafe { *mark = 1 };
    }
    let Some(shadows) = SHADOWS.get_ptr_mut(key) else {
        if SHADOWS.insert(key, [spt, 0, 0, 0], 0).is_err() {
            lose(Probe::PageMap);
        }
        return;
    };
    // SAFETY: a map value, changed under mmu_lock.
    let shadows = unsafe { &mut *shadows };
    for place in &mut *shadows {
        if *place == spt {
            return;
        }
        if *place == 0 {
            *place = spt;
            return;
        }
    }
    lose(Probe::PageMap);
}

/// It does not any more.
#[inline(always)]
fn unshadow(vm: VmId, gfn: Gfn, spt: u64) {
    let key = TableKey {
        gfn,
        vm: vm.0.into(),
    };
    let Some(shadows) = SHADOWS.get_ptr_mut(key) else {
        return;
    };
    // SAFETY: a map value, changed under mmu_lock.
    let shadows = unsafe { &mut *shadows };
    let mut left = 0;
    for place in &mut *shadows {
        if *place == spt {
            *place = 0;
        }
        left |= *place;
    }
    if left == 0 {
        // Gone is what it shall be.
        let _ = SHADOWS.remove(key);
    }
}

/// The shadow pages of the guest's table at `gfn`, if there is any.
#[inline(always)]
pub fn shadows(vm: VmId, gfn: Gfn) -> Option<Shadows> {
    let key = TableKey {
        gfn,
        vm: vm.0.into(),
    };
    // SAFETY: the value is copied at once.
    unsafe { SHADOWS.get(key) }.copied()
}

/// Whether `gfn` may be a shadowed table of any VM.
#[inline(always)]
pub fn may_be_table(gfn: Gfn) -> bool {
    let mark = FILTER.get(gfn.0 as u32 % FILTERED);
    mark.is_some_and(|mark| *mark != 0)
}

/// The page whose entries are at `spt`, if it is a traced VM's and not gone.
#[inline(always)]
pub fn find(spt: u64) -> Option<Table> {
    // SAFETY: the value is copied at once.
    unsafe { PAGES.get(spt) }.copied()
}

/// Counts a page for the fault under way; a record that waits is past it.
#[inline(always)]
fn count(vcpu: &mut Vcpu, place: impl FnOnce(&mut Fault) -> &mut u8) {
    if vcpu.decided == 0 {
        let count = place(&mut vcpu.fault);
        *count = count.saturating_add(1);
    }
}

// TP_PROTO(struct kvm_mmu_page *sp, bool created), under mmu_lock, before the page is linked.
#[raw_tracepoint]
pub fn kvm_mmu_get_page(ctx: RawTracePointContext) {
    let Some(vcpu) = vcpus::current() else { return };
    let sp: u64 = ctx.arg(0);
    // The register holds a bool: only its low byte is defined.
    let created = ctx.arg::<u64>(1) & 0xff != 0;
    vcpu.linking = 1;
    if created {
        count(vcpu, |fault| &mut fault.created);
        if remember(sp, vcpu.vm).is_none() {
            lose(Probe::Read);
        }
        record(sp, vcpu.vm, vcpu.vcpu, PageEvent::Born);
        debug!(&ctx, "vm {}: shadow page {:x} is new", vcpu.vm.0, sp);
    } else {
        count(vcpu, |fault| &mut fault.reused);
        // An unsync page has just been brought in line (`kvm_mmu_find_shadow_page`).
        if read::<u8>(sp, offset!(sp_unsync)) != Some(0) {
            unsync::compare(vcpu, Cause::Sync);
        }
        record(sp, vcpu.vm, vcpu.vcpu, PageEvent::Reused);
    }
}

// TP_PROTO(struct kvm_mmu_page *sp), under mmu_lock, before sp->unsync is set.
#[raw_tracepoint]
pub fn kvm_mmu_unsync_page(ctx: RawTracePointContext) {
    if let Some(vcpu) = vcpus::current() {
        let sp: u64 = ctx.arg(0);
        vcpu.unsync = 1;
        unsync::keep(vcpu, sp);
        record(sp, vcpu.vm, vcpu.vcpu, PageEvent::Unsync);
    }
}

// TP_PROTO(struct kvm_mmu_page *sp), under mmu_lock, before the entries are brought in line.
#[raw_tracepoint]
pub fn kvm_mmu_sync_page(ctx: RawTracePointContext) {
    let Some(vcpu) = vcpus::current() else { return };
    let sp: u64 = ctx.arg(0);
    // A vCPU's thread may zap another VM's pages, for the host. One that is gone already was its own.
    let table = read(sp, offset!(sp_spt)).and_then(find);
    if table.is_none_or(|table| table.vm == vcpu.vm) {
        unsync::sync(vcpu, sp);
        record(sp, vcpu.vm, vcpu.vcpu, PageEvent::Sync);
    }
}

// TP_PROTO(struct kvm_mmu_page *sp), under mmu_lock, contents still there.
#[raw_tracepoint]
pub fn kvm_mmu_prepare_zap_page(ctx: RawTracePointContext) {
    let sp: u64 = ctx.arg(0);
    let Some(spt) = read::<u64>(sp, offset!(sp_spt)) else {
        lose(Probe::Read);
        return;
    };
    let Some(table) = find(spt) else {
        return;
    };
    let vm = table.vm;
    if !entries::is_told() {
        if let Some(gfn) = read(sp, offset!(sp_gfn)) {
            unshadow(vm, Gfn(gfn), spt);
        }
        unsync::drop(spt);
        // The store that does it comes first.
        if let Some(vcpu) = vcpus::current() {
            writes::tell(vcpu);
        }
    }
    // A root in use is zapped again when its last user lets go: both times count for KVM. One that
    // is gone from the map already is no fault.
    if read::<u32>(sp, offset!(sp_root_count)) == Some(0) {
        let _ = PAGES.remove(spt);
    } else if PAGES.insert(spt, Table { zapped: 1, ..table }, 0).is_err() {
        lose(Probe::PageMap);
    }
    if vcpus::kvm(vm).is_none() {
        // The last user of a VM that is not traced any more.
        return;
    }
    // The thread may be another VM's vCPU that takes pages back for the host.
    let by = match vcpus::current() {
        Some(vcpu) if vcpu.vm == vm => {
            count(vcpu, |fault| &mut fault.zapped);
            vcpu.vcpu
        }
        _ => NO_VCPU,
    };
    record(sp, vm, by, PageEvent::Zapped);
    debug!(&ctx, "vm {}: shadow page {:x} is zapped", vm.0, sp);
}

#[inline(always)]
fn record(sp: u64, vm: VmId, vcpu: VcpuId, event: PageEvent) {
    let (Some(spt), Some(gfn), Some(role), Some(unsync)) = (
        read::<u64>(sp, offset!(sp_spt)),
        read::<u64>(sp, offset!(sp_gfn)),
        read::<u32>(sp, offset!(sp_role)),
        read::<u8>(sp, offset!(sp_unsync)),
    ) else {
        lose(Probe::Read);
        return;
    };
    let Some(mut entry) = reserve::<Page>(RecordKind::Page, Probe::Page, vm, vcpu, now()) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).spt = physical(spt);
        (*record).gfn = Gfn(gfn);
        (*record).role = Role(role);
        (*record).event = event as u8;
        (*record).unsync = unsync;
        (*record).reserved = [0; 2];
    }
    submit(entry);
}
