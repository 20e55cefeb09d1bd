//! Everything that needs root, in the order in which it can fail.

use std::os::fd::BorrowedFd;

use anyhow::Context as _;
use trace::Meta;

use super::{Options, metadata};
use crate::{
    failure::Failure,
    host::{self, Paging},
    probes,
    recording::{self, Bar, Kernel},
    vmm::{Vmm, VmmError},
};

/// What is left when root is dropped.
pub struct Setup {
    pub vmm: Vmm,
    pub kernel: Kernel,
    pub meta: Meta,
}

/// Loads the probes, then makes the VM.
pub fn prepare(options: &Options) -> Result<Setup, Failure> {
    recording::check_root()?;
    if host::paging() == Paging::TwoDimensional {
        return Err(recording::two_dimensional());
    }
    let bar = Bar::of_work("loading the probes", options.json)?;
    let mut kernel = Kernel::load(options.ring_bytes, options.verbose)?;
    kernel.attach()?;
    // Its thread must have ended before root is dropped.
    drop(bar);

    // Made only now: while probes are loaded, this process has no VM that others may stop.
    let vmm = Vmm::new(&options.plan).map_err(vm_failed)?;
    let vcpu_fds = vmm.vcpu_fds();
    let vcpu = vcpu_fds.first().context("the VM has no vCPU")?;
    // SAFETY: open as long as `vmm` lives, which outlives this.
    let vcpu = unsafe { BorrowedFd::borrow_raw(*vcpu) };
    if probes::is_two_dimensional(&kernel.resolved, vcpu).map_err(recording::cannot)? {
        return Err(recording::two_dimensional());
    }

    let before = vmm
        .stats()
        .context("while reading KVM's counters before the start")?;
    let meta = metadata::start(options, &vmm, &before, &kernel);
    Ok(Setup { vmm, kernel, meta })
}

/// A VM that could not be made.
pub fn vm_failed(error: VmmError) -> Failure {
    if error.host_cannot() {
        recording::cannot(error)
    } else {
        Failure::failed(error)
    }
}
