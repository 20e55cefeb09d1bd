//! Which thread runs which vCPU.
//!
//! For VMs of other processes, whose threads come and go, one of the first two programs looks at
//! every `KVM_RUN`, before the guest is entered. The third one sees a thread end.

use aya_ebpf::{
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use events::{
    Offset,
    constants::{
        KVM_RUN, PT_REGS_BX, PT_REGS_CX, SYSCALL_IOCTL, SYSCALL_IOCTL_IA32, SYSCALL_IOCTL_X32,
    },
};

use crate::{
    causes, faults,
    kernel::{field, offset},
    vcpus,
};

// int kvm_arch_vcpu_ioctl_run(struct kvm_vcpu *vcpu), under vcpu->mutex.
#[kprobe]
pub fn kvm_arch_vcpu_ioctl_run(ctx: ProbeContext) -> u32 {
    if let Some(vcpu) = ctx.arg(0) {
        vcpus::runs(vcpu);
    }
    0
}

// TP_PROTO(struct pt_regs *regs, long id), before any system call.
#[raw_tracepoint]
pub fn sys_enter(ctx: RawTracePointContext) {
    let (file, request) = match ctx.arg::<u64>(1) {
        SYSCALL_IOCTL | SYSCALL_IOCTL_X32 => (offset!(regs_di), offset!(regs_si)),
        // Of a 64-bit program this is setsockopt. Its RCX holds the address after SYSCALL, never so
        // low a number; with FRED any, but its RBX is then hardly a descriptor of a traced vCPU.
        SYSCALL_IOCTL_IA32 => (Offset::new(Some(PT_REGS_BX)), Offset::new(Some(PT_REGS_CX))),
        _ => return,
    };
    let regs: u64 = ctx.arg(0);
    if field(regs, request) != Some(KVM_RUN) {
        return;
    }
    // The file may be any; only a vCPU's leads to a traced VM.
    if let Some(vcpu) = field(regs, file).and_then(vcpus::private_data) {
        vcpus::runs(vcpu);
    }
}

// TP_PROTO(struct task_struct *p), since Linux 6.16 also bool group_dead; the thread that ends
// runs. Its id may be given to another thread soon.
#[raw_tracepoint]
pub fn sched_process_exit(_: RawTracePointContext) {
    if let Some(vcpu) = vcpus::current() {
        faults::emit(vcpu);
        vcpus::forget_current();
    }
    causes::forget_current();
}
