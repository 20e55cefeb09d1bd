//! SPTEs that change beside the leaf of a fault.

use events::{Cause, Entry, Gfn, Gva, Hpa, Level, Probe, RecordKind, Root, Spte, Vcpu};

use crate::{
    kernel::{Window, config, direct_map, now, offset, read, role_level},
    ring::{lose, reserve, submit},
};

/// `VCPU_REGS_RIP`.
const RIP: u32 = 16;
/// Bit of `VCPU_REGS_RIP` in `regs_avail`: VMX reads RIP only when KVM asks for it.
const RIP_AVAILABLE: u32 = 1 << RIP;

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
    if vcpu.linking != 0 {
        vcpu.linking = 0;
        walk(vcpu, gva, true);
    }
}

/// Records the leaf entry of `gva` as it is now, if there is a table for it.
#[inline(always)]
pub fn reread_leaf(vcpu: &Vcpu, gva: Gva) {
    walk(vcpu, gva, false);
}

/// The path of `gva`: its upper entries are recorded, or the leaf at its end.
#[inline(always)]
fn walk(vcpu: &Vcpu, gva: Gva, links: bool) {
    let mut table = vcpu.root;
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
        let end = level == 1 || !spte.is_shadow_present() || spte.is_leaf(Level(level));
        match (links, end) {
            (true, false) => record(vcpu, Cause::Link, sptep, spte, level, Gfn(0)),
            (false, true) => record(
                vcpu,
                Cause::Reread,
                sptep,
                spte,
                level,
                vcpu.gptes[0].gpa().gfn(),
            ),
            _ => {}
        }
        if end {
            break;
        }
        table = spte.child();
        level -= 1;
    }
}

/// Reads RIP and the roots in use, and records the roots if they are not those of the last fault.
#[inline(always)]
pub fn update_root(vcpu: &mut Vcpu) -> Option<()> {
    // RIP is the last of the registers; the marks of which are valid and CR3 follow closely.
    let keeps_rip = config!(keeps_rip) != 0;
    let rip = offset!(vcpu_regs).wrapping_add(8 * RIP);
    let from = if keeps_rip { rip } else { offset!(vcpu_cr3) };
    let arch = Window::<48>::read(vcpu.vcpu_ptr, from)?;
    let cr3: u64 = arch.get(offset!(vcpu_cr3))?;
    vcpu.has_rip = 0;
    if keeps_rip && arch.get::<u32>(offset!(vcpu_regs_avail))? & RIP_AVAILABLE != 0 {
        vcpu.rip = Gva(arch.get(rip)?);
        vcpu.has_rip = 1;
    }
    let mmu: u64 = read(vcpu.vcpu_ptr, offset!(vcpu_mmu))?;
    let mmu = Window::<32>::read(mmu, offset!(mmu_root_hpa))?;
    let root: u64 = mmu.get(offset!(mmu_root_hpa))?;
    if cr3 == vcpu.cr3.0 && root == vcpu.root.0 {
        return Some(());
    }
    let role: u32 = mmu.get(offset!(mmu_root_role))?;
    vcpu.cr3.0 = cr3;
    vcpu.root.0 = root;
    vcpu.root_level = role_level(role);
    // Without room it is counted as lost, and the roots are known all the same.
    let Some(mut entry) = reserve::<Root>(RecordKind::Root, Probe::Root, vcpu.vm, vcpu.vcpu, now())
    else {
        return Some(());
    };
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
