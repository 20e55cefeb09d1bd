//! Keyframes of one VM, numbered as they are taken.

use std::sync::Arc;

use events::VmId;

use crate::probes::{Probes, RequestError};

/// Takes keyframes of a VM. The vCPUs must be stopped.
#[derive(Debug)]
pub struct Keyframes {
    probes: Arc<Probes>,
    vm: VmId,
    next: u32,
}

impl Keyframes {
    /// Of an enrolled VM.
    pub fn new(probes: Arc<Probes>, vm: VmId) -> Self {
        Self {
            probes,
            vm,
            next: 0,
        }
    }

    /// Copies every shadow page into the trace; answers with their number.
    pub fn take(&mut self) -> Result<u32, RequestError> {
        let number = self.next;
        self.next += 1;
        self.probes.keyframe(self.vm, number)
    }
}
