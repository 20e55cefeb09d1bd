//! What all threads of a run share.

use std::sync::Mutex;
use std::time::Duration;

use abi::Phase;

use super::disturbance::Disturbances;
use super::error::VmmError;
use super::hooks::{Hooks, HostAct};
use super::lifecycle::Lifecycle;
use super::lock::lock;
use super::memory::Ram;
use super::mmio::MmioRanges;
use super::world::World;

/// A phase of the guest's work began on a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestMark {
    /// The vCPU.
    pub vcpu: u16,
    /// The phase.
    pub phase: Phase,
    /// The vCPU's time-stamp counter, in guest TSC cycles.
    pub guest_tsc: u64,
}

/// Shared by the vCPUs, the actors and the conducting thread.
pub(super) struct Shared<'a> {
    pub(super) world: World,
    pub(super) lifecycle: Lifecycle,
    pub(super) disturbances: Disturbances,
    pub(super) ram: &'a Ram,
    pub(super) mmio: MmioRanges,
    pub(super) hooks: &'a dyn Hooks,
    pub(super) timeout: Duration,
    pub(super) confined: bool,
    /// Marks of all vCPUs, as they arrive.
    pub(super) marks: Mutex<Vec<GuestMark>>,
    /// Acts of actors that the hooks have not got yet.
    pub(super) acts: Mutex<Vec<HostAct>>,
}

impl Shared<'_> {
    /// Calls the hook for a stopped world; must be called in one.
    pub(super) fn stopped(&self) -> Result<(), VmmError> {
        self.report_acts()?;
        let since = self.world.stopped_since();
        self.hooks.stopped(since).map_err(VmmError::Stopped)
    }

    /// Reports the actors' acts to the hooks; must be called in a stopped world. Whoever stops the
    /// world first reports them: otherwise a keyframe would show a change before its record.
    pub(super) fn report_acts(&self) -> Result<(), VmmError> {
        for act in lock(&self.acts).drain(..) {
            self.hooks.acted(&act).map_err(VmmError::Acted)?;
        }
        Ok(())
    }
}
