//! SPTEs that change beside the leaf of a fault.

use events::{Cause, Entry, Gfn, Gva, Hpa, Level, Probe, RecordKind, Root, Spte, Vcpu};

use crate::{
    kernel::{direct_map, now, offset, read, role_level},
    ring::{lose, reserve, submit},
};

/// Records one changed entry.
#[inline(always)]
pub fn record(vcpu: &Vcpu, cause: Cause, sptep: Hpa, spte: Spte, level: u8, gfn: Gfn) {
    let Some(mut entry) =
        reserve::<Entry>(RecordKind::Entry, Probe::Entry, vcpu.vm, vcpu.vcpu, now())
    else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).sptep = sptep;
        (*record).spte = spte;
        (*record).gfn = gfn;
        (*record).level = level;
        (*record).cause = cause as u8;
        (*record).reserved = [0; 6];
    }
    submit(entry);
}

/// Linking a child table has no tracepoint, but follows a page that was looked up: then, under
/// `mmu_lock`, the path from the root to `gva` is read and its upper entries are recorded.
#[inline(always)]
pub fn record_links(vcpu: &mut Vcpu, gva: Gva) {
    if vcpu.linking == 0 {
        return;
    }
    vcpu.linking = 0;
    let mut table = vcpu.root;
    let mut level = vcpu.root_level;
    // From level 5 down to 2: the leaf's own table needs no link below it.
    for _ in 0..4 {
        if level < 2 {
            break;
        }
        let Some(index) = Level(level).index(gva) else { break };
        let sptep = Hpa(table.0 + 8 * u64::from(index));
        let Some(spte) = read::<u64>(direct_map(sptep), 0).map(Spte) else {
            lose(Probe::Read);
            break;
        };
        if !spte.is_shadow_present() || spte.is_leaf(Level(level)) {
            break;
        }
        record(vcpu, Cause::Link, sptep, spte, level, Gfn(0));
        table = spte.child();
        level -= 1;
    }
}

/// Reads the roots in use, and records them if they are not those of the last fault.
#[inline(always)]
pub fn update_root(vcpu: &mut Vcpu) -> Option<()> {
    let cr3: u64 = read(vcpu.vcpu_ptr, offset!(vcpu_cr3))?;
    let mmu: u64 = read(vcpu.vcpu_ptr, offset!(vcpu_mmu))?;
    let root: u64 = read(mmu, offset!(mmu_root_hpa))?;
    if cr3 == vcpu.cr3.0 && root == vcpu.root.0 {
        return Some(());
    }
    let role: u32 = read(mmu, offset!(mmu_root_role))?;
    vcpu.cr3.0 = cr3;
    vcpu.root.0 = root;
    vcpu.root_level = role_level(role);
    let mut entry = reserve::<Root>(RecordKind::Root, Probe::Root, vcpu.vm, vcpu.vcpu, now())?;
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).cr3 = vcpu.cr3;
        (*record).root = vcpu.root;
        (*record).level = vcpu.root_level;
        (*record).reserved = [0; 7];
    }
    submit(entry);
    Some(())
}
