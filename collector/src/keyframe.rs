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

    /// Copies every shadow page and the root of every vCPU into the trace; answers with the number
    /// of pages.
    pub fn take(&self) -> Result<u32, RequestError> {
        with_one_retry(|| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            self.probes.keyframe(self.vm, number)
        })
    }
}

/// Tries again if the tables changed while they were copied: the vCPUs are stopped, but the host
/// may take pages back (NX recovery, and up to Linux 6.12 the shrinker).
fn with_one_retry(
    mut take: impl FnMut() -> Result<u32, RequestError>,
) -> Result<u32, RequestError> {
    match take() {
        Err(RequestError::Keyframe { .. }) => take(),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of attempts of which the first `failures` fail, and how many there were.
    fn attempts(failures: u32, error: impl Fn(u32) -> RequestError) -> (bool, u32) {
        let mut made = 0;
        let taken = with_one_retry(|| {
            made += 1;
            match made <= failures {
                true => Err(error(made)),
                false => Ok(7),
            }
        });
        (taken.is_ok(), made)
    }

    #[test]
    fn a_keyframe_that_changed_while_it_was_copied_is_taken_once_more() {
        let changed = |number| RequestError::Keyframe {
            number,
            why: "the list of shadow pages changed".to_owned(),
        };
        assert_eq!(attempts(0, changed), (true, 1));
        assert_eq!(attempts(1, changed), (true, 2));
        assert_eq!(attempts(2, changed), (false, 2));
    }

    #[test]
    fn a_ring_that_stays_full_is_not_waited_for_again() {
        let full = |number| RequestError::RingFull {
            number,
            seconds: 10,
        };
        assert_eq!(attempts(1, full), (false, 1));
    }
}
