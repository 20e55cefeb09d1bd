//! Everything that needs root, in the order in which it can fail.

use std::{os::fd::BorrowedFd, path::Path};

use anyhow::{Context as _, anyhow};
use events::RoleLayout;
use trace::{Meta, TraceError};

use super::{Order, VCPU, VM, metadata};
use crate::{
    failure::Failure,
    host::{self, Paging},
    privileges,
    probes::{KernelTypes, ProbeLog, Probes, Ring, Target},
    vmm::{Vmm, VmmError},
};

/// `PFERR_USER_MASK`: the access came from CPL 3.
const PFERR_USER: u32 = 1 << 2;

/// What is left when root is given up.
pub struct Setup {
    pub vmm: Vmm,
    pub kernel: Kernel,
    pub meta: Meta,
}

/// The kernel side, attached.
pub struct Kernel {
    pub probes: Probes,
    pub ring: Ring,
    pub target: Target,
    pub layout: RoleLayout,
    pub logger: Option<ProbeLog>,
}

/// Before anything else, since it costs nothing to ask.
pub fn check_output(output: &Path) -> Result<(), Failure> {
    if output.symlink_metadata().is_ok() {
        return Err(Failure::failed(TraceError::Exists { path: output.to_owned() }));
    }
    Ok(())
}

/// Makes the VM, then attaches the probes to it.
pub fn prepare(order: &Order) -> Result<Setup, Failure> {
    check_host()?;
    let types = KernelTypes::running().map_err(|error| Failure::host(error).hint("`collector doctor` says more"))?;
    let resolved = types.resolve().map_err(|error| Failure::host(error).hint("`collector doctor` says more"))?;
    let vmm = Vmm::new(&order.plan).map_err(vm_failed)?;

    // SAFETY: both descriptors are open as long as `vmm` lives, which outlives these.
    let (vm, vcpu) = unsafe { (BorrowedFd::borrow_raw(vmm.vm_fd()), BorrowedFd::borrow_raw(vmm.vcpu_fd())) };
    let target = Target::find(&resolved.config, vm, vcpu)
        .map_err(|error| Failure::host(error).hint("`collector doctor` says more"))?;
    let mut config = resolved.config;
    config.page_offset = target.page_offset;
    config.walk_bits = if host::emulates_guest_kernel() { PFERR_USER } else { 0 };

    let (mut probes, ring) = Probes::load(&config, order.ring_bytes, order.verbose)
        .map_err(|error| Failure::host(error).hint("`collector doctor` says more"))?;
    let logger = order.verbose.then(|| ProbeLog::new(&mut probes)).transpose()?;
    probes.attach().map_err(|error| Failure::host(error).hint("`collector doctor` says more"))?;

    let before = vmm.stats().context("while reading KVM's counters before the start")?;
    let meta = metadata::start(order, &vmm, &before, &probes, &resolved);
    let layout = meta.role_layout();
    Ok(Setup { vmm, kernel: Kernel { probes, ring, target, layout, logger }, meta })
}

fn check_host() -> Result<(), Failure> {
    if !privileges::is_root() {
        return Err(Failure::host(anyhow!("loading probes and opening /dev/kvm needs root")).hint("run it with sudo"));
    }
    match host::paging() {
        Paging::Shadow => Ok(()),
        // `Vmm::new` says what is missing.
        Paging::None => Ok(()),
        Paging::TwoDimensional => {
            let error = anyhow!("KVM on this host uses two-dimensional paging (EPT or NPT): there are no shadow tables");
            let command = host::shadow_paging_command().unwrap_or("turn EPT or NPT off");
            Err(Failure::host(error).hint(format!("with no VM running: {command}")))
        }
    }
}

/// A VM that could not be made.
pub fn vm_failed(error: VmmError) -> Failure {
    if error.host_cannot() {
        Failure::host(error).hint("`collector doctor` says more")
    } else {
        Failure::failed(error)
    }
}

/// Tells the probes which thread is the vCPU's; to be called on it.
pub fn trace_this_thread(probes: &Probes, target: &Target) -> anyhow::Result<()> {
    let thread = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).context("a thread id")?;
    probes.trace_thread(thread, target, VM, VCPU).context("while naming the vCPU's thread to the probes")
}
