//! Everything that needs root, in the order in which it can fail.

use std::{os::fd::BorrowedFd, path::Path};

use anyhow::{Context as _, anyhow};
use events::RoleLayout;
use trace::{Meta, TraceError};

use super::{Order, metadata};
use crate::{
    failure::Failure,
    host::{self, Paging},
    privileges,
    probes::{self, KernelTypes, ProbeLog, Probes, RequestError, Ring},
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
    pub layout: RoleLayout,
    pub logger: Option<ProbeLog>,
}

/// Before anything else, since it costs nothing to ask.
pub fn check_output(output: &Path) -> Result<(), Failure> {
    if output.symlink_metadata().is_ok() {
        return Err(Failure::failed(TraceError::Exists {
            path: output.to_owned(),
        }));
    }
    Ok(())
}

/// Makes the VM, then attaches the probes to it.
pub fn prepare(order: &Order) -> Result<Setup, Failure> {
    check_host()?;
    let types = KernelTypes::running()
        .map_err(|error| Failure::host(error).hint("`collector doctor` says more"))?;
    let resolved = types
        .resolve()
        .map_err(|error| Failure::host(error).hint("`collector doctor` says more"))?;
    let vmm = Vmm::new(&order.plan).map_err(vm_failed)?;

    // SAFETY: open as long as `vmm` lives, which outlives this.
    let vcpu = unsafe { BorrowedFd::borrow_raw(vmm.vcpu_fd()) };
    let page_offset = probes::page_offset(&resolved, vcpu).map_err(|error| match error {
        RequestError::TwoDimensional => two_dimensional(),
        error => Failure::host(error).hint("`collector doctor` says more"),
    })?;
    let mut config = resolved.config;
    config.page_offset = [page_offset as u32, (page_offset >> 32) as u32];
    config.walk_bits = if host::emulates_guest_kernel() {
        PFERR_USER
    } else {
        0
    };

    let (mut probes, ring) = Probes::load(&config, order.ring_bytes, order.verbose)
        .map_err(|error| Failure::host(error).hint("`collector doctor` says more"))?;
    let logger = order
        .verbose
        .then(|| ProbeLog::new(&mut probes))
        .transpose()?;
    probes
        .attach(&types, host::platform())
        .map_err(|error| Failure::host(error).hint("`collector doctor` says more"))?;

    let before = vmm
        .stats()
        .context("while reading KVM's counters before the start")?;
    let meta = metadata::start(order, &vmm, &before, &probes, &resolved);
    let layout = meta.role_layout();
    Ok(Setup {
        vmm,
        kernel: Kernel {
            probes,
            ring,
            layout,
            logger,
        },
        meta,
    })
}

fn check_host() -> Result<(), Failure> {
    if !privileges::is_root() {
        return Err(
            Failure::host(anyhow!("loading probes and opening /dev/kvm needs root"))
                .hint("run it with sudo"),
        );
    }
    match host::paging() {
        Paging::Shadow => Ok(()),
        // `Vmm::new` says what is missing.
        Paging::None => Ok(()),
        Paging::TwoDimensional => Err(two_dimensional()),
    }
}

fn two_dimensional() -> Failure {
    let command = host::shadow_paging_command(host::vendor_module().unwrap_or_default());
    Failure::host(RequestError::TwoDimensional).hint(format!("with no VM running: {command}"))
}

/// A VM that could not be made.
pub fn vm_failed(error: VmmError) -> Failure {
    if error.host_cannot() {
        Failure::host(error).hint("`collector doctor` says more")
    } else {
        Failure::failed(error)
    }
}
