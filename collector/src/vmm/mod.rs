//! A small VMM: runs one workload's guest on one vCPU, and survives whatever it does.
//!
//! ```text
//! mod       Vmm: build it, ask it, run it           run       the loop around KVM_RUN
//! memory    guest RAM and its one memslot           exit      what a KVM exit means (pure)
//! image     the guest's ELF image into RAM          call      what a guest's call means (pure)
//! boot      page tables, GDT, TSS, registers        watchdog  time-out, cancel, ticks
//! regs      registers, readable                     seccomp   confines the vCPU's thread
//! stats     KVM's own counters                      error     everything that can go wrong
//! ```
//!
//! It knows KVM, guest memory and the contract in `abi`. It does not know that anything
//! is traced: whoever wants to act when a phase begins passes [`Hooks`].
//!
//! The guest is hostile by assumption. All it can reach is its own memory and one port;
//! every number it sends is checked, and each of its misdeeds ends in a [`VmmError`].

mod boot;
mod call;
mod error;
mod exit;
mod image;
mod memory;
mod regs;
mod run;
mod seccomp;
mod stats;
mod watchdog;

#[cfg(test)]
mod kvm_tests;

use std::os::fd::{AsRawFd, RawFd};

use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_memory::GuestAddress;

pub use error::VmmError;
pub use regs::Regs;
pub use run::{GuestResult, HookError, Hooks};
pub use stats::KvmStats;

use memory::Ram;
use stats::StatsFile;

/// A part of guest memory as KVM knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memslot {
    /// KVM's slot number.
    pub id: u32,
    /// First guest-physical byte.
    pub base: GuestAddress,
    /// Size in bytes.
    pub bytes: u64,
    /// Where it starts in this process: the host-virtual address of `base`.
    pub hva: u64,
}

/// A VM with one vCPU and no memory, which never runs: something of KVM's to look at.
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
/// It has one memslot, of ordinary 4 KiB pages that nobody has touched yet (no huge
/// pages, not prefaulted), no interrupt controller and no devices.
#[derive(Debug)]
pub struct Vmm {
    // Dropped in this order: nothing runs any more when the memory goes.
    vcpu: VcpuFd,
    vm: VmFd,
    vm_stats: StatsFile,
    vcpu_stats: StatsFile,
    ram: Ram,
    confined: bool,
}

impl Vmm {
    /// Opens `/dev/kvm`, makes the VM and loads the workload's guest.
    ///
    /// # Errors
    /// [`VmmError::NoKvm`] and its neighbours: this host cannot do it. Anything else: what
    /// failed on the way.
    pub fn new(plan: &workloads::Plan) -> Result<Self, VmmError> {
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

        let ram = Ram::new(plan.memory_bytes)?;
        ram.register(&vm)?;
        let entry = image::load(workloads::GUEST_IMAGE, &ram)?;
        boot::write(&ram, &plan.boot_info)?;

        let vcpu = vm.create_vcpu(0).map_err(VmmError::CreateVcpu)?;
        let mut cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(VmmError::GetCpuid)?;
        boot::hide_virtualization(&mut cpuid);
        vcpu.set_cpuid2(&cpuid).map_err(VmmError::SetCpuid)?;
        boot::set_registers(&vcpu, 0, entry)?;

        Ok(Self {
            vm_stats: StatsFile::open(&vm)?,
            vcpu_stats: StatsFile::open(&vcpu)?,
            vcpu,
            vm,
            ram,
            confined: false,
        })
    }

    /// Makes [`Vmm::run`] confine its thread by seccomp, for good, once the watchdog runs:
    /// see `seccomp.rs` for what is left to the thread (and so to the hooks).
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

    /// File descriptor of vCPU 0, open as long as the `Vmm` lives.
    #[must_use]
    pub fn vcpu_fd(&self) -> RawFd {
        self.vcpu.as_raw_fd()
    }

    /// The memslots: exactly one.
    #[must_use]
    pub fn memslots(&self) -> Vec<Memslot> {
        vec![self.ram.memslot()]
    }

    /// KVM's own counters, as they stand now.
    ///
    /// # Errors
    /// [`VmmError::ReadStats`].
    pub fn stats(&self) -> Result<KvmStats, VmmError> {
        Ok(KvmStats {
            vm: self.vm_stats.read()?,
            vcpus: vec![self.vcpu_stats.read()?],
        })
    }

    /// Frequency of the guest's time-stamp counter, kHz; `None` if KVM does not tell.
    #[must_use]
    pub fn tsc_khz(&self) -> Option<u32> {
        self.vcpu.get_tsc_khz().ok().filter(|&khz| khz > 0)
    }
}
