//! The guest kernel's exception handlers.

use abi::{Call, HYPERCALL_MAGIC};

use crate::access::{self, REFUSED};
use crate::{call, cpu, kernel, service};

/// The stack after the stubs of [`crate::idt`], lowest address first.
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
/// Page-fault error code: an instruction was fetched.
const FETCH: u64 = 1 << 4;
/// `ud2`, as a little-endian number.
const UD2: u16 = 0x0b0f;

/// #PF: maps the page, if the workload maps it on demand, or reports a refused access to who made
/// it (see [`crate::access`]).
pub extern "C" fn page_fault(frame: &mut Frame) {
    let address = cpu::fault_address();
    let missing_for_user = frame.error_code & (PRESENT | USER) == USER;
    if !(missing_for_user && kernel::map_on_demand(address)) && !refuse(frame, address) {
        report(frame);
    }
}

/// Resumes after an access of [`crate::access`], with the error code in RDX.
fn refuse(frame: &mut Frame, address: u64) -> bool {
    if frame.error_code & FETCH != 0 && frame.rip == address {
        frame.rip = access::after_refused_call();
        // The return address.
        frame.rsp += 8;
    } else if let Some(rip) = access::after_refusal(frame.rip) {
        frame.rip = rip;
    } else {
        return false;
    }
    frame.rdx = REFUSED | frame.error_code;
    access::count_refusal();
    true
}

/// All other exceptions; `ud2` from CPL3 with a magic in RAX is a request.
pub extern "C" fn exception(frame: &mut Frame) {
    if !is_ud2_of_user(frame) {
        report(frame);
    }
    let number = frame.rax as u32;
    match frame.rax & !u64::from(u32::MAX) {
        HYPERCALL_MAGIC => cpu::out_call(number),
        service::MAGIC if service::serve(number, frame.rdi, frame.rsi, frame.rdx) => {}
        _ => report(frame),
    }
    frame.rip += 2;
}

#[inline(always)]
fn is_ud2_of_user(frame: &Frame) -> bool {
    if !(frame.vector == INVALID_OPCODE && frame.cs & 3 == 3) {
        return false;
    }
    let code = core::ptr::with_exposed_provenance::<u16>(frame.rip as usize);
    // SAFETY: CPL3 has just fetched an instruction of two bytes there.
    unsafe { code.read_unaligned() == UD2 }
}

/// Ends the run and reports the exception.
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
