//! What the guest kernel does when CPL3 (or a fault of its own) calls it.

use abi::{Call, HYPERCALL_MAGIC};

use crate::{call, cpu, kernel};

/// The stack as the stubs of [`crate::idt`] leave it, lowest address first.
#[repr(C)]
pub struct Frame {
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rax: u64,
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

const INVALID_OPCODE: u64 = 6;
/// Page-fault error code: the entry was present.
const PRESENT: u64 = 1 << 0;
/// Page-fault error code: the access came from CPL3.
const USER: u64 = 1 << 2;
/// `ud2`, as a little-endian number.
const UD2: u16 = 0x0b0f;

/// #PF: maps the page if it is one that the workload wants mapped on demand.
pub extern "C" fn page_fault(frame: &mut Frame) {
    let address = cpu::fault_address();
    let missing_for_user = frame.error_code & (PRESENT | USER) == USER;
    if !(missing_for_user && kernel::map_on_demand(address)) {
        report(frame);
    }
}

/// Every other exception; #UD from CPL3 with the magic in RAX is a hypercall.
pub extern "C" fn exception(frame: &mut Frame) {
    if !is_hypercall(frame) {
        report(frame);
    }
    cpu::out_call(frame.rax as u32);
    frame.rip += 2;
}

fn is_hypercall(frame: &Frame) -> bool {
    let from_user = frame.cs & 3 == 3;
    let magic = frame.rax & !u64::from(u32::MAX) == HYPERCALL_MAGIC;
    if !(frame.vector == INVALID_OPCODE && from_user && magic) {
        return false;
    }
    let code = core::ptr::with_exposed_provenance::<u16>(frame.rip as usize);
    // SAFETY: CPL3 has just fetched an instruction there, and two bytes of it.
    unsafe { code.read_unaligned() == UD2 }
}

/// Ends the run with the exception's story.
fn report(frame: &Frame) -> ! {
    let numbers = [
        frame.vector,
        frame.error_code,
        frame.rip,
        cpu::fault_address(),
        frame.cs,
        frame.rsp,
    ];
    call::with_mailbox(|mailbox| mailbox.numbers = numbers);
    call::end(Call::Exception)
}
