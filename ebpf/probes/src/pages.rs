//! The life of shadow pages.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::HashMap,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use events::{Fault, Gfn, NO_VCPU, Page, PageEvent, Probe, RecordKind, Role, Vcpu, VcpuId, VmId};

use crate::{
    kernel::{now, offset, physical, read, role_level},
    ring::{lose, reserve, submit},
    vcpus,
};

/// Shadow pages of traced VMs that are not gone, keyed by the kernel address of their entries
/// (`sp->spt`): neither page nor entry names its VM, and a change may come from a thread that is no
/// vCPU's.
#[map]
static PAGES: HashMap<u64, Table> = HashMap::with_max_entries(1 << 18, vcpus::USER_READS);

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

/// Remembers the page whose entries are at `spt`.
#[inline(always)]
pub fn remember(spt: u64, vm: VmId, level: u8) {
    let table = Table {
        vm,
        level,
        zapped: 0,
    };
    if PAGES.insert(spt, table, 0).is_err() {
        lose(Probe::PageMap);
    }
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
        match (read(sp, offset!(sp_spt)), read(sp, offset!(sp_role))) {
            (Some(spt), Some(role)) => remember(spt, vcpu.vm, role_level(role)),
            _ => lose(Probe::Read),
        }
        record(sp, vcpu.vm, vcpu.vcpu, PageEvent::Born);
        debug!(&ctx, "vm {}: shadow page {:x} is new", vcpu.vm.0, sp);
    } else {
        count(vcpu, |fault| &mut fault.reused);
        record(sp, vcpu.vm, vcpu.vcpu, PageEvent::Reused);
    }
}

// TP_PROTO(struct kvm_mmu_page *sp), under mmu_lock, before sp->unsync is set.
#[raw_tracepoint]
pub fn kvm_mmu_unsync_page(ctx: RawTracePointContext) {
    if let Some(vcpu) = vcpus::current() {
        vcpu.unsync = 1;
        record(ctx.arg(0), vcpu.vm, vcpu.vcpu, PageEvent::Unsync);
    }
}

// TP_PROTO(struct kvm_mmu_page *sp), under mmu_lock, before the entries are brought in line.
#[raw_tracepoint]
pub fn kvm_mmu_sync_page(ctx: RawTracePointContext) {
    if let Some(vcpu) = vcpus::current() {
        record(ctx.arg(0), vcpu.vm, vcpu.vcpu, PageEvent::Sync);
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
