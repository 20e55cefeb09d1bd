//! A small VMM: runs one workload's guest and the actors that disturb it, whatever the guest does.
//!
//! ```text
//! mod       Vmm: creation and queries               run          a run, with its threads
//! memory    guest RAM                               shared       what all threads of a run share
//! mapping   the host's memory of it                 vcpu         the loop around KVM_RUN
//! slots     memslots, past ones included            exit         interprets a KVM exit (pure)
//! image     loads the guest's ELF image             call         interprets a guest's call (pure)
//! boot      page tables, GDT, TSS, registers        mmio         serves accesses that KVM cannot
//! regs      prints registers                        lifecycle    which vCPUs run, what failed
//! stats     KVM's own counters                      world        stops all vCPUs and actors
//! actors    what the host does to the guest         disturbance  memory that is away for a moment
//! hooks     callbacks of a run                      lock         locks that outlive a panic
//! error     all errors
//! ```
//!
//! It knows KVM, guest memory and the contract in `abi`. It does not know about tracing: a caller
//! that wants to act when a phase begins passes [`Hooks`].
//!
//! The guest is assumed to be hostile. It can reach its own memory and one port; every number that
//! it sends is checked, and each misbehaviour ends in a [`VmmError`].

mod actors;
mod boot;
mod call;
mod disturbance;
mod error;
mod exit;
mod hooks;
mod image;
mod lifecycle;
mod lock;
mod mapping;
mod memory;
mod mmio;
mod regs;
mod run;
mod shared;
mod slots;
mod stats;
mod vcpu;
mod world;

#[cfg(test)]
mod kvm_tests;
#[cfg(test)]
mod smp_tests;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use kvm_bindings::{
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_X86_SMM, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
    KVM_MAX_CPUID_ENTRIES, KVMIO, kvm_enable_cap,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vmm_sys_util::ioctl::ioctl_with_val;
use vmm_sys_util::ioctl_io_nr;
use workloads::{Actor, Plan};

pub use error::VmmError;
pub use hooks::{HookError, Hooks, HostAct, HostActKind, Stops};
pub use run::GuestResult;
pub use slots::Memslot;
pub use stats::KvmStats;

use memory::Ram;
use slots::Slots;
use stats::StatsFile;

ioctl_io_nr!(KVM_SET_NR_MMU_PAGES, KVMIO, 0x44);

/// A VM with one vCPU and no memory that never runs, to inspect KVM's objects.
///
/// # Errors
/// As [`Vmm::new`].
pub fn spare() -> Result<(VmFd, VcpuFd), VmmError> {
    let kvm = Kvm::new().map_err(VmmError::no_kvm)?;
    let vm = kvm.create_vm().map_err(VmmError::CreateVm)?;
    let vcpu = vm.create_vcpu(0).map_err(VmmError::CreateVcpu)?;
    Ok((vm, vcpu))
}

/// A virtual machine with one workload loaded, ready to run once.
///
/// It has the memslots and vCPUs of its plan, no interrupt controller and no devices. Its memory is
/// not prefaulted.
#[derive(Debug)]
pub struct Vmm {
    // Dropped in this order: no vCPU exists any more when the memory is unmapped.
    vcpus: Vec<VcpuFd>,
    vm: VmFd,
    vm_stats: StatsFile,
    vcpu_stats: Vec<StatsFile>,
    slots: Slots,
    ram: Ram,
    plan: Plan,
    /// Dirty bits are cleared with `KVM_CLEAR_DIRTY_LOG`.
    manual_dirty_log: bool,
    /// `/proc/self/pagemap`, if an actor verifies the dirty log.
    pagemap: Option<File>,
    confined: bool,
}

impl Vmm {
    /// Opens `/dev/kvm`, creates the VM and loads the workload's guest.
    ///
    /// # Errors
    /// See [`VmmError`]; [`VmmError::host_cannot`] says whether this host can run VMs at all.
    pub fn new(plan: &Plan) -> Result<Self, VmmError> {
        let kvm = Kvm::new().map_err(VmmError::no_kvm)?;
        let version = kvm.get_api_version();
        if version != 12 {
            return Err(VmmError::ApiVersion { found: version });
        }
        let vm = kvm.create_vm().map_err(VmmError::CreateVm)?;
        if vm.check_extension(Cap::SetTssAddr) {
            vm.set_tss_address(boot::TSS_ADDRESS)
                .map_err(VmmError::SetTssAddr)?;
        }
        let manual_dirty_log = manual_dirty_log(&vm, plan)?;

        let ram = Ram::new(&plan.host.slots)?;
        actors::check(plan, &ram)?;
        let slots = Slots::of(&ram, &vm)?;
        if plan.host.smm {
            if vm.check_extension_raw(KVM_CAP_X86_SMM.into()) <= 0 {
                return Err(VmmError::NoSmm);
            }
            slots::also_in_smm(&ram, &vm)?;
        }
        if let Some(pages) = plan.host.mmu_pages {
            set_mmu_pages(&vm, pages)?;
        }
        let entry = image::load(workloads::GUEST_IMAGE, &ram)?;
        boot::write(&ram, &plan.boot_info)?;

        let mut cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(VmmError::GetCpuid)?;
        boot::hide_virtualization(&mut cpuid);
        boot::check_features(&cpuid, plan)?;
        let cpus = u16::try_from(plan.boot_info.vcpus).unwrap_or(u16::MAX);
        if !(1..=abi::MAX_VCPUS).contains(&cpus) {
            let what = format!("{cpus} vCPUs; 1 to {} are possible", abi::MAX_VCPUS);
            return Err(VmmError::plan(what));
        }
        let (mut vcpus, mut vcpu_stats) = (Vec::new(), Vec::new());
        for cpu in 0..cpus {
            let vcpu = vm.create_vcpu(cpu.into()).map_err(VmmError::CreateVcpu)?;
            vcpu.set_cpuid2(&cpuid).map_err(VmmError::SetCpuid)?;
            boot::set_registers(&vcpu, cpu, entry)?;
            vcpu_stats.push(StatsFile::open(&vcpu)?);
            vcpus.push(vcpu);
        }

        Ok(Self {
            vm_stats: StatsFile::open(&vm)?,
            vcpu_stats,
            vcpus,
            vm,
            slots,
            ram,
            plan: plan.clone(),
            manual_dirty_log,
            pagemap: actors::pagemap(plan)?,
            confined: false,
        })
    }

    /// Makes [`Vmm::run`] confine the vCPUs' threads with seccomp, and so the hooks that run on
    /// them: see [`crate::confine`] for what they may do.
    #[must_use]
    pub fn confined(mut self) -> Self {
        self.confined = true;
        self
    }

    /// File descriptor of the VM, open as long as the `Vmm` lives.
    #[must_use]
    pub fn vm_fd(&self) -> RawFd {
        self.vm.as_raw_fd()
    }

    /// File descriptors of the vCPUs, by number, open as long as the `Vmm` lives.
    #[must_use]
    pub fn vcpu_fds(&self) -> Vec<RawFd> {
        self.vcpus.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Every memslot so far, past ones included.
    #[must_use]
    pub fn memslots(&self) -> Vec<Memslot> {
        self.slots.all()
    }

    /// The current values of KVM's counters.
    ///
    /// # Errors
    /// [`VmmError::ReadStats`].
    pub fn stats(&self) -> Result<KvmStats, VmmError> {
        let vcpus = self.vcpu_stats.iter().map(StatsFile::read);
        Ok(KvmStats {
            vm: self.vm_stats.read()?,
            vcpus: vcpus.collect::<Result<_, _>>()?,
        })
    }

    /// What each vCPU's clock says of its accesses to the work range, unchecked.
    ///
    /// # Errors
    /// [`VmmError::GuestMemory`].
    pub fn touches(&self) -> Result<Vec<abi::Touches>, VmmError> {
        let cpus = (0..).take(self.vcpus.len());
        cpus.map(|cpu| self.ram.touches(cpu)).collect()
    }

    /// The times of the batches of `micro`, unchecked.
    ///
    /// # Errors
    /// [`VmmError::GuestMemory`].
    pub fn batches(&self) -> Result<abi::Batches, VmmError> {
        self.ram.batches()
    }

    /// Frequency of the guest's time-stamp counter in kHz; `None` if KVM does not know it.
    #[must_use]
    pub fn tsc_khz(&self) -> Option<u32> {
        self.vcpus
            .first()?
            .get_tsc_khz()
            .ok()
            .filter(|&khz| khz > 0)
    }
}

/// Limits the number of shadow pages.
fn set_mmu_pages(vm: &VmFd, pages: u64) -> Result<(), VmmError> {
    // SAFETY: the argument is a number.
    if unsafe { ioctl_with_val(vm, KVM_SET_NR_MMU_PAGES(), pages) } < 0 {
        let source = io::Error::last_os_error();
        return Err(VmmError::SetMmuPages { pages, source });
    }
    Ok(())
}

/// Enables `KVM_CLEAR_DIRTY_LOG`, if an actor needs it and KVM has it.
fn manual_dirty_log(vm: &VmFd, plan: &Plan) -> Result<bool, VmmError> {
    let wanted = |actor: &Actor| matches!(actor, Actor::DirtyLog { clear: true, .. });
    let cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
    if !plan.host.actors.iter().any(wanted) || vm.check_extension_raw(cap.into()) <= 0 {
        return Ok(false);
    }
    let mut enable = kvm_enable_cap {
        cap,
        ..kvm_enable_cap::default()
    };
    enable.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE.into();
    vm.enable_cap(&enable).map_err(VmmError::ManualDirtyLog)?;
    Ok(true)
}
