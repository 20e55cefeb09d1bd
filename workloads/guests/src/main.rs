//! The guests: a tiny kernel at CPL0 and the work at CPL3, in one image.
//!
//! The VMM enters [`_start`] in long mode with paging on and GDT, TSS, IDT base and
//! control registers set, so the kernel starts at once: it fills its IDT, maps what
//! the workload wants mapped, and leaves to CPL3 by `iretq`. All work is done at CPL3,
//! because a KVM-PVM host runs CPL3 natively on the shadow tables and emulates CPL0
//! instruction by instruction; for the same reason every path at CPL0 is short.
//!
//! The guest knows nothing of tracing but [`call::mark`]. Isolation inside the guest
//! is not the point: the whole image is mapped for CPL3 too.
#![no_std]
#![no_main]

mod call;
mod cpu;
mod crash;
mod idt;
mod kernel;
mod paging;
mod panic;
mod trap;
mod work;

use abi::{BootInfo, ResultCode, WorkloadId};

/// Entered by the VMM at CPL0 with RDI = the boot info's address.
#[unsafe(no_mangle)]
extern "C" fn _start(info: &'static BootInfo) -> ! {
    call::open_mailbox();
    idt::fill();
    if !info.is_current() {
        call::done(ResultCode::BadBootInfo, &[]);
    }
    call::mark(abi::Phase::Start);
    kernel::start(info);
    cpu::enter_user(user_main, info)
}

/// The first code at CPL3.
extern "C" fn user_main(info: &'static BootInfo) -> ! {
    match WorkloadId::try_from(info.workload) {
        Ok(WorkloadId::Linear | WorkloadId::Demand) => work::run(info),
        Ok(WorkloadId::Crash) => crash::run(info),
        Err(_) => call::done(ResultCode::BadBootInfo, &[]),
    }
}
