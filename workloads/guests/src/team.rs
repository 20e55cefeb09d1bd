//! Several CPUs: they begin and end together, and one makes the others forget translations.

use abi::{Gva, MAX_VCPUS};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{cpu, service};

const CPUS: usize = MAX_VCPUS as usize;

/// CPU 0 has made everything ready.
static READY: AtomicBool = AtomicBool::new(false);
/// CPUs that have nothing more to do.
static FINISHED: AtomicU64 = AtomicU64::new(0);
/// The page that a CPU must forget, by the CPU and who asks; 0: none. Page 0 is never mapped.
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

/// INVLPG of `gva` on all `cpus` CPUs; comes back when all have done it.
///
/// Who waits answers the others meanwhile, so that two may ask each other.
pub fn invalidate_everywhere(gva: Gva, cpus: u64) {
    let own = usize::from(cpu::number());
    let others = || (0..cpus as usize).filter(|&other| other != own);
    for other in others() {
        REQUESTS[other][own].store(gva.0, Ordering::Release);
    }
    service::invalidate(gva, 1);
    for other in others() {
        while REQUESTS[other][own].load(Ordering::Acquire) != 0 {
            answer();
            core::hint::spin_loop();
        }
    }
}

/// Forgets what others have asked this CPU to forget. To be called often.
pub fn answer() {
    for request in &REQUESTS[usize::from(cpu::number())] {
        let gva = request.load(Ordering::Acquire);
        if gva != 0 {
            service::invalidate(Gva(gva), 1);
            request.store(0, Ordering::Release);
        }
    }
}

/// Waits until all `cpus` CPUs are here, and answers them meanwhile.
pub fn finish(cpus: u64) {
    FINISHED.fetch_add(1, Ordering::AcqRel);
    while FINISHED.load(Ordering::Acquire) < cpus {
        answer();
        core::hint::spin_loop();
    }
}
