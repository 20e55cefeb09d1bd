//! The hidden workload `crash`, which misbehaves to test the VMM.

use abi::layout::WORK;
use abi::{BootInfo, Call, CrashKind, Gpa, Phase, ResultCode, to_usize};
use core::arch::asm;

use crate::{call, cpu, kernel, work};

fn kind(info: &BootInfo) -> Option<CrashKind> {
    CrashKind::ALL.get(to_usize(info.params[0])).copied()
}

/// The kinds of misbehaviour at CPL0, before the user code starts.
pub fn prepare(info: &BootInfo) {
    match kind(info) {
        Some(CrashKind::Triple) => triple_fault(),
        Some(CrashKind::KernelLoop) => spin(),
        Some(CrashKind::Outside) => kernel::map_frame(WORK, Gpa(info.memory_bytes)),
        Some(CrashKind::Port) => cpu::out(0x80, 0),
        Some(CrashKind::PortRead) => cpu::input(0x60),
        Some(CrashKind::Halt) => cpu::halt(),
        _ => {}
    }
}

/// The kinds of misbehaviour at CPL3.
pub fn run(info: &BootInfo) -> ! {
    match kind(info) {
        Some(CrashKind::Loop) => spin(),
        Some(CrashKind::Outside) => work::store(0, 1),
        Some(CrashKind::Panic) => panic!("a guest may panic: {:#x}", WORK.0),
        Some(CrashKind::Exception) => divide_by_zero(),
        Some(CrashKind::BadCall) => call::send(0xdead_beef),
        Some(CrashKind::BadMailbox) => fill_mailbox_with_ones(),
        Some(CrashKind::WrongValue) => call::done(ResultCode::WrongValue, &[9, 7, 1, 2, 1]),
        _ => {}
    }
    call::done(ResultCode::Ok, &[])
}

/// Loads an empty IDT and raises an exception, which cannot be delivered.
fn triple_fault() {
    let no_table = [0u8; 10];
    // SAFETY: the machine shuts down here, as intended.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &no_table, options(noreturn)) }
}

fn spin() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

fn divide_by_zero() {
    // SAFETY: raises #DE, which the kernel reports.
    unsafe { asm!("div {0:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _) };
}

fn fill_mailbox_with_ones() {
    call::with_mailbox(|mailbox| {
        mailbox.phase = u32::MAX;
        mailbox.code = u32::MAX;
        mailbox.text_len = u32::MAX;
        mailbox.numbers = [u64::MAX; 6];
        mailbox.text = [0xff; abi::TEXT_BYTES];
    });
    call::send(Call::Mark.number());
    call::mark(Phase::Done);
}
