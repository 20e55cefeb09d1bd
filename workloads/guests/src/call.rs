//! Calls to the VMM, from both privilege levels.
//!
//! The caller fills the mailbox, which CPL3 may write. The number of the call is sent with `out` at
//! CPL0, and with `ud2` and then the kernel's `out` at CPL3.

use abi::{ABI_VERSION, Call, HYPERCALL_MAGIC, MAGIC, Mailbox, Phase, ResultCode, layout};
use core::arch::asm;

use crate::cpu;

/// Runs `fill` on the mailbox of the current CPU.
pub fn with_mailbox(fill: impl FnOnce(&mut Mailbox)) {
    let mailbox = core::ptr::with_exposed_provenance_mut::<Mailbox>(
        layout::mailbox(cpu::number()).0 as usize,
    );
    // SAFETY: the page is identity-mapped, writable, and holds a mailbox (any bytes are
    // one). It is this CPU's own and `fill` never makes a call, so no second reference exists.
    fill(unsafe { &mut *mailbox });
}

/// Writes magic and version, so that the VMM accepts the mailbox.
pub fn open_mailbox() {
    with_mailbox(|mailbox| {
        mailbox.magic = MAGIC;
        mailbox.version = ABI_VERSION;
    });
}

/// Reports that `phase` begins.
pub fn mark(phase: Phase) {
    with_mailbox(|mailbox| {
        mailbox.phase = phase.number();
        mailbox.guest_tsc = cpu::tsc();
    });
    send(Call::Mark.number());
}

/// Ends this CPU's part of the run; `numbers` as for [`ResultCode`].
pub fn done(code: ResultCode, numbers: &[u64]) -> ! {
    with_mailbox(|mailbox| {
        mailbox.code = code.number();
        mailbox.phase = Phase::Done.number();
        mailbox.numbers = [0; 6];
        for (to, from) in mailbox.numbers.iter_mut().zip(numbers) {
            *to = *from;
        }
        mailbox.guest_tsc = cpu::tsc();
    });
    end(Call::Done)
}

/// Makes a call that ends the run.
pub fn end(call: Call) -> ! {
    loop {
        send(call.number());
    }
}

/// Sends a call's number, any number, to the VMM.
pub fn send(number: u32) {
    if cpu::privilege_level() == 0 {
        return cpu::out_call(number);
    }
    // SAFETY: the kernel's #UD handler sends the call and returns after the `ud2`; it
    // restores every register. It may read the mailbox, so memory counts as used.
    unsafe { asm!("ud2", in("rax") HYPERCALL_MAGIC | u64::from(number), options(nostack)) };
}
