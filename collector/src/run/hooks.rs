//! What is recorded on the VMM's threads while the guest runs.

use std::{os::fd::RawFd, time::Instant};

use abi::Phase;
use events::{Gfn, HostEvent, VcpuId};

use super::VM;
use crate::{
    keyframe::Keyframes,
    probes::Probes,
    vmm::{HookError, Hooks, HostAct, HostActKind, Stops},
};

/// Enrols the vCPUs, and writes marks and keyframes into the trace.
pub struct Marks<'a> {
    pub probes: &'a Probes,
    pub vm_fd: RawFd,
    /// By number.
    pub vcpu_fds: Vec<RawFd>,
    pub keyframes: &'a Keyframes,
    /// When keyframes are taken, other than at the end.
    pub stops: Stops,
}

impl Hooks for Marks<'_> {
    fn start(&self, vcpu: u16) -> Result<(), HookError> {
        let fd = self.vcpu_fds.get(usize::from(vcpu));
        let fd = *fd.ok_or("it is no vCPU of this VM")?;
        Ok(self.probes.enrol(self.vm_fd, fd, VM, VcpuId(vcpu))?)
    }

    fn mark(&self, vcpu: u16, phase: Phase, guest_tsc: u64) -> Result<(), HookError> {
        let vcpu = VcpuId(vcpu);
        Ok(self.probes.mark(VM, vcpu, phase.number(), guest_tsc)?)
    }

    fn stops(&self) -> Stops {
        self.stops
    }

    fn stopped(&self, since: Option<Instant>) -> Result<(), HookError> {
        self.keyframes.take(since)?;
        Ok(())
    }

    /// Where functions can be hooked, each change has its record already.
    fn wants_acts(&self) -> bool {
        !self.probes.sees_every_change()
    }

    fn acted(&self, act: &HostAct) -> Result<(), HookError> {
        let event = match act.kind {
            HostActKind::Unmapped => HostEvent::Unmap,
            HostActKind::DirtyStarted => HostEvent::DirtyStart,
            HostActKind::DirtyCleared => HostEvent::DirtyClear,
            HostActKind::DirtyStopped => HostEvent::DirtyStop,
            HostActKind::SlotFlushed => HostEvent::FlushSlot,
        };
        let first = Gfn(act.range.start.0 >> 12);
        self.probes
            .acted(VM, event, act.slot, (first, act.range.frames))?;
        Ok(())
    }
}

/// For a run without a trace.
pub struct NoHooks;

impl Hooks for NoHooks {
    fn mark(&self, _: u16, _: Phase, _: u64) -> Result<(), HookError> {
        Ok(())
    }
}
