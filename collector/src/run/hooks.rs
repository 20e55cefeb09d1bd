//! What happens on the vCPU's thread while the guest is stopped.

use std::time::Duration;

use abi::Phase;

use super::{VCPU, VM, setup};
use crate::{
    keyframe::Keyframes,
    probes::{Probes, Target},
    vmm::{HookError, Hooks},
};

/// Writes marks and keyframes into the trace.
pub struct Marks<'a> {
    pub probes: &'a Probes,
    pub target: Target,
    pub keyframes: &'a mut Keyframes,
    pub keyframe_every: Option<Duration>,
}

impl Hooks for Marks<'_> {
    fn start(&mut self, _: u16) -> Result<(), HookError> {
        Ok(setup::trace_this_thread(self.probes, &self.target)?)
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
