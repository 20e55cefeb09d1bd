//! Which thread runs which vCPU: asked at every `KVM_RUN`, before the guest is entered.
//!
//! Only needed for VMs of other processes, whose threads come and go. One of the two programs is
//! attached.

use aya_ebpf::{
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};

use crate::{
    kernel::{offset, read},
    vcpus,
};

/// Number of `ioctl` among the system calls of x86-64.
const IOCTL: u64 = 16;
/// `KVM_RUN`, `_IO(KVMIO, 0x80)`.
const KVM_RUN: u32 = 0xae80;

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
    if ctx.arg::<u64>(1) != IOCTL {
        return;
    }
    let regs: u64 = ctx.arg(0);
    if read(regs, offset!(regs_si)) != Some(KVM_RUN) {
        return;
    }
    // Whatever the file is: only a vCPU's leads to a traced VM.
    if let Some(vcpu) = read(regs, offset!(regs_di)).and_then(vcpus::private_data) {
        vcpus::runs(vcpu);
    }
}
