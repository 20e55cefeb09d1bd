//! The guest's own clock: how long its accesses to the work range take.

use abi::layout::{self, WORK};
use abi::{Gva, Touches};

use crate::cpu;

/// Makes an access, and times it if it goes to the work range. The sums are in the page of the
/// mailbox, which is mapped anyway: the clock makes no page fault of its own.
#[inline(always)]
pub fn timed<T>(gva: Gva, access: impl FnOnce() -> T) -> T {
    if gva.index(4) != WORK.index(4) {
        return access();
    }
    let from = cpu::tsc_in_order();
    let result = access();
    add(cpu::tsc_in_order().wrapping_sub(from));
    result
}

fn add(cycles: u64) {
    let at = core::ptr::with_exposed_provenance_mut::<Touches>(
        layout::touches(cpu::number()).0 as usize,
    );
    // SAFETY: the page is identity-mapped, writable, and holds these sums (any bytes are some)
    // after the mailbox. It is this CPU's own, and no other reference to them exists.
    unsafe { &mut *at }.add(cycles);
}
