//! The guests: a tiny kernel at CPL0 and the work at CPL3, in one image.
//!
//! The VMM enters [`_start`] in long mode with paging on and GDT, TSS, IDT base and control
//! registers set. The kernel fills its IDT, maps what the workload needs, and enters CPL3 with
//! `iretq`. All work is done at CPL3: a KVM-PVM host runs CPL3 natively on the shadow tables but
//! emulates CPL0 instruction by instruction. For the same reason every path at CPL0 is short.
//!
//! ```text
//! kernel, paging, idt, trap, service   CPL0: start, page faults, services for CPL3
//! call, cpu, panic                     both
//! work                                 `linear` and `demand`, whose tables the kernel writes
//! tables, ground, access, check        CPL3 changes its own tables and checks the effects
//! exercises, single, spaces, micro     the workloads with one CPU
//! modes                                guests of other shapes, all at CPL0
//! team, several, mix                   the workloads with several CPUs
//! ```
//!
//! Of tracing the guest only knows [`call::mark`] and its own clock: [`touches`], and that of
//! [`micro`]. There is no isolation inside the guest: the
//! whole image is mapped for CPL3 too.
#![no_std]
#![no_main]

mod access;
mod alloc;
mod arena;
mod call;
mod check;
mod cpu;
mod crash;
mod exercises;
mod ground;
mod idt;
mod kernel;
mod lock;
mod micro;
mod mix;
mod modes;
mod paging;
mod panic;
mod random;
mod service;
mod several;
mod single;
mod spaces;
mod tables;
mod team;
mod touches;
mod trap;
mod work;

use abi::{BootInfo, ResultCode, WorkloadId};

/// Entered by the VMM at CPL0 with RDI = the boot info's address, RSI = the CPU's number.
#[unsafe(no_mangle)]
extern "C" fn _start(info: &'static BootInfo, cpu: u64) -> ! {
    call::open_mailbox();
    if cpu == 0 {
        idt::fill();
        if !info.is_current() {
            call::done(ResultCode::BadBootInfo, &[]);
        }
        call::mark(abi::Phase::Start);
        kernel::start(info);
    }
    cpu::enter_user(user_main, info)
}

/// The first code at CPL3. CPUs other than 0 may be here before the IDT is filled: they wait.
extern "C" fn user_main(info: &'static BootInfo) -> ! {
    match WorkloadId::try_from(info.workload) {
        Ok(workload @ (WorkloadId::Smp | WorkloadId::Mixed)) if cpu::number() == 0 => {
            several::lead(workload, info)
        }
        Ok(workload @ (WorkloadId::Smp | WorkloadId::Mixed)) => several::join(workload, info),
        Ok(WorkloadId::Alloc) if cpu::number() == 0 => alloc::lead(info),
        Ok(WorkloadId::Alloc) => alloc::join(info),
        Ok(WorkloadId::Linear | WorkloadId::Demand) => work::run(info),
        Ok(WorkloadId::Crash) => crash::run(info),
        Ok(workload) => single::run(workload, info),
        Err(_) => call::done(ResultCode::BadBootInfo, &[]),
    }
}
