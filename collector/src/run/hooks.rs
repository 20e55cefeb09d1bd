//! What happens on the vCPU's thread while the guest is stopped.

use std::{os::fd::RawFd, time::Duration};

use abi::Phase;

use super::{VCPU, VM};
use crate::{
    keyframe::Keyframes,
    probes::Probes,
    vmm::{HookError, Hooks},
};

/// Enrols the vCPU, and writes marks and keyframes into the trace.
pub struct Marks<'a> {
    pub probes: &'a Probes,
    pub vm_fd: RawFd,
    pub vcpu_fd: RawFd,
    pub keyframes: &'a mut Keyframes,
    pub keyframe_every: Option<Duration>,
}

impl Hooks for Marks<'_> {
    fn start(&mut self, _: u16) -> Result<(), HookError> {
        self.probes.enrol(self.vm_fd, self.vcpu_fd, VM, VCPU)?;
        self.keyframes.take()?;
        Ok(())
    }

    fn mark(&mut self, _: u16, phase: Phase, guest_tsc: u64) -> Result<(), HookError> {
        Ok(self.probes.mark(VM, VCPU, phase.number(), guest_tsc)?)
    }

    fn tick_every(&self) -> Option<Duration> {
        self.keyframe_every
    }

    fn tick(&mut self, _: u16) -> Result<(), HookError> {
        self.keyframes.take()?;
        Ok(())
    }
}

/// For a run that nobody records.
pub struct NoHooks;

impl Hooks for NoHooks {
    fn mark(&mut self, _: u16, _: Phase, _: u64) -> Result<(), HookError> {
        Ok(())
    }
}
