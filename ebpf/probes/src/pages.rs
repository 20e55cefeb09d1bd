//! The life of shadow pages.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::{map, raw_tracepoint},
    maps::{Array, HashMap},
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use events::{
    Fault, Gfn, NO_VCPU, Page, PageEvent, Probe, Role, Shadows, Vcpu, VcpuId, VmId, page_share,
};

use crate::{
    causes, entries,
    kernel::{field, now, offset, physical, role_is_direct, role_is_invalid, role_level},
    nested,
    ring::{lose, reserve, submit},
    unsync, vcpus, writes,
};

/// Shadow pages of traced VMs that were not freed, keyed by the kernel address of their entries
/// (`sp->spt`): neither page nor entry names its VM, and a change may come from a thread that runs
/// no vCPU.
#[map]
static PAGES: HashMap<u64, Table> = HashMap::with_max_entries(1 << 18, vcpus::USER_READS);

/// Shadow pages of each guest table, by the table's frame. Only filled where functions cannot be
/// hooked.
#[map]
static SHADOWS: HashMap<TableKey, Shadows> = HashMap::with_max_entries(1 << 18, 0);

/// Not 0 at the low bits of each frame that was ever in `SHADOWS`: saves the lookup there for most
/// other frames.
#[map]
static FILTER: Array<u32> = Array::with_max_entries(FILTERED, 0);
const FILTERED: u32 = 1 << 16;

/// A guest table: the key of `SHADOWS`.
#[derive(Clone, Copy)]
#[repr(C)]
struct TableKey {
    gfn: Gfn,
    vm: u64,
}

/// Value of `PAGES`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Table {
    /// Its VM.
    pub vm: VmId,
    /// Its level.
    pub level: u8,
    /// Not 0: zapped, and only kept because a vCPU still has it as its root.
    pub zapped: u8,
}

/// For each VM, [`page_share`] of its pages in `PAGES` that are not zapped, added up. A keyframe
/// adds up those on KVM's list: if the sums are equal, each of them is known.
#[map]
static KNOWN: Array<u64> = Array::with_max_entries(1 << 16, vcpus::USER_READS);

/// Adds a page's share, or takes it away, which is to add the negative, in the sum of a VM's known
/// pages.
#[inline(always)]
fn add_known(vm: VmId, share: u64) {
    if let Some(sum) = KNOWN.get_ptr_mut(vm.0.into()) {
        // SAFETY: a map value; all users are atomic.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(sum, share) };
    }
}

/// Remembers a shadow page: its entries are at `spt`, and it shadows the guest's table at `gfn`
/// unless its role says that it shadows none.
#[inline(always)]
pub fn remember(vm: VmId, spt: u64, role: u32, gfn: Gfn) {
    let table = Table {
        vm,
        level: role_level(role),
        zapped: 0,
    };
    if PAGES.insert(spt, table, u64::from(BPF_NOEXIST)).is_ok() {
        add_known(vm, page_share(spt));
    } else {
        again(spt, table);
    }
    if !entries::sees_every_change() && !role_is_direct(role) {
        shadow(vm, gfn, spt);
    }
}

/// Remembers a new page.
#[inline(always)]
fn born(sp: u64, vm: VmId) -> Option<()> {
    let spt = field(sp, offset!(sp_spt))?;
    let role = field(sp, offset!(sp_role))?;
    remember(vm, spt, role, Gfn(field(sp, offset!(sp_gfn))?));
    Some(())
}

/// A page that is in `PAGES` already, or finds no room there.
#[inline(always)]
fn again(spt: u64, table: Table) {
    if let Some(before) = find(spt)
        && before.zapped == 0
    {
        add_known(before.vm, page_share(spt).wrapping_neg());
    }
    if PAGES.insert(spt, table, 0).is_ok() {
        add_known(table.vm, page_share(spt));
    } else {
        lose(Probe::PageMap);
    }
}

/// The page whose entries are at `spt` shadows the guest's table at `gfn`.
#[inline(always)]
fn shadow(vm: VmId, gfn: Gfn, spt: u64) {
    let key = TableKey {
        gfn,
        vm: vm.0.into(),
    };
    if let Some(mark) = FILTER.get_ptr_mut(gfn.0 as u32 % FILTERED) {
        // SAFETY: a map value; all writers write the same.
        unsafe { *mark = 1 };
    }
    let Some(shadows) = SHADOWS.get_ptr_mut(key) else {
        if SHADOWS.insert(key, Shadows::of(spt), 0).is_err() {
            lose(Probe::PageMap);
        }
        return;
    };
    // SAFETY: a map value, changed under mmu_lock.
    if !unsafe { &mut *shadows }.insert(spt) {
        lose(Probe::Shadows);
    }
}

/// The page whose entries are at `spt` does not shadow the guest's table at `gfn` any more.
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
    if unsafe { &mut *shadows }.remove(spt) {
        // It fails if there is no entry, which is the aim.
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

/// The page whose entries are at `spt`, if it is a traced VM's and was not freed.
#[inline(always)]
pub fn find(spt: u64) -> Option<Table> {
    // SAFETY: the value is copied at once.
    unsafe { PAGES.get(spt) }.copied()
}

/// A root that was zapped before its VM was traced, and that the last vCPU which used it frees now.
/// It is on no list of KVM's any more, so no keyframe has it. One that another thread frees, as for
/// KVM_SET_SREGS from elsewhere, is not known.
#[inline(always)]
fn invalid_root(sp: u64) -> Option<Table> {
    let vm = vcpus::current()?.vm;
    let role = field(sp, offset!(sp_role))?;
    role_is_invalid(role).then(|| Table {
        vm,
        level: role_level(role),
        zapped: 1,
    })
}

/// Counts a page for the fault under way, unless its outcome is known already.
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
    if !nested::shadows(vcpu.vcpu_ptr) {
        // The TDP MMU's: of the guest hypervisor, or of its guest where that has no NPT.
        return;
    }
    // The register holds a bool: only its low byte is defined.
    let created = ctx.arg::<u64>(1) & 0xff != 0;
    vcpu.linking = 1;
    if created {
        count(vcpu, |fault| &mut fault.created);
        if born(sp, vcpu.vm).is_none() {
            lose(Probe::Read);
        }
        record(sp, vcpu.vm, vcpu.vcpu, PageEvent::Born);
        debug!(&ctx, "vm {}: shadow page {:x} is new", vcpu.vm.0, sp);
    } else {
        count(vcpu, |fault| &mut fault.reused);
        // An unsync page has just been synced (`kvm_mmu_find_shadow_page`).
        if unsync::has_copies()
            && field::<u8>(sp, offset!(sp_unsync)) != Some(0)
            && let Some(spt) = field(sp, offset!(sp_spt))
        {
            unsync::compare_page(vcpu, spt);
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
    // A vCPU's thread may zap another VM's pages, for the host. A page that is not in the map any
    // more was its own.
    let table = field(sp, offset!(sp_spt)).and_then(find);
    if table.is_none_or(|table| table.vm == vcpu.vm) {
        if entries::sees_every_change() {
            causes::synced();
        }
        unsync::sync(vcpu, sp);
        record(sp, vcpu.vm, vcpu.vcpu, PageEvent::Sync);
    }
}

// TP_PROTO(struct kvm_mmu_page *sp), under mmu_lock, contents still there.
#[raw_tracepoint]
pub fn kvm_mmu_prepare_zap_page(ctx: RawTracePointContext) {
    let sp: u64 = ctx.arg(0);
    let Some(spt) = field::<u64>(sp, offset!(sp_spt)) else {
        lose(Probe::Read);
        return;
    };
    let Some(table) = find(spt).or_else(|| invalid_root(sp)) else {
        return;
    };
    let vm = table.vm;
    if entries::sees_every_change() {
        causes::zapped();
    } else {
        if let Some(gfn) = field(sp, offset!(sp_gfn)) {
            unshadow(vm, Gfn(gfn), spt);
        }
        unsync::forget(spt);
        // The store that causes the zap is recorded before it.
        if let Some(vcpu) = vcpus::current() {
            writes::record_store(vcpu);
        }
    }
    if table.zapped == 0 {
        add_known(vm, page_share(spt).wrapping_neg());
    }
    // A root in use is zapped again when its last user frees it; KVM counts both. It may be gone
    // from the map already.
    if field::<u32>(sp, offset!(sp_root_count)) == Some(0) {
        let _ = PAGES.remove(spt);
    } else if PAGES.insert(spt, Table { zapped: 1, ..table }, 0).is_err() {
        lose(Probe::PageMap);
    }
    if vcpus::kvm(vm).is_none() {
        // The last user of a VM that is not traced any more.
        return;
    }
    // The thread may be another VM's vCPU that reclaims pages for the host.
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
        field::<u64>(sp, offset!(sp_spt)),
        field::<u64>(sp, offset!(sp_gfn)),
        field::<u32>(sp, offset!(sp_role)),
        field::<u8>(sp, offset!(sp_unsync)),
    ) else {
        lose(Probe::Read);
        return;
    };
    let Some(mut entry) = reserve::<Page>(vm, vcpu, now()) else {
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
