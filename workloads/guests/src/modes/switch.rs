//! Long mode left and entered again, in 32-bit code. In between paging is off.

use abi::layout::{IDT, selector};
use abi::{CALL_PORT, Call};
use core::arch::global_asm;

use super::script::Script;
use crate::cpu;

/// The control registers of a mode. All values are below 4 GiB.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub cr0: u32,
    pub cr3: u32,
    pub cr4: u32,
    pub efer: u32,
}

/// CR0.PG.
const PAGING: u32 = 1 << 31;
/// EFER.LME and EFER.LMA.
const LONG: u32 = 1 << 8 | 1 << 10;
/// EFER.NXE.
const NO_EXECUTE_ENABLE: u32 = 1 << 11;
/// CR4.PSE: pages of 4 MiB.
const LARGE_PAGES: u32 = 1 << 4;
/// CR4.PAE.
const EIGHT_BYTES: u32 = 1 << 5;
/// CR4.LA57.
const FIVE_LEVELS: u32 = 1 << 12;

impl Mode {
    /// The current one.
    pub fn now() -> Self {
        Self {
            cr0: cpu::cr0() as u32,
            cr3: cpu::page_table_root() as u32,
            cr4: cpu::cr4() as u32,
            efer: cpu::efer() as u32 & !(1 << 10),
        }
    }

    /// The same without long mode and paging.
    pub fn flat(self) -> Self {
        Self {
            cr0: self.cr0 & !PAGING,
            cr3: 0,
            cr4: self.cr4 & !EIGHT_BYTES,
            efer: self.efer & !(LONG | NO_EXECUTE_ENABLE),
        }
    }

    /// The same with 32-bit paging and entries of 8 bytes.
    pub fn pae(self, root: u64) -> Self {
        Self {
            cr3: root as u32,
            efer: self.efer & !LONG,
            ..self
        }
    }

    /// The same with 32-bit paging and entries of 4 bytes.
    pub fn legacy(self, root: u64) -> Self {
        Self {
            cr3: root as u32,
            cr4: self.cr4 & !EIGHT_BYTES | LARGE_PAGES,
            efer: self.efer & !(LONG | NO_EXECUTE_ENABLE),
            ..self
        }
    }

    /// The same with five levels.
    pub fn five_levels(self, root: u64) -> Self {
        Self {
            cr3: root as u32,
            cr4: self.cr4 | FIVE_LEVELS,
            ..self
        }
    }

    /// The same with other four levels.
    pub fn four_levels(self, root: u64) -> Self {
        Self {
            cr3: root as u32,
            ..self
        }
    }
}

unsafe extern "C" {
    fn modes_run_32(there: &Mode, back: &Mode, script: *mut Script);
    fn modes_change(to: &Mode);
    fn modes_page_fault_32();
    /// The gates of the exceptions up to #PF, of 8 bytes.
    static mut modes_gates_32: [u64; 15];
}

/// Runs a script in a 32-bit mode, and comes back.
pub fn run(there: Mode, back: Mode, script: &mut Script) {
    const INTERRUPT_GATE: u64 = 0x8e00 << 32;
    let handler = (modes_page_fault_32 as unsafe extern "C" fn() as *const ()).addr() as u64;
    let gate = (handler & 0xffff)
        | u64::from(selector::KERNEL_CODE_32) << 16
        | INTERRUPT_GATE
        | (handler >> 16) << 48;
    // SAFETY: nothing else refers to the gates. All that the code uses is identity-mapped below
    // 4 GiB in both modes: the image, the stack, the script, which nothing else uses meanwhile.
    unsafe {
        (&raw mut modes_gates_32).cast::<u64>().add(14).write(gate);
        modes_run_32(&there, &back, script);
    }
}

/// Changes to another long mode, by way of paging off.
pub fn change(to: Mode) {
    // SAFETY: as in `run`.
    unsafe { modes_change(&to) };
}

// A script is a list of steps of nine words (see `Step`): kind, address, value, count, stride,
// add, then what was found. While it runs, ESI is the step, EDI the address, ECX the value, EBP
// what is left to count, EDX the code of the kind.
global_asm!(
    ".globl modes_run_32, modes_change, modes_page_fault_32, modes_gates_32",
    ".macro leave_long_mode to",
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15",
    "push ${code32}; push $\\to; lretq",
    ".code32",
    ".endm",
    ".macro enter_long_mode",
    "push ${code64}; push $2f; lret",
    ".code64",
    // The upper half of RSP is undefined.
    "2: mov %esp, %esp",
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx",
    ".endm",
    "modes_run_32:",
    "lidt modes_idt_32(%rip)",
    "leave_long_mode 1f",
    "1: mov %edx, %ebx",
    "push %esi",
    "call modes_switch",
    "mov %ebx, %esi",
    "modes_step:",
    "mov (%esi), %eax; mov 4(%esi), %edi; mov 8(%esi), %ecx; mov 12(%esi), %ebp",
    "mov modes_kinds(, %eax, 4), %edx",
    "jmp *%edx",
    "modes_store: mov %ecx, (%edi); jmp modes_advance",
    "modes_load: cmp %ecx, (%edi); je modes_advance",
    "incl 24(%esi); jmp modes_advance",
    "modes_invalidate: invlpg (%edi); jmp modes_advance",
    "modes_mark: mov %ecx, (%edi); push %edx; mov ${mark}, %eax; mov ${port}, %edx",
    "out %eax, %dx; pop %edx",
    "modes_advance:",
    "add 16(%esi), %edi; add 20(%esi), %ecx",
    "dec %ebp; jz 3f",
    "jmp *%edx",
    "3: add $36, %esi; jmp modes_step",
    "modes_page_fault_32:",
    "pop %eax; incl 28(%esi); or %eax, 32(%esi)",
    "movl $modes_advance, (%esp)",
    "iret",
    "modes_end:",
    "pop %edi",
    "call modes_switch",
    "enter_long_mode",
    "lidt modes_idt_64(%rip)",
    "ret",
    "modes_change:",
    "leave_long_mode 1f",
    "1: call modes_switch",
    "enter_long_mode",
    "ret",
    // EDI is the mode. Paging may be on or off.
    ".code32",
    "modes_switch:",
    "mov %cr0, %eax; and $0x7fffffff, %eax; mov %eax, %cr0",
    "mov 8(%edi), %eax; mov %eax, %cr4",
    "mov 4(%edi), %eax; mov %eax, %cr3",
    "mov $0xc0000080, %ecx; xor %edx, %edx; mov 12(%edi), %eax; wrmsr",
    "mov (%edi), %eax; mov %eax, %cr0",
    "ret",
    ".code64",
    ".pushsection .data.modes, \"aw\"",
    ".balign 8",
    "modes_gates_32: .fill 15, 8, 0",
    "modes_kinds: .long modes_end, modes_store, modes_load, modes_invalidate, modes_mark",
    "modes_idt_32: .word 15 * 8 - 1; .quad modes_gates_32",
    "modes_idt_64: .word 0xfff; .quad {idt64}",
    ".popsection",
    code32 = const selector::KERNEL_CODE_32,
    code64 = const selector::KERNEL_CODE,
    mark = const Call::Mark as u32,
    port = const CALL_PORT,
    idt64 = const IDT.0,
    options(att_syntax),
);
