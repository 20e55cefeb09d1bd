//! Which tables a vCPU runs on.

use aya_ebpf::{macros::kretprobe, programs::RetProbeContext};
use events::{
    Gpa, Gva, Hpa, KeyframeRoot, PDPTES, PaeRoot, Probe, Root, Spte, Vcpu, VcpuKey,
    constants::{INVALID_PAGE, PAE_ROOT_LEVEL, VCPU_REGS_RIP},
};

use crate::{
    faults::emit,
    kernel::{Window, config, direct_map, field, now, offset, read, role_level},
    nested,
    ring::{lose, reserve, submit, try_reserve},
    vcpus,
};

/// Bit of RIP in `regs_avail`: VMX reads RIP only when KVM asks for it.
const RIP_AVAILABLE: u32 = 1 << VCPU_REGS_RIP;

/// Reads RIP and the roots in use, once for each fault, and records the roots if they are not
/// those last recorded.
#[inline(never)]
pub fn update(vcpu: &mut Vcpu) -> Option<()> {
    if vcpu.rooted != 0 {
        return Some(());
    }
    vcpu.rooted = 1;
    // RIP is the last of the registers; the marks of which are valid and CR3 follow closely.
    let keeps_rip = config!(keeps_rip) != 0;
    let rip = offset!(vcpu_regs).plus(8 * VCPU_REGS_RIP);
    let from = if keeps_rip { rip } else { offset!(vcpu_cr3) };
    let arch = Window::<48>::read(vcpu.vcpu_ptr, from)?;
    let cr3: u64 = arch.get(offset!(vcpu_cr3))?;
    vcpu.fault.known &= !events::Fault::RIP;
    if keeps_rip && arch.get::<u32>(offset!(vcpu_regs_avail))? & RIP_AVAILABLE != 0 {
        vcpu.fault.rip = Gva(arch.get(rip)?);
        vcpu.fault.known |= events::Fault::RIP;
    }
    let mmu = Mmu::read(vcpu.vcpu_ptr)?;
    record(vcpu, mmu.guest_root(cr3), &mmu)
}

/// What the MMU whose tables are recorded says of its root.
struct Mmu {
    pgd: u64,
    root: u64,
    role: u32,
}

impl Mmu {
    #[inline(always)]
    fn read(vcpu_ptr: u64) -> Option<Self> {
        let mmu: u64 = match nested::only() {
            true => nested::mmu(vcpu_ptr)?,
            false => field(vcpu_ptr, offset!(vcpu_mmu))?,
        };
        let mmu = Window::<40>::read(mmu, offset!(mmu_root_pgd))?;
        Some(Self {
            pgd: mmu.get(offset!(mmu_root_pgd))?,
            root: mmu.get(offset!(mmu_root_hpa))?,
            role: mmu.get(offset!(mmu_root_role))?,
        })
    }

    /// The root of the tables that are shadowed: the guest's CR3, or the nested CR3 that the guest
    /// hypervisor has given its guest.
    #[inline(always)]
    fn guest_root(&self, cr3: u64) -> u64 {
        if nested::only() { self.pgd } else { cr3 }
    }
}

/// The roots that a vCPU holds: the one in use, and those that KVM keeps for a CR3 that comes back.
pub struct Roots {
    /// Their addresses, or `INVALID_PAGE`.
    pub tables: [u64; 1 + PREVIOUS],
    /// Their level.
    pub level: u8,
}

/// `KVM_MMU_NUM_PREV_ROOTS`.
const PREVIOUS: usize = 3;

/// All roots of the vCPU.
#[inline(always)]
pub fn all(vcpu_ptr: u64) -> Option<Roots> {
    let mmu: u64 = field(vcpu_ptr, offset!(vcpu_mmu))?;
    let root = field(mmu, offset!(mmu_root_hpa))?;
    let role = field(mmu, offset!(mmu_root_role))?;
    // Each has the guest's root before the address of its shadow.
    let [[_, first], [_, second], [_, third]] =
        field::<[[u64; 2]; PREVIOUS]>(mmu, offset!(mmu_prev_roots))?;
    Some(Roots {
        tables: [root, first, second, third],
        level: role_level(role),
    })
}

/// Records the roots if they are not those last recorded.
#[inline(always)]
fn record(vcpu: &mut Vcpu, cr3: u64, mmu: &Mmu) -> Option<()> {
    if mmu.root == INVALID_PAGE || (cr3 == vcpu.fault.cr3.0 && mmu.root == vcpu.fault.root.0) {
        return Some(());
    }
    vcpu.fault.cr3 = Gpa(cr3);
    vcpu.fault.root = Hpa(mmu.root);
    vcpu.root_level = role_level(mmu.role);
    // Without room it is counted as lost, and the roots are known all the same.
    let Some(mut entry) = reserve::<Root>(vcpu.vm, vcpu.vcpu, now()) else {
        return Some(());
    };
    let row = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*row).cr3 = vcpu.fault.cr3;
        (*row).root = vcpu.fault.root;
        (*row).level = vcpu.root_level;
        (*row).reserved = [0; 3];
        (*row).reserved_word = 0;
    }
    submit(entry);
    Some(())
}

/// Records the root that was loaded. A PAE root keeps its address for as long as the vCPU lives:
/// only its entries show what was loaded.
#[inline(always)]
fn loaded(vcpu: &mut Vcpu, mmu: &Mmu) -> Option<()> {
    if mmu.root == INVALID_PAGE || role_level(mmu.role) != PAE_ROOT_LEVEL {
        return record(vcpu, mmu.pgd, mmu);
    }
    vcpu.fault.cr3 = Gpa(mmu.pgd);
    vcpu.fault.root = Hpa(mmu.root);
    vcpu.root_level = PAE_ROOT_LEVEL;
    let pdptes: [Spte; PDPTES] = read(direct_map(vcpu.fault.root))?;
    let Some(mut entry) = reserve::<PaeRoot>(vcpu.vm, vcpu.vcpu, now()) else {
        return Some(());
    };
    let row = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*row).root.cr3 = vcpu.fault.cr3;
        (*row).root.root = vcpu.fault.root;
        (*row).root.level = vcpu.root_level;
        (*row).root.reserved = [0; 3];
        (*row).root.reserved_word = 0;
        (*row).pdptes = pdptes;
    }
    submit(entry);
    Some(())
}

// kvm_mmu_load(struct kvm_vcpu *vcpu) and kvm_mmu_new_pgd(struct kvm_vcpu *vcpu, gpa_t new_pgd),
// done. The latter comes before `arch.cr3` is set, so the guest's root is the one that the shadow
// root is for.
#[kretprobe]
pub fn root_changed(_: RetProbeContext) -> u32 {
    if let Some(vcpu) = vcpus::current() {
        // The roots are part of the record that waits.
        emit(vcpu);
        if Mmu::read(vcpu.vcpu_ptr)
            .and_then(|mmu| loaded(vcpu, &mmu))
            .is_none()
        {
            lose(Probe::Read);
        }
    }
    0
}

/// Whether a nested guest has run on the vCPU, and its shadow root is still there.
#[inline(always)]
pub fn has_nested(vcpu_ptr: u64) -> bool {
    let root = nested::mmu(vcpu_ptr).and_then(|mmu| field(mmu, offset!(mmu_root_hpa)));
    root.is_some_and(|root: u64| root != INVALID_PAGE)
}

/// Records the root of a vCPU that is stopped, as part of a keyframe. One without a root has no
/// record.
#[inline(always)]
pub fn copy(key: VcpuKey, keyframe: u32) -> Option<()> {
    let vcpu_ptr = vcpus::vcpu_struct(key)?;
    let mmu = Mmu::read(vcpu_ptr)?;
    if mmu.root == INVALID_PAGE {
        return Some(());
    }
    let cr3 = mmu.guest_root(field(vcpu_ptr, offset!(vcpu_cr3))?);
    let level = role_level(mmu.role);
    let pdptes: [Spte; PDPTES] = match level {
        PAE_ROOT_LEVEL => read(direct_map(Hpa(mmu.root)))?,
        _ => [Spte(0); PDPTES],
    };
    let mut entry = try_reserve::<KeyframeRoot>(key.vm, key.vcpu, now())?;
    let row = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*row).root.cr3 = Gpa(cr3);
        (*row).root.root = Hpa(mmu.root);
        (*row).root.level = level;
        (*row).root.reserved = [0; 3];
        (*row).root.reserved_word = 0;
        (*row).pdptes = pdptes;
        (*row).keyframe = keyframe;
        (*row).reserved = 0;
    }
    submit(entry);
    Some(())
}
