//! SPTEs that change, other than the leaf of a fault.
//!
//! Three functions make the changes that no tracepoint announces: `mmu_spte_update`,
//! `mmu_spte_clear_track_bits` and, for entries that are no leaves, `mmu_page_zap_pte`. Their
//! caller is the cause (see `causes`). One change escapes them: a sync that finds another frame
//! where a marker for MMIO was clears the marker inline (`sync_mmio_spte`).

use aya_ebpf::{
    macros::{kprobe, map, raw_tracepoint},
    maps::{Array, ring_buf::RingBufEntry},
    programs::{ProbeContext, RawTracePointContext},
};
use events::{
    Cause, Entry, Fault, Gfn, Hpa, Level, NO_VCPU, NotRead, PathStep, Probe, Spte, Vcpu, VcpuId,
    VmId, number_then_read,
};

use crate::{
    causes,
    kernel::{direct_map, now, physical, read},
    pages,
    ring::{lose, reserve, submit},
    rmaps::{self, Head},
    vcpus,
};

/// A cleared entry. Kernels since 6.10 leave bit 63 set (`SHADOW_NONPRESENT_VALUE`), which has no
/// other meaning.
const EMPTY: Spte = Spte(0);

/// Not 0 if every change outside a fault has its own record: set by user space once the three
/// functions are hooked.
#[map]
static SEES_EVERY_CHANGE: Array<u32> = Array::with_max_entries(1, 0);

/// One changed entry.
pub struct Change {
    pub cause: Cause,
    pub sptep: Hpa,
    pub spte: Spte,
    pub old: Option<Spte>,
    pub level: u8,
    pub gfn: Option<Gfn>,
}

/// Records a change at `time` whose value is certain, since the caller holds `mmu_lock`.
#[inline(always)]
pub fn record(vm: VmId, vcpu: VcpuId, time: u64, change: Change) {
    if let Some(entry) = reserve::<Entry>(vm, vcpu, time) {
        send(entry, change);
    }
}

#[inline(always)]
fn send(mut entry: RingBufEntry<Entry>, change: Change) {
    let record = entry.as_mut_ptr();
    let mut known = 0;
    if change.old.is_some() {
        known |= Entry::OLD;
    }
    if change.gfn.is_some() {
        known |= Entry::GFN;
    }
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).sptep = change.sptep;
        (*record).spte = change.spte;
        (*record).old = change.old.unwrap_or_default();
        (*record).gfn = change.gfn.unwrap_or_default();
        (*record).level = change.level;
        (*record).cause = change.cause as u8;
        (*record).known = known;
        (*record).reserved = 0;
        (*record).reserved_word = 0;
    }
    submit(entry);
}

/// An entry that is read without `mmu_lock`.
struct Unlocked {
    cause: Cause,
    /// Kernel address of the entry.
    sptep: u64,
    old: Option<Spte>,
    level: u8,
    gfn: Option<Gfn>,
}

/// Records the entry as it is now: see [`number_then_read`].
#[inline(always)]
fn record_now(vm: VmId, vcpu: VcpuId, found: Unlocked) {
    let number = || reserve::<Entry>(vm, vcpu, now());
    let value = || read::<u64>(found.sptep).map(Spte);
    match number_then_read(number, value) {
        Ok((entry, spte)) => send(
            entry,
            Change {
                cause: found.cause,
                sptep: physical(found.sptep),
                spte,
                old: found.old,
                level: found.level,
                gfn: found.gfn,
            },
        ),
        Err(NotRead::NoRoom) => {}
        Err(NotRead::Unreadable(entry)) => {
            entry.discard(0);
            lose(Probe::Read);
        }
    }
}

/// Records the entry at kernel address `sptep` as it is now, if its page is the VM's.
#[inline(always)]
pub fn record_as_it_is(vm: VmId, vcpu: VcpuId, cause: Cause, sptep: u64, gfn: Option<Gfn>) {
    let Some(table) = pages::find(sptep & !0xfff).filter(|table| table.vm == vm) else {
        return;
    };
    let found = Unlocked {
        cause,
        sptep,
        old: None,
        level: table.level,
        gfn,
    };
    record_now(vm, vcpu, found);
}

/// Whether every change outside a fault has its own record.
#[inline(always)]
pub fn sees_every_change() -> bool {
    SEES_EVERY_CHANGE.get(0).is_some_and(|sees| *sees != 0)
}

/// Linking a child table has no tracepoint, but follows the lookup of a page: then the path from
/// the root to the fault's address is read and its upper entries are recorded. Most callers hold
/// `mmu_lock`; `close`, for a fault that was given up, does not.
#[inline(always)]
pub fn record_links(vcpu: &mut Vcpu) {
    if vcpu.linking != 0 {
        vcpu.linking = 0;
        walk(vcpu, true);
    }
}

/// Records the leaf entry of the fault's address as it is now, if there is a table for it. Only
/// where changes have no records of their own.
#[inline(always)]
pub fn reread_leaf(vcpu: &Vcpu) {
    if !sees_every_change() {
        walk(vcpu, false);
    }
}

/// Follows the path of the fault's address and records its upper entries, or the leaf at its end.
#[inline(never)]
fn walk(vcpu: &Vcpu, links: bool) {
    let mut table = vcpu.fault.root;
    let mut level = vcpu.root_level;
    // From level 5 down to 1.
    for _ in 0..5 {
        let Some(index) = Level(level).index(vcpu.fault.gva) else {
            break;
        };
        let sptep = direct_map(Hpa(table.0 + 8 * u64::from(index)));
        // Says where the path leads. A record reads the entry again, after it has its number.
        let Some(spte) = read::<u64>(sptep).map(Spte) else {
            lose(Probe::Read);
            break;
        };
        let step = PathStep {
            spte,
            level: Level(level),
            root_level: Level(vcpu.root_level),
        };
        let mut found = Unlocked {
            cause: Cause::Link,
            sptep,
            old: None,
            level,
            gfn: None,
        };
        // A fault that was given up may find that the child is gone already.
        if links && step.is_link() && is_alive(spte.child()) {
            record_now(vcpu.vm, vcpu.vcpu, found);
        } else if !links && step.is_end() && !step.is_pae_root() {
            found.cause = Cause::Reread;
            found.gfn = frame(vcpu);
            record_now(vcpu.vm, vcpu.vcpu, found);
        }
        if step.is_end() {
            break;
        }
        table = spte.child();
        level -= 1;
    }
}

#[inline(always)]
fn is_alive(table: Hpa) -> bool {
    pages::find(direct_map(table)).is_some_and(|table| table.zapped == 0)
}

/// The guest frame of the fault's address, if its walk came so far.
#[inline(always)]
fn frame(vcpu: &Vcpu) -> Option<Gfn> {
    if vcpu.fault.known & Fault::MAPPING != 0 {
        Some(vcpu.fault.gfn)
    } else if vcpu.fault.gpte_levels & 1 != 0 {
        Some(vcpu.fault.gptes[0].gpa().gfn())
    } else {
        None
    }
}

/// A change at kernel address `sptep`, if its page belongs to a traced VM and is not zapped: the
/// entries of a zapped page all end, which needs no record of each.
#[inline(always)]
fn changed(kvm: Option<u64>, sptep: u64, new: impl FnOnce(Spte, Level) -> Option<Spte>) {
    let Some(table) = pages::find(sptep & !0xfff).filter(|table| table.zapped == 0) else {
        return;
    };
    // If the end of this page was not seen, the address may be another VM's page by now.
    if let Some(kvm) = kvm
        && vcpus::traced(kvm) != Some(table.vm)
    {
        return;
    }
    let Some(old) = read::<u64>(sptep).map(Spte) else {
        lose(Probe::Read);
        return;
    };
    let Some(spte) = new(old, Level(table.level)) else {
        return;
    };
    if spte == old || (spte.is_empty() && old.is_empty()) {
        return;
    }
    let (by, mapping) = match vcpus::current() {
        Some(vcpu) if vcpu.vm == table.vm => (
            vcpu.vcpu,
            vcpu.step == Vcpu::REQUESTED || vcpu.step == Vcpu::MAPPED,
        ),
        _ => (NO_VCPU, false),
    };
    let change = Change {
        cause: causes::current().unwrap_or(if mapping { Cause::Fault } else { Cause::Other }),
        sptep: physical(sptep),
        spte,
        old: Some(old),
        level: table.level,
        gfn: None,
    };
    record(table.vm, by, now(), change);
}

// mmu_spte_update(u64 *sptep, u64 new_spte), under mmu_lock, before the store.
#[kprobe]
pub fn mmu_spte_update(ctx: ProbeContext) -> u32 {
    let (Some(sptep), Some(new)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else {
        return 0;
    };
    // The leaf of a fault and its neighbours have their own tracepoint, which comes next.
    if let Some(vcpu) = vcpus::current()
        && (vcpu.step == Vcpu::REQUESTED || vcpu.step == Vcpu::MAPPED)
        && causes::current().is_none()
    {
        return 0;
    }
    changed(None, sptep, |_, _| Some(Spte(new)));
    0
}

// mmu_spte_clear_track_bits(struct kvm *kvm, u64 *sptep), under mmu_lock, before the store.
#[kprobe]
pub fn mmu_spte_clear_track_bits(ctx: ProbeContext) -> u32 {
    if let (Some(kvm), Some(sptep)) = (ctx.arg(0), ctx.arg(1)) {
        cleared(kvm, sptep);
    }
    0
}

// kvm_zap_all_rmap_sptes(struct kvm *kvm, struct kvm_rmap_head *rmap_head), under mmu_lock, before
// the entries are cleared. In Linux 7.2 it has an inlined copy of mmu_spte_clear_track_bits for
// the entries of a list, so the list is read here. Where it has none, each entry is recorded
// twice, with the same value.
#[kprobe]
pub fn kvm_zap_all_rmap_sptes(ctx: ProbeContext) -> u32 {
    let (Some(kvm), Some(head)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else {
        return 0;
    };
    if vcpus::traced(kvm).is_none() {
        return 0;
    }
    // The one entry of a frame goes through mmu_spte_clear_track_bits.
    let is_read = match rmaps::head(head) {
        Some(Head::Many(desc)) => rmaps::each(desc, rmaps::Entry::Clear, kvm, 0),
        Some(_) => true,
        None => false,
    };
    if !is_read {
        lose(Probe::Read);
    }
    0
}

/// An entry is about to be cleared.
#[inline(always)]
pub fn cleared(kvm: u64, sptep: u64) {
    changed(Some(kvm), sptep, |_, _| Some(EMPTY));
}

// mmu_page_zap_pte(struct kvm *kvm, struct kvm_mmu_page *sp, u64 *spte, struct list_head
// *invalid_list), under mmu_lock, before the entry is cleared. A leaf goes through
// mmu_spte_clear_track_bits.
#[kprobe]
pub fn mmu_page_zap_pte(ctx: ProbeContext) -> u32 {
    if let Some(sptep) = ctx.arg::<u64>(2) {
        changed(ctx.arg(0), sptep, |old, level| {
            let goes = !old.is_leaf(level) && !old.is_empty();
            goes.then_some(EMPTY)
        });
    }
    0
}

// TP_PROTO(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault, u64 *sptep, u64 old_spte, int
// ret), without mmu_lock, after the exchange: a direct entry of an unpaged guest gets its write
// access back.
#[raw_tracepoint]
pub fn fast_page_fault(ctx: RawTracePointContext) {
    let sptep: u64 = ctx.arg(2);
    let (Some(vcpu), Some(table)) = (vcpus::current(), pages::find(sptep & !0xfff)) else {
        return;
    };
    let old = Spte(ctx.arg(3));
    match read::<u64>(sptep).map(Spte) {
        Some(spte) if spte == old => {}
        _ => {
            let found = Unlocked {
                cause: Cause::Fault,
                sptep,
                old: Some(old),
                level: table.level,
                gfn: None,
            };
            record_now(table.vm, vcpu.vcpu, found);
        }
    }
}

// TP_PROTO(u64 *sptep, gfn_t gfn, u64 spte), under mmu_lock, before the store.
#[raw_tracepoint]
pub fn mark_mmio_spte(ctx: RawTracePointContext) {
    let sptep: u64 = ctx.arg(0);
    let Some(table) = pages::find(sptep & !0xfff) else {
        return;
    };
    let by = match vcpus::current() {
        Some(vcpu) if vcpu.vm == table.vm => {
            // A direct page may have been linked for it since the request. A sync marks entries
            // too, before the page that was looked up is linked.
            if vcpu.step == Vcpu::REQUESTED {
                record_links(vcpu);
            }
            vcpu.vcpu
        }
        _ => NO_VCPU,
    };
    let change = Change {
        cause: Cause::Mmio,
        sptep: physical(sptep),
        spte: Spte(ctx.arg(2)),
        old: None,
        level: table.level,
        gfn: Some(Gfn(ctx.arg(1))),
    };
    record(table.vm, by, now(), change);
}
