//! The kernel side of a recording. Everything here needs root.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::anyhow;
use events::ErrorCode;

use crate::{
    failure::Failure,
    host, privileges,
    probes::{
        self, CounterNames, KernelTypes, ProbeLog, Probes, RequestError, Resolved, Ring, Room,
    },
    program, vmm,
};

/// Loaded probes, and what was learned on the way.
pub struct Kernel {
    /// The probes.
    pub probes: Probes,
    /// Their records.
    pub ring: Ring,
    /// The kernel's types.
    types: KernelTypes,
    /// Where the kernel's fields are.
    pub resolved: Resolved,
    /// Where KVM's counters are.
    pub counters: CounterNames,
    /// What the probes have to say, with `-v`.
    pub logger: Option<ProbeLog>,
}

impl Kernel {
    /// The kernel's types.
    pub fn types() -> Result<(KernelTypes, Resolved), Failure> {
        let types = KernelTypes::running().map_err(cannot)?;
        let resolved = types.resolve().map_err(cannot)?;
        Ok((types, resolved))
    }

    /// Loads the probes.
    pub fn load(ring_bytes: u32, verbose: bool) -> Result<Self, Failure> {
        let (types, resolved) = Self::types()?;
        let page_offset = page_offset(&resolved)?;
        let counters = CounterNames::of(&types);
        let mut config = resolved.config;
        // x86 is little-endian: the low half comes first.
        config.page_offset = bytemuck::cast(page_offset);
        [config.vm_counters, config.vcpu_counters] = counters.places();
        config.walk_bits = if host::emulates_guest_kernel() {
            ErrorCode::USER
        } else {
            ErrorCode::NONE
        };
        config.nested_only = u32::from(host::mode().is_nested());
        let planned = Probes::planned(&types, host::platform());
        let room = Room::new(ring_bytes, host::platform(), host::memory_pages());
        let (mut probes, ring) = Probes::load(&config, room, verbose, &planned).map_err(cannot)?;
        let logger = verbose.then(|| ProbeLog::new(&mut probes)).transpose()?;
        Ok(Self {
            probes,
            ring,
            types,
            resolved,
            counters,
            logger,
        })
    }

    /// Attaches the probes of the plan.
    pub fn attach(&mut self) -> Result<(), Failure> {
        let platform = host::platform();
        self.probes.attach(&self.types, platform).map_err(cannot)
    }

    /// Attaches what follows the vCPUs of other processes.
    pub fn attach_running(&mut self) -> Result<(), Failure> {
        let platform = host::platform();
        let attached = self.probes.attach_running(&self.types, platform);
        attached.map_err(cannot)
    }
}

/// The start of the kernel's direct map. The VM that shows it ends here: another collector stops
/// processes that have a VM for its keyframes, and the verifier gives up at each stop.
fn page_offset(resolved: &Resolved) -> Result<u64, Failure> {
    let (_vm, vcpu) = vmm::spare().map_err(cannot)?;
    // SAFETY: open until the end of this function.
    let vcpu = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
    probes::page_offset(resolved, vcpu).map_err(cannot)
}

/// This host cannot do it.
pub fn cannot(error: impl Into<anyhow::Error>) -> Failure {
    let doctor = program::as_root(&program::command("doctor"));
    Failure::host(error).hint(format!("`{doctor}` checks this host"))
}

/// Loading probes needs root, and what the kernel says of itself.
pub fn check_root() -> Result<(), Failure> {
    if !privileges::is_root() {
        let error = anyhow!("loading probes and opening /dev/kvm needs root");
        return Err(Failure::host(error).hint("run the command with sudo"));
    }
    if !host::has_sys() {
        return Err(Failure::host(anyhow!(host::NO_SYS)).hint(host::MOUNT_SYS));
    }
    Ok(())
}

/// There are no shadow tables.
pub fn two_dimensional() -> Failure {
    let module = host::vendor_module().unwrap_or_default();
    let command = host::shadow_paging_command(module, privileges::is_root());
    Failure::host(RequestError::TwoDimensional).hint(format!("with no VM running: {command}"))
}
