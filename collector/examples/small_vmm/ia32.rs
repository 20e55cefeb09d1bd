//! KVM_RUN through the system call of 32-bit programs.

use std::{arch::asm, os::fd::AsRawFd as _};

use kvm_ioctls::VcpuFd;
use libc::c_int;

/// `__NR_ioctl` of `syscall_32.tbl`.
const IOCTL: u64 = 54;
/// `KVM_RUN`.
const RUN: u64 = 0xae80;
/// `KVM_EXIT_IO`.
const EXIT_IO: u32 = 2;

/// Runs the vCPU until it writes to a port; else the reason of its exit.
pub fn run(vcpu: &mut VcpuFd) -> Result<Result<(), String>, kvm_ioctls::Error> {
    let mut returned = IOCTL;
    // SAFETY: a system call without pointers, on a descriptor that is open. RBX cannot be named as
    // an operand, and the entry of 32-bit calls clears R8 to R11.
    unsafe {
        asm!(
            "xchg rbx, {file}",
            "int 0x80",
            "xchg rbx, {file}",
            file = inout(reg) i64::from(vcpu.as_raw_fd()) => _,
            inout("rax") returned,
            in("rcx") RUN,
            in("rdx") 0_u64,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    let returned = returned as c_int;
    if returned < 0 {
        return Err(kvm_ioctls::Error::new(-returned));
    }
    let reason = vcpu.get_kvm_run().exit_reason;
    Ok(match reason {
        EXIT_IO => Ok(()),
        reason => Err(format!("exit reason {reason}")),
    })
}
