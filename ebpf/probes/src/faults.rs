//! One fault, one record.
//!
//! A walk of the guest's tables begins every fault, but the emulator also walks them for each
//! guest instruction. So a walk only notes a few words in the vCPU's entry. It becomes a record
//! when it ends in a leaf SPTE, in an injected #PF, or when one of KVM's counters shows its
//! outcome. The record takes its number at that moment. Where this kernel announces re-entries, it
//! is sent at the re-entry, so that it holds the whole round trip.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::PerCpuArray,
    programs::RawTracePointContext,
};
use aya_log_ebpf::warn;
use events::{
    Cause, Class, Ending, ErrorCode, Fault, Gfn, Gpa, Gpte, Gva, Hva, MOMENTS, Moment, NOT_SEEN,
    Outcomes, Pfn, Probe, Spte, TimeNs, Vcpu,
    constants::{ERROR_PFN_MASK, NO_SLOT_PFN, PAGE_FAULT_VECTOR},
    errno_of,
};

use crate::{
    causes,
    entries::{self, Change},
    host,
    kernel::{Window, config, field, now, offset, physical, read},
    nested, pages,
    ring::{lose, next_seq, place, submit},
    roots, switches, unsync, vcpus, writes,
};

/// The walk under way on this CPU. Where KVM emulates the guest's kernel, the emulator reads guest
/// entries by the million: this filters them out before the thread is looked up. A walk that
/// changes CPU in its microsecond, or sleeps for a guest table that the host has swapped out,
/// loses the rest of its entries; a fault that the guest's own tables refuse then looks retried.
#[map]
static WALK: PerCpuArray<Walk> = PerCpuArray::with_max_entries(1, 0);

#[derive(Clone, Copy)]
#[repr(C)]
struct Walk {
    /// One of the constants below.
    whose: u32,
    /// Of a store, the low half of its address.
    low: u32,
}

/// The emulator's walk, or none.
const OTHER: u32 = 0;
/// A fault's walk; more entries follow.
const READING: u32 = 1;
/// A fault's walk; all entries are read.
const READ: u32 = 2;
/// The emulator's walk for a store: only set where functions cannot be hooked.
const STORE: u32 = 3;
/// The store goes to a shadowed table, or the host took a page away meanwhile: at the next walk
/// the entries are read again.
const TABLE: u32 = 4;

#[inline(always)]
fn set_walk(whose: u32) {
    if let Some(walk) = WALK.get_ptr_mut(0) {
        // SAFETY: this CPU's own value, and a hint: the vCPU's step is asked too.
        unsafe { (*walk).whose = whose };
    }
}

/// At the next walk on this CPU, of whatever kind, the entries are read again.
#[inline(always)]
pub fn look_again() {
    set_walk(TABLE);
}

/// The emulator's walk of `address`.
#[inline(always)]
fn set_emulators(address: u64, error_code: ErrorCode) {
    let store = error_code.is_write() && !entries::sees_every_change();
    if let Some(walk) = WALK.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe {
            (*walk).whose = if store { STORE } else { OTHER };
            (*walk).low = address as u32;
        }
    }
}

/// Whether KVM emulates the guest's kernel.
#[inline(always)]
fn is_emulated() -> bool {
    config!(walk_bits) != ErrorCode::NONE
}

#[inline(always)]
fn walk() -> Walk {
    let none = Walk {
        whose: OTHER,
        low: 0,
    };
    WALK.get(0).copied().unwrap_or(none)
}

// TP_PROTO(u64 addr, u32 pferr), no lock.
#[raw_tracepoint]
pub fn kvm_mmu_pagetable_walk(ctx: RawTracePointContext) {
    let error_code = ErrorCode(ctx.arg::<u64>(1) as u32);
    // The instruction that stored to a table is over.
    if walk().whose == TABLE
        && let Some(vcpu) = vcpus::current()
    {
        writes::finish(vcpu);
        host::finish(vcpu);
    }
    if !error_code.has(config!(walk_bits)) {
        set_emulators(ctx.arg(0), error_code);
        if unsync::has_copies()
            && let Some(vcpu) = vcpus::current()
        {
            unsync::event(vcpu);
        }
        return;
    }
    let called = now();
    let Some(vcpu) = vcpus::current() else { return };
    // The guest hypervisor's faults move the counter that separates the others' walks.
    if nested::only() && vcpu.step != Vcpu::CALLED {
        emulator_walks(vcpu, ctx.arg(0), error_code);
        return;
    }
    finish_last_event(vcpu);
    // To compare unsync pages may take longer than the walk, and is no part of it.
    let walk_begins = if unsync::has_copies() { now() } else { called };
    fault_walk(vcpu, ctx.arg(0), error_code, walk_begins);
}

#[inline(always)]
fn emulator_walks(vcpu: &mut Vcpu, address: u64, error_code: ErrorCode) {
    set_emulators(address, error_code);
    if vcpu.step == Vcpu::WALKING {
        vcpu.step = Vcpu::WALKED;
    }
}

/// Records the results of what the vCPU did before this event. Inlined into programs that leave
/// the rest to a function: what the comparison calls needs room on the stack (512 bytes in all).
#[inline(always)]
fn finish_last_event(vcpu: &mut Vcpu) {
    writes::finish(vcpu);
    host::finish(vcpu);
    unsync::event(vcpu);
}

#[inline(never)]
fn fault_walk(vcpu: &mut Vcpu, address: u64, error_code: ErrorCode, walk_begins: u64) {
    let Some(outcomes) = field::<Outcomes>(vcpu.vcpu_ptr, offset!(vcpu_pf_taken)) else {
        lose(Probe::Read);
        return;
    };
    if outcomes.taken == vcpu.outcomes.taken {
        // No fault was taken since.
        emulator_walks(vcpu, address, error_code);
        return;
    }
    if vcpu.step == Vcpu::CALLED {
        vcpu.fault.error_code = error_code;
    } else {
        close(vcpu, &outcomes);
        emit(vcpu);
        begin(vcpu, walk_begins, Gva(address), error_code);
    }
    vcpu.outcomes = outcomes;
    vcpu.step = Vcpu::WALKING;
    vcpu.fault.moments[Moment::WalkBegin as usize] = until(vcpu, walk_begins);
    set_walk(READING);
}

/// A new fault, from the moment when the guest left, where that is seen.
#[inline(always)]
pub fn begin(vcpu: &mut Vcpu, now: u64, gva: Gva, error_code: ErrorCode) {
    let fault = &mut vcpu.fault;
    fault.moments = [NOT_SEEN; MOMENTS];
    if vcpu.exit != 0 {
        fault.header.time = TimeNs(vcpu.exit);
        fault.moments[Moment::Exit as usize] = 0;
        vcpu.exit = 0;
    } else {
        fault.header.time = TimeNs(now);
    }
    fault.gva = gva;
    fault.error_code = error_code;
    fault.gpte_levels = 0;
    fault.known = 0;
    fault.created = 0;
    fault.reused = 0;
    fault.zapped = 0;
    fault.errno = 0;
    vcpu.unsync = 0;
    vcpu.rooted = 0;
    switches::begin(vcpu);
}

// TP_PROTO(u64 pte, int level), no lock, after the guest's entry was read.
#[raw_tracepoint]
pub fn kvm_mmu_paging_element(ctx: RawTracePointContext) {
    let gpte = Gpte(ctx.arg(0));
    let level = ctx.arg::<u64>(1) as u32;
    let walk = walk();
    if walk.whose == STORE {
        if is_last(gpte, level) {
            store_to(gpte, level, walk.low);
        }
        return;
    }
    if is_emulated() && walk.whose != READING {
        return;
    }
    let Some(vcpu) = vcpus::current() else { return };
    if vcpu.step != Vcpu::WALKING {
        return;
    }
    if !(1..=5).contains(&level) {
        return;
    }
    let index = (level - 1) as usize;
    if let Some(place) = vcpu.fault.gptes.get_mut(index) {
        *place = gpte;
    }
    vcpu.fault.gpte_levels |= 1 << index;
    if is_last(gpte, level) {
        vcpu.fault.moments[Moment::WalkEnd as usize] = since(vcpu);
        set_walk(READ);
    }
}

/// No other entry follows in this walk.
#[inline(always)]
fn is_last(gpte: Gpte, level: u32) -> bool {
    level == 1 || !gpte.is_present() || (level <= 3 && gpte.is_large())
}

/// The emulator's walk for a store has reached its frame.
#[inline(always)]
fn store_to(gpte: Gpte, level: u32, low: u32) {
    set_walk(OTHER);
    if !gpte.is_present() {
        return;
    }
    let within = (1 << (12 + 9 * ((level - 1) & 3))) - 1;
    let gpa = Gpa(gpte.gpa().0 & !within | u64::from(low) & within);
    if pages::may_be_table(gpa.gfn())
        && let Some(vcpu) = vcpus::current()
        && writes::begin(vcpu, gpa)
    {
        set_walk(TABLE);
    }
}

// TP_PROTO(u32 pferr), no lock: the guest's own tables refuse the access.
#[raw_tracepoint]
pub fn kvm_mmu_walker_error(ctx: RawTracePointContext) {
    if is_emulated() && !matches!(walk().whose, READING | READ) {
        return;
    }
    set_walk(OTHER);
    let Some(vcpu) = vcpus::current() else { return };
    if vcpu.step == Vcpu::WALKING {
        vcpu.step = Vcpu::REFUSED;
        vcpu.fault.error_code = ErrorCode(ctx.arg::<u64>(0) as u32);
        vcpu.fault.moments[Moment::WalkEnd as usize] = since(vcpu);
    }
}

// TP_PROTO(unsigned int vector, bool has_error, u32 error_code, bool reinjected)
#[raw_tracepoint]
pub fn kvm_inj_exception(ctx: RawTracePointContext) {
    let Some(vcpu) = vcpus::current() else { return };
    if ctx.arg::<u64>(0) as u32 != PAGE_FAULT_VECTOR {
        return;
    }
    let moment = now();
    // For a page that is present KVM brings the address in line.
    if unsync::has_copies()
        && ErrorCode(ctx.arg::<u64>(2) as u32).is_present()
        && let Some(gva) = field(vcpu.vcpu_ptr, offset!(vcpu_cr2))
    {
        unsync::invalidated(vcpu, Gva(gva));
    }
    if vcpu.step == Vcpu::REFUSED {
        injected(vcpu, moment);
    }
}

/// The fault that the guest's own tables refuse goes to the guest at this moment.
#[inline(always)]
pub fn injected(vcpu: &mut Vcpu, moment: u64) {
    vcpu.fault.moments[Moment::Injected as usize] = until(vcpu, moment);
    if roots::update(vcpu).is_none() {
        lose(Probe::Read);
    }
    decided(vcpu, Class::Guest, End::Now);
    vcpu.step = Vcpu::IDLE;
}

// TP_PROTO(struct kvm_page_fault *fault), since Linux 6.19 also u8 access; under mmu_lock.
#[raw_tracepoint]
pub fn kvm_mmu_spte_requested(ctx: RawTracePointContext) {
    let Some(vcpu) = vcpus::current() else { return };
    // L1's own faults: nothing is kept of them.
    if !nested::shadows(vcpu.vcpu_ptr) {
        return;
    }
    let moment = now();
    unsync::compare_synced(vcpu);
    unsync::release(vcpu);
    if request(vcpu, ctx.arg(0), moment).is_none() || roots::update(vcpu).is_none() {
        lose(Probe::Read);
        warn!(
            &ctx,
            "kvm_page_fault at {:x} cannot be read",
            ctx.arg::<u64>(0)
        );
        return;
    }
    entries::record_links(vcpu);
}

#[inline(never)]
fn request(vcpu: &mut Vcpu, fault: u64, moment: u64) -> Option<()> {
    // From addr to pfn.
    let fault = Window::<64>::read(fault, offset!(fault_addr))?;
    let gva = Gva(fault.get(offset!(fault_addr))?);
    let begun = matches!(vcpu.step, Vcpu::CALLED | Vcpu::WALKING | Vcpu::WALKED);
    if !begun || gva != vcpu.fault.gva {
        // No walk led here: a guest without paging, or a frame that the host brought in late
        // (async page fault). All that is known of it begins now.
        emit(vcpu);
        // The exit may be long ago: the vCPU may have slept since.
        vcpu.exit = 0;
        begin(vcpu, moment, gva, fault.get(offset!(fault_error_code))?);
        // Not counted by KVM (`pf_taken`): its leaf is recorded as a neighbour's is.
        if fault.get::<u8>(offset!(fault_prefetch))? != 0 {
            vcpu.step = Vcpu::MAPPED;
            return Some(());
        }
    }
    vcpu.fault.moments[Moment::TablesReady as usize] = until(vcpu, moment);
    let gfn: u64 = fault.get(offset!(fault_gfn))?;
    let pfn: u64 = fault.get(offset!(fault_pfn))?;
    let slot: u64 = fault.get(offset!(fault_slot))?;
    vcpu.fault.gfn = Gfn(gfn);
    vcpu.fault.known |= Fault::MAPPING;
    if slot != 0 && pfn & (NO_SLOT_PFN | ERROR_PFN_MASK) == 0 {
        // From base_gfn to id.
        let slot = Window::<88>::read(slot, offset!(slot_base_gfn))?;
        let base: u64 = slot.get(offset!(slot_base_gfn))?;
        let address: u64 = slot.get(offset!(slot_userspace_addr))?;
        // The kernel aligns the frame down to the level it wants to map.
        let level: u8 = fault.get(offset!(fault_goal_level))?;
        let within = gfn & (events::Level(level).pages() - 1);
        vcpu.fault.slot = slot.get(offset!(slot_id))?;
        vcpu.fault.hva = Hva(address.wrapping_add(gfn.wrapping_sub(base) << 12));
        vcpu.fault.pfn = Pfn(pfn | within);
        vcpu.fault.known |= Fault::SLOT;
    }
    vcpu.step = Vcpu::REQUESTED;
    Some(())
}

// TP_PROTO(int level, gfn_t gfn, u64 *sptep), under mmu_lock, after the store.
#[raw_tracepoint]
pub fn kvm_mmu_set_spte(ctx: RawTracePointContext) {
    let stored = now();
    let Some(vcpu) = vcpus::current() else { return };
    let level = ctx.arg::<u64>(0) as u8;
    let place: u64 = ctx.arg(2);
    let Some(spte) = read::<u64>(place).map(Spte) else {
        lose(Probe::Read);
        return;
    };
    let sptep = physical(place);
    unsync::note(place, spte);
    // No tracepoint announces an entry that is already as wanted, or a marker for MMIO: then a
    // neighbour comes first, which may even map the same frame.
    let within = events::Level(level).pages() - 1;
    let same_frame = (ctx.arg::<u64>(1) ^ vcpu.fault.gfn.0) & !within == 0;
    let index = events::Level(level).index(vcpu.fault.gva);
    let wanted = same_frame && index == Some((place >> 3) as u16 & 511);
    if vcpu.step == Vcpu::REQUESTED && wanted {
        vcpu.fault.moments[Moment::Written as usize] = until(vcpu, stored);
        // A direct page may have been linked since the request (guest huge, host small).
        entries::record_links(vcpu);
        vcpu.fault.sptep = sptep;
        vcpu.fault.spte = spte;
        vcpu.fault.level = level;
        vcpu.fault.known |= Fault::LEAF;
        let class = if vcpu.unsync != 0 {
            Class::Unsync
        } else if vcpu.fault.error_code.is_write() && !spte.is_writable() {
            // The leaf must stay read-only: KVM emulates the store.
            Class::WriteProtected
        } else {
            Class::Shadow
        };
        decided(vcpu, class, End::Now);
        vcpu.step = Vcpu::MAPPED;
        return;
    }
    if nested::only() && pages::find(place & !0xfff).is_none() {
        // The TDP MMU's.
        return;
    }
    let change = Change {
        cause: if vcpu.step == Vcpu::MAPPED || vcpu.step == Vcpu::REQUESTED {
            Cause::Prefetch
        } else {
            causes::current().unwrap_or(Cause::Other)
        },
        sptep,
        spte,
        old: None,
        level,
        gfn: Some(Gfn(ctx.arg(1))),
    };
    entries::record(vcpu.vm, vcpu.vcpu, stored, change);
}

// TP_PROTO(u32 reason, int errno): KVM_RUN returns, so nothing is under way any more.
#[raw_tracepoint]
pub fn kvm_userspace_exit(ctx: RawTracePointContext) {
    let Some(vcpu) = vcpus::current() else { return };
    finish_last_event(vcpu);
    userspace_exit(vcpu, ctx.arg::<u64>(1) as i32);
}

#[inline(never)]
fn userspace_exit(vcpu: &mut Vcpu, returned: i32) {
    vcpu.fault.errno = errno_of(returned);
    match field::<Outcomes>(vcpu.vcpu_ptr, offset!(vcpu_pf_taken)) {
        Some(outcomes) => close(vcpu, &outcomes),
        None => lose(Probe::Read),
    }
    emit(vcpu);
}

/// Ends a fault whose outcome no tracepoint showed: by the counter that moved since it began.
/// Without `mmu_lock`.
#[inline(always)]
pub fn close(vcpu: &mut Vcpu, now: &Outcomes) {
    let step = vcpu.step;
    vcpu.step = Vcpu::IDLE;
    if step == Vcpu::IDLE || step == Vcpu::MAPPED {
        return;
    }
    if step != Vcpu::REQUESTED && roots::update(vcpu).is_none() {
        lose(Probe::Read);
    }
    // A fetch that was given up may have linked tables already.
    entries::record_links(vcpu);
    let ending = Ending {
        step,
        error_code: vcpu.fault.error_code,
        has_slot: vcpu.fault.known & Fault::SLOT != 0,
        before: &vcpu.outcomes,
        now,
        errno: vcpu.fault.errno,
    };
    // Where MMIO is not cached in SPTEs, KVM emulates before it asks for one.
    let (frame, may_be_table) = match ending.is_emulated_unasked() {
        true => (mmio_frame(vcpu), may_be_table(&vcpu.fault)),
        false => (None, false),
    };
    if let Some(gfn) = frame {
        vcpu.fault.gfn = gfn;
        vcpu.fault.known |= Fault::MAPPING;
    }
    let class = ending.class(frame.is_some(), may_be_table);
    decided(vcpu, class, End::Before);
    if matches!(class, Class::Retried) {
        entries::reread_leaf(vcpu);
    }
}

/// Whether the frame that the guest's tables name may be a shadowed table; also where a page of
/// 1 GiB, a large one of 32-bit tables or no walk does not give the frame, and where functions can
/// be hooked: there nobody keeps the tables' frames.
#[inline(always)]
fn may_be_table(fault: &Fault) -> bool {
    const FOUR_LEVELS: u8 = 1 << 3;
    if entries::sees_every_change() {
        return true;
    }
    let [small, large, ..] = fault.gptes;
    let page = fault.gva.0 >> 12 & 511;
    if fault.gpte_levels & 1 != 0 && small.is_present() {
        pages::may_be_table(small.gpa().gfn())
    } else if fault.gpte_levels & (FOUR_LEVELS | 0b11) == FOUR_LEVELS | 0b10 && large.is_large() {
        pages::may_be_table(Gfn(large.gpa().gfn().0 & !511 | page))
    } else {
        true
    }
}

/// The frame of the fault's page, if KVM took it for MMIO.
#[inline(always)]
fn mmio_frame(vcpu: &Vcpu) -> Option<Gfn> {
    let page: u64 = field(vcpu.vcpu_ptr, offset!(vcpu_mmio_gva))?;
    if page != vcpu.fault.gva.0 & !0xfff {
        return None;
    }
    field(vcpu.vcpu_ptr, offset!(vcpu_mmio_gfn)).map(Gfn)
}

/// ns since the fault's first moment. A probe takes a moment before it does work of its own, which
/// would be in the step that ends there.
#[inline(always)]
pub fn since(vcpu: &Vcpu) -> u64 {
    until(vcpu, now())
}

/// ns from the fault's first moment to `moment`.
#[inline(always)]
pub fn until(vcpu: &Vcpu, moment: u64) -> u64 {
    moment.saturating_sub(vcpu.fault.header.time.0)
}

/// A fault is under way, or its record waits for re-entry.
#[inline(always)]
pub fn is_open(vcpu: &Vcpu) -> bool {
    vcpu.step != Vcpu::IDLE || vcpu.decided != 0
}

/// The outcome is known: the record gets its place in the order of all, and is sent unless the
/// fault's re-entry will be seen.
#[inline(always)]
fn decided(vcpu: &mut Vcpu, class: Class, last: End) {
    vcpu.fault.class = class as u8;
    vcpu.fault.header.seq = next_seq();
    vcpu.decided = 1;
    if vcpu.entries_seen == 0 {
        send(vcpu, last);
    }
}

/// When the last moment of a fault was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is this one.
    Now,
    /// It may be long ago: its thread may have been switched out since.
    Before,
}

/// Sends the record of a decided fault, whose last moment was before.
#[inline(always)]
pub fn emit(vcpu: &mut Vcpu) {
    send(vcpu, End::Before);
}

/// Sends the record of a decided fault.
#[inline(always)]
pub fn send(vcpu: &mut Vcpu, last: End) {
    if vcpu.decided == 0 {
        return;
    }
    vcpu.decided = 0;
    switches::end(vcpu, last == End::Now);
    let header = vcpu.fault.header;
    let Some(mut entry) = place::<Fault>(header.seq, vcpu.vm, vcpu.vcpu, header.time.0) else {
        lose(Probe::Fault);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record, whose header is written already.
    unsafe {
        let header = (*record).header;
        *record = vcpu.fault;
        (*record).header = header;
    }
    submit(entry);
}
