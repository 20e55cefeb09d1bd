//! VMs of other processes: programs that the collector runs on file descriptors that it holds.

use aya_ebpf::{
    helpers::bpf_get_current_task,
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use bytemuck::Zeroable as _;
use events::{Identity, NO_PROCESS, NO_VCPU, NO_VM, VcpuId, VcpuKey, VmId};

use crate::{
    kernel::{field, offset, read},
    roots, vcpus,
};

/// Answer of [`identify`].
#[map]
static IDENTITY: Array<Identity> = Array::with_max_entries(1, vcpus::USER_READS);

/// Run by user space: which VM or vCPU file descriptor `arg(0)` belongs to. It is a vCPU's if
/// `arg(1)` is not 0, else a VM's. The vCPU of a traced VM is remembered.
#[raw_tracepoint]
pub fn identify(ctx: RawTracePointContext) {
    let Some(answer) = IDENTITY.get_ptr_mut(0) else {
        return;
    };
    let found = identity(ctx.arg(0), ctx.arg::<u64>(1) != 0);
    // SAFETY: a map value; user space runs one request at a time.
    unsafe { *answer = found.unwrap_or(Identity::zeroed()) };
}

/// Run by user space: from now on the VM of file descriptor `arg(0)` (see [`identify`]) is traced
/// as VM `arg(2)`. The descriptor must stay open until [`forget`], since it keeps `struct kvm`.
#[raw_tracepoint]
pub fn follow(ctx: RawTracePointContext) {
    let Some(found) = identity(ctx.arg(0), ctx.arg::<u64>(1) != 0) else {
        return;
    };
    let vm = VmId(ctx.arg::<u64>(2) as u16);
    // User space asks `identify` whether it worked.
    let entered = vcpus::trace(vm, found.kvm);
    debug!(&ctx, "vm {} is {:x}: {}", vm.0, found.kvm, entered as u32);
}

/// Run by user space for each vCPU `arg(1)` of VM `arg(0)`, which is not stopped: finds its thread.
#[raw_tracepoint]
pub fn seat(ctx: RawTracePointContext) {
    let vm = VmId(ctx.arg::<u64>(0) as u16);
    let vcpu = VcpuId(ctx.arg::<u64>(1) as u16);
    // Where it is not found, the next KVM_RUN shows it.
    let found = vcpus::seat(VcpuKey { vm, vcpu });
    debug!(
        &ctx,
        "vm {} vcpu {}: {}",
        vm.0,
        vcpu.0,
        found.is_some() as u32
    );
}

/// Run by user space for each thread `arg(1)` and vCPU `arg(2)` of VM `arg(0)`: stops tracing
/// them.
#[raw_tracepoint]
pub fn forget(ctx: RawTracePointContext) {
    let vm = VmId(ctx.arg::<u64>(0) as u16);
    let vcpu = VcpuId(ctx.arg::<u64>(2) as u16);
    vcpus::forget(vm, ctx.arg::<u64>(1) as u32, vcpu);
}

#[inline(always)]
fn identity(descriptor: u64, is_vcpu: bool) -> Option<Identity> {
    let object = vcpus::private_data(descriptor)?;
    if !is_vcpu {
        return Some(Identity {
            kvm: object,
            vm: vcpus::traced(object).unwrap_or(NO_VM),
            vcpu: NO_VCPU,
            has_nested: 0,
            reserved: [0; 3],
            owner: owner(object),
            padding: 0,
        });
    }
    let kvm: u64 = field(object, offset!(vcpu_kvm))?;
    let vcpu = VcpuId(field::<u32>(object, offset!(vcpu_id))? as u16);
    let vm = vcpus::traced(kvm);
    if let Some(vm) = vm {
        vcpus::remember(VcpuKey { vm, vcpu }, object);
    }
    Some(Identity {
        kvm,
        vm: vm.unwrap_or(NO_VM),
        vcpu,
        has_nested: u8::from(roots::has_nested(object)),
        reserved: [0; 3],
        owner: owner(kvm),
        padding: 0,
    })
}

/// The process that may run a VM: see [`Identity::owner`].
#[inline(always)]
fn owner(kvm: u64) -> u32 {
    let memory: Option<u64> = field(kvm, offset!(kvm_mm));
    let task: Option<u64> = memory.and_then(|memory| field(memory, offset!(mm_owner)));
    match task {
        None => 0,
        Some(0) => NO_PROCESS,
        Some(task) => number_here(task).unwrap_or(0),
    }
}

/// The number of a thread's process in the PID namespace of the calling one.
#[inline(always)]
fn number_here(task: u64) -> Option<u32> {
    // SAFETY: the helper takes nothing and cannot fail.
    let here = process(unsafe { bpf_get_current_task() })?;
    let there = process(task)?;
    let level: u32 = field(here, offset!(pid_level))?;
    if field::<u32>(there, offset!(pid_level))? < level {
        return None;
    }
    let number = |pid: u64| read::<Number>(offset!(pid_numbers).of(pid)? + 16 * u64::from(level));
    let (here, there) = (number(here)?, number(there)?);
    (here.namespace == there.namespace).then_some(there.number)
}

/// `struct upid`.
#[repr(C)]
struct Number {
    number: u32,
    namespace: u64,
}

/// `struct pid` of a thread's process (`PIDTYPE_TGID`).
#[inline(always)]
fn process(task: u64) -> Option<u64> {
    let signal = field(task, offset!(task_signal))?;
    field(signal, offset!(signal_pids).plus(8))
}
