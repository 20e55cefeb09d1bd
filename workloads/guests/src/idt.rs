//! The interrupt descriptor table: the 32 exceptions, each with a stub.

use abi::layout::{IDT, selector};
use core::arch::global_asm;

const EXCEPTIONS: usize = 32;

/// A 64-bit gate of the IDT (Intel SDM vol. 3, 7.14.1).
#[repr(C)]
struct Gate {
    low: u64,
    high: u64,
}

/// Present, DPL 0, 64-bit interrupt gate, no IST.
const INTERRUPT_GATE: u64 = 0x8e00 << 32;

unsafe extern "C" {
    /// Addresses of the stubs below, by vector.
    static exception_stubs: [u64; EXCEPTIONS];
}

/// Fills the table, which the VMM has loaded. CPL0 only.
pub fn fill() {
    // SAFETY: a constant table of the image, defined by the assembly below.
    let stubs = unsafe { &exception_stubs };
    let table = core::ptr::with_exposed_provenance_mut::<[Gate; EXCEPTIONS]>(IDT.0 as usize);
    // SAFETY: the page is identity-mapped, writable, larger than 32 gates, and nothing else
    // refers to it; the CPU reads it when it delivers an exception.
    let table = unsafe { &mut *table };
    for (gate, &stub) in table.iter_mut().zip(stubs) {
        *gate = Gate::to(stub);
    }
}

/// Lets `handler` have an exception from now on. CPL0 only.
pub fn set(vector: u8, handler: u64) {
    let gates = core::ptr::with_exposed_provenance_mut::<Gate>(IDT.0 as usize);
    // SAFETY: the page holds 256 gates, and nothing else refers to it, as in `fill`.
    unsafe { gates.add(usize::from(vector)).write(Gate::to(handler)) };
}

impl Gate {
    fn to(handler: u64) -> Self {
        Self {
            low: (handler & 0xffff)
                | u64::from(selector::KERNEL_CODE) << 16
                | INTERRUPT_GATE
                | (handler >> 16 & 0xffff) << 48,
            high: handler >> 32,
        }
    }
}

// One stub for each vector: it pushes a zero where the CPU pushes no error code, then the vector.
// #PF (14) has its own handler, because it is frequent. Then come the registers that a Rust
// function may change, in the order of `trap::Frame`. 5 words by the CPU, 2 by the stub and 9
// registers are 128 bytes, so the stack is aligned for the call.
global_asm!(
    ".macro save_and_call handler",
    "push rax; push rcx; push rdx; push rsi; push rdi; push r8; push r9; push r10; push r11",
    "mov rdi, rsp",
    "call \\handler",
    "pop r11; pop r10; pop r9; pop r8; pop rdi; pop rsi; pop rdx; pop rcx; pop rax",
    "add rsp, 16",
    "iretq",
    ".endm",
    "exception_common:",
    "save_and_call {exception}",
    "page_fault_common:",
    "save_and_call {page_fault}",
    ".altmacro",
    ".macro exception_stub vector",
    "exception_stub_\\vector\\():",
    // Vectors with an error code: 8, 10 to 14, 17, 21, 29, 30.
    ".if ((1 << \\vector) & 0x60227d00) == 0",
    "push 0",
    ".endif",
    "push \\vector",
    ".if \\vector == 14",
    "jmp page_fault_common",
    ".else",
    "jmp exception_common",
    ".endif",
    ".endm",
    ".macro exception_entry vector",
    ".quad exception_stub_\\vector",
    ".endm",
    ".set vector, 0",
    ".rept 32",
    "exception_stub %vector",
    ".set vector, vector + 1",
    ".endr",
    ".pushsection .rodata.exception_stubs, \"a\"",
    ".balign 8",
    ".globl exception_stubs",
    "exception_stubs:",
    ".set vector, 0",
    ".rept 32",
    "exception_entry %vector",
    ".set vector, vector + 1",
    ".endr",
    ".popsection",
    ".noaltmacro",
    exception = sym crate::trap::exception,
    page_fault = sym crate::trap::page_fault,
);
