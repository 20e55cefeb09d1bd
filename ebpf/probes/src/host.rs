//! What the host does to a VM's memory.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use events::{Cause, Gfn, Host, HostEvent, NO_VCPU, Probe, RecordKind};

use crate::{
    causes,
    kernel::{offset, read},
    ring::{lose, reserve, submit},
    vcpus,
};

/// Frames and the slot that holds them.
struct Range {
    slot: u16,
    gfn: u64,
    pages: u64,
}

#[inline(always)]
fn begin(
    ctx: &ProbeContext,
    cause: Cause,
    event: HostEvent,
    range: impl FnOnce() -> Option<Range>,
) {
    causes::enter(cause);
    let Some(vm) = ctx.arg::<u64>(0).and_then(vcpus::traced) else {
        return;
    };
    let Some(range) = range() else {
        lose(Probe::Read);
        return;
    };
    let by = match vcpus::current() {
        Some(vcpu) if vcpu.vm == vm => vcpu.vcpu,
        _ => NO_VCPU,
    };
    let Some(mut entry) =
        reserve::<Host>(RecordKind::Host, Probe::Host, vm, by, crate::kernel::now())
    else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).gfn = Gfn(range.gfn);
        (*record).pages = range.pages;
        (*record).slot = range.slot;
        (*record).event = event as u8;
        (*record).reserved = [0; 5];
    }
    submit(entry);
}

/// All of a memslot.
#[inline(always)]
fn whole(slot: u64) -> Option<Range> {
    Some(Range {
        slot: read(slot, offset!(slot_id))?,
        gfn: read(slot, offset!(slot_base_gfn))?,
        pages: read(slot, offset!(slot_npages))?,
    })
}

// kvm_unmap_gfn_range(struct kvm *kvm, struct kvm_gfn_range *range), under mmu_lock.
#[kprobe]
pub fn unmap_begins(ctx: ProbeContext) -> u32 {
    begin(&ctx, Cause::HostUnmap, HostEvent::Unmap, || {
        let range: u64 = ctx.arg(1)?;
        let start: u64 = read(range, offset!(range_start))?;
        let end: u64 = read(range, offset!(range_end))?;
        Some(Range {
            slot: read(read(range, offset!(range_slot))?, offset!(slot_id))?,
            gfn: start,
            pages: end.wrapping_sub(start),
        })
    });
    0
}

// kvm_mmu_slot_remove_write_access(struct kvm *kvm, const struct kvm_memory_slot *memslot, int start_level)
#[kprobe]
pub fn dirty_start_begins(ctx: ProbeContext) -> u32 {
    begin(&ctx, Cause::DirtyLog, HostEvent::DirtyStart, || {
        whole(ctx.arg(1)?)
    });
    0
}

// kvm_arch_mmu_enable_log_dirty_pt_masked(struct kvm *kvm, struct kvm_memory_slot *slot,
// gfn_t gfn_offset, unsigned long mask), under mmu_lock.
#[kprobe]
pub fn dirty_clear_begins(ctx: ProbeContext) -> u32 {
    begin(&ctx, Cause::DirtyLog, HostEvent::DirtyClear, || {
        let slot: u64 = ctx.arg(1)?;
        let first: u64 = ctx.arg(2)?;
        let mask: u64 = ctx.arg(3)?;
        Some(Range {
            slot: read(slot, offset!(slot_id))?,
            gfn: read::<u64>(slot, offset!(slot_base_gfn))?.wrapping_add(first),
            pages: u64::from(64 - mask.leading_zeros()),
        })
    });
    0
}

// kvm_zap_gfn_range(struct kvm *kvm, gfn_t gfn_start, gfn_t gfn_end)
#[kprobe]
pub fn zap_range_begins(ctx: ProbeContext) -> u32 {
    begin(&ctx, Cause::Memslot, HostEvent::ZapRange, || {
        let start: u64 = ctx.arg(1)?;
        Some(Range {
            slot: Host::NO_SLOT,
            gfn: start,
            pages: ctx.arg::<u64>(2)?.wrapping_sub(start),
        })
    });
    0
}

// kvm_arch_flush_shadow_memslot(struct kvm *kvm, struct kvm_memory_slot *slot)
#[kprobe]
pub fn flush_slot_begins(ctx: ProbeContext) -> u32 {
    begin(&ctx, Cause::Memslot, HostEvent::FlushSlot, || {
        whole(ctx.arg(1)?)
    });
    0
}
