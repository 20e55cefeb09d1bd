//! Instructions and registers that need assembly.

use abi::layout::{cpu_of, selector, user_stack_top};
use abi::{BootInfo, CALL_PORT, Gpa};
use core::arch::asm;

/// Current privilege level: 0 in the guest kernel, 3 in its user code.
pub fn privilege_level() -> u16 {
    let cs: u16;
    // SAFETY: reads a register.
    unsafe { asm!("mov {0:x}, cs", out(reg) cs, options(nomem, nostack, preserves_flags)) };
    cs & 3
}

/// The number of the current CPU, at either privilege level, from the address of its stack.
#[inline(always)]
pub fn number() -> u16 {
    let rsp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    cpu_of(Gpa(rsp))
}

/// The time-stamp counter, in guest TSC cycles.
pub fn tsc() -> u64 {
    // SAFETY: RDTSC reads a counter; CR4.TSD is clear, so CPL3 may too.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// [`tsc`], once everything before is done.
#[inline(always)]
pub fn tsc_in_order() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: as in `tsc`; LFENCE waits. Memory counts as used, so that no access moves across.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// The address of the last page fault (CR2). CPL0 only.
pub fn fault_address() -> u64 {
    let cr2: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack, preserves_flags)) };
    cr2
}

/// The address of the current PML4. CPL0 only.
pub fn page_table_root() -> u64 {
    let cr3: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) cr3, options(nomem, nostack, preserves_flags)) };
    cr3 & !0xfff
}

/// Loads CR3 with `root`, which flushes all translations. CPL0 only.
///
/// # Safety
/// The code, the stack and the data in use must be mapped under `root` as they are now.
pub unsafe fn load_root(root: u64) {
    // SAFETY: the caller's promise. Memory counts as changed.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
}

/// CR0. CPL0 only, like what follows.
pub fn cr0() -> u64 {
    let cr0: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr0", out(reg) cr0, options(nomem, nostack, preserves_flags)) };
    cr0
}

/// CR4.
pub fn cr4() -> u64 {
    let cr4: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags)) };
    cr4
}

/// EFER.
pub fn efer() -> u64 {
    read_msr(EFER)
}

fn with(value: u64, bit: u64, on: bool) -> u64 {
    if on { value | bit } else { value & !bit }
}

/// Sets or clears a bit of CR0 that changes permissions.
pub fn toggle_cr0(bit: u64, on: bool) {
    // SAFETY: all that is mapped stays mapped. Memory counts as changed.
    unsafe { asm!("mov cr0, {}", in(reg) with(cr0(), bit, on), options(nostack, preserves_flags)) };
}

/// Sets or clears a bit of CR4 that changes permissions.
pub fn toggle_cr4(bit: u64, on: bool) {
    // SAFETY: as in `toggle_cr0`.
    unsafe { asm!("mov cr4, {}", in(reg) with(cr4(), bit, on), options(nostack, preserves_flags)) };
}

/// Sets or clears a bit of EFER that changes permissions.
pub fn toggle_efer(bit: u64, on: bool) {
    write_msr(EFER, with(efer(), bit, on));
}

/// Sets or clears EFLAGS.AC, which lets CPL0 use pages of CPL3 in spite of SMAP.
pub fn allow_user_access(on: bool) {
    // SAFETY: with CR4.SMAP the instructions exist, and change no other flag.
    unsafe {
        if on {
            asm!("stac", options(nostack));
        } else {
            asm!("clac", options(nostack));
        }
    }
}

const EFER: u32 = 0xc000_0080;

/// Lets `handler` have SYSCALL from now on, with interrupts off. CPL0 only.
pub fn set_system_call(handler: u64) {
    const SYSCALL_ENABLE: u64 = 1;
    const STAR: u32 = 0xc000_0081;
    const LSTAR: u32 = 0xc000_0082;
    const SYSCALL_MASK: u32 = 0xc000_0084;
    const INTERRUPT_FLAG: u64 = 1 << 9;
    // SYSRET takes the selectors 8 (data) and 16 (64-bit code) above its base.
    let returns_to = u64::from(selector::USER_CODE - 16);
    write_msr(
        STAR,
        returns_to << 48 | u64::from(selector::KERNEL_CODE) << 32,
    );
    write_msr(LSTAR, handler);
    write_msr(SYSCALL_MASK, INTERRUPT_FLAG);
    write_msr(EFER, read_msr(EFER) | SYSCALL_ENABLE);
}

fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the registers of this module can be read and exist.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

fn write_msr(register: u32, value: u64) {
    // SAFETY: the registers of this module change what SYSCALL does, which only `micro` uses, or
    // permissions, as `toggle_efer` does.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

/// INVLPG of `address`. CPL0 only.
#[inline(always)]
pub fn invalidate(address: u64) {
    // SAFETY: changes no mapping. Memory counts as changed.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Writes `number` to the call port. CPL0 only. The VMM reads the mailbox meanwhile.
pub fn out_call(number: u32) {
    out(CALL_PORT, number);
}

/// Writes 32 bits to a port. CPL0 only.
pub fn out(port: u16, number: u32) {
    // SAFETY: no port of this machine changes guest memory.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") number, options(nostack, preserves_flags))
    };
}

/// Reads 8 bits from a port and ignores them. CPL0 only.
pub fn input(port: u16) {
    // SAFETY: as in `out`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") _, options(nostack, preserves_flags)) };
}

/// Halts the CPU until an interrupt, of which there is none. CPL0 only.
pub fn halt() {
    // SAFETY: accesses no memory.
    unsafe { asm!("hlt", options(nomem, nostack, preserves_flags)) };
}

/// Enters CPL3 at `entry`, with an empty user stack and interrupts off.
pub fn enter_user(entry: extern "C" fn(&'static BootInfo) -> !, info: &'static BootInfo) -> ! {
    // SAFETY: the five words are a 64-bit interrupt frame. The function at `entry` never
    // returns, and finds the stack as after a call (8 bytes below a multiple of 16).
    unsafe {
        asm!(
            "push {ss}",
            "push {rsp}",
            "push 2",
            "push {cs}",
            "push {rip}",
            "iretq",
            ss = const selector::USER_DATA,
            rsp = in(reg) user_stack_top(number()).0 - 8,
            cs = const selector::USER_CODE,
            rip = in(reg) entry,
            in("rdi") info,
            options(noreturn),
        )
    }
}
