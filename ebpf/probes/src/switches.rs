//! Whether a fault's thread was switched out meanwhile, so that its time holds other work: the
//! scheduler's own counters at its beginning and at its last moment.

use aya_ebpf::helpers::bpf_get_current_task;
use events::{Fault, Vcpu};

use crate::kernel::{field, offset};

/// Nobody counts.
const UNKNOWN: u64 = u64::MAX;

/// How often the running thread was switched out so far, by itself or not.
#[inline(always)]
fn so_far() -> u64 {
    // Neighbours in every kernel: one read.
    if offset!(task_nivcsw) != offset!(task_nvcsw).plus(8) {
        return UNKNOWN;
    }
    // SAFETY: the helper takes nothing and cannot fail.
    let task = unsafe { bpf_get_current_task() };
    match field::<[u64; 2]>(task, offset!(task_nvcsw)) {
        Some([by_itself, taken]) => by_itself.wrapping_add(taken),
        None => UNKNOWN,
    }
}

/// The fault begins. A function, since its callers have no room on the stack (512 bytes in all).
#[inline(never)]
pub fn begin(vcpu: &mut Vcpu) {
    vcpu.switches = so_far();
}

/// The fault is over. If its last moment is not now, a switch since then may have come after it.
#[inline(never)]
pub fn end(vcpu: &mut Vcpu, is_now: bool) {
    let switches = so_far().wrapping_sub(vcpu.switches);
    let is_known = vcpu.switches != UNKNOWN && (is_now || switches == 0);
    if is_known {
        vcpu.fault.known |= Fault::SWITCHES;
        vcpu.fault.switches = switches.min(u16::MAX as u64) as u16;
    } else {
        vcpu.fault.known &= !Fault::SWITCHES;
    }
}
