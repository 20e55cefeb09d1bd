//! What the host does to a VM's memory.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::bpf_loop,
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use events::{
    Act, Cause, Gfn, Host, HostEvent, Hva, NO_VCPU, Probe, SHADOWS, Shadows, Vcpu, VcpuId, VmId,
};

use crate::{
    causes, entries, faults,
    kernel::{field, now, offset},
    memslots,
    ring::{lose, reserve, submit},
    rmaps::{self, Head},
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
    act: Act,
    event: HostEvent,
    range: impl FnOnce() -> Option<Range>,
) {
    let vm = ctx.arg::<u64>(0).and_then(vcpus::traced);
    causes::enter(ctx, Some(cause), vm.map(|_| act), vm);
    let Some(vm) = vm else { return };
    let Some(range) = range() else {
        lose(Probe::Read);
        return;
    };
    let by = match vcpus::current() {
        Some(vcpu) if vcpu.vm == vm => vcpu.vcpu,
        _ => NO_VCPU,
    };
    record(vm, by, event as u8, &range);
}

#[inline(always)]
fn record(vm: VmId, by: VcpuId, event: u8, range: &Range) {
    let Some(mut entry) = reserve::<Host>(vm, by, now()) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).gfn = Gfn(range.gfn);
        (*record).pages = range.pages;
        (*record).slot = range.slot;
        (*record).event = event;
        (*record).reserved = 0;
        (*record).reserved_word = 0;
    }
    submit(entry);
}

/// All of a memslot.
#[inline(always)]
fn whole(slot: u64) -> Option<Range> {
    Some(Range {
        slot: field(slot, offset!(slot_id))?,
        gfn: field(slot, offset!(slot_base_gfn))?,
        pages: field(slot, offset!(slot_npages))?,
    })
}

// kvm_unmap_gfn_range(struct kvm *kvm, struct kvm_gfn_range *range), under mmu_lock.
#[kprobe]
pub fn unmap_begins(ctx: ProbeContext) -> u32 {
    begin(&ctx, Cause::HostUnmap, Act::Unmap, HostEvent::Unmap, || {
        let range: u64 = ctx.arg(1)?;
        let start: u64 = field(range, offset!(range_start))?;
        let end: u64 = field(range, offset!(range_end))?;
        Some(Range {
            slot: field(field(range, offset!(range_slot))?, offset!(slot_id))?,
            gfn: start,
            pages: end.wrapping_sub(start),
        })
    });
    0
}

// kvm_mmu_slot_remove_write_access(struct kvm *kvm, const struct kvm_memory_slot *memslot,
// int start_level)
#[kprobe]
pub fn dirty_start_begins(ctx: ProbeContext) -> u32 {
    begin(
        &ctx,
        Cause::DirtyLog,
        Act::DirtyStart,
        HostEvent::DirtyStart,
        || whole(ctx.arg(1)?),
    );
    0
}

// kvm_arch_mmu_enable_log_dirty_pt_masked(struct kvm *kvm, struct kvm_memory_slot *slot,
// gfn_t gfn_offset, unsigned long mask), under mmu_lock.
#[kprobe]
pub fn dirty_clear_begins(ctx: ProbeContext) -> u32 {
    begin(
        &ctx,
        Cause::DirtyLog,
        Act::DirtyClear,
        HostEvent::DirtyClear,
        || {
            let slot: u64 = ctx.arg(1)?;
            let first: u64 = ctx.arg(2)?;
            let mask: u64 = ctx.arg(3)?;
            Some(Range {
                slot: field(slot, offset!(slot_id))?,
                gfn: field::<u64>(slot, offset!(slot_base_gfn))?.wrapping_add(first),
                pages: u64::from(64 - mask.leading_zeros()),
            })
        },
    );
    0
}

// kvm_zap_gfn_range(struct kvm *kvm, gfn_t gfn_start, gfn_t gfn_end)
#[kprobe]
pub fn zap_range_begins(ctx: ProbeContext) -> u32 {
    begin(
        &ctx,
        Cause::Memslot,
        Act::ZapRange,
        HostEvent::ZapRange,
        || {
            let start: u64 = ctx.arg(1)?;
            Some(Range {
                slot: Host::NO_SLOT,
                gfn: start,
                pages: ctx.arg::<u64>(2)?.wrapping_sub(start),
            })
        },
    );
    0
}

// kvm_arch_flush_shadow_memslot(struct kvm *kvm, struct kvm_memory_slot *slot)
#[kprobe]
pub fn flush_slot_begins(ctx: ProbeContext) -> u32 {
    begin(
        &ctx,
        Cause::Memslot,
        Act::FlushSlot,
        HostEvent::FlushSlot,
        || whole(ctx.arg(1)?),
    );
    0
}

// TP_PROTO(unsigned long start, unsigned long end), from an mmu-notifier, before mmu_lock. On a
// vCPU's own thread it is the host's copy-on-write of a page that the vCPU, or KVM for it, stores
// to.
#[raw_tracepoint]
pub fn kvm_unmap_hva_range(ctx: RawTracePointContext) {
    if entries::sees_every_change() {
        return;
    }
    let Some(vcpu) = vcpus::current() else { return };
    finish(vcpu);
    let hva = Hva(ctx.arg(0));
    let Some(place) = memslots::search(vcpu.vm, |place| place.gfn_of(hva).is_some()) else {
        return;
    };
    let (Some(gfn), Some(heads)) = (
        place.gfn_of(hva),
        field::<u64>(place.slot, offset!(slot_rmap)),
    ) else {
        return;
    };
    let entries = match rmaps::head(heads + 8 * (gfn.0 - place.base.0)) {
        Some(Head::Empty) => return,
        Some(Head::One(sptep)) => Some(Shadows::of(sptep).0),
        Some(Head::Many(desc)) => rmaps::first(desc),
        None => None,
    };
    let Some(entries) = entries else {
        lose(Probe::Read);
        return;
    };
    vcpu.unmapping = entries;
    vcpu.unmaps = 1;
    faults::look_again();
}

/// The host has taken the page by now: records its entries as they are.
#[inline(always)]
pub fn finish(vcpu: &mut Vcpu) {
    if vcpu.unmaps == 0 {
        return;
    }
    vcpu.unmaps = 0;
    for at in 0..SHADOWS {
        let sptep = vcpu.unmapping[at];
        vcpu.unmapping[at] = 0;
        if sptep != 0 {
            entries::record_as_it_is(vcpu.vm, vcpu.vcpu, Cause::HostUnmap, sptep, None);
        }
    }
}

/// Run by user space after it did something to the memory of VM `arg(0)`, whose vCPUs it has
/// stopped: the event `arg(1)` in memslot `arg(2)`, `arg(4)` frames from frame `arg(3)`. For
/// kernels where functions cannot be hooked: records each leaf entry that is present now.
///
/// They are found by KVM's reverse maps, which do not change while the vCPUs are stopped, unless
/// the host takes memory back just then.
#[raw_tracepoint]
pub fn acted(ctx: RawTracePointContext) {
    let vm = VmId(ctx.arg::<u64>(0) as u16);
    let range = Range {
        slot: ctx.arg::<u64>(2) as u16,
        gfn: ctx.arg(3),
        pages: ctx.arg(4),
    };
    record(vm, NO_VCPU, ctx.arg::<u64>(1) as u8, &range);
    record(vm, NO_VCPU, HostEvent::Reread as u8, &range);
    let heads = match memslots::by_id(vm, range.slot) {
        Some(slot) => Heads::of(slot, vm, &range),
        None => Some(Heads::NONE),
    };
    match heads {
        // A list that cannot be read to its end is lost: then the range is not settled.
        // SAFETY: the callback takes the heads.
        Some(heads) if heads.base[0] == 0 || unsafe { reread_all(&heads, range.pages) } => {
            record(vm, NO_VCPU, HostEvent::Settled as u8, &range);
        }
        _ => lose(Probe::Read),
    }
}

/// `kvm_memory_slot.arch.rmap`: heads of the reverse maps of each level, for frames from `gfn`.
#[repr(C)]
struct Heads {
    /// Of levels 1 to 3: the head of the memslot's first frame.
    base: [u64; 3],
    slot_gfn: u64,
    gfn: u64,
    vm: u64,
}

impl Heads {
    const NONE: Self = Self {
        base: [0; 3],
        slot_gfn: 0,
        gfn: 0,
        vm: 0,
    };

    /// None for frames outside of the memslot: it was taken from there, with all its entries.
    #[inline(always)]
    fn of(slot: u64, vm: VmId, range: &Range) -> Option<Self> {
        let base: u64 = field(slot, offset!(slot_base_gfn))?;
        let pages: u64 = field(slot, offset!(slot_npages))?;
        let within = range.gfn.wrapping_sub(base);
        if within >= pages || range.pages > pages - within {
            return Some(Self::NONE);
        }
        if !rmaps::are_known() {
            return None;
        }
        Some(Self {
            base: field(slot, offset!(slot_rmap))?,
            slot_gfn: base,
            gfn: range.gfn,
            vm: vm.0.into(),
        })
    }
}

/// Most frames of a range: 8 GiB (`bpf_loop` makes at most 8 Mi turns).
const MOST_FRAMES: u64 = 1 << 21;

#[inline(always)]
unsafe fn reread_all(heads: &Heads, pages: u64) -> bool {
    if pages > MOST_FRAMES {
        return false;
    }
    // SAFETY: the callback takes the heads.
    let turns = unsafe {
        bpf_loop(
            pages as u32,
            reread_frame as *mut c_void,
            core::ptr::from_ref(heads).cast_mut().cast(),
            0,
        )
    };
    // Fewer turns: the callback stopped the loop.
    turns == pages as i64
}

/// Called for each frame; 0: continue.
#[inline(never)]
unsafe extern "C" fn reread_frame(turn: u64, heads: *const Heads) -> i64 {
    // SAFETY: the helper passes what the caller gave it.
    let heads = unsafe { &*heads };
    let gfn = heads.gfn + turn;
    for level in 0..3u32 {
        let shift = 9 * level;
        // A large page is read once, at its first frame in the range.
        if level > 0 && turn != 0 && gfn & ((1 << shift) - 1) != 0 {
            continue;
        }
        let index = (gfn >> shift).wrapping_sub(heads.slot_gfn >> shift);
        let head = heads.base[level as usize] + 8 * index;
        let within = gfn & !((1 << shift) - 1);
        let is_read = match rmaps::head(head) {
            Some(Head::Empty) => true,
            Some(Head::One(sptep)) => {
                reread(heads.vm, sptep, within);
                true
            }
            Some(Head::Many(desc)) => rmaps::each(desc, rmaps::Entry::Reread, heads.vm, within),
            None => false,
        };
        if !is_read {
            return 1;
        }
    }
    0
}

/// Records an entry as it is now.
#[inline(always)]
pub fn reread(vm: u64, sptep: u64, gfn: u64) {
    entries::record_as_it_is(
        VmId(vm as u16),
        NO_VCPU,
        Cause::Reread,
        sptep,
        Some(Gfn(gfn)),
    );
}
