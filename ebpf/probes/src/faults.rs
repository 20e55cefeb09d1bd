//! One fault, one record.
//!
//! A walk of the guest's tables begins every fault, and is also what the emulator does for each
//! guest instruction it carries out: so a walk only leaves a few words in the vCPU's scratch, and
//! becomes a record when it ends in a leaf SPTE, in an injected #PF, or when one of KVM's counters
//! tells its outcome.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::PerCpuArray,
    programs::RawTracePointContext,
};
use aya_log_ebpf::warn;
use events::{
    Cause, Class, ERROR_PFN_MASK, Fault, Gfn, Gpte, Gva, Hpa, Hva, MOMENTS, Moment, NO_SLOT_PFN,
    NOT_SEEN, Outcomes, Pfn, Probe, RecordKind, Spte, Vcpu,
};

use crate::{
    entries,
    kernel::{Window, config, now, offset, physical, read},
    ring::{lose, reserve, submit},
    vcpus,
};

/// x86's #PF.
const PAGE_FAULT_VECTOR: u32 = 14;

/// `PFERR_WRITE_MASK`.
const WRITE: u32 = 1 << 1;

/// Whether the walk under way on this CPU is a fault's: the emulator reads guest entries by the
/// million, and this turns them away before the thread is looked up. A walk that changes CPU in
/// its microsecond loses the rest of its entries, and its record says so.
#[map]
static WALK: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);
/// The emulator's, or none.
const OTHER: u32 = 0;
/// A fault's, and entries are still to come.
const READING: u32 = 1;
/// A fault's, all entries read.
const READ: u32 = 2;

#[inline(always)]
fn set_walk(walk: u32) {
    if let Some(place) = WALK.get_ptr_mut(0) {
        // SAFETY: this CPU's own value, and a hint: the vCPU's step is asked too.
        unsafe { *place = walk };
    }
}

#[inline(always)]
fn walk() -> u32 {
    WALK.get(0).copied().unwrap_or(OTHER)
}

// TP_PROTO(u64 addr, u32 pferr), no lock.
#[raw_tracepoint]
pub fn kvm_mmu_pagetable_walk(ctx: RawTracePointContext) {
    let error_code = ctx.arg::<u64>(1) as u32;
    let wanted = config!(walk_bits);
    if error_code & wanted != wanted {
        set_walk(OTHER);
        return;
    }
    let Some(vcpu) = vcpus::current() else { return };
    let Some(outcomes) = read::<Outcomes>(vcpu.vcpu_ptr, offset!(vcpu_pf_taken)) else {
        lose(Probe::Read);
        return;
    };
    if outcomes.taken == vcpu.outcomes.taken {
        // The emulator's: no fault was taken since.
        set_walk(OTHER);
        if vcpu.step == Vcpu::WALKING {
            vcpu.step = Vcpu::WALKED;
        }
        return;
    }
    close(vcpu, &outcomes);
    vcpu.outcomes = outcomes;
    begin(vcpu, Gva(ctx.arg(0)), error_code);
    set_walk(READING);
}

/// A new fault.
#[inline(always)]
fn begin(vcpu: &mut Vcpu, gva: Gva, error_code: u32) {
    vcpu.begin = now();
    vcpu.gva = gva;
    vcpu.error_code = error_code;
    vcpu.step = Vcpu::WALKING;
    vcpu.gpte_levels = 0;
    vcpu.walk_end = NOT_SEEN;
    vcpu.unsync = 0;
    vcpu.created = 0;
    vcpu.reused = 0;
    vcpu.zapped = 0;
}

// TP_PROTO(u64 pte, int level), no lock, after the guest's entry was read.
#[raw_tracepoint]
pub fn kvm_mmu_paging_element(ctx: RawTracePointContext) {
    if walk() != READING {
        return;
    }
    let Some(vcpu) = vcpus::current() else { return };
    if vcpu.step != Vcpu::WALKING {
        return;
    }
    let gpte = Gpte(ctx.arg(0));
    let level = ctx.arg::<u64>(1) as u32;
    if !(1..=5).contains(&level) {
        return;
    }
    let index = (level - 1) as usize;
    if let Some(place) = vcpu.gptes.get_mut(index) {
        *place = gpte;
    }
    vcpu.gpte_levels |= 1 << index;
    if level == 1 || !gpte.is_present() || (level <= 3 && gpte.is_large()) {
        vcpu.walk_end = since(vcpu);
        set_walk(READ);
    }
}

// TP_PROTO(u32 pferr), no lock: the guest's own tables refuse the access.
#[raw_tracepoint]
pub fn kvm_mmu_walker_error(ctx: RawTracePointContext) {
    if walk() == OTHER {
        return;
    }
    set_walk(OTHER);
    let Some(vcpu) = vcpus::current() else { return };
    if vcpu.step == Vcpu::WALKING {
        vcpu.step = Vcpu::REFUSED;
        vcpu.error_code = ctx.arg::<u64>(0) as u32;
        vcpu.walk_end = since(vcpu);
    }
}

// TP_PROTO(unsigned int vector, bool has_error, u32 error_code, bool reinjected)
#[raw_tracepoint]
pub fn kvm_inj_exception(ctx: RawTracePointContext) {
    let Some(vcpu) = vcpus::current() else { return };
    if vcpu.step == Vcpu::REFUSED && ctx.arg::<u64>(0) as u32 == PAGE_FAULT_VECTOR {
        if entries::update_root(vcpu).is_none() {
            lose(Probe::Read);
        }
        let injected = since(vcpu);
        record(vcpu, Class::Guest, 0, None, injected);
    }
}

// TP_PROTO(struct kvm_page_fault *fault), since Linux 6.19 also u8 access; under mmu_lock.
#[raw_tracepoint]
pub fn kvm_mmu_spte_requested(ctx: RawTracePointContext) {
    let Some(vcpu) = vcpus::current() else { return };
    if request(vcpu, ctx.arg(0)).is_none() {
        lose(Probe::Read);
        warn!(
            &ctx,
            "kvm_page_fault at {:x} cannot be read",
            ctx.arg::<u64>(0)
        );
    }
}

#[inline(always)]
fn request(vcpu: &mut Vcpu, fault: u64) -> Option<()> {
    // From addr to pfn.
    let fault = Window::<64>::read(fault, offset!(fault_addr))?;
    let gva = Gva(fault.get(offset!(fault_addr))?);
    let walked = vcpu.step == Vcpu::WALKING || vcpu.step == Vcpu::WALKED;
    if !walked || gva != vcpu.gva {
        // No walk led here: a guest without paging, or a frame that the host brought in late
        // (async page fault). All that is known of it begins now.
        begin(vcpu, gva, fault.get(offset!(fault_error_code))?);
    }
    vcpu.tables_ready = since(vcpu);
    let gfn: u64 = fault.get(offset!(fault_gfn))?;
    let pfn: u64 = fault.get(offset!(fault_pfn))?;
    let slot: u64 = fault.get(offset!(fault_slot))?;
    vcpu.gfn = Gfn(gfn);
    vcpu.has_slot = 0;
    if slot != 0 && pfn & (NO_SLOT_PFN | ERROR_PFN_MASK) == 0 {
        // From base_gfn to id.
        let slot = Window::<88>::read(slot, offset!(slot_base_gfn))?;
        let base: u64 = slot.get(offset!(slot_base_gfn))?;
        let address: u64 = slot.get(offset!(slot_userspace_addr))?;
        // The kernel aligns the frame down to the level it wants to map.
        let level: u8 = fault.get(offset!(fault_goal_level))?;
        let within = gfn & (events::Level(level).pages() - 1);
        vcpu.slot = slot.get(offset!(slot_id))?;
        vcpu.hva = Hva(address.wrapping_add(gfn.wrapping_sub(base) << 12));
        vcpu.pfn = Pfn(pfn | within);
        vcpu.has_slot = 1;
    }
    vcpu.step = Vcpu::REQUESTED;
    entries::update_root(vcpu)?;
    entries::record_links(vcpu, vcpu.gva);
    Some(())
}

// TP_PROTO(int level, gfn_t gfn, u64 *sptep), under mmu_lock, after the store.
#[raw_tracepoint]
pub fn kvm_mmu_set_spte(ctx: RawTracePointContext) {
    let Some(vcpu) = vcpus::current() else { return };
    let level = ctx.arg::<u64>(0) as u8;
    let place: u64 = ctx.arg(2);
    let Some(spte) = read::<u64>(place, 0).map(Spte) else {
        lose(Probe::Read);
        return;
    };
    let sptep = physical(place);
    if vcpu.step == Vcpu::REQUESTED {
        // A direct page may have been linked since the request (guest huge, host small).
        entries::record_links(vcpu, vcpu.gva);
        let class = if vcpu.unsync != 0 {
            Class::Unsync
        } else if vcpu.error_code & WRITE != 0 && !spte.is_writable() {
            // The leaf must stay read-only: KVM emulates the store.
            Class::WriteProtected
        } else {
            Class::Shadow
        };
        record(
            vcpu,
            class,
            Fault::MAPPING,
            Some(Leaf { sptep, spte, level }),
            NOT_SEEN,
        );
        vcpu.step = Vcpu::MAPPED;
        return;
    }
    let cause = if vcpu.step == Vcpu::MAPPED {
        Cause::Prefetch
    } else {
        Cause::Other
    };
    entries::record(vcpu, cause, sptep, spte, level, Gfn(ctx.arg(1)));
}

// TP_PROTO(u32 reason, int errno): KVM_RUN returns, so nothing is under way any more.
#[raw_tracepoint]
pub fn kvm_userspace_exit(_: RawTracePointContext) {
    let Some(vcpu) = vcpus::current() else { return };
    match read::<Outcomes>(vcpu.vcpu_ptr, offset!(vcpu_pf_taken)) {
        Some(outcomes) => close(vcpu, &outcomes),
        None => lose(Probe::Read),
    }
}

/// Ends a fault whose outcome no tracepoint told, by the counter that moved since it began.
#[inline(always)]
fn close(vcpu: &mut Vcpu, now: &Outcomes) {
    let step = vcpu.step;
    if step == Vcpu::IDLE || step == Vcpu::MAPPED {
        vcpu.step = Vcpu::IDLE;
        return;
    }
    let requested = step == Vcpu::REQUESTED;
    if !requested && entries::update_root(vcpu).is_none() {
        lose(Probe::Read);
    }
    // A fetch that is given up may have linked tables already.
    entries::record_links(vcpu, vcpu.gva);
    let mut known = if requested { Fault::MAPPING } else { 0 };
    let class = if step == Vcpu::REFUSED {
        Class::Guest
    } else if requested && vcpu.has_slot == 0 {
        Class::Mmio
    } else if now.emulate != vcpu.outcomes.emulate {
        // Where MMIO is not cached in SPTEs, KVM emulates before it asks for one; it remembers
        // the page (`vcpu_cache_mmio_info`).
        match (requested, mmio_frame(vcpu)) {
            (false, Some(gfn)) => {
                vcpu.gfn = gfn;
                vcpu.has_slot = 0;
                vcpu.tables_ready = NOT_SEEN;
                known = Fault::MAPPING;
                Class::Mmio
            }
            _ => Class::WriteProtected,
        }
    } else if now.spurious != vcpu.outcomes.spurious {
        Class::Spurious
    } else if now.fast != vcpu.outcomes.fast {
        Class::Fast
    } else {
        Class::Retried
    };
    record(vcpu, class, known, None, NOT_SEEN);
    if matches!(class, Class::Retried) {
        entries::reread_leaf(vcpu, vcpu.gva);
    }
}

/// The frame of the fault's page, if KVM took it for MMIO.
#[inline(always)]
fn mmio_frame(vcpu: &Vcpu) -> Option<Gfn> {
    let page: u64 = read(vcpu.vcpu_ptr, offset!(vcpu_mmio_gva))?;
    if page != vcpu.gva.0 & !0xfff {
        return None;
    }
    read(vcpu.vcpu_ptr, offset!(vcpu_mmio_gfn)).map(Gfn)
}

/// ns since the walk began.
#[inline(always)]
fn since(vcpu: &Vcpu) -> u32 {
    let ns = now().saturating_sub(vcpu.begin);
    // Longer than four seconds is said as four seconds: `NOT_SEEN` is the next number.
    if ns < u64::from(NOT_SEEN) {
        ns as u32
    } else {
        NOT_SEEN - 1
    }
}

struct Leaf {
    sptep: Hpa,
    spte: Spte,
    level: u8,
}

#[inline(always)]
fn record(vcpu: &mut Vcpu, class: Class, mut known: u8, leaf: Option<Leaf>, injected: u32) {
    vcpu.step = Vcpu::IDLE;
    let Some(mut entry) = reserve::<Fault>(
        RecordKind::Fault,
        Probe::Fault,
        vcpu.vm,
        vcpu.vcpu,
        vcpu.begin,
    ) else {
        return;
    };
    let record = entry.as_mut_ptr();
    let mut moments = [NOT_SEEN; MOMENTS];
    moments[Moment::WalkBegin as usize] = 0;
    moments[Moment::WalkEnd as usize] = vcpu.walk_end;
    moments[Moment::Injected as usize] = injected;
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).gva = vcpu.gva;
        (*record).cr3 = vcpu.cr3;
        (*record).root = vcpu.root;
        (*record).rip = vcpu.rip;
        if vcpu.has_rip != 0 {
            known |= Fault::RIP;
        }
        (*record).gptes = vcpu.gptes;
        (*record).gfn = vcpu.gfn;
        (*record).hva = vcpu.hva;
        (*record).pfn = vcpu.pfn;
        (*record).slot = vcpu.slot;
        if known & Fault::MAPPING != 0 {
            moments[Moment::TablesReady as usize] = vcpu.tables_ready;
            if vcpu.has_slot != 0 {
                known |= Fault::SLOT;
            }
        }
        match leaf {
            Some(leaf) => {
                known |= Fault::LEAF;
                (*record).sptep = leaf.sptep;
                (*record).spte = leaf.spte;
                (*record).level = leaf.level;
                moments[Moment::Written as usize] = since(vcpu);
            }
            None => {
                (*record).sptep = Hpa(0);
                (*record).spte = Spte(0);
                (*record).level = 0;
            }
        }
        (*record).moments = moments;
        (*record).error_code = vcpu.error_code;
        (*record).gpte_levels = vcpu.gpte_levels;
        (*record).class = class as u8;
        (*record).known = known;
        (*record).created = vcpu.created;
        (*record).reused = vcpu.reused;
        (*record).zapped = vcpu.zapped;
        (*record).reserved = [0; 3];
    }
    submit(entry);
}
