//! Keyframes of one VM, numbered as they are taken.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use events::VmId;

use crate::probes::{Probes, RequestError};

/// Takes keyframes of a VM. The vCPUs must be stopped.
#[derive(Debug)]
pub struct Keyframes {
    probes: Arc<Probes>,
    vm: VmId,
    next: AtomicU32,
}

impl Keyframes {
    /// Of an enrolled VM.
    pub fn new(probes: Arc<Probes>, vm: VmId) -> Self {
        Self {
            probes,
            vm,
            next: AtomicU32::new(0),
        }
    }

    /// Copies every shadow page into the trace; answers with their number.
    pub fn take(&self) -> Result<u32, RequestError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.probes.keyframe(self.vm, number)
    }
}
