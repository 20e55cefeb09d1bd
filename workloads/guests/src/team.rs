//! Several CPUs: they begin and end together, and flush translations for each other.

use abi::{Gva, MAX_VCPUS, to_usize};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{cpu, service};

const CPUS: usize = MAX_VCPUS as usize;

/// CPU 0 has prepared everything.
static READY: AtomicBool = AtomicBool::new(false);
/// CPUs that have finished their steps.
static FINISHED: AtomicU64 = AtomicU64::new(0);
/// The page that a CPU must flush, by that CPU and the requesting one; 0: none, since page 0 is
/// never mapped.
static REQUESTS: [[AtomicU64; CPUS]; CPUS] = [const { [const { AtomicU64::new(0) }; CPUS] }; CPUS];

/// Lets the other CPUs begin.
pub fn begin() {
    READY.store(true, Ordering::Release);
}

/// Waits for [`begin`].
pub fn wait() {
    while !READY.load(Ordering::Acquire) {
        core::hint::spin_loop();
    }
}

/// INVLPG of `gva` on all `cpus` CPUs; returns when all have done it.
///
/// A waiting CPU serves the requests of others, so that two CPUs can wait for each other.
pub fn invalidate_everywhere(gva: Gva, cpus: u64) {
    let own = usize::from(cpu::number());
    let others = || (0..to_usize(cpus)).filter(|&other| other != own);
    for other in others() {
        REQUESTS[other][own].store(gva.0, Ordering::Release);
    }
    service::invalidate(gva, 1);
    for other in others() {
        while REQUESTS[other][own].load(Ordering::Acquire) != 0 {
            serve_requests();
            core::hint::spin_loop();
        }
    }
}

/// Serves the requests of other CPUs. Must be called often.
pub fn serve_requests() {
    for request in &REQUESTS[usize::from(cpu::number())] {
        let gva = request.load(Ordering::Acquire);
        if gva != 0 {
            service::invalidate(Gva(gva), 1);
            request.store(0, Ordering::Release);
        }
    }
}

/// Waits until all `cpus` CPUs have finished, and serves their requests meanwhile.
pub fn finish(cpus: u64) {
    FINISHED.fetch_add(1, Ordering::AcqRel);
    while FINISHED.load(Ordering::Acquire) < cpus {
        serve_requests();
        core::hint::spin_loop();
    }
}
