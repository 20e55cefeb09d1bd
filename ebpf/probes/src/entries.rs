//! SPTEs that change beside the leaf of a fault.
//!
//! Three functions make the changes that no tracepoint announces: `mmu_spte_update`,
//! `mmu_spte_clear_track_bits` and, for entries that are no leaves, `mmu_page_zap_pte`. Who called
//! them is the cause (see `causes`). One change escapes them: a sync that finds another frame behind a
//! marker for MMIO clears the marker inline (`sync_mmio_spte`).

use aya_ebpf::{
    macros::{kprobe, map, raw_tracepoint},
    maps::Array,
    programs::{ProbeContext, RawTracePointContext},
};
use events::{
    Cause, Entry, Fault, Gfn, Gva, Hpa, Level, Probe, RecordKind, Spte, Vcpu, VcpuId, VmId,
};

use crate::{
    causes,
    kernel::{direct_map, now, physical, read},
    pages,
    ring::{lose, reserve, submit},
    rmaps::{self, Head},
    vcpus,
};

/// A cleared entry. Kernels since 6.10 leave bit 63 behind (`SHADOW_NONPRESENT_VALUE`), which says
/// no more.
const EMPTY: Spte = Spte(0);

/// Not 0 if every change outside a fault has a record of its own: set by user space once the three
/// functions are hooked.
#[map]
static TOLD: Array<u32> = Array::with_max_entries(1, 0);

/// One changed entry.
pub struct Change {
    pub cause: Cause,
    pub sptep: Hpa,
    pub spte: Spte,
    pub old: Option<Spte>,
    pub level: u8,
    pub gfn: Option<Gfn>,
}

/// Records it.
#[inline(always)]
pub fn record(vm: VmId, vcpu: VcpuId, change: Change) {
    let Some(mut entry) = reserve::<Entry>(RecordKind::Entry, Probe::Entry, vm, vcpu, now()) else {
        return;
    };
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

/// Records the entry at `sptep` as it is. The record takes its number before the entry is read: a change
/// that comes later has a later number, and what it leaves is what counts.
#[inline(always)]
pub fn record_as_it_is(vm: VmId, vcpu: VcpuId, cause: Cause, sptep: u64, gfn: Option<Gfn>) {
    let Some(table) = pages::find(sptep & !0xfff).filter(|table| table.vm == vm) else {
        return;
    };
    let Some(mut entry) = reserve::<Entry>(RecordKind::Entry, Probe::Entry, vm, vcpu, now()) else {
        return;
    };
    let record = entry.as_mut_ptr();
    let Some(spte) = read::<u64>(sptep, 0).map(Spte) else {
        entry.discard(0);
        lose(Probe::Read);
        return;
    };
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).sptep = physical(sptep);
        (*record).spte = spte;
        (*record).old = EMPTY;
        (*record).gfn = gfn.unwrap_or_default();
        (*record).level = table.level;
        (*record).cause = cause as u8;
        (*record).known = if gfn.is_some() { Entry::GFN } else { 0 };
        (*record).reserved = 0;
        (*record).reserved_word = 0;
    }
    submit(entry);
}

/// Whether every change outside a fault has a record of its own.
#[inline(always)]
pub fn is_told() -> bool {
    TOLD.get(0).is_some_and(|told| *told != 0)
}

/// Linking a child table has no tracepoint, but follows a page that was looked up: then, under
/// `mmu_lock`, the path from the root to `gva` is read and its upper entries are recorded.
#[inline(always)]
pub fn record_links(vcpu: &mut Vcpu) {
    if vcpu.linking != 0 {
        vcpu.linking = 0;
        walk(vcpu, true);
    }
}

/// Records the leaf entry of the fault's address as it is now, if there is a table for it. Not where
/// every change has its own record: `mmu_lock` is not held, so this one could come after a later one.
#[inline(always)]
pub fn reread_leaf(vcpu: &Vcpu) {
    if !is_told() {
        walk(vcpu, false);
    }
}

/// The path of the fault's address: its upper entries are recorded, or the leaf at its end.
#[inline(never)]
fn walk(vcpu: &Vcpu, links: bool) {
    let gva: Gva = vcpu.fault.gva;
    let mut table = vcpu.fault.root;
    let mut level = vcpu.root_level;
    // From level 5 down to 1.
    for _ in 0..5 {
        let Some(index) = Level(level).index(gva) else {
            break;
        };
        let sptep = Hpa(table.0 + 8 * u64::from(index));
        let Some(spte) = read::<u64>(direct_map(sptep), 0).map(Spte) else {
            lose(Probe::Read);
            break;
        };
        // `mmu->pae_root` is no shadow page: its four entries have a P bit and nothing else of an SPTE.
        let pae_root = level == 3 && vcpu.root_level == 3;
        let end = if pae_root {
            spte.0 & 1 == 0
        } else {
            level == 1 || !spte.is_shadow_present() || spte.is_leaf(Level(level))
        };
        let mut change = Change {
            cause: Cause::Link,
            sptep,
            spte,
            old: None,
            level,
            gfn: None,
        };
        match (links, end) {
            // A fault that was given up may find that the table is gone already.
            (true, false) if !pae_root && is_alive(spte.child()) => {
                record(vcpu.vm, vcpu.vcpu, change);
            }
            (false, true) if !pae_root => {
                change.cause = Cause::Reread;
                change.gfn = frame(vcpu);
                record(vcpu.vm, vcpu.vcpu, change);
            }
            _ => {}
        }
        if end {
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

/// The guest's frame of the fault's address, as far as its walk came.
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

/// A change at `sptep`, if its page belongs to a traced VM and is not being zapped: what becomes of
/// the entries of a zapped page is known without a record of each.
#[inline(always)]
fn changed(kvm: Option<u64>, sptep: u64, new: impl FnOnce(Spte, Level) -> Option<Spte>) {
    let Some(table) = pages::find(sptep & !0xfff).filter(|table| table.zapped == 0) else {
        return;
    };
    // The address may be another VM's page by now, if this one's end was not seen.
    if let Some(kvm) = kvm
        && vcpus::traced(kvm) != Some(table.vm)
    {
        return;
    }
    let Some(old) = read::<u64>(sptep, 0).map(Spte) else {
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
        _ => (events::NO_VCPU, false),
    };
    let change = Change {
        cause: causes::current().unwrap_or(if mapping { Cause::Fault } else { Cause::Other }),
        sptep: physical(sptep),
        spte,
        old: Some(old),
        level: table.level,
        gfn: None,
    };
    record(table.vm, by, change);
}

// mmu_spte_update(u64 *sptep, u64 new_spte), under mmu_lock, before the store.
#[kprobe]
pub fn mmu_spte_update(ctx: ProbeContext) -> u32 {
    let (Some(sptep), Some(new)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else {
        return 0;
    };
    // The leaf of a fault and its neighbours have their own tracepoint, which follows.
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

// kvm_zap_all_rmap_sptes(struct kvm *kvm, struct kvm_rmap_head *rmap_head), under mmu_lock, before the
// entries go. In Linux 7.2 it has a copy of mmu_spte_clear_track_bits for the entries of a list, which
// is therefore read here; where it has none, each of them is told twice, to the same effect.
#[kprobe]
pub fn kvm_zap_all_rmap_sptes(ctx: ProbeContext) -> u32 {
    let (Some(kvm), Some(head)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else {
        return 0;
    };
    if vcpus::traced(kvm).is_none() {
        return 0;
    }
    // The one entry of a frame goes through mmu_spte_clear_track_bits.
    let told = match rmaps::head(head) {
        Some(Head::Many(desc)) => rmaps::each(desc, rmaps::Entry::Clear, kvm, 0),
        Some(_) => true,
        None => false,
    };
    if !told {
        lose(Probe::Read);
    }
    0
}

/// An entry is about to be cleared.
#[inline(always)]
pub fn cleared(kvm: u64, sptep: u64) {
    changed(Some(kvm), sptep, |_, _| Some(EMPTY));
}

// mmu_page_zap_pte(struct kvm *kvm, struct kvm_mmu_page *sp, u64 *spte, struct list_head *invalid_list),
// under mmu_lock, before the entry goes. A leaf goes through mmu_spte_clear_track_bits.
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

// TP_PROTO(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault, u64 *sptep, u64 old_spte, int ret),
// without mmu_lock, after the exchange: a direct entry of an unpaged guest gets its write access back.
#[raw_tracepoint]
pub fn fast_page_fault(ctx: RawTracePointContext) {
    let sptep: u64 = ctx.arg(2);
    let (Some(vcpu), Some(table)) = (vcpus::current(), pages::find(sptep & !0xfff)) else {
        return;
    };
    let old = Spte(ctx.arg(3));
    match read::<u64>(sptep, 0).map(Spte) {
        Some(spte) if spte != old => {
            let change = Change {
                cause: Cause::Fault,
                sptep: physical(sptep),
                spte,
                old: Some(old),
                level: table.level,
                gfn: None,
            };
            record(table.vm, vcpu.vcpu, change);
        }
        Some(_) => {}
        None => lose(Probe::Read),
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
            // A direct page may have been linked for it since the request. A sync marks entries,
            // too, before the page that it was looked up for is linked.
            if vcpu.step == Vcpu::REQUESTED {
                record_links(vcpu);
            }
            vcpu.vcpu
        }
        _ => events::NO_VCPU,
    };
    let change = Change {
        cause: Cause::Mmio,
        sptep: physical(sptep),
        spte: Spte(ctx.arg(2)),
        old: None,
        level: table.level,
        gfn: Some(Gfn(ctx.arg(1))),
    };
    record(table.vm, by, change);
}
